//! A host that is no Rust program: it has C's `main`, and nothing of Rust's runtime has run. So
//! SIGPIPE does what it does by default, and a standard stream that was closed stays closed.
//! The trials compile it; its name and its roles are theirs.
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
        unknown => panic!("no such role: {unknown}"),
    }
    0
}

fn run(runner: Runner, body: impl FnOnce(&EventSink, &SessionContext) -> Result<()>) -> Result<()> {
    let agent = std::env::var_os("WEDR_TEST_AGENT").unwrap();
    runner.pipe_path(agent).run_with(Metadata::new("foreign", "1", "Foreign"), body)
}

/// Needs an agent that closes after the handshake, and standard input after that.
fn writes_to_an_agent_that_is_gone() {
    // The thirteenth signal, of those that are ignored.
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

/// Prints to all that it has while it emits. What is closed is in the environment.
fn prints() {
    let closed = std::env::var("CLOSED").unwrap();
    for descriptor in closed.split(' ') {
        // SAFETY: it is closed: that it is not open is what is checked.
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

/// Forks in mid-session, which is not supported, and shows what is lost.
fn forks() {
    const CAPACITY: u64 = 4;
    run(Runner::new().channel_capacity(CAPACITY as usize), |sink, ctx| {
        sink.event("test.parent").emit(&0)?;
        sink.flush(LIMIT)?;
        // Lets the writer come to rest: a lock that it holds would stay locked in the child.
        ctx.sleep(Duration::from_millis(50));
        // SAFETY: the child uses nothing that another thread may have had locked.
        let child = unsafe { fork() };
        if child == 0 {
            let as_documented = is_a_session_without_a_writer(sink, CAPACITY);
            // SAFETY: it ends the child, without what the parent registered for its own end.
            unsafe { _exit(c_int::from(!as_documented)) }
        }
        let mut status = -1;
        // SAFETY: `status` is there to be written.
        assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child saw something else");
        (1..10).try_for_each(|n| sink.event("test.parent").emit(&n))
    })
    .unwrap();
}

/// In the child: events are accepted until the queue is full, and go nowhere.
fn is_a_session_without_a_writer(sink: &EventSink, capacity: u64) -> bool {
    let before = sink.stats();
    let emit = || sink.event("test.child").try_emit(&1);
    let accepted = (0..).take_while(|_| emit().is_ok()).count() as u64;
    let flushed = sink.flush(Duration::from_millis(50));
    accepted == capacity
        && sink.stats().sent == before.sent
        && matches!(flushed, Err(Error::FlushTimeout(_)))
}
