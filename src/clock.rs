//! The wall clock, in the unit that frames use.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now, in nanoseconds since 1970-01-01 UTC.
#[inline]
pub(crate) fn unix_ns_now() -> u64 {
    unix_ns(SystemTime::now())
}

/// A time outside the years 1970 to 2554 gives the nearest time that a frame can hold.
fn unix_ns(at: SystemTime) -> u64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_secs().checked_mul(1_000_000_000))
            .and_then(|ns| ns.checked_add(u64::from(since.subsec_nanos())))
            .unwrap_or(u64::MAX),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn clock_outside_the_wires_range_gives_the_nearest_time() {
        let century = Duration::from_secs(36_525 * 24 * 3600);
        assert_eq!(unix_ns(UNIX_EPOCH - century), 0);
        assert_eq!(unix_ns(UNIX_EPOCH), 0);
        assert_eq!(unix_ns(UNIX_EPOCH + Duration::from_nanos(700)), 700);
        let last = UNIX_EPOCH + Duration::from_nanos(u64::MAX);
        // The tick of the clock on Windows.
        let tick = Duration::from_nanos(100);
        assert!(unix_ns(last - tick) < u64::MAX);
        assert_eq!(unix_ns(last + tick), u64::MAX);
        assert_eq!(unix_ns(last + century), u64::MAX);
    }
}
