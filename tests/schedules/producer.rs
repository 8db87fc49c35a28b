//! A thread that emits, and keeps its own accounts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::Serialize;
use serde_json::{Value, json};
use wedr_plugin_sdk::{Error, EventSink, Overflow, Result};

use crate::plan::{Plan, one_of, part_of, up_to};

/// The kind of every event.
pub(crate) const KIND: &str = "test.schedule";

/// How often a producer makes sure that a closed session stays closed.
const AGAIN: u32 = 3;

#[derive(Serialize)]
struct Numbered<'a> {
    producer: usize,
    n: u64,
    length: usize,
    text: &'a str,
}

/// How an event is queued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Policy,
    Never,
    AtMost(Duration),
}

/// What became of the events of one thread, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) accepted: Vec<u64>,
    /// Refused by the overflow policy.
    pub(crate) refused: u64,
    /// The first that the session was closed to. It was perhaps taken all the same.
    pub(crate) closed: Option<Closed>,
    /// Found no room, as their own patience had it; or would not have been accepted ever.
    pub(crate) turned_away: u64,
    pub(crate) flushes: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    pub(crate) n: u64,
    /// The call's beginning and end.
    pub(crate) called: Instant,
    pub(crate) returned: Instant,
}

pub(crate) struct Producer<'a> {
    plan: &'a Plan,
    sink: EventSink,
    /// Events accepted of all producers.
    accepted: &'a AtomicU64,
    id: usize,
    next: u64,
    account: Account,
    rng: Rng,
}

impl<'a> Producer<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        sink: &EventSink,
        accepted: &'a AtomicU64,
        id: usize,
    ) -> Self {
        let rng = Rng::with_seed(plan.seed ^ (id as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { plan, sink: sink.clone(), accepted, id, next: 0, account: Account::default(), rng }
    }

    /// Does so many things, fewer if the session closes.
    pub(crate) fn produce(mut self, things: usize) -> Account {
        let mut again = AGAIN;
        for _ in 0..things {
            match self.rng.u32(0..1000) {
                n if n < self.plan.flushes => self.flush(),
                0..970 => self.emit(),
                970..980 => self.emit_what_is_refused(),
                980..990 => thread::yield_now(),
                _ => thread::sleep(part_of(&mut self.rng, Duration::from_millis(1))),
            }
            if self.account.closed.is_some() {
                if again == 0 {
                    break;
                }
                again -= 1;
            }
        }
        self.account
    }

    pub(crate) fn emit(&mut self) {
        let most = up_to(&mut self.rng, self.plan.longest);
        let length = self.rng.usize(..most);
        let how = match self.rng.u32(0..6) {
            0 => How::Never,
            1 => How::AtMost(part_of(&mut self.rng, Duration::from_millis(3))),
            _ => How::Policy,
        };
        let text = "x".repeat(length);
        let event = Numbered { producer: self.id, n: self.next, length, text: &text };
        self.next += 1;
        let called = Instant::now();
        let result = emit(&self.sink, how, &event);
        self.enter(event.n, how, called, length, result);
    }

    fn enter(&mut self, n: u64, how: How, called: Instant, length: usize, result: Result<()>) {
        let account = &mut self.account;
        let was_closed = account.closed.is_some();
        match result {
            Err(e) if is_closed(&e) => {
                let returned = Instant::now();
                account.closed.get_or_insert(Closed { n, called, returned });
                return;
            }
            Ok(()) => {
                account.accepted.push(n);
                self.accepted.fetch_add(1, Ordering::SeqCst);
            }
            Err(Error::QueueFull) if how == How::Policy => {
                // Unwinding must not wait either.
                let may = self.plan.overflow == Overflow::Refuse || thread::panicking();
                assert!(may, "a full queue refused an event that could wait");
                account.refused += 1;
            }
            Err(Error::QueueFull) => account.turned_away += 1,
            Err(Error::PayloadTooLarge { size, max }) => {
                assert!(size > max && max == self.plan.max_body, "{size} bytes over {max}");
                assert!(size > length && size < length + 300, "{size} bytes for {length}");
                account.turned_away += 1;
            }
            Err(other) => panic!("{other}"),
        }
        assert!(!was_closed, "event {n} was looked at after the session had closed");
    }

    /// `Ok` means that what had been accepted by then, of whomever, is sent.
    fn flush(&mut self) {
        let before = self.accepted.load(Ordering::SeqCst);
        let timeout = one_of(&mut self.rng, &[0, 1, 5, 10_000].map(Duration::from_millis));
        match self.sink.flush(timeout) {
            Ok(()) => {
                let sent = self.sink.stats().sent;
                assert!(sent >= before, "flushed: {before} were accepted before, {sent} are sent");
                self.account.flushes += 1;
            }
            Err(Error::FlushTimeout(after)) => assert_eq!(after, timeout),
            Err(Error::Undelivered { count }) => assert!(count > 0, "nothing is undelivered"),
            Err(e) => assert!(e.is_disconnected(), "{e}"),
        }
    }

    fn emit_what_is_refused(&mut self) {
        let deep = (0..200).fold(Value::Null, |inner, _| json!([inner]));
        match self.sink.emit(KIND, deep) {
            Err(Error::PayloadTooDeep { .. }) => self.account.turned_away += 1,
            Err(e) if is_closed(&e) => {}
            other => panic!("nested 200 deep: {other:?}"),
        }
    }

    pub(crate) fn account(self) -> Account {
        self.account
    }
}

fn emit(sink: &EventSink, how: How, event: &Numbered<'_>) -> Result<()> {
    let builder = sink.event(KIND);
    match how {
        How::Policy => builder.emit(event),
        How::Never => builder.try_emit(event),
        How::AtMost(t) => builder.emit_timeout(event, t),
    }
}

pub(crate) fn is_closed(e: &Error) -> bool {
    matches!(e, Error::Shutdown) || e.is_disconnected()
}
