//! The time in a line.

use jiff::fmt::strtime::BrokenDownTime;
use jiff::{SignedDuration, Timestamp, ZonedDateTime};

/// Reads the time at the beginning of a line, in nanoseconds since 1970-01-01 UTC: RFC 3339, or
/// the `Jan  2 03:04:05` of classic syslog, both with or without a syslog priority before it.
///
/// Classic syslog has no year and no time zone. The zone is that of `written`, the time of the file's
/// last write. The year is the latest year in which the line is not newer than `written`, so an old line
/// never gets a time in the future. A difference of two days is allowed, for a clock or a zone that is
/// ahead.
pub(crate) fn find(line: &str, written: &ZonedDateTime) -> Option<u64> {
    let line = without_priority(line);
    let first_word = line.split(' ').next()?;
    let at = first_word.parse().ok().or_else(|| without_year(line, written))?;
    // A u64 has no number for times before 1970 or after 2554.
    u64::try_from(at.as_nanosecond()).ok()
}

/// Skips the `<34>` of RFC 3164, or the `<34>1 ` of RFC 5424.
fn without_priority(line: &str) -> &str {
    let tag = line.strip_prefix('<').and_then(|tag| after_digits(tag).strip_prefix('>'));
    // A number and a space are the version. A number and any other character are the time.
    tag.map_or(line, |rest| after_digits(rest).strip_prefix(' ').unwrap_or(rest))
}

fn after_digits(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_digit())
}

fn without_year(line: &str, written: &ZonedDateTime) -> Option<Timestamp> {
    let (mut time, _) = BrokenDownTime::parse_prefix("%b %e %H:%M:%S", line).ok()?;
    let latest = written.timestamp().checked_add(SignedDuration::from_hours(48)).ok()?;
    // February 29 does not exist in every year, and a time that daylight saving skips does not exist.
    // A time that is older than a year is not the time of this line.
    let in_year = |year| {
        time.set_year(Some(year)).ok()?;
        let at = time.to_datetime().ok()?.to_zoned_datetime(written.time_zone().clone());
        Some(at.ok()?.timestamp())
    };
    let is_past = |at: &Timestamp| *at <= latest;
    (written.year() - 1..=written.year() + 1).rev().filter_map(in_year).find(is_past)
}
