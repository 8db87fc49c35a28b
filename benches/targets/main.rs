//! Every figure that has a target, beside that target: `cargo bench --bench targets`.
//!
//! Ratios come from rounds in which the designs take turns; each is the median over the rounds.
//! Takes four minutes, and a machine with nothing else to do. Unix only.

#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

#[cfg(unix)]
mod floods;
#[cfg(unix)]
mod limits;
#[cfg(unix)]
mod paced;
#[cfg(unix)]
mod stalled;
#[cfg(unix)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(unix)]
mod table;

fn main() {
    #[cfg(unix)]
    {
        support::agent::serve_if_asked();
        let agent = support::agent::Agent::start();
        limits::measure(&agent);
        floods::measure(&agent);
        paced::measure(&agent);
        stalled::measure(&agent);
    }
}
