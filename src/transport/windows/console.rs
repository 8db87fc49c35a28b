//! Ctrl+C, for tests.

use std::io;

use windows_sys::Win32::System::Console::{CTRL_C_EVENT, GenerateConsoleCtrlEvent};

/// Presses Ctrl+C in this process' console. Every process of the console gets the event, also this one.
pub(crate) fn press_ctrl_c() -> io::Result<()> {
    // SAFETY: it takes two numbers; group 0 is all processes of the console.
    if unsafe { GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
