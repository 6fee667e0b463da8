//! The reading end of the buffer: durable observations of one lane, oldest first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::record::Record;
use ganglion_protocols::{Clock, Cri, Gap, LossCause, Reading, Timestamp};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::account::Account;
use super::format::{HEADER_LEN, Position, saturate};
use super::missing::Missing;
use super::scan::{SegmentError, SegmentReader, Shapes, Step, records};
use super::shared::{Lane, Shared, Territory, View};
use super::spans::Span;
use super::storage::Storage;
use crate::site::NamedProperty;

/// Bytes of records after which a chunk is complete. Each lane holds one in memory, decoded some four times as long.
const CHUNK_BYTES: usize = 128 * 1024;
/// Pause before a segment that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a segment is tried whose file is gone.
const TRIES_GONE: u32 = 5;
/// How often a segment is tried that the disk does not hand out: what lies behind a bad sector shall not wait for ever.
const TRIES: u32 = 300;

/// A stretch of the log with the durable observations in it, in the order of their writing.
#[derive(Clone, PartialEq, Debug)]
pub struct Chunk {
    /// The stretch, for [`Outlet::acknowledge`].
    pub span: Span,
    /// None where the stretch holds nothing readable.
    pub observations: Vec<Stored>,
    /// Losses declared in the stretch.
    pub gaps: Vec<Gap>,
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

/// Hands out what is durable in one lane and takes back what is delivered. The writer goes on until the last outlet of
/// its log is dropped, so that the last acknowledgements of a drain are kept.
pub struct Outlet {
    lane: Lane,
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    account: Account,
    /// Where the stretch begins that was read and not returned.
    from: Position,
    at: Position,
    /// Damage before this has been reported.
    reported: Position,
    missing: Missing,
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
    /// Shapes and numbers before this are known.
    learned: u32,
}

impl Outlet {
    pub(super) fn new(lane: Lane, shared: Arc<Shared>, storage: Arc<dyn Storage>, account: Account) -> Self {
        shared.enter(lane);
        Self {
            lane,
            shared,
            storage,
            account,
            from: Position::ORIGIN,
            at: Position::ORIGIN,
            reported: Position::ORIGIN,
            missing: Missing::default(),
            open: None,
            retry_at: None,
            failures: 0,
            refused: None,
        }
    }

    /// Waits for durable observations after those already returned. Returns `None` when there will be none: the intake
    /// is closed and everything durable of this lane has been returned.
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
            match self.try_next(Instant::now().into_std()) {
                Ok(Some(chunk)) => return Some(chunk),
                Ok(None) if closed => return None,
                Ok(None) if self.lane == Lane::Backfill => self.shared.older.notified().await,
                Ok(None) => self.shared.more.notified().await,
                Err(error) => {
                    self.failed(&error);
                    self.retry_at = Some(Instant::now() + RETRY);
                }
            }
        }
    }

    /// Says that a stretch is delivered and may be reclaimed.
    pub fn acknowledge(&self, span: Span) {
        self.shared.acknowledge(span);
    }

    /// Declares observations lost that were handed out and can never be delivered. The cursor passes their place only
    /// when the declaration is durable.
    pub fn declare_lost(&self, gaps: impl IntoIterator<Item = Gap>) {
        self.shared.report(gaps);
    }

    /// Begins a connection at the first undelivered observation of this lane. The live lane of a log is to begin before
    /// its backfill.
    pub fn rewind(&mut self) {
        self.rewind_at(Instant::now().into_std());
    }

    pub(super) fn rewind_at(&mut self, now: std::time::Instant) {
        self.shared.begin(self.lane, now);
        (self.from, self.at) = (Position::ORIGIN, Position::ORIGIN);
        self.missing.leave();
        self.open = None;
    }

    /// Says whether nothing of the whole log is left to deliver, in whatever lane.
    #[must_use]
    pub fn is_all_delivered(&self) -> bool {
        self.shared.is_all_delivered()
    }

    /// Returns the next chunk if there is one.
    pub(super) fn try_next(&mut self, now: std::time::Instant) -> io::Result<Option<Chunk>> {
        loop {
            let Some(Territory { from, to }) = self.shared.territory(self.lane, self.at, now) else { return Ok(None) };
            if from != self.at {
                self.resolve();
                self.missing.leave();
                self.open = None;
                // What was read and not handed out holds nothing to deliver.
                self.acknowledge(Span { from: self.from, to: self.at });
                (self.from, self.at) = (from, from);
            }
            let within = |end: u32| match to {
                Some(to) if to.segment == self.at.segment => end.min(to.offset),
                _ => end,
            };
            match self.shared.view(self.at) {
                View::Nothing => return Ok(None),
                View::Gone { next } if to.is_none_or(|to| next < to) => self.at = next,
                View::Readable { end, synced, .. } if self.at.offset < within(end) => {
                    let chunk = self.read(within(end), synced)?;
                    // Declared before the stretch can be acknowledged, which is when it would be forgotten.
                    self.resolve();
                    if let Some(chunk) = chunk {
                        self.shared.take(self.lane, chunk.span);
                        return Ok(Some(chunk));
                    }
                }
                View::Readable { next: Some(next), .. } if to.is_none_or(|to| Position::start_of(next) < to) => {
                    self.at = Position::start_of(next);
                }
                View::Gone { .. } | View::Readable { .. } => match to {
                    // Nothing is left before it: the lane goes on behind what others have there.
                    Some(to) if to > self.at => {
                        self.acknowledge(Span { from: self.from, to });
                        (self.from, self.at) = (to, to);
                    }
                    _ => return Ok(None),
                },
            }
        }
    }

    /// Looks further on for the numbers that follow a damaged stretch, and reports what was in it. What the disk does not
    /// hand out now is passed over.
    fn resolve(&mut self) {
        let mut at = self.at;
        while self.missing.suspects() {
            let View::Readable { end, next, .. } = self.shared.view(at) else { break };
            if let Ok(reader) = SegmentReader::open(&*self.storage, at.segment)
                && reader.header.number == at.segment
            {
                self.look_through(reader, at.offset, end);
            }
            let Some(next) = next else { break };
            at = Position::start_of(next);
        }
        self.shared.report(self.missing.take());
    }

    /// Notes the numbers from an offset of a segment on, until nothing is suspect any more.
    fn look_through(&mut self, mut reader: SegmentReader, from: u32, end: u32) {
        let (mut shapes, mut place) = (Shapes::default(), HEADER_LEN);
        while self.missing.suspects() {
            place = match reader.step(place, end) {
                Err(_) | Ok(Step::End) => break,
                Ok(Step::Hole { next, .. }) => next,
                Ok(Step::Frame { records: frame, next, .. }) => {
                    shapes.learn_all(frame);
                    if place >= from {
                        note(frame, &shapes, &mut self.missing);
                    }
                    next
                }
            };
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
        open.learn_to(self.at.offset, &mut self.missing)?;

        let (mut observations, mut gaps) = (Vec::new(), Vec::new());
        let (mut bytes, mut damaged) = (0, false);
        while bytes < CHUNK_BYTES {
            let step = match open.reader.step(self.at.offset, end) {
                Ok(step) => step,
                // What was read before it is handed out first; the next call gets the error again.
                Err(_) if !observations.is_empty() || !gaps.is_empty() || damaged => break,
                // An evicted segment is no longer asked for. Any other is opened anew: a handle may be stale for ever.
                Err(error) => return Err(error),
            };
            // An evicted segment is written over while it is read here: what seems damaged is not, and the shapes that name
            // its observations may be those of the next.
            if self.is_evicted() {
                break;
            }
            match step {
                Step::End => break,
                Step::Hole { next, .. } => {
                    damaged |= self.report_hole(next, synced);
                    self.at.offset = next;
                }
                Step::Frame { records: frame, next, .. } => {
                    if bytes > 0 && bytes + frame.len() > CHUNK_BYTES {
                        break;
                    }
                    bytes += frame.len();
                    let durable = self.at.offset < synced;
                    let mut taken =
                        Taken { observations: &mut observations, gaps: &mut gaps, missing: &mut self.missing };
                    taken.frame(frame, &mut open.shapes, self.at, durable);
                    self.at.offset = next;
                }
            }
        }
        self.succeeded();
        open.learned = open.learned.max(self.at.offset);
        self.open = Some(open);
        // A stretch of nothing but damage is handed out too: nobody else would acknowledge it.
        if observations.is_empty() && gaps.is_empty() && !damaged {
            return Ok(None);
        }
        let span = Span { from: self.from, to: self.at };
        self.from = self.at;
        Ok(Some(Chunk { span, observations, gaps }))
    }

    /// Says whether the quota has taken the segment: its file may hold another by now.
    fn is_evicted(&self) -> bool {
        !matches!(self.shared.view(self.at), View::Readable { .. })
    }

    /// Reports a stretch without a frame; returns whether it should have one.
    fn report_hole(&mut self, next: u32, synced: u32) -> bool {
        let (segment, from) = (self.at.segment, self.at.offset);
        let end = Position { segment, offset: next };
        // Holes past `synced` are what a power cut left; recovery has said so.
        if from >= synced {
            self.missing.hole(LossCause::PowerCut);
            return false;
        }
        self.missing.hole(LossCause::Damaged);
        if end > self.reported {
            let bytes = next - from;
            error!(segment, from, bytes, "a stretch of the buffer is damaged and skipped");
            self.account.store(|store| store.damaged_bytes += u64::from(bytes));
            self.reported = end;
        }
        true
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
        self.account.store(|store| store.damaged_bytes += u64::from(bytes));
        self.missing.hole(LossCause::Damaged);
        self.at.offset = end;
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

impl Open {
    /// Learns the shapes and numbers of the frames before `offset`, for a reader that begins in the middle.
    fn learn_to(&mut self, offset: u32, missing: &mut Missing) -> io::Result<()> {
        while self.learned < offset {
            self.learned = match self.reader.step(self.learned, offset)? {
                Step::Frame { records, next, .. } => {
                    self.shapes.learn_all(records);
                    note(records, &self.shapes, missing);
                    next
                }
                Step::Hole { next, .. } => next,
                Step::End => offset,
            };
        }
        Ok(())
    }
}

/// What a chunk takes from its frames.
struct Taken<'a> {
    observations: &'a mut Vec<Stored>,
    gaps: &'a mut Vec<Gap>,
    missing: &'a mut Missing,
}

impl Taken<'_> {
    /// Takes what a frame holds. Of one that was not `durable` at a power cut, the shapes may be lost: recovery has said so.
    fn frame(&mut self, frame: &[u8], shapes: &mut Shapes, at: Position, durable: bool) {
        let mut unnamed = 0_u32;
        for record in records(frame) {
            match record {
                Ok(Record::Shape(shape)) => shapes.learn(&shape),
                Ok(Record::LastSeq { resource, seq }) => self.missing.carried(resource, seq),
                // Where a source stands is the writer's business.
                Ok(Record::Mark { .. }) => {}
                Ok(Record::Gap(gap)) => {
                    self.missing.declared(&gap);
                    self.gaps.push(gap);
                }
                Ok(Record::Observation(observation)) => match shapes.join(&observation) {
                    Some(stored) => {
                        self.missing.observed(stored.shape.resource, stored.seq, stored.t);
                        self.observations.push(stored);
                    }
                    None => {
                        unnamed += 1;
                        self.missing.hole(if durable { LossCause::Damaged } else { LossCause::PowerCut });
                    }
                },
                Err(error) => {
                    let (segment, offset, bytes) = (at.segment, at.offset, saturate(frame.len()));
                    error!(segment, offset, bytes, %error, "the rest of a frame holds no record of this edition");
                }
            }
        }
        if unnamed > 0 && durable {
            let (segment, offset) = (at.segment, at.offset);
            error!(segment, offset, observations = unnamed, "both records that name these observations are damaged");
        }
    }
}

/// Notes the numbers in a frame whose shapes are known.
fn note(frame: &[u8], shapes: &Shapes, missing: &mut Missing) {
    for record in records(frame) {
        match record {
            Ok(Record::Observation(observation)) => {
                if let Some(shape) = shapes.get(observation.shape) {
                    missing.observed(shape.resource, observation.seq, observation.t);
                }
            }
            Ok(Record::LastSeq { resource, seq }) => missing.carried(resource, seq),
            Ok(Record::Gap(gap)) => missing.declared(&gap),
            Ok(Record::Shape(_) | Record::Mark { .. }) | Err(_) => {}
        }
    }
}
