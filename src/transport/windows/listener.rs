//! The server's end of a pipe, for the test agent and the dev agent.

use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use windows_sys::Win32::Foundation::{
    ERROR_OPERATION_ABORTED, ERROR_PIPE_CONNECTED, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, PIPE_ACCESS_DUPLEX,
};
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, DisconnectNamedPipe, PIPE_READMODE_BYTE, PIPE_REJECT_REMOTE_CLIENTS,
    PIPE_TYPE_BYTE, PIPE_WAIT,
};

use super::operation::Operation;
use super::owner::OwnedByUser;
use super::{BUFFER, NextDeadline, Pipe, is};

/// How many plugins the agent serves at once.
const INSTANCES: u32 = 64;

/// A name that no other listener has.
#[expect(clippy::unnecessary_wraps, reason = "on Unix it makes a folder")]
pub(crate) fn temporary_path() -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(format!(r"\\.\pipe\wedr-agent-{}-{count}", std::process::id()).into())
}

/// A named pipe is removed when its last handle is closed.
pub(crate) fn remove(_path: &Path) {}

pub(crate) struct Listener {
    name: Vec<u16>,
    /// The instance that the next plugin connects to; `None` while all are taken.
    next: Option<Waiting>,
}

/// An instance, and the operation that waits for its client; `None` once a client has connected.
struct Waiting {
    file: Arc<OwnedHandle>,
    connecting: Option<Operation>,
}

impl Listener {
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let name: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
        let next = Waiting::new(&name, FILE_FLAG_FIRST_PIPE_INSTANCE)?;
        Ok(Self { name, next: Some(next) })
    }

    /// The next connection; `None` if `next_deadline` returns `None`.
    pub(crate) fn accept(&mut self, next_deadline: NextDeadline<'_>) -> io::Result<Option<Pipe>> {
        let mut waiting = match self.next.take() {
            Some(waiting) => waiting,
            None => Waiting::new(&self.name, 0)?,
        };
        while let Some(connecting) = &mut waiting.connecting {
            if connecting.is_done()? {
                waiting.connecting = match connecting.result() {
                    // Windows cancels the operation when the thread that started it ends.
                    Err(e) if is(&e, ERROR_OPERATION_ABORTED) => connect(&waiting.file)?,
                    other => other.map(|_| None)?,
                };
            } else if let Some(deadline) = next_deadline() {
                connecting.wait(deadline)?;
            } else {
                self.next = Some(waiting);
                return Ok(None);
            }
        }
        // The next instance exists before this one is served, so that a client finds a free instance.
        self.next = Waiting::new(&self.name, 0).ok();
        Pipe::new(waiting.file).map(Some)
    }
}

impl Waiting {
    fn new(name: &[u16], flags: u32) -> io::Result<Self> {
        let mut owner = OwnedByUser::new()?;
        let attributes = owner.attributes();
        // SAFETY: `name` is NUL-terminated, and it and the attributes outlive the call.
        let handle = unsafe {
            CreateNamedPipeW(
                name.as_ptr(),
                PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | flags,
                PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
                INSTANCES,
                BUFFER as u32,
                BUFFER as u32,
                0,
                &raw const attributes,
            )
        };
        if handle == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just made, and no other code has it.
        let file = Arc::new(unsafe { OwnedHandle::from_raw_handle(handle) });
        let connecting = connect(&file)?;
        Ok(Self { file, connecting })
    }
}

/// Begins to wait for a client; `None` if a client has connected already.
fn connect(file: &Arc<OwnedHandle>) -> io::Result<Option<Operation>> {
    let mut connecting = Operation::new(Arc::clone(file), 0)?;
    match connecting.start_connect() {
        Ok(()) => Ok(Some(connecting)),
        Err(e) if is(&e, ERROR_PIPE_CONNECTED) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Pipe {
    /// Closes as the agent does after a reject: bytes that the plugin has not read are lost.
    pub(crate) fn disconnect(self) {
        // SAFETY: the handle is open, and the server's end of a pipe.
        unsafe { DisconnectNamedPipe(self.file.as_raw_handle()) };
    }
}
