//! Modbus RTU: the frame on a serial line.
//!
//! A frame does not say where it ends; silence on the line does, or the length its function implies. So [`Frame::parse`]
//! takes a whole frame, and there is no "wait for more" here.
//!
//! Source: MODBUS over Serial Line V1.02 §2.5.1.

use core::fmt;

use super::UnitId;
use super::pdu::MAX_PDU;
use crate::bytes::{Full, Writer};

/// Longest frame: unit, 253 bytes of PDU, CRC.
pub const MAX_FRAME: usize = 256;

/// Shortest frame: unit, function code, CRC.
pub const MIN_FRAME: usize = 4;

/// CRC-16 of the bytes before it; on the wire its low byte comes first.
///
/// Source: MODBUS over Serial Line V1.02 §6.2.2.
#[must_use]
pub fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

/// A frame whose CRC is right.
///
/// A right CRC does not prove the length: zero bytes behind a frame leave the CRC of the whole right. The PDU's own
/// `parse` refuses those.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The server that is asked or answers; 0 is broadcast.
    pub unit: UnitId,
    /// Function code and data, 1..=253 bytes.
    pub pdu: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a whole frame.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        if frame.len() > MAX_FRAME {
            return Err(FrameError::TooLong { got: frame.len() });
        }
        match frame.split_last_chunk::<2>() {
            Some((body @ [unit, pdu @ ..], check)) if !pdu.is_empty() => {
                let (got, computed) = (u16::from_le_bytes(*check), crc(body));
                if got == computed {
                    Ok(Self { unit: UnitId(*unit), pdu })
                } else {
                    Err(FrameError::Crc { got, computed })
                }
            }
            _ => Err(FrameError::TooShort { got: frame.len() }),
        }
    }

    /// Puts a frame at the front of `out` and returns its length, at most [`MAX_FRAME`].
    ///
    /// # Errors
    /// [`Full`] when `out` is too short, or `pdu` is empty or longer than [`MAX_PDU`].
    pub fn emit(unit: UnitId, pdu: &[u8], out: &mut [u8]) -> Result<usize, Full> {
        if pdu.is_empty() || pdu.len() > MAX_PDU {
            return Err(Full);
        }
        let mut writer = Writer::new(out);
        writer.put(&[unit.0])?;
        writer.put(pdu)?;
        let body = writer.len();
        let check = crc(out.get(..body).unwrap_or_default()).to_le_bytes();
        let end = body.saturating_add(check.len());
        out.get_mut(body..end).ok_or(Full)?.copy_from_slice(&check);
        Ok(end)
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// Fewer than [`MIN_FRAME`] bytes.
    TooShort {
        /// Bytes given.
        got: usize,
    },
    /// More than [`MAX_FRAME`] bytes.
    TooLong {
        /// Bytes given.
        got: usize,
    },
    /// The CRC does not fit the bytes before it.
    Crc {
        /// The CRC in the frame; its low byte came first.
        got: u16,
        /// What it should be.
        computed: u16,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { got } => write!(f, "{got} bytes, a frame has at least {MIN_FRAME}"),
            Self::TooLong { got } => write!(f, "{got} bytes, a frame has at most {MAX_FRAME}"),
            Self::Crc { got, computed } => write!(f, "crc {got:04X}, computed {computed:04X}"),
        }
    }
}

impl core::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::crc;

    #[test]
    fn the_crc_of_the_standards_example_is_right() {
        assert_eq!(crc(&[0x02, 0x07]), 0x1241);
    }
}
