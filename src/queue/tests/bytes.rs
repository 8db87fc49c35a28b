//! Producers that wait for bytes, and buffers that are lent.

use std::thread;
use std::time::Duration;

use super::*;

/// A payload of [`LONG`] bytes that calls a function while it is serialised, and fails if the function
/// returns false.
struct Calls<'a>(&'a dyn Fn() -> bool);

impl serde::Serialize for Calls<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = "x".repeat(LONG).serialize(serializer)?;
        if (self.0)() {
            Ok(written)
        } else {
            Err(serde::ser::Error::custom("the function returned false"))
        }
    }
}

/// One thread serialises an event into a lent buffer, and queued events use all other bytes of the budget.
/// Another thread waits for bytes. It must get them when the first thread gives the buffer back. The writer
/// does nothing meanwhile.
fn lent_buffer_is_given_up(is_written: bool) {
    const LARGEST: usize = (1 << 20) - 200;
    let (queue, mut consumer) = open(64, cost_of(LARGEST) + cost_of(LONG));
    let queue = &*queue;
    push(queue, LONG, Waiting::Never).unwrap();
    pass(&mut consumer, 1, |_| ());
    consumer.idle(Deadline::after(Duration::ZERO));
    assert_eq!(queue.pool.in_use(), 0);
    thread::scope(|scope| {
        let _closes = Closes(queue);
        let waits = std::cell::OnceCell::new();
        let let_another_wait = || {
            assert_eq!(queue.pool.in_use(), cost_of(LONG), "the buffer is lent");
            push(queue, LARGEST, Waiting::Never).unwrap();
            let _ = waits.set(scope.spawn(|| push(queue, LONG, Waiting::Policy)));
            until_a_producer_waits(queue);
            is_written
        };
        let mut event = Event::blank();
        let payload = Calls(&let_another_wait);
        let text = event.tail.write("test", 1, &payload, queue.max_content(), queue.lender());
        if is_written {
            let text = text.unwrap().expect("the event is long");
            assert!(
                is_full(&queue.push_long(text, Waiting::Never)),
                "another producer waits for these bytes"
            );
        } else {
            text.err().expect("the function returned false");
        }
        let limit = Deadline::after(LIMIT);
        while !waits.get().unwrap().is_finished() {
            assert!(!limit.has_passed(), "the other producer still waits");
            thread::yield_now();
        }
    });
    assert_eq!(pass(&mut consumer, 3, |_| ()), 2, "the producer that waited has pushed");
    assert!(consumer.is_empty());
}

#[test]
fn lent_buffer_that_is_given_back_admits_a_producer() {
    lent_buffer_is_given_up(false);
}

#[test]
fn lent_buffer_of_a_refused_event_admits_a_producer() {
    lent_buffer_is_given_up(true);
}

#[test]
fn wait_for_bytes_does_not_block_short_events() {
    let (queue, mut consumer) = open(256, 1);
    let queue = &*queue;
    push(queue, LONG, Waiting::Never).unwrap();
    thread::scope(|scope| {
        let _closes = Closes(queue);
        scope.spawn(|| push(queue, LONG, Waiting::Policy));
        until_a_producer_waits(queue);
        // The batch keeps the buffer, and so all bytes of the budget.
        let mut batch = None;
        consumer.begin_pass();
        consumer.take(|tail| batch = Some(std::mem::replace(tail, EventTail::blank())));
        consumer.end_pass(1 << 20);
        consumer.admit();
        // The writer keeps working, so a queue above the soft limit blocks another producer.
        for _ in 0..20 {
            push(queue, SHORT, Waiting::Never).unwrap();
        }
        let before = scope.spawn(|| push(queue, SHORT, Waiting::Policy));
        until_blocked(queue, 2);
        // The agent does not read the batch.
        consumer.admit_all();
        let after = scope.spawn(|| push(queue, SHORT, Waiting::Policy));
        let limit = Deadline::after(LIMIT);
        for short in [before, after] {
            while !short.is_finished() {
                assert!(!limit.has_passed(), "there are more than 200 free slots");
                thread::yield_now();
            }
        }
    });
}

#[test]
fn timed_out_wait_for_bytes_reserves_no_bytes() {
    let mut limit = Duration::from_millis(50);
    loop {
        let (queue, mut consumer) = open(8, 1);
        push(&queue, LONG, Waiting::Never).unwrap();
        let deadline = Deadline::after(limit);
        let (pushed, in_time) = push_while(&queue, LONG, deadline, || {
            // Now there are bytes, but no thread wakes the producer.
            take(&mut consumer).unwrap();
            // The producer may have locked the shelf meanwhile. Then a later pass gives the buffer back.
            while queue.pool.in_use() > 0 {
                pass(&mut consumer, usize::MAX, |_| ());
            }
            !deadline.has_passed()
        });
        if in_time {
            pushed.expect("the producer checks again at its deadline");
            assert!(!queue.gate.has_byte_waiters(), "no producer waits");
            return;
        }
        limit *= 2;
    }
}

#[test]
fn lent_buffer_does_not_block_an_emit_in_serialize() {
    let (queue, mut consumer) = open(64, cost_of(LONG));
    push(&queue, LONG, Waiting::Never).unwrap();
    pass(&mut consumer, 1, |_| ());
    let emit = || {
        push(&queue, LONG, Waiting::Never).expect("no event is queued");
        true
    };
    let mut event = Event::blank();
    let text = event.tail.write("test", 1, &Calls(&emit), queue.max_content(), queue.lender());
    assert!(text.unwrap().is_some(), "the event is long");
}

#[test]
fn bytes_of_a_locked_shelf_admit_a_producer() {
    for _ in 0..100 {
        let (queue, mut consumer) = open(64, 1);
        let queue = &*queue;
        push(queue, LONG, Waiting::Never).unwrap();
        thread::scope(|scope| {
            let _closes = Closes(queue);
            let waiting = scope.spawn(|| push(queue, LONG, Waiting::Policy));
            until_a_producer_waits(queue);
            let shelf = queue.pool.lock_shelf();
            // The shelf is locked, so the writer keeps the buffer.
            pass(&mut consumer, 1, |_| ());
            let writer = scope.spawn(move || {
                consumer.admit_all();
                consumer
            });
            thread::yield_now();
            drop(shelf);
            let _consumer = writer.join().unwrap();
            let limit = Deadline::after(LIMIT);
            while !waiting.is_finished() {
                assert!(!limit.has_passed(), "the writer still keeps the buffer");
                thread::yield_now();
            }
            waiting.join().unwrap().unwrap();
        });
    }
}
