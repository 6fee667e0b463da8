//! Makes observations durable and hands them to deliver, oldest first.
//!
//! One thread owns the disk. It numbers each observation, writes it at once (*accepted*: survives `kill -9`) and fsyncs
//! within the commit window (*durable*: survives a power cut); the [`Outlet`] reads durable bytes only, through handles
//! of its own. What holds after which failure: `gateway/docs/durability.md`. The bytes: `gateway/docs/buffer-format.md`.
//!
//! | file | owns |
//! |---|---|
//! | `writer.rs` | the thread |
//! | `log.rs` | append, commit, rotate; the disk in trouble |
//! | `encode.rs`, `format.rs` | records to frames; headers, frames, cursor slots |
//! | `pool.rs` | files: spare, recycled, evicted |
//! | `cursor.rs` | what is delivered |
//! | `outlet.rs`, `scan.rs` | reading |
//! | `recover.rs` | what an earlier run left, and the policy for it |
//! | `shared.rs` | what writer and outlet both know |
//! | `storage.rs` | the disk |
//! | `rate.rs`, `ahead.rs`, `outlook.rs` | how fast the log grows, how long an outage is still covered |
//! | `predict.rs` | the same before it ever ran, and what it wears |
//! | `examine.rs` | looking at a log without serving it |
//!
//! **Invariants.** A segment found at open is never appended to. A number that was durable is never given again. Nothing
//! readable is given up except by the quota, and then counted. After a failed fsync nothing is believed of that segment
//! but what was durable before.

mod ahead;
mod cursor;
mod encode;
pub mod examine;
mod format;
mod log;
mod outlet;
pub mod outlook;
mod pool;
pub mod predict;
mod rate;
mod recover;
mod scan;
mod shared;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tracing::{info, warn};

use self::ahead::Ahead;
use self::cursor::Cursor;
use self::encode::Encoder;
use self::log::Log;
use self::pool::Pool;
use self::shared::Shared;
use crate::monitor::Monitor;
use crate::pipeline::Unnumbered;
use crate::site::Site;

pub use self::format::Position;
pub use self::outlet::{Chunk, Outlet, Stored, StoredShape};
pub(crate) use self::storage::free_bytes;
pub use self::storage::{Disk, Storage, StorageFile};

/// Segments that `max_bytes` must have room for: the newest two are never reclaimed, and one more takes what comes.
pub const FEWEST_SEGMENTS: u64 = pool::FEWEST;

/// Observations that wait for the writer; a full channel makes normalize wait.
const INTAKE: usize = 256;

/// An open buffer.
pub struct Opened {
    /// Identity of the store: a new one means that numbering began anew.
    pub epoch: u64,
    /// Takes observations. When the last sender is dropped, what is left is committed.
    pub intake: mpsc::Sender<Unnumbered>,
    /// Hands them out again.
    pub outlet: Outlet,
    /// Ends when the intake is closed and the outlet dropped.
    pub writer: JoinHandle<()>,
}

/// Why the buffer cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process serves this data directory.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The other process, if it left its number.
        pid: Option<u32>,
    },
    /// The lock file or the directory cannot be made or used.
    DataDir {
        /// What it was.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The disk refuses to be read.
    Disk {
        /// What was tried.
        doing: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
    /// A later edition wrote this buffer; it is left as it is.
    NewerFormat {
        /// The file.
        file: String,
        /// Its format version.
        got: u16,
        /// The newest version this edition reads.
        known: u16,
    },
    /// A segment is shorter than one page.
    SegmentBytes {
        /// Bytes asked for.
        got: u32,
        /// Fewest bytes.
        least: u32,
    },
    /// The quota holds fewer segments than the buffer needs.
    Quota {
        /// Bytes asked for.
        max_bytes: u64,
        /// Fewest bytes with segments of the size asked for.
        least: u64,
    },
    /// The writer thread cannot be started.
    Thread(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path, pid: Some(pid) } => write!(f, "process {pid} already holds {}", path.display()),
            Self::Locked { path, pid: None } => write!(f, "another process already holds {}", path.display()),
            Self::DataDir { path, .. } => write!(f, "cannot use {}", path.display()),
            Self::Disk { doing, .. } => write!(f, "cannot {doing}"),
            Self::NewerFormat { file, got, known } => {
                write!(f, "{file} has buffer format version {got}, this edition reads up to {known}")
            }
            Self::SegmentBytes { got, least } => write!(f, "a segment of {got} bytes is below {least}"),
            Self::Quota { max_bytes, least } => write!(f, "a buffer of {max_bytes} bytes is below {least}"),
            Self::Thread(_) => f.write_str("cannot start the buffer's thread"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::DataDir { source, .. } | Self::Disk { source, .. } | Self::Thread(source) => Some(source),
            _ => None,
        }
    }
}

/// Opens the buffer in the site's data directory, which is then locked against other processes until the writer ends.
///
/// # Errors
/// See [`OpenError`].
pub fn open(site: &Arc<Site>, monitor: Arc<Monitor>) -> Result<Opened, OpenError> {
    let lock = lock(&site.data_dir)?;
    let dir = site.data_dir.join("buffer");
    let disk = Disk::new(&dir).map_err(|source| OpenError::DataDir { path: dir, source })?;
    let (log, outlet) = open_on(disk, site, monitor, fastrand::Rng::new())?;
    let epoch = log.epoch;
    let (intake, receiver) = mpsc::channel(INTAKE);
    let writer = writer::start(log, receiver, lock).map_err(OpenError::Thread)?;
    Ok(Opened { epoch, intake, outlet, writer })
}

/// Opens the buffer on any storage, without a lock and without the thread.
fn open_on(
    storage: impl Storage + 'static,
    site: &Arc<Site>,
    monitor: Arc<Monitor>,
    mut rng: fastrand::Rng,
) -> Result<(Log, Outlet), OpenError> {
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let mut settings = site.buffer.clone();
    if settings.segment_bytes < format::PAGE {
        return Err(OpenError::SegmentBytes { got: settings.segment_bytes, least: format::PAGE });
    }
    settings.segment_bytes -= settings.segment_bytes % format::PAGE;
    let least = u64::from(settings.segment_bytes) * FEWEST_SEGMENTS;
    if settings.max_bytes < least {
        return Err(OpenError::Quota { max_bytes: settings.max_bytes, least });
    }

    let recovered = recover::recover(&*storage, settings.segment_bytes)?;
    let epoch = recovered.epoch.unwrap_or_else(|| rng.u64(1..));
    let mut numbers = recovered.numbers;
    for stream in &site.streams {
        let last_seq = *numbers.entry(stream.resource).or_insert(0);
        monitor.count(stream.resource, |ledger| ledger.last_seq = last_seq);
    }
    monitor.opened(epoch);
    let shared = Arc::new(Shared::new(recovered.segments, recovered.acked));
    let pool = Pool::new(
        Arc::clone(&storage),
        Arc::clone(&shared),
        Arc::clone(&monitor),
        settings.segment_bytes,
        settings.max_bytes,
        recovered.spares,
    );
    let outlet = Outlet::new(Arc::clone(&shared), Arc::clone(&storage), Arc::clone(&monitor));
    let log = Log {
        storage,
        shared,
        monitor,
        settings,
        epoch,
        rng,
        numbers,
        next_segment: recovered.next_segment,
        encoder: Encoder::new(Arc::clone(site)),
        pool,
        cursor: Cursor::new(epoch, recovered.cursor),
        active: None,
        pending: Vec::new(),
        written: 0,
        commit_due: None,
        cursor_due: None,
        cursor_refused: false,
        trouble: None,
        ahead: Ahead::default(),
    };
    log.report();
    let snapshot = log.monitor.snapshot().store;
    info!(epoch = format!("{epoch:016x}"), bytes = snapshot.bytes, segments = snapshot.segments, "buffer open");
    Ok((log, outlet))
}

/// Takes the lock file of a data directory and writes this process's number into it.
fn lock(data_dir: &Path) -> Result<File, OpenError> {
    let path = data_dir.join("lock");
    let failed = |source| OpenError::DataDir { path: path.clone(), source };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
    let mut file = match fs::create_dir_all(data_dir).and_then(|()| options.open(&path)) {
        // A file system that went read-only still has a backlog to deliver.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(&path).map_err(|_| failed(error))?
        }
        result => result.map_err(failed)?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::Locked { path, pid });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    // The number is for the person who reads the refusal; a full or read-only disk need not hold it.
    if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
        warn!(path = %path.display(), %error, "cannot write the process number");
    }
    Ok(file)
}
