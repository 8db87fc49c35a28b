//! The queue under loom, which runs a few threads in every order, and lets each load return every
//! value that the memory model allows. Run with
//! `RUSTFLAGS="--cfg wedr_loom" cargo test --lib --release queue::model`.
//!
//! If a wake-up is lost, loom reports a "deadlock", or the "maximum number of branches" because the writer
//! checks for events too often. Each model also lists all outcomes that must occur, so a model that no
//! longer reaches its race fails too. In models with three threads or more, loom preempts threads a bounded
//! number of times. `LOOM_MAX_PREEMPTIONS` sets another bound for all models.
//!
//! A thread that runs beside the writer reads single counters, because `Queue::stats` there multiplies the
//! number of executions. Only `high_water_counts_no_event_twice` calls it there.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use loom::thread::{self, JoinHandle};

use super::*;
use crate::error::Error;
use crate::sync::Ordering;

/// How a push ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pushed {
    Accepted,
    Closed,
    Full,
}

use Pushed::{Accepted, Closed, Full};

/// How a flush ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Flushed {
    Sent,
    Lost(u64),
}

/// Any number of preemptions.
const EXHAUSTIVE: Option<usize> = None;

/// Runs a model through all its executions; returns their outcomes.
fn outcomes<T>(
    preemptions: Option<usize>,
    model: impl Fn() -> T + Send + Sync + 'static,
) -> BTreeSet<T>
where
    T: Ord + Send + 'static,
{
    let seen = std::sync::Arc::new(std::sync::Mutex::new((0_u64, BTreeSet::new())));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 100_000;
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.check({
        let seen = std::sync::Arc::clone(&seen);
        move || {
            let outcome = model();
            let mut seen = seen.lock().unwrap();
            seen.0 += 1;
            seen.1.insert(outcome);
        }
    });
    let (executions, outcomes) = std::mem::take(&mut *seen.lock().unwrap());
    println!("{executions} executions");
    outcomes
}

/// A consumer that a failing model does not drop: after loom has failed, the drop would abort the process.
struct Writer(Option<Consumer>);

impl Deref for Writer {
    type Target = Consumer;

    fn deref(&self) -> &Consumer {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut Consumer {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

fn open(capacity: usize, overflow: Overflow) -> (Arc<Queue>, Writer) {
    open_lanes(1, capacity, overflow)
}

fn open_lanes(lanes: usize, capacity: usize, overflow: Overflow) -> (Arc<Queue>, Writer) {
    let (heap_bytes, max_content) = (pool::cost(LONG), 1 << 20);
    let limits = Limits { capacity, heap_bytes, max_content, overflow, reports_losses: false };
    let (queue, consumer) = with_lanes(limits, lanes, Arc::new(Shutdown::new()));
    (queue, Writer(Some(consumer)))
}

/// A full queue with one slot.
fn open_full(overflow: Overflow) -> (Arc<Queue>, Writer) {
    let (queue, consumer) = open(1, overflow);
    assert_eq!(push(&queue, event(0)), Accepted);
    (queue, consumer)
}

/// The length of a long event's payload, in bytes. One such event takes the whole byte budget.
const LONG: usize = 300;

/// An event to be pushed: its number, and the bytes of its payload.
#[derive(Clone, Copy)]
struct NewEvent {
    id: u64,
    bytes: usize,
}

fn event(id: u64) -> NewEvent {
    NewEvent { id, bytes: 0 }
}

fn long(id: u64) -> NewEvent {
    NewEvent { id, bytes: LONG }
}

fn id(tail: &[u8]) -> u64 {
    u64::from(tail[b"\"ts_unix_ns\":".len()] - b'0')
}

/// Pushes an event as `EventBuilder` does.
fn push(queue: &Queue, NewEvent { id, bytes }: NewEvent) -> Pushed {
    let pushed = queue.check_room(Waiting::Policy).and_then(|()| {
        let mut event = Event::blank();
        let payload = "x".repeat(bytes);
        match event.tail.write("m", id, &payload, queue.max_content(), queue.lender())? {
            None => queue.push(event, Waiting::Policy),
            Some(text) => queue.push_long(text, Waiting::Policy),
        }
    });
    match pushed {
        Ok(()) => Accepted,
        Err(Error::Shutdown) => Closed,
        Err(Error::QueueFull) => Full,
        Err(other) => panic!("{other}"),
    }
}

fn flush(queue: &Queue) -> Flushed {
    match queue.flush(Duration::MAX) {
        Ok(()) => Flushed::Sent,
        Err(Error::Undelivered { count }) => Flushed::Lost(count),
        Err(other) => panic!("{other}"),
    }
}

fn spawn<T: 'static>(
    queue: &Arc<Queue>,
    body: impl FnOnce(&Queue) -> T + 'static,
) -> JoinHandle<T> {
    let queue = Arc::clone(queue);
    thread::spawn(move || body(&queue))
}

fn spawn_push(queue: &Arc<Queue>, event: NewEvent) -> JoinHandle<Pushed> {
    spawn(queue, move |queue| push(queue, event))
}

/// A pass that takes at most `most` events.
fn pass(consumer: &mut Consumer, most: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    consumer.begin_pass();
    while taken.len() < most && consumer.take(|tail| taken.push(id(tail.as_bytes()))) {}
    consumer.end_pass(0);
    taken
}

fn send_one(consumer: &mut Consumer) -> Option<u64> {
    let taken = pass(consumer, 1);
    consumer.sent(taken.len() as u64);
    taken.first().copied()
}

fn send_batch(consumer: &mut Consumer) -> Vec<u64> {
    let batch = pass(consumer, usize::MAX);
    consumer.sent(batch.len() as u64);
    batch
}

/// The writer's loop, without heartbeats and lingering.
fn stream(consumer: &mut Consumer, queue: &Queue) -> Vec<u64> {
    let mut sent = Vec::new();
    while !queue.shutdown.is_requested() {
        consumer.begin_flush();
        let batch = send_batch(consumer);
        consumer.finish_flush();
        if batch.is_empty() {
            consumer.idle(Deadline::NEVER);
        }
        sent.extend(batch);
    }
    sent
}

/// The writer's end, once it has seen the flag.
fn drain(consumer: &mut Consumer) -> Vec<u64> {
    consumer.close();
    let sent = send_batch(consumer);
    consumer.drained();
    sent
}

/// Asserts that each accepted event was taken once, that a refused event was taken only if the closed
/// queue refused it, and that no other event was taken.
#[track_caller]
fn assert_promise(pushed: &[(u64, Pushed)], taken: &[u64]) {
    for (id, result) in pushed {
        let times = taken.iter().filter(|taken| *taken == id).count();
        match result {
            Accepted => assert_eq!(times, 1, "accepted and not taken: {pushed:?}, {taken:?}"),
            Closed => assert!(times <= 1, "taken twice: {pushed:?}, {taken:?}"),
            Full => assert_eq!(times, 0, "refused and taken: {pushed:?}, {taken:?}"),
        }
    }
    let known = |id| pushed.iter().any(|(pushed, _)| pushed == id);
    assert!(taken.iter().all(known), "{pushed:?}, {taken:?}");
}

// The closing rule.

#[test]
fn accepted_event_is_taken_after_the_closing() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut consumer) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        let requester = spawn(&queue, |queue| queue.shutdown.request());
        // The model reads the flag once. In an execution in which the flag is not set yet, it checks nothing.
        let taken = queue.shutdown.is_requested().then(|| drain(&mut consumer));
        requester.join().unwrap();
        let pushed = producer.join().unwrap();
        if let Some(taken) = &taken {
            assert_promise(&[(1, pushed)], taken);
        }
        drop(consumer);
        if taken.is_some() {
            assert_eq!(queue.stats().undelivered, 0, "refused and yet undelivered");
        }
        (pushed, taken)
    });
    let expected = [
        (Accepted, None),
        (Accepted, Some(vec![1])),
        (Closed, None),
        (Closed, Some(vec![])),
        (Closed, Some(vec![1])),
    ];
    assert_eq!(seen, expected.into());
}

#[test]
fn reserved_slot_hides_no_later_event() {
    let seen = outcomes(Some(3), || {
        let (queue, mut consumer) = open(2, Overflow::Block);
        let first = spawn_push(&queue, event(1));
        let second = spawn_push(&queue, event(2));
        queue.shutdown.request();
        let taken = drain(&mut consumer);
        let pushed = [(1, first.join().unwrap()), (2, second.join().unwrap())];
        assert_promise(&pushed, &taken);
        pushed.map(|(_, result)| result)
    });
    let expected = [[Accepted, Accepted], [Accepted, Closed], [Closed, Accepted], [Closed, Closed]];
    assert_eq!(seen, expected.into());
}

#[test]
fn accepted_event_is_counted_when_the_consumer_is_dropped() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, consumer) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        drop(consumer);
        let pushed = producer.join().unwrap();
        let undelivered = queue.stats().undelivered;
        assert!(pushed == Closed || undelivered == 1, "accepted and not counted");
        (pushed, undelivered)
    });
    assert_eq!(seen, [(Accepted, 1), (Closed, 0), (Closed, 1)].into());
}

#[test]
fn accepted_event_is_sent_or_counted() {
    let seen = outcomes(Some(2), || {
        let (queue, mut consumer) = open(1, Overflow::Block);
        let producer = spawn(&queue, |queue| [1, 2].map(|id| (id, push(queue, event(id)))));
        let requester = spawn(&queue, |queue| queue.shutdown.request());
        let mut taken = stream(&mut consumer, &queue);
        taken.extend(drain(&mut consumer));
        requester.join().unwrap();
        let pushed = producer.join().unwrap();
        assert_promise(&pushed, &taken);
        assert!(taken.is_sorted(), "a thread's events keep their order");
        pushed.map(|(_, result)| result)
    });
    assert_eq!(seen, [[Accepted, Accepted], [Accepted, Closed], [Closed, Closed]].into());
}

// Blocked producers. The outcome is the number of producers that waited; the others found room.

#[test]
fn producer_blocked_on_a_slot_is_woken() {
    let seen = outcomes(Some(3), || {
        let (queue, mut consumer) = open_full(Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        assert_eq!(send_one(&mut consumer), Some(0));
        consumer.admit_all();
        assert_eq!(producer.join().unwrap(), Accepted);
        assert_eq!(send_one(&mut consumer), Some(1));
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn producer_blocked_on_bytes_is_woken() {
    let seen = outcomes(Some(3), || {
        let (queue, mut consumer) = open(2, Overflow::Block);
        assert_eq!(push(&queue, long(0)), Accepted);
        let producer = spawn_push(&queue, long(1));
        assert_eq!(send_one(&mut consumer), Some(0));
        consumer.admit_all();
        assert_eq!(producer.join().unwrap(), Accepted);
        assert_eq!(send_one(&mut consumer), Some(1));
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn shutdown_wakes_a_blocked_producer() {
    let seen = outcomes(Some(3), || {
        let (queue, consumer) = open_full(Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        queue.shutdown.request();
        assert_eq!(producer.join().unwrap(), Closed);
        drop(consumer);
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn two_producers_blocked_on_a_slot_are_woken() {
    let seen = outcomes(Some(1), || {
        let (queue, mut consumer) = open_full(Overflow::Block);
        let producers = [1, 2].map(|id| spawn_push(&queue, event(id)));
        for _ in 0..3 {
            while send_one(&mut consumer).is_none() {
                thread::yield_now();
            }
            consumer.admit_all();
        }
        for producer in producers {
            assert_eq!(producer.join().unwrap(), Accepted);
        }
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1, 2].into());
}

/// One producer may take bytes and find no slot. It may give the bytes back only after the writer has made
/// room for the other producer.
#[test]
fn two_long_events_do_not_block_each_other() {
    let seen = outcomes(Some(1), || {
        let (queue, mut consumer) = open_full(Overflow::Block);
        let producers = [1, 2].map(|id| spawn_push(&queue, long(id)));
        let mut sent = 0;
        while sent < 3 {
            match send_one(&mut consumer) {
                Some(_) => sent += 1,
                None => consumer.idle(Deadline::NEVER),
            }
        }
        for producer in producers {
            assert_eq!(producer.join().unwrap(), Accepted);
        }
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1, 2].into());
}

// Wake-ups. The outcome is how often the writer idled or lingered before it found work. In
// `full_queue_ends_the_linger` it is how often the producer waited.

#[test]
fn event_wakes_an_idle_writer() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut consumer) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        let mut pauses = 0;
        while send_one(&mut consumer).is_none() {
            consumer.idle(Deadline::NEVER);
            pauses += 1;
        }
        assert_eq!(producer.join().unwrap(), Accepted);
        pauses
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn flush_ends_the_linger() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut consumer) = open(2, Overflow::Block);
        assert_eq!(push(&queue, event(1)), Accepted);
        let flusher = spawn(&queue, flush);
        let mut pauses = 0;
        while !consumer.is_flushing() {
            consumer.linger(Deadline::NEVER);
            pauses += 1;
        }
        consumer.begin_flush();
        assert_eq!(send_one(&mut consumer), Some(1));
        consumer.finish_flush();
        assert_eq!(flusher.join().unwrap(), Flushed::Sent);
        pauses
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn shutdown_wakes_an_idle_writer() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut consumer) = open(1, Overflow::Block);
        let requester = spawn(&queue, |queue| queue.shutdown.request());
        let mut pauses = 0;
        while !queue.shutdown.is_requested() {
            consumer.idle(Deadline::NEVER);
            pauses += 1;
        }
        requester.join().unwrap();
        pauses
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn full_queue_ends_the_linger() {
    let seen = outcomes(Some(3), || {
        let (queue, mut consumer) = open(1, Overflow::Block);
        let producer = spawn(&queue, |queue| [1, 2].map(|id| push(queue, event(id))));
        consumer.linger(Deadline::NEVER);
        // The writer may see that the producer waits before it sees the producer's first event. Then
        // the writer idles, as it does when it has found nothing to send.
        let first = send_one(&mut consumer).or_else(|| {
            consumer.idle(Deadline::NEVER);
            send_one(&mut consumer)
        });
        assert_eq!(first, Some(1));
        consumer.admit_all();
        assert_eq!(producer.join().unwrap(), [Accepted; 2]);
        assert_eq!(send_one(&mut consumer), Some(2));
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

// Flushes and refusals.

#[test]
fn flush_ends_after_earlier_events_are_sent() {
    let seen = outcomes(Some(3), || {
        let (queue, mut consumer) = open(1, Overflow::Block);
        let producer = spawn(&queue, |queue| {
            assert_eq!(push(queue, event(1)), Accepted);
            let flushed = flush(queue);
            let sent = queue.counters.sent.get();
            queue.shutdown.request();
            (flushed, sent)
        });
        stream(&mut consumer, &queue);
        producer.join().unwrap()
    });
    assert_eq!(seen, [(Flushed::Sent, 1)].into());
}

#[test]
fn flush_during_the_shutdown_returns_its_result() {
    for drains in [true, false] {
        let seen = outcomes(Some(2), move || {
            let (queue, mut consumer) = open(1, Overflow::Block);
            let producer = spawn(&queue, |queue| {
                let pushed = push(queue, event(1));
                let flushed = flush(queue);
                (pushed, flushed, queue.counters.sent.get())
            });
            queue.shutdown.request();
            if drains {
                drain(&mut consumer);
            }
            drop(consumer);
            producer.join().unwrap()
        });
        let end =
            if drains { (Accepted, Flushed::Sent, 1) } else { (Accepted, Flushed::Lost(1), 0) };
        assert!(seen.contains(&end), "{seen:?}");
        let promised = |seen: &(_, _, _)| seen.0 == Closed || *seen == end;
        assert!(seen.iter().all(promised), "{seen:?}");
    }
}

#[test]
fn flush_at_the_end_sees_the_events_in_flight() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut consumer) = open(1, Overflow::Block);
        assert_eq!(push(&queue, event(1)), Accepted);
        assert_eq!(pass(&mut consumer, 1), [1]);
        let flusher = spawn(&queue, flush);
        // The event was taken, and is not sent.
        drop(consumer);
        flusher.join().unwrap()
    });
    assert_eq!(seen, [Flushed::Lost(1)].into());
}

#[test]
fn every_refusal_is_counted_before_the_count_closes() {
    let seen = outcomes(Some(3), || {
        let (queue, mut consumer) = open_full(Overflow::Refuse);
        let producer = spawn(&queue, |queue| [1, 2].map(|id| push(queue, event(id))));
        queue.shutdown.request();
        let taken = drain(&mut consumer);
        consumer.close_losses();
        let refused = consumer.losses().refused;
        let pushed = producer.join().unwrap();
        assert_promise(&[(0, Accepted), (1, pushed[0]), (2, pushed[1])], &taken);
        let full = pushed.iter().filter(|result| **result == Full).count();
        assert_eq!(refused, full as u64);
        assert_eq!(consumer.losses().refused, refused, "the count is closed");
        pushed
    });
    assert_eq!(seen, [[Closed, Closed], [Full, Closed], [Full, Full]].into());
}

#[test]
fn loss_counter_counts_accepted_losses() {
    let seen = outcomes(EXHAUSTIVE, || {
        let counter = Arc::new(LossCounter::new());
        let add = |number, events| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || {
                super::thread::set_number(number);
                counter.add(events)
            })
        };
        let adds = [add(0, 1), add(1, 2)];
        counter.close();
        let count = counter.count();
        let [first, second] = adds.map(|add| add.join().unwrap());
        assert_eq!(count, u64::from(first) + 2 * u64::from(second));
        assert_eq!(counter.count(), count, "the count is closed");
        (first, second)
    });
    assert_eq!(seen, [(false, false), (false, true), (true, false), (true, true)].into());
}

/// A producer that finds the queue full sets the flag for all producers; the writer clears it.
#[test]
fn full_flag_is_cleared_after_room_was_made() {
    let seen = outcomes(Some(3), || {
        let (queue, mut consumer) = open_full(Overflow::Refuse);
        let producer = spawn_push(&queue, event(1));
        assert_eq!(send_one(&mut consumer), Some(0));
        let first = producer.join().unwrap();
        let left = send_batch(&mut consumer).len();
        assert_eq!(left, usize::from(first == Accepted));
        assert_eq!(push(&queue, event(2)), Accepted, "the queue is empty");
        first
    });
    assert_eq!(seen, [Accepted, Full].into());
}

/// A turn reserves a slot. A thread that finds no other slot may set the flag after the last event was
/// taken. Then the thread that ends the turn clears the flag.
#[test]
fn full_flag_is_cleared_at_the_end_of_a_turn() {
    let seen = outcomes(Some(3), || {
        let (queue, mut consumer) = open_full(Overflow::Refuse);
        let producer = spawn_push(&queue, event(1));
        assert_eq!(send_one(&mut consumer), Some(0));
        let mut taken = send_batch(&mut consumer);
        let second = push(&queue, event(2));
        let first = producer.join().unwrap();
        taken.extend(send_batch(&mut consumer));
        assert_promise(&[(1, first), (2, second)], &taken);
        assert_eq!(push(&queue, event(3)), Accepted, "the queue is empty");
        (first, second)
    });
    let expected = [(Accepted, Accepted), (Accepted, Full), (Full, Accepted), (Full, Full)];
    assert_eq!(seen, expected.into());
}

// Two lanes.

/// Pushes an event from a thread with this number.
fn push_from(queue: &Queue, number: usize, event: NewEvent) -> Pushed {
    super::thread::set_number(number);
    push(queue, event)
}

#[test]
fn accepted_events_of_two_lanes_are_taken_at_the_end() {
    let seen = outcomes(Some(2), || {
        let (queue, mut consumer) = open_lanes(2, 2, Overflow::Block);
        let first = spawn(&queue, |queue| push_from(queue, 0, event(1)));
        let second = spawn(&queue, |queue| push_from(queue, 1, event(2)));
        queue.shutdown.request();
        let taken = drain(&mut consumer);
        let pushed = [(1, first.join().unwrap()), (2, second.join().unwrap())];
        assert_promise(&pushed, &taken);
        pushed.map(|(_, result)| result)
    });
    let expected = [[Accepted, Accepted], [Accepted, Closed], [Closed, Accepted], [Closed, Closed]];
    assert_eq!(seen, expected.into());
}

/// Pushes from two threads' numbers, like a task that moves to another thread between two emits.
fn push_from_both(queue: &Queue) {
    assert_eq!(push_from(queue, 0, event(1)), Accepted);
    assert_eq!(push_from(queue, 1, event(2)), Accepted);
}

/// Takes events in passes, and checks that event 1 is taken before event 2. The last pass begins when `others`
/// have ended. The earlier passes run while `others` push.
fn assert_order<const N: usize>(consumer: &mut Consumer, others: [JoinHandle<()>; N]) -> Vec<u64> {
    let mut taken = pass(consumer, usize::MAX);
    if N > 1 {
        taken.extend(pass(consumer, usize::MAX));
    }
    for other in others {
        other.join().unwrap();
    }
    taken.extend(pass(consumer, usize::MAX));
    consumer.sent(taken.len() as u64);
    let place = |id| taken.iter().position(|taken| *taken == id).unwrap();
    assert!(place(1) < place(2), "{taken:?}");
    taken
}

#[test]
fn event_of_an_earlier_emit_is_taken_first() {
    let seen = outcomes(Some(2), || {
        let (queue, mut consumer) = open_lanes(2, 4, Overflow::Block);
        let first = spawn(&queue, |queue| assert_eq!(push_from(queue, 0, event(1)), Accepted));
        let second = spawn(&queue, |queue| {
            // Only this join orders the two pushes. Nothing orders the first push before the passes.
            first.join().unwrap();
            assert_eq!(push_from(queue, 1, event(2)), Accepted);
        });
        assert_order(&mut consumer, [second])
    });
    assert_eq!(seen, [vec![1, 2]].into());
}

/// The third event may be ahead of the first in its lane.
#[test]
fn earlier_event_is_taken_first_from_a_lane_in_use() {
    let seen = outcomes(Some(1), || {
        let (queue, mut consumer) = open_lanes(2, 4, Overflow::Block);
        let other = spawn(&queue, |queue| assert_eq!(push_from(queue, 0, event(3)), Accepted));
        assert_order(&mut consumer, [spawn(&queue, push_from_both), other])
    });
    assert_eq!(seen, [vec![1, 2, 3], vec![1, 3, 2], vec![3, 1, 2]].into());
}

#[test]
fn event_in_either_lane_wakes_an_idle_writer() {
    for number in [0, 1] {
        let seen = outcomes(Some(2), move || {
            let (queue, mut consumer) = open_lanes(2, 2, Overflow::Block);
            let producer = spawn(&queue, move |queue| push_from(queue, number, event(1)));
            let mut pauses = 0;
            while send_one(&mut consumer).is_none() {
                consumer.idle(Deadline::NEVER);
                pauses += 1;
            }
            assert_eq!(producer.join().unwrap(), Accepted);
            pauses
        });
        // An event beyond the cut is taken in the next pass. The `idle` call before that returns at once,
        // and counts as a pause too.
        assert!(seen.contains(&0) && seen.contains(&1), "{seen:?}");
    }
}

/// The writer may read the number of tickets after a draw and the lengths of the lanes before the push. Events
/// at the heads of the lanes are not in the estimate.
#[test]
fn estimate_misses_only_a_push_in_progress() {
    let seen = outcomes(Some(2), || {
        let (queue, mut consumer) = open_lanes(2, 4, Overflow::Block);
        let producer = spawn(&queue, push_from_both);
        let taken = pass(&mut consumer, usize::MAX).len();
        producer.join().unwrap();
        let (estimate, queued) = (queue.lanes.estimate(), queue.lanes.len());
        assert!(estimate + 1 >= queued, "{estimate} instead of {queued}");
        taken
    });
    assert_eq!(seen, [0, 1, 2].into());
}

/// The second event is pushed after the first is sent, so the largest number is one.
#[test]
fn high_water_counts_no_event_twice() {
    let seen = outcomes(Some(2), || {
        let (queue, mut consumer) = open_lanes(2, 2, Overflow::Block);
        let reader = spawn(&queue, |queue| queue.stats().queue_high_water);
        assert_eq!(push(&queue, event(0)), Accepted);
        assert_eq!(send_one(&mut consumer), Some(0));
        assert_eq!(push(&queue, event(1)), Accepted);
        let seen = reader.join().unwrap();
        assert_eq!(queue.stats().queue_high_water, 1);
        seen
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn flush_covers_both_lanes() {
    let seen = outcomes(Some(2), || {
        let (queue, mut consumer) = open_lanes(2, 4, Overflow::Block);
        let flusher = spawn(&queue, |queue| {
            assert_eq!(push_from(queue, 0, event(1)), Accepted);
            assert_eq!(push_from(queue, 1, event(2)), Accepted);
            let flushed = flush(queue);
            let sent = queue.counters.sent.get();
            queue.shutdown.request();
            (flushed, sent)
        });
        stream(&mut consumer, &queue);
        flusher.join().unwrap()
    });
    assert_eq!(seen, [(Flushed::Sent, 2)].into());
}

// The gate alone, with a count of slots.

mod gate_alone {
    use super::*;
    use crate::queue::gate::{Gate, Place, Waited};
    use crate::queue::need::Need;
    use crate::sync::AtomicUsize;

    struct Slots {
        gate: Gate,
        free: AtomicUsize,
        used: AtomicUsize,
    }

    impl Slots {
        fn new(free: usize) -> Arc<Self> {
            let (free, used) = (AtomicUsize::new(free), AtomicUsize::new(0));
            Arc::new(Self { gate: Gate::new(), free, used })
        }

        fn has_room(&self, others: Need, event: Need) -> bool {
            others.slots + event.slots <= self.free.load(Ordering::Relaxed)
        }

        /// Waits for a turn and uses its slot; false if the wait was released instead.
        fn use_one(&self) -> bool {
            let need = Need::event(0);
            let room = &|others, event| self.has_room(others, event);
            if let Place::InQueue(waiter) = self.gate.join(need, room) {
                match self.gate.wait(&waiter, Deadline::NEVER, room) {
                    Waited::Turn => {}
                    Waited::TimedOut | Waited::Released => return false,
                }
            }
            let before = self.free.fetch_sub(1, Ordering::Relaxed);
            assert!(before > 0, "a turn without a slot");
            self.used.fetch_add(1, Ordering::Relaxed);
            if self.gate.done(need) {
                // A slot may have been freed before this turn ended.
                self.gate.admit(usize::MAX, room);
            }
            true
        }

        fn free_one(&self) {
            self.free.fetch_add(1, Ordering::Relaxed);
            if self.gate.has_waiters() {
                self.gate.admit(usize::MAX, &|others, event| self.has_room(others, event));
            }
        }
    }

    fn spawn_use(slots: &Arc<Slots>) -> JoinHandle<bool> {
        let slots = Arc::clone(slots);
        thread::spawn(move || slots.use_one())
    }

    #[test]
    fn freed_slot_gives_a_turn() {
        let seen = outcomes(EXHAUSTIVE, || {
            let slots = Slots::new(0);
            let producer = spawn_use(&slots);
            slots.free_one();
            assert!(producer.join().unwrap());
            slots.gate.waits()
        });
        assert_eq!(seen, [0, 1].into());
    }

    #[test]
    fn each_slot_gives_one_turn() {
        let seen = outcomes(Some(2), || {
            let slots = Slots::new(0);
            let producers = [spawn_use(&slots), spawn_use(&slots)];
            slots.free_one();
            slots.free_one();
            for producer in producers {
                assert!(producer.join().unwrap());
            }
            assert_eq!(slots.used.load(Ordering::Relaxed), 2);
            assert_eq!(slots.gate.waiting(), 0);
            slots.gate.waits()
        });
        assert_eq!(seen, [0, 1, 2].into());
    }

    #[test]
    fn release_ends_every_wait() {
        let seen = outcomes(Some(2), || {
            let slots = Slots::new(1);
            let producers = [spawn_use(&slots), spawn_use(&slots)];
            let mut used = 0;
            // One producer uses the slot, and the other one waits.
            while slots.gate.waits() == 0 {
                thread::yield_now();
            }
            slots.gate.release_all();
            for producer in producers {
                used += u64::from(producer.join().unwrap());
            }
            used
        });
        assert_eq!(seen, [1].into());
    }
}
