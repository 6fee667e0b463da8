//! The wall clock, and how far it may be trusted.

use std::time::{SystemTime, UNIX_EPOCH};

use ganglion_protocols::{Clock, ClockSource, Timestamp};

/// Returns the time now, UTC. A clock outside 1970 to 2262 is shown at the nearer end.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
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
    Clock { source: ClockSource::Ntp, error_ms: Some(u32::try_from(microseconds.div_ceil(1000)).unwrap_or(u32::MAX)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_vouches_for_an_error_exactly_when_it_names_a_source() {
        let clock = state();
        assert_eq!(clock.error_ms.is_some(), clock.source == ClockSource::Ntp);
    }

    #[test]
    fn now_is_in_this_century() {
        let year_2020 = Timestamp::from_unix_nanos(1_577_836_800_000_000_000);
        assert!(now() > year_2020, "{:?}", now());
    }
}
