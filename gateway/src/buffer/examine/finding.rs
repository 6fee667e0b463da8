//! What can be wrong with the files of a log, and what it means for the data.

use std::fmt;

/// One thing that is wrong, or worth a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Name of the file in the log's directory.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What it is.
    pub trouble: Trouble,
}

/// How much a finding counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// Nothing is wrong.
    Note,
    /// Something is damaged.
    Damage,
    /// Something could not be read, so that nobody can say.
    Unread,
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The header at the start does not verify, its copy does.
    Header,
    /// The copy of the header at the end does not verify.
    HeaderCopy,
    /// Neither header verifies.
    BothHeaders {
        /// Length of the file.
        bytes: u64,
    },
    /// The file is not as long as its header says.
    Length {
        /// Length by the header.
        told: u32,
        /// Length of the file.
        bytes: u64,
    },
    /// The header is of another segment.
    OtherNumber {
        /// The number it holds.
        got: u64,
    },
    /// A stretch that was durable does not verify.
    Hole {
        /// Its length.
        bytes: u32,
        /// Most observations that it can have held.
        observations: u64,
    },
    /// A stretch that was never known durable does not verify.
    Torn {
        /// Its length.
        bytes: u32,
        /// Most observations that it can have held.
        observations: u64,
    },
    /// A frame verifies and holds a record of no known form.
    Record {
        /// Why.
        error: String,
        /// Bytes of records in the frame.
        bytes: u32,
    },
    /// A frame verifies and does not hold as many observations as it says.
    Count {
        /// Observations by its head.
        told: u32,
        /// Observations found.
        held: u32,
    },
    /// The records that name these observations are damaged.
    Unnamed {
        /// How many.
        observations: u64,
    },
    /// The operating system refuses to read.
    Withheld {
        /// What it says.
        error: String,
    },
    /// The daemon took the segment away while it was read.
    Recycled,
    /// A slot of the cursor does not verify.
    Slot,
    /// A slot of the cursor is of another store.
    SlotOfAnother {
        /// The epoch it holds.
        epoch: u64,
    },
}

impl Finding {
    pub(super) fn at(file: &str, offset: u64, trouble: Trouble) -> Self {
        Self { file: file.to_owned(), offset, trouble }
    }

    /// Returns how much it counts.
    #[must_use]
    pub const fn weight(&self) -> Weight {
        match self.trouble {
            Trouble::Torn { .. } | Trouble::OtherNumber { .. } | Trouble::Recycled | Trouble::SlotOfAnother { .. } => {
                Weight::Note
            }
            Trouble::Withheld { .. } => Weight::Unread,
            _ => Weight::Damage,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header is damaged; its copy at the end is whole, nothing is lost"),
            Self::HeaderCopy => {
                f.write_str("the header's copy is damaged; the header at the start is whole, nothing is lost")
            }
            Self::BothHeaders { bytes } => {
                write!(f, "both headers are damaged: none of its {bytes} bytes can be read, the daemon will remove it")
            }
            Self::Length { told, bytes } => {
                write!(f, "the file has {bytes} bytes and should have {told}: what stood behind is lost")
            }
            Self::OtherNumber { got } => {
                write!(f, "holds the header of segment {got}: a spare whose name the disk forgot, nothing is lost")
            }
            Self::Hole { bytes, observations } => {
                write!(f, "{bytes} bytes are damaged: at most {observations} observations are lost")
            }
            Self::Torn { bytes, observations } => write!(
                f,
                "{bytes} bytes were never known durable: torn by a power cut, or being written now; at most {observations} observations"
            ),
            Self::Record { error, bytes } => {
                write!(f, "{error}: the rest of these {bytes} bytes of records cannot be read")
            }
            Self::Count { told, held } => write!(f, "the frame says {told} observations and holds {held}"),
            Self::Unnamed { observations } => {
                write!(f, "{observations} observations are whole and lost all the same: what names them is damaged")
            }
            Self::Withheld { error } => {
                write!(f, "cannot be read ({error}): what follows in this file is not known, it may be whole")
            }
            Self::Recycled => f.write_str(
                "the daemon took this segment away while it was read: the rest of it is delivered or given up",
            ),
            Self::Slot => f.write_str("a slot of the cursor is damaged: some of what is delivered may go out again"),
            Self::SlotOfAnother { epoch } => {
                write!(f, "a slot of the cursor is of another store, {epoch:016x}, and counts for nothing")
            }
        }
    }
}
