//! The image file: a header that is signed, and the firmware behind it.
//!
//! ```text
//! offset  size
//!      0     4  "GNIM"
//!      4     2  version of the header, 1
//!      6     2  length of the header, 160
//!      8    16  name of the board, ASCII, filled with zeros
//!     24     4  version of the firmware: major u8, minor u8, patch u16
//!     28     4  length of the body, at least 1
//!     32    64  SHA-512 of the body (FIPS 180-4)
//!     96    64  Ed25519 signature over the 96 bytes before it (RFC 8032 §5.1)
//!    160        body
//! ```
//!
//! Numbers are little-endian. Nothing is checked here that needs a key or the body: that is the node's.

use core::fmt;

use super::Version;
use crate::bytes::{Reader, Truncated};

/// What stands before the body of an image file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageHeader {
    /// The board it is for.
    pub board: BoardName,
    /// Version of the firmware.
    pub version: Version,
    /// Length of the body.
    pub size: BodySize,
    /// SHA-512 of the body.
    pub digest: [u8; 64],
    /// Ed25519 signature over [`signed_part`](Self::signed_part).
    pub signature: [u8; 64],
}

/// Name of a board: 1 to 16 visible ASCII characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoardName {
    /// Filled with zeros.
    bytes: [u8; BoardName::MAX_LEN],
}

/// Length of a body in bytes, 1 to [`BodySize::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BodySize(u32);

/// Why bytes are no header or no image file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// A header has [`ImageHeader::LEN`] bytes; a file has more.
    Length(usize),
    /// The first four bytes are others.
    Magic([u8; 4]),
    /// The header is of another version.
    HeaderVersion(u16),
    /// The header says that it has another length.
    HeaderLength(u16),
    /// The name of the board has this byte where a visible ASCII character or the filling must be, or has none at all (0).
    Board(u8),
    /// No body has this length.
    Size(u32),
    /// The body has another length than the header says.
    Body {
        /// What the header says.
        expected: u32,
        /// What is there.
        got: usize,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(got) => write!(f, "{got} bytes are no image header: {} are", ImageHeader::LEN),
            Self::Magic(got) => write!(f, "begins with {got:02x?}, an image with {MAGIC:02x?}"),
            Self::HeaderVersion(got) => write!(f, "image header version {got} is not known, {HEADER_VERSION} is"),
            Self::HeaderLength(got) => write!(f, "the image header says it has {got} bytes, not {}", ImageHeader::LEN),
            Self::Board(got) => write!(f, "byte 0x{got:02x} cannot be in the name of a board"),
            Self::Size(got) => write!(f, "no body has {got} bytes: 1 to {} are possible", BodySize::MAX),
            Self::Body { expected, got } => write!(f, "the body has {got} bytes, the header says {expected}"),
        }
    }
}

impl core::error::Error for ImageError {}

impl ImageHeader {
    /// Length of a header in bytes.
    pub const LEN: usize = 160;
    /// How many of them are signed: all before the signature.
    pub const SIGNED_LEN: usize = 96;

    /// Takes a header, all of whose bytes these are.
    ///
    /// # Errors
    /// Every variant of [`ImageError`] but `Body`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let length = |_: Truncated| ImageError::Length(bytes.len());
        let mut reader = Reader::new(bytes);
        let magic = reader.array().map_err(length)?;
        if magic != MAGIC {
            return Err(ImageError::Magic(magic));
        }
        let version = u16::from_le_bytes(reader.array().map_err(length)?);
        if version != HEADER_VERSION {
            return Err(ImageError::HeaderVersion(version));
        }
        let header_length = u16::from_le_bytes(reader.array().map_err(length)?);
        if header_length != HEADER_LENGTH {
            return Err(ImageError::HeaderLength(header_length));
        }
        let board = BoardName::from_filled(reader.array().map_err(length)?)?;
        let [major, minor] = reader.array().map_err(length)?;
        let patch = u16::from_le_bytes(reader.array().map_err(length)?);
        let size = BodySize::try_from(u32::from_le_bytes(reader.array().map_err(length)?))?;
        let digest = reader.array().map_err(length)?;
        let signature = reader.array().map_err(length)?;
        if !reader.is_empty() {
            return Err(ImageError::Length(bytes.len()));
        }
        Ok(Self { board, version: Version { major, minor, patch }, size, digest, signature })
    }

    /// Splits a whole file into its header and its body.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn split(file: &[u8]) -> Result<(Self, &[u8]), ImageError> {
        let (header, body) = file.split_at_checked(Self::LEN).ok_or(ImageError::Length(file.len()))?;
        let header = Self::parse(header)?;
        let expected = header.size.get();
        if usize::try_from(expected) != Ok(body.len()) {
            return Err(ImageError::Body { expected, got: body.len() });
        }
        Ok((header, body))
    }

    /// Returns the header's bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let (signed, signature) = out.split_at_mut(Self::SIGNED_LEN);
        signed.copy_from_slice(&self.signed_part());
        signature.copy_from_slice(&self.signature);
        out
    }

    /// Returns the bytes that are signed: all before the signature, which need not be right yet.
    #[must_use]
    pub fn signed_part(&self) -> [u8; Self::SIGNED_LEN] {
        let Version { major, minor, patch } = self.version;
        let [patch_low, patch_high] = patch.to_le_bytes();
        let pieces: [&[u8]; 7] = [
            &MAGIC,
            &HEADER_VERSION.to_le_bytes(),
            &HEADER_LENGTH.to_le_bytes(),
            &self.board.bytes,
            &[major, minor, patch_low, patch_high],
            &self.size.0.to_le_bytes(),
            &self.digest,
        ];
        let mut out = [0; Self::SIGNED_LEN];
        let bytes = pieces.into_iter().flatten();
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        out
    }
}

impl BoardName {
    /// Longest name.
    pub const MAX_LEN: usize = 16;

    /// Takes a name.
    ///
    /// # Errors
    /// [`ImageError::Board`] with the first byte that cannot be in a name, or with 0 where it is empty or too long.
    pub fn new(name: &str) -> Result<Self, ImageError> {
        let mut bytes = [0; Self::MAX_LEN];
        let place = bytes.get_mut(..name.len()).ok_or(ImageError::Board(0))?;
        place.copy_from_slice(name.as_bytes());
        Self::from_filled(bytes)
    }

    fn from_filled(bytes: [u8; Self::MAX_LEN]) -> Result<Self, ImageError> {
        let mut rest = bytes.iter().skip_while(|byte| byte.is_ascii_graphic()).copied();
        let ended = rest.next();
        let wrong = ended.filter(|byte| *byte != 0).or_else(|| rest.find(|byte| *byte != 0));
        match (wrong, bytes.first()) {
            (Some(wrong), _) => Err(ImageError::Board(wrong)),
            (None, Some(0)) => Err(ImageError::Board(0)),
            (None, _) => Ok(Self { bytes }),
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let used = self.bytes.iter().take_while(|byte| **byte != 0).count();
        // A name is ASCII and its filling is cut off, so that neither default is ever taken.
        core::str::from_utf8(self.bytes.get(..used).unwrap_or_default()).unwrap_or_default()
    }
}

impl fmt::Display for BoardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl BodySize {
    /// Longest body: 24 bits, the least that every place it is kept in holds.
    pub const MAX: u32 = 0x00FF_FFFF;

    /// Returns the length in bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for BodySize {
    type Error = ImageError;

    fn try_from(size: u32) -> Result<Self, ImageError> {
        if (1..=Self::MAX).contains(&size) { Ok(Self(size)) } else { Err(ImageError::Size(size)) }
    }
}

/// What every image file begins with.
const MAGIC: [u8; 4] = *b"GNIM";
const HEADER_VERSION: u16 = 1;
#[allow(clippy::cast_possible_truncation, reason = "160")]
const HEADER_LENGTH: u16 = ImageHeader::LEN as u16;
