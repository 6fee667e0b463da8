//! The bench's subscriber: counts every value, judges each by the second it names, and notes how late it came.
//!
//! Reads the same payload as [`Received`](crate::received::Received) and keeps nothing of it: at 100,000 values a second
//! it runs beside what is measured.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

use crate::subscriber::Sink;

/// What came so far.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// From when to when an observation's time must lie to count for `values` and `latencies`.
    pub window: Option<(SystemTime, SystemTime)>,
    /// Values of the window.
    pub values: u64,
    /// How long after its last Modbus answer each observation of the window came.
    pub latencies: Vec<Duration>,
    /// Values that name no second close to their observation's time, or are not good.
    pub wrong: u64,
    /// Observations that came again.
    pub repeated: u64,
    /// Payloads that could not be read.
    pub unreadable: u64,
    seen: HashMap<String, Numbers>,
}

/// The numbers seen of one resource.
#[derive(Clone, Default, Debug)]
struct Numbers {
    highest: u64,
    count: u64,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    obs: Vec<Observation<'a>>,
}

#[derive(Deserialize)]
struct Observation<'a> {
    id: &'a str,
    seq: u64,
    t: &'a str,
    p: Values,
}

#[derive(Deserialize)]
struct Reading<'a> {
    v: Option<u64>,
    q: &'a str,
}

impl Tally {
    /// Returns how many of the numbers `1..=last` of a resource never came.
    #[must_use]
    pub fn lost(&self, id: &str, last: u64) -> u64 {
        last.saturating_sub(self.seen.get(id).map_or(0, |numbers| numbers.count))
    }

    /// Returns the latency that this share of the observations kept, 0.0..=1.0; zero when there are none.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank")]
    pub fn latency(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn observation(&mut self, observation: &Observation<'_>, arrival: SystemTime) {
        let Ok(t) = observation.t.parse::<jiff::Timestamp>() else {
            self.unreadable += 1;
            return;
        };
        let numbers = self.seen.entry(observation.id.to_owned()).or_default();
        // Numbers of one resource come in order, so one at or below the highest is a repetition.
        if observation.seq <= numbers.highest {
            self.repeated += 1;
            return;
        }
        numbers.highest = observation.seq;
        numbers.count += 1;
        let t = SystemTime::from(t);
        self.wrong += observation.p.wrong(t);
        if self.window.is_some_and(|(from, to)| from <= t && t < to) {
            self.values += observation.p.count;
            self.latencies.push(arrival.duration_since(t).unwrap_or_default());
        }
    }
}

impl Sink for Tally {
    fn message(&mut self, topic: &str, payload: &[u8], arrival: SystemTime) {
        if !topic.ends_with("/obs") {
            return;
        }
        match serde_json::from_slice::<Envelope<'_>>(payload) {
            Ok(envelope) => envelope.obs.iter().for_each(|observation| self.observation(observation, arrival)),
            Err(_) => self.unreadable += 1,
        }
    }
}

/// The values of one observation: how many, and how many name each second.
#[derive(Default)]
struct Values {
    count: u64,
    unusable: u64,
    seconds: Vec<(u16, u64)>,
}

impl Values {
    /// Returns how many values name neither the second of `t` nor the one before; a poll may begin before a second ends.
    #[allow(clippy::cast_possible_truncation, reason = "a bench register holds the low sixteen bits")]
    fn wrong(&self, t: SystemTime) -> u64 {
        let second = t.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as u16;
        let stale = |named: u16| second.wrapping_sub(named) > 1;
        let named = self.seconds.iter().filter(|(named, _)| stale(*named)).map(|(_, count)| count);
        self.unusable + named.sum::<u64>()
    }

    fn add(&mut self, name: &str, reading: &Reading<'_>) {
        self.count += 1;
        let address = name.rsplit_once('.').and_then(|(_, channel)| channel.parse::<u16>().ok()?.checked_sub(1));
        let value = reading.v.and_then(|value| u16::try_from(value).ok());
        let (Some(address), Some(value), "good") = (address, value, reading.q) else {
            self.unusable += 1;
            return;
        };
        let second = value.wrapping_sub(address);
        match self.seconds.iter_mut().find(|(named, _)| *named == second) {
            Some((_, count)) => *count += 1,
            None => self.seconds.push((second, 1)),
        }
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Readings;
        impl<'de> Visitor<'de> for Readings {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("readings by property")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values = Values::default();
                while let Some((name, reading)) = map.next_entry::<&str, Reading<'_>>()? {
                    values.add(name, &reading);
                }
                if values.count == 0 { Err(de::Error::custom("no readings")) } else { Ok(values) }
            }
        }
        deserializer.deserialize_map(Readings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "2026-11-22T06:53:55.123Z";

    fn arrival() -> SystemTime {
        SystemTime::from(T.parse::<jiff::Timestamp>().expect("a time")) + Duration::from_millis(7)
    }

    /// A payload with two registers whose values name the given seconds before `T`.
    fn payload(seq: u64, ages: [u16; 2], quality: &str) -> String {
        let second =
            u16::try_from(T.parse::<jiff::Timestamp>().expect("a time").as_second() & 0xFFFF).expect("16 bits");
        let value = |address: u16| second.wrapping_sub(ages[usize::from(address)]).wrapping_add(address);
        let (v1, v2) = (value(0), value(1));
        format!(
            r#"{{"v":1,"obs":[{{"id":"x","seq":{seq},"t":"{T}","p":{{"n.1":{{"v":{v1},"u":"1","q":"good"}},"n.2":{{"v":{v2},"u":"1","q":"{quality}"}}}}}}]}}"#
        )
    }

    fn tally(payloads: &[String]) -> Tally {
        let at = arrival();
        let window = Some((at - Duration::from_secs(1), at));
        let mut tally = Tally { window, ..Tally::default() };
        payloads.iter().for_each(|payload| tally.message("city/obs", payload.as_bytes(), at));
        tally
    }

    #[test]
    fn values_of_this_second_or_the_one_before_are_right() {
        let tally = tally(&[payload(1, [0, 1], "good")]);
        assert_eq!((tally.values, tally.wrong, tally.repeated, tally.unreadable), (2, 0, 0, 0));
        assert_eq!(tally.latency(0.99), Duration::from_millis(7));
    }

    #[test]
    fn a_stale_value_a_future_value_and_a_bad_one_are_wrong() {
        assert_eq!(tally(&[payload(1, [0, 2], "good")]).wrong, 1);
        assert_eq!(tally(&[payload(1, [0, u16::MAX], "good")]).wrong, 1);
        assert_eq!(tally(&[payload(1, [0, 0], "bad")]).wrong, 1);
    }

    #[test]
    fn a_repeated_and_a_missing_number_are_told_apart() {
        let one = payload(1, [0, 0], "good");
        let tally = tally(&[one.clone(), one, payload(3, [0, 0], "good")]);
        assert_eq!((tally.repeated, tally.lost("x", 3), tally.lost("y", 2)), (1, 1, 2));
    }

    #[test]
    fn what_is_no_envelope_is_counted() {
        assert_eq!(tally(&["{}".to_owned(), "[".to_owned()]).unreadable, 2);
    }
}
