//! The server end of a named pipe, with the methods of a Unix listener that `tests/raw` uses.

use std::io;
use std::path::Path;

use interprocess::os::windows::named_pipe::{
    DuplexPipeStream, PipeListener, PipeListenerOptions, pipe_mode,
};
use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use widestring::U16CString;

pub type Stream = DuplexPipeStream<pipe_mode::Bytes>;

pub struct Listener(PipeListener<pipe_mode::Bytes, pipe_mode::Bytes>);

impl Listener {
    pub fn bind(path: &Path) -> io::Result<Self> {
        Self::with(path, None)
    }

    pub fn bind_owned(path: &Path, owner: &str) -> io::Result<Self> {
        let descriptor = U16CString::from_str_truncate(format!("O:{owner}"));
        Self::with(path, Some(SecurityDescriptor::deserialize(&descriptor)?))
    }

    /// Its buffers are as large as the agent's.
    fn with(path: &Path, descriptor: Option<SecurityDescriptor>) -> io::Result<Self> {
        PipeListenerOptions::new()
            .path(path)
            .security_descriptor(descriptor)
            .input_buffer_size_hint(64 << 10)
            .output_buffer_size_hint(64 << 10)
            .create_duplex()
            .map(Self)
    }

    /// The next connection. When it is dropped, it is closed after the plugin has read everything.
    pub fn accept(&self) -> io::Result<(Stream, ())> {
        Ok((self.0.accept()?, ()))
    }

    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.set_nonblocking(nonblocking)
    }
}
