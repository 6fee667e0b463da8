//! Looks at a log without serving it: takes no lock, writes nothing, and works beside a running daemon and on the disk of
//! a dead gateway.
//!
//! [`StoredLog::open`] reads what the files say of themselves, [`StoredLog::walk`] then every byte that counts, oldest
//! first. Bytes behind the end of a segment are void and not looked at. What is wrong becomes a [`Finding`] and the walk
//! goes on behind it; only a newer format version is refused. A segment that the daemon recycles while it is read is said
//! to be so and is no damage.
//!
//! | file | owns |
//! |---|---|
//! | `delivered.rs` | what the cursor says: the one place that knows its form |
//! | `finding.rs` | what can be wrong, and what it means for the data |
//! | `walk.rs` | every frame and record |
//! | `numbering.rs` | numbers that are not there |

mod delivered;
mod finding;
mod numbering;
mod walk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ganglion_protocols::{Cri, Gap, Origin};

use self::delivered::Delivered;
use super::format::{HEADER_LEN, SegmentHeader, Unreadable, VERSION, segment_number};
use super::outlet::Stored;
use super::storage::{Disk, Storage, StorageFile};

pub use self::finding::{Finding, Trouble, Weight};
pub use self::numbering::{Cause, Jump, Numbering, Numbers};

/// Why a log cannot be looked at.
#[derive(Debug)]
pub enum ExamineError {
    /// The directory or one of its files cannot be read.
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A later edition wrote it.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        got: u16,
        /// The newest version this edition reads.
        known: u16,
    },
}

impl fmt::Display for ExamineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::Newer { path, got, known } => {
                write!(f, "{} has format version {got}, this edition reads up to {known}", path.display())
            }
        }
    }
}

impl std::error::Error for ExamineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Newer { .. } => None,
        }
    }
}

/// The files of one log, as they were when it was opened.
pub struct StoredLog {
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    segments: Vec<SegmentFile>,
    spares: Vec<(String, u64)>,
    delivered: Delivered,
    findings: Vec<Finding>,
}

/// One segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentFile {
    /// Its number.
    pub number: u64,
    /// Name of its file.
    pub name: String,
    /// Length of its file in bytes.
    pub bytes: u64,
    /// Its format version.
    pub version: u16,
    header: SegmentHeader,
    /// Where it ends and up to where it was durable then, if the segment after it says so.
    end: Option<(u32, u32)>,
}

impl SegmentFile {
    /// Returns the identity of the store that wrote it.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.header.epoch
    }
}

/// What a walk comes by.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A segment begins; what follows is in it.
    Segment(&'a SegmentFile),
    /// Between the segment before and the next, others are not there, or are no longer.
    Missing {
        /// The number of the first of them.
        from: u64,
        /// The number of the last of them.
        to: u64,
        /// Whether all they held is delivered, or was when the daemon took it away.
        delivered: bool,
    },
    /// The last number given to a resource before this segment.
    LastSeq {
        /// The resource.
        resource: Cri,
        /// Its last number.
        seq: u64,
    },
    /// An observation.
    Observation {
        /// Where its frame begins in the segment.
        offset: u32,
        /// Whether it is delivered.
        delivered: bool,
        /// The observation.
        stored: Stored,
    },
    /// A loss that was declared.
    Gap(Gap),
    /// Up to where a source's samples of a resource are taken.
    Mark {
        /// The resource.
        resource: Cri,
        /// The last of the source's samples that is taken.
        origin: Origin,
    },
    /// A stretch that cannot be read; a [`Finding`] says more of it at the end of the segment.
    Hole {
        /// Most observations that it can have held.
        observations: u64,
    },
    /// Something is wrong.
    Finding(Finding),
}

impl StoredLog {
    /// Reads the names, headers and cursor of a log.
    ///
    /// # Errors
    /// See [`ExamineError`].
    pub fn open(dir: &Path) -> Result<Self, ExamineError> {
        Self::open_on(Arc::new(Disk::as_it_is(dir)), dir)
    }

    /// Does the same on any storage.
    pub(super) fn open_on(storage: Arc<dyn Storage>, dir: &Path) -> Result<Self, ExamineError> {
        let names = storage.list().map_err(|source| ExamineError::Io { path: dir.to_owned(), source })?;
        let mut log = Self {
            dir: dir.to_owned(),
            delivered: Delivered::default(),
            storage,
            segments: Vec::new(),
            spares: Vec::new(),
            findings: Vec::new(),
        };
        for name in names {
            if let Some(number) = segment_number(&name) {
                log.open_segment(number, name)?;
            } else if name.starts_with("free-") {
                let size = log.storage.open_to_read(&name).and_then(|file| file.size());
                // One that the daemon has just taken is a segment by now.
                log.spares.extend(size.ok().map(|size| (name, size)));
            }
        }
        log.segments.sort_unstable_by_key(|segment| segment.number);
        log.spares.sort();
        log.tell_ends();
        log.delivered =
            Delivered::read(&*log.storage, log.epoch(), &mut log.findings).map_err(|error| match error {
                Unreadable::Newer { got } => log.newer(delivered::NAME, got),
                Unreadable::Damaged => log.newer(delivered::NAME, VERSION),
            })?;
        Ok(log)
    }

    fn newer(&self, name: &str, got: u16) -> ExamineError {
        ExamineError::Newer { path: self.dir.join(name), got, known: VERSION }
    }

    fn open_segment(&mut self, number: u64, name: String) -> Result<(), ExamineError> {
        let file = match self.storage.open_to_read(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.findings.push(Finding::at(&name, 0, Trouble::Withheld { error: error.to_string() }));
                return Ok(());
            }
        };
        let (bytes, first, second) = match read_headers(&*file) {
            Ok(read) => read,
            Err(error) => {
                self.findings.push(Finding::at(&name, 0, Trouble::Withheld { error: error.to_string() }));
                return Ok(());
            }
        };
        for bytes in [&first, &second] {
            if let Err(Unreadable::Newer { got }) = SegmentHeader::decode(bytes) {
                return Err(self.newer(&name, got));
            }
        }
        let copy_at = bytes.saturating_sub(u64::from(HEADER_LEN));
        let (header, version, wrong) = match (SegmentHeader::decode(&first), SegmentHeader::decode(&second)) {
            (Ok(header), Ok(_)) => (header, version(&first), None),
            (Ok(header), Err(_)) => (header, version(&first), Some((copy_at, Trouble::HeaderCopy))),
            (Err(_), Ok(header)) => (header, version(&second), Some((0, Trouble::Header))),
            (Err(_), Err(_)) => {
                if self.is_there(&name) {
                    self.findings.push(Finding::at(&name, 0, Trouble::BothHeaders { bytes }));
                }
                return Ok(());
            }
        };
        if header.number != number {
            // Recycled just now, or a spare whose renaming the disk forgot: nothing in it was durable.
            if self.is_there(&name) {
                self.findings.push(Finding::at(&name, 0, Trouble::OtherNumber { got: header.number }));
            }
            return Ok(());
        }
        self.findings.extend(wrong.map(|(at, trouble)| Finding::at(&name, at, trouble)));
        if u64::from(header.size) != bytes {
            let trouble = Trouble::Length { told: header.size, bytes };
            self.findings.push(Finding::at(&name, bytes.min(u64::from(header.size)), trouble));
        }
        self.segments.push(SegmentFile { number, name, bytes, version, header, end: None });
        Ok(())
    }

    fn tell_ends(&mut self) {
        let mut after: Option<SegmentHeader> = None;
        for segment in self.segments.iter_mut().rev() {
            segment.end = after
                .filter(|after| after.previous == segment.number && after.epoch == segment.header.epoch)
                .map(|after| (after.previous_end.min(segment.header.frames_end()), after.previous_synced));
            after = Some(segment.header);
        }
    }

    fn is_there(&self, name: &str) -> bool {
        // Asked anew: the handle stays good when the file gets another name.
        !matches!(self.storage.open_to_read(name), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Returns the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the identity of the store; `None` when nothing was ever written, or nothing of it can be read.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.segments.last().map(SegmentFile::epoch)
    }

    /// Returns the segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// Returns the names and lengths of the empty segments.
    #[must_use]
    pub fn spares(&self) -> &[(String, u64)] {
        &self.spares
    }

    /// Returns the format version of the cursor; `None` without a cursor.
    #[must_use]
    pub fn cursor_version(&self) -> Option<u16> {
        self.delivered.version()
    }

    /// Says in words what the cursor holds delivered.
    #[must_use]
    pub fn delivered_in_words(&self) -> String {
        self.delivered.to_string()
    }

    /// Returns what headers and cursor have shown to be wrong.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

type HeaderBytes = [u8; HEADER_LEN as usize];

/// Returns the length of a segment's file and both copies of its header.
fn read_headers(file: &dyn StorageFile) -> io::Result<(u64, HeaderBytes, HeaderBytes)> {
    let bytes = file.size()?;
    let read = |offset: u64| {
        let mut out = [0; HEADER_LEN as usize];
        // One that is cut short does not verify, as zeros do not.
        file.read_at(&mut out, offset).map(|_| out)
    };
    Ok((bytes, read(0)?, read(bytes.saturating_sub(u64::from(HEADER_LEN)))?))
}

/// Returns the format version of a header or a slot, which keeps its place in every version.
const fn version<const N: usize>(header: &[u8; N]) -> u16 {
    u16::from_le_bytes([header[8], header[9]])
}
