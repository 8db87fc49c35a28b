//! The dev agent: the real binary against real plugins. A plugin is a process of its own, or runs in this
//! process with the SDK's Runner.

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod checks;
mod ends;
mod faults;
mod help;
mod launches;
mod pipes;
mod recordings;
mod shows;
#[cfg(unix)]
mod terminal;
mod violations;
