//! The reading end of the buffer: durable observations, oldest first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::record::Record;
use ganglion_protocols::{Clock, Cri, Reading, Timestamp};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::format::{HEADER_LEN, Position, saturate};
use super::scan::{SegmentError, SegmentReader, Shapes, Step, records};
use super::shared::{Shared, View};
use super::storage::Storage;
use crate::monitor::Monitor;
use crate::site::NamedProperty;

/// Bytes of records after which a chunk is complete.
const CHUNK_BYTES: usize = 256 * 1024;
/// Pause before a segment that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a segment is tried whose file is gone.
const TRIES_GONE: u32 = 5;
/// How often a segment is tried that the disk does not hand out: what lies behind a bad sector shall not wait for ever.
const TRIES: u32 = 300;

/// Durable observations in the order of their writing.
#[derive(Clone, PartialEq, Debug)]
pub struct Chunk {
    /// The place behind them, for [`Outlet::acknowledge`].
    pub end: Position,
    /// At least one.
    pub observations: Vec<Stored>,
}

/// One durable observation.
#[derive(Clone, PartialEq, Debug)]
pub struct Stored {
    /// Whose readings, and what they mean; the same allocation while it stays the same from segment to segment.
    pub shape: Arc<StoredShape>,
    /// Its number among all of its resource.
    pub seq: u64,
    /// Time of measurement.
    pub t: Timestamp,
    /// State of the clock then.
    pub clock: Clock,
    /// One reading for each property of the shape, in its order.
    pub readings: Vec<Reading>,
}

/// What one stream of observations looked like when it was stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredShape {
    /// The resource observed.
    pub resource: Cri,
    /// Domain of its class in the code directory.
    pub domain: String,
    /// Edition of the code directory that names the properties.
    pub directory: String,
    /// The properties, in the order of the readings; the same allocation for equal lists.
    pub properties: Arc<[NamedProperty]>,
}

/// Hands out what is durable and takes back what is delivered. The writer goes on until it is dropped, so that the last
/// acknowledgements of a drain are kept.
pub struct Outlet {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    monitor: Arc<Monitor>,
    at: Position,
    /// Damage before this has been reported.
    reported: Position,
    open: Option<Open>,
    /// Nothing is tried before this. A field, so that cancelling [`Outlet::next`] shortens no pause.
    retry_at: Option<Instant>,
    failures: u32,
    /// What was last logged of the segment that cannot be read now.
    refused: Option<(u64, io::ErrorKind)>,
}

/// The segment being read.
struct Open {
    number: u64,
    reader: SegmentReader,
    shapes: Shapes,
    /// Shapes before this are known.
    learned: u32,
}

impl Outlet {
    pub(super) fn new(shared: Arc<Shared>, storage: Arc<dyn Storage>, monitor: Arc<Monitor>) -> Self {
        let at = shared.acknowledged();
        Self { shared, storage, monitor, at, reported: at, open: None, retry_at: None, failures: 0, refused: None }
    }

    /// Waits for durable observations after those already returned. Returns `None` when there will be none: the intake
    /// is closed and everything durable has been returned.
    ///
    /// Cancel-safe: nothing is taken before it is returned.
    pub async fn next(&mut self) -> Option<Chunk> {
        loop {
            if let Some(retry_at) = self.retry_at {
                tokio::time::sleep_until(retry_at).await;
                self.retry_at = None;
            }
            // Asked first: what became durable before the close is then read below.
            let closed = self.shared.is_closed();
            match self.try_next() {
                Ok(Some(chunk)) => return Some(chunk),
                Ok(None) if closed => return None,
                Ok(None) => self.shared.more.notified().await,
                Err(error) => {
                    self.failed(&error);
                    self.retry_at = Some(Instant::now() + RETRY);
                }
            }
        }
    }

    /// Says that everything before `up_to` is delivered and may be reclaimed.
    pub fn acknowledge(&self, up_to: Position) {
        self.shared.acknowledge(up_to);
    }

    /// Goes back to the first unacknowledged observation.
    pub fn rewind(&mut self) {
        self.at = self.shared.acknowledged();
    }

    /// Returns the next chunk if there is one.
    pub(super) fn try_next(&mut self) -> io::Result<Option<Chunk>> {
        loop {
            match self.shared.view(self.at) {
                View::Nothing => return Ok(None),
                View::Gone { next } => self.at = next,
                View::Readable { end, synced, next } => {
                    if self.at.offset < end {
                        if let Some(chunk) = self.read(end, synced)? {
                            return Ok(Some(chunk));
                        }
                    } else if let Some(next) = next {
                        self.at = Position::start_of(next);
                    } else {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Reads on in the present segment; `None` when no observation came of it, and then it is `at` that has moved, or
    /// the segment that has gone.
    fn read(&mut self, end: u32, synced: u32) -> io::Result<Option<Chunk>> {
        let mut open = match self.open.take() {
            Some(open) if open.number == self.at.segment => open,
            before => match SegmentReader::open(&*self.storage, self.at.segment) {
                // Evicted, and its file used again, between the opening of the file and the reading of its header.
                Ok(_) | Err(SegmentError::Header(_)) if self.is_evicted() => return Ok(None),
                Ok(reader) if reader.header.number != self.at.segment => {
                    self.skip_segment(end, "its header is of another");
                    return Ok(None);
                }
                Ok(reader) => {
                    let shapes = before.map(|open| open.shapes.of_next_segment()).unwrap_or_default();
                    Open { number: self.at.segment, reader, shapes, learned: HEADER_LEN }
                }
                Err(SegmentError::Io(error)) => return Err(error),
                Err(SegmentError::Header(_)) => {
                    self.skip_segment(end, "its header is damaged");
                    return Ok(None);
                }
            },
        };
        open.learn_to(self.at.offset)?;

        let mut observations = Vec::new();
        let mut bytes = 0;
        while bytes < CHUNK_BYTES {
            let step = match open.reader.step(self.at.offset, end) {
                Ok(step) => step,
                // What was read before it is handed out first; the next call gets the error again.
                Err(_) if !observations.is_empty() => break,
                // An evicted segment is no longer asked for. Any other is opened anew: a handle may be stale for ever.
                Err(error) => return Err(error),
            };
            match step {
                Step::End => break,
                Step::Hole { next, .. } => {
                    // An evicted segment is written over while it is read here. That is no damage.
                    if self.is_evicted() {
                        break;
                    }
                    self.report_hole(next, synced);
                    self.at.offset = next;
                }
                Step::Frame { records: frame, next, .. } => {
                    if bytes > 0 && bytes + frame.len() > CHUNK_BYTES {
                        break;
                    }
                    bytes += frame.len();
                    let unnamed = take_frame(frame, &mut open.shapes, self.at, &mut observations);
                    // Of what was not durable at a power cut, the shapes may be lost: recovery has said so. Those of an
                    // evicted segment are written over first.
                    if unnamed > 0 && self.at.offset < synced && !self.is_evicted() {
                        let Position { segment, offset } = self.at;
                        error!(
                            segment,
                            offset,
                            observations = unnamed,
                            "both records that name these observations are damaged"
                        );
                    }
                    self.at.offset = next;
                }
            }
        }
        self.succeeded();
        open.learned = open.learned.max(self.at.offset);
        self.open = Some(open);
        Ok((!observations.is_empty()).then_some(Chunk { end: self.at, observations }))
    }

    /// Says whether the quota has taken the segment: its file may hold another by now, and no damage is meant.
    fn is_evicted(&self) -> bool {
        !matches!(self.shared.view(self.at), View::Readable { .. })
    }

    fn report_hole(&mut self, next: u32, synced: u32) {
        let (segment, from) = (self.at.segment, self.at.offset);
        let end = Position { segment, offset: next };
        // Holes past `synced` are what a power cut left; recovery has said so.
        if from < synced && end > self.reported {
            let bytes = next - from;
            error!(segment, from, bytes, "a stretch of the buffer is damaged and skipped");
            self.monitor.store(|store| store.damaged_bytes += u64::from(bytes));
            self.reported = end;
        }
    }

    /// A disk that refuses for a while has lost nothing, so it is asked until it answers or the quota takes the segment.
    /// Only a file that is gone is given up.
    fn failed(&mut self, error: &io::Error) {
        self.failures += 1;
        let segment = self.at.segment;
        let refused = Some((segment, error.kind()));
        if self.refused != refused {
            warn!(segment, %error, "cannot read a segment of the buffer, will try again");
            self.refused = refused;
        }
        let tries = if error.kind() == io::ErrorKind::NotFound { TRIES_GONE } else { TRIES };
        if self.failures >= tries
            && let View::Readable { end, .. } = self.shared.view(self.at)
        {
            self.failures = 0;
            self.refused = None;
            self.skip_segment(end, &error.to_string());
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        if let Some((segment, _)) = self.refused.take() {
            info!(segment, "the buffer can be read again");
        }
    }

    fn skip_segment(&mut self, end: u32, reason: &str) {
        let (segment, bytes) = (self.at.segment, end.saturating_sub(self.at.offset));
        error!(segment, bytes, reason, "a segment of the buffer cannot be read and is skipped");
        self.monitor.store(|store| store.damaged_bytes += u64::from(bytes));
        self.at.offset = end;
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

impl Open {
    /// Learns the shapes of the frames before `offset`, for a reader that begins in the middle.
    fn learn_to(&mut self, offset: u32) -> io::Result<()> {
        while self.learned < offset {
            self.learned = match self.reader.step(self.learned, offset)? {
                Step::Frame { records, next, .. } => {
                    self.shapes.learn_all(records);
                    next
                }
                Step::Hole { next, .. } => next,
                Step::End => offset,
            };
        }
        Ok(())
    }
}

/// Takes the observations of a frame and returns how many have no name, their shapes being lost.
fn take_frame(frame: &[u8], shapes: &mut Shapes, at: Position, observations: &mut Vec<Stored>) -> u32 {
    let mut unnamed = 0_u32;
    for record in records(frame) {
        match record {
            Ok(Record::Shape(shape)) => shapes.learn(&shape),
            Ok(Record::LastSeq { .. }) => {}
            Ok(Record::Observation(observation)) => match shapes.join(&observation) {
                Some(stored) => observations.push(stored),
                None => unnamed += 1,
            },
            Err(error) => {
                let (segment, offset, bytes) = (at.segment, at.offset, saturate(frame.len()));
                error!(segment, offset, bytes, %error, "the rest of a frame holds no record of this edition");
            }
        }
    }
    unnamed
}
