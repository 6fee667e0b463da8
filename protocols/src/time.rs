//! Instants in UTC, and how far the clock that gave them may be trusted. Nothing here reads a clock.

use core::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Instant in UTC: nanoseconds since 1970-01-01T00:00:00Z. Reaches from 1677 to 2262.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Takes nanoseconds since 1970.
    #[must_use]
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns nanoseconds since 1970.
    #[must_use]
    pub const fn unix_nanos(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC with milliseconds, truncated: `2026-11-22T06:53:55.123Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(instant) => write!(f, "{instant:.3}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where the gateway's clock takes its time from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClockSource {
    /// Satellite receiver.
    Gnss,
    /// Network time.
    Ntp,
    /// Battery-backed clock, not disciplined since start.
    Rtc,
    /// Nothing vouches for the time.
    #[default]
    None,
}

impl ClockSource {
    /// Returns the name written in the payload.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gnss => "gnss",
            Self::Ntp => "ntp",
            Self::Rtc => "rtc",
            Self::None => "none",
        }
    }

    /// Returns the code kept in records.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gnss => 1,
            Self::Ntp => 2,
            Self::Rtc => 3,
        }
    }

    /// Takes the code kept in records; an unknown one vouches for nothing.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Gnss,
            2 => Self::Ntp,
            3 => Self::Rtc,
            _ => Self::None,
        }
    }
}

/// State of the clock when an observation was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    /// Where the time comes from.
    pub source: ClockSource,
    /// Estimated error in milliseconds; `None` when nobody can say.
    pub error_ms: Option<u32>,
}

impl Serialize for Clock {
    /// `{"src":"ntp","err_ms":12}`; `err_ms` is left out when unknown.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = if self.error_ms.is_some() { 2 } else { 1 };
        let mut out = serializer.serialize_struct("Clock", fields)?;
        out.serialize_field("src", self.source.as_str())?;
        match self.error_ms {
            Some(error) => out.serialize_field("err_ms", &error)?,
            None => out.skip_field("err_ms")?,
        }
        out.end()
    }
}
