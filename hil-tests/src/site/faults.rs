//! What can go wrong with an answer, switched at run time and counted.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One way an answer goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// No answer.
    Drop,
    /// The answer comes after the client's timeout, see [`Faults::set_late`].
    Late,
    /// One to three bits are flipped: anywhere on a serial line, where the CRC finds them; in the header on TCP, which
    /// has no check over the values.
    Flip,
    /// Up to twenty random bytes come before the answer.
    Garbage,
    /// The request comes back before the answer, as from an adapter that hears itself.
    Echo,
    /// A well-formed answer from the next unit id.
    WrongUnit,
    /// A well-formed answer with one register or one byte of bits too few.
    WrongLength,
    /// The answer breaks off.
    Truncated,
    /// Exception code 0x06, server device busy, or one of those set by [`Faults::set_exceptions`].
    Exception,
    /// On TCP, the answer carries another transaction identifier. A serial line has none.
    WrongTransaction,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Drop,
        Self::Late,
        Self::Flip,
        Self::Garbage,
        Self::Echo,
        Self::WrongUnit,
        Self::WrongLength,
        Self::Truncated,
        Self::Exception,
        Self::WrongTransaction,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Late => "late",
            Self::Flip => "flip",
            Self::Garbage => "garbage",
            Self::Echo => "echo",
            Self::WrongUnit => "wrong-unit",
            Self::WrongLength => "wrong-length",
            Self::Truncated => "truncated",
            Self::Exception => "exception",
            Self::WrongTransaction => "wrong-transaction",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == text).ok_or_else(|| format!("{text:?} is no fault"))
    }
}

/// The faults of one unit, drawn from a seeded source: the same seed and requests give the same faults.
#[derive(Debug)]
pub struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    shares: BTreeMap<Fault, f64>,
    next: Vec<Fault>,
    late: Duration,
    exceptions: Vec<u8>,
    counts: BTreeMap<Fault, u64>,
}

impl Faults {
    /// Starts without any fault.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(State {
            random: fastrand::Rng::with_seed(seed),
            shares: BTreeMap::new(),
            next: Vec::new(),
            late: Duration::from_millis(1500),
            exceptions: vec![0x06],
            counts: BTreeMap::new(),
        }))
    }

    /// Lets a fault happen to a share of the answers, 0 to 1. The shares of all faults add up.
    pub fn set(&self, fault: Fault, share: f64) {
        self.lock().shares.insert(fault, share.clamp(0.0, 1.0));
    }

    /// Lets these faults happen to the next answers, one each, before any are drawn.
    pub fn queue(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().next.extend(faults);
    }

    /// Sets how late a late answer is, from the end of the request.
    pub fn set_late(&self, late: Duration) {
        self.lock().late = late;
    }

    /// Sets the codes that [`Fault::Exception`] draws from.
    pub fn set_exceptions(&self, codes: &[u8]) {
        codes.clone_into(&mut self.lock().exceptions);
    }

    /// Ends all faults; the counts stay.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.shares.clear();
        state.next.clear();
    }

    /// Returns how often each fault happened.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        self.lock().counts.clone()
    }

    /// Decides about one answer.
    pub(super) fn draw(&self) -> Option<Fault> {
        let mut state = self.lock();
        let fault = if state.next.is_empty() {
            let mut point = state.random.f64();
            state.shares.iter().find_map(|(&fault, &share)| {
                point -= share;
                (point < 0.0).then_some(fault)
            })?
        } else {
            state.next.remove(0)
        };
        *state.counts.entry(fault).or_default() += 1;
        Some(fault)
    }

    /// Draws the code of an exception.
    pub(super) fn exception(&self) -> u8 {
        let state = &mut *self.lock();
        state.random.choice(&state.exceptions).copied().unwrap_or(0x06)
    }

    pub(super) fn late(&self) -> Duration {
        self.lock().late
    }

    /// Flips one to three different bits of the first `within` bytes.
    pub(super) fn flip(&self, frame: &mut [u8], within: usize) {
        let mut state = self.lock();
        let bits = 8 * within.min(frame.len());
        let count = state.random.usize(1..=3).min(bits);
        for bit in state.random.choose_multiple(0..bits, count) {
            if let Some(byte) = frame.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Returns one to twenty random bytes.
    pub(super) fn garbage(&self) -> Vec<u8> {
        let mut state = self.lock();
        let count = state.random.usize(1..=20);
        std::iter::repeat_with(|| state.random.u8(..)).take(count).collect()
    }

    /// Cuts a frame off after at least one byte and before its end.
    pub(super) fn truncate(&self, frame: &mut Vec<u8>) {
        let keep = self.lock().random.usize(1..frame.len().max(2));
        frame.truncate(keep);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_counted_and_the_same_seed_repeats_them() {
        let draw = || {
            let faults = Faults::new(5);
            faults.set(Fault::Drop, 0.1);
            faults.set(Fault::Flip, 0.2);
            let drawn: Vec<_> = (0..10_000).map(|_| faults.draw()).collect();
            (drawn, faults.counts())
        };
        let (drawn, counts) = draw();
        assert_eq!((drawn.clone(), counts.clone()), draw());
        assert!((900..1100).contains(&counts[&Fault::Drop]) && (1850..2150).contains(&counts[&Fault::Flip]));
        assert_eq!(drawn.iter().flatten().count() as u64, counts.values().sum::<u64>());
    }

    #[test]
    fn queued_faults_come_first_and_once() {
        let faults = Faults::new(5);
        faults.queue([Fault::Late, Fault::Echo]);
        assert_eq!([faults.draw(), faults.draw(), faults.draw()], [Some(Fault::Late), Some(Fault::Echo), None]);
    }

    #[test]
    fn a_flip_changes_one_to_three_bits() {
        let faults = Faults::new(5);
        for _ in 0..1000 {
            let mut frame = [0_u8; 20];
            faults.flip(&mut frame, 7);
            let flipped: u32 = frame.iter().map(|byte| byte.count_ones()).sum();
            assert!((1..=3).contains(&flipped) && frame[7..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_truncated_frame_is_neither_empty_nor_whole() {
        let faults = Faults::new(5);
        for _ in 0..1000 {
            let mut frame = vec![1; 9];
            faults.truncate(&mut frame);
            assert!((1..9).contains(&frame.len()));
        }
    }

    #[test]
    fn every_fault_is_found_by_its_name() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
    }
}
