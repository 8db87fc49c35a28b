//! One session: the agent prints its events and counts its frames.

use std::ops::Range;

use console::Style;

use super::cli::Format;
use super::listen::Agent;
use super::show;
use super::tally::{Counts, counted};
use crate::deadline::Deadline;
use crate::error::{Printable, shortened, shortened_to};
use crate::testing::{Event, Hello, Host, PluginMessage, SeqCheck, SessionEnd, serve};
use crate::transport::Pipe;
use crate::wire::SCHEMA_VERSION;
use crate::wire::frame::PREFIX;

/// How many characters of an invalid frame are printed.
const FRAME_SHOWN: usize = 1000;
/// The session writes its event lines when they have more than this many bytes.
const BATCH: usize = 64 << 10;

/// Serves a connection from its beginning to its end.
pub(super) fn run(agent: &Agent, number: u64, pipe: Pipe) {
    let mut session = Session {
        agent,
        number,
        plugin_id: String::new(),
        lines: String::new(),
        counts: Counts::default(),
        seqs: SeqCheck::default(),
        stalled: false,
        violated: false,
    };
    let script = agent.script.clone().session_id(format!("dev-{number}"));
    let end = serve(&script, &mut session, pipe);
    session.note_end(&end);
    agent.tally.closed();
}

struct Session<'a> {
    agent: &'a Agent,
    number: u64,
    plugin_id: String,
    /// Lines of events that were not written yet.
    lines: String,
    counts: Counts,
    seqs: SeqCheck,
    /// Whether this session has stalled. A session stalls at most once.
    stalled: bool,
    /// Whether the plugin violated the protocol. The violation was printed.
    violated: bool,
}

impl Host for Session<'_> {
    fn must_close(&self) -> bool {
        self.agent.ending.over.is_requested()
    }

    fn pause(&self, until: Deadline) {
        self.agent.ending.over.wait_until(until);
    }

    fn stall(&mut self) {
        let Some(stall) = self.agent.cli.faults.stall_after.filter(|_| !self.stalled) else {
            return;
        };
        self.stalled = true;
        let (time, until) = match stall.time {
            None => ("for good".into(), Deadline::NEVER),
            Some(time) => (format!("for {time:?}"), Deadline::after(time)),
        };
        let events = counted(self.counts.events, "event");
        self.note(&format!("the agent stops reading {time}, after {events} (--stall-after)"));
        self.agent.tally.stalled(true);
        let over = self.agent.ending.over.wait_until(until);
        self.agent.tally.stalled(false);
        if !over {
            self.note("the agent continues to read");
        }
    }

    fn before_reading(&mut self) {
        self.flush();
    }

    fn on_message(&mut self, message: PluginMessage, content: &[u8]) {
        // `serve` has already rejected numbers that are out of order.
        let missing = self.seqs.next(&message).unwrap_or_default();
        if !missing.is_empty() {
            self.note_gap(&missing);
        }
        let missing = missing.end - missing.start;
        self.agent.tally.message(&message, PREFIX + content.len(), missing, &mut self.counts);
        match &message {
            PluginMessage::Hello(hello) => self.note_hello(hello),
            PluginMessage::Event(event) => {
                self.show(event, content.len());
                self.kill_if_due();
            }
            PluginMessage::Heartbeat { .. } | PluginMessage::Goodbye => {}
        }
    }

    fn on_violation(&mut self, what: &str, bytes: &[u8]) {
        self.violated = true;
        self.agent.tally.violation();
        self.warn(&format!("the plugin violated the protocol: {}", Printable(&shortened(what))));
        let frame = shortened_to(FRAME_SHOWN, &String::from_utf8_lossy(bytes));
        self.warn(&format!("the frame: {}", Printable(&frame)));
    }
}

impl Session<'_> {
    fn note_hello(&mut self, hello: &Hello) {
        let [id, name, version] =
            [&hello.plugin_id, &hello.plugin_name, &hello.plugin_version].map(|t| shortened(t));
        self.note(&format!(
            "hello from {} {}, id {}",
            Printable(&name),
            Printable(&version),
            Printable(&id)
        ));
        self.plugin_id = id;
        self.note_delayed_faults();
        if hello.schema_version != SCHEMA_VERSION {
            self.warn(&format!(
                "hello has schema version {}; the agent accepts only {SCHEMA_VERSION} and would \
                 reject the plugin: schema_mismatch",
                hello.schema_version
            ));
        }
    }

    fn show(&mut self, event: &Event, bytes: usize) {
        self.lines += &match self.agent.cli.format {
            Format::Text => show::text(self.number, event, bytes, self.agent.screen.columns()),
            Format::Ndjson => show::ndjson(self.number, &self.plugin_id, event),
        };
        if self.lines.len() > BATCH {
            self.flush();
        }
    }

    /// Kills the launched plugin once it has sent as many events as `--kill-after` says.
    fn kill_if_due(&mut self) {
        let due = self.agent.cli.faults.kill_after == Some(self.counts.events);
        if let (true, Some(launcher)) = (due, &self.agent.launcher) {
            launcher.kill();
            let events = counted(self.counts.events, "event");
            self.note(&format!("the agent killed the plugin after {events} (--kill-after)"));
        }
    }

    /// Prints which faults the agent injects only after some events, because the plugin may send fewer events.
    fn note_delayed_faults(&mut self) {
        for (after, what, flag) in self.agent.cli.faults.delayed() {
            if after > 0 {
                let after = counted(after, "event");
                self.note(&format!("the agent {what} after {after} ({flag})"));
            }
        }
    }

    /// Prints which faults the agent did not inject because the plugin sent too few events.
    fn note_missed_faults(&mut self) {
        let sent = self.counts.events;
        for (after, _, flag) in self.agent.cli.faults.delayed() {
            if sent < after {
                let sent = counted(sent, "event");
                self.warn(&format!("the plugin sent only {sent}: {flag} {after} had no effect"));
            }
        }
    }

    fn note_gap(&mut self, missing: &Range<u64>) {
        let (first, last) = (missing.start, missing.end - 1);
        let numbers = if first == last { first.to_string() } else { format!("{first} to {last}") };
        self.warn(&format!("seq gap: {numbers} missing; the plugin lost events"));
    }

    fn note_end(&mut self, end: &SessionEnd) {
        self.note_missed_faults();
        let faults = &self.agent.cli.faults;
        let how = match end {
            SessionEnd::Goodbye => "the plugin sent goodbye".into(),
            _ if self.violated => {
                "the agent closed the session: the plugin violated the protocol".into()
            }
            SessionEnd::Violation(_) | SessionEnd::Disconnected { .. } => {
                "the plugin closed the pipe without goodbye".into()
            }
            SessionEnd::ByAgent => match (self.must_close(), &faults.reject) {
                (true, _) => "the agent closed the session, because the agent ends".into(),
                (false, Some(reason)) => {
                    format!(
                        "the agent rejected the plugin: {} (--reject)",
                        Printable(&shortened(reason))
                    )
                }
                (false, None) if faults.close_after.is_some() => {
                    "the agent closed the session (--close-after)".into()
                }
                (false, None) => "the agent closed the session".into(),
            },
        };
        self.note(&format!("{how}; {}", self.counts));
    }

    /// Prints a note about the session, after the session's earlier events.
    fn note(&mut self, what: &str) {
        self.flush();
        let number = Style::new().for_stderr().dim().apply_to(format!("#{}", self.number));
        self.agent.screen.note(format_args!("{number} {what}"));
    }

    fn warn(&mut self, what: &str) {
        self.flush();
        self.agent.screen.warn(format_args!("#{} {what}", self.number));
    }

    fn flush(&mut self) {
        self.agent.screen.events(&self.lines);
        self.lines.clear();
    }
}
