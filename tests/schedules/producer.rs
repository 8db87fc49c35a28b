//! A thread that emits, and counts the results.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::Serialize;
use serde_json::{Value, json};
use wedr_plugin_sdk::{Error, EventSink, Overflow, Result};

use crate::plan::{Plan, one_of, part_of, up_to};

/// The kind of every event of a producer.
pub(crate) const KIND: &str = "test.schedule";
/// The kind of the events that report losses.
pub(crate) const LOST: &str = "test.lost";

/// How often a producer emits again after the session has closed.
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

/// The results of one thread.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) accepted: Vec<u64>,
    /// Events that the overflow policy refused.
    pub(crate) refused: u64,
    /// The first event whose `emit` returned that the session is closed. The writer may have taken it.
    pub(crate) closed: Option<Closed>,
    /// Events that found no room in their own time limit, and invalid events.
    pub(crate) not_queued: u64,
    pub(crate) flushes: u64,
    /// Events that were reported as lost, before and after the session closed.
    pub(crate) lost: u64,
    /// Events that were reported as lost before a later event was accepted, so before the session closed.
    pub(crate) surely_lost: u64,
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
    /// Accepted events of all producers together.
    accepted: &'a AtomicU64,
    id: usize,
    next: u64,
    results: Results,
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
        Self { plan, sink: sink.clone(), accepted, id, next: 0, results: Results::default(), rng }
    }

    /// Makes this many steps, or fewer if the session closes.
    pub(crate) fn produce(mut self, steps: usize) -> Results {
        let mut again = AGAIN;
        for _ in 0..steps {
            match self.rng.u32(0..1000) {
                n if n < self.plan.flushes => self.flush(),
                n if n < self.plan.flushes + self.plan.loss_reports => self.report_lost(),
                0..970 => self.emit(),
                970..980 => self.emit_what_is_refused(),
                980..990 => thread::yield_now(),
                _ => thread::sleep(part_of(&mut self.rng, Duration::from_millis(1))),
            }
            if self.results.closed.is_some() {
                if again == 0 {
                    break;
                }
                again -= 1;
            }
        }
        self.results
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
        let results = &mut self.results;
        let was_closed = results.closed.is_some();
        match result {
            Err(e) if is_closed(&e) => {
                let returned = Instant::now();
                results.closed.get_or_insert(Closed { n, called, returned });
                return;
            }
            Ok(()) => {
                results.accepted.push(n);
                results.surely_lost = results.lost;
                self.accepted.fetch_add(1, Ordering::SeqCst);
            }
            Err(Error::QueueFull) if how == How::Policy => {
                // An unwinding thread must not block.
                let may = self.plan.overflow == Overflow::Refuse || thread::panicking();
                assert!(may, "a full queue refused an event that could wait");
                results.refused += 1;
            }
            Err(Error::QueueFull) => results.not_queued += 1,
            Err(Error::PayloadTooLarge { size, max }) => {
                assert!(size > max && max == self.plan.max_content, "{size} bytes over {max}");
                assert!(size > length && size < length + 300, "{size} bytes for {length}");
                results.not_queued += 1;
            }
            Err(other) => panic!("{other}"),
        }
        assert!(!was_closed, "event {n}: emit did not return that the session is closed");
    }

    /// If `flush` returns `Ok`, all events of all threads that were accepted before are sent.
    fn flush(&mut self) {
        let before = self.accepted.load(Ordering::SeqCst);
        let timeout = one_of(&mut self.rng, &[0, 1, 5, 10_000].map(Duration::from_millis));
        match self.sink.flush(timeout) {
            Ok(()) => {
                let sent = self.sink.stats().sent;
                assert!(sent >= before, "flushed: {before} were accepted before, {sent} are sent");
                self.results.flushes += 1;
            }
            Err(Error::FlushTimeout(after)) => assert_eq!(after, timeout),
            Err(Error::Undelivered { count }) => assert!(count > 0, "nothing is undelivered"),
            Err(e) => assert!(e.is_disconnected(), "{e}"),
        }
    }

    fn report_lost(&mut self) {
        let count = self.rng.u64(..3);
        self.sink.report_lost(count);
        self.results.lost += count;
    }

    fn emit_what_is_refused(&mut self) {
        let deep = (0..200).fold(Value::Null, |inner, _| json!([inner]));
        match self.sink.emit(KIND, deep) {
            Err(Error::PayloadTooDeep { .. }) => self.results.not_queued += 1,
            Err(e) if is_closed(&e) => {}
            // A full queue refuses an event before it checks the payload.
            Err(Error::QueueFull) if self.plan.overflow == Overflow::Refuse => {
                self.results.refused += 1;
            }
            other => panic!("nested 200 deep: {other:?}"),
        }
    }

    pub(crate) fn results(self) -> Results {
        self.results
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
