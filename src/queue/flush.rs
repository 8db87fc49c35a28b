//! Flushes: tickets beside the queue, which take no slot in it.

use crate::deadline::Deadline;
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering};

pub(super) struct Flushes {
    /// Whether a ticket waits for the writer to look at it. Written under the lock only.
    requested: AtomicBool,
    tickets: Mutex<Tickets>,
    answered: Condvar,
}

#[derive(Default)]
struct Tickets {
    /// The last ticket given out; they count from 1.
    last: u64,
    /// The last ticket the writer has begun to work on, and the last it has done.
    begun: u64,
    done: u64,
    /// The writer will not answer any more.
    ended: bool,
}

impl Flushes {
    pub(super) fn new() -> Self {
        Self {
            requested: AtomicBool::new(false),
            tickets: Mutex::new(Tickets::default()),
            answered: Condvar::new(),
        }
    }

    pub(super) fn request(&self) -> u64 {
        let mut tickets = self.tickets.lock();
        tickets.last += 1;
        self.requested.store(true, Ordering::Relaxed);
        tickets.last
    }

    /// Waits for the answer to `ticket`; returns false after `deadline`, or if the writer has ended.
    pub(super) fn wait(&self, ticket: u64, deadline: Deadline) -> bool {
        let mut tickets = self.tickets.lock();
        let answered = |tickets: &Tickets| tickets.done >= ticket || tickets.ended;
        while !answered(&tickets) && !deadline.wait(&self.answered, &mut tickets) {}
        tickets.done >= ticket
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Begins to work on all tickets given out so far. The lock makes the events visible that were
    /// accepted before these tickets.
    pub(super) fn begin(&self) {
        let mut tickets = self.tickets.lock();
        tickets.begun = tickets.last;
        self.requested.store(false, Ordering::Relaxed);
    }

    pub(super) fn finish(&self) {
        let mut tickets = self.tickets.lock();
        tickets.done = tickets.begun;
        self.answered.notify_all();
    }

    /// Ends all waits without an answer. Their callers then look at how the session ended.
    pub(super) fn end(&self) {
        self.tickets.lock().ended = true;
        self.answered.notify_all();
    }

    pub(super) fn have_ended(&self) -> bool {
        self.tickets.lock().ended
    }
}
