//! A plugin as a Windows service: it sends one event a second until the service manager stops it.
//!
//! Copy the program to its final place. Then run as administrator, with the name of the agent's service instead
//! of `AGENT`. The dependency makes Windows start the agent first and stop it last.
//!
//! ```bat
//! sc create acme-tick binPath= C:\acme\windows_service.exe start= auto depend= AGENT
//! reg add HKLM\SYSTEM\CurrentControlSet\Services\acme-tick /v Environment /t REG_MULTI_SZ /d WEDR_PLUGIN_ID=demo
//! sc failure acme-tick reset= 86400 actions= restart/5000/restart/60000
//! sc failureflag acme-tick 1
//! sc start acme-tick
//! ```
//!
//! Settings: the plugin's id, `WEDR_PLUGIN_ID` in the registry, as above.
//!
//! If you start the program in a console, it is a normal plugin and ends on Ctrl+C:
//! `wedr-dev-agent -- cargo run --example windows_service`.

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    service::main().into()
}

#[cfg(not(windows))]
fn main() -> std::process::ExitCode {
    eprintln!("this example runs only on Windows; `systemd` is the same plugin for Linux");
    std::process::ExitCode::FAILURE
}

#[cfg(windows)]
mod service {
    use std::ffi::OsString;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use wedr_plugin_sdk::{Result, Runner, metadata};
    use windows_service::service::{
        ServiceControl as Control, ServiceControlAccept as Accept, ServiceExitCode as Exit,
        ServiceState as State, ServiceStatus, ServiceType,
    };
    use windows_service::service_control_handler::{
        ServiceControlHandlerResult as Reply, ServiceStatusHandle, register,
    };
    use windows_service::{Error, define_windows_service, service_dispatcher};

    const NAME: &str = "acme-tick";
    /// `ERROR_FAILED_SERVICE_CONTROLLER_CONNECT`: the service manager did not start this process.
    const STARTED_BY_HAND: i32 = 1063;
    /// Longer than `connect_timeout` and `handshake_timeout` together, and longer than `drain_timeout`.
    const WAIT_HINT: Duration = Duration::from_secs(20);

    define_windows_service!(service_main, run_as_service);

    pub(crate) fn main() -> u8 {
        match service_dispatcher::start(NAME, service_main) {
            Ok(()) => 0,
            Err(Error::Winapi(e)) if e.raw_os_error() == Some(STARTED_BY_HAND) => {
                exit_code(run(Runner::new(), || {}))
            }
            Err(e) => panic!("cannot become the service {NAME}: {e}"),
        }
    }

    fn run_as_service(_arguments: Vec<OsString>) {
        // A service must ignore console events: one of them reports that a user has logged off.
        let runner = Runner::new().install_signal_handler(false);
        let shutdown = runner.shutdown_handle();
        let status = Arc::new(OnceLock::new());
        let to_report = Arc::clone(&status);
        let registered = register(NAME, move |control| match control {
            Control::Stop | Control::Preshutdown | Control::Shutdown => {
                // `windows_service` frees this closure after a stop control. So first report that the service
                // accepts no further control.
                if let Some(&status) = to_report.get() {
                    report(status, State::StopPending, 0);
                }
                shutdown.shutdown();
                Reply::NoError
            }
            Control::Interrogate => Reply::NoError,
            _ => Reply::NotImplemented,
        });
        let status = *status.get_or_init(|| registered.expect("NAME is this service's name"));
        report(status, State::StartPending, 0);
        let result = run(runner, || report(status, State::Running, 0));
        report(status, State::Stopped, exit_code(result));
    }

    fn report(service: ServiceStatusHandle, current_state: State, exit_code: u8) {
        let (controls_accepted, wait_hint) = match current_state {
            State::Running => (Accept::STOP | Accept::PRESHUTDOWN, Duration::ZERO),
            State::Stopped => (Accept::empty(), Duration::ZERO),
            _ => (Accept::empty(), WAIT_HINT),
        };
        let status = ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state,
            controls_accepted,
            exit_code: match exit_code {
                0 => Exit::NO_ERROR,
                code => Exit::ServiceSpecific(code.into()),
            },
            checkpoint: 0,
            wait_hint,
            process_id: None,
        };
        service.set_service_status(status).expect("the status is valid");
    }

    /// Runs the plugin, and calls `in_session` when its session has begun.
    fn run(mut runner: Runner, in_session: impl FnOnce()) -> Result<()> {
        runner = std::env::var_os("WEDR_PIPE_PATH").into_iter().fold(runner, Runner::pipe_path);
        runner.run_with(metadata!("acme-tick")?, |sink, ctx| {
            in_session();
            while !ctx.is_shutting_down() {
                sink.emit("acme_tick", serde_json::json!({ "alive": true }))?;
                ctx.sleep(Duration::from_secs(1));
            }
            Ok(())
        })
    }

    /// 2 if a restart cannot succeed, 1 if it may succeed.
    fn exit_code(result: Result<()>) -> u8 {
        let Err(error) = result else { return 0 };
        // Windows discards a service's standard error: write the error to your own log.
        eprintln!("{error:?}");
        if error.is_permanent() { 2 } else { 1 }
    }
}
