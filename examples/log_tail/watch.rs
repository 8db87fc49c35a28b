//! Waits for changes between two looks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::failure::{Failure, is_out_of_descriptors};
use crate::file::{Id, folder_id};
use crate::names::Names;

/// Ends the wait from any thread.
#[derive(Clone)]
pub(crate) struct Waker {
    wake: SyncSender<()>,
    /// Names may have changed.
    list: Arc<AtomicBool>,
}

impl Waker {
    pub(crate) fn wake(&self, list: bool) {
        if list {
            // Release: the thread that takes the flag sees all writes before it.
            self.list.store(true, Ordering::Release);
        }
        // A full channel contains a wake-up that has not been received.
        let _ = self.wake.try_send(());
    }
}

/// Waits for changes in the log's folder.
///
/// The watcher only makes the wait shorter. The plugin must work without it, because the system does not
/// report changes through a bind mount or another hard link, on a network file system, or in a folder
/// that replaced the watched folder. Windows reports only some changes.
pub(crate) struct Watch {
    names: Names,
    waker: Waker,
    woken: Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    /// The watched folder; `None` if it cannot be watched.
    folder: Option<Id>,
}

impl Watch {
    pub(crate) fn new(names: Names) -> Self {
        let (wake, woken) = sync_channel(1);
        let waker = Waker { wake, list: Arc::default() };
        Self { names, waker, woken, watcher: None, folder: None }
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits at most `timeout`; returns whether names may have changed.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let is_woken = self.woken.recv_timeout(timeout).is_ok();
        self.waker.list.swap(false, Ordering::Acquire) || !is_woken
    }

    /// Watches the folder that the path leads to now. A folder that could not be watched is not tried
    /// again.
    pub(crate) fn renew(&mut self) -> Option<Failure> {
        let folder = folder_id(&self.names.folder).ok();
        if self.folder == folder {
            return None;
        }
        (self.folder, self.watcher) = (folder, None);
        folder?;
        match self.start() {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                None
            }
            Err(e) => Some(Failure::with_remedy("watch", &self.names.folder, remedy(&e), e)),
        }
    }

    fn start(&self) -> notify::Result<RecommendedWatcher> {
        let (names, waker) = (self.names.clone(), self.waker());
        let mut watcher =
            notify::recommended_watcher(move |event| on_event(event, &names, &waker))?;
        // Watch the folder, because the file is renamed and created again.
        watcher.watch(&self.names.folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

/// Runs on the watcher's thread.
fn on_event(event: notify::Result<Event>, names: &Names, waker: &Waker) {
    let Ok(event) = event else { return waker.wake(true) };
    // The plugin's own reads also cause events: without this check it would wake itself forever.
    if event.kind.is_access() {
        return;
    }
    let is_ours = |path: &PathBuf| path.file_name().is_some_and(|name| names.contain(name));
    // A rescan flag means that the system lost changes.
    if event.need_rescan() || event.paths.iter().any(is_ours) {
        // New bytes, by far the most frequent change, need no new list of the folder.
        waker.wake(!matches!(event.kind, EventKind::Modify(ModifyKind::Data(_))));
    }
}

fn remedy(error: &notify::Error) -> &'static str {
    match &error.kind {
        ErrorKind::MaxFilesWatch => {
            "raise fs.inotify.max_user_watches; until the next start the log is read only once a \
             second"
        }
        ErrorKind::Io(e) if is_out_of_descriptors(e) => {
            "raise fs.inotify.max_user_instances and the limit of open files; until the next start \
             the log is read only once a second"
        }
        _ => "fix the cause; until the next start the log is read only once a second",
    }
}
