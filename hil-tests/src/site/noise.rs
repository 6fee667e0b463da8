//! Bit errors of a line.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bit errors, each bit on its own, drawn from a seeded source: the same seed and bytes give the same errors.
///
/// Only data bits count and are hit: a hit start, stop or parity bit spoils a character just as well, and a pty has none.
#[derive(Debug)]
pub struct Noise(Mutex<State>);

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    share: f64,
    /// Bits that pass unhurt before the next one that is hit.
    left: u64,
}

impl Noise {
    /// Starts without errors.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(State { random: fastrand::Rng::with_seed(seed), share: 0.0, left: u64::MAX }))
    }

    /// Lets a share of the bits flip, 0 to 1, in both directions.
    pub fn set(&self, share: f64) {
        let mut state = self.lock();
        state.share = share.clamp(0.0, 1.0);
        state.left = state.draw();
    }

    /// Lets bytes pass through and returns how many of their bits were hit.
    pub(crate) fn pass(&self, bytes: &mut [u8]) -> u64 {
        let mut state = self.lock();
        let mut hits = 0;
        for byte in bytes {
            let mut at = 0;
            while state.left < 8 - at {
                at += state.left;
                *byte ^= 1 << at;
                hits += 1;
                at += 1;
                state.left = state.draw();
            }
            state.left = state.left.saturating_sub(8 - at);
        }
        hits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Draws how many bits pass before the next hit: a geometric distribution, by inversion.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; a float's cast saturates"
    )]
    fn draw(&mut self) -> u64 {
        if self.share <= 0.0 {
            return u64::MAX;
        }
        // `f64` draws from 0..1, and 0 has no logarithm.
        ((1.0 - self.random.f64()).ln() / (1.0 - self.share).ln()).floor() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_bits_is_kept_anywhere_in_a_byte_and_the_same_seed_repeats_it() {
        let pass = || {
            let noise = Noise::new(3);
            noise.set(1e-3);
            let mut bytes = vec![0_u8; 1_000_000];
            let hits: u64 = bytes.chunks_mut(17).map(|lump| noise.pass(lump)).sum();
            (bytes, hits)
        };
        let (bytes, hits) = pass();
        assert_eq!((bytes.clone(), hits), pass());
        assert!((7600..8400).contains(&hits), "{hits} of 8,000,000");
        assert_eq!(bytes.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>(), hits);
        for bit in 0..8 {
            assert!(bytes.iter().filter(|&&byte| byte & 1 << bit != 0).count() > 850, "bit {bit}");
        }
    }

    #[test]
    fn a_quiet_line_hits_nothing_and_a_share_of_one_hits_everything() {
        let noise = Noise::new(3);
        let mut bytes = [0x55_u8; 1000];
        assert_eq!((noise.pass(&mut bytes), bytes), (0, [0x55; 1000]));
        noise.set(1.0);
        assert_eq!((noise.pass(&mut bytes), bytes), (8000, [0xAA; 1000]));
        noise.set(0.0);
        assert_eq!(noise.pass(&mut bytes), 0);
    }
}
