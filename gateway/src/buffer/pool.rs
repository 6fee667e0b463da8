//! The files of segments: made, kept spare, recycled, evicted. Their number is bounded by the quota.
//!
//! A segment is filled with zeros once and then only written over, so that an fsync need not touch the file system's
//! journal. Up to [`SPARES`] empty ones are kept: the reserve for a disk that others have filled, and what the next segment
//! is made of before the oldest is evicted.

use std::io;
use std::sync::Arc;

use tracing::warn;

use super::format::segment_name;
use super::shared::{Entry, Shared};
use super::storage::{Storage, StorageFile};

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
        segment_bytes: u32,
        max_bytes: u64,
        spares: Vec<String>,
    ) -> Self {
        Self { storage, shared, segment_bytes, max_bytes, spares, made: 0, no_room: false }
    }

    /// Returns the bytes of all segments, spares included, and how many segments hold something undelivered.
    pub(super) fn usage(&self) -> (u64, u64) {
        let (bytes, undelivered) = self.shared.usage();
        (bytes + self.spares.len() as u64 * u64::from(self.segment_bytes), undelivered)
    }

    /// Returns the name of an empty file of a segment's size, or `None` when the quota allows no more files.
    pub(super) fn take(&mut self) -> io::Result<Option<String>> {
        self.no_room = false;
        if let Some(name) = self.spares.pop() {
            return Ok(Some(name));
        }
        if self.may_grow() { self.make().map(Some) } else { Ok(None) }
    }

    /// Returns the segment that has to go before another can be begun after this one, if there has to be one.
    pub(super) fn to_evict(&self) -> Option<Entry> {
        let (oldest, count) = self.shared.oldest();
        oldest.filter(|_| self.spares.is_empty() && !self.may_grow() && count > KEPT)
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

    /// Takes away the oldest segments while they are delivered, which the cursor on disk must say already. One between two
    /// undelivered ones goes only when the quota needs it: the one before it then ends where its own frames do.
    pub(super) fn reclaim(&mut self) {
        while let Some(entry) = self.shared.oldest_delivered(KEPT)
            && (self.shared.oldest().0 == Some(entry) || self.to_evict().is_some())
        {
            if let Err(error) = self.retire(&entry) {
                warn!(segment = entry.number, %error, "cannot reclaim a segment");
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

    /// Makes a spare of a segment, or removes it when there are enough or its size is another.
    pub(super) fn retire(&mut self, entry: &Entry) -> io::Result<()> {
        let spare = self.spare_name();
        let recycle = entry.size == self.segment_bytes && self.spares.len() < SPARES;
        let name = segment_name(entry.number);
        self.shared.take_segment(entry.number, || {
            if recycle { self.storage.rename(&name, &spare) } else { self.storage.remove(&name) }
        })?;
        if recycle {
            self.spares.push(spare);
        }
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
