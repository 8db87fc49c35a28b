//! What each host does in its role. A host checks what it can see itself, and fails if that is wrong.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::json;
use wedr_plugin_sdk::testing::TestAgent;
use wedr_plugin_sdk::{Error, EventSink, Runner};

use crate::common::{fill, metadata, watched};
use crate::process::AGENT;

/// The exit status of a host that ends during its session.
pub(crate) const IN_MID_SESSION: u8 = 3;

/// The host's `main`.
pub(crate) fn play(role: &str) -> ExitCode {
    match role {
        // Not under the watchdog, which is a thread of its own.
        "cannot_start_threads" => cannot_start_threads(),
        "exits_in_mid_session" => watched(exits_in_mid_session),
        "returns_from_main_in_mid_session" => return watched(returns_from_main_in_mid_session),
        "returns_while_a_thread_waits" => watched(returns_while_a_thread_waits),
        #[cfg(unix)]
        "runs_out_of_descriptors" => watched(unix::runs_out_of_descriptors),
        #[cfg(unix)]
        "has_a_descriptor_limit_of_zero" => watched(unix::has_a_descriptor_limit_of_zero),
        #[cfg(target_os = "linux")]
        "closes_the_pipes_descriptor" => watched(linux::closes_the_pipes_descriptor),
        #[cfg(target_os = "linux")]
        "sends_short_pieces_only" => watched(linux::sends_short_pieces_only),
        #[cfg(target_os = "linux")]
        "sends_nothing_for_want_of_memory" => watched(linux::sends_nothing_for_want_of_memory),
        #[cfg(unix)]
        "beats" => watched(unix::beats),
        #[cfg(unix)]
        "leaves_a_process_behind" => watched(unix::leaves_a_process_behind),
        unknown => panic!("no such role: {unknown}"),
    }
    ExitCode::SUCCESS
}

fn runner() -> Runner {
    Runner::new().pipe_path(PathBuf::from(std::env::var_os(AGENT).unwrap()))
}

/// Needs an environment in which no thread can get a stack.
fn cannot_start_threads() {
    thread::Builder::new().spawn(|| ()).expect_err("the environment has a stack too large");
    let refused = |runner: Runner| {
        let runner = runner.on_close(|_| unreachable!("there is no session"));
        let body = |_: &EventSink, _: &_| unreachable!("the body must not run");
        runner.run_with(metadata(), body).expect_err("it needs a thread")
    };
    let error = refused(runner().install_signal_handler(false));
    assert!(matches!(error, Error::Io(_)), "{error:?}");
    assert!(!error.is_disconnected(), "{error:?}");
    assert!(error.to_string().contains("thread"), "{error}");

    let error = TestAgent::start().expect_err("it needs a thread");
    assert!(error.to_string().starts_with("cannot start a test agent at "), "{error}");

    let error = refused(runner().install_signal_handler(true));
    // On Windows the system creates a thread for each signal.
    assert!(matches!(error, Error::SignalHandler(_)) || cfg!(windows), "{error:?}");
    #[cfg(target_os = "linux")]
    {
        assert!(error.to_string().contains("too many threads"), "{error}");
        // No handler stays without its thread: the signals still end the process.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        // Bit 0 is signal 1.
        let handled = [1, 2, 15].map(|signal| 1_u64 << (signal - 1)).iter().sum::<u64>();
        assert_eq!(caught & handled, 0, "of SIGHUP, SIGINT and SIGTERM: {caught:x}");
    }
}

/// Needs a stalled agent. Fills the pipe and the queue, and lets a thread wait for room. Prints how many
/// events were accepted.
fn fill_and_leave_a_thread_waiting(sink: &EventSink) {
    let accepted = fill(sink);
    let waits = sink.stats().waits;
    let sink_of_thread = sink.clone();
    thread::spawn(move || sink_of_thread.emit("test.waits", json!({})));
    while sink.stats().waits == waits {
        thread::yield_now();
    }
    println!("{accepted}");
}

fn exits_in_mid_session() {
    let session = runner().channel_capacity(8).run_with(metadata(), |sink, _| {
        fill_and_leave_a_thread_waiting(sink);
        std::process::exit(IN_MID_SESSION.into())
    });
    unreachable!("it has ended the process: {session:?}");
}

fn returns_from_main_in_mid_session() -> ExitCode {
    let (send, waiting) = std::sync::mpsc::channel();
    thread::spawn(move || {
        runner().channel_capacity(8).run_with(metadata(), |sink, ctx| {
            fill_and_leave_a_thread_waiting(sink);
            send.send(()).unwrap();
            ctx.wait_for_shutdown();
            Ok(())
        })
    });
    waiting.recv().unwrap();
    ExitCode::from(IN_MID_SESSION)
}

fn returns_while_a_thread_waits() {
    let runner = runner().channel_capacity(8).drain_timeout(Duration::from_millis(100));
    let result = runner.run_with(metadata(), |sink, _| {
        fill_and_leave_a_thread_waiting(sink);
        Ok(())
    });
    assert!(matches!(result, Err(Error::Undelivered { .. })), "{result:?}");
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use serde_json::json;
    use wedr_plugin_sdk::{Error, EventSink, Result, SessionContext};

    use super::{IN_MID_SESSION, runner};
    use crate::common::{LIMIT, metadata};
    use crate::trials::BEAT;

    pub(super) fn runs_out_of_descriptors() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let leave_none = || {
            // The standard streams are open.
            setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
            File::open("/dev/null").expect_err("no descriptor is left");
        };
        let leave_enough = || setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        let emits = |n: u32| move |sink: &EventSink, _: &_| sink.emit("test.n", json!(n));
        let in_need = |sink: &EventSink| -> Result<()> {
            // A running session needs no further descriptor.
            sink.emit("test.n", json!(1))?;
            sink.flush(LIMIT)?;
            // Another session needs some, and its error names the cause.
            let refused = runner().run_with(metadata(), emits(0)).unwrap_err();
            let Error::Connect { source, .. } = &refused else { panic!("{refused:?}") };
            assert_eq!(source.raw_os_error(), Some(nix::errno::Errno::EMFILE as i32));
            assert!(refused.to_string().contains("descriptor"), "{refused}");
            sink.emit("test.n", json!(2))
        };
        runner()
            .run_with(metadata(), |sink, _| {
                leave_none();
                let result = in_need(sink);
                leave_enough();
                result
            })
            .unwrap();
        runner().run_with(metadata(), emits(3)).unwrap();
    }

    /// Needs an agent that reads slowly, so that writes have to wait.
    pub(super) fn has_a_descriptor_limit_of_zero() {
        let runner = runner().on_close(|report| {
            assert_eq!(report.stats.sent, 300, "{report:?}");
            assert!(report.goodbye_sent && report.confirmed, "{report:?}");
        });
        let body = |sink: &EventSink, ctx: &SessionContext| -> Result<()> {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
            let payload = "x".repeat(4000);
            (0..300).try_for_each(|_| sink.event("test.long").emit(&payload))?;
            sink.flush(LIMIT)?;
            // In this time the writer checks the peer twice.
            ctx.sleep(Duration::from_millis(1200));
            assert!(!ctx.is_shutting_down());
            Ok(())
        };
        runner.drain_timeout(LIMIT).run_with(metadata(), body).unwrap();
    }

    pub(super) fn beats() {
        let runner = runner().heartbeat(BEAT);
        let body = |_: &EventSink, ctx: &SessionContext| {
            ctx.wait_for_shutdown();
            Ok(())
        };
        runner.run_with(metadata(), body).unwrap();
    }

    /// Ends without a goodbye, and leaves a process behind. Prints the id of that process.
    pub(super) fn leaves_a_process_behind() {
        let session = runner().run_with(metadata(), |sink, _| {
            sink.emit("test.n", json!(1))?;
            sink.flush(LIMIT)?;
            let mut lasting = Command::new("sleep");
            lasting.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            println!("{}", lasting.spawn()?.id());
            std::process::exit(IN_MID_SESSION.into())
        });
        unreachable!("it has ended the process: {session:?}");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::error::Error as _;
    use std::fs;
    use std::io;
    use std::os::fd::RawFd;
    use std::time::Duration;

    use nix::errno::Errno;
    use nix::libc;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, apply_filter, apply_filter_all_threads,
    };
    use wedr_plugin_sdk::Error;

    use super::runner;
    use crate::common::time::Moment;
    use crate::common::{NOTICED, SLACK, metadata};

    /// A defect of the host: it closes the writer's socket.
    pub(super) fn closes_the_pipes_descriptor() {
        // In debug builds std checks with F_GETFD that a descriptor is open before it closes it, and aborts
        // the process if not. Here it is always open.
        let looks = (libc::SYS_fcntl, 1, SeccompCmpOp::Eq, libc::F_GETFD.cast_unsigned().into());
        apply_filter(&failing(looks, 0)).unwrap();
        let mut closed = None;
        let result = runner().heartbeat(None).run_with(metadata(), |_, ctx| {
            nix::unistd::close(only_socket()).unwrap();
            closed = Some(Moment::now());
            ctx.wait_for_shutdown();
            Ok(())
        });
        closed.unwrap().elapsed_within(NOTICED + SLACK);
        let error = result.unwrap_err();
        assert!(error.is_disconnected(), "{error:?}");
        let system = error.source().and_then(|e| e.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(system.raw_os_error(), Some(Errno::EBADF as i32), "{error:?}");
    }

    fn only_socket() -> RawFd {
        let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
        let is_socket = |link: io::Result<std::path::PathBuf>| {
            link.is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        let sockets: Vec<_> = open.filter(|path| is_socket(fs::read_link(path))).collect();
        let [socket] = &sockets[..] else { panic!("{sockets:?}") };
        socket.file_name().unwrap().to_str().unwrap().parse().unwrap()
    }

    /// Makes a system call fail with `errno`, if the comparison is true of its argument with this index.
    fn failing(
        (call, argument, compares, to): (i64, u8, SeccompCmpOp, u64),
        errno: i32,
    ) -> BpfProgram {
        let condition =
            SeccompCondition::new(argument, SeccompCmpArgLen::Qword, compares, to).unwrap();
        let rules = vec![SeccompRule::new(vec![condition]).unwrap()];
        let filter = SeccompFilter::new(
            BTreeMap::from([(call, rules)]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno.cast_unsigned()),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        filter.unwrap().try_into().unwrap()
    }

    /// Makes every call fail that sends more than `most` bytes, as if the kernel had no memory.
    fn out_of_memory_beyond(most: u64) -> BpfProgram {
        failing((libc::SYS_sendto, 2, SeccompCmpOp::Gt, most), libc::ENOBUFS)
    }

    pub(super) fn sends_short_pieces_only() {
        // For this thread, and for the writer's, which this thread starts.
        apply_filter(&out_of_memory_beyond(500)).unwrap();
        let runner = runner().on_close(|report| assert!(report.confirmed, "{report:?}"));
        let payload = "x".repeat(5000);
        let body = |sink: &wedr_plugin_sdk::EventSink, _: &_| {
            (0..10).try_for_each(|_| sink.event("test.long").emit(&payload))
        };
        runner.run_with(metadata(), body).unwrap();
    }

    pub(super) fn sends_nothing_for_want_of_memory() {
        let runner = runner().drain_timeout(Duration::from_millis(500));
        let result = runner.run_with(metadata(), |sink, ctx| {
            apply_filter_all_threads(&out_of_memory_beyond(0)).unwrap();
            sink.event("test.n").emit(&1)?;
            ctx.sleep(Duration::from_millis(200));
            // Meanwhile the writer repeats the call, and the pipe is not lost.
            assert!(!ctx.is_shutting_down());
            Ok(())
        });
        assert!(matches!(result, Err(Error::Undelivered { count: 1 })), "{result:?}");
    }
}
