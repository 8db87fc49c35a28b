//! Checks the sequence numbers of one session.

use std::ops::Range;

use crate::wire::message::PluginMessage;

/// Finds the sequence numbers that a session's messages skip.
///
/// A heartbeat carries the number of the next event, or it uses a number of its own. Both are accepted: the
/// number in a heartbeat counts as seen, and the next event or heartbeat may carry it again. Any other number
/// must be higher than all numbers before it.
#[derive(Debug, Default)]
pub(crate) struct SeqCheck {
    last: Option<Last>,
}

/// The highest number so far.
#[derive(Debug, Clone, Copy)]
struct Last {
    seq: u64,
    /// Whether an event carried it.
    is_of_event: bool,
}

/// A sequence number that is lower than an earlier number, or repeats the number of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfOrder {
    pub(crate) seq: u64,
    pub(crate) after: u64,
}

impl SeqCheck {
    /// Takes the session's next message, and returns the numbers that are missing before it.
    ///
    /// The range is empty if no number is missing, and for a message without a number. After an
    /// error the check is as it was before.
    pub(crate) fn next(&mut self, message: &PluginMessage) -> Result<Range<u64>, OutOfOrder> {
        let (seq, is_of_event) = match message {
            PluginMessage::Event(event) => (event.seq, true),
            PluginMessage::Heartbeat { seq } => (*seq, false),
            PluginMessage::Hello(_) | PluginMessage::Goodbye => return Ok(0..0),
        };
        let missing = match self.last {
            None => 0..seq,
            Some(last) if seq > last.seq => last.seq + 1..seq,
            Some(last) if seq == last.seq && !last.is_of_event => seq..seq,
            Some(last) => return Err(OutOfOrder { seq, after: last.seq }),
        };
        self.last = Some(Last { seq, is_of_event });
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Event;

    fn event(seq: u64) -> PluginMessage {
        let payload = serde_json::Value::Null;
        PluginMessage::Event(Event { seq, ts_unix_ns: 0, kind: String::new(), payload })
    }

    fn heartbeat(seq: u64) -> PluginMessage {
        PluginMessage::Heartbeat { seq }
    }

    /// The missing numbers before each of the messages, joined.
    fn missing(messages: &[PluginMessage]) -> Vec<u64> {
        let mut check = SeqCheck::default();
        messages.iter().flat_map(|message| check.next(message).unwrap()).collect()
    }

    fn error(messages: &[PluginMessage]) -> OutOfOrder {
        let (last, before) = messages.split_last().unwrap();
        let mut check = SeqCheck::default();
        for message in before {
            check.next(message).unwrap();
        }
        let error = check.next(last).unwrap_err();
        assert_eq!(check.next(last), Err(error), "an error changes nothing");
        error
    }

    #[test]
    fn heartbeat_with_the_next_events_number_is_not_a_gap() {
        let session = [
            heartbeat(0),
            heartbeat(0),
            event(0),
            event(1),
            heartbeat(2),
            heartbeat(2),
            event(2),
            heartbeat(3),
            PluginMessage::Goodbye,
        ];
        assert_eq!(missing(&session), [0; 0]);
    }

    #[test]
    fn heartbeat_with_its_own_number_is_not_a_gap() {
        let session =
            [heartbeat(0), heartbeat(1), event(2), event(3), heartbeat(4), event(5), heartbeat(6)];
        assert_eq!(missing(&session), [0; 0]);
    }

    #[test]
    fn gap_before_an_event_is_reported() {
        assert_eq!(missing(&[event(2)]), [0, 1]);
        assert_eq!(missing(&[event(0), event(3)]), [1, 2]);
        assert_eq!(missing(&[event(0), heartbeat(1), event(1), event(4)]), [2, 3]);
        assert_eq!(missing(&[event(0), heartbeat(1), event(2), event(4)]), [3]);
        // The heartbeat's number counts as seen.
        assert_eq!(missing(&[event(0), heartbeat(1), event(4)]), [2, 3]);
    }

    #[test]
    fn gap_before_a_heartbeat_is_reported_once() {
        for next in [event(3), event(4), heartbeat(3), heartbeat(4)] {
            assert_eq!(missing(&[event(0), heartbeat(3), next]), [1, 2]);
        }
        assert_eq!(missing(&[heartbeat(2)]), [0, 1]);
    }

    #[test]
    fn numbers_out_of_order_are_an_error() {
        let out_of_order = |seq, after| OutOfOrder { seq, after };
        assert_eq!(error(&[event(5), event(5)]), out_of_order(5, 5));
        assert_eq!(error(&[event(5), event(4)]), out_of_order(4, 5));
        assert_eq!(error(&[event(5), heartbeat(5)]), out_of_order(5, 5));
        assert_eq!(error(&[heartbeat(5), heartbeat(4)]), out_of_order(4, 5));
        assert_eq!(error(&[heartbeat(5), event(4)]), out_of_order(4, 5));
        assert_eq!(error(&[heartbeat(5), event(5), event(5)]), out_of_order(5, 5));
    }

    #[test]
    fn largest_number_does_not_overflow() {
        let mut check = SeqCheck::default();
        let max = u64::MAX;
        assert_eq!(check.next(&heartbeat(max)), Ok(0..max));
        assert_eq!(check.next(&heartbeat(max)), Ok(max..max));
        assert_eq!(check.next(&event(max)), Ok(max..max));
        assert!(check.next(&event(max)).is_err());
    }
}
