//! What happens in a session, derived from its seed.

use std::time::Duration;

use fastrand::Rng;
use wedr_plugin_sdk::Overflow;
use wedr_plugin_sdk::testing::Script;

/// The schedule of one session. It does not decide how the threads interleave.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) capacity: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) overflow: Overflow,
    pub(crate) linger: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) drain_timeout: Duration,
    pub(crate) max_content: usize,
    /// The agent stops reading after so many events, until the test resumes it.
    pub(crate) stop_reading_after: Option<usize>,
    /// The agent closes after so many events.
    pub(crate) close_after: Option<usize>,
    pub(crate) read_slowly: Option<u32>,
    pub(crate) stays_after_goodbye: bool,
    /// How many bytes the agent sends after its acknowledgement.
    pub(crate) sent_after_ack: usize,
    /// The agent is a child process, which can be stopped and killed.
    #[cfg_attr(not(unix), allow(dead_code, reason = "it is never so there"))]
    pub(crate) in_child: bool,
    pub(crate) body: Body,
    /// How many steps each producer makes. Each derives its steps from a seed of its own.
    pub(crate) producers: Vec<usize>,
    /// How many of a thousand steps report lost events.
    pub(crate) loss_reports: u32,
    /// The writer sends events that report losses.
    pub(crate) sends_loss_reports: bool,
    /// How many of a thousand steps are flushes.
    pub(crate) flushes: u32,
    /// The longest text of an event, in bytes.
    pub(crate) longest: usize,
    /// The acts on the session from outside, each with the pause before it. The last act is the shutdown, if
    /// the session still runs.
    pub(crate) acts: Vec<(Duration, Act)>,
}

/// What the plugin's body does after it has started the producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    ReturnsAtOnce,
    WaitsForProducers,
    WaitsForShutdown,
    Sleeps(Duration),
    /// The body emits events itself, like a producer.
    Produces,
    FailsAfter(Duration),
    /// The body panics, and emits from a destructor while it unwinds.
    PanicsAfter(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// By a `ShutdownHandle`.
    Shutdown,
    /// The agent reads again.
    Resume,
    /// The agent closes without reading more.
    Disconnect,
    /// SIGSTOP and SIGCONT, to an agent in a child.
    Stop,
    Continue,
    /// SIGKILL, to an agent in a child.
    Kill,
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let in_child = one_in(rng, 4) && cfg!(unix);
        let producers = up_to(rng, 16);
        let most_things = one_of(rng, &[3, 100, 1_000, 5_000]);
        Self {
            seed,
            // From 4096 on there are several lanes.
            capacity: if rng.bool() { one_of(rng, &[4096, 8192]) } else { up_to(rng, 16_384) },
            queued_bytes: one_of(rng, &[64 << 20, 64 << 20, 100_000, 20_000, 2_000, 1]),
            overflow: one_of(rng, &[Overflow::Block, Overflow::Refuse]),
            linger: one_of(rng, &[0, 0, 50, 1_000, 1_000, 20_000].map(Duration::from_micros)),
            heartbeat: one_of(rng, &[None, Some(1), Some(5), Some(30_000)])
                .map(Duration::from_millis),
            drain_timeout: one_of(rng, &[0, 5, 40, 200, 200, 1_000].map(Duration::from_millis)),
            max_content: one_of(rng, &[1 << 20, 1 << 20, 4096]),
            // An agent in a child is stopped by a signal instead.
            stop_reading_after: (!in_child && rng.bool()).then(|| up_to(rng, 256) - 1),
            close_after: one_in(rng, 6).then(|| rng.usize(0..400)),
            read_slowly: one_in(rng, 6).then(|| one_of(rng, &[1 << 20, 4 << 20, 32 << 20])),
            stays_after_goodbye: one_in(rng, 12),
            sent_after_ack: if one_in(rng, 12) { rng.usize(1..50_000) } else { 0 },
            in_child,
            body: body(rng),
            producers: (0..producers).map(|_| rng.usize(1..=most_things)).collect(),
            loss_reports: one_of(rng, &[0, 0, 2, 50]),
            sends_loss_reports: rng.bool(),
            flushes: one_of(rng, &[0, 2, 50]),
            // Shorter and longer than an inline event.
            longest: one_of(rng, &[150, 400, 3_000, 3_000, 60_000, 1_000_000]),
            acts: acts(rng, in_child),
        }
    }

    /// The script of the agent.
    pub(crate) fn script(&self) -> Script {
        let mut script = Script::new().max_payload_bytes(self.max_content as u64);
        if let Some(events) = self.stop_reading_after {
            script = script.stop_reading_after(events);
        }
        if let Some(events) = self.close_after {
            script = script.close_after(events);
        }
        if let Some(bytes_per_sec) = self.read_slowly {
            script = script.read_slowly(bytes_per_sec);
        }
        if self.stays_after_goodbye {
            script = script.stay_after_goodbye();
        }
        script.send_after_ack(vec![b'x'; self.sent_after_ack])
    }

    /// Whether the agent may close a session before its end.
    pub(crate) fn agent_may_leave(&self) -> bool {
        let leaves = |(_, act): &(_, Act)| matches!(act, Act::Disconnect | Act::Kill);
        self.close_after.is_some() || self.acts.iter().any(leaves)
    }
}

fn body(rng: &mut Rng) -> Body {
    let time = part_of(rng, Duration::from_millis(10));
    let bodies = [
        Body::ReturnsAtOnce,
        Body::WaitsForProducers,
        Body::WaitsForProducers,
        Body::WaitsForShutdown,
        Body::WaitsForShutdown,
        Body::WaitsForShutdown,
        Body::Sleeps(time),
        Body::Produces,
        Body::FailsAfter(time),
        Body::PanicsAfter(time),
    ];
    one_of(rng, &bodies)
}

fn acts(rng: &mut Rng, in_child: bool) -> Vec<(Duration, Act)> {
    let possible: &[Act] = if in_child {
        &[Act::Shutdown, Act::Stop, Act::Stop, Act::Continue, Act::Kill]
    } else {
        &[Act::Shutdown, Act::Resume, Act::Disconnect]
    };
    let mut acts: Vec<_> = (0..rng.usize(0..=4))
        .map(|_| {
            let pause = one_of(rng, &[1, 5, 20].map(Duration::from_millis));
            (part_of(rng, pause), one_of(rng, possible))
        })
        .collect();
    let rest = one_of(rng, &[5, 50, 200].map(Duration::from_millis));
    acts.push((part_of(rng, rest), Act::Shutdown));
    if rng.bool() {
        // During the drain.
        let goes_on = if in_child { Act::Continue } else { Act::Resume };
        acts.push((part_of(rng, Duration::from_millis(20)), goes_on));
    }
    acts
}

fn one_in(rng: &mut Rng, chances: u32) -> bool {
    rng.u32(..chances) == 0
}

pub(crate) fn one_of<T: Clone>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())].clone()
}

pub(crate) fn part_of(rng: &mut Rng, whole: Duration) -> Duration {
    whole.mul_f64(rng.f64())
}

/// From 1 to `most`; small numbers are as likely as large ones.
pub(crate) fn up_to(rng: &mut Rng, most: usize) -> usize {
    let magnitude = 1 << rng.u32(0..=most.ilog2());
    rng.usize(1..=magnitude)
}
