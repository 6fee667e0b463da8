//! How long things take on a serial line.

use core::time::Duration;

/// The times of one serial line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// One character on the line, see [`character_time`].
    pub character: Duration,
    /// Silence between two frames, see [`frame_gap`]; longer where a device needs it.
    pub gap: Duration,
    /// How long after it was given up a request may still be answered.
    pub late_reply: Duration,
    /// The longest pause within one answer as the reader of the port sees it. USB adapters and UART FIFOs hand bytes on in
    /// lumps 1 to 16 ms apart, so the 1.5 characters of MODBUS over Serial Line V1.02 §2.5.1.1 cannot be seen, and no
    /// frame is refused for a pause shorter than this.
    pub answer_slack: Duration,
}

impl Timing {
    /// Returns the time of `count` characters.
    pub(super) fn characters(&self, count: usize) -> Duration {
        self.character.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Returns the longest time a frame of `count` characters takes from its first byte: half as much again as on a line
    /// without pauses, and the slack.
    pub(super) fn frame(&self, count: usize) -> Duration {
        let bare = self.characters(count);
        bare.saturating_add(bare.checked_div(2).unwrap_or_default()).saturating_add(self.answer_slack)
    }

    /// Returns how long a line may go on without a silent moment until requests go out regardless: two longest frames
    /// and a late answer. No traffic of the protocol does that.
    pub(super) fn babble(&self) -> Duration {
        self.characters(512).saturating_add(self.late_reply)
    }
}

/// Time on the line of one character of `bits` bits, start, parity and stop bits included.
#[must_use]
pub fn character_time(baud: u32, bits: u8) -> Duration {
    let nanos = u64::from(bits).saturating_mul(1_000_000_000).checked_div(u64::from(baud));
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Silence between two frames: 3.5 characters, above 19200 Bd a fixed 1.75 ms.
///
/// Source: MODBUS over Serial Line V1.02 §2.5.1.1.
#[must_use]
pub fn frame_gap(baud: u32, bits: u8) -> Duration {
    if baud > 19_200 {
        return Duration::from_micros(1_750);
    }
    let character = character_time(baud, bits);
    character.saturating_mul(3).saturating_add(character.checked_div(2).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_three_and_a_half_characters_and_fixed_above_19200_baud() {
        assert_eq!(frame_gap(9_600, 11), Duration::from_nanos(4_010_415));
        assert_eq!(frame_gap(19_200, 11), Duration::from_nanos(2_005_206));
        assert_eq!(frame_gap(38_400, 11), Duration::from_micros(1_750));
        assert_eq!(frame_gap(115_200, 10), Duration::from_micros(1_750));
        assert_eq!(frame_gap(0, 11), Duration::ZERO);
    }
}
