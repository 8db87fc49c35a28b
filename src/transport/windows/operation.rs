//! One overlapped operation, with the memory that the kernel uses meanwhile.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Instant;

use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, FALSE, HANDLE, STATUS_PENDING, TRUE, WAIT_FAILED, WAIT_OBJECT_0,
};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, WaitForSingleObject};

use crate::deadline::Deadline;

/// Starts one operation at a time on `file`. Dropping it cancels a pending operation and waits until the
/// kernel no longer uses the memory.
pub(super) struct Operation {
    file: Arc<OwnedHandle>,
    event: OwnedHandle,
    /// Memory from `Box::leak`, freed in `drop`. It is a raw pointer, because the kernel writes there while
    /// an operation is pending. During that time this code reads only the status.
    shared: NonNull<Shared>,
    pending: bool,
}

/// The memory that the kernel uses while an operation is pending: it must not be moved or freed then.
struct Shared {
    overlapped: OVERLAPPED,
    buffer: Box<[u8]>,
}

// SAFETY: only this `Operation` and the kernel use the memory. Any thread may wait for the operation or
// cancel it, and handles may be used from any thread.
unsafe impl Send for Operation {}

impl Operation {
    pub(super) fn new(file: Arc<OwnedHandle>, buffer: usize) -> io::Result<Self> {
        // SAFETY: no attributes and no name; manual reset, as GetOverlappedResult requires it.
        let event = unsafe { CreateEventW(ptr::null(), TRUE, FALSE, ptr::null()) };
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        let shared = Box::new(Shared {
            overlapped: OVERLAPPED { hEvent: event, ..OVERLAPPED::default() },
            buffer: vec![0; buffer].into_boxed_slice(),
        });
        Ok(Self {
            file,
            // SAFETY: the event was just made, and no other code has its handle.
            event: unsafe { OwnedHandle::from_raw_handle(event) },
            shared: NonNull::from(Box::leak(shared)),
            pending: false,
        })
    }

    /// The buffer, with the bytes of the last read. No operation may be pending.
    pub(super) fn buffer(&self) -> &[u8] {
        assert!(!self.pending, "the kernel uses the buffer while an operation is pending");
        // SAFETY: the pointer is valid until drop, and nothing is pending.
        unsafe { &self.shared.as_ref().buffer }
    }

    pub(super) fn start_read(&mut self) -> io::Result<()> {
        self.start(|file, buffer, overlapped| {
            let (into, size) = (buffer.as_mut_ptr(), buffer.len() as u32);
            // SAFETY: buffer and OVERLAPPED are not moved or used until the operation's result is taken:
            // `start` notes that it is pending.
            unsafe { ReadFile(file, into, size, ptr::null_mut(), overlapped) }
        })
    }

    /// Writes the beginning of `bytes`, as much as the buffer holds.
    pub(super) fn start_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.start(|file, buffer, overlapped| {
            let size = bytes.len().min(buffer.len());
            buffer[..size].copy_from_slice(&bytes[..size]);
            // SAFETY: as in `start_read`.
            unsafe { WriteFile(file, buffer.as_ptr(), size as u32, ptr::null_mut(), overlapped) }
        })
    }

    /// Waits for a client to connect to the pipe's server end.
    #[cfg(feature = "test-util")]
    pub(super) fn start_connect(&mut self) -> io::Result<()> {
        use windows_sys::Win32::System::Pipes::ConnectNamedPipe;
        self.start(|file, _, overlapped| {
            // SAFETY: as in `start_read`; there is no buffer.
            unsafe { ConnectNamedPipe(file, overlapped) }
        })
    }

    fn start(
        &mut self,
        call: impl FnOnce(HANDLE, &mut [u8], *mut OVERLAPPED) -> i32,
    ) -> io::Result<()> {
        if self.pending {
            return Err(io::Error::other("an operation that failed has not ended yet"));
        }
        let overlapped = self.overlapped();
        // SAFETY: the pointer is valid until drop, and nothing is pending.
        let buffer = unsafe { &mut (*self.shared.as_ptr()).buffer };
        if call(self.file.as_raw_handle(), buffer, overlapped) == FALSE {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(ERROR_IO_PENDING.cast_signed()) {
                // The operation has not started, so its event will not be set.
                return Err(error);
            }
        }
        // An operation that is already complete counts as pending: its result is taken the same way.
        self.pending = true;
        Ok(())
    }

    /// Whether the operation is complete. Never waits.
    pub(super) fn is_done(&self) -> io::Result<bool> {
        self.wait_for(0)
    }

    /// Waits until the operation is complete, or `deadline` has passed.
    pub(super) fn wait(&self, deadline: Deadline) -> io::Result<()> {
        self.wait_for(milliseconds(deadline)).map(drop)
    }

    fn wait_for(&self, milliseconds: u32) -> io::Result<bool> {
        // SAFETY: the event is this operation's own, and open.
        match unsafe { WaitForSingleObject(self.event.as_raw_handle(), milliseconds) } {
            WAIT_OBJECT_0 => Ok(true),
            WAIT_FAILED => Err(io::Error::last_os_error()),
            _ => Ok(false),
        }
    }

    /// Takes the result of the operation, in bytes. Waits for the operation if it is not complete.
    pub(super) fn result(&mut self) -> io::Result<usize> {
        assert!(self.pending, "an operation that was not started has no result");
        let mut bytes = 0;
        let overlapped = self.overlapped();
        // SAFETY: the OVERLAPPED is valid and belongs to an operation that was started on this
        // file. With bWait the call returns when the kernel no longer uses it, or if the wait fails.
        let success = unsafe {
            GetOverlappedResult(self.file.as_raw_handle(), overlapped, &raw mut bytes, TRUE)
        };
        if success == FALSE {
            let error = io::Error::last_os_error();
            // This is the operation's own error, unless the wait failed and the operation is still pending.
            self.pending = self.kernel_uses_memory();
            return Err(error);
        }
        self.pending = false;
        Ok(bytes as usize)
    }

    /// Whether the kernel still uses the OVERLAPPED and the buffer.
    fn kernel_uses_memory(&self) -> bool {
        // SAFETY: the OVERLAPPED is valid; the kernel may be writing its status.
        let status = unsafe { ptr::read_volatile(&raw const (*self.overlapped()).Internal) };
        status == STATUS_PENDING.cast_unsigned() as usize
    }

    fn overlapped(&self) -> *mut OVERLAPPED {
        // SAFETY: the pointer is valid until drop; only an address is taken.
        unsafe { &raw mut (*self.shared.as_ptr()).overlapped }
    }

    /// Cancels the operation and takes its result: the operation may have completed before.
    pub(super) fn cancel(&mut self) -> io::Result<usize> {
        // SAFETY: the OVERLAPPED is valid. The call fails if the operation has completed, which is expected.
        unsafe { CancelIoEx(self.file.as_raw_handle(), self.overlapped()) };
        self.result()
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.pending {
            // An error is the cancelled operation's own.
            let _ = self.cancel();
        }
        if self.pending {
            // The wait failed too. Leak the memory, because the kernel may still use it.
            return;
        }
        // SAFETY: it is from `Box::leak`, nothing is pending, and no code uses it after this.
        drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
    }
}

/// The milliseconds until `deadline`, rounded up. Otherwise the caller would spin in the last millisecond.
pub(super) fn milliseconds(deadline: Deadline) -> u32 {
    match deadline.instant() {
        None => INFINITE,
        Some(at) => {
            let left = at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            u32::try_from(left).unwrap_or(INFINITE - 1).min(INFINITE - 1)
        }
    }
}
