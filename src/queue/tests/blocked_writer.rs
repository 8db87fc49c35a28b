//! Producers that emit while the writer is blocked in a write. The producers give each other turns.

use std::thread;

use super::*;

#[test]
fn blocked_writer_needs_to_admit_only_once() {
    const PRODUCERS: usize = 16;
    const EVENTS: usize = 100;
    for (lanes, bytes) in [(1, SHORT), (4, SHORT), (4, LONG)] {
        let capacity = PRODUCERS * EVENTS;
        let (queue, mut consumer) = open_lanes(lanes, capacity, 1 << 30);
        let queue = &*queue;
        fill_for_working_writer(queue, &mut consumer);
        thread::scope(|scope| {
            let _closes = Closes(queue);
            let producers = [(); PRODUCERS].map(|()| {
                scope.spawn(|| {
                    (0..EVENTS).for_each(|_| push(queue, bytes, Waiting::Policy).unwrap());
                })
            });
            until_blocked(queue, PRODUCERS);
            while pass(&mut consumer, usize::MAX, |_| ()) > 0 {}
            // The agent does not read, and there is a slot for each event.
            consumer.admit_all();
            let limit = Deadline::after(LIMIT);
            while !producers.iter().all(thread::ScopedJoinHandle::is_finished) {
                assert!(!limit.has_passed(), "{} still wait", queue.gate.waiting());
                thread::yield_now();
            }
        });
    }
}

#[test]
fn overtaking_thread_needs_no_turn_from_the_writer() {
    let (queue, mut consumer) = open(1000, cost_of(LONG));
    let queue = &*queue;
    push(queue, LONG, Waiting::Never).unwrap();
    thread::scope(|scope| {
        let _closes = Closes(queue);
        let long = scope.spawn(|| push(queue, LONG, Waiting::Policy));
        until_blocked(queue, 1);
        // There are free slots, and the writer gives no turns.
        let short = scope.spawn(|| (0..100).all(|_| push(queue, SHORT, Waiting::Policy).is_ok()));
        let limit = Deadline::after(LIMIT);
        while !short.is_finished() {
            assert!(!limit.has_passed(), "{} still wait", queue.gate.waiting());
            thread::yield_now();
        }
        assert!(short.join().unwrap());
        while pass(&mut consumer, usize::MAX, |_| ()) > 0 {}
        consumer.admit_all();
        long.join().unwrap().unwrap();
    });
}
