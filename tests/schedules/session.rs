//! Runs one schedule, and keeps all results for the checks.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use wedr_plugin_sdk::{
    Error, EventSink, Result, Runner, SessionContext, SessionReport, ShutdownHandle, Stats,
};

use crate::agent::{Agent, Seen};
use crate::common::metadata;
use crate::common::time::Moment;
use crate::plan::{Act, Body, Plan};
use crate::producer::{LOST, Producer, Results, is_closed};

/// The panic of the body.
pub(crate) const PANIC: &str = "the body's own panic";

/// All results of a session.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The result of `run`, or the panic that it resumed.
    pub(crate) result: std::result::Result<Result<()>, String>,
    /// `None` if there was no session.
    pub(crate) report: Option<SessionReport>,
    /// The counters after the session, from a clone of the sink.
    pub(crate) stats: Option<Stats>,
    pub(crate) results: Vec<Results>,
    pub(crate) seen: Seen,
    pub(crate) times: Times,
}

#[derive(Debug, Default)]
pub(crate) struct Times {
    /// A handle has requested the shutdown.
    pub(crate) asked: Option<Moment>,
    pub(crate) agent_killed: Option<Moment>,
    pub(crate) body_returned: Option<Moment>,
    pub(crate) run_returned: Option<Moment>,
}

/// What the threads of a session share.
struct Stage<'a> {
    plan: &'a Plan,
    accepted: AtomicU64,
    times: Mutex<Times>,
    kept: Mutex<Option<EventSink>>,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    let agent = Agent::start(plan);
    let (send, reports) = mpsc::channel();
    let runner = Runner::new()
        .pipe_path(agent.path())
        .install_signal_handler(false)
        .channel_capacity(plan.capacity)
        .max_queued_bytes(plan.queued_bytes)
        .overflow(plan.overflow)
        .linger(plan.linger)
        .heartbeat(plan.heartbeat)
        .drain_timeout(plan.drain_timeout)
        .on_close(move |report| send.send(report.clone()).unwrap());
    let runner = if plan.sends_loss_reports { runner.loss_reports(LOST) } else { runner };
    let stage = Stage {
        plan,
        accepted: AtomicU64::new(0),
        times: Mutex::default(),
        kept: Mutex::new(None),
    };
    let (result, results) = thread::scope(|scope| {
        let (over, until_over) = mpsc::channel::<()>();
        let handle = runner.shutdown_handle();
        let (agent, stage) = (&agent, &stage);
        let acting = scope.spawn(move || act(stage, agent, &handle, &until_over));
        let mut producers = Vec::new();
        let mut own = Results::default();
        let body = |sink: &EventSink, ctx: &SessionContext| {
            stage.body(sink, ctx, scope, &mut producers, &mut own)
        };
        let result = catch_unwind(AssertUnwindSafe(|| runner.run_with(metadata(), body)));
        stage.times.lock().run_returned = Some(Moment::now());
        drop(over);
        acting.join().unwrap();
        let joined = producers
            .into_iter()
            .map(|producer| producer.join().unwrap_or_else(|p| resume_unwind(p)));
        let results: Vec<_> = joined.chain([own]).collect();
        (result.map_err(panic_text), results)
    });
    let report = reports.try_recv().ok();
    let stats = stage.kept.into_inner().map(|sink| final_stats(&sink));
    let times = stage.times.into_inner();
    let seen = agent.seen(report.is_some());
    Outcome { result, report, stats, results, seen, times }
}

/// Performs the acts of the schedule until the session has ended.
fn act(stage: &Stage<'_>, agent: &Agent, handle: &ShutdownHandle, until_over: &Receiver<()>) {
    for (pause, act) in &stage.plan.acts {
        if until_over.recv_timeout(*pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let happened: fn(&mut Times) -> &mut Option<Moment> = match act {
            Act::Shutdown => {
                handle.shutdown();
                |times| &mut times.asked
            }
            Act::Kill => {
                agent.act(*act);
                |times| &mut times.agent_killed
            }
            _ => {
                agent.act(*act);
                continue;
            }
        };
        happened(&mut stage.times.lock()).get_or_insert_with(Moment::now);
    }
}

/// Emits while its thread unwinds.
struct EmitsOnDrop<'a, 'b>(Option<Producer<'a>>, &'b mut Results);

impl Drop for EmitsOnDrop<'_, '_> {
    fn drop(&mut self) {
        let mut producer = self.0.take().unwrap();
        for _ in 0..5 {
            producer.emit();
        }
        *self.1 = producer.results();
    }
}

impl Stage<'_> {
    fn body<'scope>(
        &'scope self,
        sink: &EventSink,
        ctx: &SessionContext,
        scope: &'scope Scope<'scope, '_>,
        producers: &mut Vec<ScopedJoinHandle<'scope, Results>>,
        own: &mut Results,
    ) -> Result<()> {
        *self.kept.lock() = Some(sink.clone());
        for (id, things) in self.plan.producers.iter().enumerate() {
            let producer = Producer::new(self.plan, sink, &self.accepted, id);
            producers.push(scope.spawn(move || producer.produce(*things)));
        }
        let last = Producer::new(self.plan, sink, &self.accepted, self.plan.producers.len());
        let result = match self.plan.body {
            Body::ReturnsAtOnce => Ok(()),
            Body::WaitsForProducers => {
                while !producers.iter().all(ScopedJoinHandle::is_finished) {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            }
            Body::WaitsForShutdown => {
                ctx.wait_for_shutdown();
                Err(Error::Shutdown)
            }
            Body::Sleeps(time) => {
                ctx.sleep(time);
                Ok(())
            }
            Body::Produces => {
                *own = last.produce(100);
                Ok(())
            }
            Body::FailsAfter(time) => {
                ctx.sleep(time);
                Err(Error::plugin("the body's own failure"))
            }
            Body::PanicsAfter(time) => {
                ctx.sleep(time);
                let _guard = EmitsOnDrop(Some(last), own);
                self.times.lock().body_returned = Some(Moment::now());
                // Unlike `panic!`, this prints nothing to standard error.
                resume_unwind(Box::new(PANIC));
            }
        };
        self.times.lock().body_returned = Some(Moment::now());
        result
    }
}

/// Checks that the sink of an ended session refuses events. Returns its counters, which no call changes.
fn final_stats(sink: &EventSink) -> Stats {
    let stats = sink.stats();
    let late = sink.event("test.late").emit(&()).expect_err("the session is over");
    assert!(is_closed(&late), "{late}");
    let flushed = sink.flush(Duration::from_secs(60));
    assert!(!matches!(flushed, Err(Error::FlushTimeout(_))), "the flush does not wait");
    assert_eq!(sink.stats(), stats);
    stats
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
