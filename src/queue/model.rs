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
    builder.preemption_bound = bound.map(|n| builder.preemption_bound.unwrap_or(n));
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

/// What was accepted must be among `taken`, and there once.
fn assert_promise(pushed: &[(u64, Pushed)], taken: &[u64]) {
    for (id, pushed) in pushed {
        let times = taken.iter().filter(|taken| *taken == id).count();
        match pushed {
            Accepted => assert_eq!(times, 1, "an accepted event was lost: {pushed:?} {taken:?}"),
            // It may have been taken in the instant that it was refused in.
            Closed => assert!(times <= 1),
            Full => assert_eq!(times, 0),
        }
    }
}

#[test]
fn what_is_accepted_is_taken_after_closing() {
    let seen = outcomes(None, || {
        let (queue, mut outlet) = open(1, Overflow::Block);
        let producer = spawn_push(&queue, event(1));
        let requester = spawn_shutdown(&queue);
        while !queue.shutdown.is_requested() {
            thread::yield_now();
        }
        outlet.close();
        let taken = send_batch(&mut outlet);
        requester.join().unwrap();
        let pushed = producer.join().unwrap();
        assert_promise(&[(1, pushed)], &taken);
        (pushed, taken)
    });
    let expected = [(Accepted, vec![1]), (Closed, vec![]), (Closed, vec![1])];
    assert_eq!(seen, expected.into());
}
