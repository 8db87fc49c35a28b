//! The live status line.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use console::{Term, truncate_str};
use indicatif::{HumanBytes, HumanCount, ProgressBar};

use super::ending::Ending;
use super::tally::{Counts, Tally, counted, rate};
use crate::deadline::Deadline;

/// How often the line is updated, and over how many updates the rates are averaged.
const INTERVAL: Duration = Duration::from_millis(250);
const WINDOW: usize = 8;

/// The columns of the spinner.
const SPINNER: usize = 2;

/// Updates `line` until the agent closes all sessions, then clears it.
pub(super) fn keep(line: &ProgressBar, tally: &Tally, ending: &Ending) {
    let mut seen = VecDeque::from([(Instant::now(), Counts::default())]);
    loop {
        let (open, now) = tally.now();
        let (since, before) = seen[0];
        let seconds = since.elapsed().as_secs_f64();
        let message = format!(
            "{} · {} ({}/s) · {}/s · {}",
            counted(open, "session"),
            counted(now.events, "event"),
            HumanCount(rate(now.events - before.events, seconds)),
            HumanBytes(rate(now.bytes - before.bytes, seconds)),
            counted(now.gaps, "seq gap"),
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
