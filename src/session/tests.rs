//! The end of a session whose writer panics.

use std::sync::mpsc;

use super::*;
use crate::queue::{Limits, Overflow, queue};
use crate::transport::{Listener, Pipe, Read, remove, temporary_path};
use crate::writer::Timing;

const FOREVER: fn() -> Option<Deadline> = || Some(Deadline::NEVER);
/// The events that are sent before the writer panics.
const SENT: u64 = 2;
/// More than a pipe holds.
const LONG: usize = 900_000;

/// A session whose writer panics after [`SENT`] events, and the agent's end of its pipe.
fn session_whose_writer_panics() -> (Session, Pipe) {
    let path = temporary_path().unwrap();
    let mut listener = Listener::bind(&path).unwrap();
    let pipe = Pipe::connect(&path, &mut FOREVER.clone()).unwrap();
    let agent = listener.accept(&mut FOREVER.clone()).unwrap().unwrap();
    remove(&path);
    let shutdown = Arc::new(Shutdown::new());
    let (max_content, heartbeat) = (1 << 20, Duration::MAX);
    let (capacity, heap_bytes, overflow) = (4, 64 << 20, Overflow::Block);
    let limits = Limits { capacity, heap_bytes, max_content, overflow, reports_losses: false };
    let timing = Timing { heartbeat: None, linger: Duration::ZERO, drain_timeout: Duration::MAX };
    let (queue, consumer) = queue(limits, Arc::clone(&shutdown));
    let writer = Writer::new(pipe, consumer, Arc::clone(&shutdown), timing, None);
    let writer = writer.panics_after(SENT);
    let (session_id, server_version) = ("of a test".into(), "none".into());
    let params = SessionParams { session_id, server_version, max_content, heartbeat };
    (Session::start(queue, SessionContext::new(shutdown, params), writer).unwrap(), agent)
}

/// A plugin body: four producers, a flush and `wait_for_shutdown` wait until the writer panics. Returns how
/// many events were accepted.
fn wait_for_the_panic(sink: &EventSink, ctx: &SessionContext, agent: &mut Pipe) -> u64 {
    let payload = "x".repeat(LONG);
    let emit_until_closed = || {
        let emits = (0..).map(|_| sink.event("test").emit(&payload));
        emits.take_while(Result::is_ok).count() as u64
    };
    // The agent does not read, so the writer is blocked with the first event.
    let patient = Duration::from_millis(200);
    let mut accepted = 0;
    while sink.event("test").emit_timeout(&payload, patient).is_ok() {
        accepted += 1;
    }
    thread::scope(|scope| {
        let waits = sink.stats().waits;
        let producers: Vec<_> = (0..4).map(|_| scope.spawn(emit_until_closed)).collect();
        let flush = scope.spawn(|| sink.flush(Duration::MAX));
        let parked = scope.spawn(|| ctx.wait_for_shutdown());
        while sink.stats().waits < waits + 4 {
            thread::yield_now();
        }
        assert!(!ctx.is_shutting_down());
        // The agent reads again, so the writer continues and panics.
        let mut buffer = vec![0; 64 << 10];
        while matches!(agent.read(&mut buffer, &mut FOREVER.clone()), Ok(Read::Bytes(_))) {}
        accepted += producers.into_iter().map(|p| p.join().unwrap()).sum::<u64>();
        assert!(matches!(flush.join().unwrap(), Err(Error::Undelivered { .. })));
        parked.join().unwrap();
    });
    assert!(matches!(sink.event("test").emit(&1), Err(Error::Shutdown)));
    accepted
}

#[test]
fn writer_panic_wakes_all_threads_and_ends_the_counts() {
    let (session, mut agent) = session_whose_writer_panics();
    let (report, reported) = mpsc::channel();
    let on_close: OnClose = Box::new(move |closed| report.send(closed.clone()).unwrap());
    let running = thread::spawn(move || {
        let mut accepted = 0;
        let body = |sink: &EventSink, ctx: &SessionContext| {
            accepted = wait_for_the_panic(sink, ctx, &mut agent);
            Ok(())
        };
        let membership = crate::signals::join(&session.ctx.shutdown);
        let run = || session.run(body, Some(on_close), &membership);
        (catch_unwind(AssertUnwindSafe(run)), accepted)
    });
    let limit = Duration::from_secs(60);
    let report =
        reported.recv_timeout(limit).expect("all waiting threads wake up, and the session ends");
    let (result, accepted) = running.join().unwrap();
    let panic = result.unwrap_err();
    let message = panic.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(message.contains("overflow"), "{message}");
    let SessionReport { cause, stats, confirmed, .. } = report;
    assert_eq!((cause, confirmed), (CloseCause::Panicked, false));
    assert_eq!((stats.sent, stats.queued), (SENT, 0));
    // One more event of each producer may be counted: the event whose `emit` returned the error.
    let counted = stats.sent + stats.undelivered;
    assert!((accepted..=accepted + 4).contains(&counted), "{accepted} accepted: {stats:?}");
}
