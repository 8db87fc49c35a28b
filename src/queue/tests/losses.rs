//! The counts of lost events, and how they close.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

#[test]
fn every_refusal_is_in_the_final_count() {
    const THREADS: usize = 8;
    for round in 0..200 {
        let (queue, mut consumer) = open_with(2, 1, 0, Overflow::Refuse);
        push(&queue, SHORT, Waiting::Never).unwrap();
        let queue = &*queue;
        let (refused, closed) = (&AtomicU64::new(0), &AtomicU64::new(0));
        let last = thread::scope(|scope| {
            let producers: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(move || {
                        loop {
                            match push(queue, SHORT, Waiting::Policy) {
                                Err(Error::QueueFull) => refused.fetch_add(1, Ordering::Relaxed),
                                Err(Error::Shutdown) => break,
                                other => panic!("{other:?}"),
                            };
                        }
                        closed.fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            while refused.load(Ordering::Relaxed) < 100 + round {
                thread::yield_now();
            }
            // The writer reads the final count while producers may still emit. The count must include each
            // event that was refused because the queue was full.
            queue.shutdown.request();
            consumer.close_losses();
            let last = consumer.losses().refused;
            for producer in producers {
                producer.join().unwrap();
            }
            last
        });
        assert_eq!(last, refused.load(Ordering::Relaxed), "round {round}");
        assert_eq!(consumer.losses().refused, last);
        assert_eq!((queue.stats().refused, closed.load(Ordering::Relaxed)), (last, THREADS as u64));
    }
}

#[test]
fn reported_losses_are_counted_from_all_threads() {
    let (queue, mut consumer) = open_with(1, 1, 0, Overflow::Block);
    thread::scope(|scope| {
        for thread in 0..20 {
            let queue = &queue;
            scope.spawn(move || (0..1000).for_each(|n| queue.report_lost(n % 3 + thread)));
        }
    });
    let sum = (0..1000).map(|n| n % 3).sum::<u64>() * 20 + (0..20).sum::<u64>() * 1000;
    assert_eq!((queue.stats().lost, consumer.losses().reported), (sum, sum));
    assert_eq!((queue.stats().refused, consumer.losses().refused), (0, 0));
    consumer.close_losses();
    queue.report_lost(1);
    assert_eq!((queue.stats().lost, consumer.losses().reported), (sum, sum));
}

#[test]
fn huge_loss_does_not_overflow_the_count() {
    let (queue, mut consumer) = open(1, 0);
    for _ in 0..100 {
        queue.report_lost(u64::MAX);
    }
    let lost = queue.stats().lost;
    assert!(lost >= 100 << 40, "{lost}");
    assert_eq!(consumer.losses().reported, lost);
    consumer.close_losses();
    assert_eq!(queue.stats().lost, lost);
}
