//! How the agent ends, and what of the plugin it launched.

use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use serde_json::json;
#[cfg(unix)]
use wedr_plugin_sdk::Error;

use crate::agent::DevAgent;
use crate::common::{metadata, watched};

/// What plugins get to end in.
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
        agent.note("#1 said goodbye; ");
        let ended = agent.note(" ended, ");
        assert!(ended.ends_with("exit status: 0"), "{ended}");
        let (status, _, notes) = agent.ended();
        assert!(status.success());
        assert!(notes[0].starts_with("summary: 1 session, "), "{notes:#?}");
        assert!(!agent.pipe.parent().unwrap().exists(), "the private pipe is removed");
    });
}

#[cfg(unix)]
#[test]
fn a_plugin_that_ignores_ctrl_c_is_killed_with_those_it_started() {
    watched(|| {
        let mut command = crate::agent::command();
        let script = r#"trap "" INT; sleep 1000 & echo "ready $!"; wait"#;
        let mut agent = DevAgent::spawn(command.args(["--", "sh", "-c", script]));
        let ready = agent.note("stdout | ready ");
        let asked = Instant::now();
        agent.interrupt();
        agent.note("has not ended in 5 s: killed");
        assert!(asked.elapsed() >= GRACE);
        agent.note(" ended, signal: 9 (SIGKILL)");
        assert_eq!(agent.ended().0.code(), Some(128 + 9));
        let child = ready.rsplit(' ').next().unwrap().parse().unwrap();
        // Who inherited it may take its time to reap it.
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        let child = nix::unistd::Pid::from_raw(child);
        assert!(nix::sys::signal::kill(child, None).is_err() || gone(), "{child} lives");
    });
}

#[cfg(unix)]
#[test]
fn a_stalled_session_does_not_hold_up_the_end() {
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
        agent.note("#1 stops reading for good");
        let asked = Instant::now();
        agent.interrupt();
        agent.note("#1 was closed: the agent ends; 1 event, ");
        assert!(asked.elapsed() < GRACE, "nothing is to be waited for");
        assert!(agent.ended().0.success());
        assert!(plugin.join().unwrap().unwrap_err().is_disconnected());
    });
}

#[cfg(unix)]
#[test]
fn a_plugin_that_stays_is_cut_off_after_five_seconds() {
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
        agent.note("#1 was closed: the agent ends; 0 events, ");
        assert!(asked.elapsed() >= GRACE);
        assert!(agent.ended().0.success());
        assert!(plugin.join().unwrap().unwrap_err().is_disconnected());
    });
}

#[cfg(unix)]
#[test]
fn an_agent_whose_output_nobody_takes_ends_all_the_same() {
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
fn nobody_who_reads_its_output_ends_the_agent_in_order() {
    watched(|| {
        let mut agent = DevAgent::start(&["--format", "ndjson"]);
        agent
            .runner()
            .run_with(metadata(), |sink, ctx| {
                sink.emit("acme.x", json!(1))?;
                agent.event();
                agent.close_events();
                // The first after the reader has gone may still find room.
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
