//! Calls of `emit` in panic hooks, in drops while a thread unwinds, and in destructors of thread-locals, with
//! a stalled agent and a full queue.

mod common;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use common::{
    LIMIT, assert_counters, assert_delivered, fill, runner, session, stalled_agent, watched,
};
use serde::{Serialize, Serializer};
use serde_json::json;
use wedr_plugin_sdk::testing::TestAgent;
use wedr_plugin_sdk::{Error, EventSink, Overflow, Result, Runner};

fn small_queue(agent: &TestAgent) -> Runner {
    runner(agent).channel_capacity(8)
}

/// The sink of a thread's panic hook, and the results of its calls.
struct OnPanic {
    sink: EventSink,
    results: Vec<Result<()>>,
}

thread_local! {
    static ON_PANIC: RefCell<Option<OnPanic>> = const { RefCell::new(None) };
}

/// Runs `panics` with a panic hook that emits on `sink`. Returns the results of the calls.
fn with_a_hook_that_emits(sink: &EventSink, panics: impl FnOnce()) -> Vec<Result<()>> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let before = std::panic::take_hook();
        // One hook serves all threads, and other tests run on other threads.
        std::panic::set_hook(Box::new(move |info| {
            ON_PANIC.with_borrow_mut(|on_panic| match on_panic {
                Some(OnPanic { sink, results }) => {
                    let said = info.payload().downcast_ref::<&str>();
                    results.push(sink.emit("test.panic", json!({ "said": said })));
                }
                None => before(info),
            });
        }));
    });
    ON_PANIC.set(Some(OnPanic { sink: sink.clone(), results: Vec::new() }));
    let panicked = catch_unwind(AssertUnwindSafe(panics));
    let on_panic = ON_PANIC.take().expect("no other code takes it");
    panicked.expect_err("it was to panic");
    on_panic.results
}

#[test]
fn emit_in_a_panic_hook_does_not_block() {
    watched(|| {
        let agent = stalled_agent();
        let mut accepted = 0;
        let (result, report) = session(small_queue(&agent), |sink, _| {
            accepted = fill(sink);
            let said = with_a_hook_that_emits(sink, || panic!("on purpose"));
            assert!(matches!(said[..], [Err(Error::QueueFull)]), "{said:?}");
            agent.resume();
            Ok(())
        });
        result.unwrap();
        assert_counters(&report.stats, accepted, 0);
        // The test harness does not report a failure in a hook, so the test sends it to the agent.
        assert_eq!(report.stats.refused, 1);
        assert_delivered(&agent.ended_session(LIMIT).unwrap(), &report.stats);
    });
}

struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("while serialising")
    }
}

#[test]
fn panic_hook_emits_on_the_sink_whose_event_panicked() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, report) = session(runner(&agent), |sink, _| {
            let said = with_a_hook_that_emits(sink, || {
                let _ = sink.event("test.bad").emit(&Panics);
            });
            assert!(matches!(said[..], [Ok(())]), "{said:?}");
            sink.emit("test.good", json!({}))
        });
        result.unwrap();
        let seen = agent.ended_session(LIMIT).unwrap();
        assert_delivered(&seen, &report.stats);
        let events: Vec<_> = seen.events().map(|e| (e.kind.as_str(), &e.payload)).collect();
        let said = json!({ "said": "while serialising" });
        assert_eq!(events, [("test.panic", &said), ("test.good", &json!({}))]);
    });
}

#[test]
fn no_emit_blocks_while_unwinding() {
    struct EmitsWhenDropped<'a>(&'a EventSink, &'a mut Vec<Result<()>>);
    impl Drop for EmitsWhenDropped<'_> {
        fn drop(&mut self) {
            let event = || self.0.event("test.drop");
            self.1.push(event().emit(&1));
            self.1.push(event().emit_timeout(&2, 2 * LIMIT));
            self.1.push(event().try_emit(&3));
        }
    }
    watched(|| {
        let agent = stalled_agent();
        let mut accepted = 0;
        let (result, report) = session(small_queue(&agent), |sink, _| {
            accepted = fill(sink);
            let mut said = Vec::new();
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                let _emits = EmitsWhenDropped(sink, &mut said);
                panic!("on purpose");
            }));
            assert!(unwound.is_err());
            let all_full = said.iter().all(|said| matches!(said, Err(Error::QueueFull)));
            assert!(all_full && said.len() == 3, "{said:?}");
            agent.resume();
            Ok(())
        });
        result.unwrap();
        assert_counters(&report.stats, accepted, 0);
        // The other two events were not counted, because their callers may try again.
        assert_eq!(report.stats.refused, 1);
        assert_delivered(&agent.ended_session(LIMIT).unwrap(), &report.stats);
    });
}

/// Runs a function when its thread ends.
struct AtThreadEnd(Cell<Option<Box<dyn FnOnce()>>>);

impl Drop for AtThreadEnd {
    fn drop(&mut self) {
        if let Some(final_emit) = self.0.take() {
            final_emit();
        }
    }
}

thread_local! {
    static AT_THREAD_END: AtThreadEnd = const { AtThreadEnd(Cell::new(None)) };
}

/// Starts a thread whose thread-local calls `final_emit` when `ends` has returned. The result comes through
/// the channel. Thread-locals are dropped in the reverse order of their first use: with `outlives` this one
/// is dropped after those of the SDK.
fn with_final_emit(
    sink: &EventSink,
    outlives: bool,
    ends: impl FnOnce() + Send + 'static,
    final_emit: fn(&EventSink) -> Result<()>,
) -> (JoinHandle<()>, Receiver<Result<()>>) {
    let (send, said) = mpsc::channel();
    let sink = sink.clone();
    let thread = thread::spawn(move || {
        let use_the_sdks = |sink: &EventSink| {
            // This payload is too deep, so nothing is queued, but the thread has its scratch buffer then. A
            // call that may block serialises also if the queue is full.
            let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
            sink.event("test.too_deep").emit_timeout(&deep, LIMIT).unwrap_err();
        };
        if !outlives {
            use_the_sdks(&sink);
        }
        let emitter = sink.clone();
        let at_end = move || send.send(final_emit(&emitter)).unwrap();
        AT_THREAD_END.with(|last| last.0.set(Some(Box::new(at_end))));
        use_the_sdks(&sink);
        ends();
    });
    (thread, said)
}

#[test]
fn try_emit_in_a_thread_local_destructor_does_not_block() {
    watched(|| {
        for outlives in [false, true] {
            let agent = stalled_agent();
            let runner = small_queue(&agent).overflow(Overflow::Refuse);
            let mut accepted = 0;
            let (result, report) = session(runner, |sink, _| {
                accepted = fill(sink);
                let ways: [fn(&EventSink) -> Result<()>; 2] = [
                    |sink| sink.emit("test.last", json!({})),
                    |sink| sink.event("test.last").try_emit(&()),
                ];
                for final_emit in ways {
                    let (thread, said) = with_final_emit(sink, outlives, || {}, final_emit);
                    thread.join().unwrap();
                    let said = said.recv().unwrap();
                    assert!(matches!(said, Err(Error::QueueFull)), "{said:?}");
                }
                agent.resume();
                Ok(())
            });
            result.unwrap();
            assert_counters(&report.stats, accepted, 0);
            assert_eq!(report.stats.refused, 1);
            assert_delivered(&agent.ended_session(LIMIT).unwrap(), &report.stats);
        }
    });
}

#[test]
fn emit_in_a_thread_local_destructor_is_released() {
    watched(|| {
        for (outlives, makes_room) in [(false, true), (false, false), (true, true), (true, false)] {
            let agent = stalled_agent();
            let mut accepted = 0;
            let mut waiting = None;
            let (result, report) = session(small_queue(&agent), |sink, ctx| {
                accepted = fill(sink);
                let waits = sink.stats().waits;
                let final_emit = |sink: &EventSink| sink.emit("test.last", json!({}));
                let (thread, said) = with_final_emit(sink, outlives, || {}, final_emit);
                while sink.stats().waits == waits {
                    thread::yield_now();
                }
                if makes_room {
                    agent.resume();
                    said.recv().unwrap()?;
                    accepted += 1;
                } else {
                    ctx.shutdown_handle().shutdown();
                    let said = said.recv().unwrap();
                    assert!(matches!(said, Err(Error::Shutdown)), "{said:?}");
                    agent.resume();
                }
                waiting = Some(thread);
                Ok(())
            });
            waiting.unwrap().join().unwrap();
            result.unwrap();
            assert_counters(&report.stats, accepted, 0);
            assert_delivered(&agent.ended_session(LIMIT).unwrap(), &report.stats);
        }
    });
}

#[test]
fn emit_in_a_thread_local_destructor_fails_after_the_session() {
    watched(|| {
        for outlives in [false, true] {
            let agent = TestAgent::start().unwrap();
            let (over, wait_until_over) = mpsc::channel::<()>();
            let mut thread = None;
            let (result, report) = session(runner(&agent), |sink, _| {
                let ends = move || wait_until_over.recv().unwrap();
                let final_emit = |sink: &EventSink| sink.emit("test.last", json!({}));
                thread = Some(with_final_emit(sink, outlives, ends, final_emit));
                Ok(())
            });
            result.unwrap();
            over.send(()).unwrap();
            let (thread, said) = thread.unwrap();
            thread.join().unwrap();
            let said = said.recv().unwrap();
            assert!(matches!(said, Err(Error::Shutdown)), "{said:?}");
            assert_counters(&report.stats, 0, 0);
        }
    });
}
