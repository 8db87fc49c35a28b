//! The raw codes that a named pipe answers with, and what becomes of each; what is pending when it
//! is dropped.

use std::os::windows::io::AsRawHandle;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;

use windows_sys::Win32::Foundation::ERROR_OPERATION_ABORTED;

use super::*;

const NOT_FOUND: i32 = 2;
const BROKEN_PIPE: i32 = 109;
const PIPE_BUSY: i32 = 231;
const NO_DATA: i32 = 232;
const PIPE_NOT_CONNECTED: i32 = 233;
const OPERATION_ABORTED: i32 = ERROR_OPERATION_ABORTED.cast_signed();

/// Fails `test` instead of hanging.
fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel::<()>();
    let running = thread::spawn(move || {
        // Dropped when the test ends, also by a panic.
        let _done = done;
        test();
    });
    let over = finished.recv_timeout(Duration::from_secs(60));
    assert_ne!(over, Err(mpsc::RecvTimeoutError::Timeout), "it hangs");
    running.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Patience that ends before the watchdog's.
fn patience() -> impl FnMut() -> Option<Deadline> {
    let deadline = Deadline::after(Duration::from_secs(20));
    move || (!deadline.has_passed()).then_some(deadline)
}

fn no_patience() -> Option<Deadline> {
    None
}

/// The plugin's end of a pipe, and the agent's.
fn pair() -> (Pipe, Pipe) {
    let path = temporary_path().unwrap();
    let mut listener = Listener::bind(&path).unwrap();
    let plugin = Pipe::connect(&path, &mut patience()).unwrap();
    let agent = listener.accept(&mut patience()).unwrap().expect("the plugin has connected");
    (plugin, agent)
}

/// The code that the system fails an operation with, at once or in the end.
fn failure(
    file: &Arc<OwnedHandle>,
    start: impl FnOnce(&mut Operation) -> io::Result<()>,
) -> Option<i32> {
    let mut operation = Operation::new(Arc::clone(file), 16).unwrap();
    let ended = match start(&mut operation) {
        Ok(()) => {
            operation.wait(Deadline::after(Duration::from_secs(20))).unwrap();
            assert!(operation.is_done().unwrap(), "it does not end");
            operation.result()
        }
        Err(e) => Err(e),
    };
    ended.expect_err("nobody is at the other end").raw_os_error()
}

fn read_failure(pipe: &Pipe) -> Option<i32> {
    failure(&pipe.file, Operation::start_read)
}

fn write_failure(pipe: &Pipe) -> Option<i32> {
    failure(&pipe.file, |operation| operation.start_write(b"x"))
}

/// What every way of using a pipe says once it is lost.
fn assert_lost(mut plugin: Pipe) {
    assert_eq!(plugin.read(&mut [0; 16], &mut patience()).unwrap(), Read::Closed);
    assert!(says_closed(&plugin.write(b"x", &mut patience()).unwrap_err()));
    assert!(says_closed(&plugin.check_peer().unwrap_err()));
    assert_eq!(plugin.wait_closed(&mut patience()), Closed::Orderly);
}

#[test]
fn only_a_local_pipe_is_a_path() {
    assert_eq!(check_path(Path::new(DEFAULT_PATH)), Ok(()));
    assert_eq!(check_path(Path::new(r"\\.\pipe\with spaces.é")), Ok(()));
    let long = format!(r"\\.\pipe\{}", "x".repeat(300));
    for path in [
        "",
        r"C:\pipe",
        r"\\.\pipe\",
        r"\\server\pipe\x",
        r"\\?\pipe\x",
        r"\\.\pipe\a\b",
        r"\\.\pipe\a/b",
        "\\\\.\\pipe\\a\0b",
        r"\\.\pipe\..\..\server\x",
        &long,
    ] {
        assert!(check_path(Path::new(path)).is_err(), "{path:?}");
    }
}

#[test]
fn a_pipe_that_nobody_made_is_2() {
    watched(|| {
        let path = temporary_path().unwrap();
        let error =
            Pipe::connect(&path, &mut || panic!("there is nothing to wait for")).err().unwrap();
        assert_eq!(
            (error.raw_os_error(), error.kind()),
            (Some(NOT_FOUND), io::ErrorKind::NotFound)
        );
    });
}

#[test]
fn a_busy_pipe_is_231_and_waited_for() {
    watched(|| {
        let path = temporary_path().unwrap();
        let mut listener = Listener::bind(&path).unwrap();
        // Its one instance has a client now, and it makes the next when it takes this one.
        let first = Pipe::connect(&path, &mut no_patience).unwrap();
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        assert_eq!(opened.unwrap_err().raw_os_error(), Some(PIPE_BUSY));
        let timed_out = Pipe::connect(&path, &mut no_patience).err().unwrap();
        assert_eq!(timed_out.kind(), io::ErrorKind::TimedOut);
        let mut agent = None;
        let mut patience = patience();
        Pipe::connect(&path, &mut || {
            if agent.is_none() {
                agent = listener.accept(&mut patience).unwrap();
            }
            patience()
        })
        .unwrap();
        assert!(agent.is_some(), "it did not wait");
        drop(first);
    });
}

#[test]
fn a_server_that_has_closed_is_109_to_a_read_and_232_to_a_write() {
    watched(|| {
        let (plugin, agent) = pair();
        drop(agent);
        assert_eq!(read_failure(&plugin), Some(BROKEN_PIPE));
        assert_eq!(write_failure(&plugin), Some(NO_DATA));
        assert_lost(plugin);
    });
}

#[test]
fn a_server_that_has_disconnected_is_233_to_a_read_and_a_write() {
    watched(|| {
        let (plugin, agent) = pair();
        agent.disconnect();
        assert_eq!(read_failure(&plugin), Some(PIPE_NOT_CONNECTED));
        assert_eq!(write_failure(&plugin), Some(PIPE_NOT_CONNECTED));
        assert_lost(plugin);
    });
}

#[test]
fn what_was_cancelled_is_995_and_a_write_out_of_time() {
    watched(|| {
        let (mut plugin, _agent) = pair();
        let mut reading = Operation::new(Arc::clone(&plugin.file), 16).unwrap();
        reading.start_read().unwrap();
        let error = reading.cancel().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(OPERATION_ABORTED));
        // Each read of the agent takes as much, and nobody asks for what they have.
        let large = vec![b'x'; BUFFER];
        let written: Vec<_> =
            (0..8).map(|_| plugin.write(&large, &mut no_patience).unwrap()).collect();
        assert_eq!(written.last(), Some(&0), "{written:?}");
        assert!(written[0] > 0, "{written:?}");
    });
}

#[test]
fn an_operation_that_never_began_is_over() {
    watched(|| {
        let (plugin, agent) = pair();
        agent.disconnect();
        let mut operation = Operation::new(Arc::clone(&plugin.file), 16).unwrap();
        assert!(operation.start_write(b"x").is_err());
        // It can begin again, and its buffer is nobody else's.
        assert!(operation.start_write(b"y").is_err());
        assert_eq!(operation.buffer()[..1], *b"y");
    });
}

#[test]
fn a_reject_is_read_though_it_was_written_and_cut_off_before_hello() {
    watched(|| {
        let (mut plugin, mut agent) = pair();
        for part in [&b"in two "[..], b"writes"] {
            assert_eq!(agent.write(part, &mut patience()).unwrap(), part.len());
        }
        agent.disconnect();
        let mut answer = Vec::new();
        let mut into = [0; 4];
        while let Read::Bytes(n) = plugin.read(&mut into, &mut patience()).unwrap() {
            answer.extend_from_slice(&into[..n]);
        }
        assert_eq!(answer, b"in two writes");
    });
}

#[test]
fn an_agent_that_writes_nothing_says_nothing_and_is_not_gone() {
    watched(|| {
        let (mut plugin, agent) = pair();
        let mut writing = Operation::new(Arc::clone(&agent.file), 1).unwrap();
        for _ in 0..READS {
            writing.start_write(b"").unwrap();
            writing.wait(Deadline::after(Duration::from_secs(20))).unwrap();
            assert_eq!(writing.result().unwrap(), 0);
        }
        // Wine keeps it from the reader; Windows passes it on as 0 bytes, each of which must not hold
        // a plugin that has no patience left.
        for _ in 0..=READS {
            assert_eq!(plugin.read(&mut [0; 16], &mut no_patience).unwrap(), Read::NotYet);
        }
        plugin.check_peer().unwrap();
    });
}

#[test]
fn what_is_pending_when_it_is_dropped_leaves_no_handle_and_no_memory() {
    watched(|| {
        const ROUNDS: usize = 300;
        let large = vec![b'x'; BUFFER];
        let mut numbers = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let ((mut plugin, agent), made) = measured(pair);
            plugin.writing.start_write(&large).unwrap();
            numbers.push(plugin.file.as_raw_handle().addr());
            let ((), dropped) = measured(|| drop((plugin, agent)));
            assert_eq!(made + dropped, 0, "bytes");
        }
        // Handles are numbered by fours, and numbers that came free are given out again. Other
        // tests have some open meanwhile, and far fewer than one a round.
        let (first, last) = (numbers[0], numbers[ROUNDS - 1]);
        assert!(last < first + 4 * ROUNDS, "{first}, then {last}");
    });
}

/// What a call returns, and how many bytes more this thread has on the heap after it.
fn measured<T>(call: impl FnOnce() -> T) -> (T, i64) {
    let mut result = None;
    let change = allocation_counter::measure(|| result = Some(call()));
    (result.unwrap(), change.bytes_current)
}
