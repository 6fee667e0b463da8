//! What comes between two silences of a serial line.

use core::time::Duration;

use ganglion_protocols::modbus::rtu::MAX_FRAME;

/// Cuts what is heard on a line into bursts, at silences of 3.5 characters
/// ([`frame_gap`](crate::client::frame_gap)), and hands each out whole.
///
/// It does not know what a burst is: Modbus and node link both read it. A burst that is longer than [`MAX_FRAME`], or of
/// which a character was lost or damaged, is handed out as [`Damage`] and none of its bytes.
///
/// **The 1.5 characters are not enforced.** MODBUS over Serial Line V1.02 §2.5.1.1 wants a frame refused that pauses for
/// longer inside. A time here is when bytes were read, and FIFOs, interrupts held off and serial servers hand them over in
/// lumps, so a pause that is seen need not have been on the line; a frame whose CRC is right after one is as good as any
/// other, and half frames that a shorter silence joins have no right CRC.
///
/// **Order of calls.** [`take`](Self::take) before [`handle_bytes`](Self::handle_bytes), with the same time: bytes that come
/// after the silence begin a new burst, and one that was not taken until then is gone, counted in
/// [`missed`](Self::missed).
///
/// Source: MODBUS over Serial Line V1.02 §2.5.1.1, figure 14.
#[derive(Clone, Debug)]
pub struct Burst {
    gap: Duration,
    heard_at: Option<Duration>,
    /// Whether there is a burst that was not taken.
    open: bool,
    damage: Option<Damage>,
    missed: u16,
    len: usize,
    bytes: [u8; MAX_FRAME],
}

/// Why a burst, or what should be a frame, has no bytes to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// It had more than [`MAX_FRAME`] bytes.
    TooLong,
    /// The port says that a character was damaged: parity, stop bit, noise.
    Character,
    /// The port, or the ring behind it, says that characters were lost.
    Overrun,
    /// It is no frame: its CRC is wrong, or it is shorter than four bytes.
    Frame,
}

impl Burst {
    /// Takes a line. `gap`: the silence that ends a burst; longer than [`frame_gap`](crate::client::frame_gap) where the
    /// port hands bytes over in lumps further apart than that.
    #[must_use]
    pub const fn new(gap: Duration) -> Self {
        Self { gap, heard_at: None, open: false, damage: None, missed: 0, len: 0, bytes: [0; MAX_FRAME] }
    }

    /// Takes bytes read at `now`.
    pub fn handle_bytes(&mut self, now: Duration, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.hear(now);
        let end = self.len.saturating_add(bytes.len());
        match self.bytes.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            None => self.damage = self.damage.or(Some(Damage::TooLong)),
        }
    }

    /// Says that the port found a fault in what it heard until `now`: the burst is spoiled.
    pub fn handle_damage(&mut self, now: Duration, damage: Damage) {
        self.hear(now);
        // Lost characters have a counter of their own, so they outweigh what follows from them.
        if damage == Damage::Overrun || self.damage.is_none() {
            self.damage = Some(damage);
        }
    }

    /// Returns when the burst in progress is over if nothing more is heard; `None` without one.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.open { Some(self.silent_at()) } else { None }
    }

    /// Returns the burst that is over by `now`, once.
    ///
    /// # Errors
    /// [`Damage`] when its bytes are worth nothing.
    #[must_use]
    pub fn take(&mut self, now: Duration) -> Option<Result<&[u8], Damage>> {
        if !self.open || now < self.silent_at() {
            return None;
        }
        self.open = false;
        Some(match self.damage {
            Some(damage) => Err(damage),
            None => Ok(self.bytes.get(..self.len).unwrap_or_default()),
        })
    }

    /// Returns the earliest time to talk: 3.5 characters after the last byte heard; zero when nothing ever was.
    ///
    /// That is the least turnaround, too: a burst is taken no sooner, so its answer may go out at once. Whoever answers
    /// later looks here again, for somebody else may have begun to talk.
    #[must_use]
    pub fn silent_at(&self) -> Duration {
        self.heard_at.map_or(Duration::ZERO, |at| at.saturating_add(self.gap))
    }

    /// Returns how many bursts were over and not taken before the next began. Wraps around.
    #[must_use]
    pub const fn missed(&self) -> u16 {
        self.missed
    }

    /// Notes that something was heard, and begins a burst if the line was silent before.
    fn hear(&mut self, now: Duration) {
        let over = now >= self.silent_at();
        if self.open && over {
            self.missed = self.missed.wrapping_add(1);
        }
        if !self.open || over {
            (self.open, self.len, self.damage) = (true, 0, None);
        }
        self.heard_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_micros(1_750);

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn a_burst_ends_with_the_silence_and_is_handed_out_once() {
        let mut burst = Burst::new(GAP);
        assert_eq!((burst.poll_timeout(), burst.silent_at()), (None, us(0)));
        burst.handle_bytes(us(100), b"ab");
        burst.handle_bytes(us(1_849), b"c");
        assert_eq!(burst.poll_timeout(), Some(us(3_599)));
        assert_eq!(burst.take(us(3_598)), None);
        assert_eq!(burst.take(us(3_599)), Some(Ok(&b"abc"[..])));
        assert_eq!(burst.take(us(9_000)), None);
        assert_eq!(burst.poll_timeout(), None);
        assert_eq!(burst.silent_at(), us(3_599));
        burst.handle_bytes(us(9_000), b"d");
        assert_eq!(burst.take(us(10_750)), Some(Ok(&b"d"[..])));
        assert_eq!(burst.missed(), 0);
    }

    #[test]
    fn the_time_of_nothing_is_no_time_of_bytes() {
        let mut burst = Burst::new(GAP);
        burst.handle_bytes(us(0), b"a");
        burst.handle_bytes(us(1_000), b"");
        assert_eq!(burst.take(us(1_750)), Some(Ok(&b"a"[..])));
    }

    #[test]
    fn the_longest_frame_fits_and_one_byte_more_drops_it_whole() {
        let mut burst = Burst::new(GAP);
        burst.handle_bytes(us(0), &[1; 200]);
        burst.handle_bytes(us(1), &[2; 56]);
        assert_eq!(burst.take(us(5_000)).map(|taken| taken.map(<[u8]>::len)), Some(Ok(256)));
        burst.handle_bytes(us(9_000), &[1; 256]);
        burst.handle_bytes(us(9_001), &[2]);
        assert_eq!(burst.take(us(19_000)), Some(Err(Damage::TooLong)));
        burst.handle_bytes(us(20_000), b"a");
        assert_eq!(burst.take(us(30_000)), Some(Ok(&b"a"[..])));
    }

    #[test]
    fn a_damaged_character_spoils_its_burst_and_no_other() {
        let mut burst = Burst::new(GAP);
        burst.handle_bytes(us(0), b"a");
        burst.handle_damage(us(10), Damage::Character);
        burst.handle_damage(us(11), Damage::Overrun);
        burst.handle_damage(us(12), Damage::Character);
        burst.handle_bytes(us(20), b"b");
        assert_eq!(burst.take(us(5_000)), Some(Err(Damage::Overrun)));
        burst.handle_bytes(us(6_000), b"c");
        assert_eq!(burst.take(us(9_000)), Some(Ok(&b"c"[..])));
    }

    #[test]
    fn a_burst_that_nobody_took_is_counted_and_never_joined_to_the_next() {
        let mut burst = Burst::new(GAP);
        burst.handle_bytes(us(0), b"a");
        burst.handle_bytes(us(1_750), b"b");
        assert_eq!(burst.take(us(3_500)), Some(Ok(&b"b"[..])));
        assert_eq!(burst.missed(), 1);
    }
}
