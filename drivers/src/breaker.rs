//! When a unit that does not answer is asked again.
//!
//! A dead unit costs a timeout each time it is asked. So after a few failures in a row it is left alone for a pause, then
//! asked once: a probe. A probe that fails doubles the pause; one that is answered ends the affair, and everything about
//! it is forgotten. The pause is never shorter than what keeps the probes within a share of the bus time, however long it
//! gets by that.

use core::time::Duration;

/// How much a dead unit may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The share of the bus time that the probes of this unit may take, 1..=100; 0 is taken as 1. With 100 the unit is
    /// asked always.
    pub share_percent: u8,
    /// After so many failures in a row the unit is left alone; 0 is taken as 1.
    pub trip_after: u8,
    /// The pause is doubled up to this. A longer one that `share_percent` asks for is kept.
    pub longest_pause: Duration,
}

/// The breaker of one unit. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: Policy,
    state: State,
    /// The last pause, before it was spread.
    pause: Duration,
    seed: Option<u32>,
}

/// What is known of the unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is asked as usual.
    Closed {
        /// Failures in a row until now.
        failures: u8,
    },
    /// It is left alone but for probes.
    Open {
        /// When this began.
        since: Duration,
        /// When the next probe may be sent.
        until: Duration,
        /// Failed askings since it began.
        probes: u32,
    },
}

/// Whether the unit may be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permit {
    /// As usual.
    Ask,
    /// Once; what comes of it decides how to go on.
    Probe,
    /// Not before this time.
    NotBefore(Duration),
}

impl Breaker {
    /// Makes the breaker of a unit that is asked as usual.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self { policy, state: State::Closed { failures: 0 }, pause: Duration::ZERO, seed: None }
    }

    /// Shortens its pauses by up to an eighth, never below the share, each time by another part that `seed` decides: units
    /// with different seeds that died together are not probed together.
    #[must_use]
    pub const fn spread_by(mut self, seed: u32) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The unit answered. Returns whether it had been left alone until then.
    pub fn answered(&mut self) -> bool {
        let recovered = matches!(self.state, State::Open { .. });
        self.state = State::Closed { failures: 0 };
        recovered
    }

    /// The unit failed at `now`, the end of an asking that took `cost` of the bus time, retries and silences included.
    /// Returns whether it is left alone from now on.
    ///
    /// Several dead units share one bus: for `n` of them to stay within the share together, pass `n` times the cost.
    pub fn failed(&mut self, now: Duration, cost: Duration) -> bool {
        let least = self.least_pause(cost);
        match self.state {
            State::Closed { failures } => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                if failures < self.policy.trip_after || self.policy.share_percent >= 100 {
                    return false;
                }
                self.pause = least;
                self.state = State::Open { since: now, until: now.saturating_add(self.spread(least, 0)), probes: 0 };
                true
            }
            // Asked without a permit: it costs as much, but says nothing new.
            State::Open { since, until, probes } if now < until => {
                self.state =
                    State::Open { since, until: until.saturating_add(least), probes: probes.saturating_add(1) };
                false
            }
            State::Open { since, probes, .. } => {
                let probes = probes.saturating_add(1);
                self.pause = self.pause.saturating_mul(2).min(self.policy.longest_pause).max(least);
                let until = now.saturating_add(self.spread(least, probes));
                self.state = State::Open { since, until, probes };
                false
            }
        }
    }

    /// Tells whether the unit may be asked at `now`.
    #[must_use]
    pub fn permit(&self, now: Duration) -> Permit {
        match self.state {
            State::Closed { .. } => Permit::Ask,
            State::Open { until, .. } if now < until => Permit::NotBefore(until),
            State::Open { .. } => Permit::Probe,
        }
    }

    /// Tells whether the unit is left alone but for probes.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Returns what is known of the unit.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The pause after which an asking of that cost has taken no more than the share.
    fn least_pause(&self, cost: Duration) -> Duration {
        let share = u128::from(self.policy.share_percent.clamp(1, 100));
        let rest = 100_u128.saturating_sub(share);
        let nanos = cost.as_nanos().saturating_mul(rest).div_ceil(share);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The pause, shortened by a part that no other unit shortens it by.
    fn spread(&self, least: Duration, probes: u32) -> Duration {
        let Some(seed) = self.seed else { return self.pause };
        let part = mix(u64::from(seed) << 32 | u64::from(probes)) % 1024;
        let less = (nanos(self.pause) >> 13).saturating_mul(part);
        self.pause.saturating_sub(Duration::from_nanos(less)).max(least)
    }
}

/// 64 bits of nanoseconds last for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Scatters numbers: the finalizer of SplitMix64.
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
