//! File records, functions 0x14 and 0x15: views of several groups in one PDU.
//!
//! A view exists only when every group in it is whole and within its limits, so its iterator leaves nothing out.

use super::error::{Defect, PduError};
use super::items::Words;

/// The only reference type, §6.14.
const REFERENCE_TYPE: u8 = 6;
/// Bytes before the record of a group: reference type, file, record, length.
const GROUP_HEAD: usize = 7;
/// Most registers of a group to read: with length and type they must fit the 245 bytes of an answer, §6.14.
const MAX_READ: u16 = 121;
/// Most registers of a group to write: with its head they must fit 251 bytes, §6.15.
const MAX_WRITE: u16 = 122;
/// Highest record number, §6.14.
const MAX_RECORD: u16 = 0x270F;

/// One group of a read file record request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileRead {
    /// File number, 1..=65535.
    pub file: u16,
    /// Number of the first record, 0..=9999.
    pub record: u16,
    /// Registers to read.
    pub count: u16,
}

/// One group of a write file record request or answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileWrite<'a> {
    /// File number, 1..=65535.
    pub file: u16,
    /// Number of the first record, 0..=9999.
    pub record: u16,
    /// The registers.
    pub words: Words<'a>,
}

/// What a read file record request asks for: one group or more.
///
/// Source: Application Protocol V1.1b3 §6.14.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileReads<'a>(&'a [u8]);

impl<'a> FileReads<'a> {
    /// Takes the groups, 7..=245 bytes, each seven: reference type 6, file, record, count of registers.
    ///
    /// # Errors
    /// With `at` counted from the first group.
    pub fn parse(groups: &'a [u8]) -> Result<Self, PduError> {
        size(groups, GROUP_HEAD, 0xF5)?;
        let (every, []) = groups.as_chunks::<GROUP_HEAD>() else {
            let expected = groups.len().next_multiple_of(GROUP_HEAD);
            let what = Defect::Truncated { needed: expected, got: groups.len() };
            return Err(PduError { at: groups.len(), what });
        };
        every.iter().zip((0..).step_by(GROUP_HEAD)).try_for_each(|(group, at)| head(at, *group, MAX_READ).map(drop))?;
        Ok(Self(groups))
    }

    /// Returns the groups in order.
    pub fn iter(self) -> impl Iterator<Item = FileRead> + Clone + 'a {
        self.0.as_chunks::<GROUP_HEAD>().0.iter().filter_map(|group| head(0, *group, MAX_READ).ok())
    }

    /// Returns the groups as they lie on the wire.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// What a write file record request writes, and its answer repeats: one group or more.
///
/// Source: Application Protocol V1.1b3 §6.15.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileWrites<'a>(&'a [u8]);

impl<'a> FileWrites<'a> {
    /// Takes the groups, 9..=251 bytes, each: reference type 6, file, record, count of registers, registers.
    ///
    /// # Errors
    /// With `at` counted from the first group.
    pub fn parse(groups: &'a [u8]) -> Result<Self, PduError> {
        size(groups, GROUP_HEAD.saturating_add(2), 0xFB)?;
        let mut rest = groups;
        while !rest.is_empty() {
            (_, rest) = Self::take(rest).map_err(|error| error.further(groups.len().saturating_sub(rest.len())))?;
        }
        Ok(Self(groups))
    }

    fn take(groups: &'a [u8]) -> Result<(FileWrite<'a>, &'a [u8]), PduError> {
        let truncated = |needed| PduError { at: groups.len(), what: Defect::Truncated { needed, got: groups.len() } };
        let (group, rest) = groups.split_first_chunk::<GROUP_HEAD>().ok_or(truncated(GROUP_HEAD))?;
        let FileRead { file, record, count } = head(0, *group, MAX_WRITE)?;
        let len = usize::from(count).saturating_mul(2);
        let (words, rest) = rest.split_at_checked(len).ok_or(truncated(GROUP_HEAD.saturating_add(len)))?;
        Ok((FileWrite { file, record, words: Words::new(words).unwrap_or_default() }, rest))
    }

    /// Returns the groups in order.
    pub fn iter(self) -> impl Iterator<Item = FileWrite<'a>> + Clone + 'a {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (group, after) = Self::take(rest).ok()?;
            rest = after;
            Some(group)
        })
    }

    /// Returns the groups as they lie on the wire.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// What a read file record answer holds: the registers of one group or more, in the order of the request.
///
/// Source: Application Protocol V1.1b3 §6.14.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileData<'a>(&'a [u8]);

impl<'a> FileData<'a> {
    /// Takes the groups, 4..=245 bytes, each: length of what follows, reference type 6, registers.
    ///
    /// # Errors
    /// With `at` counted from the first group.
    pub fn parse(groups: &'a [u8]) -> Result<Self, PduError> {
        size(groups, 4, 0xF5)?;
        let mut rest = groups;
        while !rest.is_empty() {
            (_, rest) = Self::take(rest).map_err(|error| error.further(groups.len().saturating_sub(rest.len())))?;
        }
        Ok(Self(groups))
    }

    fn take(groups: &'a [u8]) -> Result<(Words<'a>, &'a [u8]), PduError> {
        let (len, rest) = groups.split_first().unwrap_or((&0, &[]));
        let Some((group, rest)) = rest.split_at_checked(usize::from(*len)) else {
            let needed = usize::from(*len).saturating_add(1);
            return Err(PduError { at: groups.len(), what: Defect::Truncated { needed, got: groups.len() } });
        };
        match group {
            [] => Err(PduError { at: 0, what: Defect::ByteCount { got: 0, expected: 3 } }),
            [REFERENCE_TYPE, words @ ..] => match Words::new(words) {
                Some(words) if !words.is_empty() => Ok((words, rest)),
                Some(_) => Err(PduError { at: 0, what: Defect::ByteCount { got: 1, expected: 3 } }),
                None => Err(PduError { at: 0, what: Defect::OddByteCount { got: words.len() } }),
            },
            [got, ..] => Err(PduError { at: 1, what: Defect::ReferenceType { got: *got } }),
        }
    }

    /// Returns the registers of each group in order.
    pub fn iter(self) -> impl Iterator<Item = Words<'a>> + Clone + 'a {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (words, after) = Self::take(rest).ok()?;
            rest = after;
            Some(words)
        })
    }

    /// Returns the groups as they lie on the wire.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Takes the seven bytes that say which records of which file.
fn head(at: usize, group: [u8; GROUP_HEAD], max: u16) -> Result<FileRead, PduError> {
    let [reference, f0, f1, r0, r1, n0, n1] = group;
    let wrong = |offset: usize, what| Err(PduError { at: at.saturating_add(offset), what });
    let (file, record) = (u16::from_be_bytes([f0, f1]), u16::from_be_bytes([r0, r1]));
    if reference != REFERENCE_TYPE {
        return wrong(0, Defect::ReferenceType { got: reference });
    }
    if file == 0 {
        return wrong(1, Defect::FileNumber);
    }
    if record > MAX_RECORD {
        return wrong(3, Defect::RecordNumber { got: record });
    }
    let count = super::count(at.saturating_add(5), [n0, n1], max)?;
    Ok(FileRead { file, record, count })
}

/// Refuses groups that together are shorter or longer than the function allows. Their byte count stands right before.
fn size(groups: &[u8], least: usize, most: usize) -> Result<(), PduError> {
    let got = groups.len();
    let expected = got.clamp(least, most);
    if got == expected {
        Ok(())
    } else {
        let got = u16::try_from(got).unwrap_or(u16::MAX);
        Err(PduError { at: 0, what: Defect::ByteCount { got, expected } })
    }
}
