//! The times and sizes of the events: at a steady rate, or as in a recording.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::iter;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

/// An event of the load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The time since the load began.
    pub(crate) at: Duration,
    /// Bytes of the payload's JSON.
    pub(crate) bytes: usize,
}

/// Events in order of time.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals(pub(crate) Vec<Arrival>);

/// What the queue must hold while the agent does not read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// The stall that needs the longest queue begins before this event.
    pub(crate) first: usize,
    pub(crate) events: usize,
    /// Bytes of their payloads.
    pub(crate) bytes: usize,
}

impl Arrivals {
    /// `rate` events per second, and `burst.0` more events at the time `burst.1`.
    pub(crate) fn steady(
        rate: u32,
        lasting: Duration,
        bytes: usize,
        burst: (u32, Duration),
    ) -> Self {
        let count = |time: Duration| (time.as_nanos() * u128::from(rate) / 1_000_000_000) as u32;
        let due = |n| Duration::from_secs(1) * n / rate;
        let burst_at = due(count(burst.1));
        let mut all: Vec<_> = (0..count(lasting))
            .map(due)
            .chain(iter::repeat_n(burst_at, burst.0 as usize))
            .map(|at| Arrival { at, bytes })
            .collect();
        all.sort_by_key(|arrival| arrival.at);
        Self(all)
    }

    /// The events of a recording that `wedr-dev-agent --format ndjson` wrote, by session.
    pub(crate) fn recorded(path: &Path) -> Result<Vec<Self>, Box<dyn Error>> {
        #[derive(Deserialize)]
        struct Line<'a> {
            session: u64,
            ts_unix_ns: u64,
            #[serde(borrow)]
            payload: &'a RawValue,
        }
        let file = File::open(path).map_err(|e| format!("cannot open {}: {e}", path.display()))?;
        let mut sessions = BTreeMap::<_, Vec<_>>::new();
        for (n, line) in BufReader::new(file).lines().enumerate() {
            let cannot = |e: &dyn Error| {
                format!(
                    "cannot read {}, line {}: {e}; record the file with wedr-dev-agent --format ndjson",
                    path.display(),
                    n + 1
                )
            };
            let line = line.map_err(|e| cannot(&e))?;
            let event: Line<'_> = serde_json::from_str(&line).map_err(|e| cannot(&e))?;
            let arrival = (Duration::from_nanos(event.ts_unix_ns), event.payload.get().len());
            sessions.entry(event.session).or_default().push(arrival);
        }
        if sessions.is_empty() {
            return Err(format!(
                "{} has no event; record the events of a plugin first",
                path.display()
            )
            .into());
        }
        Ok(sessions.into_values().map(Self::from_the_first).collect())
    }

    fn from_the_first(mut events: Vec<(Duration, usize)>) -> Self {
        events.sort_by_key(|event| event.0);
        let first = events[0].0;
        Self(
            events
                .into_iter()
                .map(|(at, bytes)| Arrival { at: at.saturating_sub(first), bytes })
                .collect(),
        )
    }

    /// What must be queued if the agent does not read for `stall`, at the worst moment.
    pub(crate) fn need(&self, stall: Duration) -> Need {
        let mut need = Need { first: 0, events: 0, bytes: 0 };
        let (mut end, mut queued) = (0, 0);
        for (first, arrival) in self.0.iter().enumerate() {
            while let Some(next) = self.0.get(end).filter(|next| next.at < arrival.at + stall) {
                queued += next.bytes;
                end += 1;
            }
            // If several moments need the same number of events, take the last: the moment of a burst.
            if end - first >= need.events {
                (need.first, need.events) = (first, end - first);
            }
            need.bytes = need.bytes.max(queued);
            queued = queued.saturating_sub(arrival.bytes);
            end = end.max(first + 1);
        }
        need
    }

    /// The events around the event `first`, from the time `before` earlier to the time `after` later, and the
    /// new index of `first`.
    pub(crate) fn around(&self, first: usize, before: Duration, after: Duration) -> (Self, usize) {
        let at = self.0[first].at;
        let begin = self.0.partition_point(|arrival| arrival.at + before < at);
        let end = self.0.partition_point(|arrival| arrival.at < at + after);
        let events = self.0[begin..end].iter().map(|arrival| (arrival.at, arrival.bytes));
        (Self::from_the_first(events.collect()), first - begin)
    }

    pub(crate) fn largest(&self) -> usize {
        self.0.iter().map(|arrival| arrival.bytes).max().unwrap_or_default()
    }
}
