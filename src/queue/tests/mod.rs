//! The queue with its consumer, without a pipe.

use std::thread;
use std::time::Duration;

use super::*;
use crate::error::{Error, Result};
use crate::wire::event::EventTail;

mod blocked_writer;
mod bytes;
mod capacity;
mod closing;
mod counters;
mod linger;
mod losses;
mod memory;
mod order;
mod waiting;

/// The limit of a wait that ends much earlier if the code is right, also on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);
const SHORT: usize = 10;
/// Longer than an inline event.
const LONG: usize = 600;

fn open(capacity: usize, heap_bytes: usize) -> (Arc<Queue>, Consumer) {
    open_lanes(1, capacity, heap_bytes)
}

fn open_lanes(lanes: usize, capacity: usize, heap_bytes: usize) -> (Arc<Queue>, Consumer) {
    open_with(lanes, capacity, heap_bytes, Overflow::Block)
}

fn open_with(
    lanes: usize,
    capacity: usize,
    heap_bytes: usize,
    overflow: Overflow,
) -> (Arc<Queue>, Consumer) {
    let limits =
        Limits { capacity, heap_bytes, max_content: 1 << 20, overflow, reports_losses: false };
    with_lanes(limits, lanes, Arc::new(Shutdown::new()))
}

/// Pushes an event as `EventBuilder` does.
fn push_at(queue: &Queue, kind: &str, ts: u64, bytes: usize, waiting: Waiting) -> Result<()> {
    queue.check_room(waiting)?;
    let mut event = Event::blank();
    match event.tail.write(kind, ts, &"x".repeat(bytes), queue.max_content(), queue.lender())? {
        None => queue.push(event, waiting),
        Some(text) => queue.push_long(text, waiting),
    }
}

fn push_kind(queue: &Queue, kind: &str, bytes: usize, waiting: Waiting) -> Result<()> {
    push_at(queue, kind, 1, bytes, waiting)
}

/// The bytes of the budget that an event with a payload of `bytes` bytes takes.
fn cost_of(bytes: usize) -> usize {
    let tail = EventTail::encode("test", 1, &"x".repeat(bytes), 1 << 20).unwrap();
    super::pool::cost(tail.as_bytes().len())
}

fn push(queue: &Queue, bytes: usize, waiting: Waiting) -> Result<()> {
    push_kind(queue, "test", bytes, waiting)
}

/// Fills the queue after the writer's first pass. A working writer gives the turns, and the producers give none.
fn fill_for_working_writer(queue: &Queue, consumer: &mut Consumer) {
    push(queue, SHORT, Waiting::Never).unwrap();
    pass(consumer, usize::MAX, |_| ());
    while push(queue, SHORT, Waiting::Never).is_ok() {}
}

fn until_blocked(queue: &Queue, producers: usize) {
    while queue.gate.waits() < producers as u64 {
        thread::yield_now();
    }
}

/// Takes one event in a pass of its own.
fn take(consumer: &mut Consumer) -> Option<Vec<u8>> {
    let mut text = None;
    consumer.begin_pass();
    consumer.take(|tail: &mut EventTail| text = Some(tail.as_bytes().to_vec()));
    consumer.end_pass(text.as_ref().map_or(0, Vec::len));
    text
}

/// Closes the queue when a test ends, also by a panic, so that no blocked producer keeps the test running.
struct Closes<'a>(&'a Queue);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.shutdown.request();
    }
}

fn is_closed(push: Result<()>) -> bool {
    matches!(push, Err(Error::Shutdown))
}

fn until_a_producer_waits(queue: &Queue) {
    while queue.gate.waiting() == 0 {
        thread::yield_now();
    }
}

/// Lets another thread push with this deadline, and runs `meanwhile` while that thread waits, or has stopped
/// waiting because the deadline has passed. Returns the results of both.
fn push_while<T>(
    queue: &Queue,
    bytes: usize,
    deadline: Deadline,
    meanwhile: impl FnOnce() -> T,
) -> (Result<()>, T) {
    thread::scope(|scope| {
        let waiter = scope.spawn(move || push(queue, bytes, Waiting::Until(deadline)));
        while queue.gate.waiting() == 0 && !waiter.is_finished() {
            thread::yield_now();
        }
        let done = meanwhile();
        (waiter.join().unwrap(), done)
    })
}

/// The kind of an event that was taken.
fn kind(text: &[u8]) -> &str {
    let text = std::str::from_utf8(text).unwrap();
    let (_, rest) = text.split_once("\"kind\":\"").expect("an event has a kind");
    rest.split_once('"').expect("a kind ends").0
}

/// Takes up to `most` events in one pass, and sends them.
fn pass(consumer: &mut Consumer, most: usize, mut see: impl FnMut(&[u8])) -> usize {
    let (mut taken, mut bytes) = (0, 0);
    consumer.begin_pass();
    while taken < most
        && consumer.take(|tail| {
            bytes += tail.as_bytes().len();
            see(tail.as_bytes());
        })
    {
        taken += 1;
    }
    consumer.end_pass(bytes);
    consumer.sent(taken as u64);
    taken
}

/// Runs passes on this thread, as the writer does, until `is_done`, then until the queue is empty.
fn consume(consumer: &mut Consumer, is_done: impl Fn() -> bool, mut see: impl FnMut(&[u8])) {
    let mut rng = fastrand::Rng::new();
    loop {
        let was_done = is_done();
        // A batch may become full. Then the events at the heads wait for the next pass.
        let most = if rng.bool() { usize::MAX } else { rng.usize(1..300) };
        let taken = pass(consumer, most, &mut see);
        consumer.admit();
        if taken == 0 {
            if was_done && consumer.is_empty() {
                return;
            }
            consumer.idle(Deadline::after(Duration::from_millis(1)));
        }
    }
}

fn is_full<T>(push: &Result<T>) -> bool {
    matches!(push, Err(Error::QueueFull))
}
