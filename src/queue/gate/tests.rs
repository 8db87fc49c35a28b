use super::*;

/// Four producers get turns, and the writer wakes two of them. `timed_out` are those whose deadline passes
/// at that moment. Returns how many producers with a turn still must be woken.
fn left_to_wake(timed_out: [usize; 2]) -> usize {
    let gate = Gate::new();
    let waiters = [(); 4].map(|()| match gate.join(Need::event(0), &|_, _| false) {
        Place::InQueue(waiter) => waiter,
        Place::Turn => panic!("there is no room"),
    });
    gate.admit(8, &|_, _| true);
    for waiter in timed_out.map(|index| &waiters[index]) {
        assert_eq!(gate.time_out(waiter, &|_, _| false), Waited::Turn);
    }
    gate.queue.state.lock().to_wake.len()
}

#[test]
fn turn_at_the_deadline_wakes_the_next_producer() {
    assert_eq!(left_to_wake([0, 1]), 0);
    assert_eq!(left_to_wake([2, 3]), 0);
}
