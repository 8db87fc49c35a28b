//! Ctrl+C, for the tests of what it does.

use std::io;

use windows_sys::Win32::System::Console::{CTRL_C_EVENT, GenerateConsoleCtrlEvent};

/// Presses Ctrl+C in this process' console: every process that shares it gets the event, this one
/// too.
pub(crate) fn press_ctrl_c() -> io::Result<()> {
    // SAFETY: it takes two numbers; group 0 is all processes of the console.
    if unsafe { GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
