//! Runs one schedule, and keeps what its accounts are made of.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wedr_plugin_sdk::{
    Error, EventSink, Result, Runner, SessionContext, SessionReport, ShutdownHandle, Stats,
};

use crate::agent::{Agent, Seen};
use crate::common::metadata;
use crate::plan::{Act, Body, Plan};
use crate::producer::{Account, Producer, is_closed};

/// What a body panics with.
pub(crate) const PANIC: &str = "the body's own panic";

/// Everything that is known of a session that is over.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What `run` returned, or the panic that left it.
    pub(crate) result: std::result::Result<Result<()>, String>,
    /// None if there was no session.
    pub(crate) report: Option<SessionReport>,
    /// What a sink that was kept says afterwards.
    pub(crate) stats: Option<Stats>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) seen: Seen,
    pub(crate) times: Times,
}

/// When what happened, and how long threads had to wait for a processor until then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) starved: Duration,
}

impl Moment {
    fn now() -> Self {
        Self { at: Instant::now(), starved: starved() }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Times {
    /// A handle had asked for the shutdown.
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
    let stage = Stage {
        plan,
        accepted: AtomicU64::new(0),
        times: Mutex::default(),
        kept: Mutex::new(None),
    };
    let (result, accounts) = thread::scope(|scope| {
        let (over, until_over) = mpsc::channel::<()>();
        let handle = runner.shutdown_handle();
        let (agent, stage) = (&agent, &stage);
        let acting = scope.spawn(move || act(stage, agent, &handle, &until_over));
        let mut producers = Vec::new();
        let mut own = Account::default();
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
        let accounts: Vec<_> = joined.chain([own]).collect();
        (result.map_err(panic_text), accounts)
    });
    let report = reports.try_recv().ok();
    let stats = stage.kept.into_inner().map(|sink| closed_for_good(&sink));
    let times = stage.times.into_inner();
    let seen = agent.seen(report.is_some());
    Outcome { result, report, stats, accounts, seen, times }
}

/// Lets the schedule's acts happen until the session is over.
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
struct EmitsOnDrop<'a, 'b>(Option<Producer<'a>>, &'b mut Account);

impl Drop for EmitsOnDrop<'_, '_> {
    fn drop(&mut self) {
        let mut producer = self.0.take().unwrap();
        for _ in 0..5 {
            producer.emit();
        }
        *self.1 = producer.account();
    }
}

impl Stage<'_> {
    fn body<'scope>(
        &'scope self,
        sink: &EventSink,
        ctx: &SessionContext,
        scope: &'scope Scope<'scope, '_>,
        producers: &mut Vec<ScopedJoinHandle<'scope, Account>>,
        own: &mut Account,
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
                // Not reported on standard error, as a `panic!` would be.
                resume_unwind(Box::new(PANIC));
            }
        };
        self.times.lock().body_returned = Some(Moment::now());
        result
    }
}

/// What the sink says once the session is over: always the same.
fn closed_for_good(sink: &EventSink) -> Stats {
    let stats = sink.stats();
    let late = sink.event("test.late").emit(&()).expect_err("the session is over");
    assert!(is_closed(&late), "{late}");
    let flushed = sink.flush(Duration::from_secs(60));
    assert!(!matches!(flushed, Err(Error::FlushTimeout(_))), "it waits for nothing");
    assert_eq!(sink.stats(), stats);
    stats
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// For how long in all a thread of this process that was to run did not get a processor: by so
/// much may a deadline be missed on a busy machine.
fn starved() -> Duration {
    static WITNESS: OnceLock<&'static Mutex<Witness>> = OnceLock::new();
    let witness = WITNESS.get_or_init(|| {
        let due = Instant::now() + NAP;
        let witness: &_ = Box::leak(Box::new(Mutex::new(Witness { due, starved: Duration::ZERO })));
        thread::spawn(move || {
            loop {
                thread::sleep(NAP);
                let mut witness = witness.lock();
                let late = witness.due.elapsed();
                witness.starved += late;
                witness.due = Instant::now() + NAP;
            }
        });
        witness
    });
    let witness = witness.lock();
    // The nap that has not ended counts as well: all threads may have stood still.
    witness.starved + witness.due.elapsed()
}

/// A thread that naps, and sees how much later it wakes than it should.
struct Witness {
    due: Instant,
    starved: Duration,
}

const NAP: Duration = Duration::from_millis(2);
