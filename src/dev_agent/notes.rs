//! Writes standard error on a separate thread, so that the end of the agent does not block if no process reads
//! standard error.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::ending::Ending;
use crate::deadline::Deadline;

/// How often a caller that waits for its line to be written checks whether the agent ends.
const SLICE: Duration = Duration::from_millis(20);
/// How many slices the agent waits for its last lines after the deadline, if the write does not block.
const LATE_SLICES: u32 = 50;
/// How long a caller waits for its line to be written when the agent ends.
const WRITE_LIMIT: Duration = Duration::from_millis(100);
/// The most lines that are queued when the agent ends and no process reads. Further lines are
/// discarded.
const QUEUED: usize = 1000;

#[derive(Default)]
pub(super) struct Notes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queued: VecDeque<String>,
    /// How many lines were queued, and how many of them were written.
    put: u64,
    written: u64,
    /// A line was not written within [`WRITE_LIMIT`], and no line has been written since.
    stuck: bool,
    /// When the write in progress began.
    writing_since: Option<Instant>,
}

impl Notes {
    /// Queues `line` and waits until it is written. When the agent ends, the wait is at most
    /// [`WRITE_LIMIT`], and there is no wait while the writer is stuck.
    pub(super) fn put(&self, line: String, ending: &Ending) {
        let mut state = self.state.lock();
        if state.stuck && ending.asked.is_requested() && state.queued.len() >= QUEUED {
            return;
        }
        state.queued.push_back(line);
        state.put += 1;
        let number = state.put;
        self.changed.notify_all();
        let mut last = Deadline::NEVER;
        while state.written < number {
            if ending.asked.is_requested() {
                if state.stuck || last.has_passed() {
                    state.stuck = true;
                    return;
                }
                last = last.earlier(Deadline::after(WRITE_LIMIT));
            }
            self.changed.wait_for(&mut state, SLICE);
        }
    }

    /// Waits until all lines are written. After `deadline` it returns as soon as a write blocks, and otherwise
    /// after [`LATE_SLICES`]: on a loaded machine the thread that writes may run later.
    pub(super) fn finish(&self, deadline: Deadline) {
        let mut state = self.state.lock();
        let mut late = 0;
        while state.written < state.put {
            let blocks = state.writing_since.is_some_and(|began| began.elapsed() >= WRITE_LIMIT);
            if deadline.has_passed() && (blocks || late == LATE_SLICES) {
                return;
            }
            let timed_out = self.changed.wait_for(&mut state, SLICE).timed_out();
            late += u32::from(timed_out && deadline.has_passed());
        }
    }

    /// Passes each line to `write`, in order. Never returns.
    pub(super) fn write_all(&self, mut write: impl FnMut(&str)) -> ! {
        loop {
            let mut state = self.state.lock();
            let line = loop {
                if let Some(line) = state.queued.pop_front() {
                    state.writing_since = Some(Instant::now());
                    break line;
                }
                self.changed.wait(&mut state);
            };
            drop(state);
            write(&line);
            let mut state = self.state.lock();
            state.written += 1;
            state.stuck = false;
            state.writing_since = None;
            drop(state);
            self.changed.notify_all();
        }
    }
}
