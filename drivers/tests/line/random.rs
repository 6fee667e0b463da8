//! Chance, the same for the same seed.

use std::time::Duration;

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        super::units::mix(self.state)
    }

    /// Returns a number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a length").max(1);
        usize::try_from(self.bits() % limit).expect("below a length")
    }

    /// Returns a number below `limit`, which is not 0.
    pub fn small(&mut self, limit: u8) -> u8 {
        u8::try_from(self.bits() % u64::from(limit)).expect("below a byte")
    }

    /// Returns a random byte.
    pub fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[7]
    }

    /// Returns one to `most` random bytes.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..=self.below(most)).map(|_| self.byte()).collect()
    }

    /// Returns a time from `from` to `to`, in microseconds.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_micros()).expect("a short time");
        from + Duration::from_micros(self.bits() % (span + 1))
    }

    /// Is true so often in a million.
    pub fn chance(&mut self, millionths: u32) -> bool {
        self.bits() % 1_000_000 < u64::from(millionths)
    }

    /// Returns at most one of the faults with these chances in a million.
    pub fn pick(&mut self, chances: &[u32]) -> Option<usize> {
        let mut drawn = self.bits() % 1_000_000;
        for (place, &chance) in chances.iter().enumerate() {
            match drawn.checked_sub(u64::from(chance)) {
                Some(rest) => drawn = rest,
                None => return Some(place),
            }
        }
        None
    }

    /// Turns one to three different bits.
    pub fn flip(&mut self, bytes: &mut [u8]) {
        let mut flipped = Vec::new();
        for _ in 0..=self.below(3) {
            let bit = self.below(bytes.len() * 8);
            if !flipped.contains(&bit) {
                flipped.push(bit);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    /// Makes a burst of bytes, or some here and there, random, and at least one differ.
    pub fn spoil(&mut self, bytes: &mut [u8]) {
        let before = bytes.to_vec();
        while bytes == before {
            let begin = self.below(bytes.len());
            let burst = self.chance(500_000);
            for byte in &mut bytes[begin..] {
                if burst || self.chance(300_000) {
                    *byte = self.byte();
                }
            }
        }
    }
}
