//! The consumer: joins `obs` and `backfill` by number, and judges every observation.
//!
//! Two connections, as a consumer of history does not make one of the present wait; what both hear comes together here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ganglion_hil::subscriber::Sink;
use serde::Deserialize;
use zstd::bulk::Decompressor;

use crate::plant::{Nth, Replay};

/// Text of one message, at most.
const LONGEST_TEXT: usize = 4 << 20;
/// How a zstd frame begins (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What came, over both connections.
#[derive(Default)]
pub(crate) struct Joined {
    seen: Bits,
    /// Different observations that came.
    pub(crate) count: u64,
    /// Different ones of the replay that came.
    pub(crate) replayed: u64,
    /// When the last new one of the replay came.
    pub(crate) last_replayed: Option<Instant>,
    /// Observations that came again, each as often as it did.
    pub(crate) repeated: Vec<Nth>,
    /// Observations with another value, quality or time than they must have.
    pub(crate) wrong: u64,
    /// Messages that could not be read.
    pub(crate) unreadable: u64,
    /// Messages of declared losses.
    pub(crate) gaps: u64,
    /// Messages of history, their bytes and the bytes of their text.
    pub(crate) backfill: (u64, u64, u64),
    /// Time of measurement and age on arrival of each observation that came live, in milliseconds.
    pub(crate) ages: Vec<(i64, i64)>,
    /// What is replayed, once it is known.
    pub(crate) replay: Option<Replay>,
}

/// A set of observations.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Adds one; says whether it is new.
    fn add(&mut self, nth: Nth) -> bool {
        let place = usize::try_from(nth.0 / 64).unwrap_or(usize::MAX);
        if place >= self.0.len() {
            self.0.resize(place + 1, 0);
        }
        let bit = 1 << (nth.0 % 64);
        let new = self.0[place] & bit == 0;
        self.0[place] |= bit;
        new
    }
}

/// One connection's ear.
pub(crate) struct Ear {
    joined: Arc<Mutex<Joined>>,
    zstd: Decompressor<'static>,
    text: Vec<u8>,
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
    p: Readings<'a>,
}

#[derive(Deserialize)]
struct Readings<'a> {
    #[serde(borrow)]
    pressure: Reading<'a, f64>,
    #[serde(borrow)]
    vehicle_count: Option<Reading<'a, u64>>,
}

#[derive(Deserialize)]
struct Reading<'a, T> {
    v: T,
    q: &'a str,
}

/// What is known of one observation when its message is read.
struct Heard {
    nth: Nth,
    t_ms: i64,
    right: bool,
}

impl Observation<'_> {
    fn heard(&self) -> Option<Heard> {
        let serial: u64 = self.id.get(12..18)?.parse().ok()?;
        let nth = Nth::of(serial.checked_sub(1)?, self.seq)?;
        let t_ms = self.t.parse::<jiff::Timestamp>().ok()?.as_millisecond();
        let pressure = &self.p.pressure;
        let counted = match &self.p.vehicle_count {
            Some(count) => nth.has_counter() && count.v == nth.seq() && count.q == "good",
            None => !nth.has_counter(),
        };
        let right = (pressure.v * 100.0 - f64::from(nth.pressure())).abs() < 1e-6 && pressure.q == "good" && counted;
        Some(Heard { nth, t_ms, right })
    }
}

impl Ear {
    pub(crate) fn new(joined: &Arc<Mutex<Joined>>) -> std::io::Result<Self> {
        Ok(Self { joined: Arc::clone(joined), zstd: Decompressor::new()?, text: Vec::with_capacity(LONGEST_TEXT) })
    }

    /// Reads a message of observations; none when it cannot be read.
    fn read(&mut self, payload: &[u8]) -> Option<(Vec<Heard>, usize)> {
        let text = if payload.starts_with(&ZSTD) {
            self.zstd.decompress_to_buffer(payload, &mut self.text).ok()?;
            &self.text
        } else {
            payload
        };
        let envelope: Envelope<'_> = serde_json::from_slice(text).ok()?;
        Some((envelope.obs.iter().map(Observation::heard).collect::<Option<_>>()?, text.len()))
    }
}

impl Sink for Ear {
    fn message(&mut self, topic: &str, payload: &[u8], arrival: SystemTime) {
        let live = topic.ends_with("/obs");
        if !live && !topic.ends_with("/backfill") {
            lock(&self.joined).gaps += u64::from(topic.ends_with("/gap"));
            return;
        }
        let heard = self.read(payload);
        let mut joined = lock(&self.joined);
        let Some((heard, text)) = heard else {
            joined.unreadable += 1;
            return;
        };
        if !live {
            let (messages, bytes, texts) = joined.backfill;
            joined.backfill = (messages + 1, bytes + payload.len() as u64, texts + text as u64);
        }
        let now_ms =
            arrival.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
        heard.iter().for_each(|heard| joined.take(heard, live.then_some(now_ms)));
    }
}

impl Joined {
    fn take(&mut self, heard: &Heard, live_at: Option<i64>) {
        if !self.seen.add(heard.nth) {
            self.repeated.push(heard.nth);
            return;
        }
        self.count += 1;
        let replayed_at = self.replay.and_then(|replay| replay.time_of(heard.nth));
        if replayed_at.is_some() {
            self.replayed += 1;
            self.last_replayed = Some(Instant::now());
        }
        self.wrong += u64::from(!heard.right || replayed_at.is_some_and(|t_ms| t_ms != heard.t_ms));
        if let Some(now_ms) = live_at
            && replayed_at.is_none()
        {
            self.ages.push((heard.t_ms, now_ms - heard.t_ms));
        }
    }

    /// Returns the ages, in milliseconds, that a half and 99 of 100 of those measured from one time to another kept, and how
    /// many there were.
    pub(crate) fn ages_between(&self, from_ms: i64, to_ms: i64) -> (i64, i64, usize) {
        let within = |(t_ms, _): &&(i64, i64)| (from_ms..to_ms).contains(t_ms);
        let mut ages: Vec<i64> = self.ages.iter().filter(within).map(|(_, age)| *age).collect();
        ages.sort_unstable();
        let kept =
            |percent: usize| ages.get((ages.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        (kept(50), kept(99), ages.len())
    }
}

/// Locks what came together; a holder that panicked leaves counts that are true.
pub(crate) fn lock(joined: &Mutex<Joined>) -> MutexGuard<'_, Joined> {
    joined.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OBS: &str = "city/v1/620602/water/9601/000002/obs";
    const BACKFILL: &str = "city/v1/620602/gateway/000001/backfill";
    /// 2026-11-22T06:53:55.123Z.
    const T_MS: i64 = 1_795_330_435_123;

    /// What both connections heard of these messages.
    fn heard(messages: &[(&str, Vec<u8>)], replay: Option<Replay>) -> Joined {
        let joined = Arc::new(Mutex::new(Joined { replay, ..Joined::default() }));
        let mut ears = [Ear::new(&joined).unwrap(), Ear::new(&joined).unwrap()];
        let arrival = UNIX_EPOCH + Duration::from_millis(u64::try_from(T_MS).unwrap() + 7);
        for (topic, payload) in messages {
            ears[usize::from(*topic == BACKFILL)].message(topic, payload, arrival);
        }
        drop(ears);
        Arc::into_inner(joined).unwrap().into_inner().unwrap()
    }

    /// A message of the second resource, its numbers with what is added to their pressure.
    fn message(numbers: &[(u64, u16)]) -> Vec<u8> {
        let observation = |(seq, more): &(u64, u16)| {
            let pressure = f64::from(Nth::of(1, *seq).unwrap().pressure() + more) / 100.0;
            format!(
                r#"{{"id":"620602-9601-000002-00","seq":{seq},"t":"2026-11-22T06:53:55.123Z","p":{{"pressure":{{"v":{pressure},"u":"MPa","q":"good"}},"vehicle_count":{{"v":{seq},"u":"1","q":"good"}}}}}}"#
            )
        };
        format!(r#"{{"v":1,"obs":[{}]}}"#, numbers.iter().map(observation).collect::<Vec<_>>().join(",")).into_bytes()
    }

    #[test]
    fn what_came_live_and_what_came_as_history_is_joined_by_number() {
        let history = zstd::bulk::compress(&message(&[(1, 0), (2, 0)]), 1).unwrap();
        let joined = heard(&[(OBS, message(&[(3, 0)])), (BACKFILL, history)], None);
        assert_eq!((joined.count, joined.repeated.len(), joined.wrong, joined.unreadable), (3, 0, 0, 0));
        assert_eq!(joined.ages, [(T_MS, 7)], "only what came live has an age");
    }

    #[test]
    fn a_number_that_comes_on_both_topics_is_repeated() {
        let joined = heard(&[(OBS, message(&[(1, 0)])), (BACKFILL, message(&[(1, 0)]))], None);
        assert_eq!((joined.count, joined.repeated.len()), (1, 1));
    }

    #[test]
    fn another_value_and_another_time_than_they_must_have_are_wrong() {
        assert_eq!(heard(&[(OBS, message(&[(1, 1)]))], None).wrong, 1);
        let replay = |from_ms| Some(Replay { first: 1, end: 102, from_ms });
        let of = |from_ms| heard(&[(BACKFILL, message(&[(1, 0)]))], replay(from_ms));
        assert_eq!((of(T_MS).replayed, of(T_MS).wrong), (1, 0));
        assert_eq!(of(T_MS + 1).wrong, 1);
    }

    #[test]
    fn a_declared_loss_and_a_damaged_message_are_counted() {
        let joined = heard(&[("city/v1/620602/gateway/000001/gap", vec![]), (OBS, b"{".to_vec())], None);
        assert_eq!((joined.gaps, joined.unreadable), (1, 1));
    }

    #[test]
    fn every_observation_has_one_place() {
        for nth in [0, 1, 99, 100, 43_200_000].map(Nth) {
            assert_eq!(Nth::of(nth.resource(), nth.seq()), Some(nth));
        }
        assert_eq!((Nth::of(100, 1), Nth::of(0, 0)), (None, None));
    }
}
