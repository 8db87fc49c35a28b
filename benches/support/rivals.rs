//! The designs that this crate is compared with: a mutex around the pipe, which it replaces, and the
//! non-blocking writer of `tracing-appender`. Both send the same frames.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use serde::Serialize;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::payload::KIND;

/// A connection, after hello.
pub fn connect(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).expect("the agent listens");
    let hello = br#"{"type":"hello","plugin_id":"b","plugin_version":"1","plugin_name":"b","schema_version":1}"#;
    stream.write_all(&(hello.len() as u32).to_le_bytes()).expect("hello");
    stream.write_all(hello).expect("hello");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an ack");
    let mut ack = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut ack).expect("an ack");
    stream
}

/// Sends goodbye, and waits until the agent has read everything.
pub fn finish(mut stream: &UnixStream) {
    let goodbye = br#"{"type":"goodbye"}"#;
    stream.write_all(&(goodbye.len() as u32).to_le_bytes()).expect("goodbye");
    stream.write_all(goodbye).expect("goodbye");
    let _ = stream.read(&mut [0]);
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Serialises an event without `seq` into a buffer, which is reused.
pub fn serialise<T: Serialize + ?Sized, R>(payload: &T, then: impl FnOnce(&[u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let now = UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64;
        write!(scratch, r#""ts_unix_ns":{now},"kind":"#).expect("writing to a Vec succeeds");
        serde_json::to_writer(&mut *scratch, KIND).expect("writing to a Vec succeeds");
        scratch.extend_from_slice(br#","payload":"#);
        serde_json::to_writer(&mut *scratch, payload).expect("writing to a Vec succeeds");
        scratch.push(b'}');
        then(scratch)
    })
}

/// Serialises an event and does nothing with it.
pub fn serialise_alone<T: Serialize + ?Sized>(payload: &T) {
    serialise(payload, |tail| {
        std::hint::black_box(tail);
    });
}

/// Builds a frame in `out`.
fn frame(out: &mut Vec<u8>, seq: u64, tail: &[u8]) {
    out.clear();
    out.extend_from_slice(&[0; 4]);
    write!(out, r#"{{"type":"event","seq":{seq},"#).expect("writing to a Vec succeeds");
    out.extend_from_slice(tail);
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
}

/// The mutex design: `emit` serialises, locks, calls `write_all` and flushes.
pub struct MutexSink(Mutex<Locked>);

struct Locked {
    stream: UnixStream,
    seq: u64,
    frame: Vec<u8>,
}

impl MutexSink {
    pub fn connect(path: &Path) -> Self {
        Self(Mutex::new(Locked { stream: connect(path), seq: 0, frame: Vec::new() }))
    }

    pub fn emit<T: Serialize + ?Sized>(&self, payload: &T) {
        serialise(payload, |tail| {
            let mut locked = self.0.lock().expect("no panic under the lock");
            let Locked { stream, seq, frame: out } = &mut *locked;
            frame(out, *seq, tail);
            *seq += 1;
            stream.write_all(out).expect("the agent reads");
            stream.flush().expect("the agent reads");
        });
    }

    pub fn finish(self) {
        finish(&self.0.into_inner().expect("no panic under the lock").stream);
    }
}

/// `tracing-appender`, with a queue as long as the SDK's.
pub struct AppenderSink {
    writer: NonBlocking,
    guard: WorkerGuard,
    stream: UnixStream,
    seq: AtomicU64,
}

impl AppenderSink {
    /// Lossless, for payloads of `bytes` bytes.
    pub fn connect(path: &Path, bytes: usize) -> Self {
        Self::with(NonBlockingBuilder::default().lossy(false), path, bytes)
    }

    /// Drops an event that finds the queue full.
    pub fn lossy(path: &Path, bytes: usize) -> Self {
        Self::with(NonBlockingBuilder::default().lossy(true), path, bytes)
    }

    fn with(builder: NonBlockingBuilder, path: &Path, bytes: usize) -> Self {
        let stream = connect(path);
        // The defaults of `channel_capacity` and `max_queued_bytes`.
        let events = 8192.min((64 << 20) / bytes);
        let (writer, guard) = builder
            .buffered_lines_limit(events)
            .finish(stream.try_clone().expect("a second handle"));
        Self { writer, guard, stream, seq: AtomicU64::new(0) }
    }

    /// How many events found the queue full.
    pub fn dropped(&self) -> usize {
        self.writer.error_counter().dropped_lines()
    }

    pub fn emit<T: Serialize + ?Sized>(&self, payload: &T) {
        thread_local! {
            static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        serialise(payload, |tail| {
            FRAME.with_borrow_mut(|out| {
                frame(out, self.seq.fetch_add(1, Ordering::Relaxed), tail);
                self.writer.clone().write_all(out).expect("the worker takes it");
            });
        });
    }

    pub fn finish(self) {
        drop(self.writer);
        // Dropping the guard waits for the worker, for at most a second.
        drop(self.guard);
        finish(&self.stream);
    }
}
