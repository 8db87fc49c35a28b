//! Waiting for room in a full queue, and making it.
//!
//! A producer that finds the queue full does not wait inside the channel, which would wake one
//! producer per event taken. It waits here until the writer has made room for many. While
//! anybody waits, a newcomer may take a slot only if one stays for everyone who waits, so that
//! waiters are not starved: at most those who were past that check already overtake them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Overflow, Patience, Queue};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, fence};
use crate::wire::event::EventTail;

pub(super) struct Room {
    /// Whether `line` has anybody in it. Written under the lock only.
    anyone_waits: AtomicBool,
    line: Mutex<Line>,
    made: Condvar,
    waits: AtomicU64,
    longest_wait_ns: AtomicU64,
}

/// Who waits.
struct Line {
    waiting: usize,
    /// Those among them whose events count against the byte budget, in the order they came. Only
    /// the first may take bytes, so that small events do not starve a large one.
    for_bytes: VecDeque<u64>,
    next_ticket: u64,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            anyone_waits: AtomicBool::new(false),
            line: Mutex::new(Line {
                waiting: 0,
                for_bytes: VecDeque::new(),
                next_ticket: 0,
            }),
            made: Condvar::new(),
            waits: AtomicU64::new(0),
            longest_wait_ns: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn anyone_waits(&self) -> bool {
        self.anyone_waits.load(Ordering::Relaxed)
    }

    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    pub(super) fn longest_wait(&self) -> Duration {
        Duration::from_nanos(self.longest_wait_ns.load(Ordering::Relaxed))
    }

    /// Wakes as many as `free` slots can serve.
    pub(super) fn announce(&self, free: usize) {
        let line = self.line.lock();
        // The first in the byte line is not always the first that the condvar would wake.
        if free >= line.waiting || !line.for_bytes.is_empty() {
            self.made.notify_all();
        } else {
            for _ in 0..free {
                self.made.notify_one();
            }
        }
    }

    /// Wakes everyone: the queue is closed.
    pub(super) fn release_all(&self) {
        let _line = self.line.lock();
        self.made.notify_all();
    }

    fn enter(&self, line: &mut Line, for_bytes: bool) -> Option<u64> {
        line.waiting += 1;
        self.anyone_waits.store(true, Ordering::Relaxed);
        for_bytes.then(|| {
            line.next_ticket += 1;
            line.for_bytes.push_back(line.next_ticket);
            line.next_ticket
        })
    }

    fn leave(&self, line: &mut Line, ticket: Option<u64>, since: Instant) {
        line.waiting -= 1;
        self.anyone_waits.store(line.waiting > 0, Ordering::Relaxed);
        if let Some(ticket) = ticket {
            line.for_bytes.retain(|t| *t != ticket);
            // The next in that line may be served too.
            self.made.notify_all();
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        let waited = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.longest_wait_ns.fetch_max(waited, Ordering::Relaxed);
    }
}

impl Queue {
    /// Puts an event into a queue that is full, or has others waiting for room.
    #[cold]
    pub(super) fn push_to_full(&self, event: EventTail, patience: Patience) -> Result<()> {
        let mut line = self.room.line.lock();
        let event = match self.offer_as_newcomer(event, &line) {
            Ok(()) => {
                drop(line);
                return self.settle();
            }
            Err(event) => event,
        };
        self.check_open()?;
        // It may be lingering.
        self.bell.ring();
        let Some(deadline) = self.deadline(patience) else {
            drop(line);
            return Err(self.refuse(patience));
        };
        self.wait_for_room(event, &mut line, deadline)?;
        drop(line);
        self.settle()
    }

    /// Until when a push may wait; `None` if it may not.
    fn deadline(&self, patience: Patience) -> Option<Deadline> {
        // Unwinding must not depend on the agent.
        if std::thread::panicking() {
            return None;
        }
        match patience {
            Patience::Never => None,
            Patience::Until(deadline) => Some(deadline),
            Patience::Policy => match self.limits.overflow {
                Overflow::Block => Some(Deadline::NEVER),
                Overflow::Refuse => None,
            },
        }
    }

    fn refuse(&self, patience: Patience) -> Error {
        match patience {
            // Its caller has no other way to learn of the loss, so the agent does: `seq` skips.
            Patience::Policy if !self.refusals.add() => self.closed(),
            _ => Error::QueueFull,
        }
    }

    fn offer_as_newcomer(&self, event: EventTail, line: &Line) -> Result<(), EventTail> {
        let room_for_all = self.events.len() + line.waiting < self.limits.capacity;
        let overtakes = event.heap_bytes() > 0 && !line.for_bytes.is_empty();
        if line.waiting == 0 || (room_for_all && !overtakes) {
            self.offer(event)
        } else {
            Err(event)
        }
    }

    fn wait_for_room(
        &self,
        mut event: EventTail,
        line: &mut MutexGuard<'_, Line>,
        deadline: Deadline,
    ) -> Result<()> {
        let since = Instant::now();
        let ticket = self.room.enter(line, event.heap_bytes() > 0);
        // Between saying that someone waits and looking again; the other half is in
        // `Outlet::make_room`.
        fence(Ordering::SeqCst);
        let mut timed_out = false;
        let result = loop {
            // Who is out of time tries whatever its place is.
            if timed_out || ticket.is_none() || ticket.as_ref() == line.for_bytes.front() {
                match self.offer(event) {
                    Ok(()) => break Ok(()),
                    Err(back) => event = back,
                }
            }
            if let Err(closed) = self.check_open() {
                break Err(closed);
            }
            if timed_out {
                break Err(Error::QueueFull);
            }
            match deadline.instant() {
                None => self.room.made.wait(line),
                Some(at) => timed_out = self.room.made.wait_until(line, at).timed_out(),
            }
        };
        self.room.leave(line, ticket, since);
        result
    }
}
