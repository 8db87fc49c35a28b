//! A plugin for Windows that subscribes to an event log: it forwards each new entry as the XML that Event Viewer
//! shows.
//!
//! ```bat
//! wedr-dev-agent -- cargo run --example event_log -- Security "*[System[(EventID=4625)]]"
//! ```
//!
//! Settings: the channel, as the first argument or in `EVENT_LOG_CHANNEL`; optionally a query in `XPath`, as the
//! second argument or in `EVENT_LOG_QUERY`. The agent launches plugins without arguments.
//!
//! The first event, `event_log_start`, reports that the subscription works. The plugin does not forward older
//! entries. An `event_log_entry` has the XML in `raw_xml`. The agent adds `event_id` and a field for each
//! `<Data Name="…">`.

#![cfg_attr(windows, allow(unsafe_code))]

#[cfg(windows)]
fn main() -> wedr_plugin_sdk::Result<()> {
    event_log::main()
}

#[cfg(not(windows))]
fn main() -> std::process::ExitCode {
    eprintln!("this example runs only on Windows; `log_tail` follows a log file on any system");
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
        let setting = |n, variable| env::args_os().nth(n).or_else(|| env::var_os(variable));
        let channel = setting(1, "EVENT_LOG_CHANNEL");
        let (Some(channel), None) = (channel, env::args_os().nth(3)) else {
            eprintln!(
                "usage: event_log CHANNEL [QUERY], or set EVENT_LOG_CHANNEL and EVENT_LOG_QUERY"
            );
            process::exit(2);
        };
        let query = setting(2, "EVENT_LOG_QUERY").unwrap_or_else(|| "*".into());
        let pipe = env::var_os("WEDR_PIPE_PATH").into_iter();
        // For wedr-dev-agent. The SDK itself never takes the pipe's path from the environment.
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
        let context = Context { sink: sink.clone(), shutdown: ctx.shutdown_handle(), fail };
        let subscription = subscribe(channel, query, context).map_err(|e| {
            Error::plugin(format!(
                "cannot subscribe to the event log {} with the query {}: {e}; name a log that \
                 `wevtutil el` lists, check the query, and run as a user who may read the log",
                channel.display(),
                query.display()
            ))
        })?;
        let started = json!({ "channel": channel.to_string_lossy() });
        let result = sink.emit("event_log_start", started);
        if result.is_ok() {
            ctx.wait_for_shutdown();
        }
        // SAFETY: `subscribe` returned this handle, and it is not used after this call.
        unsafe { EvtClose(subscription) };
        // If the callback failed, its error is the cause of any other error.
        failure.try_recv().map_or(result, Err)
    }

    /// The data of the callback.
    struct Context {
        sink: EventSink,
        shutdown: ShutdownHandle,
        fail: mpsc::Sender<Error>,
    }

    fn subscribe(channel: &OsStr, query: &OsStr, context: Context) -> io::Result<EVT_HANDLE> {
        // Never freed: Windows does not document that EvtClose waits for the last callback.
        let context: &'static Context = Box::leak(Box::new(context));
        let (channel, query) = (wide(channel), wide(query));
        // Strict: if the log overwrites entries that were not delivered yet, the callback gets an error.
        let flags = EvtSubscribeToFutureEvents | EvtSubscribeStrict;
        // SAFETY: both texts end with a NUL and outlive the call. The context is never freed, and any
        // thread may use it, because `Context` is `Sync`.
        let subscription = unsafe {
            EvtSubscribe(
                0,
                ptr::null_mut(),
                channel.as_ptr(),
                query.as_ptr(),
                0,
                ptr::from_ref(context).cast(),
                Some(on_event),
                flags,
            )
        };
        if subscription == 0 { Err(io::Error::last_os_error()) } else { Ok(subscription) }
    }

    const _: () = {
        const fn assert_sync<T: Sync>() {}
        assert_sync::<Context>();
    };

    fn wide(text: &OsStr) -> Vec<u16> {
        text.encode_wide().chain([0]).collect()
    }

    /// Windows calls this on its own thread. The callback may wait for a slow agent: the log keeps new
    /// entries meanwhile.
    unsafe extern "system" fn on_event(
        action: EVT_SUBSCRIBE_NOTIFY_ACTION,
        context: *const c_void,
        event: EVT_HANDLE,
    ) -> u32 {
        // SAFETY: `context` is the pointer that `subscribe` passed, and it is never freed.
        let context = unsafe { &*context.cast::<Context>() };
        let result = if action == EvtSubscribeActionDeliver {
            render(event)
                .map_err(|e| cannot("render an event", e))
                .and_then(|xml| context.sink.emit("event_log_entry", json!({ "raw_xml": xml })))
        } else {
            // Then `event` is an error code.
            Err(cannot("continue the subscription", io::Error::from_raw_os_error(event as i32)))
        };
        if let Err(error) = result {
            // The body reads only the first error.
            let _ = context.fail.send(error);
            context.shutdown.shutdown();
        }
        0
    }

    fn cannot(what: &str, e: io::Error) -> Error {
        Error::plugin(format!("cannot {what} of the event log: {e}; start the plugin again"))
    }

    /// Returns the event as XML. Its handle is valid only during the callback.
    fn render(event: EVT_HANDLE) -> io::Result<String> {
        let mut buffer = vec![0u16; 4096];
        let (mut used, mut properties) = (0, 0);
        loop {
            let size = size_of_val(&buffer[..]) as u32;
            let to = buffer.as_mut_ptr().cast();
            // SAFETY: `size` is the size of the buffer in bytes, and the out-pointers are valid.
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
            // `used` is the needed size in bytes.
            buffer.resize(used as usize / 2 + 1, 0);
        }
        let end = buffer.iter().position(|unit| *unit == 0).unwrap_or(buffer.len());
        Ok(String::from_utf16_lossy(&buffer[..end]))
    }
}
