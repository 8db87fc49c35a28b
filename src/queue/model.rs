//! The queue under loom, which runs every interleaving of a few threads, with every value that
//! the memory model lets a load return. Run with
//! `RUSTFLAGS="--cfg wedr_loom" cargo test --lib --release queue::model`.
//!
//! A lost wake-up shows as loom's "deadlock". Each model also names all the outcomes it expects,
//! so that one which has stopped meeting a race fails too. A model without a bound on preemptions
//! is exhaustive; `LOOM_MAX_PREEMPTIONS` bounds (or widens) the others.

use std::collections::BTreeSet;

use loom::thread::{self, JoinHandle};

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pushed {
    Accepted,
    Closed,
    Full,
}

use Pushed::{Accepted, Closed, Full};

/// Runs a model through all its executions; returns what came out of them.
fn outcomes<T>(bound: Option<usize>, model: impl Fn() -> T + Send + Sync + 'static) -> BTreeSet<T>
where
    T: Ord + Send + 'static,
{
    let seen = std::sync::Arc::new(std::sync::Mutex::new((0_u64, BTreeSet::new())));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    builder.preemption_bound = builder.preemption_bound.or(bound);
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

fn open(capacity: usize, overflow: Overflow) -> (Arc<Queue>, Outlet) {
    let limits = Limits { capacity, heap_bytes: long(0).heap_bytes(), max_body: 1 << 20, overflow };
    queue(limits, Arc::new(Shutdown::new()))
}

fn event(id: u64) -> EventTail {
    EventTail::encode("m", id, &(), 1 << 20).unwrap()
}

/// An event that uses the whole byte budget.
fn long(id: u64) -> EventTail {
    EventTail::encode("m", id, &"x".repeat(300), 1 << 20).unwrap()
}

fn id(event: &EventTail) -> u64 {
    let digits = &event.as_bytes()[b"\"ts_unix_ns\":".len()..];
    u64::from(digits[0] - b'0')
}

fn push(queue: &Queue, event: EventTail) -> Pushed {
    match queue.push(event, Patience::Policy) {
        Ok(()) => Accepted,
        Err(Error::Shutdown) => Closed,
        Err(Error::QueueFull) => Full,
        Err(other) => panic!("{other}"),
    }
}

fn spawn_push(queue: &Arc<Queue>, event: EventTail) -> JoinHandle<Pushed> {
    let queue = Arc::clone(queue);
    thread::spawn(move || push(&queue, event))
}

fn spawn_shutdown(queue: &Queue) -> JoinHandle<()> {
    let shutdown = Arc::clone(&queue.shutdown);
    thread::spawn(move || shutdown.request())
}

/// As the writer does: takes what is there, and sends it.
fn send_batch(outlet: &mut Outlet) -> Vec<u64> {
    let mut batch = Vec::new();
    while let Some(event) = outlet.take() {
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

/// The writer's end, if it has seen the flag by now.
fn drain(outlet: &mut Outlet) -> Vec<u64> {
    outlet.close();
    let sent = send_batch(outlet);
    outlet.drained();
    sent
}

/// What was accepted must be among `taken`, and there once.
fn assert_promise(pushed: &[(u64, Pushed)], taken: &[u64]) {
    for (id, result) in pushed {
        let times = taken.iter().filter(|taken| *taken == id).count();
        match result {
            Accepted => assert_eq!(times, 1, "an accepted event was lost: {pushed:?} {taken:?}"),
            // It may have been taken in the instant that it was refused in.
            Closed => assert!(times <= 1),
            Full => assert_eq!(times, 0),
        }
    }
    let known = |id| pushed.iter().any(|(pushed, _)| pushed == id);
    assert!(taken.iter().all(known), "{pushed:?} {taken:?}");
}

#[test]
fn what_is_accepted_is_taken_after_closing() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        let requester = spawn_shutdown(&queue);
        let mut taken = Vec::new();
        let closing = queue.shutdown.is_requested();
        if closing {
            taken = drain(&mut outlet);
        }
        requester.join().unwrap();
        let pushed = producer.join().unwrap();
        if !closing {
            taken = drain(&mut outlet);
        }
        assert_promise(&[(1, pushed)], &taken);
        (closing, pushed, taken)
    });
    assert_eq!(
        seen,
        [
            (false, Accepted, vec![1]),
            (false, Closed, vec![]),
            (false, Closed, vec![1]),
            (true, Accepted, vec![1]),
            (true, Closed, vec![]),
            (true, Closed, vec![1])
        ]
        .into()
    );
}

#[test]
fn two_producers() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(2, Overflow::Block);
        let first = spawn_push(&queue, event(1));
        let second = spawn_push(&queue, event(2));
        queue.shutdown.request();
        let taken = drain(&mut outlet);
        let pushed = [(1, first.join().unwrap()), (2, second.join().unwrap())];
        assert_promise(&pushed, &taken);
        pushed.map(|(_, pushed)| pushed)
    });
    let expected = [[Accepted, Accepted], [Accepted, Closed], [Closed, Accepted], [Closed, Closed]];
    assert_eq!(seen, expected.into());
}

#[test]
fn dropped() {
    let seen = outcomes(None, || {
        let (queue, outlet) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        drop(outlet);
        let pushed = producer.join().unwrap();
        let undelivered = queue.stats().undelivered;
        if pushed == Accepted {
            assert_eq!(undelivered, 1);
        }
        (pushed, undelivered)
    });
    assert_eq!(seen, [(Accepted, 1), (Closed, 0), (Closed, 1)].into());
}

#[test]
fn room() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        assert_eq!(push(&queue, event(0)), Accepted);
        let producer = spawn_push(&queue, event(1));
        assert_eq!(send_one(&mut outlet), Some(0));
        outlet.make_room_before_waiting();
        assert_eq!(producer.join().unwrap(), Accepted);
        assert_eq!(send_one(&mut outlet), Some(1));
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

fn send_one(outlet: &mut Outlet) -> Option<u64> {
    let event = outlet.take()?;
    outlet.sent(1);
    Some(id(&event))
}

#[test]
fn room_closed() {
    let seen = outcomes(None, || {
        let (queue, _outlet) = open(1, Overflow::Block);
        assert_eq!(push(&queue, event(0)), Accepted);
        let producer = spawn_push(&queue, event(1));
        queue.shutdown.request();
        assert_eq!(producer.join().unwrap(), Closed);
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn room_bytes() {
    let seen = outcomes(None, || {
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
fn bell_event() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        let mut naps = 0;
        while send_one(&mut outlet).is_none() {
            outlet.idle(Deadline::NEVER);
            naps += 1;
        }
        assert_eq!(producer.join().unwrap(), Accepted);
        naps
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn bell_shutdown() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let requester = spawn_shutdown(&queue);
        let mut naps = 0;
        while !queue.shutdown.is_requested() {
            outlet.idle(Deadline::NEVER);
            naps += 1;
        }
        requester.join().unwrap();
        naps
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn bell_flush() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let flusher = spawn_flush(&queue);
        let mut naps = 0;
        while !outlet.is_flushing() {
            outlet.idle(Deadline::NEVER);
            naps += 1;
        }
        outlet.begin_flush();
        outlet.finish_flush();
        assert!(flusher.join().unwrap().is_ok());
        naps
    });
    assert_eq!(seen, [0, 1].into());
}

fn spawn_flush(queue: &Arc<Queue>) -> JoinHandle<Result<()>> {
    let queue = Arc::clone(queue);
    thread::spawn(move || queue.flush(Duration::MAX))
}

#[test]
fn linger_full() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        assert_eq!(push(&queue, event(0)), Accepted);
        let producer = spawn_push(&queue, event(1));
        outlet.linger(Deadline::NEVER);
        assert_eq!(send_one(&mut outlet), Some(0));
        outlet.make_room_before_waiting();
        assert_eq!(producer.join().unwrap(), Accepted);
        assert_eq!(send_one(&mut outlet), Some(1));
        queue.stats().waits
    });
    assert_eq!(seen, [0, 1].into());
}

#[test]
fn flush() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                assert_eq!(push(&queue, event(1)), Accepted);
                queue.flush(Duration::MAX).unwrap();
                let sent = queue.stats().sent;
                queue.shutdown.request();
                sent
            })
        };
        stream(&mut outlet, &queue);
        producer.join().unwrap()
    });
    assert_eq!(seen, [1].into());
}

#[test]
fn refusals() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(1, Overflow::Refuse);
        assert_eq!(push(&queue, event(0)), Accepted);
        let first = spawn_push(&queue, event(1));
        let second = spawn_push(&queue, event(2));
        queue.shutdown.request();
        let taken = drain(&mut outlet);
        let refused = outlet.close_refusals();
        let pushed = [(0, Accepted), (1, first.join().unwrap()), (2, second.join().unwrap())];
        assert_promise(&pushed, &taken);
        let full = pushed.iter().filter(|(_, pushed)| *pushed == Full).count();
        assert_eq!(refused, full as u64);
        pushed.map(|(_, pushed)| pushed)
    });
    println!("{seen:?}");
}

#[test]
fn long_pair() {
    let seen = outcomes(Some(2), || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        assert_eq!(push(&queue, event(0)), Accepted);
        let first = spawn_push(&queue, long(1));
        let second = spawn_push(&queue, long(2));
        let mut taken = Vec::new();
        while taken.len() < 3 {
            match send_one(&mut outlet) {
                Some(id) => taken.push(id),
                None => thread::yield_now(),
            }
            outlet.make_room_before_waiting();
        }
        first.join().unwrap();
        second.join().unwrap();
        queue.stats().waits
    });
    println!("{seen:?}");
}

#[test]
fn room_two() {
    let seen = outcomes(Some(2), || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        assert_eq!(push(&queue, event(0)), Accepted);
        let first = spawn_push(&queue, event(1));
        let second = spawn_push(&queue, event(2));
        let mut taken = Vec::new();
        while taken.len() < 3 {
            match send_one(&mut outlet) {
                Some(id) => taken.push(id),
                None => thread::yield_now(),
            }
            outlet.make_room_before_waiting();
        }
        first.join().unwrap();
        second.join().unwrap();
        queue.stats().waits
    });
    println!("{seen:?}");
}
