//! The live status line.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use console::{Term, truncate_str};
use indicatif::{HumanBytes, HumanCount, ProgressBar};

use super::ending::Ending;
use super::tally::{Counts, Tally, of, rate};
use crate::deadline::Deadline;

/// How often the line changes, and over how many such times its rates are the mean.
const INTERVAL: Duration = Duration::from_millis(250);
const WINDOW: usize = 8;

/// Columns that the spinner takes.
const SPINNER: usize = 2;

/// Keeps `line` up to date until the agent's time is over, and clears it.
pub(super) fn keep(line: &ProgressBar, tally: &Tally, ending: &Ending) {
    let mut seen = VecDeque::from([(Instant::now(), Counts::default())]);
    loop {
        let (open, now) = tally.now();
        let (since, before) = seen[0];
        let seconds = since.elapsed().as_secs_f64();
        let message = format!(
            "{} · {} ({}/s) · {}/s · {}",
            of(open, "session"),
            of(now.events, "event"),
            HumanCount(rate(now.events - before.events, seconds)),
            HumanBytes(rate(now.bytes - before.bytes, seconds)),
            of(now.gaps, "seq gap"),
        );
        let columns = usize::from(Term::stderr().size().1).saturating_sub(SPINNER);
        line.set_message(truncate_str(&message, columns, "…").into_owned());
        line.tick();
        if seen.len() == WINDOW {
            seen.pop_front();
        }
        seen.push_back((Instant::now(), now));
        if ending.over.wait_until(Deadline::after(INTERVAL)) {
            return line.finish_and_clear();
        }
    }
}
