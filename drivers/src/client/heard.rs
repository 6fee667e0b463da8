//! The last bytes heard on a serial line.

use ganglion_protocols::modbus::pdu::EXCEPTION;
use ganglion_protocols::modbus::rtu::{MAX_FRAME, MIN_FRAME, crc};

use super::expect::{Answer, Expect};

/// The last bytes heard. A byte further back than the longest frame belongs to no frame to come and drops out.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    bytes: [u8; MAX_FRAME],
    length: usize,
    /// Bytes before this place were heard before the request in progress was sent: no frame that begins there answers it.
    fresh: usize,
}

impl Heard {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; MAX_FRAME], length: 0, fresh: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) const fn fresh(&self) -> usize {
        self.fresh
    }

    /// Everything heard so far is older than the request now sent.
    pub(super) const fn age(&mut self) {
        self.fresh = self.length;
    }

    /// Takes one more byte. There must be room, see [`is_full`](Self::is_full).
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
            self.length = self.length.saturating_add(1);
        }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.length == MAX_FRAME
    }

    /// Drops `count` bytes from the front and returns how many of them were heard since the request was sent.
    pub(super) fn discard(&mut self, count: usize) -> usize {
        let count = count.min(self.length);
        self.bytes.copy_within(count..self.length, 0);
        let fresh = count.saturating_sub(self.fresh);
        self.length = self.length.saturating_sub(count);
        self.fresh = self.fresh.saturating_sub(count);
        fresh
    }

    /// Returns the frame `from..to` as unit and PDU, if its CRC is right.
    pub(super) fn frame(&self, from: usize, to: usize) -> Option<(u8, &[u8])> {
        let frame = self.bytes.get(from..to)?;
        let (body, check) = frame.split_last_chunk::<2>()?;
        if crc(body) != u16::from_le_bytes(*check) {
            return None;
        }
        body.split_first().map(|(&unit, pdu)| (unit, pdu))
    }

    /// Returns the first place before `limit` where a frame of a known function begins that ends at `end`.
    pub(super) fn frame_ending_at(&self, end: usize, limit: usize) -> Option<usize> {
        let last = end.checked_sub(MIN_FRAME)?;
        let body = self.bytes.get(..end.checked_sub(2)?)?;
        let begins = self.bytes.windows(3).take(limit).zip(0..=last);
        begins.filter(|(begin, place)| may_be(begin, end.saturating_sub(*place))).map(|(_, place)| place).find(
            |&place| body.get(place.saturating_add(1)..).is_some_and(is_known) && self.frame(place, end).is_some(),
        )
    }
}

/// Says whether a frame of `length` bytes may begin so. It is asked at every place for every byte, and so lets through
/// what would take longer to refuse.
fn may_be(begin: &[u8], length: usize) -> bool {
    match *begin {
        [_, EXCEPTION..=0xFF, _] => length == 5,
        [_, 0x01..=0x06, count] => length == 8 || length == usize::from(count).saturating_add(5),
        [_, function, _] => matches!(function, 0x0F | 0x10 | 0x11 | 0x16 | 0x17 | 0x2B),
        _ => false,
    }
}

/// Says whether `pdu` is of the length that its content demands, as a request or as an answer.
fn is_known(pdu: &[u8]) -> bool {
    is_exception(pdu) || Answer::of(pdu).is_some() || Expect::of(pdu).is_some_and(|expect| !expect.is_free())
}

/// Says whether `pdu` is an exception answer.
pub(super) const fn is_exception(pdu: &[u8]) -> bool {
    matches!(*pdu, [function, _] if function & EXCEPTION != 0)
}
