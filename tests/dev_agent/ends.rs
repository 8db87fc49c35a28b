//! How the dev agent ends, and how the plugin ends that it launched.

use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use serde_json::json;
#[cfg(unix)]
use wedr_plugin_sdk::Error;

use crate::agent::DevAgent;
#[cfg(unix)]
use crate::common::time::Moment;
use crate::common::{metadata, watched};

/// The time that a plugin has to end.
#[cfg(unix)]
const GRACE: Duration = Duration::from_secs(5);

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_plugin_in_order_and_then_the_agent() {
    use crate::common::example;
    watched(|| {
        let mut agent = DevAgent::launch(&[], example("tick"));
        agent.event();
        agent.interrupt();
        let (status, _, notes) = agent.ended();
        assert!(status.success());
        let at = |is_it: &dyn Fn(&str) -> bool| {
            let line = notes.iter().position(|line| is_it(line));
            line.unwrap_or_else(|| panic!("not all is there: {notes:#?}"))
        };
        // The plugin may end before the agent prints that it sent goodbye.
        let goodbye = at(&|line| line.starts_with("#1 the plugin sent goodbye; "));
        let ended = at(&|line| line.contains(" ended, ") && line.ends_with("exit status: 0"));
        let summary = at(&|line| line.starts_with("summary: 1 session, "));
        assert!(summary > goodbye && summary > ended, "{notes:#?}");
        assert!(!agent.pipe.parent().unwrap().exists(), "the private pipe is removed");
    });
}

/// A plugin ends on Ctrl+C although its output is blocked, because the dev agent's standard error is full.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_agent_and_plugin_while_stderr_is_unread() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use crate::common::process::Process;
    watched(|| {
        let (unread, full) = std::io::pipe().unwrap();
        let mut command = crate::agent::command();
        let script = r#"trap "exit 0" INT; while :; do echo "more and more" >&2; done"#;
        command.args(["--", "sh", "-c", script]).stdout(Stdio::null());
        let mut agent = Process::start(command.stderr(full.try_clone().unwrap()));
        // The buffer keeps the bytes after the line. The test reads no more.
        let mut unread = BufReader::new(unread);
        let mut launched = String::new();
        while !launched.contains(" launched") {
            launched.clear();
            unread.read_line(&mut launched).unwrap();
        }
        let plugin: i32 = launched.split(' ').nth(1).unwrap().parse().unwrap();
        let is_full = || {
            use std::os::fd::AsFd;
            let mut polled = [PollFd::new(full.as_fd(), PollFlags::POLLOUT)];
            poll(&mut polled, PollTimeout::ZERO).unwrap() == 0
        };
        while !is_full() {
            std::thread::yield_now();
        }
        let asked = Moment::now();
        agent.send(nix::sys::signal::SIGINT);
        assert!(agent.0.wait().unwrap().success());
        asked.elapsed_within(GRACE);
        let plugin = nix::unistd::Pid::from_raw(plugin);
        assert!(nix::sys::signal::kill(plugin, None).is_err(), "the plugin runs");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    use std::fs::File;
    watched(|| {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        for arguments in [&["--help"][..], &["--version"]] {
            let status = crate::agent::command().args(arguments).stdout(full()).status().unwrap();
            assert_eq!(status.code(), Some(1), "{arguments:?}");
        }
        let tick = crate::common::example("tick");
        let ran = crate::agent::command().arg("--").arg(&tick).stdout(full()).output().unwrap();
        assert_eq!(ran.status.code(), Some(1));
        let notes = String::from_utf8(ran.stderr).unwrap();
        assert!(notes.contains("cannot write events to standard output: No space left"), "{notes}");

        let mut command = crate::agent::command();
        command.args(["--", "sh", "-c", "exit 0"]).stderr(full());
        assert_eq!(command.status().unwrap().code(), Some(1));
    });
}

#[cfg(unix)]
#[test]
fn plugin_that_ignores_ctrl_c_is_killed_with_its_children() {
    watched(|| {
        let mut command = crate::agent::command();
        let script = r#"trap "" INT; sleep 1000 & echo "ready $!"; wait"#;
        let mut agent = DevAgent::spawn(command.args(["--", "sh", "-c", script]));
        let ready = agent.note("stdout | ready ");
        let asked = Instant::now();
        agent.interrupt();
        agent.note("did not end within 5 s: the agent killed it");
        assert!(asked.elapsed() >= GRACE);
        agent.note(" ended, signal: 9 (SIGKILL)");
        assert_eq!(agent.ended().0.code(), Some(128 + 9));
        let child = ready.rsplit(' ').next().unwrap().parse().unwrap();
        // The process that has adopted the child may reap it later.
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        let child = nix::unistd::Pid::from_raw(child);
        assert!(nix::sys::signal::kill(child, None).is_err() || gone(), "{child} still runs");
    });
}

#[cfg(unix)]
#[test]
fn stalled_session_does_not_delay_the_end() {
    watched(|| {
        let mut agent = DevAgent::start(&["--stall-after", "1"]);
        let runner = agent.runner();
        let plugin = std::thread::spawn(move || {
            runner.run_with(metadata(), |sink, ctx| {
                sink.emit("acme.x", json!(1))?;
                ctx.wait_for_shutdown();
                Ok(())
            })
        });
        agent.note("#1 the agent stops reading for good");
        let asked = Moment::now();
        agent.interrupt();
        agent.note("#1 the agent closed the session, because the agent ends; 1 event, ");
        // The agent need not wait for anything.
        asked.elapsed_within(GRACE);
        assert!(agent.ended().0.success());
        assert!(plugin.join().unwrap().unwrap_err().is_disconnected());
    });
}

#[cfg(unix)]
#[test]
fn plugin_that_stays_is_cut_off_after_five_seconds() {
    watched(|| {
        let mut agent = DevAgent::start(&[]);
        let runner = agent.runner();
        let plugin = std::thread::spawn(move || {
            runner.run_with(metadata(), |_, ctx| {
                ctx.wait_for_shutdown();
                Ok(())
            })
        });
        agent.note("#1 hello");
        let asked = Instant::now();
        agent.interrupt();
        agent.note("#1 the agent closed the session, because the agent ends; 0 events, ");
        assert!(asked.elapsed() >= GRACE);
        assert!(agent.ended().0.success());
        assert!(plugin.join().unwrap().unwrap_err().is_disconnected());
    });
}

#[cfg(unix)]
#[test]
fn agent_ends_while_its_output_is_not_read() {
    watched(|| {
        let mut agent = DevAgent::start_unread(&[]);
        let result =
            agent.runner().drain_timeout(Duration::ZERO).run_with(metadata(), |sink, _| {
                let payload = json!("x".repeat(64 << 10));
                (0..64).try_for_each(|_| sink.emit("acme.much", payload.clone()))?;
                assert!(sink.flush(Duration::from_millis(200)).is_err());
                Ok(())
            });
        assert!(matches!(result, Err(Error::Undelivered { .. })), "{result:?}");
        agent.interrupt();
        agent.note("summary: 1 session, ");
        assert!(agent.exit_status().success());
    });
}

#[test]
fn closed_standard_output_ends_the_agent_in_order() {
    watched(|| {
        let mut agent = DevAgent::start(&["--format", "ndjson"]);
        agent
            .runner()
            .run_with(metadata(), |sink, ctx| {
                sink.emit("acme.x", json!(1))?;
                agent.event();
                agent.close_events();
                // The first write after the reader has closed may still succeed.
                while !ctx.is_shutting_down() && sink.emit("acme.x", json!(2)).is_ok() {
                    ctx.sleep(Duration::from_millis(1));
                }
                Ok(())
            })
            .unwrap_err();
        let (status, _, notes) = agent.ended();
        assert!(status.success(), "{notes:#?}");
        assert!(!notes.iter().any(|line| line.contains("panic")), "{notes:#?}");
        assert!(notes.iter().any(|line| line.starts_with("summary: ")), "{notes:#?}");
    });
}
