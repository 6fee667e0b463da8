//! The bus bench's subscriber: which unit was read completely, when, and whether every value is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::site::{Tick, named_age};
use crate::site_file::named_address;
use crate::subscriber::Sink;

/// Most ticks between the time that a value names and its observation's: a scan of several requests takes seconds at
/// 9600 Bd. A value of another register or unit names a time minutes away.
const OLDEST: u16 = 60;

/// What came of units of `Model::Named`.
#[derive(Clone, Debug)]
pub struct Tally {
    /// From when to when an observation's time must lie to count; wrong values count always.
    pub window: Option<(SystemTime, SystemTime)>,
    /// Length of the slots of which each should have a complete observation.
    slot: Duration,
    /// Readings of a complete observation.
    registers: usize,
    units: BTreeMap<String, Counts>,
    /// Good values that another register, another unit or another time had, and payloads that could not be read.
    pub wrong: u64,
}

/// What came of one unit.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Its unit id, which its values name.
    unit: u8,
    /// Observations of the window with all values good.
    pub complete: u64,
    /// Times of all observations with all values good, the window's and others.
    times: Vec<SystemTime>,
    /// Values that were not good.
    pub not_good: u64,
    /// Slots of the window with a complete observation.
    covered: BTreeSet<u64>,
    /// Different observations.
    received: u64,
    highest: u64,
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
    #[serde(borrow)]
    p: BTreeMap<&'a str, Reading<'a>>,
}

#[derive(Deserialize)]
struct Reading<'a> {
    v: Option<u64>,
    q: &'a str,
}

impl Tally {
    /// Starts with nothing; `units` are the resources and the unit ids behind them, each with this many registers.
    #[must_use]
    pub fn new(units: impl IntoIterator<Item = (String, u8)>, registers: usize, slot: Duration) -> Self {
        let units = units.into_iter().map(|(id, unit)| (id, Counts { unit, ..Counts::default() })).collect();
        Self { window: None, slot, registers, units, wrong: 0 }
    }

    /// Returns what came, by resource.
    #[must_use]
    pub fn units(&self) -> &BTreeMap<String, Counts> {
        &self.units
    }

    /// Returns how many of the numbers `1..=last` of a resource never came.
    #[must_use]
    pub fn lost(&self, id: &str, last: u64) -> u64 {
        last.saturating_sub(self.units.get(id).map_or(last, |counts| counts.received))
    }

    /// Returns how often the units of these resources were read completely in the window, with the parts of the scans that
    /// its ends fall into: a scan takes from one complete observation to the next.
    #[must_use]
    pub fn scans<'a>(&self, ids: impl IntoIterator<Item = &'a String>) -> f64 {
        let Some((from, to)) = self.window else { return 0.0 };
        let units = ids.into_iter().filter_map(|id| self.units.get(id));
        units.map(|counts| counts.scans_until(to) - counts.scans_until(from)).sum()
    }

    /// Returns how many whole slots the window has.
    #[must_use]
    pub fn slots(&self) -> u64 {
        let Some((from, to)) = self.window else { return 0 };
        let length = to.duration_since(from).unwrap_or_default();
        u64::try_from(length.as_nanos() / self.slot.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Returns the share of the slots of these resources with a complete observation, 0 to 1.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub fn covered<'a>(&self, ids: impl IntoIterator<Item = &'a String>) -> f64 {
        let slots = self.slots();
        let covered = |id| {
            let covered = self.units.get(id).map(|counts| counts.covered.range(..slots).count());
            covered.unwrap_or_default() as f64 / slots.max(1) as f64
        };
        let (sum, count) = ids.into_iter().fold((0.0, 0_u32), |(sum, count), id| (sum + covered(id), count + 1));
        sum / f64::from(count.max(1))
    }

    fn observation(&mut self, observation: &Observation<'_>) {
        let (Ok(t), Some(counts)) = (observation.t.parse::<jiff::Timestamp>(), self.units.get_mut(observation.id))
        else {
            self.wrong += 1;
            return;
        };
        // Numbers of one resource come in order, so one at or below the highest is a repetition.
        if observation.seq <= counts.highest {
            return;
        }
        counts.highest = observation.seq;
        counts.received += 1;
        let t = SystemTime::from(t);
        let tick = Tick::at(t);
        let mut good = 0;
        for (property, reading) in &observation.p {
            if reading.q != "good" {
                continue;
            }
            good += 1;
            let value = reading.v.and_then(|value| u16::try_from(value).ok());
            let age = named_address(property).zip(value).map(|(at, value)| named_age(counts.unit, at, value, tick));
            self.wrong += u64::from(age.is_none_or(|age| age > OLDEST));
        }
        let complete = good == self.registers;
        if complete {
            counts.times.push(t);
        }
        let Some(since) = self.window.filter(|(_, to)| t < *to).and_then(|(from, _)| t.duration_since(from).ok())
        else {
            return;
        };
        counts.not_good += (observation.p.len() - good) as u64;
        if complete {
            counts.complete += 1;
            let slot = since.as_nanos() / self.slot.as_nanos().max(1);
            counts.covered.insert(u64::try_from(slot).unwrap_or(u64::MAX));
        }
    }
}

impl Counts {
    /// Returns how many scans were over at a time, with the part that was done of the one under way.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn scans_until(&self, at: SystemTime) -> f64 {
        let over = self.times.partition_point(|time| *time <= at);
        let before = over.checked_sub(1).and_then(|last| self.times.get(last));
        let part = before.zip(self.times.get(over)).map(|(before, after)| {
            let seconds = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default().as_secs_f64();
            seconds(*before, at) / seconds(*before, *after)
        });
        over as f64 + part.unwrap_or_default()
    }
}

impl Sink for Tally {
    fn message(&mut self, topic: &str, payload: &[u8], _: SystemTime) {
        if !topic.ends_with("/obs") {
            return;
        }
        match serde_json::from_slice::<Envelope<'_>>(payload) {
            Ok(envelope) => envelope.obs.iter().for_each(|observation| self.observation(observation)),
            Err(_) => self.wrong += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::site::named_register;

    const T: &str = "2026-11-22T04:00:00.250Z";

    fn at() -> SystemTime {
        T.parse::<jiff::Timestamp>().expect("a time").into()
    }

    /// Registers 0 and 1 of unit 7 as they were some ticks ago, moved by some addresses.
    fn payload(seq: u64, ticks: u64, moved: u16, second: &str) -> String {
        let value = |address| named_register(7, address + moved, Tick(Tick::at(at()).0 - ticks));
        let (v1, v2) = (value(0), value(1));
        format!(
            r#"{{"v":1,"obs":[{{"id":"x","seq":{seq},"t":"{T}","p":{{"vehicle_count.1":{{"v":{v1},"u":"1","q":"good"}},"vehicle_count.2":{{"v":{v2},"u":"1","q":"{second}"}}}}}}]}}"#
        )
    }

    fn tally(payloads: &[String]) -> Tally {
        let mut tally = Tally::new([("x".to_owned(), 7)], 2, Duration::from_secs(1));
        tally.window = Some((at() - Duration::from_millis(1500), at() + Duration::from_millis(1500)));
        payloads.iter().for_each(|payload| tally.message("city/obs", payload.as_bytes(), at()));
        tally
    }

    #[test]
    fn a_complete_observation_covers_its_slot() {
        let tally = tally(&[payload(1, 3, 0, "good"), payload(2, 0, 0, "good"), payload(2, 0, 0, "good")]);
        let counts = &tally.units()["x"];
        assert_eq!((counts.complete, counts.not_good, tally.wrong, tally.lost("x", 3)), (2, 0, 0, 1));
        assert_eq!((tally.slots(), (tally.covered([&"x".to_owned()]) * 3.0).round()), (3, 1.0));
    }

    #[test]
    fn scans_at_the_ends_of_the_window_count_in_part() {
        let counts = |millis: &[u64]| Counts {
            times: millis.iter().map(|&millis| UNIX_EPOCH + Duration::from_millis(millis)).collect(),
            ..Counts::default()
        };
        let mut tally = Tally::new([("x".to_owned(), 7)], 2, Duration::from_secs(1));
        tally.window = Some((UNIX_EPOCH + Duration::from_millis(1500), UNIX_EPOCH + Duration::from_millis(4250)));
        for (millis, scans) in [(&[1000, 2000, 3000, 4000, 5000][..], 2.75), (&[2000, 4000], 2.0), (&[], 0.0)] {
            tally.units.insert("x".to_owned(), counts(millis));
            assert!((tally.scans([&"x".to_owned()]) - scans).abs() < 1e-9, "{millis:?}");
        }
    }

    #[test]
    fn a_shifted_value_a_stale_one_and_one_of_the_future_are_wrong() {
        assert_eq!(tally(&[payload(1, 0, 1, "good")]).wrong, 2);
        assert_eq!(tally(&[payload(1, 61, 0, "good")]).wrong, 2);
        assert_eq!(tally(&["[".to_owned(), payload(1, 0, 0, "good").replace(T, "2026-11-22T03:59:59Z")]).wrong, 3);
    }

    #[test]
    fn a_value_that_is_not_good_is_no_wrong_one_and_the_observation_not_complete() {
        let tally = tally(&[payload(1, 0, 0, "bad")]);
        assert_eq!((tally.units()["x"].complete, tally.units()["x"].not_good, tally.wrong), (0, 1, 0));
    }
}
