//! The queue under loom, which runs a few threads in every order, and lets each load return every
//! value that the memory model allows. Run with
//! `RUSTFLAGS="--cfg wedr_loom" cargo test --lib --release queue::model`.
//!
//! A lost wake-up shows as loom's "deadlock", or as a writer that looks for events more often than
//! loom allows ("maximum number of branches"). Each model also names all its outcomes: one that no
//! longer meets the race it is about fails too. With three threads or more, threads are preempted
//! a bounded number of times; `LOOM_MAX_PREEMPTIONS` sets another bound, for all models.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use loom::thread::{self, JoinHandle};

use super::*;

/// How a push ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pushed {
    Accepted,
    Closed,
    Full,
}

use Pushed::{Accepted, Closed, Full};

/// What became of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Flushed {
    Sent,
    Lost(u64),
}

/// Any number of preemptions.
const EXHAUSTIVE: Option<usize> = None;

/// Runs a model through all its executions; returns what came out of them.
fn outcomes<T>(
    preemptions: Option<usize>,
    model: impl Fn() -> T + Send + Sync + 'static,
) -> BTreeSet<T>
where
    T: Ord + Send + 'static,
{
    let seen = std::sync::Arc::new(std::sync::Mutex::new((0_u64, BTreeSet::new())));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
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

/// An outlet that a failing model leaves alone: to drop it once loom has given up would abort.
struct Writer(Option<Outlet>);

impl Deref for Writer {
    type Target = Outlet;

    fn deref(&self) -> &Outlet {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut Outlet {
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
    let limits = Limits { capacity, heap_bytes: long(0).heap_bytes(), max_body: 1 << 20, overflow };
    let (queue, outlet) = queue(limits, Arc::new(Shutdown::new()));
    (queue, Writer(Some(outlet)))
}

/// A queue with room for one event, which has it already.
fn open_full(overflow: Overflow) -> (Arc<Queue>, Writer) {
    let (queue, outlet) = open(1, overflow);
    assert_eq!(push(&queue, event(0)), Accepted);
    (queue, outlet)
}

fn event(id: u64) -> EventTail {
    EventTail::encode("m", id, &(), 1 << 20).unwrap()
}

/// An event that takes the whole byte budget.
fn long(id: u64) -> EventTail {
    EventTail::encode("m", id, &"x".repeat(300), 1 << 20).unwrap()
}

fn id(event: &EventTail) -> u64 {
    u64::from(event.as_bytes()[b"\"ts_unix_ns\":".len()] - b'0')
}

fn push(queue: &Queue, event: EventTail) -> Pushed {
    match queue.push(event, Waiting::Policy) {
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

fn spawn_push(queue: &Arc<Queue>, event: EventTail) -> JoinHandle<Pushed> {
    spawn(queue, move |queue| push(queue, event))
}

fn send_one(outlet: &mut Outlet) -> Option<u64> {
    let event = outlet.take().ok()?;
    outlet.sent(1);
    Some(id(&event))
}

fn send_batch(outlet: &mut Outlet) -> Vec<u64> {
    let mut batch = Vec::new();
    while let Ok(event) = outlet.take() {
        batch.push(id(&event));
    }
    outlet.sent(batch.len() as u64);
    batch
}

/// The writer's loop, without heartbeats and lingering.
fn stream(outlet: &mut Outlet, queue: &Queue) -> Vec<u64> {
    let mut sent = Vec::new();
    while !queue.shutdown.is_requested() {
        outlet.begin_flush();
        let batch = send_batch(outlet);
        outlet.finish_flush();
        if batch.is_empty() {
            outlet.idle(Deadline::NEVER);
        }
        sent.extend(batch);
    }
    sent
}

/// The writer's end, once it has seen the flag.
fn drain(outlet: &mut Outlet) -> Vec<u64> {
    outlet.close();
    let sent = send_batch(outlet);
    outlet.drained();
    sent
}

/// What was accepted was taken, once; what was refused may have been taken only if it was
/// refused by the closing; nothing else was taken.
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
fn what_is_accepted_is_taken_after_the_closing() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        let requester = spawn(&queue, |queue| queue.shutdown.request());
        // One look at the flag: the executions in which it comes too early show nothing.
        let taken = queue.shutdown.is_requested().then(|| drain(&mut outlet));
        requester.join().unwrap();
        let pushed = producer.join().unwrap();
        if let Some(taken) = &taken {
            assert_promise(&[(1, pushed)], taken);
        }
        drop(outlet);
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
fn a_slot_that_is_reserved_hides_no_event_behind_it() {
    let seen = outcomes(Some(3), || {
        let (queue, mut outlet) = open(2, Overflow::Block);
        let first = spawn_push(&queue, event(1));
        let second = spawn_push(&queue, event(2));
        queue.shutdown.request();
        let taken = drain(&mut outlet);
        let pushed = [(1, first.join().unwrap()), (2, second.join().unwrap())];
        assert_promise(&pushed, &taken);
        pushed.map(|(_, result)| result)
    });
    let expected = [[Accepted, Accepted], [Accepted, Closed], [Closed, Accepted], [Closed, Closed]];
    assert_eq!(seen, expected.into());
}

#[test]
fn what_is_accepted_is_counted_when_the_outlet_is_dropped() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, outlet) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        drop(outlet);
        let pushed = producer.join().unwrap();
        let undelivered = queue.stats().undelivered;
        assert!(pushed == Closed || undelivered == 1, "accepted and not counted");
        (pushed, undelivered)
    });
    assert_eq!(seen, [(Accepted, 1), (Closed, 0), (Closed, 1)].into());
}

#[test]
fn a_session_keeps_its_promise() {
    let seen = outcomes(Some(2), || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let producer = spawn(&queue, |queue| [1, 2].map(|id| (id, push(queue, event(id)))));
        let requester = spawn(&queue, |queue| queue.shutdown.request());
        let mut taken = stream(&mut outlet, &queue);
        taken.extend(drain(&mut outlet));
        requester.join().unwrap();
        let pushed = producer.join().unwrap();
        assert_promise(&pushed, &taken);
        assert!(taken.is_sorted(), "a thread's events keep their order");
        pushed.map(|(_, result)| result)
    });
    assert_eq!(seen, [[Accepted, Accepted], [Accepted, Closed], [Closed, Closed]].into());
}

// The room condvars. An outcome of 0 says that the producer found room, 1 that it waited.

#[test]
fn who_waits_for_a_slot_is_woken() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut outlet) = open_full(Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        assert_eq!(send_one(&mut outlet), Some(0));
        outlet.make_room_before_waiting();
        assert_eq!(producer.join().unwrap(), Accepted);
        assert_eq!(send_one(&mut outlet), Some(1));
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn who_waits_for_bytes_is_woken() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut outlet) = open(2, Overflow::Block);
        assert_eq!(push(&queue, long(0)), Accepted);
        let producer = spawn_push(&queue, long(1));
        assert_eq!(send_one(&mut outlet), Some(0));
        outlet.make_room();
        assert_eq!(producer.join().unwrap(), Accepted);
        assert_eq!(send_one(&mut outlet), Some(1));
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn who_waits_for_room_is_woken_by_the_shutdown() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, outlet) = open_full(Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        queue.shutdown.request();
        assert_eq!(producer.join().unwrap(), Closed);
        drop(outlet);
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn two_who_wait_for_a_slot_are_woken() {
    let seen = outcomes(Some(2), || {
        let (queue, mut outlet) = open_full(Overflow::Block);
        let producers = [1, 2].map(|id| spawn_push(&queue, event(id)));
        for _ in 0..3 {
            while send_one(&mut outlet).is_none() {
                thread::yield_now();
            }
            outlet.make_room_before_waiting();
        }
        for producer in producers {
            assert_eq!(producer.join().unwrap(), Accepted);
        }
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1, 2].into());
}

/// One of them may hold bytes for a moment, find no slot, and give the bytes back when the writer
/// has long made room for the other.
#[test]
fn two_with_long_events_do_not_wait_for_each_other() {
    let seen = outcomes(Some(2), || {
        let (queue, mut outlet) = open_full(Overflow::Block);
        let producers = [1, 2].map(|id| spawn_push(&queue, long(id)));
        let mut sent = 0;
        while sent < 3 {
            match send_one(&mut outlet) {
                Some(_) => sent += 1,
                None => outlet.idle(Deadline::NEVER),
            }
        }
        for producer in producers {
            assert_eq!(producer.join().unwrap(), Accepted);
        }
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1, 2].into());
}

// The bell. An outcome of 0 says that the writer found something to do, 1 that it rested.

#[test]
fn an_event_wakes_an_idle_writer() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        let mut rests = 0;
        while send_one(&mut outlet).is_none() {
            outlet.idle(Deadline::NEVER);
            rests += 1;
        }
        assert_eq!(producer.join().unwrap(), Accepted);
        rests
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn a_flush_wakes_an_idle_writer() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let flusher = spawn(&queue, flush);
        let mut rests = 0;
        while !outlet.is_flushing() {
            outlet.idle(Deadline::NEVER);
            rests += 1;
        }
        outlet.begin_flush();
        outlet.finish_flush();
        assert_eq!(flusher.join().unwrap(), Flushed::Sent);
        rests
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn the_shutdown_wakes_an_idle_writer() {
    let seen = outcomes(EXHAUSTIVE, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let requester = spawn(&queue, |queue| queue.shutdown.request());
        let mut rests = 0;
        while !queue.shutdown.is_requested() {
            outlet.idle(Deadline::NEVER);
            rests += 1;
        }
        requester.join().unwrap();
        rests
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn a_full_queue_ends_the_linger() {
    let seen = outcomes(Some(3), || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let producer = spawn(&queue, |queue| [1, 2].map(|id| push(queue, event(id))));
        outlet.linger(Deadline::NEVER);
        // Who waits may be seen before what it has put in: then the writer idles, as it does when
        // it has found nothing to send.
        let first = send_one(&mut outlet).or_else(|| {
            outlet.idle(Deadline::NEVER);
            send_one(&mut outlet)
        });
        assert_eq!(first, Some(1));
        outlet.make_room_before_waiting();
        assert_eq!(producer.join().unwrap(), [Accepted; 2]);
        assert_eq!(send_one(&mut outlet), Some(2));
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

// Flushes and refusals.

#[test]
fn a_flush_ends_after_what_was_accepted_before_it_is_sent() {
    let seen = outcomes(Some(3), || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let producer = spawn(&queue, |queue| {
            assert_eq!(push(queue, event(1)), Accepted);
            let flushed = flush(queue);
            let sent = queue.stats().sent;
            queue.shutdown.request();
            (flushed, sent)
        });
        stream(&mut outlet, &queue);
        producer.join().unwrap()
    });
    assert_eq!(seen, [(Flushed::Sent, 1)].into());
}

#[test]
fn a_flush_during_the_shutdown_says_how_it_ended() {
    for drains in [true, false] {
        let seen = outcomes(EXHAUSTIVE, move || {
            let (queue, mut outlet) = open(1, Overflow::Block);
            let producer = spawn(&queue, |queue| {
                let pushed = push(queue, event(1));
                let flushed = flush(queue);
                (pushed, flushed, queue.stats().sent)
            });
            queue.shutdown.request();
            if drains {
                drain(&mut outlet);
            }
            drop(outlet);
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
fn every_refusal_is_counted_before_the_count_closes() {
    let seen = outcomes(Some(2), || {
        let (queue, mut outlet) = open_full(Overflow::Refuse);
        let producers = [1, 2].map(|id| spawn_push(&queue, event(id)));
        queue.shutdown.request();
        let taken = drain(&mut outlet);
        outlet.close_refusals();
        let refused = outlet.refused();
        let [first, second] = producers.map(|producer| producer.join().unwrap());
        assert_promise(&[(0, Accepted), (1, first), (2, second)], &taken);
        let full = [first, second].iter().filter(|result| **result == Full).count();
        assert_eq!(refused, full as u64);
        assert_eq!(outlet.refused(), refused, "the count is closed");
        [first, second]
    });
    for results in [[Closed, Closed], [Closed, Full], [Full, Closed], [Full, Full]] {
        assert!(seen.contains(&results), "{results:?} in {seen:?}");
    }
}
