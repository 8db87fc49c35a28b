//! The byte budget and the recycled buffers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

#[test]
fn event_over_the_whole_budget_is_queued_alone() {
    let (queue, mut consumer) = open(8, 1);
    push(&queue, LONG, Waiting::Never).unwrap();
    assert!(matches!(push(&queue, LONG, Waiting::Never), Err(Error::QueueFull)));
    push(&queue, SHORT, Waiting::Never).expect("short events need no budget");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| push(&queue, LONG, Waiting::Policy).unwrap());
        }
        let mut taken = 0;
        while taken < 6 {
            match take(&mut consumer) {
                Some(_) => taken += 1,
                None => consumer.idle(Deadline::NEVER),
            }
        }
    });
    assert_eq!(queue.pool.in_use(), 0);
}

/// The bytes of all buffers: those that events use, and those on the shelves.
fn charged(queue: &Queue) -> usize {
    queue.pool.charged()
}

#[test]
fn recycled_buffers_need_no_allocation() {
    for lanes in [1, 4] {
        let (queue, mut consumer) = open_lanes(lanes, 64, 8 << 20);
        for bytes in [LONG, 3000, 30_000, 100_000, 1_000_000] {
            let text = "x".repeat(bytes);
            let cycle = |consumer: &mut Consumer| {
                let mut event = Event::blank();
                let long = event.tail.write("k", 1, &text, queue.max_content(), queue.lender());
                queue.push_long(long.unwrap().unwrap(), Waiting::Never).unwrap();
                pass(consumer, 1, |_| ());
            };
            (0..3).for_each(|_| cycle(&mut consumer));
            let heap = allocation_counter::measure(|| (0..100).for_each(|_| cycle(&mut consumer)));
            assert_eq!(heap.count_total, 0, "{bytes} bytes, {lanes} lanes");
        }
    }
}

#[test]
fn buffers_of_a_burst_are_recycled() {
    const BURST: usize = 32;
    let (queue, mut consumer) = open_lanes(2, 64, 8 << 20);
    let text = "x".repeat(LONG);
    let burst = |consumer: &mut Consumer| {
        for _ in 0..BURST {
            let mut event = Event::blank();
            let long = event.tail.write("k", 1, &text, queue.max_content(), queue.lender());
            queue.push_long(long.unwrap().unwrap(), Waiting::Never).unwrap();
        }
        pass(consumer, usize::MAX, |_| ());
    };
    (0..3).for_each(|_| burst(&mut consumer));
    let heap = allocation_counter::measure(|| (0..10).for_each(|_| burst(&mut consumer)));
    assert_eq!(heap.count_total, 0);
}

#[test]
fn charged_bytes_exceed_the_budget_by_one_event_at_most() {
    const LARGEST: usize = 300_000;
    for (lanes, budget) in [(1, 1), (2, 100_000), (4, 1 << 20)] {
        let (queue, mut consumer) = open_lanes(lanes, 1000, budget);
        let queue = &*queue;
        let running = &AtomicUsize::new(4);
        thread::scope(|scope| {
            let _closes = Closes(queue);
            for _ in 0..4 {
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::new();
                    for _ in 0..200 {
                        let most = [1000, 10_000, 100_000, LARGEST][rng.usize(..4)];
                        push(queue, rng.usize(..most), Waiting::Policy).unwrap();
                    }
                    running.fetch_sub(1, Ordering::Release);
                });
            }
            let is_done = || {
                let most = budget + (LARGEST + 1000).next_power_of_two();
                let charged = charged(queue);
                assert!(charged <= most, "{charged} bytes charged, {budget} allowed");
                running.load(Ordering::Acquire) == 0
            };
            consume(&mut consumer, is_done, |_| ());
        });
        // A trim frees the buffers that were not used since the trim before.
        consumer.trim();
        consumer.trim();
        assert_eq!(charged(queue), 0, "{lanes} lanes");
    }
}

#[test]
fn trims_free_the_buffers_of_an_idle_queue() {
    let (queue, mut consumer) = open_lanes(4, 1000, 1 << 20);
    let accepted = thread::scope(|scope| {
        let fill = || {
            let sizes = [LONG, 5000, 20_000, 50_000].into_iter().cycle();
            sizes.take_while(|bytes| push(&queue, *bytes, Waiting::Never).is_ok()).count()
        };
        let fills: Vec<_> = (0..4).map(|_| scope.spawn(fill)).collect();
        fills.into_iter().map(|fill| fill.join().unwrap()).sum::<usize>()
    });
    assert!(charged(&queue) > 1 << 19, "{} bytes charged", charged(&queue));
    assert_eq!(pass(&mut consumer, usize::MAX, |_| ()), accepted);
    assert!(charged(&queue) > 1 << 19, "the buffers are kept for the next events");
    consumer.trim();
    consumer.trim();
    assert_eq!(charged(&queue), 0);
    push(&queue, LONG, Waiting::Never).expect("the push allocates a new buffer");
}

#[test]
fn trim_keeps_the_buffers_in_use() {
    let (queue, mut consumer) = open(64, 1 << 20);
    for _ in 0..10 {
        for _ in 0..3 {
            push(&queue, LONG, Waiting::Never).unwrap();
        }
        pass(&mut consumer, usize::MAX, |_| ());
        consumer.trim();
    }
    assert_eq!(charged(&queue), 3 * cost_of(LONG));
}

#[test]
fn empty_buffers_are_freed_for_another_size() {
    let (queue, mut consumer) = open_lanes(2, 1000, 64 << 10);
    for bytes in [LONG, 60_000, 3000, 30_000, LONG] {
        let count = (0..1000).take_while(|_| push(&queue, bytes, Waiting::Never).is_ok()).count();
        assert_eq!(count, (64 << 10) / cost_of(bytes), "{bytes} bytes");
        pass(&mut consumer, usize::MAX, |_| ());
    }
}

#[test]
fn event_without_a_slot_gives_its_bytes_back() {
    let (queue, _consumer) = open_with(1, 1, 1 << 20, Overflow::Refuse);
    push(&queue, SHORT, Waiting::Never).unwrap();
    let passed = Waiting::Until(Deadline::after(Duration::ZERO));
    for waiting in [passed, Waiting::Never, Waiting::Policy] {
        // As if the queue had become full while the event was serialised.
        let mut event = Event::blank();
        let text = "x".repeat(LONG);
        let long = event.tail.write("k", 1, &text, queue.max_content(), queue.lender());
        assert!(is_full(&queue.push_long(long.unwrap().unwrap(), waiting)));
        assert_eq!(charged(&queue), 0, "{waiting:?}");
    }
}
