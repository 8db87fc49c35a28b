//! A plugin with an async runtime: it accepts lines over TCP, with one task per connection, and forwards each
//! line as an event. No call blocks the runtime.
//!
//! ```sh
//! wedr-dev-agent -- cargo run --example tokio -- 127.0.0.1:5140
//! logger --tcp -n 127.0.0.1 -P 5140 hello
//! ```
//!
//! Settings: the address and port, as the argument or in `TOKIO_ADDRESS`. The agent launches plugins without
//! arguments.
//!
//! A `tcp_line` has the fields `from` and `text`. A line of more than 16 KiB, or of more than about a sixth of
//! the agent's limit if that is less, is split between characters. Its pieces also have `part`, counted from 1,
//! and `more`, which is false for the last piece. Bytes that are not UTF-8 are replaced.
//!
//! When the queue is full, a task waits asynchronously and stops reading from its connection. So a slow agent
//! slows the senders down, and no line is lost.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;
use std::{env, fmt, process, thread};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time;
use tokio_util::sync::CancellationToken;
use wedr_plugin_sdk::{Error, EventSink, Result, Runner, SessionContext, metadata};

/// The most bytes of a line that become one event.
const LONGEST: usize = 16 << 10;
/// How long a task waits before it tries again. The writer empties a full queue faster than this.
const PAUSE: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    let address = env::args().nth(1).or_else(|| env::var("TOKIO_ADDRESS").ok());
    let Some(address) = address.and_then(|address| address.parse().ok()) else {
        eprintln!("usage: tokio ADDRESS:PORT, or set TOKIO_ADDRESS");
        process::exit(2);
    };
    // For wedr-dev-agent. The SDK itself never takes the pipe's path from the environment.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    // The runtime runs inside the session, because `run_with` blocks. A multi-thread runtime works too.
    runner.run_with(metadata!("tokio")?, |sink, ctx| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(serve(address, sink, ctx))
    })
}

async fn serve(address: SocketAddr, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::plugin(format!("cannot listen on {address}: {e}; name another address or port"))
    })?;
    print(format_args!("listening on {}", listener.local_addr()?));
    let stop = shutdown_token(ctx);
    // A byte takes at most six bytes in JSON. 256 bytes are for the rest of the event.
    let longest = (ctx.max_payload_bytes() / 6).saturating_sub(256).clamp(8, LONGEST);
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((connection, from)) = accepted else {
            // For example, no file descriptor is free: try again later.
            time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        print(format_args!("{from} is connected"));
        let (stop, sink) = (stop.clone(), sink.clone());
        tokio::spawn(async move {
            match stop.run_until_cancelled(forward(connection, from, longest, &sink)).await {
                None | Some(Ok(()) | Err(Error::Shutdown)) => {}
                Some(Err(error)) => print(format_args!("closed the connection of {from}: {error}")),
            }
        });
    }
    Ok(())
}

/// Returns a token that is cancelled at the shutdown. Its thread runs until then.
fn shutdown_token(ctx: &SessionContext) -> CancellationToken {
    let token = CancellationToken::new();
    let (ctx, to_cancel) = (ctx.clone(), token.clone());
    thread::spawn(move || {
        ctx.wait_for_shutdown();
        to_cancel.cancel();
    });
    token
}

/// Forwards lines until the connection ends.
async fn forward(
    connection: TcpStream,
    from: SocketAddr,
    longest: usize,
    sink: &EventSink,
) -> Result<()> {
    let mut input = BufReader::new(connection);
    let mut line = Vec::new();
    // The number of the next piece of this line.
    let mut part = 1;
    let mut has_waited = false;
    loop {
        let room = (longest - line.len()) as u64;
        let read = (&mut input).take(room).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        let is_whole = read == 0 || line.ends_with(b"\n");
        let end = if is_whole { line.len() } else { end_of_character(&line, longest - 1) };
        let text = String::from_utf8_lossy(&line[..end]);
        let text = if is_whole { text.trim_end_matches(['\r', '\n']) } else { &*text };
        let pieces = (part > 1 || !is_whole).then_some((part, !is_whole));
        let payload = Line {
            from,
            text,
            part: pieces.map(|(part, _)| part),
            more: pieces.map(|(_, more)| more),
        };
        // `emit` could block the thread, and with it every other task.
        while let Err(refused) = sink.event("tcp_line").try_emit(&payload) {
            if !matches!(refused, Error::QueueFull) {
                return Err(refused);
            }
            if !has_waited {
                print(format_args!("{from} must wait: the agent reads too slowly"));
                has_waited = true;
            }
            time::sleep(PAUSE).await;
        }
        part = if is_whole { 1 } else { part + 1 };
        line.drain(..end);
    }
}

/// Prints to standard error. `eprintln` would panic if no process reads standard error any more.
fn print(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "tokio: {text}");
}

#[derive(Serialize)]
struct Line<'a> {
    from: SocketAddr,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

/// The end of the last character that ends within the first `longest` bytes.
fn end_of_character(text: &[u8], longest: usize) -> usize {
    let is_start = |at: &usize| text[*at] & 0b1100_0000 != 0b1000_0000;
    // A character has at most four bytes. Bytes that are not UTF-8 may be split anywhere.
    (longest - 3..=longest).rev().find(is_start).unwrap_or(longest)
}
