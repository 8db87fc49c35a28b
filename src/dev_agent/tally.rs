//! The counters behind the status line and the summary.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Instant;

use indicatif::{HumanBytes, HumanCount};
use parking_lot::{Condvar, Mutex};

use crate::deadline::Deadline;
use crate::error::{Printable, shortened};
use crate::testing::{Event, PluginMessage, wait};

/// How many kinds are counted separately. The limit bounds the memory.
const KINDS: usize = 1000;
/// How many kinds the summary names.
const SHOWN_KINDS: usize = 10;

/// The counters of one session, or of all sessions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) events: u64,
    pub(super) heartbeats: u64,
    /// Bytes of frames, length prefixes included.
    pub(super) bytes: u64,
    pub(super) gaps: u64,
    /// How many sequence numbers are missing in all gaps.
    pub(super) missing: u64,
}

impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, heartbeats, bytes, gaps, missing } = *self;
        let (events, heartbeats) = (counted(events, "event"), counted(heartbeats, "heartbeat"));
        write!(f, "{events}, {heartbeats}, {}", HumanBytes(bytes))?;
        if gaps > 0 {
            write!(f, ", {} ({} missing)", counted(gaps, "seq gap"), HumanCount(missing))?;
        }
        Ok(())
    }
}

/// `count` and the noun `thing`, in the plural unless the count is 1.
pub(super) fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", HumanCount(count))
}

/// The counters of all sessions.
#[derive(Default)]
pub(super) struct Tally {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether the agent opens no more sessions.
    all_opened: bool,
    sessions: u64,
    open: u64,
    /// How many open sessions are stalled now.
    stalled: u64,
    violations: u64,
    counts: Counts,
    kinds: BTreeMap<String, u64>,
    other_kinds: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl State {
    fn count_kind(&mut self, event: &Event) {
        let kind = shortened(&event.kind);
        let full = self.kinds.len() >= KINDS;
        match self.kinds.get_mut(&kind) {
            Some(count) => *count += 1,
            None if full => self.other_kinds += 1,
            None => drop(self.kinds.insert(kind, 1)),
        }
    }
}

impl Tally {
    /// Counts a message in the total and in its `session`. `missing` is how many sequence numbers are
    /// missing before the message.
    pub(super) fn message(
        &self,
        message: &PluginMessage,
        bytes: usize,
        missing: u64,
        session: &mut Counts,
    ) {
        let mut state = self.state.lock();
        for counts in [session, &mut state.counts] {
            counts.bytes += bytes as u64;
            counts.gaps += u64::from(missing > 0);
            counts.missing = counts.missing.saturating_add(missing);
            match message {
                PluginMessage::Event(_) => counts.events += 1,
                PluginMessage::Heartbeat { .. } => counts.heartbeats += 1,
                PluginMessage::Hello(_) | PluginMessage::Goodbye => {}
            }
        }
        if let PluginMessage::Event(event) = message {
            state.count_kind(event);
            let now = Instant::now();
            state.first.get_or_insert(now);
            state.last = Some(now);
        }
    }

    /// Counts a new session and returns its number.
    pub(super) fn opened(&self) -> u64 {
        let mut state = self.state.lock();
        state.open += 1;
        state.sessions += 1;
        state.sessions
    }

    /// How many sessions were opened.
    pub(super) fn sessions(&self) -> u64 {
        self.state.lock().sessions
    }

    pub(super) fn all_opened(&self) {
        self.change(|state| state.all_opened = true);
    }

    pub(super) fn closed(&self) {
        self.change(|state| state.open -= 1);
    }

    pub(super) fn stalled(&self, now: bool) {
        self.change(|state| if now { state.stalled += 1 } else { state.stalled -= 1 });
    }

    pub(super) fn violation(&self) {
        self.change(|state| state.violations += 1);
    }

    /// Waits until the agent opens no more sessions and all open sessions are stalled, at most until
    /// `deadline`.
    pub(super) fn wait_idle(&self, deadline: Deadline) {
        let mut state = self.state.lock();
        let idle = |state: &State| state.all_opened && state.open == state.stalled;
        while !idle(&state) && !deadline.has_passed() {
            wait(&self.changed, &mut state, deadline);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// How many sessions are open, and the counters of all sessions.
    pub(super) fn now(&self) -> (u64, Counts) {
        let state = self.state.lock();
        (state.open, state.counts)
    }

    pub(super) fn summary(&self) -> String {
        let state = self.state.lock();
        let mut first =
            format!("summary: {}, {}", counted(state.sessions, "session"), state.counts);
        if state.violations > 0 {
            first.extend([", ", &counted(state.violations, "violation"), " of the protocol"]);
        }
        let mut lines = vec![first];
        let ends = state.first.zip(state.last).filter(|(first, last)| last > first);
        if let Some((first, last)) = ends {
            let time = last - first;
            let seconds = time.as_secs_f64();
            lines.push(format!(
                "{}/s and {}/s, over {time:.1?} from the first event to the last",
                HumanCount(rate(state.counts.events, seconds)),
                HumanBytes(rate(state.counts.bytes, seconds)),
            ));
        }
        let mut kinds: Vec<_> = state.kinds.iter().collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown = kinds.iter().take(SHOWN_KINDS);
        lines.extend(shown.map(|(kind, count)| line(**count, &Printable(kind))));
        let others: u64 = kinds.iter().skip(SHOWN_KINDS).map(|(_, count)| **count).sum();
        if others + state.other_kinds > 0 {
            lines.push(line(others + state.other_kinds, &"of other kinds"));
        }
        lines.join("\n  ")
    }
}

fn line(count: u64, what: &impl Display) -> String {
    format!("{:>10} {what}", HumanCount(count).to_string())
}

/// `count` per second.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the rate is only displayed"
)]
pub(super) fn rate(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds.max(1e-3)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_is_bounded_and_plain() {
        let tally = Tally::default();
        let mut counts = Counts::default();
        for n in 0..KINDS + 5 {
            let fields = serde_json::json!({
                "type": "event", "seq": 0, "ts_unix_ns": 0, "kind": format!("\u{1b}{n}"), "payload": 0,
            });
            let message = serde_json::from_value(fields).unwrap();
            tally.message(&message, 10, u64::from(n == 7) * 3, &mut counts);
        }
        let summary = tally.summary();
        assert!(summary.contains("1,005 events, 0 heartbeats, "), "{summary}");
        assert!(summary.contains("1 seq gap (3 missing)"), "{summary}");
        assert!(summary.ends_with("995 of other kinds"), "{summary}");
        assert!(!summary.contains('\u{1b}'));
        assert_eq!(tally.state.lock().kinds.len(), KINDS);
    }
}
