//! Flush requests. Each has a number, and none takes a slot of the queue.

use std::time::Duration;

use super::Queue;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering, fence};

pub(super) struct Flushes {
    /// Whether there is a request that the writer has not begun. Written under the lock only.
    requested: AtomicBool,
    requests: Mutex<Requests>,
    answered: Condvar,
}

/// The numbers of requests. The first request has the number 1.
#[derive(Default)]
struct Requests {
    /// The last request that was made.
    last: u64,
    /// The last request that the writer has begun.
    begun: u64,
    /// The last request that the writer has answered.
    done: u64,
    /// The writer has ended: it answers no more requests.
    ended: bool,
}

impl Flushes {
    pub(super) fn new() -> Self {
        Self {
            requested: AtomicBool::new(false),
            requests: Mutex::new(Requests::default()),
            answered: Condvar::new(),
        }
    }

    /// Makes a request; returns its number.
    pub(super) fn request(&self) -> u64 {
        let mut requests = self.requests.lock();
        requests.last += 1;
        self.requested.store(true, Ordering::Relaxed);
        requests.last
    }

    /// Waits for the answer to `request`; returns false after `deadline`, or if the writer has ended.
    pub(super) fn wait(&self, request: u64, deadline: Deadline) -> bool {
        let mut requests = self.requests.lock();
        let answered = |requests: &Requests| requests.done >= request || requests.ended;
        while !answered(&requests) && !deadline.wait(&self.answered, &mut requests) {}
        requests.done >= request
    }

    pub(super) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Begins all requests that were made so far. Through the lock, the writer sees the events that were
    /// accepted before these requests.
    pub(super) fn begin(&self) {
        let mut requests = self.requests.lock();
        requests.begun = requests.last;
        self.requested.store(false, Ordering::Relaxed);
    }

    pub(super) fn finish(&self) {
        let mut requests = self.requests.lock();
        requests.done = requests.begun;
        self.answered.notify_all();
    }

    /// Ends all waits without an answer. The waiting threads then check how the session ended.
    pub(super) fn end(&self) {
        self.requests.lock().ended = true;
        self.answered.notify_all();
    }

    pub(super) fn have_ended(&self) -> bool {
        self.requests.lock().ended
    }
}

impl Queue {
    /// Waits until every event accepted so far has been handed to the operating system.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<()> {
        if self.is_flushed() {
            // The writer may have lost the pipe, and not ended yet.
            return self.lost().map_or(Ok(()), Err);
        }
        if !timeout.is_zero() {
            let request = self.flushes.request();
            self.wakeup.wake();
            if self.flushes.wait(request, Deadline::after(timeout)) {
                return Ok(());
            }
        }
        if !self.flushes.have_ended() {
            return Err(Error::FlushTimeout(timeout));
        }
        match (self.lost_pipe.get(), self.counters.undelivered.get()) {
            (Some(_), _) => Err(self.closed()),
            (None, 0) => Ok(()),
            (None, count) => Err(Error::Undelivered { count }),
        }
    }

    /// Whether no event is queued, and the writer has sent all events that it took.
    fn is_flushed(&self) -> bool {
        let is_empty = self.lanes.len() == 0;
        // Pairs with the fence in `Consumer::begin_pass`. If an event has left the lanes, this thread
        // sees the flag that the writer set before it took the event, or a later value.
        fence(Ordering::Acquire);
        is_empty && !self.flushes.have_ended() && self.counters.is_idle()
    }
}
