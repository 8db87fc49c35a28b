//! The dev agent: the real binary against real plugins, in processes of their own or, with the
//! SDK's Runner, in this one.

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod ends;
mod help;
mod launches;
mod pipes;
mod shows;
#[cfg(unix)]
mod terminal;
mod trouble;
mod violations;
