//! The agents: in this process, or in a child process that can be stopped and killed.

use std::path::PathBuf;

use wedr_plugin_sdk::testing::{PluginMessage, RecordedSession, SessionEnd, TestAgent};

use crate::common::LIMIT;
use crate::plan::{Act, Plan};

pub(crate) enum Agent {
    Here(TestAgent),
    #[cfg(unix)]
    Child(child::Child),
}

/// What an agent received.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) messages: Vec<PluginMessage>,
    /// `None` if the recording does not contain the end.
    pub(crate) end: Option<End>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Goodbye,
    Disconnected,
    ByAgent,
    Violation(String),
}

impl From<&SessionEnd> for End {
    fn from(end: &SessionEnd) -> Self {
        match end {
            SessionEnd::Goodbye => Self::Goodbye,
            SessionEnd::Disconnected { .. } => Self::Disconnected,
            SessionEnd::ByAgent => Self::ByAgent,
            other => Self::Violation(format!("{other:?}")),
        }
    }
}

/// Whether this recording contains the end of the session.
fn is_over(session: &RecordedSession) -> bool {
    let last = session.received.last();
    session.end.is_some() || last.is_some_and(|last| last.message == PluginMessage::Goodbye)
}

fn end(session: &RecordedSession) -> Option<End> {
    // An agent that stays after goodbye has not closed the session.
    session.end.as_ref().map(End::from).or_else(|| is_over(session).then_some(End::Goodbye))
}

impl Agent {
    pub(crate) fn start(plan: &Plan) -> Self {
        #[cfg(unix)]
        if plan.in_child {
            return Self::Child(child::Child::start(plan.seed));
        }
        Self::Here(TestAgent::with(plan.script()).unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Here(agent) => agent.path().to_owned(),
            #[cfg(unix)]
            Self::Child(child) => child.path(),
        }
    }

    pub(crate) fn act(&self, act: Act) {
        match self {
            Self::Here(agent) => match act {
                Act::Resume => agent.resume(),
                Act::Disconnect => agent.disconnect(),
                _ => {}
            },
            #[cfg(unix)]
            Self::Child(child) => child.act(act),
        }
    }

    /// Lets the agent read the rest, after the plugin has closed the pipe. `had_session` says whether the
    /// plugin had a session.
    pub(crate) fn seen(self, had_session: bool) -> Seen {
        match self {
            Self::Here(agent) => {
                agent.resume();
                let read =
                    !had_session || agent.wait_until(LIMIT, |all| all.first().is_some_and(is_over));
                assert!(read, "the agent waits for more");
                agent.sessions().first().map_or_else(Seen::default, |session| Seen {
                    messages: session.received.iter().map(|r| r.message.clone()).collect(),
                    end: end(session),
                })
            }
            #[cfg(unix)]
            Self::Child(child) => child.seen(had_session),
        }
    }
}

#[cfg(unix)]
pub(crate) mod child {
    use std::io::{BufRead, BufReader, Write};
    use std::path::PathBuf;
    use std::process::{Command, Stdio};
    use std::thread::{self, JoinHandle};

    use nix::sys::signal::Signal;
    use wedr_plugin_sdk::testing::{PluginMessage, TestAgent};

    use super::{End, Seen, end, is_over};
    use crate::common::LIMIT;
    use crate::common::process::Process;
    use crate::plan::{Act, Plan};

    /// The environment variable with the seed of the plan. The process is the agent of this plan.
    pub(crate) const SEED: &str = "WEDR_TEST_AGENT_SEED";

    /// The child's `main`. It prints its path, then each message when it arrives, then the end.
    pub(crate) fn play(seed: &str) {
        let plan = Plan::draw(seed.parse().unwrap());
        let agent = TestAgent::with(plan.script()).unwrap();
        println!("{}", agent.path().display());
        let mut said = 0;
        let mut over = None;
        while over.is_none() {
            let mut news = Vec::new();
            // This wait ends without a result only if the parent has ended.
            let any = agent.wait_until(LIMIT, |all| {
                let Some(session) = all.first() else { return false };
                for received in &session.received[said..] {
                    serde_json::to_writer(&mut news, &received.message).unwrap();
                    news.push(b'\n');
                }
                said = session.received.len();
                over = is_over(session).then(|| end(session));
                !news.is_empty() || over.is_some()
            });
            assert!(any, "no plugin is connected to the agent any more");
            let mut out = std::io::stdout().lock();
            out.write_all(&news).and_then(|()| out.flush()).expect("the parent listens");
        }
        println!("{:?}", over.flatten().unwrap());
        // The parent closes standard input when it has read everything.
        let _ = std::io::stdin().lock().read_line(&mut String::new());
    }

    pub(crate) struct Child {
        process: Process,
        path: PathBuf,
        reader: Option<JoinHandle<Seen>>,
    }

    impl Child {
        pub(crate) fn start(seed: u64) -> Self {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.env(SEED, seed.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut process = Process::start(&mut command);
            let mut output = BufReader::new(process.0.stdout.take().unwrap());
            let mut path = String::new();
            output.read_line(&mut path).unwrap();
            let reader = thread::spawn(move || read_session(output));
            Self { process, path: PathBuf::from(path.trim_end()), reader: Some(reader) }
        }

        pub(crate) fn path(&self) -> PathBuf {
            self.path.clone()
        }

        pub(crate) fn act(&self, act: Act) {
            let signal = match act {
                Act::Stop => Signal::SIGSTOP,
                Act::Continue => Signal::SIGCONT,
                Act::Kill => Signal::SIGKILL,
                _ => return,
            };
            // The child may have ended; it is reaped at the very end.
            self.process.send(signal);
        }

        pub(crate) fn seen(mut self, had_session: bool) -> Seen {
            self.act(Act::Continue);
            if !had_session {
                self.act(Act::Kill);
            }
            self.reader.take().unwrap().join().unwrap()
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            self.process.kill();
            let _ = std::fs::remove_file(&self.path);
            let _ = self.path.parent().map(std::fs::remove_dir);
        }
    }

    /// What the child prints until it ends. An incomplete last line, of a child that was killed, is ignored.
    fn read_session(mut output: impl BufRead) -> Seen {
        let mut seen = Seen::default();
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            match line.strip_suffix('\n') {
                None => {}
                Some("Goodbye") => seen.end = Some(End::Goodbye),
                Some("Disconnected") => seen.end = Some(End::Disconnected),
                Some("ByAgent") => seen.end = Some(End::ByAgent),
                Some(message) => match serde_json::from_str::<PluginMessage>(message) {
                    Ok(message) => seen.messages.push(message),
                    Err(_) => seen.end = Some(End::Violation(message.to_owned())),
                },
            }
            if seen.end.is_some() {
                break;
            }
            line.clear();
        }
        seen
    }
}
