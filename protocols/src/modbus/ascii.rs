//! Modbus ASCII: the frame on a serial line, as hexadecimal text.
//!
//! A colon begins a frame wherever it stands, CR LF ends it, so a reader resynchronizes at the next colon.
//!
//! Source: MODBUS over Serial Line V1.02 §2.5.2.

use core::fmt;

use super::UnitId;
use super::pdu::MAX_PDU;
use crate::bytes::{Full, Writer};

/// Longest frame in characters: colon, two for each of unit, 253 bytes of PDU and LRC, CR, LF.
pub const MAX_FRAME: usize = 513;

/// Shortest frame in characters: colon, unit, function code, LRC, CR, LF.
pub const MIN_FRAME: usize = 9;

/// Most bytes the text of a frame stands for: unit, PDU, LRC.
pub const MAX_BYTES: usize = 255;

/// Longitudinal redundancy check of the bytes before it: the two's complement of their sum.
///
/// Source: MODBUS over Serial Line V1.02 §6.2.1.
#[must_use]
pub fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)).wrapping_neg()
}

/// A frame whose LRC is right, borrowed from the buffer its text was decoded into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The server that is asked or answers; 0 is broadcast.
    pub unit: UnitId,
    /// Function code and data, 1..=253 bytes.
    pub pdu: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes one frame from colon to LF and nothing around it; its bytes go into `buffer`.
    ///
    /// Digits must be upper case, as §2.5.2.1 has them.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn parse(text: &[u8], buffer: &'a mut [u8; MAX_BYTES]) -> Result<Self, FrameError> {
        let digits = digits(text)?;
        let (pairs, []) = digits.as_chunks::<2>() else {
            return Err(FrameError::OddDigits { got: digits.len() });
        };
        for ((pair, byte), at) in pairs.iter().zip(buffer.iter_mut()).zip((1..).step_by(2)) {
            let [high, low] = *pair;
            *byte = nibble(at, high)? << 4 | nibble(at.saturating_add(1), low)?;
        }
        match buffer.get(..pairs.len()).and_then(<[u8]>::split_last) {
            Some((got, body @ [unit, pdu @ ..])) if !pdu.is_empty() => {
                let computed = lrc(body);
                if *got == computed {
                    Ok(Self { unit: UnitId(*unit), pdu })
                } else {
                    Err(FrameError::Lrc { got: *got, computed })
                }
            }
            _ => Err(FrameError::TooShort { got: text.len() }),
        }
    }

    /// Puts a frame at the front of `out` and returns its length in characters, at most [`MAX_FRAME`].
    ///
    /// # Errors
    /// [`Full`] when `out` is too short, or `pdu` is empty or longer than [`MAX_PDU`].
    pub fn emit(unit: UnitId, pdu: &[u8], out: &mut [u8]) -> Result<usize, Full> {
        if pdu.is_empty() || pdu.len() > MAX_PDU {
            return Err(Full);
        }
        let check = lrc(&[unit.0]).wrapping_add(lrc(pdu));
        let mut writer = Writer::new(out);
        writer.put(b":")?;
        for byte in [unit.0].iter().chain(pdu).chain(&[check]) {
            writer.put(&[digit(byte >> 4), digit(byte & 0xF)])?;
        }
        writer.put(b"\r\n")?;
        Ok(writer.len())
    }
}

/// Takes what stands between the colon and CR LF.
fn digits(text: &[u8]) -> Result<&[u8], FrameError> {
    let Some((first, rest)) = text.split_first() else {
        return Err(FrameError::Incomplete { needed: MIN_FRAME });
    };
    if *first != b':' {
        return Err(FrameError::Start { got: *first });
    }
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return Err(if text.len() < MAX_FRAME {
            FrameError::Incomplete { needed: MIN_FRAME.saturating_sub(text.len()).max(1) }
        } else {
            FrameError::TooLong { got: text.len() }
        });
    };
    let (line, after) = rest.split_at_checked(end.saturating_add(1)).unwrap_or((rest, &[]));
    let len = line.len().saturating_add(1);
    let Some(digits) = line.strip_suffix(b"\r\n") else {
        return Err(FrameError::End { at: len.saturating_sub(1) });
    };
    if !after.is_empty() {
        Err(FrameError::TrailingBytes { expected: len, got: text.len() })
    } else if len > MAX_FRAME {
        Err(FrameError::TooLong { got: len })
    } else {
        Ok(digits)
    }
}

const fn nibble(at: usize, digit: u8) -> Result<u8, FrameError> {
    match digit {
        b'0'..=b'9' => Ok(digit.wrapping_sub(b'0')),
        b'A'..=b'F' => Ok(digit.wrapping_sub(b'A').wrapping_add(10)),
        got => Err(FrameError::Digit { at, got }),
    }
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0'.wrapping_add(nibble) } else { b'A'.wrapping_sub(10).wrapping_add(nibble) }
}

/// Why characters are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// All right so far, the LF that ends the frame is missing.
    Incomplete {
        /// Characters that are still missing, at least.
        needed: usize,
    },
    /// The first character is no colon.
    Start {
        /// The character.
        got: u8,
    },
    /// No CR before the LF.
    End {
        /// Place of the LF, 0 for the colon.
        at: usize,
    },
    /// A character that is no hexadecimal digit in upper case.
    Digit {
        /// Its place, 0 for the colon.
        at: usize,
        /// The character.
        got: u8,
    },
    /// An odd count of digits: half a byte.
    OddDigits {
        /// Digits between colon and CR.
        got: usize,
    },
    /// Fewer than [`MIN_FRAME`] characters.
    TooShort {
        /// Characters given.
        got: usize,
    },
    /// More than [`MAX_FRAME`] characters.
    TooLong {
        /// Characters given.
        got: usize,
    },
    /// More characters than the frame has.
    TrailingBytes {
        /// Characters of the frame.
        expected: usize,
        /// Characters given.
        got: usize,
    },
    /// The LRC does not fit the bytes before it.
    Lrc {
        /// The LRC in the frame.
        got: u8,
        /// What it should be.
        computed: u8,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete { needed } => {
                write!(f, "at least {needed} more characters needed, a frame ends with cr lf")
            }
            Self::Start { got } => write!(f, "a frame begins with a colon, not with {:?}", char::from(*got)),
            Self::End { .. } => f.write_str("lf without cr before it"),
            Self::Digit { got, .. } => write!(f, "{:?} is no digit 0 to 9 or A to F", char::from(*got)),
            Self::OddDigits { got } => write!(f, "{got} digits, a byte takes two"),
            Self::TooShort { got } => write!(f, "{got} characters, a frame has at least {MIN_FRAME}"),
            Self::TooLong { got } => write!(f, "{got} characters, a frame has at most {MAX_FRAME}"),
            Self::TrailingBytes { expected, got } => write!(f, "{got} characters, the frame has {expected}"),
            Self::Lrc { got, computed } => write!(f, "lrc {got:02X}, computed {computed:02X}"),
        }
    }
}

impl core::error::Error for FrameError {}
