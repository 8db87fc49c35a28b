//! How the agent ends: first it is asked to, then its time is over.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::shutdown::Shutdown;

/// What plugins get to say goodbye and exit in, as from the real agent.
const GRACE: Duration = Duration::from_secs(5);

pub(super) struct Ending {
    /// Nothing new begins.
    pub(super) asked: Shutdown,
    /// Every session is closed.
    pub(super) over: Shutdown,
}

impl Ending {
    pub(super) fn new() -> Self {
        Self { asked: Shutdown::new(), over: Shutdown::new() }
    }

    /// Never, as long as nobody asked.
    pub(super) fn deadline(&self) -> Deadline {
        self.asked.drain_deadline(GRACE)
    }
}
