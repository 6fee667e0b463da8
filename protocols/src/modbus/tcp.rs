//! Modbus TCP: the frame in a stream.
//!
//! The stream has no other marks than the length in each header: after anything but [`FrameError::Incomplete`] the
//! connection must be closed, there is nothing to resynchronize on.
//!
//! Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b §3.1.3, §4.4.2.

use core::fmt;

use super::UnitId;
use super::pdu::MAX_PDU;
use crate::bytes::{Full, Writer};

/// Longest frame: header and 253 bytes of PDU.
pub const MAX_FRAME: usize = 260;

/// Bytes of the MBAP header: transaction, protocol, length, unit.
pub const HEADER: usize = 7;

/// Bytes before what the length field counts: the unit and the PDU.
const BEFORE_LENGTH: usize = 6;

/// A frame whose header is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// Number the client gave its request; the answer repeats it.
    pub transaction: u16,
    /// The server behind the connection; 0 or 255 for the device itself.
    pub unit: UnitId,
    /// Function code and data, 1..=253 bytes.
    pub pdu: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes one frame and nothing behind it.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        match Self::take(frame)? {
            (parsed, []) => Ok(parsed),
            (_, rest) => {
                let expected = frame.len().saturating_sub(rest.len());
                Err(FrameError::TrailingBytes { expected, got: frame.len() })
            }
        }
    }

    /// Takes one frame from the front of a stream and returns it with what is behind it.
    ///
    /// # Errors
    /// [`FrameError::Incomplete`] while more must be read, otherwise the stream is no Modbus. A header that is wrong is
    /// refused as soon as its wrong byte is there.
    pub fn take(stream: &'a [u8]) -> Result<(Self, &'a [u8]), FrameError> {
        if let Some(&[p0, p1]) = stream.get(2..4) {
            match u16::from_be_bytes([p0, p1]) {
                0 => {}
                got => return Err(FrameError::ProtocolId { got }),
            }
        }
        let incomplete = |needed: usize| FrameError::Incomplete { needed: needed.saturating_sub(stream.len()) };
        let Some((&[t0, t1, _, _, l0, l1], rest)) = stream.split_first_chunk::<BEFORE_LENGTH>() else {
            return Err(incomplete(HEADER.saturating_add(1)));
        };
        let length = u16::from_be_bytes([l0, l1]);
        if length < 2 || usize::from(length) > MAX_PDU.saturating_add(1) {
            return Err(FrameError::Length { got: length });
        }
        let Some((body, rest)) = rest.split_at_checked(length.into()) else {
            return Err(incomplete(BEFORE_LENGTH.saturating_add(length.into())));
        };
        let (&unit, pdu) = body.split_first().ok_or(FrameError::Length { got: length })?;
        Ok((Self { transaction: u16::from_be_bytes([t0, t1]), unit: UnitId(unit), pdu }, rest))
    }

    /// Puts a frame at the front of `out` and returns its length, at most [`MAX_FRAME`].
    ///
    /// # Errors
    /// [`Full`] when `out` is too short, or `pdu` is empty or longer than [`MAX_PDU`].
    pub fn emit(transaction: u16, unit: UnitId, pdu: &[u8], out: &mut [u8]) -> Result<usize, Full> {
        if pdu.is_empty() || pdu.len() > MAX_PDU {
            return Err(Full);
        }
        let length = u16::try_from(pdu.len().saturating_add(1)).map_err(|_| Full)?;
        let mut writer = Writer::new(out);
        writer.put(&transaction.to_be_bytes())?;
        writer.put(&[0, 0])?;
        writer.put(&length.to_be_bytes())?;
        writer.put(&[unit.0])?;
        writer.put(pdu)?;
        Ok(writer.len())
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// All right so far, the frame goes on.
    Incomplete {
        /// Bytes that are still missing, at least.
        needed: usize,
    },
    /// The protocol identifier is not 0.
    ProtocolId {
        /// The identifier.
        got: u16,
    },
    /// The length is outside 2..=254: there is no function code, or more than the longest PDU.
    Length {
        /// The length.
        got: u16,
    },
    /// More bytes than the frame has.
    TrailingBytes {
        /// Bytes of the frame.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete { needed } => write!(f, "at least {needed} more bytes needed"),
            Self::ProtocolId { got } => write!(f, "protocol identifier {got:04X} is not 0"),
            Self::Length { got } => write!(f, "length {got} is outside 2 to 254"),
            Self::TrailingBytes { expected, got } => write!(f, "{got} bytes, the frame has {expected}"),
        }
    }
}

impl core::error::Error for FrameError {}
