//! The payloads that the benches send.

use serde::Serialize;
use serde_json::{Value, json};

pub const KIND: &str = "acme.process.started";

/// What a process sensor would report; a frame of about 220 bytes.
#[derive(Serialize)]
pub struct ProcessStarted<'a> {
    pub pid: u32,
    pub parent: u32,
    pub image: &'a str,
    pub user: &'a str,
    pub integrity: &'a str,
}

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

/// A payload whose JSON has a chosen length: a process start with a command line.
#[derive(Serialize)]
pub struct Sized<'a> {
    pid: u32,
    image: &'a str,
    command_line: &'a str,
}

/// The command line that gives [`Sized`] payloads their length.
pub struct Filler(String);

impl Filler {
    /// For payloads of exactly `bytes` bytes of JSON, at least 100.
    pub fn new(bytes: usize) -> Self {
        const PIECE: &str = r#""C:\Program Files\Acme\agent.exe" --type=renderer --field-trial-handle=1788 --lang=en-GB --sha256=9f86d081884c7d659a2feaa0c55ad015 "#;
        let length = |text: &str| json_length(&Self(text.into()).payload(0));
        let mut text = String::new();
        let missing = bytes.checked_sub(length("")).expect("a payload of at least 100 bytes");
        let mut taken = 0;
        for c in PIECE.chars().cycle() {
            let escaped = if matches!(c, '"' | '\\') { 2 } else { 1 };
            if taken + escaped > missing {
                break;
            }
            text.push(c);
            taken += escaped;
        }
        text.extend(std::iter::repeat_n('x', missing - taken));
        assert_eq!(length(&text), bytes);
        Self(text)
    }

    /// A payload; its length is the same for all `n` below nine million.
    pub fn payload(&self, n: u32) -> Sized<'_> {
        Sized {
            pid: 1_000_000 + n % 9_000_000,
            image: r"C:\Program Files\Acme\agent.exe",
            command_line: &self.0,
        }
    }
}

fn json_length(payload: &Sized<'_>) -> usize {
    serde_json::to_string(payload).expect("text and a number").len()
}
