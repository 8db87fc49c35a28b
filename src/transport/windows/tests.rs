//! The error codes of named pipes, and the transport's result for each. Operations that are pending when a
//! pipe is dropped.

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
    assert_ne!(over, Err(mpsc::RecvTimeoutError::Timeout), "the test hangs");
    running.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// A deadline before the watchdog's.
fn next_deadline() -> impl FnMut() -> Option<Deadline> {
    let deadline = Deadline::after(Duration::from_secs(20));
    move || (!deadline.has_passed()).then_some(deadline)
}

fn never_wait() -> Option<Deadline> {
    None
}

/// The plugin's end of a pipe, and the agent's.
fn pair() -> (Pipe, Pipe) {
    let path = temporary_path().unwrap();
    let mut listener = Listener::bind(&path).unwrap();
    let plugin = Pipe::connect(&path, &mut next_deadline()).unwrap();
    let agent = listener.accept(&mut next_deadline()).unwrap().expect("the plugin has connected");
    (plugin, agent)
}

/// The error code of an operation, at once or after it was pending.
fn failure(
    file: &Arc<OwnedHandle>,
    start: impl FnOnce(&mut Operation) -> io::Result<()>,
) -> Option<i32> {
    let mut operation = Operation::new(Arc::clone(file), 16).unwrap();
    let ended = match start(&mut operation) {
        Ok(()) => {
            operation.wait(Deadline::after(Duration::from_secs(20))).unwrap();
            assert!(operation.is_done().unwrap(), "the operation does not end");
            operation.result()
        }
        Err(e) => Err(e),
    };
    ended.expect_err("the other end is closed").raw_os_error()
}

fn read_failure(pipe: &Pipe) -> Option<i32> {
    failure(&pipe.file, Operation::start_read)
}

fn write_failure(pipe: &Pipe) -> Option<i32> {
    failure(&pipe.file, |operation| operation.start_write(b"x"))
}

/// The results of all operations on a lost pipe.
fn assert_lost(mut plugin: Pipe) {
    assert_eq!(plugin.read(&mut [0; 16], &mut next_deadline()).unwrap(), Read::Closed);
    assert!(says_closed(&plugin.write(b"x", &mut next_deadline()).unwrap_err()));
    assert!(says_closed(&plugin.check_peer().unwrap_err()));
    assert_eq!(plugin.wait_closed(&mut next_deadline()), Closed::Orderly);
}

#[test]
fn check_path_accepts_only_local_pipes() {
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
fn missing_pipe_is_error_2() {
    watched(|| {
        let path = temporary_path().unwrap();
        let error =
            Pipe::connect(&path, &mut || panic!("connect waits for a missing pipe")).err().unwrap();
        assert_eq!(
            (error.raw_os_error(), error.kind()),
            (Some(NOT_FOUND), io::ErrorKind::NotFound)
        );
    });
}

#[test]
fn busy_pipe_is_error_231_and_connect_waits() {
    watched(|| {
        let path = temporary_path().unwrap();
        let mut listener = Listener::bind(&path).unwrap();
        // The only instance has a client now. The listener creates the next instance when it accepts this
        // client.
        let first = Pipe::connect(&path, &mut never_wait).unwrap();
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        assert_eq!(opened.unwrap_err().raw_os_error(), Some(PIPE_BUSY));
        let timed_out = Pipe::connect(&path, &mut never_wait).err().unwrap();
        assert_eq!(timed_out.kind(), io::ErrorKind::TimedOut);
        let mut agent = None;
        let mut next_deadline = next_deadline();
        Pipe::connect(&path, &mut || {
            if agent.is_none() {
                agent = listener.accept(&mut next_deadline).unwrap();
            }
            next_deadline()
        })
        .unwrap();
        assert!(agent.is_some(), "connect did not wait");
        drop(first);
    });
}

#[test]
fn closed_server_is_109_to_reads_and_232_to_writes() {
    watched(|| {
        let (plugin, agent) = pair();
        drop(agent);
        assert_eq!(read_failure(&plugin), Some(BROKEN_PIPE));
        assert_eq!(write_failure(&plugin), Some(NO_DATA));
        assert_lost(plugin);
    });
}

#[test]
fn disconnected_server_is_233_to_reads_and_writes() {
    watched(|| {
        let (plugin, agent) = pair();
        agent.disconnect();
        assert_eq!(read_failure(&plugin), Some(PIPE_NOT_CONNECTED));
        assert_eq!(write_failure(&plugin), Some(PIPE_NOT_CONNECTED));
        assert_lost(plugin);
    });
}

#[test]
fn cancelled_read_is_995_and_cancelled_write_is_0() {
    watched(|| {
        let (mut plugin, _agent) = pair();
        let mut reading = Operation::new(Arc::clone(&plugin.file), 16).unwrap();
        reading.start_read().unwrap();
        let error = reading.cancel().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(OPERATION_ABORTED));
        // The agent's posted reads and the pipe's buffer take the first bytes, and the test collects none of
        // them. So a later write stays pending.
        let large = vec![b'x'; BUFFER];
        let written: Vec<_> =
            (0..8).map(|_| plugin.write(&large, &mut never_wait).unwrap()).collect();
        assert_eq!(written.last(), Some(&0), "{written:?}");
        assert!(written[0] > 0, "{written:?}");
    });
}

#[test]
fn operation_can_start_again_after_a_failed_start() {
    watched(|| {
        let (plugin, agent) = pair();
        agent.disconnect();
        let mut operation = Operation::new(Arc::clone(&plugin.file), 16).unwrap();
        assert!(operation.start_write(b"x").is_err());
        // The operation can begin again, because no other operation uses its buffer.
        assert!(operation.start_write(b"y").is_err());
        assert_eq!(operation.buffer()[..1], *b"y");
    });
}

#[test]
fn reject_before_hello_is_read() {
    watched(|| {
        let (mut plugin, mut agent) = pair();
        for part in [&b"in two "[..], b"writes"] {
            assert_eq!(agent.write(part, &mut next_deadline()).unwrap(), part.len());
        }
        agent.disconnect();
        let mut answer = Vec::new();
        let mut into = [0; 4];
        while let Read::Bytes(n) = plugin.read(&mut into, &mut next_deadline()).unwrap() {
            answer.extend_from_slice(&into[..n]);
        }
        assert_eq!(answer, b"in two writes");
    });
}

#[test]
fn agent_that_writes_empty_messages_is_not_lost() {
    watched(|| {
        let (mut plugin, agent) = pair();
        let mut writing = Operation::new(Arc::clone(&agent.file), 1).unwrap();
        for _ in 0..READS {
            writing.start_write(b"").unwrap();
            writing.wait(Deadline::after(Duration::from_secs(20))).unwrap();
            assert_eq!(writing.result().unwrap(), 0);
        }
        // Wine does not pass an empty write to the reader. Windows passes it on as a read of 0 bytes, which
        // must not extend a wait.
        for _ in 0..=READS {
            assert_eq!(plugin.read(&mut [0; 16], &mut never_wait).unwrap(), Read::NotYet);
        }
        plugin.check_peer().unwrap();
    });
}

#[test]
fn dropped_pending_operation_leaks_nothing() {
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
        // The numbers of handles are multiples of four, and free numbers are used again. Other tests open
        // some handles meanwhile, but far fewer than one per round.
        let (first, last) = (numbers[0], numbers[ROUNDS - 1]);
        assert!(last < first + 4 * ROUNDS, "handle {first}, then {last}");
    });
}

/// The result of a call, and how many bytes more this thread has on the heap after it.
fn measured<T>(call: impl FnOnce() -> T) -> (T, i64) {
    let mut result = None;
    let change = allocation_counter::measure(|| result = Some(call()));
    (result.unwrap(), change.bytes_current)
}
