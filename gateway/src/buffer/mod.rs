//! Makes observations durable and hands them to deliver.
//!
//! Two logs, telemetry and events, each with its own directory, quota and numbering (decision 0005). One thread owns the
//! disk. It numbers each observation, writes it at once (*accepted*: survives `kill -9`) and fsyncs
//! within the commit window (*durable*: survives a power cut); an [`Outlet`] reads durable bytes of one lane only, through
//! handles of its own. What holds after which failure: `gateway/docs/durability.md`. The bytes: `gateway/docs/buffer-format.md`.
//!
//! | file | owns |
//! |---|---|
//! | `writer.rs` | the thread |
//! | `log.rs` | append, commit; the disk in trouble |
//! | `rotate.rs` | the next segment: its file, what is carried over, what goes for it |
//! | `encode.rs`, `format.rs` | records to frames; headers, frames, cursor slots |
//! | `pool.rs` | files: spare, recycled, evicted |
//! | `lost.rs`, `missing.rs` | what goes with an evicted segment; what a damaged stretch held |
//! | `spans.rs`, `cursor.rs` | what is delivered: as a set, and on disk |
//! | `outlet.rs`, `scan.rs` | reading, in lanes |
//! | `recover.rs` | what an earlier run left, and the policy for it |
//! | `shared.rs` | what writer and outlets both know, and which lane reads what |
//! | `account.rs` | what one log tells the monitor |
//! | `storage.rs` | the disk |
//! | `rate.rs`, `ahead.rs`, `outlook.rs` | how fast the log grows, how long an outage is still covered |
//! | `predict.rs` | the same before it ever ran, and what it wears |
//! | `examine.rs` | looking at a log without serving it |
//!
//! **Invariants.** A segment found at open is never appended to. A number that was durable is never given again. Nothing
//! readable is given up except by the quota, and then it is declared before it goes. No two lanes hand out the same. After a failed fsync nothing is believed of that segment
//! but what was durable before.

mod account;
mod ahead;
mod cursor;
mod encode;
pub mod examine;
mod format;
mod log;
mod lost;
mod missing;
mod outlet;
pub mod outlook;
mod pool;
pub mod predict;
mod rate;
mod recover;
mod rotate;
mod scan;
mod shared;
mod spans;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use std::time::Instant;

use ganglion_protocols::Timestamp;
use tokio::sync::mpsc;
use tracing::{info, warn};

use self::account::Account;
use self::ahead::Ahead;
use self::cursor::Cursor;
use self::encode::Encoder;
use self::log::Log;
use self::lost::Losses;
use self::pool::Pool;
use self::shared::{Lane, Shared};
use self::writer::Served;
use crate::clock;
use crate::monitor::{LogName, Monitor};
use crate::pipeline::Offered;
use crate::site::{BufferSettings, Site, Stream};

pub use self::outlet::{Chunk, Outlet, Stored, StoredShape};
pub use self::spans::Span;
pub(crate) use self::storage::free_bytes;
pub use self::storage::{Disk, Storage, StorageFile};

/// Segments that `max_bytes` must have room for: the newest two are never reclaimed, and one more takes what comes.
pub const FEWEST_SEGMENTS: u64 = pool::FEWEST;

/// Observations that wait for the writer; a full channel makes normalize wait.
const INTAKE: usize = 256;

/// An open buffer.
pub struct Opened {
    /// What is measured; its backlog goes out in a lane of its own.
    pub telemetry: Telemetry,
    /// Alarms and changes of state.
    pub events: Events,
    /// Ends when both intakes are closed and all outlets dropped.
    pub writer: JoinHandle<()>,
}

/// The log of telemetry.
pub struct Telemetry {
    /// Identity of the log: a new one means that numbering began anew.
    pub epoch: u64,
    /// Takes observations. When the last sender is dropped, what is left is committed.
    pub intake: mpsc::Sender<Offered>,
    /// Hands out what is new.
    pub live: Outlet,
    /// Hands out what an outage left behind.
    pub backfill: Outlet,
}

/// The log of events.
pub struct Events {
    /// Identity of the log: a new one means that numbering began anew.
    pub epoch: u64,
    /// Takes events. When the last sender is dropped, what is left is committed.
    pub intake: mpsc::Sender<Offered>,
    /// Hands them out again.
    pub outlet: Outlet,
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
pub fn open(site: &Arc<Site>, monitor: &Arc<Monitor>) -> Result<Opened, OpenError> {
    let lock = lock(&site.data_dir)?;
    let (telemetry, live, backfill) = {
        let (log, shelf) = open_in(&site.data_dir, Kind::telemetry(site), monitor)?;
        (log, shelf.outlet(Lane::Live), shelf.outlet(Lane::Backfill))
    };
    let (events, outlet) = {
        let (log, shelf) = open_in(&site.data_dir, Kind::events(site), monitor)?;
        (log, shelf.outlet(Lane::Whole))
    };
    let (intake, observations) = mpsc::channel(INTAKE);
    let (event_intake, raised) = mpsc::channel(INTAKE);
    let telemetry_end = Telemetry { epoch: telemetry.epoch, intake, live, backfill };
    let events_end = Events { epoch: events.epoch, intake: event_intake, outlet };
    let served = (Served::new(events, raised), Served::new(telemetry, observations));
    let writer = writer::start(served, lock).map_err(OpenError::Thread)?;
    Ok(Opened { telemetry: telemetry_end, events: events_end, writer })
}

/// What tells one log from the other.
struct Kind {
    name: LogName,
    streams: Arc<[Stream]>,
    directory: String,
    settings: BufferSettings,
}

impl Kind {
    fn telemetry(site: &Site) -> Self {
        let streams = site.streams.as_slice().into();
        Self { name: LogName::Telemetry, streams, directory: site.directory.clone(), settings: site.buffer.clone() }
    }

    fn events(site: &Site) -> Self {
        let streams = site.event_streams.as_slice().into();
        let settings = site.event_buffer.clone();
        Self { name: LogName::Events, streams, directory: site.directory.clone(), settings }
    }
}

/// What the outlets of one log are made of.
struct Shelf {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    account: Account,
}

impl Shelf {
    fn outlet(&self, lane: Lane) -> Outlet {
        Outlet::new(lane, Arc::clone(&self.shared), Arc::clone(&self.storage), self.account.clone())
    }
}

/// Opens one log in its folder of the data directory.
fn open_in(data_dir: &Path, kind: Kind, monitor: &Arc<Monitor>) -> Result<(Log, Shelf), OpenError> {
    let dir = data_dir.join(match kind.name {
        LogName::Telemetry => "buffer",
        LogName::Events => "events",
    });
    let disk = Disk::new(&dir).map_err(|source| OpenError::DataDir { path: dir, source })?;
    open_on(disk, kind, monitor, fastrand::Rng::new(), (clock::now(), Instant::now()))
}

/// Opens one log on any storage, without a lock and without the thread.
fn open_on(
    storage: impl Storage + 'static,
    kind: Kind,
    monitor: &Arc<Monitor>,
    mut rng: fastrand::Rng,
    (t, now): (Timestamp, Instant),
) -> Result<(Log, Shelf), OpenError> {
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let Kind { name, streams, directory, mut settings } = kind;
    if settings.segment_bytes < format::PAGE {
        return Err(OpenError::SegmentBytes { got: settings.segment_bytes, least: format::PAGE });
    }
    settings.segment_bytes -= settings.segment_bytes % format::PAGE;
    let least = u64::from(settings.segment_bytes) * FEWEST_SEGMENTS;
    if settings.max_bytes < least {
        return Err(OpenError::Quota { max_bytes: settings.max_bytes, least });
    }

    let account = Account::new(Arc::clone(monitor), name);
    let recovered = recover::recover(&*storage, settings.segment_bytes, t)?;
    let epoch = recovered.epoch.unwrap_or_else(|| rng.u64(1..));
    let mut numbers = recovered.numbers;
    for stream in streams.iter() {
        let last_seq = *numbers.entry(stream.resource).or_insert(0);
        account.count(stream.resource, |ledger| ledger.last_seq = last_seq);
    }
    account.store(|store| store.epoch = format!("{epoch:016x}"));
    recovered.marks.iter().for_each(|(resource, (origin, t))| account.durable_origin(*resource, *origin, *t));
    let shared = Arc::new(Shared::new(recovered.segments, recovered.delivered, now));
    let pool = Pool::new(
        Arc::clone(&storage),
        Arc::clone(&shared),
        settings.segment_bytes,
        settings.max_bytes,
        recovered.spares,
    );
    let shelf = Shelf { shared: Arc::clone(&shared), storage: Arc::clone(&storage), account: account.clone() };
    let mut undeclared = Losses::default();
    recovered.lost.into_iter().for_each(|gap| undeclared.add(gap));
    let log = Log {
        storage,
        shared,
        account,
        settings,
        epoch,
        rng,
        numbers,
        taken: recovered.marks.iter().map(|(resource, (origin, _))| (*resource, *origin)).collect(),
        marks: recovered.marks,
        next_segment: recovered.next_segment,
        encoder: Encoder::new(streams, directory),
        pool,
        cursor: Cursor::new(epoch, recovered.cursor),
        active: None,
        pending: Vec::new(),
        written: 0,
        undeclared,
        declared: Losses::default(),
        refused: BTreeMap::new(),
        late: 0,
        commit_due: None,
        cursor_due: None,
        cursor_refused: false,
        trouble: None,
        ahead: Ahead::default(),
    };
    log.report();
    let (bytes, segments) = shelf.account.store(|store| (store.bytes, store.segments));
    info!(log = ?name, epoch = format!("{epoch:016x}"), bytes, segments, "buffer open");
    Ok((log, shelf))
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
