//! A plugin as a Windows service: one event a second, until the service manager stops it.
//!
//! As administrator, once the program is where it is to stay:
//!
//! ```bat
//! sc create acme-tick binPath= C:\acme\windows_service.exe start= auto
//! reg add HKLM\SYSTEM\CurrentControlSet\Services\acme-tick /v Environment /t REG_MULTI_SZ /d WEDR_PLUGIN_ID=demo
//! sc failure acme-tick reset= 86400 actions= restart/5000/restart/60000
//! sc failureflag acme-tick 1
//! sc start acme-tick
//! ```
//!
//! Started by hand it is a console program, and ends on Ctrl+C.

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    service::main().into()
}

#[cfg(not(windows))]
fn main() -> std::process::ExitCode {
    eprintln!("this example is for Windows; `systemd` is the same plugin under Linux");
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
    /// More than connecting and the handshake take at most, and more than the drain.
    const PATIENCE: Duration = Duration::from_secs(20);

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
        // Console events are not for a service: one says that somebody has logged off.
        let runner = Runner::new().install_signal_handler(false);
        let shutdown = runner.shutdown_handle();
        let status = Arc::new(OnceLock::new());
        let to_report = Arc::clone(&status);
        let registered = register(NAME, move |control| match control {
            Control::Stop | Control::Preshutdown | Control::Shutdown => {
                // Before anything else, so that no control follows: this closure is freed now.
                if let Some(&status) = to_report.get() {
                    report(status, State::StopPending, 0);
                }
                shutdown.shutdown();
                Reply::NoError
            }
            Control::Interrogate => Reply::NoError,
            _ => Reply::NotImplemented,
        });
        let status = *status.get_or_init(|| registered.expect("the name is this service's"));
        report(status, State::StartPending, 0);
        let result = run(runner, || report(status, State::Running, 0));
        report(status, State::Stopped, exit_code(result));
    }

    fn report(service: ServiceStatusHandle, current_state: State, exit_code: u8) {
        let (controls_accepted, wait_hint) = match current_state {
            State::Running => (Accept::STOP | Accept::PRESHUTDOWN, Duration::ZERO),
            State::Stopped => (Accept::empty(), Duration::ZERO),
            _ => (Accept::empty(), PATIENCE),
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
        service.set_service_status(status).expect("the status is a valid one");
    }

    /// The plugin; says when its session stands.
    fn run(mut runner: Runner, in_session: impl FnOnce()) -> Result<()> {
        runner = std::env::var_os("WEDR_PIPE_PATH").into_iter().fold(runner, Runner::pipe_path);
        runner.run_with(metadata!("acme-tick")?, |sink, ctx| {
            in_session();
            while !ctx.is_shutting_down() {
                sink.emit("acme.tick", serde_json::json!({ "alive": true }))?;
                ctx.sleep(Duration::from_secs(1));
            }
            Ok(())
        })
    }

    /// 2 if somebody has to mend something before it can run, 1 if starting it again may help.
    fn exit_code(result: Result<()>) -> u8 {
        let Err(error) = result else { return 0 };
        // Nobody sees it of a service: write it to the log that yours has.
        eprintln!("{error:?}");
        if error.is_permanent() { 2 } else { 1 }
    }
}
