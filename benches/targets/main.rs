//! Every figure that has a target, beside that target: `cargo bench --bench targets`.
//!
//! Ratios come from rounds in which the designs take turns; each is the median over the rounds.
//! Takes four minutes, and a machine with nothing else to do. A part alone:
//! `cargo bench --bench targets -- floods`, or `limits`, `paced`, `stalled`; and `soak`, ten minutes
//! on Linux, only if asked for. Unix only.

#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

#[cfg(unix)]
mod floods;
#[cfg(unix)]
mod limits;
#[cfg(unix)]
mod paced;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(unix)]
mod stalled;
#[cfg(unix)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(unix)]
mod table;

#[cfg(unix)]
fn main() {
    support::agent::serve_if_asked();
    // Cargo adds `--bench`.
    let asked: Vec<_> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|a| a == part);
    let agent = support::agent::Agent::start();
    if wanted("limits") {
        limits::measure(&agent);
    }
    if wanted("floods") {
        floods::measure(&agent);
    }
    if wanted("paced") {
        paced::measure(&agent);
    }
    if wanted("stalled") {
        stalled::measure(&agent);
    }
    #[cfg(target_os = "linux")]
    if asked.iter().any(|part| part == "soak") {
        soak::measure(&agent);
    }
}

#[cfg(not(unix))]
fn main() {}
