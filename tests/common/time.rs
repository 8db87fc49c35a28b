//! Time limits that hold on a loaded machine. The time in which threads of this process had to wait for a
//! processor is measured, and is not counted as a delay of the SDK.

use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// A point in time, and how long threads of this process had to wait for a processor until then.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub at: Instant,
    pub starved: Duration,
}

impl Moment {
    pub fn now() -> Self {
        Self { at: Instant::now(), starved: starved() }
    }

    /// Returns the time since this moment. Panics if it is longer than `limit`, and the load of the machine
    /// does not explain that.
    pub fn elapsed_within(self, limit: Duration) -> Duration {
        let now = Self::now();
        assert_in_time("it", self.at + limit, self, now);
        now.at - self.at
    }
}

/// Panics if `done` is later than `promised`, and the time that threads were starved since `since` does not
/// explain that. Three threads work one after another until a session ends: the thread that requests the
/// shutdown, the writer, and the thread that waits for both.
pub fn assert_in_time(what: &str, promised: Instant, since: Moment, done: Moment) {
    let late = done.at.saturating_duration_since(promised);
    let starved = done.starved.saturating_sub(since.starved);
    assert!(late <= 3 * starved, "{what} was {late:?} late; threads were starved for {starved:?}");
}

/// For how long in all a thread of this process had to wait for a processor.
fn starved() -> Duration {
    static SLEEPER: OnceLock<&'static Mutex<Sleeper>> = OnceLock::new();
    let sleeper = SLEEPER.get_or_init(|| {
        let due = Instant::now() + NAP;
        let sleeper: &_ = Box::leak(Box::new(Mutex::new(Sleeper { due, starved: Duration::ZERO })));
        thread::spawn(move || {
            loop {
                thread::sleep(NAP);
                let mut sleeper = sleeper.lock().unwrap();
                let late = sleeper.late();
                sleeper.starved += late;
                sleeper.due = Instant::now() + NAP;
            }
        });
        sleeper
    });
    let sleeper = sleeper.lock().unwrap();
    // The current nap counts as well: the whole process may have been stopped.
    sleeper.starved + sleeper.late()
}

/// A thread that sleeps for short times, and measures how much too late it wakes.
struct Sleeper {
    due: Instant,
    starved: Duration,
}

impl Sleeper {
    /// How much too late the thread is now. Zero for a delay that the thread also has on an idle machine.
    fn late(&self) -> Duration {
        let late = self.due.elapsed();
        if late > USUAL { late } else { Duration::ZERO }
    }
}

const NAP: Duration = Duration::from_millis(2);
/// A delay up to this is normal on an idle machine.
#[cfg(not(windows))]
const USUAL: Duration = Duration::from_millis(1);
/// On Windows the timers have a resolution of 15.6 ms.
#[cfg(windows)]
const USUAL: Duration = Duration::from_millis(20);
