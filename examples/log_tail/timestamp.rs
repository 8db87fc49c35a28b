//! The time that a line says it was written at.

use jiff::fmt::strtime::BrokenDownTime;
use jiff::{Timestamp, Zoned};

/// Reads the time at the beginning of a line, in nanoseconds since 1970-01-01 UTC: RFC 3339, or
/// the `Jan  2 03:04:05` of classic syslog, either with syslog's priority before it.
///
/// Classic syslog has neither year nor zone: it gets the year that puts it nearest to `now`, and
/// the zone of `now`.
pub(crate) fn find(line: &str, now: &Zoned) -> Option<u64> {
    let line = without_priority(line);
    let first_word = line.split(' ').next()?;
    let at = first_word.parse().ok().or_else(|| without_year(line, now))?;
    // Before 1970 or after 2554 there is no such number.
    u64::try_from(at.as_nanosecond()).ok()
}

/// Skips the `<34>` of RFC 3164, or the `<34>1 ` of RFC 5424.
fn without_priority(line: &str) -> &str {
    let tag = line.strip_prefix('<').and_then(|tag| after_digits(tag).strip_prefix('>'));
    // A version is a number and a space; a number and anything else is the time itself.
    tag.map_or(line, |rest| after_digits(rest).strip_prefix(' ').unwrap_or(rest))
}

fn after_digits(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_digit())
}

fn without_year(line: &str, now: &Zoned) -> Option<Timestamp> {
    let (mut time, _) = BrokenDownTime::parse_prefix("%b %e %H:%M:%S", line).ok()?;
    // The 29th of February is not in every year, and what a clock skipped is in none.
    let in_year = |year| {
        time.set_year(Some(year)).ok()?;
        let at = time.to_datetime().ok()?.to_zoned(now.time_zone().clone());
        Some(at.ok()?.timestamp())
    };
    let away = |at: &Timestamp| at.duration_since(now.timestamp()).abs();
    (now.year() - 1..=now.year() + 1).filter_map(in_year).min_by_key(away)
}
