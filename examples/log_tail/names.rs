//! The log's names in its folder, and which file is behind each.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::SystemTime;

use wedr_plugin_sdk::Result;

use crate::failed;

/// Endings of what packs rotated files or is on its way to: no lines in there.
const PACKED: [&[u8]; 8] = [b".gz", b".bz2", b".xz", b".zst", b".lz4", b".Z", b".zip", b".tmp"];

/// Tells files apart, whatever their names.
#[cfg(unix)]
pub(crate) type Id = (u64, u64);

#[cfg(unix)]
fn id(metadata: &Metadata) -> Id {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// std does not give the file index out. The time of creation alone will not do, since NTFS hands
/// it on to a new file that takes an old one's name within 15 s. Two files that are also equally
/// long and equally old cannot be told apart here; and one that is written without a pause has no
/// identity that lasts long enough to be compared, so a rotation is noticed after a pause.
#[cfg(not(unix))]
pub(crate) type Id = (Option<SystemTime>, Option<SystemTime>, u64);

#[cfg(not(unix))]
fn id(metadata: &Metadata) -> Id {
    let (created, modified) = (metadata.created(), metadata.modified());
    (created.ok(), modified.ok(), metadata.len())
}

/// A file held open. As long as it is, no other can get its inode number.
pub(crate) struct Held {
    file: File,
    pub(crate) id: Id,
}

impl Held {
    /// Does something only where an identity is made of what changes.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.id = id(&self.file.metadata()?);
        Ok(())
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(crate) fn seek(&mut self, position: u64) -> io::Result<u64> {
        self.file.seek(SeekFrom::Start(position))
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Goes to the beginning of the last line, which is the end unless its newline is missing;
    /// looks back at most `longest` bytes for it.
    pub(crate) fn seek_last_line(&mut self, longest: usize) -> io::Result<u64> {
        let end = self.len()?;
        let from = self.seek(end.saturating_sub(longest as u64))?;
        let mut bytes = Vec::new();
        (&self.file).take(end - from).read_to_end(&mut bytes)?;
        let newline = bytes.iter().rposition(|byte| *byte == b'\n');
        self.seek(match newline {
            Some(newline) => from + newline as u64 + 1,
            None if from == 0 => 0,
            None => end,
        })
    }
}

/// A file under one of the log's names.
pub(crate) struct Found {
    pub(crate) name: OsString,
    pub(crate) held: Held,
    written: Option<SystemTime>,
}

/// The log's name, and those that rotation gives its files.
#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) path: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) name: OsString,
}

impl Names {
    /// `None` for an absolute path that can be no file's.
    pub(crate) fn new(path: PathBuf) -> Option<Self> {
        Some(Self { folder: path.parent()?.to_owned(), name: path.file_name()?.to_owned(), path })
    }

    pub(crate) fn contain(&self, name: &OsStr) -> bool {
        name == self.name || self.suffix(name).is_some()
    }

    /// What a rotated file's name has in addition: `.1`, `-20260102`.
    fn suffix<'a>(&self, name: &'a OsStr) -> Option<&'a [u8]> {
        let suffix = name.as_encoded_bytes().strip_prefix(self.name.as_encoded_bytes())?;
        let packed = PACKED.iter().any(|ending| suffix.ends_with(ending));
        (matches!(suffix, [b'.' | b'-', _, ..]) && !packed).then_some(suffix)
    }

    /// Sorts the oldest first: the higher number is older; dates go by the last write.
    pub(crate) fn sort_by_age(&self, rotated: &mut [Found]) {
        rotated.sort_by_cached_key(|found| {
            let number = self.suffix(&found.name).and_then(|suffix| {
                let digits = std::str::from_utf8(&suffix[1..]).ok()?;
                digits.parse::<u16>().ok()
            });
            (Reverse(number), found.written, found.name.clone())
        });
    }

    /// Opens what there is under the names, sorted by name.
    pub(crate) fn open_all(&self) -> Result<Vec<Found>> {
        let list =
            || failed("list", &self.folder, "it must be there, and the plugin allowed to read it");
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(list())? {
            let name = entry.map_err(list())?.file_name();
            if self.contain(&name) {
                all.extend(self.open(name)?);
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// `None` if it is no file, or is gone by now.
    fn open(&self, name: OsString) -> Result<Option<Found>> {
        let path = self.folder.join(&name);
        // Looked at before it is opened: opening a named pipe would wait for its writer.
        let opened = fs::symlink_metadata(&path).and_then(|metadata| {
            if !metadata.is_file() {
                return Err(ErrorKind::InvalidInput.into());
            }
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        });
        match opened {
            Ok((file, metadata)) => Ok(Some(Found {
                name,
                written: metadata.modified().ok(),
                held: Held { id: id(&metadata), file },
            })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            // A file beside the log that cannot be read never was the log.
            Err(e) if name != self.name && is_not_ours(e.kind()) => Ok(None),
            Err(e) => {
                let remedy = "it must be a file itself, no link to one, and the plugin must be \
                              allowed to read it";
                Err(failed("open", &path, remedy)(e))
            }
        }
    }
}

fn is_not_ours(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::PermissionDenied)
}
