//! Producers that wait for a slot or for bytes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

#[test]
fn small_events_do_not_starve_a_large_event() {
    const SMALL_PRODUCERS: usize = 3;
    let (queue, mut consumer) = open(64, 4 * LONG + 200);
    let queue = &*queue;
    thread::scope(|scope| {
        let _closes = Closes(queue);
        for _ in 0..SMALL_PRODUCERS {
            scope.spawn(|| while push(queue, LONG, Waiting::Policy).is_ok() {});
        }
        while queue.gate.waiting() < SMALL_PRODUCERS {
            thread::yield_now();
        }
        let large = scope.spawn(|| push(queue, 3 * LONG, Waiting::Policy).unwrap());
        // A small event would fit into the free bytes at once.
        let mut taken = 0;
        while !large.is_finished() {
            if queue.gate.waiting() <= SMALL_PRODUCERS || take(&mut consumer).is_none() {
                thread::yield_now();
                continue;
            }
            consumer.admit();
            taken += 1;
            // The limit is high, because the large event may be queued long before its thread ends.
            assert!(taken < 500, "starved");
        }
    });
}

#[test]
fn timed_out_small_events_do_not_starve_a_large_event() {
    const SMALL_PRODUCERS: usize = 2;
    let (queue, mut consumer) = open(64, 4 * LONG + 200);
    let queue = &*queue;
    while push(queue, LONG, Waiting::Never).is_ok() {}
    let attempts = &AtomicUsize::new(0);
    thread::scope(|scope| {
        let _closes = Closes(queue);
        let large = scope.spawn(|| push(queue, 3 * LONG, Waiting::Policy));
        until_a_producer_waits(queue);
        for _ in 0..SMALL_PRODUCERS {
            scope.spawn(move || {
                let now = || Waiting::Until(Deadline::after(Duration::ZERO));
                while !is_closed(push(queue, LONG, now())) {
                    attempts.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut taken = 0;
        while !large.is_finished() {
            if take(&mut consumer).is_some() {
                consumer.admit();
                taken += 1;
                assert!(taken < 100, "starved");
            }
            // Wait until each producer of a small event has tried to get the bytes.
            let enough = attempts.load(Ordering::Relaxed) + 2 * SMALL_PRODUCERS;
            while attempts.load(Ordering::Relaxed) < enough {
                thread::yield_now();
            }
        }
        large.join().unwrap().unwrap();
    });
}

#[test]
fn wait_does_not_time_out_while_there_is_room() {
    let mut limit = Duration::from_millis(50);
    loop {
        let (queue, mut consumer) = open(1, 0);
        push(&queue, SHORT, Waiting::Never).unwrap();
        let deadline = Deadline::after(limit);
        let (pushed, in_time) = push_while(&queue, SHORT, deadline, || {
            // Now there is room, but no thread wakes the producer.
            take(&mut consumer).unwrap();
            !deadline.has_passed()
        });
        if in_time {
            return pushed.expect("the producer checks again at its deadline");
        }
        // The deadline may have passed before the slot was free.
        limit *= 2;
    }
}

#[test]
fn wait_without_room_times_out_and_is_not_a_refusal() {
    let (queue, _consumer) = open(1, 0);
    push(&queue, SHORT, Waiting::Never).unwrap();
    let soon = Waiting::Until(Deadline::after(Duration::from_millis(20)));
    assert!(matches!(push(&queue, SHORT, soon), Err(Error::QueueFull)));
    let stats = queue.stats();
    assert_eq!((stats.refused, stats.waits, stats.queued), (0, 1, 1));
    assert!(stats.longest_wait >= Duration::from_millis(20));
}

#[test]
fn each_blocked_producer_keeps_a_slot() {
    let (queue, mut consumer) = open(2, 0);
    let newcomer = || push(&queue, SHORT, Waiting::Never);
    newcomer().unwrap();
    newcomer().unwrap();
    thread::scope(|scope| {
        let _closes = Closes(&queue);
        let waiting = scope.spawn(|| push(&queue, SHORT, Waiting::Policy));
        until_a_producer_waits(&queue);
        take(&mut consumer).unwrap();
        assert!(
            matches!(newcomer(), Err(Error::QueueFull)),
            "the waiting producer has a right to the slot"
        );
        take(&mut consumer).unwrap();
        newcomer().expect("there are two free slots");
        assert!(matches!(newcomer(), Err(Error::QueueFull)));
        consumer.admit_all();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn each_blocked_producer_keeps_its_bytes() {
    let (queue, mut consumer) = open(1000, 2 * cost_of(LONG));
    let newcomer = || push(&queue, LONG, Waiting::Never);
    newcomer().unwrap();
    newcomer().unwrap();
    thread::scope(|scope| {
        let _closes = Closes(&queue);
        let waiting = scope.spawn(|| push(&queue, LONG, Waiting::Policy));
        until_blocked(&queue, 1);
        take(&mut consumer).unwrap();
        assert!(is_full(&newcomer()), "the waiting producer has a right to the bytes");
        consumer.admit_all();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn timed_out_large_event_admits_a_smaller_event() {
    let mut limit = Duration::from_millis(50);
    loop {
        let (queue, _consumer) = open(64, 2 * cost_of(LONG));
        let queue = &*queue;
        push(queue, LONG, Waiting::Never).unwrap();
        let has_waited = thread::scope(|scope| {
            let _closes = Closes(queue);
            let deadline = Deadline::after(limit);
            let large = scope.spawn(move || push(queue, 2 * LONG, Waiting::Until(deadline)));
            until_blocked(queue, 1);
            // There are bytes for this event, but the other producer waited first.
            let small = scope.spawn(|| push(queue, LONG, Waiting::Policy));
            let end = Deadline::after(LIMIT);
            while !small.is_finished() {
                assert!(!end.has_passed(), "{} still wait", queue.gate.waiting());
                thread::yield_now();
            }
            assert!(is_full(&large.join().unwrap()));
            small.join().unwrap().unwrap();
            queue.gate.waits() == 2
        });
        if has_waited {
            return;
        }
        limit *= 2;
    }
}

#[test]
fn waiting_writer_admits_producers_to_all_free_slots() {
    const WAITERS: usize = 3 * super::consumer::MAX_TURNS / 2;
    let (queue, mut consumer) = open(2 * super::consumer::MAX_TURNS, 0);
    let queue = &*queue;
    while push(queue, SHORT, Waiting::Never).is_ok() {}
    thread::scope(|scope| {
        let _closes = Closes(queue);
        let waiting: Vec<_> =
            (0..WAITERS).map(|_| scope.spawn(|| push(queue, SHORT, Waiting::Policy))).collect();
        until_blocked(queue, WAITERS);
        // The writer takes a batch, and the agent does not read it.
        while take(&mut consumer).is_some() {}
        consumer.admit();
        consumer.admit_all();
        let limit = Deadline::after(LIMIT);
        while waiting.iter().any(|push| !push.is_finished()) {
            assert!(!limit.has_passed(), "{} still wait", queue.gate.waiting());
            thread::yield_now();
        }
    });
}

#[test]
fn overtaking_of_a_blocked_producer_is_bounded() {
    const NEWCOMERS: usize = 2;
    const MARK: &str = "the waiter";
    for (capacity, rounds) in [(1, 60), (8, 10)] {
        let (queue, mut consumer) = open(capacity, 0);
        let queue = &*queue;
        thread::scope(|scope| {
            let _closes = Closes(queue);
            for _ in 0..NEWCOMERS {
                // These producers push all the time, and never block.
                scope.spawn(|| while !is_closed(push(queue, SHORT, Waiting::Never)) {});
            }
            for _ in 0..rounds {
                let waiter = scope.spawn(|| {
                    push_kind(queue, MARK, 0, Waiting::Policy).unwrap();
                });
                while queue.gate.waiting() == 0 && !waiter.is_finished() {
                    thread::yield_now();
                }
                // Counts the events that are taken before the event of the blocked producer. Only one slot
                // becomes free at a time, so all producers compete for it.
                let mut before = 0;
                loop {
                    while queue.lanes.len() < capacity {
                        thread::yield_now();
                    }
                    let event = take(&mut consumer).unwrap();
                    consumer.admit_all();
                    if event.windows(MARK.len()).any(|w| w == MARK.as_bytes()) {
                        break;
                    }
                    before += 1;
                    let most = capacity + NEWCOMERS;
                    assert!(before <= most, "{capacity} slots: {before} events came before");
                }
                waiter.join().unwrap();
            }
        });
    }
}

/// Waits until all `producers` are blocked, and takes events with `take`. Fails if a producer stays blocked.
fn all_get_their_turn(
    (queue, mut consumer): (Arc<Queue>, Consumer),
    producers: u64,
    bytes: usize,
    mut take: impl FnMut(&mut Consumer) -> bool,
) {
    let queue = &*queue;
    push(queue, bytes, Waiting::Never).unwrap();
    thread::scope(|scope| {
        let _closes = Closes(queue);
        let producers: Vec<_> =
            (0..producers).map(|_| scope.spawn(|| push(queue, bytes, Waiting::Policy))).collect();
        while queue.gate.waits() < producers.len() as u64 {
            thread::yield_now();
        }
        let mut left = producers.len() + 1;
        while left > 0 {
            if take(&mut consumer) {
                left -= 1;
                continue;
            }
            let limit = Deadline::after(LIMIT);
            consumer.idle(limit);
            assert!(!limit.has_passed(), "{} still wait", queue.gate.waiting());
        }
        for producer in producers {
            producer.join().unwrap().unwrap();
        }
    });
    assert_eq!((queue.gate.waiting(), queue.lanes.len()), (0, 0));
}

#[test]
fn last_blocked_producers_get_their_turns() {
    // One slot, or bytes for one event: the writer may take an event before the producer ends its turn.
    for (capacity, heap_bytes, bytes) in [(1, 0, SHORT), (64, 1, LONG)] {
        for _ in 0..300 {
            let queue = open(capacity, heap_bytes);
            all_get_their_turn(queue, 3, bytes, |consumer| pass(consumer, 1, |_| ()) > 0);
        }
    }
}

#[test]
fn bytes_of_an_unbatched_event_admit_producers() {
    for _ in 0..50 {
        all_get_their_turn(open(64, 1), 3, 100_000, |consumer| {
            let mut sent_in_place = None;
            consumer.begin_pass();
            let taken = consumer.take(|tail| {
                if let EventTail::Long { bytes, home } = tail {
                    sent_in_place = Some((*home, std::mem::take(bytes)));
                }
            });
            consumer.end_pass(0);
            consumer.admit();
            // As before a write that may block.
            consumer.admit_all();
            consumer.sent(u64::from(taken));
            if let Some((home, bytes)) = sent_in_place {
                consumer.recycle(home, bytes);
            }
            taken
        });
    }
}

#[test]
fn working_writer_gives_few_turns() {
    const WAITERS: usize = 3 * super::consumer::MAX_TURNS;
    let (queue, mut consumer) = open(64, 0);
    let queue = &*queue;
    fill_for_working_writer(queue, &mut consumer);
    thread::scope(|scope| {
        let _closes = Closes(queue);
        let producers = [(); WAITERS].map(|()| scope.spawn(|| push(queue, SHORT, Waiting::Policy)));
        until_blocked(queue, WAITERS);
        for passes in 1..=3 {
            pass(&mut consumer, usize::MAX, |_| ());
            consumer.admit();
            let turns = passes * super::consumer::MAX_TURNS;
            assert_eq!(queue.gate.without_turn(), WAITERS - turns);
            // Waits until these threads have ended. Otherwise the last of them could still give turns, because
            // it finds the lanes empty after the next pass.
            let limit = Deadline::after(LIMIT);
            while producers.iter().filter(|producer| producer.is_finished()).count() < turns {
                assert!(!limit.has_passed(), "a producer with a turn was not woken");
                thread::yield_now();
            }
        }
    });
}

#[test]
fn timed_out_producer_takes_no_slot_of_earlier_ones() {
    let (queue, mut consumer) = open(1, 0);
    push(&queue, SHORT, Waiting::Never).unwrap();
    thread::scope(|scope| {
        let _closes = Closes(&queue);
        let waiting = scope.spawn(|| push(&queue, SHORT, Waiting::Policy));
        until_a_producer_waits(&queue);
        // The slot is free, and the writer has not given a turn yet.
        take(&mut consumer).unwrap();
        let passed = Waiting::Until(Deadline::after(Duration::ZERO));
        assert!(is_full(&push(&queue, SHORT, passed)), "the other producer waited first");
        consumer.admit_all();
        waiting.join().unwrap().unwrap();
    });
}
