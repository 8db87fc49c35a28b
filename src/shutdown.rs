//! The shutdown flag of one session. Any thread can set it, once.

use std::fmt;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::sync::{Arc, AtomicBool, Condvar, Mutex, Ordering};

/// Ends a session, from any thread.
///
/// You get one from [`Runner::shutdown_handle`](crate::Runner::shutdown_handle) before the session
/// or from [`SessionContext::shutdown_handle`](crate::SessionContext::shutdown_handle) within it.
///
/// # Examples
///
/// ```
/// let runner = wedr_plugin_sdk::Runner::new();
/// let handle = runner.shutdown_handle();
/// std::thread::spawn(move || handle.shutdown()).join().expect("the thread does not panic");
/// // The shutdown came before the session: the body does not run, and `run_with` returns `Ok`.
/// let meta = wedr_plugin_sdk::Metadata::new("acme", "1.0", "Acme");
/// runner.run_with(meta, |_, _| unreachable!())?;
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[derive(Clone)]
pub struct ShutdownHandle(Arc<Shutdown>);

impl ShutdownHandle {
    pub(crate) fn new(shutdown: Arc<Shutdown>) -> Self {
        Self(shutdown)
    }

    /// Starts the session's shutdown and returns at once.
    ///
    /// A call before the session prevents the session. A second call, or a call after the session, has no
    /// effect. Do not call this from a raw signal handler, because it takes a lock.
    pub fn shutdown(&self) {
        self.0.request();
    }

    /// Whether the shutdown was requested, from any source, or the session has ended.
    pub fn is_shutting_down(&self) -> bool {
        self.0.is_requested()
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownHandle").field("shutting_down", &self.is_shutting_down()).finish()
    }
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// The flag, the time when it was set, and the hook that is called then.
pub(crate) struct Shutdown {
    /// Set once and never cleared. It also closes the queue: see the closing rule in `queue`.
    requested: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// On a cache line of its own, so that its lock does not slow threads that only read the flag.
#[derive(Default)]
#[repr(align(128))]
struct State {
    requested_at: Option<Instant>,
    /// Whether the drain must end now, whatever time it has left.
    drain_ended: bool,
    hook: Option<Hook>,
}

// No code of a caller runs while the lock is held, so that a panic leaves a consistent state.
impl std::panic::RefUnwindSafe for Shutdown {}

impl Shutdown {
    pub(crate) fn new() -> Self {
        Self {
            requested: AtomicBool::new(false),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn is_requested(&self) -> bool {
        // Acquire: a thread that sees the flag also sees its reason, such as the lost pipe's error.
        self.requested.load(Ordering::Acquire)
    }

    pub(crate) fn request(&self) {
        let mut state = self.state.lock();
        if self.is_requested() {
            return;
        }
        state.requested_at = Some(Instant::now());
        // Release, for the load above. The closing rule has fences of its own.
        self.requested.store(true, Ordering::Release);
        self.notify(state);
    }

    /// Ends the drain now, and requests the shutdown if it was not requested yet.
    pub(crate) fn end_drain(&self) {
        self.request();
        let mut state = self.state.lock();
        state.drain_ended = true;
        self.notify(state);
    }

    fn notify(&self, state: crate::sync::MutexGuard<'_, State>) {
        self.changed.notify_all();
        let hook = state.hook.clone();
        drop(state);
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Sets the hook, which is called when the shutdown is requested and when [`Self::end_drain`] ends the
    /// drain. If the shutdown was already requested, calls the hook at once.
    pub(crate) fn on_request(&self, hook: impl Fn() + Send + Sync + 'static) {
        let hook: Hook = Arc::new(hook);
        let mut state = self.state.lock();
        state.hook = Some(Arc::clone(&hook));
        if state.requested_at.is_some() {
            drop(state);
            hook();
        }
    }

    /// Parks until the shutdown is requested or `deadline` has passed. Returns whether the shutdown was
    /// requested.
    pub(crate) fn wait_until(&self, deadline: Deadline) -> bool {
        let mut state = self.state.lock();
        while state.requested_at.is_none() && !deadline.wait(&self.changed, &mut state) {}
        state.requested_at.is_some()
    }

    /// The time until which queued events may be sent. Before the shutdown there is no limit.
    pub(crate) fn drain_deadline(&self, drain_timeout: Duration) -> Deadline {
        let state = self.state.lock();
        match state.requested_at {
            None => Deadline::NEVER,
            Some(at) if state.drain_ended => Deadline::since(at, Duration::ZERO),
            Some(at) => Deadline::since(at, drain_timeout),
        }
    }

    /// How long ago the shutdown was requested; zero if it was not.
    pub(crate) fn elapsed(&self) -> Duration {
        self.state.lock().requested_at.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

#[cfg(all(test, not(wedr_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn hook_set_before_or_after_the_request_is_called() {
        let calls = Arc::new(AtomicUsize::new(0));
        for hook_first in [true, false] {
            let shutdown = Shutdown::new();
            let counter = Arc::clone(&calls);
            let hook = move || {
                counter.fetch_add(1, Ordering::Relaxed);
            };
            if hook_first {
                shutdown.on_request(hook);
                shutdown.request();
            } else {
                shutdown.request();
                shutdown.on_request(hook);
            }
            shutdown.request();
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn drain_deadline_counts_from_the_request() {
        let shutdown = Shutdown::new();
        let long = Duration::from_secs(3600);
        assert_eq!(shutdown.drain_deadline(long), Deadline::NEVER);
        shutdown.request();
        assert!(!shutdown.drain_deadline(long).has_passed());
        assert_eq!(shutdown.drain_deadline(long), shutdown.drain_deadline(long));
        shutdown.end_drain();
        assert!(shutdown.drain_deadline(long).has_passed());
    }

    #[test]
    fn shutdown_wakes_a_parked_thread() {
        let shutdown = Arc::new(Shutdown::new());
        let parked = {
            let shutdown = Arc::clone(&shutdown);
            std::thread::spawn(move || shutdown.wait_until(Deadline::NEVER))
        };
        ShutdownHandle::new(shutdown).shutdown();
        assert!(parked.join().unwrap());
    }
}
