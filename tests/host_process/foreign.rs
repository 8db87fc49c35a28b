//! A host that is not a Rust program: its `main` is C's, and Rust's runtime has not run. So SIGPIPE has its
//! default action, and a standard stream that was closed stays closed. The tests compile it and choose its
//! role.
#![no_main]

use std::ffi::{c_char, c_int};
use std::io::Read;
use std::time::Duration;

use wedr_plugin_sdk::{Error, EventSink, Metadata, Result, Runner, SessionContext};

const LIMIT: Duration = Duration::from_secs(20);

unsafe extern "C" {
    fn _exit(status: c_int) -> !;
    fn close(descriptor: c_int) -> c_int;
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
}

#[unsafe(no_mangle)]
extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    match std::env::var("WEDR_TEST_ROLE").unwrap().as_str() {
        "writes_to_an_agent_that_is_gone" => writes_to_an_agent_that_is_gone(),
        "prints" => prints(),
        "forks" => forks(),
        "forks_between_sessions" => forks_between_sessions(),
        unknown => panic!("no such role: {unknown}"),
    }
    0
}

fn run(runner: Runner, body: impl FnOnce(&EventSink, &SessionContext) -> Result<()>) -> Result<()> {
    let agent = std::env::var_os("WEDR_TEST_AGENT").unwrap();
    runner.pipe_path(agent).run_with(Metadata::new("foreign", "1", "Foreign"), body)
}

/// Needs an agent that closes after the handshake, and then a line on standard input.
fn writes_to_an_agent_that_is_gone() {
    // The bit of SIGPIPE, signal 13, in the mask of ignored signals.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    assert_eq!(ignored & (1 << 12), 0, "SIGPIPE is ignored");

    let result = run(Runner::new(), |sink, _| {
        std::io::stdin().read_to_end(&mut Vec::new())?;
        loop {
            sink.event("test.into_the_void").emit(&1)?;
        }
    });
    assert!(result.unwrap_err().is_disconnected());
}

/// Prints to all standard streams while it emits. An environment variable names the closed streams.
fn prints() {
    let closed = std::env::var("CLOSED").unwrap();
    for descriptor in closed.split(' ') {
        // SAFETY: the check itself shows whether the descriptor is open.
        assert_eq!(unsafe { close(descriptor.parse().unwrap()) }, -1, "{descriptor} is open");
    }
    run(Runner::new(), |sink, _| {
        for n in 0..100 {
            sink.event("test.n").emit(&n)?;
            println!("not for the agent");
            eprintln!("not for the agent");
        }
        if closed.starts_with('0') {
            assert_eq!(std::io::stdin().read(&mut [0]).unwrap(), 0);
        }
        sink.flush(LIMIT)
    })
    .unwrap();
}

/// Forks during a session, which is not supported, and shows what is lost.
fn forks() {
    const CAPACITY: u64 = 4;
    // A writer that does not linger sleeps only when it is idle.
    let runner = Runner::new().channel_capacity(CAPACITY as usize).linger(Duration::ZERO);
    run(runner, |sink, _| {
        sink.event("test.parent").emit(&0)?;
        sink.flush(LIMIT)?;
        // A lock that the writer holds would stay locked in the child.
        while !writer_sleeps() {
            std::thread::yield_now();
        }
        // SAFETY: the child uses no lock that another thread may have held.
        let child = unsafe { fork() };
        if child == 0 {
            let as_documented = is_a_session_without_a_writer(sink, CAPACITY);
            // SAFETY: this ends the child without the exit handlers of the parent.
            unsafe { _exit(c_int::from(!as_documented)) }
        }
        let mut status = -1;
        // SAFETY: `status` is valid for writing.
        assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child saw something else");
        (1..10).try_for_each(|n| sink.event("test.parent").emit(&n))
    })
    .unwrap();
}

/// Whether the thread `wedr-writer` sleeps.
fn writer_sleeps() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat"))).any(|stat| {
        // A thread that has ended meanwhile has no such file.
        stat.is_ok_and(|stat| stat.contains("(wedr-writer) S "))
    })
}

/// Forks after a session, and runs another session in the child. It fails with signal handlers, and works
/// without them.
fn forks_between_sessions() {
    run(Runner::new(), |sink, _| sink.event("test.parent").emit(&1)).unwrap();
    // SAFETY: the child uses no lock that another thread may have held.
    let child = unsafe { fork() };
    if child == 0 {
        let refused = run(Runner::new(), |_, _| Ok(()));
        let without = Runner::new().install_signal_handler(false);
        let ran = run(without, |sink, _| sink.event("test.child").emit(&1));
        let is_told = |error: &Error| {
            matches!(error, Error::SignalHandler(_)) && error.to_string().contains("forked")
        };
        let right = refused.is_err_and(|error| is_told(&error)) && ran.is_ok();
        // SAFETY: this ends the child without the exit handlers of the parent.
        unsafe { _exit(c_int::from(!right)) }
    }
    let mut status = -1;
    // SAFETY: `status` is valid for writing.
    assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child saw something else");
    // The parent still has its handlers.
    run(Runner::new(), |sink, _| sink.event("test.parent").emit(&2)).unwrap();
}

/// In the child: `emit` accepts events until the queue is full, and no thread sends them.
fn is_a_session_without_a_writer(sink: &EventSink, capacity: u64) -> bool {
    let before = sink.stats();
    let emit = || sink.event("test.child").try_emit(&1);
    let accepted = (0..).take_while(|_| emit().is_ok()).count() as u64;
    let flushed = sink.flush(Duration::from_millis(50));
    accepted == capacity
        && sink.stats().sent == before.sent
        && matches!(flushed, Err(Error::FlushTimeout(_)))
}
