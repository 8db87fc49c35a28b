//! Every figure that has a target, next to that target: `cargo bench --bench targets`.
//!
//! Each ratio is the median over several rounds, and in each round the designs take turns. All parts together take
//! a quarter of an hour, and need an idle machine. To measure one part, or a few rows of it:
//! `cargo bench --bench targets -- sizes --size 600 --producers 8 --rounds 3`. `-- --help` lists parts and options.
//! Unix only.
//!
//! To measure on another machine: `cargo bench --bench targets --no-run` prints the path of the binary. Run
//! `strip -o targets PATH`, copy `targets`, and run `./targets scale` there. The binary needs no other file: it
//! starts itself as the agent. The C library of that machine must not be older.

#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

#[cfg(unix)]
#[path = "../../examples/tune/chart.rs"]
mod chart;
#[cfg(unix)]
mod compare;
#[cfg(unix)]
mod floods;
#[cfg(unix)]
mod limits;
#[cfg(unix)]
mod options;
#[cfg(unix)]
mod paced;
#[cfg(unix)]
mod recover;
#[cfg(unix)]
mod refused;
#[cfg(unix)]
mod scale;
#[cfg(unix)]
mod sizes;
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
    use clap::Parser;
    use options::{Options, Part};

    support::agent::serve_if_asked();
    let options = Options::parse();
    let agent = support::agent::Agent::start();
    let parts: [(Part, &dyn Fn()); 9] = [
        (Part::Limits, &|| limits::measure(&agent)),
        (Part::Floods, &|| floods::measure(&agent)),
        (Part::Sizes, &|| sizes::measure(&agent, &options)),
        (Part::Scale, &|| scale::measure(&agent, &options)),
        (Part::Paced, &|| paced::measure(&agent)),
        (Part::Stalled, &|| stalled::measure(&agent)),
        (Part::Refused, &|| refused::measure(&agent, &options)),
        (Part::Recover, &|| recover::measure(&agent, &options)),
        #[cfg(target_os = "linux")]
        (Part::Soak, &|| soak::measure(&agent)),
        #[cfg(not(target_os = "linux"))]
        (Part::Soak, &|| eprintln!("`soak` reads /proc and runs on Linux only")),
    ];
    for (part, measure) in parts {
        if options.wants(part) {
            measure();
        }
    }
}

#[cfg(not(unix))]
fn main() {}
