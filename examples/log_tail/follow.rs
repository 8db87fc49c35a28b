//! Which files are the log, and what is new in them.

use std::ffi::OsString;

use wedr_plugin_sdk::Result;

use crate::failed;
use crate::lines::{Forwarder, Lines};
use crate::names::{Found, Held, Id, Names};

/// Which files there are, held ones without a name. What must not change while one looks.
type Ids = Vec<(Option<OsString>, Id)>;

const CHECK: &str = "check the file system that it is on";

pub(crate) struct Follower {
    names: Names,
    from_start: bool,
    out: Forwarder,
    /// The folder has been listed, which decided where to begin.
    has_started: bool,
    /// The oldest first. The last one is the log, or was, if none has its name now.
    followed: Vec<Followed>,
    /// Files beside the log that are not its past: there before the start, or copied from it.
    others: Vec<Held>,
    buffer: Box<[u8]>,
}

/// A file whose lines are forwarded.
struct Followed {
    held: Held,
    /// Where the file's cursor is.
    position: u64,
    lines: Lines,
    /// It had one of the log's names when the folder was listed last.
    is_named: bool,
}

impl Follower {
    pub(crate) fn new(names: Names, from_start: bool, out: Forwarder) -> Self {
        Self {
            names,
            from_start,
            out,
            has_started: false,
            followed: Vec::new(),
            others: Vec::new(),
            buffer: vec![0; 64 << 10].into(),
        }
    }

    /// Forwards what is new. `list`: files may have come, gone, or changed their names.
    pub(crate) fn look(&mut self, list: bool) -> Result<()> {
        if list || !self.has_started {
            self.list()?;
        }
        self.read()
    }

    /// How many bytes of the log were not forwarded.
    pub(crate) fn left(&self) -> u64 {
        let of_one = |log: &Followed| {
            let unread = log.held.len().unwrap_or(0).saturating_sub(log.position);
            unread + log.lines.pending() as u64
        };
        self.followed.iter().map(of_one).sum()
    }

    fn list(&mut self) -> Result<()> {
        // A folder is not listed in one instant: a file that is renamed meanwhile may be missed.
        // What is twice the same was so in between; if it is not, the change calls back.
        let (before, _) = self.scan()?;
        let (after, found) = self.scan()?;
        if before != after {
            return Ok(());
        }

        let is_named = |id: Id| found.iter().any(|found| found.held.id == id);
        self.others.retain(|other| is_named(other.id));
        for log in &mut self.followed {
            log.is_named = is_named(log.held.id);
        }

        let (mut at_name, mut beside): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|found| found.name == self.names.name);
        let at_name = at_name.pop().map(|found| found.held);
        let id = at_name.as_ref().map(|held| held.id);
        let held = after.into_iter().filter(|(name, _)| name.is_none());
        let mut known: Vec<_> = held.map(|(_, id)| id).chain(id).collect();
        beside.retain(|found| {
            let is_new = !known.contains(&found.held.id);
            // One file may have two names.
            known.push(found.held.id);
            is_new
        });

        let is_same = id.is_some() && id == self.followed.last().map(|log| log.held.id);
        if is_same || !self.has_started {
            // What appears beside a log that stays is a copy of it.
            self.others.extend(beside.into_iter().map(|found| found.held));
        } else {
            // What appears when it does not, was the log for a while. (A copy made by hand in that
            // same moment passes for it.)
            self.names.sort_by_age(&mut beside);
            let rotated = beside.into_iter().map(|found| Followed::new(found.held, 0));
            self.followed.extend(rotated);
        }
        if let Some(held) = at_name {
            self.make_last(held)?;
        }
        if !self.has_started {
            self.has_started = true;
            self.out.start(self.followed.last().map(|log| log.position))?;
        }
        Ok(())
    }

    /// Opens everything that has one of the log's names.
    fn scan(&mut self) -> Result<(Ids, Vec<Found>)> {
        let mut ids = Ids::new();
        let followed = self.followed.iter_mut().map(|log| &mut log.held);
        for held in followed.chain(&mut self.others) {
            held.refresh().map_err(failed("look at", &self.names.path, CHECK))?;
            ids.push((None, held.id));
        }
        let found = self.names.open_all()?;
        ids.extend(found.iter().map(|found| (Some(found.name.clone()), found.held.id)));
        Ok((ids, found))
    }

    /// The log's name leads to this file now.
    fn make_last(&mut self, mut held: Held) -> Result<()> {
        if let Some(index) = self.followed.iter().position(|log| log.held.id == held.id) {
            let log = self.followed.remove(index);
            self.followed.push(log);
            return Ok(());
        }
        let others = self.others.len();
        self.others.retain(|other| other.id != held.id);
        let was_there_before = others > self.others.len() || !(self.has_started || self.from_start);
        let position = if was_there_before {
            let sought = held.seek_last_line(self.out.longest);
            sought.map_err(failed("read", &self.names.path, CHECK))?
        } else {
            0
        };
        self.followed.push(Followed::new(held, position));
        Ok(())
    }

    /// Forwards what is new in the files that are known, and lets go of those that are finished.
    fn read(&mut self) -> Result<()> {
        let Self { followed, out, .. } = self;
        let cannot_read = || failed("read", &self.names.path, CHECK);
        // Lengths from the newest file to the oldest, then bytes the other way round: what a writer
        // added to an old file before it went on to the next is read before what it put there.
        let mut lengths = Vec::new();
        for log in followed.iter().rev() {
            lengths.push(log.held.len().map_err(cannot_read())?);
        }
        lengths.reverse();
        for (log, length) in followed.iter_mut().zip(&lengths) {
            if *length < log.position {
                // Truncated in place.
                log.lines.finish(out)?;
                log.held.seek(0).map_err(cannot_read())?;
                log.position = 0;
            }
            while log.position < *length {
                let most = (*length - log.position).min(self.buffer.len() as u64) as usize;
                let read = log.held.read(&mut self.buffer[..most]);
                let read = read.map_err(cannot_read())?;
                if read == 0 {
                    // Truncated just now, which calls back.
                    break;
                }
                for bytes in self.buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                    log.position += bytes.len() as u64;
                    log.lines.push(bytes, out)?;
                }
            }
        }
        // A file without a name is finished once its writer has gone on to a newer one.
        let mut newest_used = lengths.iter().rposition(|len| *len > 0).unwrap_or(0);
        let mut index = 0;
        while index < newest_used {
            if followed[index].is_named {
                index += 1;
            } else {
                followed[index].lines.finish(out)?;
                followed.remove(index);
                newest_used -= 1;
            }
        }
        Ok(())
    }
}

impl Followed {
    fn new(held: Held, position: u64) -> Self {
        Self { held, position, lines: Lines::default(), is_named: true }
    }
}
