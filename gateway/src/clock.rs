//! The wall clock, and how far it may be trusted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ganglion_protocols::{Clock, ClockSource, Timestamp};

/// Returns the time now, UTC. A clock outside 1970 to 2262 is shown at the nearer end.
#[must_use]
pub fn now() -> Timestamp {
    before(Duration::ZERO)
}

/// Returns the time `age` ago, UTC.
#[must_use]
pub fn before(age: Duration) -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(age);
    Timestamp::from_unix_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Returns the time in so long, UTC.
#[must_use]
pub fn after(pause: Duration) -> Timestamp {
    let nanos = i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_unix_nanos(now().unix_nanos().saturating_add(nanos))
}

/// Returns what the kernel knows of its clock: disciplined by network time with an estimated error, or by nothing.
///
/// Works with every NTP daemon, because they all report to the kernel (adjtimex(2): `STA_UNSYNC`, `maxerror`).
#[must_use]
#[allow(unsafe_code, reason = "adjtimex has no safe wrapper in the libraries used here")]
pub fn state() -> Clock {
    // SAFETY: `timex` is plain integers, for which all zeroes is a value; with `modes` 0 the call only reads the clock's
    // state and writes it into the struct it is given.
    let (result, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if result < 0 || result == libc::TIME_ERROR || timex.status & libc::STA_UNSYNC != 0 {
        return Clock { source: ClockSource::None, error_ms: None };
    }
    let microseconds = u64::try_from(timex.maxerror).unwrap_or(0);
    Clock { source: ClockSource::Ntp, error_ms: Some(coarse(microseconds.div_ceil(1000))) }
}

/// Rounds up to 1, 2 or 5 times a power of ten: the kernel lets its estimate grow by 0.5 ms a second between two
/// corrections, and observations share a message only while their clocks say the same.
fn coarse(ms: u64) -> u32 {
    let steps = (0..9).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u32.pow(power)));
    steps.into_iter().find(|&step| u64::from(step) >= ms).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_rounded_up_and_rarely_changes() {
        let rounded = [0, 1, 2, 3, 5, 6, 11, 499, 500, 501, u64::MAX].map(coarse);
        assert_eq!(rounded, [1, 1, 2, 5, 5, 10, 20, 500, 500, 1000, u32::MAX]);
    }

    #[test]
    fn now_is_in_this_century() {
        let year_2020 = Timestamp::from_unix_nanos(1_577_836_800_000_000_000);
        assert!(now() > year_2020, "{:?}", now());
    }
}
