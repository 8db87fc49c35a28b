//! Reports what is written to a Windows event log: a subscription that calls back, each event as
//! the XML that Event Viewer shows.
//!
//! ```bat
//! set WEDR_PLUGIN_ID=demo
//! cargo run --example event_log -- Security "*[System[(EventID=4625)]]"
//! ```
//!
//! with an agent on the default pipe, or on the one named in `WEDR_PIPE_PATH`. The second argument,
//! a query in `XPath`, may be left out. The first event, `event_log.start`, says that the
//! subscription stands; what was logged before is not reported.

#![cfg_attr(windows, allow(unsafe_code))]

#[cfg(windows)]
fn main() -> wedr_plugin_sdk::Result<()> {
    event_log::main()
}

#[cfg(not(windows))]
fn main() -> std::process::ExitCode {
    eprintln!("this example is for Windows; `log_tail` follows a log file anywhere");
    std::process::ExitCode::FAILURE
}

#[cfg(windows)]
mod event_log {
    use std::ffi::{OsStr, OsString, c_void};
    use std::os::windows::ffi::OsStrExt;
    use std::sync::mpsc;
    use std::{env, io, process, ptr};

    use serde_json::json;
    use wedr_plugin_sdk::{
        Error, EventSink, Result, Runner, SessionContext, ShutdownHandle, metadata,
    };
    use windows_sys::Win32::Foundation::ERROR_INSUFFICIENT_BUFFER;
    use windows_sys::Win32::System::EventLog::{
        EVT_HANDLE, EVT_SUBSCRIBE_NOTIFY_ACTION, EvtClose, EvtRender, EvtRenderEventXml,
        EvtSubscribe, EvtSubscribeActionDeliver, EvtSubscribeStrict, EvtSubscribeToFutureEvents,
    };

    pub(crate) fn main() -> Result<()> {
        let mut arguments = env::args_os().skip(1);
        let Some(channel) = arguments.next() else {
            eprintln!("usage: event_log CHANNEL [QUERY]");
            process::exit(2);
        };
        let query = arguments.next().unwrap_or_else(|| "*".into());
        let pipe = env::var_os("WEDR_PIPE_PATH").into_iter();
        // The SDK never reads it: letting the environment say where telemetry goes is for examples.
        let runner = pipe.fold(Runner::new(), Runner::pipe_path);
        runner.run_with(metadata!("event-log")?, |sink, ctx| run(&channel, &query, sink, ctx))
    }

    fn run(
        channel: &OsString,
        query: &OsString,
        sink: &EventSink,
        ctx: &SessionContext,
    ) -> Result<()> {
        let (fail, failure) = mpsc::channel();
        let called = Called { sink: sink.clone(), shutdown: ctx.shutdown_handle(), fail };
        let subscription = subscribe(channel, query, called).map_err(|e| {
            Error::plugin(format!(
                "cannot subscribe to the event log {}: {e}; name one that `wevtutil el` lists, \
                 check the query, and run as a user who may read it",
                channel.display()
            ))
        })?;
        let started = json!({ "channel": channel.to_string_lossy() });
        let result = sink.emit("event_log.start", started);
        if result.is_ok() {
            ctx.wait_for_shutdown();
        }
        // SAFETY: the handle is the one that `subscribe` returned, and is used no more.
        unsafe { EvtClose(subscription) };
        // If the callback failed, all else comes of that.
        failure.try_recv().map_or(result, Err)
    }

    /// What the callback needs.
    struct Called {
        sink: EventSink,
        shutdown: ShutdownHandle,
        fail: mpsc::Sender<Error>,
    }

    fn subscribe(channel: &OsStr, query: &OsStr, called: Called) -> io::Result<EVT_HANDLE> {
        // Never freed: nothing says that closing a subscription waits for its last callback.
        let called: &'static Called = Box::leak(Box::new(called));
        let (channel, query) = (wide(channel), wide(query));
        // Strictly: should the log overwrite what was not delivered yet, it is an error.
        let flags = EvtSubscribeToFutureEvents | EvtSubscribeStrict;
        // SAFETY: both texts end with a NUL and outlive the call; the context outlives everything,
        // and may be used from any thread, since `Called` is `Sync`.
        let subscription = unsafe {
            EvtSubscribe(
                0,
                ptr::null_mut(),
                channel.as_ptr(),
                query.as_ptr(),
                0,
                ptr::from_ref(called).cast(),
                Some(on_event),
                flags,
            )
        };
        if subscription == 0 { Err(io::Error::last_os_error()) } else { Ok(subscription) }
    }

    const _: () = {
        const fn assert_sync<T: Sync>() {}
        assert_sync::<Called>();
    };

    fn wide(text: &OsStr) -> Vec<u16> {
        text.encode_wide().chain([0]).collect()
    }

    /// On a thread of the system's. It may wait for a slow agent: the log keeps what comes
    /// meanwhile.
    unsafe extern "system" fn on_event(
        action: EVT_SUBSCRIBE_NOTIFY_ACTION,
        context: *const c_void,
        event: EVT_HANDLE,
    ) -> u32 {
        // SAFETY: it is the context that `subscribe` gave.
        let called = unsafe { &*context.cast::<Called>() };
        let result = if action == EvtSubscribeActionDeliver {
            render(event)
                .map_err(|e| broken("render an event", e))
                .and_then(|xml| called.sink.emit("event_log.event", json!({ "xml": xml })))
        } else {
            // It is an error's code then.
            Err(broken("go on with the subscription", io::Error::from_raw_os_error(event as i32)))
        };
        if let Err(error) = result {
            // Only the first counts; the body takes no other.
            let _ = called.fail.send(error);
            called.shutdown.shutdown();
        }
        0
    }

    fn broken(what: &str, e: io::Error) -> Error {
        Error::plugin(format!("cannot {what} of the event log: {e}; start the plugin again"))
    }

    /// The event as XML. Its handle is the system's, to be used only during the callback.
    fn render(event: EVT_HANDLE) -> io::Result<String> {
        let mut buffer = vec![0u16; 4096];
        let (mut used, mut properties) = (0, 0);
        loop {
            let size = size_of_val(&buffer[..]) as u32;
            let to = buffer.as_mut_ptr().cast();
            // SAFETY: the buffer is as large as it is said to be; the rest are plain numbers.
            let done = unsafe {
                EvtRender(0, event, EvtRenderEventXml, size, to, &raw mut used, &raw mut properties)
            };
            if done != 0 {
                break;
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(ERROR_INSUFFICIENT_BUFFER.cast_signed()) {
                return Err(error);
            }
            // In bytes, and more than there were.
            buffer.resize(used as usize / 2 + 1, 0);
        }
        let end = buffer.iter().position(|unit| *unit == 0).unwrap_or(buffer.len());
        Ok(String::from_utf16_lossy(&buffer[..end]))
    }
}
