//! The path that the agent listens on.

use std::io;
use std::path::{Path, PathBuf};

use crate::transport::{DEFAULT_PATH, Listener, check_path, remove, temporary_path};

/// The path of the agent's pipe. Dropping it removes the socket and a private pipe's folder.
pub(super) struct Place {
    path: PathBuf,
    /// Whether the path is in a temporary folder that the agent made.
    private: bool,
    /// The socket that the agent made. Another process may have replaced it since.
    #[cfg(unix)]
    own: Option<Identity>,
}

/// Identifies a file among all files that were ever at its path. A file system may give a new file
/// the inode of a removed file, so the identity includes the modification time.
#[cfg(unix)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
}

#[cfg(unix)]
impl Identity {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::symlink_metadata(path).ok()?;
        let modified = (file.mtime(), file.mtime_nsec());
        Some(Self { device: file.dev(), inode: file.ino(), modified })
    }
}

impl Place {
    /// Listens on the path of the command line, on a private pipe, or on the real agent's pipe.
    pub(super) fn listen(given: Option<&Path>, private: bool) -> Result<(Self, Listener), String> {
        let private = private && given.is_none();
        let path = if private {
            temporary_path().map_err(|e| format!("cannot make a private pipe: {e}"))?
        } else {
            given.unwrap_or(Path::new(DEFAULT_PATH)).to_owned()
        };
        check_path(&path).map_err(|e| format!("{e}; name another with --pipe"))?;
        if given.is_none() && !private {
            make_folder(&path)?;
        }
        let listener = listen(&path)?;
        #[cfg(unix)]
        let own = Identity::of(&path);
        let place = Self {
            path,
            private,
            #[cfg(unix)]
            own,
        };
        Ok((place, listener))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.private {
            remove(&self.path);
        }
        #[cfg(unix)]
        if !self.private && self.own.is_some() && Identity::of(&self.path) == self.own {
            // This fails only if another process has removed the socket.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn cannot_listen(path: &Path, e: &io::Error) -> String {
    let why = match e.kind() {
        io::ErrorKind::PermissionDenied => "start as a user who may write to its folder",
        io::ErrorKind::NotFound => "create its folder first",
        _ => "is the agent running?",
    };
    format!(
        "cannot listen on {}: {e}; {why}, or name another pipe with --pipe, and pass the same \
         path to Runner::pipe_path in the plugin",
        path.display()
    )
}

/// Makes the default pipe's folder. It does not exist where no agent is installed.
#[cfg(unix)]
fn make_folder(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    match std::fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(cannot_listen(path, &e)),
        _ => Ok(()),
    }
}

#[cfg(windows)]
#[expect(clippy::unnecessary_wraps, reason = "on Unix it makes a folder")]
fn make_folder(_path: &Path) -> Result<(), String> {
    Ok(())
}

/// Listens on the path. Replaces a socket on which no process listens.
#[cfg(unix)]
fn listen(path: &Path) -> Result<Listener, String> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream;

    let first = match Listener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => e,
        other => return other.map_err(|e| cannot_listen(path, &e)),
    };
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Err(format!(
            "cannot listen on {}: a file that is not a socket has this path; name another pipe with --pipe",
            path.display()
        ));
    }
    let found = Identity::of(path);
    match UnixStream::connect(path) {
        // Another agent may have replaced the socket meanwhile.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && Identity::of(path) == found => {
            std::fs::remove_file(path)
                .and_then(|()| Listener::bind(path))
                .map_err(|e| cannot_listen(path, &e))
        }
        Err(_) => Err(cannot_listen(path, &first)),
        Ok(_) => Err(format!(
            "cannot listen on {}: another process already does; end it, or name another pipe with --pipe",
            path.display()
        )),
    }
}

#[cfg(windows)]
fn listen(path: &Path) -> Result<Listener, String> {
    Listener::bind(path).map_err(|e| match e.kind() {
        // Windows returns this error to a process that asks for the first instance of an existing
        // pipe.
        io::ErrorKind::PermissionDenied => format!(
            "cannot listen on {}: another process already does; end it, or name another pipe with --pipe",
            path.display()
        ),
        _ => cannot_listen(path, &e),
    })
}
