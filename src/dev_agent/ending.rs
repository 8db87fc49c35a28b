//! The end of the agent: first a request, then a deadline at which all sessions are closed.

use super::process::GRACE;
use crate::deadline::Deadline;
use crate::shutdown::Shutdown;

pub(super) struct Ending {
    /// The end was requested: the agent starts no session and no plugin.
    pub(super) asked: Shutdown,
    /// The deadline has passed: the agent closes every session.
    pub(super) over: Shutdown,
}

impl Ending {
    pub(super) fn new() -> Self {
        Self { asked: Shutdown::new(), over: Shutdown::new() }
    }

    /// When the agent closes all sessions. Before the end is requested, there is no deadline.
    pub(super) fn deadline(&self) -> Deadline {
        self.asked.drain_deadline(GRACE)
    }
}
