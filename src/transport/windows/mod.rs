//! A Windows named pipe, with overlapped reads and writes.
//!
//! A synchronous handle is not enough: Windows performs one operation at a time on it, so a pending read
//! would block every write. The code compares raw error codes, because std maps several of them to
//! `Uncategorized` or to a kind with another meaning.

#![allow(unsafe_code)]

mod operation;
mod owner;

#[cfg(feature = "test-util")]
mod console;
#[cfg(feature = "test-util")]
mod listener;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::ops::Range;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_BUSY, ERROR_PIPE_NOT_CONNECTED,
};
use windows_sys::Win32::Storage::FileSystem::{FILE_FLAG_OVERLAPPED, SECURITY_IDENTIFICATION};
use windows_sys::Win32::System::Pipes::WaitNamedPipeW;

use super::{AgentTrust, Arrival, Closed, NextDeadline, Read};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use operation::Operation;
use owner::Unchecked;

#[cfg(feature = "test-util")]
pub(crate) use console::press_ctrl_c;
#[cfg(feature = "test-util")]
pub(crate) use listener::{Listener, remove, temporary_path};

pub(crate) const DEFAULT_PATH: &str = r"\\.\pipe\WazabiEDR_plugin";

const PREFIX: &str = r"\\.\pipe\";
/// The longest path that `CreateNamedPipe` accepts, in UTF-16 units, prefix included.
const PATH_MAX: usize = 256;
/// The most bytes of one write: the size of the agent's pipe buffers.
const BUFFER: usize = 64 << 10;
/// How many reads are posted at once. The agent sends a reject as two writes, and at least two reads must be
/// posted before that.
const READS: usize = 4;
/// The most bytes of one read.
const READ: usize = 16 << 10;
/// The most reads that one check discards. They hold more than the posted reads and the agent's buffer
/// together, so the check also finds a pipe that the agent closed after a last message. There is a limit,
/// because an agent that sends all the time must not block the writer.
const DISCARDED_READS: usize = 16;
/// The longest single wait for a free instance of the pipe.
const BUSY_SLICE: Duration = Duration::from_millis(100);

/// Accepts only paths of local pipes. Another path could lead to another machine, which would receive the
/// user's credentials.
pub(crate) fn check_path(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let name = path.to_str().and_then(|path| path.strip_prefix(PREFIX));
    let Some(name) = name else {
        return Err(format!("{shown} is not a local pipe: it must be {PREFIX}NAME"));
    };
    if name.is_empty() || name.contains(['\\', '/', '\0']) {
        return Err(format!(
            "{shown} does not name a pipe: after {PREFIX} there must be one name, without \\, / or NUL"
        ));
    }
    let length = path.as_os_str().encode_wide().count();
    if length > PATH_MAX {
        return Err(format!(
            "the pipe's path has {length} UTF-16 units, and may have {PATH_MAX}: {shown}"
        ));
    }
    Ok(())
}

pub(crate) struct Pipe {
    file: Arc<OwnedHandle>,
    /// The posted reads, which complete in this order. They are posted before hello is written: the agent
    /// disconnects right after a reject, and then Windows discards the bytes that no read has taken. A
    /// pending read completes as soon as the other end closes. Windows cancels reads when the thread that
    /// posted them ends, so that thread must outlive the pipe.
    reads: VecDeque<PostedRead>,
    writing: Operation,
    arrival: Arrival,
}

struct PostedRead {
    operation: Operation,
    state: State,
}

/// The state of a posted read.
enum State {
    Pending,
    /// Bytes of its buffer that were not returned yet.
    Unread(Range<usize>),
    Closed,
}

impl Pipe {
    pub(crate) fn connect(path: &Path, next_deadline: NextDeadline<'_>) -> io::Result<Self> {
        let wide: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
        loop {
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(FILE_FLAG_OVERLAPPED)
                // Another process may listen at the agent's path. It may identify the plugin's user, but not
                // impersonate it.
                .security_qos_flags(SECURITY_IDENTIFICATION)
                .open(path);
            match opened {
                Ok(file) => return Self::new(Arc::new(file.into())),
                Err(e) if is(&e, ERROR_PIPE_BUSY) => match next_deadline() {
                    None => {
                        let busy = "every instance of the pipe stayed busy";
                        return Err(io::Error::new(io::ErrorKind::TimedOut, busy));
                    }
                    Some(deadline) => {
                        let slice = Deadline::after(BUSY_SLICE).earlier(deadline);
                        // Zero would mean the server's default timeout.
                        let wait = operation::milliseconds(slice).max(1);
                        // The result is not needed: the next attempt to open shows whether an instance is
                        // free.
                        // SAFETY: `wide` is a NUL-terminated string that outlives the call.
                        unsafe { WaitNamedPipeW(wide.as_ptr(), wait) };
                    }
                },
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes over one end of a connected pipe, and posts its reads at once.
    fn new(file: Arc<OwnedHandle>) -> io::Result<Self> {
        let writing = Operation::new(Arc::clone(&file), BUFFER)?;
        let reads = VecDeque::with_capacity(READS);
        let mut pipe = Self { file, reads, writing, arrival: Arrival::Stays };
        for _ in 0..READS {
            let operation = Operation::new(Arc::clone(&pipe.file), READ)?;
            pipe.post_read(operation)?;
        }
        Ok(pipe)
    }

    pub(crate) fn check_agent(&self, trust: &AgentTrust) -> Result<()> {
        match trust {
            AgentTrust::Any => Ok(()),
            AgentTrust::OwnerOrRoot => {
                match owner::check(self.file.as_handle()) {
                    // The agent is gone. It may have left a reject, and no process will receive hello.
                    Err(Unchecked::Closed) | Ok(()) => Ok(()),
                    Err(Unchecked::Untrusted(why)) => Err(Error::UntrustedAgent(format!(
                        "{why}; if that is your agent, have it run as SYSTEM, an administrator or \
                         the plugin's user"
                    ))),
                }
            }
        }
    }

    pub(crate) fn read(
        &mut self,
        into: &mut [u8],
        next_deadline: NextDeadline<'_>,
    ) -> io::Result<Read> {
        loop {
            self.update_first_read()?;
            let first = &mut self.reads[0];
            match &mut first.state {
                State::Closed => return Ok(Read::Closed),
                State::Unread(range) if range.start == range.end => {
                    self.repost_first()?;
                    // A peer that keeps sending empty writes must not block the plugin.
                    if next_deadline().is_none() {
                        return Ok(Read::NotYet);
                    }
                }
                State::Unread(range) => {
                    let n = range.len().min(into.len());
                    into[..n].copy_from_slice(&first.operation.buffer()[range.start..][..n]);
                    range.start += n;
                    if range.start == range.end {
                        self.repost_first()?;
                    }
                    return Ok(Read::Bytes(n));
                }
                State::Pending => match next_deadline() {
                    None => return Ok(Read::NotYet),
                    Some(deadline) => first.operation.wait(deadline)?,
                },
            }
        }
    }

    pub(crate) fn on_arrival(&mut self, arrival: Arrival) {
        self.arrival = arrival;
    }

    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        next_deadline: NextDeadline<'_>,
    ) -> io::Result<usize> {
        self.writing.start_write(bytes)?;
        while !self.writing.is_done()? {
            let continues = match self.arrival {
                Arrival::Stays => true,
                Arrival::EndsWrite => {
                    self.update_first_read()?;
                    !matches!(self.reads[0].state, State::Unread(_))
                }
                Arrival::IsDiscarded => {
                    self.discard_all()?;
                    true
                }
            };
            match next_deadline() {
                Some(deadline) if continues => self.writing.wait(deadline)?,
                // The cancelled write may report 0 bytes although the other end has read some. So the caller
                // writes nothing after a 0.
                _ => return self.writing.cancel().or(Ok(0)),
            }
        }
        self.writing.result()
    }

    /// Discards input from an agent that writes before it reads.
    fn discard_all(&mut self) -> io::Result<()> {
        for _ in 0..DISCARDED_READS {
            self.discard()?;
            if !matches!(self.reads[0].state, State::Unread(_)) {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn check_peer(&mut self) -> io::Result<()> {
        self.discard_all()?;
        match self.reads[0].state {
            State::Closed => Err(io::Error::from_raw_os_error(ERROR_BROKEN_PIPE.cast_signed())),
            _ => Ok(()),
        }
    }

    pub(crate) fn wait_closed(&mut self, next_deadline: NextDeadline<'_>) -> Closed {
        loop {
            match (self.discard(), &self.reads[0].state) {
                (Ok(()), State::Closed) => return Closed::Orderly,
                // Check the deadline also after bytes arrived: an agent may never stop sending.
                (Ok(()), State::Unread(_) | State::Pending) => {}
                (Err(_), _) => return Closed::Abruptly,
            }
            match next_deadline() {
                None => return Closed::NotYet,
                Some(deadline) => {
                    if self.reads[0].operation.wait(deadline).is_err() {
                        return Closed::Abruptly;
                    }
                }
            }
        }
    }

    /// Discards the bytes of the first read, if it has any, and checks the next read.
    fn discard(&mut self) -> io::Result<()> {
        self.update_first_read()?;
        if let State::Unread(_) = self.reads[0].state {
            self.repost_first()?;
            self.update_first_read()?;
        }
        Ok(())
    }

    /// Updates the state of the first read, without waiting.
    fn update_first_read(&mut self) -> io::Result<()> {
        let first = &mut self.reads[0];
        if matches!(first.state, State::Pending) && first.operation.is_done()? {
            // After an empty write of the peer, a read returns 0 bytes.
            first.state = match first.operation.result() {
                Ok(n) => State::Unread(0..n),
                Err(e) if says_closed(&e) => State::Closed,
                Err(e) => {
                    // The read has ended. Its result must not be taken again.
                    first.state = State::Closed;
                    return Err(e);
                }
            };
        }
        Ok(())
    }

    fn repost_first(&mut self) -> io::Result<()> {
        match self.reads.pop_front() {
            Some(first) => self.post_read(first.operation),
            None => Ok(()),
        }
    }

    fn post_read(&mut self, mut operation: Operation) -> io::Result<()> {
        let (state, result) = match operation.start_read() {
            Ok(()) => (State::Pending, Ok(())),
            Err(e) if says_closed(&e) => (State::Closed, Ok(())),
            Err(e) => (State::Closed, Err(e)),
        };
        self.reads.push_back(PostedRead { operation, state });
        result
    }
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}

fn says_closed(error: &io::Error) -> bool {
    [ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED].iter().any(|code| is(error, *code))
}
