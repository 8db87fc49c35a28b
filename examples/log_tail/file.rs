//! The identity and the bytes of one file.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;
#[cfg(unix)]
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// Identifies a file, whatever its name is.
///
/// On Unix a new file may get the inode number of a removed file. The time of creation distinguishes the two,
/// if the file system records it: ext4, xfs, btrfs and tmpfs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Id {
    device: u64,
    inode: u64,
    /// In nanoseconds since 1970-01-01 UTC; `None` on Windows.
    created: Option<u64>,
}

impl Id {
    /// Compares without the device: its number may change when the machine restarts.
    pub(crate) fn is_same_without_device(self, other: Self) -> bool {
        (self.inode, self.created) == (other.inode, other.created)
    }
}

/// The metadata of a file.
pub(crate) struct Status {
    pub(crate) id: Id,
    /// In bytes.
    pub(crate) length: u64,
    pub(crate) modified: Option<SystemTime>,
}

impl Status {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        #[cfg(unix)]
        let id = id(&metadata);
        #[cfg(windows)]
        let id = id(file)?;
        Ok(Self::new(id, &metadata))
    }

    /// The status of the file at `path`. Anything but a regular file is an error, also a symbolic link.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let metadata = path.symlink_metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
        }
        #[cfg(unix)]
        return Ok(Self::new(id(&metadata), &metadata));
        #[cfg(windows)]
        return Self::of(&open(path)?);
    }

    fn new(id: Id, metadata: &Metadata) -> Self {
        Self { id, length: metadata.len(), modified: metadata.modified().ok() }
    }
}

#[cfg(unix)]
fn id(metadata: &Metadata) -> Id {
    use std::os::unix::fs::MetadataExt;
    Id { device: metadata.dev(), inode: metadata.ino(), created: created(metadata) }
}

/// A file index contains a number that changes when the index is reused. The time of creation would not
/// help: NTFS gives the old time to a new file with the same name for 15 s.
#[cfg(windows)]
fn id(file: &File) -> io::Result<Id> {
    let information = winapi_util::file::information(file)?;
    Ok(Id {
        device: information.volume_serial_number(),
        inode: information.file_index(),
        created: None,
    })
}

/// Distinguishes a folder from another folder at the same path.
pub(crate) fn folder_id(path: &Path) -> io::Result<Id> {
    let metadata = path.metadata()?;
    #[cfg(unix)]
    return Ok(id(&metadata));
    #[cfg(windows)]
    return Ok(Id { device: 0, inode: u64::from(metadata.is_dir()), created: None });
}

#[cfg(unix)]
fn created(metadata: &Metadata) -> Option<u64> {
    let since = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// Opens a file that was a regular file when the folder was listed.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    // Another file may have its name now: do not follow a link, and do not block on a named pipe.
    #[cfg(unix)]
    {
        use nix::fcntl::OFlag;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    }
    options.open(path)
}

/// Reads at `offset`. Returns 0 at the end of the file.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(file, buffer, offset);
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset);
        match read {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Fills the buffer from `offset`. Returns less than its length only at the end of the file.
fn fill_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, &mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// The offset of the last line before `end` if this line has no newline; otherwise `end`. Searches at
/// most `longest` bytes before `end`.
pub(crate) fn last_line(file: &File, end: u64, longest: usize) -> io::Result<u64> {
    let from = end.saturating_sub(longest as u64);
    let mut bytes = vec![0; (end - from) as usize];
    let filled = fill_at(file, &mut bytes, from)?;
    Ok(match bytes[..filled].iter().rposition(|byte| *byte == b'\n') {
        Some(newline) => from + newline as u64 + 1,
        None if from == 0 => 0,
        None => end,
    })
}

/// A fingerprint of the first bytes of a file, as far as they have been read. If the bytes differ, the
/// file was truncated and written again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    /// In bytes.
    length: usize,
    /// FNV-1a: the hash must be the same in all versions of this program.
    hash: u64,
}

impl Head {
    const LONGEST: usize = 1024;

    /// The fingerprint of the first bytes, up to `position`.
    pub(crate) fn of(file: &File, position: u64) -> io::Result<Self> {
        let mut bytes = [0; Self::LONGEST];
        let length = position.min(Self::LONGEST as u64) as usize;
        let filled = fill_at(file, &mut bytes[..length], 0)?;
        let mut head = Self::default();
        head.extend(0, &bytes[..filled]);
        Ok(head)
    }

    /// Adds the bytes of the file at `offset`, except bytes that the fingerprint already contains.
    pub(crate) fn extend(&mut self, offset: u64, bytes: &[u8]) {
        let Some(known) = (self.length as u64).checked_sub(offset) else { return };
        let new = bytes.get(known as usize..).unwrap_or_default();
        for byte in &new[..new.len().min(Self::LONGEST - self.length)] {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            self.length += 1;
        }
    }

    /// Whether the file still begins with these bytes.
    pub(crate) fn is_of(&self, file: &File) -> io::Result<bool> {
        Ok(Self::of(file, self.length as u64)? == *self)
    }

    /// Whether this fingerprint is possible for a file whose position is `position`. The program may have read
    /// more than that: a part of the line that begins there.
    pub(crate) fn fits(&self, position: u64) -> bool {
        (position.min(Self::LONGEST as u64)..=Self::LONGEST as u64).contains(&(self.length as u64))
    }
}

impl Default for Head {
    fn default() -> Self {
        Self { length: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}
