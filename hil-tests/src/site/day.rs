//! The simulated day: what each sensor would show, as pure functions of time and seed.
//!
//! Nothing here has state, so whoever knows the seed can say afterwards what was true at any time. Values change every
//! [`TICK`]; within a tick they stand still.

use std::f64::consts::TAU;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

/// How long every value stands still.
pub const TICK: Duration = Duration::from_millis(100);

const DAY: f64 = 86_400.0;

/// Counters and meters begin here: 2026-01-01 00:00 in UTC+8, in seconds since 1970.
const METERS_START: f64 = 1_767_196_800.0;

/// One instant of the simulated day: a whole number of ticks since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tick(pub u64);

impl Tick {
    /// Returns the tick that is running.
    #[must_use]
    pub fn now() -> Self {
        Self::at(SystemTime::now())
    }

    /// Returns the tick that runs at a time; before 1970 it is the first one.
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the second it lies in, since 1970.
    #[must_use]
    pub fn unix_second(self) -> u64 {
        self.0 / 10
    }

    #[allow(clippy::cast_precision_loss, reason = "exact for the next hundred thousand years")]
    fn seconds(self) -> f64 {
        self.0 as f64 / 10.0
    }
}

/// What a sensor measures.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Quantity {
    /// Pressure in a water main, in MPa: falls with demand, with surges now and then.
    Pressure,
    /// Temperature of the water, in °C.
    WaterTemperature,
    /// Voltage of a lithium cell, in V.
    Battery,
    /// Flow in a main, in m³/h.
    Flow,
    /// Velocity in the same pipe of 300 mm, in m/s.
    Velocity,
    /// Volume that passed since the meter was built in, in m³.
    TotalVolume,
    /// Water level above a gauge's zero, in m: tide and ripples.
    Level,
    /// Vehicles that crossed the loop of a lane since the counter was built in.
    VehicleCount {
        /// The lane, from 0.
        lane: u8,
    },
    /// Share of time that the loop of a lane is covered, in %.
    Occupancy {
        /// The lane, from 0.
        lane: u8,
    },
    /// Mean speed on a lane, in km/h.
    Speed {
        /// The lane, from 0.
        lane: u8,
    },
    /// Whether a vehicle stands on the loop of a lane, 0 or 1.
    VehiclePresent {
        /// The lane, from 0.
        lane: u8,
    },
    /// Strength of an instrument's own echo, in %.
    Signal,
    /// A status word that says "no fault".
    Status,
}

impl Quantity {
    /// Returns the value at a time, in the quantity's unit.
    #[must_use]
    pub fn at(self, seed: u64, tick: Tick) -> f64 {
        let t = tick.seconds();
        match self {
            Self::Pressure => 0.42 - 0.08 * water_demand(t) + 0.004 * noise(seed, 1, t, 10.0) + 0.06 * surge(seed, t),
            Self::WaterTemperature => 15.0 + 3.0 * wave(t, DAY, 9.0 * 3600.0) + 0.3 * noise(seed, 2, t, 60.0),
            Self::Battery => 3.6 - 0.02 * wave(t, DAY, 0.0) + 0.005 * noise(seed, 3, t, 600.0),
            Self::Flow => flow(t) * (1.0 + 0.05 * noise(seed, 4, t, 30.0)),
            Self::Velocity => Self::Flow.at(seed, tick) / 3600.0 / (0.15 * 0.15 * TAU / 2.0),
            Self::TotalVolume => WATER.until(t) * PEAK_FLOW / 3600.0,
            Self::Level => 1.9 + 0.6 * wave(t, 44_712.0, phase(seed)) + 0.01 * noise(seed, 5, t, 5.0),
            Self::VehicleCount { lane } => (TRAFFIC.until(platoons(t, lane)) * lane_share(lane) / 3.0).floor(),
            Self::Occupancy { lane } => {
                let share = traffic_demand(t) * lane_share(lane);
                (30.0 * share + 6.0 * noise(seed, 10 + u64::from(lane), t, 15.0) * share).clamp(0.0, 100.0)
            }
            Self::Speed { lane } => 62.0 - 0.7 * Self::Occupancy { lane }.at(seed, tick),
            Self::VehiclePresent { lane } => {
                let share = Self::Occupancy { lane }.at(seed, tick) / 100.0;
                f64::from(u8::from(unit(seed, 20 + u64::from(lane), (t / 2.0).floor()) < share))
            }
            Self::Signal => (90.0 + 5.0 * noise(seed, 8, t, 20.0)).round(),
            Self::Status => 0.0,
        }
    }
}

/// Flow at full demand, in m³/h.
const PEAK_FLOW: f64 = 120.0;

static WATER: LazyLock<Running> = LazyLock::new(|| Running::of(|t| flow(t) / PEAK_FLOW));
static TRAFFIC: LazyLock<Running> = LazyLock::new(|| Running::of(traffic_demand));

fn flow(t: f64) -> f64 {
    PEAK_FLOW * (0.2 + 0.8 * water_demand(t))
}

/// Demand for water over the day, 0 to 1: a morning and an evening peak.
fn water_demand(t: f64) -> f64 {
    (0.1 + bump(t, 7.5, 1.5) + 0.8 * bump(t, 19.5, 2.2)).min(1.0)
}

/// Traffic over the day, 0 to 1.
fn traffic_demand(t: f64) -> f64 {
    (0.12 + 0.5 * bump(t, 13.0, 4.0) + 0.8 * bump(t, 8.0, 1.0) + 0.8 * bump(t, 18.0, 1.4)).min(1.0)
}

/// A bell around an hour of the day in UTC+8, `width` hours wide.
fn bump(t: f64, hour: f64, width: f64) -> f64 {
    let away = ((t / 3600.0 + 8.0 - hour + 12.0).rem_euclid(24.0) - 12.0) / width;
    (-away * away / 2.0).exp()
}

/// Lanes in the middle carry more.
fn lane_share(lane: u8) -> f64 {
    [0.8, 1.0, 0.9, 0.6][usize::from(lane % 4)]
}

/// Shifts time so that vehicles cross in platoons, as behind a signal of 90 s. It never runs backwards.
fn platoons(t: f64, lane: u8) -> f64 {
    let phase = t / 90.0 * TAU + f64::from(lane);
    t + 0.8 * 90.0 / TAU * phase.sin()
}

/// A pressure surge about every five minutes: a damped swing, 1 at its start.
fn surge(seed: u64, t: f64) -> f64 {
    let slot = (t / 300.0).floor();
    let since = t - slot * 300.0 - 200.0 * unit(seed, 6, slot);
    if since < 0.0 { 0.0 } else { (-since / 8.0).exp() * (since / 4.0 * TAU).cos() }
}

fn wave(t: f64, period: f64, shift: f64) -> f64 {
    ((t - shift) / period * TAU).sin()
}

fn phase(seed: u64) -> f64 {
    unit(seed, 7, 0.0) * 44_712.0
}

/// Smooth noise, -1 to 1: random at every `step` seconds, eased in between.
fn noise(seed: u64, channel: u64, t: f64, step: f64) -> f64 {
    let place = (t / step).floor();
    let (from, to) = (unit(seed, channel, place), unit(seed, channel, place + 1.0));
    let way = t / step - place;
    let eased = way * way * (3.0 - 2.0 * way);
    (from + (to - from) * eased) * 2.0 - 1.0
}

/// A number of 0..1 that belongs to a seed, a channel and a place (splitmix64).
#[allow(clippy::cast_precision_loss, reason = "53 bits are kept")]
fn unit(seed: u64, channel: u64, place: f64) -> f64 {
    let mut bits = seed ^ channel.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ place.to_bits();
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The running total of a rate that repeats every day.
struct Running {
    /// Total from midnight UTC to each minute.
    minutes: Vec<f64>,
}

impl Running {
    fn of(rate: fn(f64) -> f64) -> Self {
        let mut total = 0.0;
        let minutes = (0..=1440_u32).map(|minute| {
            let before = total;
            total += rate((f64::from(minute) + 0.5) * 60.0) * 60.0;
            before
        });
        Self { minutes: minutes.collect() }
    }

    /// Returns the total from [`METERS_START`] to `t`.
    fn until(&self, t: f64) -> f64 {
        self.since_1970(t) - self.since_1970(METERS_START)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a minute of the day")]
    fn since_1970(&self, t: f64) -> f64 {
        let days = (t / DAY).floor();
        let minute = (t - days * DAY) / 60.0;
        let place = minute as usize;
        let at = |place: usize| self.minutes.get(place).copied().unwrap_or_default();
        days * at(1440) + at(place) + (at(place + 1) - at(place)) * minute.fract()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_795_320_000;

    fn over(quantity: Quantity, seconds: u64) -> impl Iterator<Item = f64> {
        (0..seconds * 10).map(move |tick| quantity.at(7, Tick(NOON * 10 + tick)))
    }

    #[test]
    fn every_value_of_a_day_is_one_a_sensor_could_show() {
        let lanes = (0..4)
            .flat_map(|lane| [(Quantity::Occupancy { lane }, 0.0..=100.0), (Quantity::Speed { lane }, 5.0..=80.0)]);
        let fixed = [
            (Quantity::Pressure, 0.2..=0.6),
            (Quantity::WaterTemperature, 5.0..=25.0),
            (Quantity::Battery, 3.0..=4.0),
            (Quantity::Flow, 10.0..=140.0),
            (Quantity::Velocity, 0.03..=0.6),
            (Quantity::Level, 1.0..=3.0),
            (Quantity::Signal, 80.0..=100.0),
            (Quantity::VehiclePresent { lane: 1 }, 0.0..=1.0),
        ];
        for (quantity, range) in fixed.into_iter().chain(lanes) {
            for second in (0..86_400).step_by(37) {
                let value = quantity.at(7, Tick((NOON + second) * 10));
                assert!(range.contains(&value), "{quantity:?} is {value} after {second} s");
            }
        }
    }

    #[test]
    fn counters_and_meters_never_run_backwards() {
        for quantity in [Quantity::TotalVolume, Quantity::VehicleCount { lane: 0 }, Quantity::VehicleCount { lane: 3 }]
        {
            let values: Vec<f64> = over(quantity, 600).collect();
            assert!(values.is_sorted(), "{quantity:?}");
            assert!(values.last() > values.first(), "{quantity:?} stands still");
        }
    }

    #[test]
    fn the_meter_agrees_with_the_flow() {
        let passed = over(Quantity::TotalVolume, 3600).last().zip(over(Quantity::TotalVolume, 1).next());
        let mean = over(Quantity::Flow, 3600).sum::<f64>() / 36_000.0;
        let (last, first) = passed.expect("an hour of values");
        assert!(((last - first) / mean - 1.0).abs() < 0.02, "{} m3 at {mean} m3/h", last - first);
    }

    #[test]
    fn pressure_moves_and_the_same_seed_and_time_give_the_same_value() {
        let (once, again): (Vec<f64>, Vec<f64>) =
            (over(Quantity::Pressure, 60).collect(), over(Quantity::Pressure, 60).collect());
        assert_eq!(once, again);
        assert!(once.iter().any(|value| (value - once[0]).abs() > 0.0005));
        let tick = Tick(NOON * 10);
        assert_ne!(Quantity::Pressure.at(7, tick).to_bits(), Quantity::Pressure.at(8, tick).to_bits());
    }
}
