//! Bridges to an async runtime: takes lines over TCP, on the loopback address, one task to a
//! connection, and forwards each as an event. Nothing in it blocks the runtime.
//!
//! `WEDR_PLUGIN_ID=demo cargo run --example tokio -- 127.0.0.1:5140`, with an agent on the default
//! pipe, or on the one named in `WEDR_PIPE_PATH`; then `logger --tcp -n 127.0.0.1 -P 5140 hello`.
//!
//! A task that finds the queue full waits, asynchronously, and reads no more meanwhile: a slow
//! agent slows the senders, and nothing is lost. A line of more than 16 KiB comes in pieces.

use std::net::SocketAddr;
use std::time::Duration;
use std::{env, process, thread};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time;
use tokio_util::sync::CancellationToken;
use wedr_plugin_sdk::{Error, EventSink, Result, Runner, SessionContext, metadata};

const LONGEST: u64 = 16 << 10;
/// How long a task waits before it tries again. The writer empties a full queue in less.
const PAUSE: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    let Some(address) = env::args().nth(1).and_then(|address| address.parse().ok()) else {
        eprintln!("usage: tokio ADDRESS:PORT");
        process::exit(2);
    };
    // The SDK never reads it: letting the environment say where telemetry goes is for examples.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    // The runtime lives inside the session, since `run_with` blocks. Any flavour will do.
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
    eprintln!("tokio: listening on {}", listener.local_addr()?);
    let stop = token_of(ctx);
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((connection, from)) = accepted else {
            // Out of descriptors, say: some will be free later.
            time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        eprintln!("tokio: {from} is connected");
        let (stop, sink) = (stop.clone(), sink.clone());
        tokio::spawn(async move {
            match stop.run_until_cancelled(forward(connection, from, &sink)).await {
                None | Some(Ok(()) | Err(Error::Shutdown)) => {}
                Some(Err(error)) => eprintln!("tokio: {from} was dropped: {error}"),
            }
        });
    }
    Ok(())
}

/// A token that is cancelled when the session shuts down. Its thread lasts as long as the session.
fn token_of(ctx: &SessionContext) -> CancellationToken {
    let token = CancellationToken::new();
    let (ctx, to_cancel) = (ctx.clone(), token.clone());
    thread::spawn(move || {
        ctx.wait_for_shutdown();
        to_cancel.cancel();
    });
    token
}

async fn forward(connection: TcpStream, from: SocketAddr, sink: &EventSink) -> Result<()> {
    let mut input = BufReader::new(connection);
    let mut line = Vec::new();
    let mut has_waited = false;
    while (&mut input).take(LONGEST).read_until(b'\n', &mut line).await? > 0 {
        let text = String::from_utf8_lossy(&line);
        let payload = json!({ "from": from, "text": text.trim_end_matches(['\r', '\n']) });
        // `emit` might block the thread, and with it every other task.
        while let Err(refused) = sink.event("tcp.line").try_emit(&payload) {
            if !matches!(refused, Error::QueueFull) {
                return Err(refused);
            }
            if !has_waited {
                eprintln!("tokio: {from} has to wait: the agent reads too slowly");
                has_waited = true;
            }
            time::sleep(PAUSE).await;
        }
        line.clear();
    }
    Ok(())
}
