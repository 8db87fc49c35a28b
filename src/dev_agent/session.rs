//! One session: what is printed and counted of it.

use console::Style;

use super::Agent;
use super::cli::Format;
use super::screen::Screen;
use super::show;
use super::tally::{Counts, of};
use crate::deadline::Deadline;
use crate::error::{Printable, shortened, shortened_to};
use crate::testing::{Event, Hello, Host, PluginMessage, SessionEnd, serve};
use crate::transport::Pipe;
use crate::wire::SCHEMA_VERSION;
use crate::wire::frame::PREFIX;

/// How many characters of an offending frame are shown.
const FRAME_SHOWN: usize = 1000;
/// Bytes of event lines that are written at once.
const BATCH: usize = 64 << 10;

/// Serves a connection from its beginning to its end.
pub(super) fn run(agent: &Agent, number: u64, pipe: Pipe) {
    let mut session = Session {
        agent,
        number,
        plugin_id: String::new(),
        lines: String::new(),
        columns: Screen::columns(),
        counts: Counts::default(),
        next_seq: 0,
        stalled: false,
        broken: false,
    };
    let script = agent.script.clone().session_id(format!("dev-{number}"));
    let end = serve(&script, &mut session, pipe);
    session.say_end(&end);
    agent.tally.closed();
}

struct Session<'a> {
    agent: &'a Agent,
    number: u64,
    plugin_id: String,
    /// Events that were not written yet.
    lines: String,
    columns: Option<usize>,
    counts: Counts,
    /// What `seq` is to be if nothing is lost.
    next_seq: u64,
    /// Whether it has done so; once is enough.
    stalled: bool,
    /// Whether it was said how the plugin broke the protocol.
    broken: bool,
}

impl Host for Session<'_> {
    fn must_close(&self) -> bool {
        self.agent.ending.over.is_requested()
    }

    fn pause(&self, until: Deadline) {
        self.agent.ending.over.wait_until(until);
    }

    fn stall(&mut self) {
        let Some(stall) = self.agent.cli.trouble.stall_after.filter(|_| !self.stalled) else {
            return;
        };
        self.stalled = true;
        let (time, until) = match stall.time {
            None => ("for good".into(), Deadline::NEVER),
            Some(time) => (format!("for {time:?}"), Deadline::after(time)),
        };
        let events = of(self.counts.events, "event");
        self.note(&format!("stops reading {time}, after {events} (--stall-after)"));
        self.agent.tally.stalled(true);
        let over = self.agent.ending.over.wait_until(until);
        self.agent.tally.stalled(false);
        if !over {
            self.note("reads on");
        }
    }

    fn before_reading(&mut self) {
        self.flush();
    }

    fn took(&mut self, message: PluginMessage, body: &[u8]) {
        let missing = message.seq().map_or(0, |seq| seq - self.next_seq);
        if missing > 0 {
            self.say_gap(missing);
        }
        if let Some(seq) = message.seq() {
            self.next_seq = seq.saturating_add(1);
        }
        self.agent.tally.message(&message, PREFIX + body.len(), missing, &mut self.counts);
        match &message {
            PluginMessage::Hello(hello) => self.greet(hello),
            PluginMessage::Event(event) => self.show(event, body.len()),
            PluginMessage::Heartbeat { .. } | PluginMessage::Goodbye => {}
        }
    }

    fn refused(&mut self, what: &str, bytes: &[u8]) {
        self.broken = true;
        self.agent.tally.violation();
        self.trouble(&format!("broke the protocol: {}", Printable(&shortened(what))));
        let frame = shortened_to(FRAME_SHOWN, &String::from_utf8_lossy(bytes));
        self.trouble(&format!("its frame: {}", Printable(&frame)));
    }
}

impl Session<'_> {
    fn greet(&mut self, hello: &Hello) {
        let [id, name, version] =
            [&hello.plugin_id, &hello.plugin_name, &hello.plugin_version].map(|t| shortened(t));
        self.note(&format!(
            "hello from {} {}, id {}",
            Printable(&name),
            Printable(&version),
            Printable(&id)
        ));
        self.plugin_id = id;
        if hello.schema_version != SCHEMA_VERSION {
            self.trouble(&format!(
                "speaks schema version {}, where the agent speaks {SCHEMA_VERSION} and would \
                 reject it: schema_mismatch",
                hello.schema_version
            ));
        }
    }

    fn show(&mut self, event: &Event, bytes: usize) {
        self.lines += &match self.agent.cli.format {
            Format::Text => show::text(self.number, event, bytes, self.columns),
            Format::Ndjson => show::ndjson(self.number, &self.plugin_id, event),
        };
        if self.lines.len() > BATCH {
            self.flush();
        }
    }

    fn say_gap(&mut self, missing: u64) {
        let (first, last) = (self.next_seq, self.next_seq + missing - 1);
        let numbers = if missing == 1 { first.to_string() } else { format!("{first} to {last}") };
        self.trouble(&format!("seq gap: {numbers} left out; the plugin refused events"));
    }

    fn say_end(&mut self, end: &SessionEnd) {
        let trouble = &self.agent.cli.trouble;
        let how = match end {
            SessionEnd::Goodbye => "said goodbye".into(),
            _ if self.broken => "was dropped".into(),
            SessionEnd::Violation(_) | SessionEnd::Disconnected { .. } => {
                "closed the pipe without a goodbye".into()
            }
            SessionEnd::ByAgent => match (self.must_close(), &trouble.reject) {
                (true, _) => "was closed: the agent ends".into(),
                (false, Some(reason)) => {
                    format!("was rejected: {} (--reject)", Printable(&shortened(reason)))
                }
                (false, None) if trouble.close_after.is_some() => {
                    "was closed (--close-after)".into()
                }
                (false, None) => "was closed".into(),
            },
        };
        self.note(&format!("{how}; {}", self.counts));
    }

    /// Says something of the session, after the events before it.
    fn note(&mut self, what: &str) {
        self.flush();
        let number = Style::new().for_stderr().dim().apply_to(format!("#{}", self.number));
        self.agent.screen.note(format_args!("{number} {what}"));
    }

    fn trouble(&mut self, what: &str) {
        self.flush();
        self.agent.screen.trouble(format_args!("#{} {what}", self.number));
    }

    fn flush(&mut self) {
        self.agent.screen.events(&self.lines);
        self.lines.clear();
    }
}
