//! What ends the writer's linger.

use std::thread;

use super::*;

#[test]
fn full_lane_ends_the_linger_and_events_do_not() {
    const LANES: usize = 2;
    const SLOTS: usize = 8;
    let (queue, mut consumer) = open_lanes(LANES, LANES * SLOTS, 0);
    let queue = &*queue;
    thread::scope(|scope| {
        let _closes = Closes(queue);
        let writer = scope.spawn(move || consumer.linger(Deadline::NEVER));
        while !queue.wakeup.is_lingering() {
            thread::yield_now();
        }
        // All these events enter the lane of this thread.
        for n in 0..SLOTS {
            push(queue, SHORT, Waiting::Never).unwrap();
            assert!(queue.wakeup.is_lingering(), "event {n} of {SLOTS} ended the linger");
        }
        push(queue, SHORT, Waiting::Never).unwrap();
        assert!(!queue.wakeup.is_lingering(), "the full lane did not end the linger");
        writer.join().unwrap();
    });
}
