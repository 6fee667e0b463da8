//! How long an outage the disk still covers: pure, and in the words that `ganglion status` and `ganglion check` share.

use std::fmt;

/// What the quota and the disk still leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Most bytes that segments may take: the quota, in whole segments.
    pub quota: u64,
    /// Bytes of segments that hold something undelivered; of the one being written, what is written.
    pub held: u64,
    /// Bytes of all files there are: what is not held of them can be written over.
    pub files: u64,
    /// Bytes that the file system leaves for more files, if it says.
    pub disk: Option<u64>,
}

impl Room {
    /// Returns the bytes that can still be appended before something undelivered has to go.
    #[must_use]
    pub fn free(&self) -> u64 {
        let by_quota = self.quota.saturating_sub(self.held);
        let by_disk = self.disk.map(|disk| disk.saturating_add(self.files.saturating_sub(self.held)));
        by_disk.map_or(by_quota, |by_disk| by_disk.min(by_quota))
    }
}

/// An outage in numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outlook {
    /// Bytes that can still be appended.
    pub free: u64,
    /// Bytes appended a second; `None` while it is not known.
    pub rate: Option<f64>,
    /// Bytes held undelivered, and the quota.
    pub used: (u64, u64),
}

impl Outlook {
    /// Returns how many hours of outage are covered; `None` when nothing is appended, or nobody knows how much.
    #[must_use]
    pub fn hours(&self) -> Option<f64> {
        self.rate.filter(|rate| *rate > 0.0).map(|rate| in_f64(self.free) / rate / 3600.0)
    }
}

impl Outlook {
    /// Writes `covers 31 h of outage at 1.9 kB/s`.
    #[must_use]
    pub fn cover(&self) -> String {
        match (self.hours(), self.rate) {
            (Some(hours), Some(rate)) => {
                format!("covers {} of outage at {}/s", hours_in_words(hours), bytes_in_words(rate))
            }
            (_, Some(_)) => "nothing is appended".to_owned(),
            (_, None) => format!("{} free, no rate measured yet", bytes_in_words(in_f64(self.free))),
        }
    }
}

impl fmt::Display for Outlook {
    /// Writes `covers 31 h of outage at 1.9 kB/s; 2 % of the quota used`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, quota) = self.used;
        let percent = held.saturating_mul(100).checked_div(quota).unwrap_or(100);
        write!(f, "{}; {percent} % of the quota used", self.cover())
    }
}

/// Writes bytes as people do, to two or three digits: `1.9 kB`, `31 MB`.
#[must_use]
pub fn bytes_in_words(bytes: f64) -> String {
    let mut scaled = bytes;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB"] {
        if scaled < 999.5 {
            break;
        }
        scaled /= 1000.0;
        unit = larger;
    }
    let digits = usize::from(scaled < 9.95 && (unit != "B" || scaled.fract() != 0.0));
    format!("{scaled:.digits$} {unit}")
}

/// Writes hours as people do: minutes below two hours, days above ten days.
#[must_use]
pub fn hours_in_words(hours: f64) -> String {
    if hours < 2.0 {
        format!("{:.0} min", (hours * 60.0).floor())
    } else if hours < 240.0 {
        format!("{:.0} h", hours.floor())
    } else if hours < 24.0 * 3650.0 {
        format!("{:.0} days", (hours / 24.0).floor())
    } else {
        "more than ten years".to_owned()
    }
}

/// Bytes of any disk there is are exact in an `f64`.
#[allow(clippy::cast_precision_loss, reason = "below 2^53 bytes, 9 petabytes")]
pub(crate) const fn in_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlook_says_how_long_an_outage_is_covered() {
        let outlook = Outlook { free: 212_000_000, rate: Some(1900.0), used: (5_000_000, 217_000_000) };
        assert_eq!(outlook.to_string(), "covers 30 h of outage at 1.9 kB/s; 2 % of the quota used");
        let unknown = Outlook { rate: None, ..outlook };
        assert_eq!(unknown.to_string(), "212 MB free, no rate measured yet; 2 % of the quota used");
        let idle = Outlook { rate: Some(0.0), ..outlook };
        assert_eq!((idle.hours(), idle.to_string().as_str()), (None, "nothing is appended; 2 % of the quota used"));
    }

    #[test]
    fn the_smaller_of_quota_and_disk_is_what_is_left() {
        let room = Room { quota: 1000, held: 300, files: 500, disk: None };
        assert_eq!(room.free(), 700);
        assert_eq!(Room { disk: Some(100), ..room }.free(), 300, "200 to write over and 100 to grow");
        assert_eq!(Room { disk: Some(u64::MAX), ..room }.free(), 700);
        assert_eq!(Room { held: 2000, ..room }.free(), 0);
    }

    #[test]
    fn bytes_and_hours_read_as_people_write_them() {
        for (bytes, words) in
            [(0.0, "0 B"), (0.4, "0.4 B"), (999.0, "999 B"), (1900.0, "1.9 kB"), (31e6, "31 MB"), (5.2e9, "5.2 GB")]
        {
            assert_eq!(bytes_in_words(bytes), words);
        }
        for (hours, words) in
            [(0.5, "30 min"), (31.9, "31 h"), (239.0, "239 h"), (480.0, "20 days"), (1e6, "more than ten years")]
        {
            assert_eq!(hours_in_words(hours), words);
        }
    }
}
