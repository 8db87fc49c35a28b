//! How the writer makes lost events visible: numbers that `seq` skips, and events that report them.

use std::time::Duration;

use serde::Serialize;

use crate::clock::unix_ns_now;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::stats::Losses;
use crate::wire::event::frame;

/// At most one report in this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// The losses that the agent has seen.
pub(crate) struct LossLog {
    counted: Losses,
    /// Numbers were skipped, and no later frame has shown the gap yet.
    is_gap_pending: bool,
    report: Option<LossReport>,
}

/// The events that report losses.
#[derive(Debug)]
pub(crate) struct LossReport {
    kind: String,
    max_content: usize,
    /// The losses that the reports so far have told the agent.
    included: Losses,
    /// When the next report may be sent.
    due: Deadline,
}

#[derive(Serialize)]
struct Payload {
    refused: u64,
    lost: u64,
    refused_total: u64,
    lost_total: u64,
}

impl LossReport {
    /// Fails if reports of this kind are not valid events, or have more than `max_content` bytes.
    pub(crate) fn new(kind: &str, max_content: usize) -> Result<Self> {
        let longest = Payload {
            refused: u64::MAX,
            lost: u64::MAX,
            refused_total: u64::MAX,
            lost_total: u64::MAX,
        };
        frame(u64::MAX, kind, u64::MAX, &longest, max_content)?;
        // The first report may be sent at once.
        let due = Deadline::after(Duration::ZERO);
        Ok(Self { kind: kind.into(), max_content, included: Losses::default(), due })
    }
}

impl LossLog {
    pub(crate) fn new(report: Option<LossReport>) -> Self {
        Self { counted: Losses::default(), is_gap_pending: false, report }
    }

    /// Skips a number for every event that was lost since the last call.
    pub(crate) fn skip(&mut self, losses: Losses, seq: &mut u64) {
        let new = losses.total() - self.counted.total();
        self.is_gap_pending |= new > 0;
        *seq = seq.saturating_add(new);
        self.counted = losses;
    }

    /// Notes that a frame with the next number shows the gap.
    pub(crate) fn shown(&mut self) {
        self.is_gap_pending = false;
    }

    pub(crate) fn is_gap_pending(&self) -> bool {
        self.is_gap_pending
    }

    /// When the next report is due; never, while there is nothing to report.
    pub(crate) fn report_due(&self) -> Deadline {
        match &self.report {
            Some(report) if report.included != self.counted => report.due,
            _ => Deadline::NEVER,
        }
    }

    /// The frame of a report with this number, if there is something to report.
    pub(crate) fn report(&mut self, seq: u64) -> Option<Vec<u8>> {
        let report = self.report.as_mut().filter(|report| report.included != self.counted)?;
        let payload = Payload {
            refused: self.counted.refused - report.included.refused,
            lost: self.counted.reported - report.included.reported,
            refused_total: self.counted.refused,
            lost_total: self.counted.reported,
        };
        report.included = self.counted;
        // The clock is read before the interval begins, so that the timestamps of two reports also differ
        // by at least the interval.
        let now = unix_ns_now();
        report.due = Deadline::after(INTERVAL);
        // `new` checked that the longest possible report is valid.
        frame(seq, &report.kind, now, &payload, report.max_content).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::wire::MAX_CONTENT;

    const fn losses(refused: u64, reported: u64) -> Losses {
        Losses { refused, reported }
    }

    #[test]
    fn each_loss_skips_one_number() {
        let mut log = LossLog::new(None);
        let mut seq = 7;
        log.skip(losses(0, 0), &mut seq);
        assert_eq!((seq, log.is_gap_pending()), (7, false));
        log.skip(losses(2, 1), &mut seq);
        log.skip(losses(2, 5), &mut seq);
        assert_eq!((seq, log.is_gap_pending()), (14, true));
        log.shown();
        assert!(!log.is_gap_pending());
    }

    #[test]
    fn report_counts_since_the_last_report() {
        let mut log = LossLog::new(Some(LossReport::new("acme_lost", MAX_CONTENT).unwrap()));
        assert_eq!((log.report(0), log.report_due()), (None, Deadline::NEVER));
        let mut text = |losses| {
            log.skip(losses, &mut 0);
            String::from_utf8(log.report(3).unwrap().split_off(4)).unwrap()
        };
        assert!(
            text(losses(2, 1))
                .ends_with(r#""payload":{"refused":2,"lost":1,"refused_total":2,"lost_total":1}}"#)
        );
        let second = text(losses(2, 5));
        assert!(second.starts_with(r#"{"type":"event","seq":3,"ts_unix_ns":"#), "{second}");
        assert!(second.ends_with(
            r#""kind":"acme_lost","payload":{"refused":0,"lost":4,"refused_total":2,"lost_total":5}}"#
        ));
        log.skip(losses(3, 5), &mut 0);
        assert!(!log.report_due().has_passed(), "one report a second");
    }

    #[test]
    fn first_report_is_due_at_once() {
        let mut log = LossLog::new(Some(LossReport::new("acme_lost", MAX_CONTENT).unwrap()));
        log.skip(losses(0, 1), &mut 0);
        // The writer reads the clock before it calls `report_due`.
        let now = std::time::Instant::now();
        assert!(log.report_due().has_passed_at(now));
    }

    #[test]
    fn report_above_the_size_limit_is_an_error() {
        let error = LossReport::new("acme_lost", 200).unwrap_err();
        assert!(matches!(error, Error::PayloadTooLarge { max: 200, .. }), "{error}");
    }
}
