//! What the benches share: an agent in a process of its own, one event, and three ways to send it.
#![allow(dead_code, unreachable_pub, reason = "every bench uses a part of it")]

pub mod agent;
pub mod flood;
pub mod rivals;

use serde::Serialize;
use serde_json::{Value, json};

/// What a process sensor would report; a frame of about 220 bytes.
#[derive(Serialize)]
pub struct ProcessStarted<'a> {
    pub pid: u32,
    pub parent: u32,
    pub image: &'a str,
    pub user: &'a str,
    pub integrity: &'a str,
}

pub const KIND: &str = "acme.process.started";

pub fn typed(pid: u32) -> ProcessStarted<'static> {
    ProcessStarted {
        pid,
        parent: 4242,
        image: r"C:\Windows\System32\svchost.exe",
        user: r"NT AUTHORITY\SYSTEM",
        integrity: "system",
    }
}

pub fn value(pid: u32) -> Value {
    json!({
        "pid": pid,
        "parent": 4242,
        "image": r"C:\Windows\System32\svchost.exe",
        "user": r"NT AUTHORITY\SYSTEM",
        "integrity": "system",
    })
}

pub const PRODUCERS: [u32; 5] = [1, 2, 4, 8, 64];
