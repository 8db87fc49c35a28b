//! The order of events from several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use fastrand::Rng;

use super::*;

const THREADS: usize = 4;
const TOKENS: u64 = 3000;
const FLOODS: usize = 3;
/// Lanes and capacity: from one slot to many, from one lane to sixteen.
const SHAPES: [(usize, usize); 12] = [
    (1, 1),
    (1, 64),
    (2, 2),
    (2, 1000),
    (2, 65_536),
    (4, 4),
    (4, 64),
    (4, 8192),
    (8, 100),
    (8, 65_536),
    (16, 16),
    (16, 65_536),
];

/// Pushes the event with this number: short or long, with or without its own timestamp.
fn push_token(queue: &Queue, token: u64, rng: &mut Rng) -> Result<()> {
    let ts = if rng.bool() { rng.u64(..) } else { 1 };
    let bytes = if rng.u8(..4) == 0 { rng.usize(LONG..3 * LONG) } else { rng.usize(..150) };
    push_at(queue, &format!("token {token}"), ts, bytes, Waiting::Policy)
}

/// Runs `pass_token` while a consumer takes events all the time, with or without other threads that flood.
/// Asserts that the events of the token were taken in order, and so were the events of each flood.
fn assert_in_order(lanes: usize, capacity: usize, floods: usize, pass_token: impl FnOnce(&Queue)) {
    let (queue, mut consumer) = open_lanes(lanes, capacity, 4 << 20);
    let queue = &*queue;
    let (is_over, running) = (&AtomicBool::new(false), &AtomicUsize::new(floods + 1));
    let mut next = vec![0; floods];
    let mut next_token = 0;
    thread::scope(|scope| {
        let _closes = Closes(queue);
        for flood in 0..floods {
            scope.spawn(move || {
                let mut rng = Rng::new();
                for n in 0_u64.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let bytes = if rng.u8(..8) == 0 { LONG } else { SHORT };
                    let kind = format!("flood {flood} {n}");
                    if push_kind(queue, &kind, bytes, Waiting::Policy).is_err() {
                        break;
                    }
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        let see = |text: &[u8]| {
            let words: Vec<_> = kind(text).split(' ').collect();
            let number = |word: &str| word.parse::<u64>().unwrap();
            match words[..] {
                ["token", token] => {
                    assert_eq!(number(token), next_token, "{lanes} lanes, {capacity} slots");
                    next_token += 1;
                }
                ["flood", flood, n] => {
                    let next = &mut next[number(flood) as usize];
                    assert_eq!(number(n), *next, "{lanes} lanes, {capacity} slots");
                    *next += 1;
                }
                _ => panic!("{words:?}"),
            }
        };
        let consuming = scope.spawn(|| {
            let _closes = Closes(queue);
            consume(&mut consumer, || running.load(Ordering::Acquire) == 0, see);
        });
        pass_token(queue);
        is_over.store(true, Ordering::Relaxed);
        running.fetch_sub(1, Ordering::Release);
        consuming.join().unwrap();
    });
    assert_eq!(next_token, TOKENS);
}

/// The token is a lock: each thread that gets the lock emits.
fn pass_token_by_lock(queue: &Queue) {
    let token = &std::sync::Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || {
                let mut rng = Rng::new();
                loop {
                    let mut token = token.lock().unwrap();
                    if *token == TOKENS || push_token(queue, *token, &mut rng).is_err() {
                        return;
                    }
                    *token += 1;
                    drop(token);
                    if rng.bool() {
                        thread::yield_now();
                    }
                }
            });
        }
    });
}

/// The token is a message: each thread that receives it emits, and sends it to a random thread.
fn pass_token_by_channel(queue: &Queue) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel()).unzip();
    senders[0].send(0).unwrap();
    thread::scope(|scope| {
        for receiver in receivers {
            let senders = senders.clone();
            scope.spawn(move || {
                let mut rng = Rng::new();
                while let Ok(token @ ..TOKENS) = receiver.recv() {
                    let is_closed = push_token(queue, token, &mut rng).is_err();
                    let to = rng.usize(..THREADS);
                    if token + 1 < TOKENS && !is_closed {
                        senders[to].send(token + 1).unwrap();
                    } else {
                        // All threads end.
                        for sender in &senders {
                            let _ = sender.send(TOKENS);
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn token_passed_by_lock_keeps_its_order() {
    for (lanes, capacity) in SHAPES {
        for floods in [0, FLOODS] {
            assert_in_order(lanes, capacity, floods, pass_token_by_lock);
        }
    }
}

#[test]
fn token_passed_by_channel_keeps_its_order() {
    for (lanes, capacity) in SHAPES {
        for floods in [0, FLOODS] {
            assert_in_order(lanes, capacity, floods, pass_token_by_channel);
        }
    }
}

#[test]
fn event_beyond_the_cut_waits_for_the_next_pass() {
    let (queue, mut consumer) = open_lanes(2, 8, 0);
    let push_to = |lane, kind: &str| {
        let mut event = Event::blank();
        event.tail.write(kind, 1, &(), queue.max_content(), queue.lender()).unwrap();
        queue.lanes.draw(&mut event);
        assert!(queue.lanes.try_push(lane, event).is_ok());
    };
    let take = |consumer: &mut Consumer| {
        let mut taken = None;
        consumer.take(|tail: &mut EventTail| taken = Some(kind(tail.as_bytes()).to_owned()));
        taken
    };
    push_to(1, "a");
    consumer.begin_pass();
    // The pass has read the cut, so `b` and `c` are beyond it.
    push_to(0, "b");
    push_to(1, "c");
    assert_eq!(take(&mut consumer).as_deref(), Some("a"));
    assert_eq!(take(&mut consumer), None);
    consumer.end_pass(0);
    assert_eq!(queue.stats().queued, 3, "an event at the head of a lane is queued");
    consumer.begin_pass();
    assert_eq!(take(&mut consumer).as_deref(), Some("b"));
    assert_eq!(take(&mut consumer).as_deref(), Some("c"));
    assert_eq!(take(&mut consumer), None);
    consumer.end_pass(0);
}
