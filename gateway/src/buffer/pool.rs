//! The files of segments: made, kept spare, recycled, evicted. Their number is bounded by the quota.
//!
//! A segment is filled with zeros once and then only written over, so that an fsync need not touch the file system's
//! journal. Up to [`SPARES`] empty ones are kept: the reserve for a disk that others have filled.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ganglion_protocols::record::Record;
use ganglion_protocols::{Cri, Timestamp};
use tracing::{error, warn};

use super::format::{Position, segment_name};
use super::scan::{SegmentReader, Shapes, Step, records};
use super::shared::{Entry, Shared};
use super::storage::{Storage, StorageFile};
use crate::monitor::Monitor;

/// Empty segments kept.
pub(super) const SPARES: usize = 2;
/// The newest segments that are never reclaimed: each repeats the numbers of all resources, so one may be damaged.
const KEPT: usize = 2;
/// Fewest segments a quota may allow: those kept and one to write on.
pub(super) const FEWEST: u64 = KEPT as u64 + 1;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Hands out files for new segments and takes back old ones.
pub(super) struct Pool {
    storage: Arc<dyn Storage>,
    shared: Arc<Shared>,
    monitor: Arc<Monitor>,
    segment_bytes: u32,
    max_bytes: u64,
    spares: Vec<String>,
    /// Makes the names of spares unique.
    made: u64,
    /// Whether making a spare failed since the last segment was taken.
    pub(super) no_room: bool,
}

impl Pool {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        shared: Arc<Shared>,
        monitor: Arc<Monitor>,
        segment_bytes: u32,
        max_bytes: u64,
        spares: Vec<String>,
    ) -> Self {
        Self { storage, shared, monitor, segment_bytes, max_bytes, spares, made: 0, no_room: false }
    }

    /// Returns the bytes of all segments, spares included, and how many segments hold something undelivered.
    pub(super) fn usage(&self) -> (u64, u64) {
        let (bytes, undelivered) = self.shared.usage();
        (bytes + self.spares.len() as u64 * u64::from(self.segment_bytes), undelivered)
    }

    /// Returns the name of an empty file of a segment's size. The oldest segment is evicted when the quota allows no more
    /// files, and only then: a full disk takes nothing away.
    pub(super) fn take(&mut self) -> io::Result<String> {
        self.no_room = false;
        if let Some(name) = self.spares.pop() {
            return Ok(name);
        }
        while !self.may_grow() && self.shared.oldest().1 > KEPT {
            self.evict()?;
            if let Some(name) = self.spares.pop() {
                return Ok(name);
            }
        }
        self.make()
    }

    /// Takes back a file that [`Pool::take`] returned and nothing was made of.
    pub(super) fn give_back(&mut self, name: String) {
        self.spares.push(name);
    }

    /// Forgets a file that [`Pool::take`] returned and that cannot be used.
    pub(super) fn discard(&self, name: &str) {
        // Often it is the file that is gone; one that stays is counted at the next open.
        drop(self.storage.remove(name));
    }

    /// Makes one spare segment if one is missing and the quota and the disk allow it.
    pub(super) fn top_up(&mut self) {
        if self.no_room || self.spares.len() >= SPARES || !self.may_grow() {
            return;
        }
        match self.make() {
            Ok(name) => self.spares.push(name),
            Err(error) => {
                warn!(%error, spares = self.spares.len(), "cannot make a spare segment");
                self.no_room = true;
            }
        }
    }

    /// Takes away the segments before `delivered`, which the cursor on disk must hold already.
    pub(super) fn reclaim(&mut self, delivered: Position) {
        while let (Some(oldest), count) = self.shared.oldest()
            && count > KEPT
            && oldest.end_position() <= delivered
        {
            if let Err(error) = self.retire() {
                warn!(segment = oldest.number, %error, "cannot reclaim a segment");
                return;
            }
        }
    }

    fn may_grow(&self) -> bool {
        self.usage().0 + u64::from(self.segment_bytes) <= self.max_bytes
    }

    fn make(&mut self) -> io::Result<String> {
        let name = "new-segment";
        let made = (|| {
            let file = self.storage.create(name)?;
            fill(&*file, self.segment_bytes)?;
            file.sync()?;
            let spare = self.spare_name();
            self.storage.rename(name, &spare)?;
            Ok(spare)
        })();
        if made.is_err() {
            // What a full disk did not hold is given back; a leftover is removed at the next open.
            drop(self.storage.remove(name));
        }
        made
    }

    /// Makes a spare of the oldest segment, or removes it when there are enough or its size is another.
    fn retire(&mut self) -> io::Result<()> {
        let spare = self.spare_name();
        let recycle = |entry: &Entry, spares: &[String]| entry.size == self.segment_bytes && spares.len() < SPARES;
        let mut recycled = false;
        self.shared.take_oldest(|entry| {
            let name = segment_name(entry.number);
            recycled = recycle(entry, &self.spares);
            if recycled { self.storage.rename(&name, &spare) } else { self.storage.remove(&name) }
        })?;
        if recycled {
            self.spares.push(spare);
        }
        Ok(())
    }

    /// Gives up the oldest segment with all it holds.
    fn evict(&mut self) -> io::Result<()> {
        let Some(oldest) = self.shared.oldest().0 else { return Ok(()) };
        let undelivered = self.shared.acknowledged();
        let lost = Lost::of(&*self.storage, &oldest, undelivered);
        self.retire()?;
        lost.report(&oldest, &self.monitor);
        Ok(())
    }

    fn spare_name(&mut self) -> String {
        loop {
            self.made += 1;
            let name = format!("free-{:04x}", self.made);
            if !self.spares.contains(&name) {
                return name;
            }
        }
    }
}

fn fill(file: &dyn StorageFile, size: u32) -> io::Result<()> {
    let mut at = 0;
    while at < u64::from(size) {
        let rest = usize::try_from(u64::from(size) - at).unwrap_or(ZEROS.len());
        let zeros = ZEROS.get(..rest).unwrap_or(&ZEROS);
        file.write_at(zeros, at)?;
        at += zeros.len() as u64;
    }
    Ok(())
}

/// What an evicted segment held that was not delivered.
#[derive(Default)]
struct Lost {
    by_resource: BTreeMap<Cri, u64>,
    span: Option<(Timestamp, Timestamp)>,
}

impl Lost {
    fn of(storage: &dyn Storage, entry: &Entry, undelivered: Position) -> Self {
        let mut lost = Self::default();
        let Ok(mut reader) = SegmentReader::open(storage, entry.number) else {
            if (Position { segment: entry.number, offset: entry.end }) > undelivered {
                let segment = entry.number;
                error!(
                    segment,
                    "the buffer's quota is spent: its oldest segment is given up, unreadable and so uncounted"
                );
            }
            return lost;
        };
        let mut shapes = Shapes::default();
        let mut at = Position::start_of(entry.number);
        loop {
            match reader.step(at.offset, entry.end) {
                Err(error) => {
                    let (segment, offset) = (entry.number, at.offset);
                    error!(segment, offset, %error, "the rest of a segment that is given up cannot be read nor counted");
                    return lost;
                }
                Ok(Step::End) => return lost,
                Ok(Step::Hole { next, .. }) => at.offset = next,
                Ok(Step::Frame { records: frame, next, .. }) => {
                    shapes.learn_all(frame);
                    if at >= undelivered {
                        lost.note(frame, &shapes);
                    }
                    at.offset = next;
                }
            }
        }
    }

    fn note(&mut self, frame: &[u8], shapes: &Shapes) {
        for record in records(frame) {
            if let Ok(Record::Observation(observation)) = record
                && let Some(shape) = shapes.get(observation.shape)
            {
                *self.by_resource.entry(shape.resource).or_default() += 1;
                let (first, last) = self.span.unwrap_or((observation.t, observation.t));
                self.span = Some((first.min(observation.t), last.max(observation.t)));
            }
        }
    }

    fn report(&self, entry: &Entry, monitor: &Monitor) {
        for (resource, count) in &self.by_resource {
            monitor.count(*resource, |ledger| ledger.dropped += count);
        }
        if let Some((first, last)) = self.span {
            let (segment, observations) = (entry.number, self.by_resource.values().sum::<u64>());
            error!(segment, observations, %first, %last, "the buffer's quota is spent: its oldest segment is given up undelivered");
        }
    }
}
