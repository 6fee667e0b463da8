//! What the answer to a request must look like.

use ganglion_protocols::modbus::Table;
use ganglion_protocols::modbus::pdu::{EXCEPTION, MAX_PDU};

/// Length of the longest answer whose bytes are all known beforehand: mask write register.
const KNOWN: usize = 7;

/// What the answer to one request must look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Expect {
    function: u8,
    answer: Answer,
    /// A right answer may be the request over again.
    mirrors: bool,
}

/// What follows the function code of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// A byte count of just this value and as many bytes.
    Bytes(u8),
    /// The whole PDU is known; zeros after its `length` bytes.
    Known { pdu: [u8; KNOWN], length: u8 },
    /// A byte count of any value and as many bytes.
    Counted,
    /// The objects of read device identification with this level.
    DeviceId { level: u8 },
    /// Anything; only silence ends it.
    Free,
}

/// How long the PDU of an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Length {
    /// The bytes so far do not begin such an answer.
    No,
    /// Too few bytes to say.
    Unknown,
    /// Just as long, whether all of it is there or not.
    Is(usize),
    /// Silence ends it.
    Silence,
}

impl Expect {
    /// Derives the answer from a request PDU; `None` if it is no request: empty or too long, an impossible function code,
    /// or a length or count that its function does not allow.
    pub(super) fn of(request: &[u8]) -> Option<Self> {
        if request.len() > MAX_PDU {
            return None;
        }
        let answer = match *request {
            [0x01 | 0x02, _, _, high, low] => Answer::Bytes(bit_bytes(u16::from_be_bytes([high, low]))?),
            [0x03 | 0x04, _, _, high, low] => Answer::Bytes(register_bytes(u16::from_be_bytes([high, low]))?),
            [0x05 | 0x06, _, _, _, _] | [0x16, _, _, _, _, _, _] => Answer::known(request)?,
            [0x0F | 0x10, a, b, c, d, count, ref data @ ..] if data.len() == usize::from(count) && count > 0 => {
                Answer::known(&[*request.first()?, a, b, c, d])?
            }
            [0x17, _, _, high, low, _, _, _, _, count, ref data @ ..] if data.len() == usize::from(count) => {
                Answer::Bytes(register_bytes(u16::from_be_bytes([high, low]))?)
            }
            [0x11] => Answer::Counted,
            [0x2B, 0x0E, level, _] => Answer::DeviceId { level },
            [0x00..=0x06 | 0x0F | 0x10 | 0x11 | 0x16 | 0x17 | EXCEPTION.., ..] | [] => return None,
            _ => Answer::Free,
        };
        let mirrors = match answer {
            Answer::Known { pdu, length } => pdu.get(..usize::from(length)) == Some(request),
            Answer::Free => true,
            _ => false,
        };
        Some(Self { function: *request.first()?, answer, mirrors })
    }

    pub(super) const fn function(&self) -> u8 {
        self.function
    }

    pub(super) const fn answer(&self) -> Answer {
        self.answer
    }

    /// Says whether a right answer may be the request over again.
    pub(super) const fn mirrors(&self) -> bool {
        self.mirrors
    }

    /// Says whether only silence ends the answer.
    pub(super) const fn is_free(&self) -> bool {
        matches!(self.answer, Answer::Free)
    }

    /// Says how long the answer that begins with `pdu` is; `pdu` may go on after it.
    pub(super) fn length(&self, pdu: &[u8]) -> Length {
        let Some((&function, rest)) = pdu.split_first() else { return Length::Unknown };
        if function == self.function | EXCEPTION {
            return Length::Is(2);
        }
        if function != self.function {
            return Length::No;
        }
        match (self.answer, rest.first()) {
            (Answer::Known { length, .. }, _) => Length::Is(usize::from(length)),
            (Answer::Bytes(count), Some(&got)) if got == count => Length::Is(usize::from(count).saturating_add(2)),
            (Answer::Bytes(_), Some(_)) => Length::No,
            (Answer::Counted, Some(&count)) => limited(usize::from(count).saturating_add(2)),
            (Answer::DeviceId { level }, _) => match rest.get(1) {
                Some(&got) if got != level => Length::No,
                _ => device_id_length(pdu),
            },
            (Answer::Free, _) => Length::Silence,
            (Answer::Bytes(_) | Answer::Counted, None) => Length::Unknown,
        }
    }

    /// Returns the length of the longest PDU that may answer.
    pub(super) fn longest(&self) -> usize {
        match self.answer {
            Answer::Bytes(count) => usize::from(count).saturating_add(2),
            Answer::Known { length, .. } => usize::from(length),
            Answer::Counted | Answer::DeviceId { .. } | Answer::Free => MAX_PDU,
        }
    }

    /// Says whether a whole PDU that fits is right in its content too, as far as that is known.
    pub(super) fn is_right(&self, pdu: &[u8]) -> bool {
        match self.answer {
            Answer::Known { pdu: known, length } => known.get(..usize::from(length)) == Some(pdu),
            _ => true,
        }
    }
}

impl Answer {
    fn known(bytes: &[u8]) -> Option<Self> {
        let mut pdu = [0; KNOWN];
        pdu.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self::Known { pdu, length: u8::try_from(bytes.len()).ok()? })
    }

    /// Takes the answer that `pdu`, a whole PDU of a normal answer, is; `None` if it is none of a known function.
    pub(super) fn of(pdu: &[u8]) -> Option<Self> {
        match *pdu {
            [0x01 | 0x02, count, ref data @ ..] if data.len() == usize::from(count) && count > 0 => {
                Some(Self::Bytes(count))
            }
            [0x03 | 0x04 | 0x17, count, ref data @ ..]
                if data.len() == usize::from(count) && count > 0 && count.is_multiple_of(2) =>
            {
                Some(Self::Bytes(count))
            }
            [0x05 | 0x06 | 0x0F | 0x10, _, _, _, _] | [0x16, _, _, _, _, _, _] => Self::known(pdu),
            [0x11, count, ref data @ ..] if data.len() == usize::from(count) => Some(Self::Counted),
            [0x2B, 0x0E, level, ..] if device_id_length(pdu) == Length::Is(pdu.len()) => Some(Self::DeviceId { level }),
            _ => None,
        }
    }

    /// Says whether one answer could be taken for the other.
    pub(super) fn confusable(self, other: Self) -> bool {
        self == other || matches!(self, Self::Free) || matches!(other, Self::Free)
    }
}

/// Walks the objects of an answer of read device identification (§6.21).
fn device_id_length(pdu: &[u8]) -> Length {
    /// Function, MEI type, level, conformity, more follows, next object, count.
    const HEADER: usize = 7;
    match pdu.get(1) {
        Some(0x0E) => {}
        Some(_) => return Length::No,
        None => return Length::Unknown,
    }
    let Some(&objects) = pdu.get(HEADER.saturating_sub(1)) else { return Length::Unknown };
    let mut end = HEADER;
    for _ in 0..objects {
        let Some(&length) = pdu.get(end.saturating_add(1)) else { return limited(end).or_unknown() };
        end = end.saturating_add(2).saturating_add(usize::from(length));
    }
    limited(end)
}

impl Length {
    const fn or_unknown(self) -> Self {
        match self {
            Self::Is(_) => Self::Unknown,
            other => other,
        }
    }
}

const fn limited(length: usize) -> Length {
    if length <= MAX_PDU { Length::Is(length) } else { Length::No }
}

/// Returns the data bytes of `count` bits, padded to whole bytes; `None` for a count that cannot be read.
fn bit_bytes(count: u16) -> Option<u8> {
    if (1..=Table::Coil.max_items()).contains(&count) { u8::try_from(count.div_ceil(8)).ok() } else { None }
}

/// Returns the data bytes of `count` registers; `None` for a count that cannot be read.
fn register_bytes(count: u16) -> Option<u8> {
    if (1..=Table::HoldingRegister.max_items()).contains(&count) {
        u8::try_from(count.saturating_mul(2)).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

    use super::*;

    fn length(request: &[u8], pdu: &[u8]) -> Length {
        Expect::of(request).expect("a request").length(pdu)
    }

    #[test]
    fn the_byte_count_of_a_read_follows_from_the_request() {
        assert_eq!(length(&[0x01, 0, 0, 0, 9], &[0x01, 2]), Length::Is(4));
        assert_eq!(length(&[0x02, 0, 0, 7, 208], &[0x02, 250]), Length::Is(252));
        assert_eq!(length(&[0x03, 0, 0, 0, 2], &[0x03, 4]), Length::Is(6));
        assert_eq!(length(&[0x04, 0, 0, 0, 125], &[0x04, 250]), Length::Is(252));
        assert_eq!(length(&[0x17, 0, 0, 0, 3, 0, 9, 0, 1, 2, 1, 2], &[0x17, 6]), Length::Is(8));
        assert_eq!(length(&[0x03, 0, 0, 0, 2], &[0x03, 6]), Length::No);
        assert_eq!(length(&[0x03, 0, 0, 0, 2], &[0x04, 4]), Length::No);
        assert_eq!(length(&[0x03, 0, 0, 0, 2], &[0x03]), Length::Unknown);
        assert_eq!(length(&[0x03, 0, 0, 0, 2], &[0x83]), Length::Is(2));
    }

    #[test]
    fn the_answer_of_a_write_is_wholly_known() {
        let coils = Expect::of(&[0x0F, 0, 19, 0, 10, 2, 0xCD, 1]).expect("a request");
        assert_eq!(coils.length(&[0x0F]), Length::Is(5));
        assert!(coils.is_right(&[0x0F, 0, 19, 0, 10]));
        assert!(!coils.is_right(&[0x0F, 0, 19, 0, 11]));
        assert!(!coils.mirrors());
        let mask = Expect::of(&[0x16, 0, 4, 0, 0xF2, 0, 0x25]).expect("a request");
        assert_eq!(mask.length(&[0x16]), Length::Is(7));
        assert!(mask.mirrors());
    }

    #[test]
    fn the_objects_of_a_device_identification_give_its_length() {
        let pdu = [0x2B, 0x0E, 1, 1, 0, 0, 2, 0, 2, b'a', b'b', 1, 1, b'c'];
        let request = [0x2B, 0x0E, 1, 0];
        for front in 2..12 {
            assert_eq!(length(&request, &pdu[..front]), Length::Unknown, "{front} bytes");
        }
        assert_eq!(length(&request, &pdu[..13]), Length::Is(14));
        assert_eq!(length(&request, &pdu), Length::Is(14));
        assert_eq!(length(&request, &[0x2B, 0x0E, 2]), Length::No, "another level");
        assert_eq!(length(&request, &[0x2B, 0x0E, 1, 1, 0, 0, 1, 0, 250]), Length::No, "longer than a PDU");
    }

    #[test]
    fn what_is_no_request_has_no_answer() {
        for request in [
            &[][..],
            &[0x00],
            &[0x03, 0, 0, 0],
            &[0x03, 0, 0, 0, 0],
            &[0x03, 0, 0, 0, 126],
            &[0x01, 0, 0, 7, 209],
            &[0x10, 0, 0, 0, 1, 2, 0],
            &[0x83, 2],
            &[0x41; 254],
        ] {
            assert_eq!(Expect::of(request), None, "{request:02X?}");
        }
        assert!(Expect::of(&[0x41, 1, 2]).expect("a vendor's function").is_free());
    }
}
