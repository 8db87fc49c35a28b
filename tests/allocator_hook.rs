//! A plugin whose allocator emits, on every thread and at every allocation. These tests have a process of
//! their own, because a process has only one allocator.
#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

mod common;
mod raw;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use common::{metadata, watched};
use raw::RawAgent;
use wedr_plugin_sdk::{Error, EventSink, Overflow};

/// Emits an event for each allocation, and for each deallocation.
struct Hooked;

#[global_allocator]
static ALLOCATOR: Hooked = Hooked;

static IS_ON: AtomicBool = AtomicBool::new(false);
static SINK: OnceLock<EventSink> = OnceLock::new();
static ACCEPTED: AtomicU64 = AtomicU64::new(0);
static FULL: AtomicU64 = AtomicU64::new(0);
/// How many threads have waited for the first time.
static HAVE_WAITED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether the hook must not emit: the calling thread is in the hook already, or the test does not watch
    /// it.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Longer than an inline event.
const LONG: &str = match std::str::from_utf8(&[b'x'; 400]) {
    Ok(text) => text,
    Err(_) => panic!("ASCII"),
};

fn hook(size: usize) {
    if !IS_ON.load(Ordering::Relaxed) {
        return;
    }
    let Some(sink) = SINK.get() else { return };
    // The thread-locals of a thread that is ending are gone.
    if IS_INSIDE.try_with(|inside| inside.replace(true)) != Ok(false) {
        return;
    }
    let text = if size.is_multiple_of(3) { LONG } else { "short" };
    match sink.event("test.alloc").try_emit(text) {
        Ok(()) => ACCEPTED.fetch_add(1, Ordering::Relaxed),
        Err(Error::QueueFull) => FULL.fetch_add(1, Ordering::Relaxed),
        Err(_) => 0,
    };
    IS_INSIDE.set(false);
}

// SAFETY: every call goes to the system's allocator.
unsafe impl GlobalAlloc for Hooked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hook(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        hook(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Emits, flushes and sleeps on many threads. The allocator emits on all of them as well.
fn session_with_hooks(policy: Overflow, capacity: usize, heap_bytes: usize) {
    const THREADS: usize = 16;
    const WAITERS: usize = 100;
    let agent = RawAgent::start();
    let runner = agent.runner().channel_capacity(capacity).max_queued_bytes(heap_bytes);
    let runner = runner.overflow(policy).loss_reports("test.lost");
    let (resume, resumed) = mpsc::channel();
    let serving = thread::spawn(move || {
        IS_INSIDE.set(true);
        let mut pipe = agent.accept();
        pipe.shake_hands();
        resumed.recv().unwrap();
        while pipe.next_frame().is_some_and(|frame| !frame.ends_with(b"goodbye\"}")) {}
    });
    let (report, reported) = mpsc::channel();
    runner
        .on_close(move |closed| report.send(closed.clone()).unwrap())
        .run_with(metadata(), |sink, ctx| {
            SINK.set(sink.clone()).unwrap();
            IS_ON.store(true, Ordering::Relaxed);
            let emitted = AtomicU64::new(0);
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    let emitted = &emitted;
                    scope.spawn(move || {
                        for n in 0..200 {
                            let text = "x".repeat([10, 600, 3000, 70_000][(n + thread) % 4]);
                            let told = match n % 3 {
                                0 => sink.event("test.own").emit(&text),
                                1 => sink.event("test.own").try_emit(&text),
                                _ => {
                                    let short = Duration::from_millis(1);
                                    sink.event("test.own").emit_timeout(&text, short)
                                }
                            };
                            emitted.fetch_add(u64::from(told.is_ok()), Ordering::Relaxed);
                            if n % 20 == 0 {
                                let _ = sink.flush(Duration::from_millis(1));
                                sink.report_lost(1);
                                ctx.sleep(Duration::from_millis(1));
                                // This thread waits for the first time.
                                scope.spawn(|| ctx.sleep(Duration::from_millis(1)));
                            }
                        }
                    });
                }
                // First fill the queue.
                while FULL.load(Ordering::Relaxed) < 100 {
                    thread::yield_now();
                }
                resume.send(()).unwrap();
            });
            // Threads wait for the first time, one after another, while the writer is idle: `parking_lot`
            // keeps a table of waiting threads, which must grow.
            thread::scope(|scope| {
                let end: &_ = Box::leak(Box::new(Barrier::new(WAITERS + 1)));
                for waiter in 0..WAITERS {
                    scope.spawn(move || {
                        thread::sleep(Duration::from_millis(5));
                        ctx.sleep(Duration::from_millis(1));
                        HAVE_WAITED.fetch_add(1, Ordering::Relaxed);
                        end.wait();
                    });
                    while HAVE_WAITED.load(Ordering::Relaxed) <= waiter {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                end.wait();
            });
            IS_ON.store(false, Ordering::Relaxed);
            assert!(emitted.into_inner() > 0);
            Ok(())
        })
        .unwrap();
    serving.join().unwrap();
    let stats = reported.recv().unwrap().stats;
    assert!(ACCEPTED.load(Ordering::Relaxed) > 100, "{stats:?}");
    assert_eq!((stats.undelivered, stats.queued), (0, 0), "{stats:?}");
}

#[test]
fn try_emit_in_the_allocator_does_not_deadlock() {
    watched(|| session_with_hooks(Overflow::Block, 4096, 1 << 20));
}
