//! The names of the log and of its rotated files.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::file::{Id, Status};

/// The log's path, and the folder of the log and its rotated files.
#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) path: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) name: OsString,
}

/// A file with one of the names.
pub(crate) struct Found {
    pub(crate) name: OsString,
    pub(crate) status: Status,
}

impl Found {
    pub(crate) fn key(&self) -> (&OsStr, Id) {
        (&self.name, self.status.id)
    }
}

impl Names {
    /// Returns `None` for an absolute path that cannot be the path of a file.
    pub(crate) fn new(path: PathBuf) -> Option<Self> {
        Some(Self { folder: path.parent()?.to_owned(), name: path.file_name()?.to_owned(), path })
    }

    /// Whether `name` is the log's name, or the log's name followed by `.` or `-` and a suffix.
    pub(crate) fn contain(&self, name: &OsStr) -> bool {
        name == self.name || self.suffix(name).is_some()
    }

    /// Whether `name` is a name of a rotated file: `FILE.1`, `FILE-20260102`,
    /// `FILE.2026-01-02T03:04:05`, `FILE.old`. Compressed files (`FILE.1.gz`) and other files
    /// (`FILE.pid`) have other names.
    pub(crate) fn is_rotated(&self, name: &OsStr) -> bool {
        let Some(suffix) = self.suffix(name) else { return false };
        let is_stamp = |byte: &u8| byte.is_ascii_digit() || b".-_:+TZ".contains(byte);
        suffix == b"old" || suffix[0].is_ascii_digit() && suffix.iter().all(is_stamp)
    }

    fn suffix<'a>(&self, name: &'a OsStr) -> Option<&'a [u8]> {
        match name.as_encoded_bytes().strip_prefix(self.name.as_encoded_bytes())? {
            [b'.' | b'-', suffix @ ..] if !suffix.is_empty() => Some(suffix),
            _ => None,
        }
    }

    /// Sorts the oldest file first. A higher number is older. Files without a number follow, sorted by their
    /// last write.
    pub(crate) fn sort_by_age(&self, rotated: &mut [Found]) {
        rotated.sort_by_cached_key(|found| {
            let suffix = self.suffix(&found.name).and_then(|s| std::str::from_utf8(s).ok());
            let number = suffix.and_then(|digits| digits.parse::<u16>().ok());
            (Reverse(number), found.status.modified, found.name.clone())
        });
    }

    /// Lists the files that have one of the names, sorted by name. The second result is the error for
    /// the log itself, if its status cannot be read.
    pub(crate) fn list(&self) -> io::Result<(Vec<Found>, Option<io::Error>)> {
        let mut all = Vec::new();
        let mut obstacle = None;
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            if !self.contain(&name) {
                continue;
            }
            match Status::at(&self.folder.join(&name)) {
                Ok(status) => all.push(Found { name, status }),
                Err(e) if name == self.name && e.kind() != ErrorKind::NotFound => {
                    obstacle = Some(e);
                }
                // The file was removed since, or it has another name and cannot be the log.
                Err(_) => {}
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((all, obstacle))
    }
}
