//! Bytes in any lumps to frames.

use ganglion_protocols::node_link::{FrameError, Head, MAX_FRAME, open};

/// Collects what stands between two delimiters. Whatever comes, it holds one frame at most, and a frame after two
/// delimiters is found.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    /// A delimiter, and what came behind it.
    bytes: [u8; MAX_FRAME],
    used: usize,
    /// More came than a frame holds.
    over: bool,
}

impl Receiver {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; MAX_FRAME], used: 1, over: false }
    }

    /// Forgets what has come of a frame.
    pub(super) const fn clear(&mut self) {
        *self = Self::new();
    }

    /// Something came behind the last delimiter.
    pub(super) const fn has_begun(&self) -> bool {
        self.used > 1
    }

    /// Takes one byte. With the delimiter behind something it opens what stands between.
    pub(super) fn take(&mut self, byte: u8) -> Option<Result<(Head, &[u8]), FrameError>> {
        if byte != 0 {
            match self.bytes.get_mut(self.used) {
                // One place is left for the delimiter.
                Some(slot) if self.used < MAX_FRAME.saturating_sub(1) => {
                    *slot = byte;
                    self.used = self.used.saturating_add(1);
                }
                _ => self.over = true,
            }
            return None;
        }
        let used = core::mem::replace(&mut self.used, 1);
        if core::mem::take(&mut self.over) {
            return Some(Err(FrameError::Length(MAX_FRAME.saturating_add(1))));
        }
        if used == 1 {
            return None;
        }
        let burst = self.bytes.get_mut(..=used)?;
        *burst.last_mut()? = 0;
        Some(open(burst))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]
    extern crate std;

    use super::*;
    use ganglion_protocols::node_link::{Speaker, seal};

    fn frame(payload: &[u8]) -> std::vec::Vec<u8> {
        let head = Head { version: 1, speaker: Speaker::Node, unit: 7, token: 9 };
        let mut out = [0; MAX_FRAME];
        let used = seal(head, payload, &mut out).unwrap();
        out[..used].to_vec()
    }

    fn heard(receiver: &mut Receiver, bytes: &[u8]) -> (usize, usize) {
        let (mut good, mut bad) = (0, 0);
        for &byte in bytes {
            match receiver.take(byte) {
                Some(Ok(_)) => good += 1,
                Some(Err(_)) => bad += 1,
                None => {}
            }
        }
        (good, bad)
    }

    #[test]
    fn frames_are_found_in_any_lumps_and_with_shared_delimiters() {
        let mut receiver = Receiver::new();
        let one = frame(&[0, 1, 0, 2]);
        let joined: std::vec::Vec<u8> = one.iter().chain(&one[1..]).copied().collect();
        assert_eq!(heard(&mut receiver, &joined), (2, 0));
        let longest = frame(&[0xFF; ganglion_protocols::node_link::MAX_PAYLOAD]);
        assert_eq!(heard(&mut receiver, &longest), (1, 0));
    }

    #[test]
    fn garbage_of_any_length_costs_two_frames_at_most() {
        for length in [1, 10, 254, 255, 256, 300, 100_000] {
            let mut receiver = Receiver::new();
            let garbage: std::vec::Vec<u8> =
                (0..length).map(|place| u8::try_from(place * 7 % 255).unwrap() + 1).collect();
            heard(&mut receiver, &garbage);
            let one = frame(&[1, 2, 3]);
            let (good, _) = heard(&mut receiver, &[one.clone(), one.clone(), one].concat());
            assert!(good >= 2, "{good} of 3 behind {length} bytes");
        }
    }
}
