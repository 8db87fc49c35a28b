//! The end of a run: the agent, a signal or the plugin ends the session.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

#[cfg(unix)]
use super::super::process::GRACE;
use super::super::tally::counted;
use super::agent::State;
use super::trial::{Awaited, Result, SLICE, Trial, failed};
use crate::deadline::Deadline;

/// How long a plugin may take to end by itself after it lost its session.
const BY_ITSELF: Duration = Duration::from_secs(10);
/// How long the agent may take to read everything that an ended plugin has sent.
const LAST_FRAMES: Duration = Duration::from_secs(10);

impl Trial<'_> {
    /// Waits until the agent has closed the plugin's session, as its script says.
    pub(super) fn session_closes(&mut self) -> Result<()> {
        self.hello()?;
        let limit = self.settings.first_event;
        match self.wait(limit, State::has_ended)? {
            Awaited::TooLong => failed(
                self.with_last_output(format!(
                    "the agent could not close the session within {limit:?}"
                )),
                "read the agent's answer to hello",
            ),
            // The plugin may have closed the session before the agent did.
            Awaited::Yes | Awaited::Ended(_) => {
                self.since = Instant::now();
                Ok(())
            }
        }
    }

    /// The agent closes all sessions and removes its pipe.
    pub(super) fn agent_dies(&mut self) {
        self.since = Instant::now();
        self.agent.die();
    }

    /// Sends SIGINT, as Ctrl+C in a terminal does.
    #[cfg(unix)]
    pub(super) fn interrupt(&mut self) {
        self.signal(nix::sys::signal::SIGINT);
    }

    #[cfg(unix)]
    pub(super) fn terminate(&mut self) {
        self.signal(nix::sys::signal::SIGTERM);
    }

    #[cfg(unix)]
    fn signal(&mut self, signal: nix::sys::signal::Signal) {
        self.since = Instant::now();
        self.plugin.signal(signal);
    }

    /// After a signal: the plugin must end in time, with any exit status.
    #[cfg(unix)]
    pub(super) fn ends(&mut self) -> Result<ExitStatus> {
        match self.wait_end(GRACE)? {
            Some(status) => Ok(status),
            None => failed(
                self.with_last_output(format!("the plugin still runs {GRACE:?} after the signal")),
                "handle the signal, and limit every wait after it, such as a write that blocks; the \
                 agent kills the plugin after this time",
            ),
        }
    }

    /// After a signal: the plugin must send goodbye and exit with status 0.
    #[cfg(unix)]
    pub(super) fn ends_in_order(&mut self) -> Result<String> {
        let status = self.ends()?;
        let took = self.since.elapsed();
        self.read_to_the_end()?;
        let end = self.agent.with_state(|state| state.sessions.last().and_then(|s| s.end.clone()));
        if end != Some(crate::testing::SessionEnd::Goodbye) {
            return failed(
                self.with_last_output(format!(
                    "the plugin closed the pipe without goodbye, {status}"
                )),
                "send all queued events and goodbye before the process ends",
            );
        }
        if !status.success() {
            return failed(
                self.with_last_output(format!(
                    "the plugin sent goodbye and then ended with {status}"
                )),
                "exit with status 0 after goodbye: a supervisor treats any other status as a crash",
            );
        }
        Ok(format!("{}, goodbye and status 0 after {took:.1?}", self.counts()))
    }

    /// Ends the plugin in order where the platform allows it. On Windows the check cannot send Ctrl+C
    /// to a plugin, so it kills the plugin.
    pub(super) fn end_in_order(&mut self) -> Result<String> {
        #[cfg(unix)]
        {
            self.interrupt();
            self.ends_in_order()
        }
        #[cfg(windows)]
        {
            self.kill();
            self.read_to_the_end()?;
            Ok(self.counts())
        }
    }

    /// After the session was lost: the plugin must end by itself, with an error status.
    pub(super) fn fails(&mut self, after: &str) -> Result<String> {
        match self.wait_end(BY_ITSELF)? {
            Some(status) if status.success() => failed(
                self.with_last_output(format!("the plugin exited with status 0 {after}")),
                "exit with a status other than 0, so that a supervisor sees the failure",
            ),
            Some(status) => Ok(format!("{status} after {:.1?}", self.since.elapsed())),
            None => {
                let more = self.agent.with_state(|state| state.sessions.len().saturating_sub(1));
                let again = if more > 0 {
                    format!(", and connected again, {more} times")
                } else {
                    String::new()
                };
                failed(
                    self.with_last_output(format!(
                        "the plugin still runs {BY_ITSELF:?} {after}{again}"
                    )),
                    "end the process; its supervisor starts it again",
                )
            }
        }
    }

    /// The failure of a plugin whose session or process ended too early. After the end of the session the
    /// process may still print a message, so this waits for the end of the process.
    pub(super) fn ended_early<T>(&mut self, during: &str, remedy: &str) -> Result<T> {
        let seen = match self.wait_end(BY_ITSELF)? {
            Some(status) => format!("the plugin ended{during}, {status}"),
            None => format!("the plugin closed its session{during}, and its process still runs"),
        };
        failed(self.with_last_output(seen), remedy)
    }

    /// The plugin must have printed this reason of a reject.
    pub(super) fn has_printed(&self, reason: &str) -> Result<()> {
        let plain = |text: &str| text.to_lowercase().replace('_', " ");
        if plain(&self.plugin.printed()).contains(&plain(reason)) {
            return Ok(());
        }
        failed(
            self.with_last_output(format!("the plugin did not print {reason}")),
            "print the reason of a reject to standard error; an administrator needs it",
        )
    }

    /// The counters of the last session.
    fn counts(&self) -> String {
        self.agent.with_state(|state| {
            let Some(session) = state.sessions.last() else { return "no session".into() };
            let mut counts = vec![counted(session.events, "event")];
            if session.heartbeats > 0 {
                counts.push(counted(session.heartbeats, "heartbeat"));
            }
            if session.missing > 0 {
                counts.push(counted(session.missing, "missing sequence number"));
            }
            counts.join(", ")
        })
    }

    /// Waits until the agent has read everything that the ended process sent.
    fn read_to_the_end(&mut self) -> Result<()> {
        let ended = |state: &State| state.sessions.iter().all(|session| session.end.is_some());
        let deadline = Deadline::after(LAST_FRAMES);
        while !self.agent.wait(SLICE, ended) {
            if deadline.has_passed() {
                return failed(
                    "the plugin's process has ended, and its pipe is still open",
                    "end the processes that the plugin started, and keep them from inheriting the pipe",
                );
            }
        }
        self.check_violations()
    }

    /// Waits until the process has ended, at most for `limit`.
    fn wait_end(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Deadline::after(limit);
        loop {
            let status = self.status()?;
            if status.is_some() || deadline.has_passed() {
                return Ok(status);
            }
            self.agent.wait(SLICE, |_| false);
        }
    }
}
