use std::thread;

use super::*;

const SHORT: usize = 10;
/// Longer than what is stored inline.
const LONG: usize = 600;

fn event(bytes: usize) -> EventTail {
    EventTail::encode("test", 1, &"x".repeat(bytes), 1 << 20).unwrap()
}

fn open(capacity: usize, heap_bytes: usize) -> (Arc<Queue>, Outlet) {
    let limits = Limits { capacity, heap_bytes, max_body: 1 << 20, overflow: Overflow::Block };
    queue(limits, Arc::new(Shutdown::new()))
}

/// Closes the queue when a test ends, also by a panic, so that no producer keeps it from ending.
struct Closes<'a>(&'a Queue);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.shutdown.request();
    }
}

fn closed(push: Result<()>) -> bool {
    matches!(push, Err(Error::Shutdown))
}

fn until_someone_waits(queue: &Queue) {
    while queue.room.waiting() == 0 {
        thread::yield_now();
    }
}

#[test]
fn a_budget_smaller_than_one_event_lets_them_through_one_by_one() {
    let (queue, mut outlet) = open(8, 1);
    queue.push(event(LONG), Waiting::Never).unwrap();
    assert!(matches!(queue.push(event(LONG), Waiting::Never), Err(Error::QueueFull)));
    queue.push(event(SHORT), Waiting::Never).expect("short events need no budget");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| queue.push(event(LONG), Waiting::Policy).unwrap());
        }
        let mut taken = 0;
        while taken < 6 {
            match outlet.take() {
                Ok(_) => taken += 1,
                Err(_) => outlet.idle(Deadline::NEVER),
            }
        }
    });
    assert_eq!(queue.budget.charged.load(Ordering::Relaxed), 0);
}

#[test]
fn a_large_event_is_not_starved_by_small_ones() {
    const SMALL_ONES: usize = 3;
    let (queue, mut outlet) = open(64, 4 * LONG + 200);
    let queue = &*queue;
    thread::scope(|scope| {
        let _closes = Closes(queue);
        for _ in 0..SMALL_ONES {
            scope.spawn(|| while queue.push(event(LONG), Waiting::Policy).is_ok() {});
        }
        while queue.room.waiting() < SMALL_ONES {
            thread::yield_now();
        }
        let large = scope.spawn(|| queue.push(event(3 * LONG), Waiting::Policy).unwrap());
        // Whatever is taken is free for whoever takes it; the small ones would fit at once.
        let mut taken = 0;
        while !large.is_finished() {
            if queue.room.waiting() <= SMALL_ONES || outlet.take().is_err() {
                thread::yield_now();
                continue;
            }
            outlet.make_room();
            taken += 1;
            // Far more than the line is long: the large one may be in, and its thread not done.
            assert!(taken < 500, "starved");
        }
    });
}

#[test]
fn a_large_event_is_not_starved_by_small_ones_that_run_out_of_time() {
    const SMALL_ONES: usize = 2;
    let (queue, mut outlet) = open(64, 4 * LONG + 200);
    let queue = &*queue;
    while queue.push(event(LONG), Waiting::Never).is_ok() {}
    let attempts = &AtomicUsize::new(0);
    thread::scope(|scope| {
        let _closes = Closes(queue);
        let large = scope.spawn(|| queue.push(event(3 * LONG), Waiting::Policy));
        until_someone_waits(queue);
        for _ in 0..SMALL_ONES {
            scope.spawn(move || {
                let now = || Waiting::Until(Deadline::after(Duration::ZERO));
                while !closed(queue.push(event(LONG), now())) {
                    attempts.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut taken = 0;
        while !large.is_finished() {
            if outlet.take().is_ok() {
                outlet.make_room();
                taken += 1;
                assert!(taken < 100, "starved");
            }
            // Each small one has tried what was freed.
            let enough = attempts.load(Ordering::Relaxed) + 2 * SMALL_ONES;
            while attempts.load(Ordering::Relaxed) < enough {
                thread::yield_now();
            }
        }
        large.join().unwrap().unwrap();
    });
}

#[test]
fn a_wait_does_not_time_out_while_there_is_room() {
    let (queue, mut outlet) = open(1, 0);
    queue.push(event(SHORT), Waiting::Never).unwrap();
    thread::scope(|scope| {
        let soon = Waiting::Until(Deadline::after(Duration::from_millis(50)));
        let waiting = scope.spawn({
            let queue = &queue;
            move || queue.push(event(SHORT), soon)
        });
        until_someone_waits(&queue);
        // Room, and nobody says so.
        outlet.take().unwrap();
        waiting.join().unwrap().expect("it looks again when its time is up");
    });
}

#[test]
fn a_wait_without_room_times_out_and_is_no_refusal() {
    let (queue, _outlet) = open(1, 0);
    queue.push(event(SHORT), Waiting::Never).unwrap();
    let soon = Waiting::Until(Deadline::after(Duration::from_millis(20)));
    assert!(matches!(queue.push(event(SHORT), soon), Err(Error::QueueFull)));
    let stats = queue.stats();
    assert_eq!((stats.refused, stats.waits, stats.queued), (0, 1, 1));
    assert!(stats.longest_wait >= Duration::from_millis(20));
}

#[test]
fn a_slot_stays_for_each_who_waits() {
    let (queue, mut outlet) = open(2, 0);
    let newcomer = || queue.push(event(SHORT), Waiting::Never);
    newcomer().unwrap();
    newcomer().unwrap();
    thread::scope(|scope| {
        let _closes = Closes(&queue);
        let waiting = scope.spawn(|| queue.push(event(SHORT), Waiting::Policy));
        until_someone_waits(&queue);
        outlet.take().unwrap();
        assert!(matches!(newcomer(), Err(Error::QueueFull)), "the one slot is the waiter's");
        outlet.take().unwrap();
        newcomer().expect("there is one for each");
        assert!(matches!(newcomer(), Err(Error::QueueFull)));
        outlet.make_room_before_waiting();
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn nobody_waits_beside_free_slots_while_the_writer_waits() {
    const WAITERS: usize = 3 * super::room::AT_ONCE / 2;
    let (queue, mut outlet) = open(2 * super::room::AT_ONCE, 0);
    let queue = &*queue;
    while queue.push(event(SHORT), Waiting::Never).is_ok() {}
    thread::scope(|scope| {
        let _closes = Closes(queue);
        let waiting: Vec<_> = (0..WAITERS)
            .map(|_| scope.spawn(|| queue.push(event(SHORT), Waiting::Policy)))
            .collect();
        while queue.room.waits() < WAITERS as u64 {
            thread::yield_now();
        }
        // A batch, which the agent does not take.
        while outlet.take().is_ok() {}
        outlet.make_room();
        outlet.make_room_before_waiting();
        let limit = Deadline::after(Duration::from_secs(60));
        while waiting.iter().any(|push| !push.is_finished()) {
            assert!(!limit.has_passed(), "{} still wait", queue.room.waiting());
            thread::yield_now();
        }
    });
}

#[test]
fn newcomers_overtake_a_waiter_a_bounded_number_of_times() {
    const NEWCOMERS: usize = 2;
    const MARK: &str = "the waiter";
    for (capacity, rounds) in [(1, 60), (8, 10)] {
        let (queue, mut outlet) = open(capacity, 0);
        let queue = &*queue;
        thread::scope(|scope| {
            let _closes = Closes(queue);
            for _ in 0..NEWCOMERS {
                // They come again and again, and never wait in line.
                scope.spawn(|| while !closed(queue.push(event(SHORT), Waiting::Never)) {});
            }
            for _ in 0..rounds {
                let waiter = scope.spawn(|| {
                    let marked = EventTail::encode(MARK, 1, &(), 1000).unwrap();
                    queue.push(marked, Waiting::Policy).unwrap();
                });
                while queue.room.waiting() == 0 && !waiter.is_finished() {
                    thread::yield_now();
                }
                // What is queued already, and what comes before the waiter's. A slot at a time:
                // whoever takes it takes it from the others.
                let mut before = 0;
                loop {
                    while queue.events.len() < capacity {
                        thread::yield_now();
                    }
                    let event = outlet.take().unwrap();
                    outlet.make_room_before_waiting();
                    if event.as_bytes().windows(MARK.len()).any(|w| w == MARK.as_bytes()) {
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

#[test]
fn dropping_the_outlet_closes_the_queue_and_counts_what_is_left() {
    let (queue, mut outlet) = open(4, 1 << 20);
    for bytes in [SHORT, LONG, SHORT] {
        queue.push(event(bytes), Waiting::Never).unwrap();
    }
    outlet.take().unwrap();
    outlet.take().unwrap();
    outlet.sent(1);
    assert_eq!(queue.stats().queued, 2);
    thread::scope(|scope| {
        let flush = scope.spawn(|| queue.flush(Duration::MAX));
        drop(outlet);
        assert!(matches!(flush.join().unwrap(), Err(Error::Undelivered { count: 2 })));
    });
    assert!(matches!(queue.push(event(SHORT), Waiting::Policy), Err(Error::Shutdown)));
    let stats = queue.stats();
    assert_eq!((stats.sent, stats.undelivered, stats.queued), (1, 2, 0));
}

#[test]
fn who_waits_for_room_is_released_with_the_reason() {
    for lose in [false, true] {
        let (queue, outlet) = open(1, 0);
        queue.push(event(SHORT), Waiting::Never).unwrap();
        thread::scope(|scope| {
            let waiting: Vec<_> =
                (0..4).map(|_| scope.spawn(|| queue.push(event(SHORT), Waiting::Policy))).collect();
            until_someone_waits(&queue);
            if lose {
                outlet.lose(io::ErrorKind::BrokenPipe.into());
            } else {
                queue.shutdown.request();
            }
            for push in waiting {
                let error = push.join().unwrap().unwrap_err();
                assert_eq!(error.is_disconnected(), lose, "{error}");
                assert_eq!(matches!(error, Error::Shutdown), !lose, "{error}");
            }
        });
    }
}
