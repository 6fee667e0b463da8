//! The log of a disk's writes that QEMU's `blklogwrites` makes, in the form of the kernel's dm-log-writes (Linux,
//! Documentation/admin-guide/device-mapper/log-writes.rst). QEMU adds an entry when the write or flush is done and before
//! the guest hears of it, so whatever the guest knew to be done stands before whatever it did then.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

/// A log in memory.
pub(crate) struct WriteLog {
    bytes: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
}

/// What the disk was asked for.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// Everything before is durable then.
    Flush,
    /// Bytes at a place; `forced` ones are durable at once.
    Write { at: u64, data: Range<usize>, forced: bool },
    /// Neither.
    Other,
}

/// Why a log cannot be read.
#[derive(Debug)]
pub(crate) enum LogError {
    Io(io::Error),
    /// It does not begin as a log.
    Magic(u64),
    /// It ends in this entry.
    Short(u64),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Magic(found) => write!(f, "begins with {found:x}, not {MAGIC:x}"),
            Self::Short(entry) => write!(f, "ends in entry {entry}"),
        }
    }
}

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FORCED: u64 = 2;
const DISCARD: u64 = 4;
/// Sectors of a disk, in which places and lengths are counted, and of the log are both this long here.
const SECTOR: u64 = 512;

impl WriteLog {
    pub(crate) fn read(path: &Path) -> Result<Self, LogError> {
        let bytes = fs::read(path).map_err(LogError::Io)?;
        let word = |at: u64, entry: u64| {
            let at = usize::try_from(at).map_err(|_| LogError::Short(entry))?;
            let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).ok_or(LogError::Short(entry))?;
            Ok(u64::from_le_bytes(word))
        };
        let magic = word(0, 0)?;
        if magic != MAGIC {
            return Err(LogError::Magic(magic));
        }
        let count = word(16, 0)?;
        let mut entries = Vec::new();
        let mut at = SECTOR;
        for entry in 0..count {
            let (sector, sectors, flags) = (word(at, entry)?, word(at + 8, entry)?, word(at + 16, entry)?);
            at += SECTOR;
            let length = if flags & DISCARD == 0 { sectors * SECTOR } else { 0 };
            let data = usize::try_from(at).ok().zip(usize::try_from(at + length).ok());
            let (from, to) = data.filter(|(_, to)| *to <= bytes.len()).ok_or(LogError::Short(entry))?;
            at += length;
            entries.push(match (flags & FLUSH, length) {
                (FLUSH, _) => Entry::Flush,
                (_, 0) => Entry::Other,
                _ => Entry::Write { at: sector * SECTOR, data: from..to, forced: flags & FORCED != 0 },
            });
        }
        Ok(Self { bytes, entries })
    }

    /// Returns the bytes of a write.
    pub(crate) fn data(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }
}
