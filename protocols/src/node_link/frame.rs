//! Bytes of the line to head and payload, and back.

use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};

use crate::bytes::Full;

/// Longest frame on the line, both delimiters included.
pub const MAX_FRAME: usize = 256;
/// Longest message: what [`MAX_FRAME`] leaves after the delimiters, one byte of COBS, head and CRC.
pub const MAX_PAYLOAD: usize = MAX_FRAME - 3 - HEAD - CRC;

const HEAD: usize = 3;
const CRC: usize = 4;
const DELIMITER: u8 = 0x00;
const FROM_NODE: u8 = 0x80;

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaker {
    /// The gateway: the payload is an [`Ask`](super::Ask).
    Gateway,
    /// A node: the payload is an [`Answer`](super::Answer).
    Node,
}

/// What every frame of every version begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Version of the payload, 0..=127.
    pub version: u8,
    /// Who speaks.
    pub speaker: Speaker,
    /// Address of the node that is asked or answers, 1..=247; 0 asks every node.
    pub unit: u8,
    /// Chosen by the asker, repeated by the answer.
    pub token: u8,
}

/// Why a burst is no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// It does not begin and end with a delimiter, has one inside, or its COBS is broken.
    Delimiters,
    /// It has more bytes than [`MAX_FRAME`], or too few for head and CRC.
    Length(usize),
    /// The CRC is not that of the content.
    Crc {
        /// As calculated.
        expected: u32,
        /// As received.
        got: u32,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delimiters => f.write_str("not framed by 0x00 and COBS"),
            Self::Length(got) => write!(f, "{got} bytes are no frame: 10 to {MAX_FRAME} are"),
            Self::Crc { expected, got } => write!(f, "CRC is {got:08x}, the content's is {expected:08x}"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Opens the frame in `burst`, undoing COBS in place. More than one delimiter before or behind it is no harm.
///
/// # Errors
/// See [`FrameError`]; `burst` may be changed all the same.
pub fn open(burst: &mut [u8]) -> Result<(Head, &[u8]), FrameError> {
    let length = burst.len();
    if length > MAX_FRAME {
        return Err(FrameError::Length(length));
    }
    let begin = burst.iter().position(|byte| *byte != DELIMITER).ok_or(FrameError::Delimiters)?;
    let end = burst.iter().rposition(|byte| *byte != DELIMITER).ok_or(FrameError::Delimiters)?;
    if begin == 0 || end.saturating_add(1) == length {
        return Err(FrameError::Delimiters);
    }
    let coded = burst.get_mut(begin..=end).ok_or(FrameError::Delimiters)?;
    if coded.contains(&DELIMITER) {
        return Err(FrameError::Delimiters);
    }
    let used = cobs::decode_in_place(coded).map_err(|_| FrameError::Delimiters)?;
    let content = coded.get(..used).ok_or(FrameError::Delimiters)?;
    let (covered, crc) = content.split_last_chunk::<CRC>().ok_or(FrameError::Length(length))?;
    let &[version, unit, token, ref payload @ ..] = covered else { return Err(FrameError::Length(length)) };
    let (expected, got) = (checksum(covered), u32::from_le_bytes(*crc));
    if expected != got {
        return Err(FrameError::Crc { expected, got });
    }
    let speaker = if version & FROM_NODE == 0 { Speaker::Gateway } else { Speaker::Node };
    Ok((Head { version: version & !FROM_NODE, speaker, unit, token }, payload))
}

/// Writes the frame of `payload` to `out`; returns its length.
///
/// # Errors
/// [`Full`] when the payload has more than [`MAX_PAYLOAD`] bytes or `out` is too short: [`MAX_FRAME`] always do.
pub fn seal(head: Head, payload: &[u8], out: &mut [u8]) -> Result<usize, Full> {
    let speaker = if head.speaker == Speaker::Node { FROM_NODE } else { 0 };
    let mut content = [0; MAX_FRAME];
    let covered = HEAD.saturating_add(payload.len());
    let (body, rest) = content.split_at_mut_checked(covered).ok_or(Full)?;
    let (start, space) = body.split_first_chunk_mut::<HEAD>().ok_or(Full)?;
    *start = [head.version & !FROM_NODE | speaker, head.unit, head.token];
    space.copy_from_slice(payload);
    let crc = checksum(body).to_le_bytes();
    rest.first_chunk_mut::<CRC>().ok_or(Full)?.copy_from_slice(&crc);
    let whole = covered.saturating_add(CRC);
    if payload.len() > MAX_PAYLOAD || out.len() < cobs::max_encoding_length(whole).saturating_add(2) {
        return Err(Full);
    }
    let (first, coded) = out.split_first_mut().ok_or(Full)?;
    *first = DELIMITER;
    let used = cobs::encode(content.get(..whole).ok_or(Full)?, coded);
    *coded.get_mut(used).ok_or(Full)? = DELIMITER;
    Ok(used.saturating_add(2))
}

/// CRC-32 (ISO-HDLC, as of Ethernet), without a table: it is short of flash, not of time.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    checksum_of([bytes])
}

/// The same of several pieces as if they were one.
pub(super) fn checksum_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let crc = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);
    let mut digest = crc.digest();
    pieces.into_iter().for_each(|piece| digest.update(piece));
    digest.finalize()
}
