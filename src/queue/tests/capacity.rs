//! How many events the queue holds, and when it refuses one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use fastrand::Rng;

use super::*;

const SHAPES: [(usize, usize); 9] =
    [(1, 1), (1, 7), (1, 4096), (2, 2), (2, 7), (2, 4096), (4, 4), (4, 7), (4, 8192)];
const BUDGET: usize = 64 << 20;

#[test]
fn one_thread_fills_the_whole_queue() {
    for (lanes, capacity) in SHAPES {
        for bytes in [SHORT, LONG] {
            let (queue, mut consumer) = open_lanes(lanes, capacity, BUDGET);
            let push = |_: &usize| push(&queue, bytes, Waiting::Never).is_ok();
            let fill = || (0..2 * capacity).take_while(push).count();
            assert_eq!(fill(), capacity, "{lanes} lanes");
            assert_eq!(fill(), 0);
            assert_eq!(queue.stats().queued, capacity);
            // The slots of all taken events are free again.
            assert_eq!(pass(&mut consumer, usize::MAX, |_| ()), capacity);
            assert_eq!(fill(), capacity, "{lanes} lanes, again");
        }
    }
}

#[test]
fn estimate_follows_the_number_of_queued_events() {
    for lanes in [1, 4] {
        let (queue, mut consumer) = open_lanes(lanes, 64, 0);
        let count = || queue.lanes.estimate();
        let fill = || while push(&queue, SHORT, Waiting::Never).is_ok() {};
        fill();
        pass(&mut consumer, 24, |_| ());
        assert_eq!(count(), queue.lanes.len());
        fill();
        // A push that fails may be counted, until the next pass.
        for _ in 0..100 {
            queue.full.clear();
            assert!(push(&queue, SHORT, Waiting::Never).is_err());
        }
        assert!(count() >= 64, "{}", count());
        while pass(&mut consumer, usize::MAX, |_| ()) > 0 {}
        assert_eq!(count(), 0);
        push(&queue, SHORT, Waiting::Never).unwrap();
        assert_eq!(count(), 1);
    }
}

#[test]
fn eight_threads_fill_the_whole_queue() {
    for (lanes, capacity) in SHAPES {
        let (queue, _consumer) = open_lanes(lanes, capacity, BUDGET);
        let accepted = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while push(&queue, SHORT, Waiting::Never).is_ok() {
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                    // No event is taken, so the queue stays full.
                    assert_eq!(queue.lanes.len(), capacity, "{lanes} lanes");
                    assert!(is_full(&push(&queue, SHORT, Waiting::Never)));
                });
            }
        });
        assert_eq!(accepted.into_inner(), capacity, "{lanes} lanes");
        assert_eq!(queue.stats().queued, capacity);
    }
}

/// Pushes with `push`, and takes events now and then. `must_be_refused` tells from the number of queued events
/// whether the next push must be refused. Only refusals under the policy are counted.
fn assert_refused_exactly(
    (queue, mut consumer): (Arc<Queue>, Consumer),
    push: impl Fn(&Queue, Waiting, &mut Rng) -> Result<()>,
    must_be_refused: impl Fn(&Queue, usize) -> bool,
) {
    let mut rng = Rng::with_seed(7);
    let (mut queued, mut refused) = (0, 0);
    for _ in 0..20_000 {
        if rng.u8(..20) == 0 {
            queued -= pass(&mut consumer, rng.usize(1..20), |_| ());
            continue;
        }
        let waiting = if rng.bool() { Waiting::Never } else { Waiting::Policy };
        let pushed = push(&queue, waiting, &mut rng);
        assert_eq!(is_full(&pushed), must_be_refused(&queue, queued), "{queued} queued");
        refused += u64::from(is_full(&pushed) && matches!(waiting, Waiting::Policy));
        queued += usize::from(pushed.is_ok());
    }
    assert_eq!(queue.stats().refused, refused);
    assert!(refused > 100, "{refused} refused");
}

#[test]
fn short_event_is_refused_only_without_a_free_slot() {
    assert_refused_exactly(
        open_with(2, 64, 1 << 10, Overflow::Refuse),
        |queue, waiting, _| push(queue, SHORT, waiting),
        |queue, queued| {
            // Events at the heads of the lanes have left their slots.
            let heads = queue.counters.in_flight.load(Ordering::Relaxed);
            queued - heads == 64
        },
    );
}

#[test]
fn long_event_is_refused_only_without_free_bytes() {
    const EVENTS: usize = 16;
    assert_refused_exactly(
        open_with(2, 1000, EVENTS * cost_of(LONG), Overflow::Refuse),
        // Other threads have other lanes, whose shelves keep other buffers.
        |queue, waiting, rng| {
            thread::scope(|scope| {
                if rng.u8(..50) == 0 {
                    scope.spawn(|| push(queue, LONG, waiting)).join().unwrap()
                } else {
                    push(queue, LONG, waiting)
                }
            })
        },
        // Events at the heads of the lanes still use their bytes.
        |_, queued| queued == EVENTS,
    );
}

#[test]
fn large_shelved_buffer_leaves_room_for_other_events() {
    const MIB: usize = 1 << 20;
    let (queue, mut consumer) = open_with(1, 100, MIB, Overflow::Refuse);
    // Leaves a buffer of 1 MiB on the shelf.
    push(&queue, 700_000, Waiting::Never).unwrap();
    pass(&mut consumer, 1, |_| ());
    // Each of these events needs less than a quarter of the budget.
    for n in 0..4 {
        let pushed = push(&queue, 100_000, Waiting::Never);
        assert!(pushed.is_ok(), "event {n}: {pushed:?}");
    }
}

/// `queue` makes a queue with one free slot and no bytes for a long event. A producer that waits for bytes has
/// a right to the slot, so another producer finds no slot. When the wait ends, the slot is free.
fn assert_wait_for_bytes_gives_its_slot_back<T>(queue: impl Fn() -> (Arc<Queue>, T)) {
    let mut limit = Duration::from_millis(20);
    loop {
        let (queue, _kept) = queue();
        let short = || push(&queue, SHORT, Waiting::Never);
        let (long, meanwhile) = push_while(&queue, LONG, Deadline::after(limit), short);
        assert!(is_full(&long), "there are no bytes");
        if is_full(&meanwhile) {
            short().expect("no producer waits for the slot any more");
            return;
        }
        // The other thread had stopped waiting.
        limit *= 2;
    }
}

#[test]
fn wait_for_bytes_of_a_queued_event_gives_its_slot_back() {
    assert_wait_for_bytes_gives_its_slot_back(|| {
        let (queue, consumer) = open(2, 1);
        push(&queue, LONG, Waiting::Never).unwrap();
        (queue, consumer)
    });
}

#[test]
fn wait_for_bytes_of_the_batch_gives_its_slot_back() {
    assert_wait_for_bytes_gives_its_slot_back(|| {
        let (queue, mut consumer) = open(1, cost_of(LONG));
        push(&queue, LONG, Waiting::Never).unwrap();
        // The writer has taken the event, and its batch keeps the bytes of the budget.
        let mut batch = None;
        consumer.begin_pass();
        consumer.take(|tail| batch = Some(std::mem::replace(tail, EventTail::blank())));
        consumer.end_pass(LONG);
        (queue, (consumer, batch))
    });
}

#[test]
fn queue_accepts_again_after_one_event_was_taken() {
    for (lanes, capacity) in [(1, 1), (1, 8), (2, 8), (4, 8)] {
        let (queue, mut consumer) = open_with(lanes, capacity, 0, Overflow::Refuse);
        let full = || is_full(&push(&queue, SHORT, Waiting::Never));
        while !full() {}
        for round in 0..100 {
            assert!(full() && is_full(&push(&queue, SHORT, Waiting::Policy)));
            assert_eq!(pass(&mut consumer, 1, |_| ()), 1);
            assert!(!full(), "{lanes} lanes, round {round}");
            // The first pass leaves an event at the head of every lane.
            while !full() {}
        }
    }
}

/// Several threads push only while they know that there is room, so each push must succeed. A consumer takes
/// events all the time. `most` events of `bytes` bytes may be queued.
fn assert_never_refused(lanes: usize, capacity: usize, budget: usize, most: usize, bytes: usize) {
    const PRODUCERS: usize = 4;
    const EVENTS: usize = 20_000;
    let (queue, mut consumer) = open_with(lanes, capacity, budget, Overflow::Refuse);
    let queue = &*queue;
    let queued = &AtomicUsize::new(0);
    let running = &AtomicUsize::new(PRODUCERS);
    thread::scope(|scope| {
        let _closes = Closes(queue);
        for _ in 0..PRODUCERS {
            scope.spawn(move || {
                let mut rng = Rng::new();
                for _ in 0..EVENTS {
                    // The event is counted before it is pushed, so the count is never too low.
                    while queued.fetch_add(1, Ordering::AcqRel) >= most {
                        queued.fetch_sub(1, Ordering::AcqRel);
                        thread::yield_now();
                    }
                    let waiting = if rng.bool() { Waiting::Never } else { Waiting::Policy };
                    let pushed = push(queue, bytes, waiting);
                    if pushed.is_err() {
                        running.store(0, Ordering::Release);
                    }
                    assert!(pushed.is_ok(), "{pushed:?}: {most} of {capacity}, {lanes} lanes");
                }
                let _ = running
                    .fetch_update(Ordering::Release, Ordering::Relaxed, |n| n.checked_sub(1));
            });
        }
        let mut rng = Rng::new();
        while running.load(Ordering::Acquire) > 0 || !consumer.is_empty() {
            let taken = pass(&mut consumer, rng.usize(1..most * 2), |_| ());
            // After this call the slots and bytes of all taken events are free.
            consumer.admit_all();
            queued.fetch_sub(taken, Ordering::AcqRel);
            if taken == 0 {
                thread::yield_now();
            }
        }
    });
    assert_eq!(queue.stats().refused, 0);
}

#[test]
fn no_event_is_refused_while_there_are_slots() {
    // One more slot for each producer, because each may be checking the lanes.
    for (lanes, capacity) in [(1, 32), (2, 32), (4, 64), (4, 8192)] {
        assert_never_refused(lanes, capacity, 1 << 20, capacity - 8, SHORT);
    }
}

#[test]
fn no_event_is_refused_while_there_are_bytes() {
    for lanes in [1, 2, 4] {
        // Each producer may be charging a buffer.
        assert_never_refused(lanes, 4096, 64 * 1024, 64 - 8, LONG);
    }
}

#[test]
fn refusals_of_many_threads_are_counted_exactly() {
    const THREADS: u64 = 16;
    const EACH: u64 = 3000;
    for (lanes, is_drained) in [(1, false), (1, true), (4, false), (4, true)] {
        let (queue, mut consumer) = open_with(lanes, 64, 8 << 10, Overflow::Refuse);
        let queue = &*queue;
        let is_over = &AtomicBool::new(false);
        let (accepted, refused, taken) = thread::scope(|scope| {
            let producers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    scope.spawn(move || {
                        let (mut accepted, mut refused) = (0, 0);
                        for n in 0..EACH {
                            let bytes = if (n + thread).is_multiple_of(3) { LONG } else { SHORT };
                            match push(queue, bytes, Waiting::Policy) {
                                Ok(()) => accepted += 1,
                                Err(Error::QueueFull) => refused += 1,
                                Err(other) => panic!("{other}"),
                            }
                        }
                        (accepted, refused)
                    })
                })
                .collect();
            let consuming = scope.spawn(|| {
                let mut taken = 0;
                while is_drained && !is_over.load(Ordering::Relaxed) {
                    taken += pass(&mut consumer, 10, |_| ());
                    thread::yield_now();
                }
                taken as u64
            });
            let counts = producers.into_iter().map(|producer| producer.join().unwrap());
            let (accepted, refused) =
                counts.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
            is_over.store(true, Ordering::Relaxed);
            (accepted, refused, consuming.join().unwrap())
        });
        assert_eq!(accepted + refused, THREADS * EACH);
        let stats = queue.stats();
        assert_eq!((stats.refused, stats.sent), (refused, taken));
        assert_eq!(stats.queued as u64, accepted - taken);
        assert!(refused > 0, "none was refused");
        consumer.close_losses();
        assert_eq!(consumer.losses().refused, refused);
    }
}

#[test]
fn refused_long_events_do_not_refuse_short_events() {
    // One slot, which is always free, and no bytes.
    let (queue, mut consumer) = open_with(1, 2, 1, Overflow::Refuse);
    let queue = &*queue;
    push(queue, LONG, Waiting::Never).unwrap();
    let mut batch = None;
    consumer.begin_pass();
    consumer.take(|tail| batch = Some(std::mem::replace(tail, EventTail::blank())));
    consumer.end_pass(LONG);
    thread::scope(|scope| {
        let _closes = Closes(queue);
        for _ in 0..2 {
            scope.spawn(|| while is_full(&push(queue, LONG, Waiting::Policy)) {});
        }
        while queue.stats().refused == 0 {
            thread::yield_now();
        }
        for n in 0..100_000 {
            push(queue, SHORT, Waiting::Never).unwrap_or_else(|e| panic!("event {n}: {e}"));
            assert_eq!(pass(&mut consumer, 1, |_| ()), 1);
        }
    });
}
