//! Shared by the benches: an agent in a process of its own, payloads, and the designs to compare.
#![allow(dead_code, unreachable_pub, reason = "every bench uses a part of it")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

pub mod agent;
pub mod flood;
pub mod payload;
pub mod rivals;

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

pub const PRODUCERS: [u32; 5] = [1, 2, 4, 8, 64];

/// The processor time of this process so far, in user and in kernel mode.
pub fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("it always works");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.cast_unsigned())
}
