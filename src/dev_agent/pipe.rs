//! Where the agent listens.

use std::io;
use std::path::{Path, PathBuf};

use crate::transport::{DEFAULT_PATH, Listener, check_path, remove, temporary_path};

/// The agent's pipe; what it leaves behind is removed when this is dropped.
pub(super) struct Place {
    path: PathBuf,
    /// In a folder of its own.
    private: bool,
}

impl Place {
    /// Listens where the command line says, or on a private pipe, or on the real agent's.
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
        Ok((Self { path, private }, listener))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.private {
            remove(&self.path);
        } else if cfg!(unix) {
            // It fails only if somebody was quicker.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn cannot_listen(path: &Path, e: &io::Error) -> String {
    let why = match e.kind() {
        io::ErrorKind::PermissionDenied => "start as a user who may",
        io::ErrorKind::NotFound => "make its folder first",
        _ => "is the agent running?",
    };
    format!(
        "cannot listen on {}: {e}; {why}, or name another pipe with --pipe, and tell the plugin \
         with Runner::pipe_path",
        path.display()
    )
}

/// The default pipe's folder, which nobody else makes where no agent is installed.
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

/// Takes the place of a socket that nobody listens on any more.
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
            "cannot listen on {}: it is there and no socket; name another pipe with --pipe",
            path.display()
        ));
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .and_then(|()| Listener::bind(path))
            .map_err(|e| cannot_listen(path, &e)),
        Err(_) => Err(cannot_listen(path, &first)),
        Ok(_) => Err(format!(
            "cannot listen on {}: somebody already does; end it, or name another pipe with --pipe",
            path.display()
        )),
    }
}

#[cfg(windows)]
fn listen(path: &Path) -> Result<Listener, String> {
    Listener::bind(path).map_err(|e| match e.kind() {
        // What a pipe that exists says to who asks to be its first.
        io::ErrorKind::PermissionDenied => format!(
            "cannot listen on {}: somebody already does; end it, or name another pipe with --pipe",
            path.display()
        ),
        _ => cannot_listen(path, &e),
    })
}
