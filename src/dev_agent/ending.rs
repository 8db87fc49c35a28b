//! The end of the agent: first a request, then a deadline at which all sessions are closed.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::shutdown::Shutdown;

/// How long plugins may take to send goodbye and exit, as under the real agent.
const GRACE: Duration = Duration::from_secs(5);

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
