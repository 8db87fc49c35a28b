//! The counters, flush and the end of a session, while events are in all lanes.

use std::thread;
use std::time::Duration;

use super::*;

const LANES: usize = 4;
const CAPACITY: usize = 64;

/// A full queue. All events are from this thread, so three quarters of them are *spilled*: they are in other
/// lanes than the thread's own.
fn spilled() -> (Arc<Queue>, Consumer) {
    let (queue, consumer) = open_lanes(LANES, CAPACITY, 1 << 20);
    for n in 0..CAPACITY {
        push_kind(&queue, &n.to_string(), if n % 5 == 0 { LONG } else { SHORT }, Waiting::Never)
            .unwrap();
    }
    (queue, consumer)
}

fn numbers(consumer: &mut Consumer, most: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    pass(consumer, most, |text| numbers.push(kind(text).parse().unwrap()));
    numbers
}

#[test]
fn spilled_events_are_taken_in_order() {
    let (_queue, mut consumer) = spilled();
    let mut taken = Vec::new();
    for most in [1, 3, 10, usize::MAX] {
        taken.append(&mut numbers(&mut consumer, most));
    }
    assert_eq!(taken, (0..CAPACITY).collect::<Vec<_>>());
    assert!(consumer.is_empty());
}

#[test]
fn spilled_events_are_all_counted_as_queued() {
    let (queue, mut consumer) = spilled();
    let queued = || queue.stats().queued;
    assert_eq!(queued(), CAPACITY);
    consumer.begin_pass();
    for _ in 0..10 {
        assert!(consumer.take(|_| ()));
    }
    consumer.end_pass(0);
    // The count includes events that were taken and not sent, events at the heads, and events in the lanes.
    assert_eq!((queued(), consumer.is_empty()), (CAPACITY, false));
    assert!(queue.flush(Duration::ZERO).is_err());
    consumer.sent(4);
    assert_eq!(queued(), CAPACITY - 4);
    consumer.sent(6);
    assert_eq!(queued(), CAPACITY - 10);
    assert_eq!(pass(&mut consumer, usize::MAX, |_| ()), CAPACITY - 10);
    let stats = queue.stats();
    assert_eq!((stats.queued, stats.queue_high_water), (0, CAPACITY));
    assert_eq!((stats.sent, stats.undelivered), (CAPACITY as u64, 0));
    assert!(queue.flush(Duration::ZERO).is_ok());
}

#[test]
fn high_water_includes_events_that_are_never_taken() {
    let (queue, mut consumer) = open_lanes(LANES, CAPACITY, 1 << 20);
    push(&queue, SHORT, Waiting::Never).unwrap();
    assert!(take(&mut consumer).is_some());
    // The writer is blocked with one event, and never looks into the lanes again.
    while push(&queue, SHORT, Waiting::Never).is_ok() {}
    assert_eq!(queue.stats().queue_high_water, CAPACITY + 1);
    drop(consumer);
    let stats = queue.stats();
    assert_eq!((stats.queue_high_water, stats.undelivered), (CAPACITY + 1, CAPACITY as u64 + 1));
}

#[test]
fn events_at_the_heads_are_undelivered_at_the_end() {
    for (taken, sent) in [(0, 0), (1, 0), (1, 1), (10, 3)] {
        let (queue, mut consumer) = spilled();
        consumer.begin_pass();
        (0..taken).for_each(|_| assert!(consumer.take(|_| ())));
        consumer.end_pass(0);
        consumer.sent(sent);
        drop(consumer);
        let stats = queue.stats();
        assert_eq!((stats.sent, stats.undelivered), (sent, CAPACITY as u64 - sent));
        assert_eq!((stats.queued, stats.queue_high_water), (0, CAPACITY));
        let left = CAPACITY as u64 - sent;
        let flushed = queue.flush(Duration::MAX);
        assert!(matches!(flushed, Err(Error::Undelivered { count }) if count == left));
    }
}

/// Asserts that a flush ends exactly when the events that were queued before it are sent. `later` adds events
/// that do not belong to the flush.
fn assert_flush_covers_queued_events(
    (queue, mut consumer): (Arc<Queue>, Consumer),
    queued: std::ops::Range<usize>,
    later: impl Fn(&Queue),
) {
    let request = queue.flushes.request();
    consumer.begin_flush();
    later(&queue);
    let is_done = || queue.flushes.wait(request, Deadline::after(Duration::ZERO));
    let mut left = queued.collect::<std::collections::BTreeSet<_>>();
    while !left.is_empty() {
        assert!(!is_done() && consumer.is_flushing(), "{left:?} are not sent");
        for number in numbers(&mut consumer, 1) {
            left.remove(&number);
        }
        consumer.finish_flush();
    }
    assert!(is_done() && !consumer.is_flushing());
}

#[test]
fn flush_covers_spilled_events_and_no_others() {
    assert_flush_covers_queued_events(spilled(), 0..CAPACITY, |queue| {
        assert!(is_full(&push(queue, SHORT, Waiting::Never)));
    });
    // Events at the heads of the lanes.
    let (queue, mut consumer) = spilled();
    assert_eq!(numbers(&mut consumer, 1), [0]);
    assert_flush_covers_queued_events((queue, consumer), 1..CAPACITY, |_| ());
}

#[test]
fn late_push_with_an_older_ticket_ends_no_flush() {
    let (queue, consumer) = open_lanes(2, 16, 0);
    let drawn = |number: usize| {
        let mut event = Event::blank();
        let kind = number.to_string();
        event.tail.write(&kind, 1, &(), queue.max_content(), queue.lender()).unwrap();
        queue.lanes.draw(&mut event);
        event
    };
    // These events draw their tickets first and are pushed last, as if their producers were interrupted
    // in between.
    let late: Vec<_> = (100..104).map(drawn).collect();
    for n in 0..4 {
        assert!(queue.lanes.try_push(n % 2, drawn(n)).is_ok());
    }
    let late = std::cell::Cell::new(late);
    assert_flush_covers_queued_events((Arc::clone(&queue), consumer), 0..4, |queue| {
        for event in late.take() {
            assert!(queue.lanes.try_push(0, event).is_ok());
        }
    });
}

#[test]
fn flush_does_not_end_with_an_earlier_flush() {
    let (queue, mut consumer) = open(CAPACITY, 0);
    let requested = || {
        push(&queue, SHORT, Waiting::Never).unwrap();
        queue.flushes.request()
    };
    let is_done = |request| queue.flushes.wait(request, Deadline::after(Duration::ZERO));
    let first = requested();
    consumer.begin_flush();
    let second = requested();
    assert_eq!(pass(&mut consumer, 1, |_| ()), 1);
    consumer.finish_flush();
    assert_eq!([first, second].map(is_done), [true, false]);
    consumer.begin_flush();
    assert_eq!(pass(&mut consumer, 1, |_| ()), 1);
    consumer.finish_flush();
    assert!(is_done(second));
}

#[test]
fn flush_with_zero_timeout_only_checks_the_queue() {
    let (queue, mut consumer) = open_lanes(LANES, CAPACITY, 1 << 20);
    let flush = || queue.flush(Duration::ZERO);
    assert!(flush().is_ok());
    push(&queue, SHORT, Waiting::Never).unwrap();
    assert!(matches!(flush(), Err(Error::FlushTimeout(Duration::ZERO))));
    assert!(take(&mut consumer).is_some());
    assert!(matches!(flush(), Err(Error::FlushTimeout(_))), "taken and not sent");
    consumer.sent(1);
    assert!(flush().is_ok());
    // Now an event is at the head of a lane.
    push(&queue, SHORT, Waiting::Never).unwrap();
    consumer.begin_pass();
    assert!(matches!(flush(), Err(Error::FlushTimeout(_))), "at the head of a lane");
    consumer.end_pass(0);
    assert!(matches!(flush(), Err(Error::FlushTimeout(_))), "at the head of a lane");
    assert_eq!(pass(&mut consumer, 1, |_| ()), 1);
    assert!(flush().is_ok());
}

#[test]
fn flush_covers_all_events_accepted_before() {
    const THREADS: u64 = 3;
    for lanes in [1, 2, 4] {
        let (queue, mut consumer) = open_lanes(lanes, CAPACITY, 1 << 20);
        let queue = &*queue;
        let running = &std::sync::atomic::AtomicU64::new(THREADS);
        thread::scope(|scope| {
            let _closes = Closes(queue);
            for _ in 0..THREADS {
                scope.spawn(move || {
                    for n in 1..=300 {
                        push(queue, if n % 7 == 0 { LONG } else { SHORT }, Waiting::Policy)
                            .unwrap();
                        let timeout = if n % 2 == 0 { Duration::ZERO } else { Duration::MAX };
                        if n % 5 == 0 && queue.flush(timeout).is_ok() {
                            let sent = queue.stats().sent;
                            assert!(sent >= n, "{sent} sent of {n}");
                        }
                    }
                    running.fetch_sub(1, std::sync::atomic::Ordering::Release);
                });
            }
            while running.load(std::sync::atomic::Ordering::Acquire) > 0 {
                consumer.begin_flush();
                let taken = pass(&mut consumer, 20, |_| ());
                consumer.finish_flush();
                consumer.admit();
                if taken == 0 && !consumer.is_flushing() {
                    consumer.idle(Deadline::after(Duration::from_millis(1)));
                }
            }
        });
    }
}

#[test]
fn high_water_includes_events_in_flight() {
    let (queue, mut consumer) = open_lanes(LANES, CAPACITY, 1 << 20);
    let push_three = || (0..3).for_each(|_| push(&queue, SHORT, Waiting::Never).unwrap());
    push_three();
    consumer.begin_pass();
    while consumer.take(|_| ()) {}
    consumer.end_pass(0);
    // The write of three events blocks.
    push_three();
    assert_eq!(queue.stats().queue_high_water, 6);
    consumer.sent(3);
    assert_eq!(queue.stats().queue_high_water, 6, "the mark never falls");
}
