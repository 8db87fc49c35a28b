//! Decides which files belong to the log, and reads them in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::mem;
use std::time::{Duration, Instant};

use wedr_plugin_sdk::{Error, Result};

use crate::failure::{Failure, LastingProblem};
use crate::file::Id;
use crate::followed::{Followed, Opening};
use crate::lines::Forwarder;
use crate::names::{Found, Names};
use crate::position::Saved;

/// The folder is listed at least this often.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// How many of the newest files stay open: an open file that is removed is still read to its end. An
/// older file that grows is open only while it is read.
const HELD: usize = 32;
/// How many bytes are read before the folder is listed again.
const AT_ONCE: u64 = 1 << 20;

/// Where to start in a log that exists at the start.
#[derive(Clone, Copy, PartialEq)]
enum Begin {
    AtStart,
    AtEnd,
    /// At the position in the position file.
    Resumed,
}

pub(crate) struct Follower {
    names: Names,
    out: Forwarder,
    problem: LastingProblem,
    begin: Begin,
    /// The log of the position file no longer exists.
    gap: bool,
    /// The folder has been listed. The first list decides where to start.
    has_started: bool,
    /// The `log_start` has been sent.
    is_announced: bool,
    listed: Option<Instant>,
    /// The oldest first. The last file is the log; if no file has its name now, it was the log.
    followed: Vec<Followed>,
    /// Files with a name of a rotated log that are not one: they existed before the start, or are copies.
    others: BTreeSet<Id>,
    buffer: Box<[u8]>,
}

impl Follower {
    pub(crate) fn new(
        names: Names,
        from_start: bool,
        saved: Option<Saved>,
        out: Forwarder,
    ) -> Self {
        let begin = match (&saved, from_start) {
            (Some(_), _) => Begin::Resumed,
            (None, true) => Begin::AtStart,
            (None, false) => Begin::AtEnd,
        };
        let (files, others) = saved.map(|saved| (saved.files, saved.others)).unwrap_or_default();
        Self {
            names,
            out,
            problem: LastingProblem::default(),
            begin,
            gap: false,
            has_started: false,
            is_announced: false,
            listed: None,
            followed: files.into_iter().map(Followed::resumed).collect(),
            others,
            buffer: vec![0; 64 << 10].into(),
        }
    }

    /// Forwards new lines. Returns whether to look again at once. `list`: files may have been created,
    /// removed or renamed.
    pub(crate) fn look(&mut self, list: bool) -> Result<bool> {
        let list = list || self.listed.is_none_or(|at| at.elapsed() >= EVERY);
        let mut problem = None;
        let is_settled = !list || self.list(&mut problem)?;
        let is_read = !self.is_announced || self.read(&mut problem)?;
        if list && is_settled {
            self.problem.set(problem).map_or(Ok(()), |failure| self.report(failure))?;
        }
        Ok(!(is_settled && is_read))
    }

    /// How many bytes of the log were not forwarded.
    pub(crate) fn left(&self) -> u64 {
        self.followed.iter().map(Followed::left).sum()
    }

    /// The content of the position file; `None` before the start is decided.
    pub(crate) fn saved(&self) -> Option<Saved> {
        let files = self.followed.iter().map(Followed::saved).collect();
        self.is_announced.then(|| Saved::new(&self.out.file, files, self.others.clone()))
    }

    /// Reports a failure that does not end the program.
    pub(crate) fn report(&self, failure: Failure) -> Result<()> {
        self.out.error(&failure.full())
    }

    /// Finds the files of the log and opens the newest. Returns `false` if names changed meanwhile.
    fn list(&mut self, problem: &mut Option<Failure>) -> Result<bool> {
        // Listing a folder is not atomic: it may miss a file that is renamed meanwhile. If two lists are
        // equal, both are complete.
        let lists = self.names.list().and_then(|first| Ok((first, self.names.list()?)));
        let ((before, _), (found, obstacle)) = match lists {
            Ok(lists) => lists,
            Err(e) => return self.cannot_list(e, problem).map(|()| true),
        };
        let (before, found) = (self.relevant(before), self.relevant(found));
        if !before.iter().map(Found::key).eq(found.iter().map(Found::key)) {
            return Ok(false);
        }
        self.listed = Some(Instant::now());
        if let Some(e) = obstacle {
            let failure = Failure::new("open", &self.names.path, e);
            if !self.has_started {
                return Err(Error::plugin(failure));
            }
            *problem = Some(failure);
        }
        self.decide(found);
        let is_settled = self.open_newest(problem)?;
        self.announce()?;
        Ok(is_settled)
    }

    /// A folder may be missing for a moment: its file system is mounted again, or a link to it is
    /// replaced. Open files are still read.
    fn cannot_list(&mut self, e: io::Error, problem: &mut Option<Failure>) -> Result<()> {
        let is_gone = matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        let failure = Failure::new("list", &self.names.folder, e);
        if !self.has_started || is_gone && self.problem.is_lasting() {
            return Err(Error::plugin(failure));
        }
        self.listed = Some(Instant::now());
        *problem = Some(failure);
        Ok(())
    }

    /// Removes files from the list that were not followed and cannot have been the log.
    fn relevant(&self, mut found: Vec<Found>) -> Vec<Found> {
        found.retain(|found| {
            found.name == self.names.name
                || self.names.is_rotated(&found.name)
                || self.followed.iter().any(|log| log.id == found.status.id)
        });
        found
    }

    /// Decides which files are followed.
    fn decide(&mut self, mut found: Vec<Found>) {
        let is_first = !mem::replace(&mut self.has_started, true);
        if is_first {
            self.find_devices(&found);
        }
        // A file may have two names. The log's name has priority.
        found.sort_by_key(|found| found.name != self.names.name);
        let log = found.first().filter(|found| found.name == self.names.name);
        let log = log.map(|found| found.status.id);
        let is_same = log.is_some() && log == self.followed.last().map(|last| last.id);

        let mut unknown = BTreeMap::new();
        self.followed.iter_mut().for_each(|known| known.found = None);
        for found in found {
            let id = found.status.id;
            match self.followed.iter_mut().find(|known| known.id == id) {
                Some(known) if known.found.is_none() => known.found = Some(found),
                Some(_) => {}
                None => _ = unknown.entry(id).or_insert(found),
            }
        }
        self.others.retain(|id| unknown.contains_key(id));
        self.gap |= is_first && self.followed.last().is_some_and(|last| last.found.is_none());

        let new_log = log.and_then(|id| unknown.remove(&id));
        let is_other = |found: &Found| self.others.contains(&found.status.id);
        let mut beside: Vec<_> = unknown.into_values().filter(|found| !is_other(found)).collect();
        if is_same || is_first && self.begin != Begin::Resumed {
            // If the log is still the same file, a new file is a copy of it.
            self.others.extend(beside.iter().map(|found| found.status.id));
        } else {
            // If the log is another file, a new file was the log for a while. (A copy that a user makes
            // in the same moment is mistaken for one.)
            self.names.sort_by_age(&mut beside);
            self.followed.extend(beside.into_iter().map(Followed::from_start));
        }
        if let Some(found) = new_log {
            let existed =
                self.others.remove(&found.status.id) || is_first && self.begin == Begin::AtEnd;
            let new = if existed { Followed::from_end } else { Followed::from_start };
            self.followed.push(new(found));
        } else {
            // A rotated file may have been renamed back.
            self.followed.sort_by_key(|known| Some(known.id) == log);
        }
    }

    /// Updates the ids: a device may have another number since the position was saved.
    fn find_devices(&mut self, found: &[Found]) {
        let find = |id: Id| {
            let mut ids = found.iter().map(|found| found.status.id);
            let is_there = ids.clone().any(|other| other == id);
            let same = ids.find(|other| !is_there && other.is_same_without_device(id));
            same.unwrap_or(id)
        };
        self.followed.iter_mut().for_each(|known| known.id = find(known.id));
        self.others = self.others.iter().map(|id| find(*id)).collect();
    }

    /// Returns `false` if names changed meanwhile.
    fn open_newest(&mut self, problem: &mut Option<Failure>) -> Result<bool> {
        let older = self.followed.len().saturating_sub(HELD);
        for log in &mut self.followed[older..] {
            match log.open(&self.names, self.out.longest)? {
                Opening::Open | Opening::Nameless => {}
                Opening::Renamed => return Ok(false),
                Opening::Failed(failure) => *problem = Some(failure),
            }
        }
        Ok(true)
    }

    /// Sends `log_start` as soon as the start is known: when the log is open, or does not exist.
    fn announce(&mut self) -> Result<()> {
        let log = self.followed.last().filter(|log| log.found.is_some());
        if self.is_announced || log.is_some_and(|log| !log.is_open()) {
            return Ok(());
        }
        self.is_announced = true;
        let gap = self.gap || self.followed.iter().any(|log| log.is_replaced);
        self.out.start(log.map(|log| log.position), self.begin == Begin::Resumed, gap)
    }

    /// Forwards new lines of the followed files, and removes finished files. Returns `false` if there
    /// is more to read.
    fn read(&mut self, problem: &mut Option<Failure>) -> Result<bool> {
        // Measure from the newest file to the oldest, then read from the oldest to the newest. So lines
        // that a writer added to an old file are read before its lines in the next file.
        for log in self.followed.iter_mut().rev() {
            log.measure(&self.names)?;
        }
        let older = self.followed.len().saturating_sub(HELD);
        let mut budget = AT_ONCE;
        for (index, log) in self.followed.iter_mut().enumerate() {
            if !log.is_open() && log.has_grown() {
                match log.open(&self.names, self.out.longest)? {
                    Opening::Open => log.measure(&self.names)?,
                    Opening::Renamed => return Ok(false),
                    Opening::Nameless => {}
                    Opening::Failed(failure) => *problem = Some(failure),
                }
            }
            log.read(&mut self.buffer, &mut budget, &self.names, &self.out)?;
            if budget == 0 {
                return Ok(false);
            }
            if index < older {
                log.close();
            }
        }
        // A file without a name is finished when a newer file has content.
        let newest_used = self.followed.iter().rposition(Followed::is_used).unwrap_or(0);
        let mut newer = self.followed.split_off(newest_used);
        for mut log in mem::take(&mut self.followed) {
            if log.found.is_some() {
                self.followed.push(log);
            } else {
                log.finish(&self.out)?;
            }
        }
        self.followed.append(&mut newer);
        Ok(true)
    }
}
