use std::cell::Cell;
use std::thread;

use super::*;

const SLOT: Need = Need::event(0);

fn join(gate: &Gate) -> Arc<Waiter> {
    match gate.join(SLOT, &|_, _| false) {
        Place::InQueue(waiter) => waiter,
        Place::Turn => panic!("there is no room"),
    }
}

#[test]
fn turns_are_given_in_order_up_to_the_limit() {
    let gate = Gate::new();
    let waiters = [(); 4].map(|()| join(&gate));
    let turns = || waiters.each_ref().map(|waiter| *waiter.turn.lock() == Turn::Given);
    gate.admit(2, &|_, _| true);
    assert_eq!(turns(), [true, true, false, false]);
    gate.admit(2, &|_, _| true);
    assert_eq!(turns(), [true, true, false, false]);
    assert!(!gate.done(SLOT), "a producer has a turn");
    gate.admit(2, &|_, _| true);
    assert_eq!(turns(), [true, true, true, false]);
    gate.admit(usize::MAX, &|_, _| true);
    assert_eq!(turns(), [true; 4]);
}

#[test]
fn admission_ends_although_producers_come_back() {
    const PRODUCERS: usize = 4;
    let gate = &Gate::new();
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let producers = [(); PRODUCERS].map(|()| {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let waited = gate.wait(&join(gate), Deadline::NEVER, &|_, _| false);
                    if waited == Waited::Turn {
                        gate.done(SLOT);
                    }
                }
            })
        });
        let mut most_turns = 0;
        for _ in 0..1000 {
            while gate.without_turn() < 2 {
                thread::yield_now();
            }
            let turns = Cell::new(0);
            gate.admit(usize::MAX, &|_, _| {
                turns.set(turns.get() + 1);
                turns.get() < 100 * PRODUCERS
            });
            most_turns = most_turns.max(turns.get());
        }
        over.store(true, Ordering::Relaxed);
        while producers.iter().any(|producer| !producer.is_finished()) {
            gate.release_all();
        }
        assert!(most_turns <= PRODUCERS, "{most_turns} turns at once");
    });
}
