//! Lower limits for the cost of an event: each part of the work alone.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::agent::Agent;
use crate::support::payload::{typed, value};
use crate::support::rivals::{connect, finish, serialise_alone};
use crate::table::{head, row};

const EVENTS: u32 = 1_000_000;
const FRAME: usize = 220;

pub(crate) fn measure(agent: &Agent) {
    head("The limits: what one event of about 220 bytes costs", &["part", "ns"]);
    let per_event = |time: Duration| format!("{:.0}", time.as_nanos() as f64 / f64::from(EVENTS));
    row(&["serialise a typed payload", &per_event(each(|n| serialise_alone(&typed(n))))]);
    row(&["build and serialise a `Value`", &per_event(each(|n| serialise_alone(&value(n))))]);
    let (from, mut to) = ([7_u8; FRAME], [0_u8; FRAME]);
    let copies = each(|_| black_box(&mut to).copy_from_slice(black_box(&from)));
    row(&["one copy of the frame", &per_event(copies)]);
    row(&["its share of 64 KiB writes", &per_event(writes(agent))]);
}

fn each(mut f: impl FnMut(u32)) -> Duration {
    let started = Instant::now();
    (0..EVENTS).for_each(|n| f(black_box(n)));
    started.elapsed()
}

/// As many bytes as the events have, in writes of 64 KiB to an agent that reads them.
fn writes(agent: &Agent) -> Duration {
    let mut stream = connect(agent.path());
    let bytes = vec![b' '; 64 << 10];
    let started = Instant::now();
    for _ in 0..(EVENTS as usize * FRAME).div_ceil(bytes.len()) {
        stream.write_all(&bytes).expect("the agent reads");
    }
    finish(&stream);
    started.elapsed()
}
