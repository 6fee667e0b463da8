//! The writing end of the buffer, without its thread: every step is a call, so tests can stop between any two.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_protocols::Cri;
use tracing::{error, info, warn};

use super::ahead::Ahead;
use super::cursor::Cursor;
use super::encode::{Encoded, Encoder, Pending};
use super::format::{HEADER_LEN, SegmentHeader, saturate, segment_name};
use super::pool::{Pool, SPARES};
use super::shared::{Entry, Shared};
use super::storage::{Storage, StorageFile};
use crate::monitor::Monitor;
use crate::pipeline::Unnumbered;
use crate::site::BufferSettings;

/// Shortest time between two tries to write to a disk that refuses, and between two writes of the cursor.
const PAUSE: Duration = Duration::from_secs(1);

/// Numbers observations and writes them to segments.
pub(super) struct Log {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) shared: Arc<Shared>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) settings: BufferSettings,
    pub(super) epoch: u64,
    pub(super) rng: fastrand::Rng,
    pub(super) numbers: BTreeMap<Cri, u64>,
    pub(super) next_segment: u64,
    pub(super) encoder: Encoder,
    pub(super) pool: Pool,
    pub(super) cursor: Cursor,
    /// The segment being written; none until the first observation.
    pub(super) active: Option<Active>,
    /// Numbered and not durable: first `written` observations that stand in the active segment, then those that do not
    /// yet. Bounded by a commit and a batch.
    pub(super) pending: Vec<Pending>,
    pub(super) written: usize,
    pub(super) commit_due: Option<Instant>,
    pub(super) cursor_due: Option<Instant>,
    pub(super) cursor_refused: bool,
    pub(super) trouble: Option<Trouble>,
    pub(super) ahead: Ahead,
}

/// The segment being written.
pub(super) struct Active {
    pub(super) header: SegmentHeader,
    file: Box<dyn StorageFile>,
    /// Behind the last frame written.
    pub(super) written: u32,
    /// Behind the last frame known durable.
    synced: u32,
    /// Behind what was carried over.
    first: u32,
    /// A write failed in it, or its successor is being made: nothing is appended any more.
    sealed: bool,
    /// A sync failed in it: what is behind `synced` is void, and never asked for again.
    poisoned: bool,
}

/// The disk refuses to write.
pub(super) struct Trouble {
    dropped: u64,
    /// Whether everything pending has been written since; the next sync then ends it.
    written: bool,
    retry_at: Instant,
}

impl Log {
    /// Accepts a batch: numbers and writes it at once. What the disk refuses is dropped and counted.
    pub(super) fn append(&mut self, batch: &mut Vec<Unnumbered>, now: Instant) {
        for observation in batch.drain(..) {
            let Some(resource) = self.encoder.resource(observation.stream) else {
                error!(stream = observation.stream.0, "an observation belongs to no stream of the site");
                continue;
            };
            let last = self.numbers.entry(resource).or_insert(0);
            *last += 1;
            self.pending.push(Pending { observation, resource, seq: *last, accepted: false });
        }
        if self.trouble.as_ref().is_some_and(|trouble| now < trouble.retry_at) {
            self.drop_unwritten();
        } else {
            self.try_to_write(now);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.retry_at <= now) && !self.pending.is_empty() {
            self.try_to_write(now);
        }
        if self.commit_due.is_some_and(|due| due <= now) {
            self.commit(now);
        }
        if self.cursor_due.is_some_and(|due| due <= now) {
            self.save_cursor(now);
        }
    }

    /// Returns when [`Log::tick`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let retry = self.trouble.as_ref().filter(|_| !self.pending.is_empty()).map(|trouble| trouble.retry_at);
        [self.commit_due, self.cursor_due, retry].into_iter().flatten().min()
    }

    /// Notes that something was acknowledged.
    pub(super) fn acknowledged(&mut self, now: Instant) {
        if self.cursor_due.is_none() && self.cursor.written() != Some(self.shared.acknowledged()) {
            self.cursor_due = Some(now + PAUSE);
        }
    }

    /// Makes everything written durable.
    pub(super) fn commit(&mut self, now: Instant) {
        self.commit_due = None;
        if self.written == 0 {
            return;
        }
        let result = self.sync().or_else(|error| {
            let segment = self.active.as_ref().map_or(0, |active| active.header.number);
            warn!(segment, %error, "fsync failed; what it should have made durable is written to another segment");
            self.write().and_then(|()| self.sync())
        });
        match result {
            Ok(()) => {
                self.leave_trouble();
                self.pool.top_up();
                self.report();
                self.look_ahead(now);
            }
            Err(error) => self.enter_trouble(&error, now),
        }
    }

    /// Makes durable what is delivered, and reclaims it.
    pub(super) fn save_cursor(&mut self, now: Instant) {
        self.cursor_due = None;
        if let Err(error) = self.try_to_save_cursor() {
            if !self.cursor_refused {
                warn!(%error, "cannot write what is delivered; a restart would deliver it again");
            }
            self.cursor_refused = true;
            self.cursor_due = Some(now + PAUSE);
        }
        self.report();
    }

    fn try_to_save_cursor(&mut self) -> io::Result<()> {
        let acked = self.shared.acknowledged();
        if self.cursor.written() != Some(acked) {
            let durable = self.shared.newest().map_or(acked, |newest| newest.synced_position());
            self.cursor.write(&*self.storage, acked, durable)?;
            self.cursor_refused = false;
        }
        self.pool.reclaim(acked);
        Ok(())
    }

    pub(super) fn report(&self) {
        let (bytes, segments) = self.pool.usage();
        self.monitor.store(|store| {
            store.bytes = bytes;
            store.segments = segments;
        });
    }

    fn try_to_write(&mut self, now: Instant) {
        match self.write() {
            Ok(()) => {
                if let Some(trouble) = &mut self.trouble {
                    trouble.written = true;
                }
            }
            Err(error) => {
                self.enter_trouble(&error, now);
                self.drop_unwritten();
            }
        }
        let unsynced = self.active.as_ref().map_or(0, |active| active.written - active.synced);
        if self.written == 0 {
            return;
        }
        if unsynced >= self.settings.commit_bytes || self.trouble.as_ref().is_some_and(|trouble| trouble.written) {
            self.commit(now);
        } else if self.commit_due.is_none() {
            self.commit_due = Some(now + self.settings.commit_interval);
        }
    }

    /// Writes everything pending, in as many frames and segments as it takes.
    fn write(&mut self) -> io::Result<()> {
        while self.written < self.pending.len() {
            if self.active.as_ref().is_none_or(|active| active.sealed || active.poisoned) {
                self.rotate()?;
            }
            let Some(active) = &mut self.active else { continue };
            let waiting = self.pending.get(self.written..).unwrap_or_default();
            let room = active.header.frames_end() - active.written;
            match self.encoder.encode(waiting, room) {
                Encoded::Frame { observations } => {
                    let frame = self.encoder.seal(active.header.salt, active.written, active.synced);
                    match active.file.write_at(frame, u64::from(active.written)) {
                        Ok(()) => {
                            active.written += saturate(frame.len());
                            self.accept(observations);
                        }
                        Err(error) if is_lack_of_room(&error) => return Err(error),
                        Err(error) if active.written == active.first => return Err(error),
                        Err(error) => {
                            warn!(segment = active.header.number, %error, "write failed; going on in another segment");
                            active.sealed = true;
                        }
                    }
                }
                Encoded::NoRoom if active.written == active.first => self.drop_too_long(),
                Encoded::NoRoom => self.rotate()?,
            }
        }
        Ok(())
    }

    fn accept(&mut self, observations: usize) {
        self.encoder.keep_shapes();
        let until = self.written + observations;
        for pending in self.pending.get_mut(self.written..until).unwrap_or_default() {
            if !pending.accepted {
                pending.accepted = true;
                self.monitor.count(pending.resource, |ledger| {
                    ledger.accepted += 1;
                    ledger.last_seq = pending.seq;
                });
            }
        }
        self.written = until;
    }

    fn drop_too_long(&mut self) {
        let pending = self.pending.remove(self.written);
        error!(resource = %pending.resource, seq = pending.seq, "an observation is longer than a segment and dropped");
        self.monitor.count(pending.resource, |ledger| ledger.dropped += 1);
    }

    /// Drops what never was in any segment. What a failed sync left stays: it was accepted, and is bounded.
    fn drop_unwritten(&mut self) {
        let (monitor, mut dropped) = (&self.monitor, 0);
        self.pending.retain(|pending| {
            if !pending.accepted {
                dropped += 1;
                monitor.count(pending.resource, |ledger| ledger.dropped += 1);
            }
            pending.accepted
        });
        if let Some(trouble) = &mut self.trouble {
            trouble.dropped += dropped;
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if let Err(error) = active.file.sync() {
            active.poisoned = true;
            self.written = 0;
            return Err(error);
        }
        active.synced = active.written;
        // Counted before the outlet may read it, so that nothing is ever delivered and not yet durable.
        for pending in self.pending.drain(..self.written) {
            self.monitor.count(pending.resource, |ledger| ledger.durable += 1);
        }
        self.written = 0;
        self.shared.set_durable(active.header.number, active.synced);
        Ok(())
    }

    /// Ends the active segment and begins the next. When this fails the active one stays, sealed, and this is tried again.
    fn rotate(&mut self) -> io::Result<()> {
        if let Some(active) = &mut self.active {
            active.sealed = true;
            if !active.poisoned && active.synced < active.written {
                let segment = active.header.number;
                if let Err(error) = self.sync() {
                    warn!(segment, %error, "fsync failed; what it should have made durable is written to another segment");
                }
            }
        }
        if self.shared.oldest().0.is_some_and(|oldest| oldest.end_position() <= self.shared.acknowledged()) {
            // What is delivered is reclaimed before anything is made or evicted.
            self.save_cursor(Instant::now());
        }
        let active = self.begin_on_a_spare()?;
        self.next_segment += 1;
        self.encoder.forget_shapes();
        let end = active.written;
        let (number, size) = (active.header.number, active.header.size);
        self.shared.push(Entry { number, size, first: end, end, synced: end });
        self.active = Some(active);
        self.report();
        Ok(())
    }

    /// Begins a segment on the first file that can be used. One that cannot is not tried again: the spares before it,
    /// and at last a new one, may be sound.
    fn begin_on_a_spare(&mut self) -> io::Result<Active> {
        let mut left = SPARES;
        loop {
            let spare = self.pool.take()?;
            match self.begin(&spare) {
                Ok(active) => return Ok(active),
                Err(error) if is_lack_of_room(&error) => {
                    self.pool.give_back(spare);
                    return Err(error);
                }
                Err(error) => {
                    warn!(file = spare, %error, "a spare segment cannot be used and is given up");
                    self.pool.discard(&spare);
                    if left == 0 {
                        return Err(error);
                    }
                    left -= 1;
                }
            }
        }
    }

    /// Writes a segment's beginning to a spare file and makes it durable before the file gets a segment's name: a file
    /// of that name with a damaged header has lost something.
    fn begin(&mut self, spare: &str) -> io::Result<Active> {
        let before = self.shared.newest();
        let header = SegmentHeader {
            salt: self.rng.u32(..),
            epoch: self.epoch,
            number: self.next_segment,
            previous: before.map_or(0, |entry| entry.number),
            previous_end: before.map_or(0, |entry| entry.end),
            previous_synced: before.map_or(0, |entry| entry.synced),
            size: self.settings.segment_bytes,
        };
        let file = self.storage.open(spare)?;
        let bytes = header.encode();
        file.write_at(&bytes, 0)?;
        file.write_at(&bytes, u64::from(header.frames_end()))?;
        let numbers = self.numbers_used();
        let frame = self.encoder.numbers(&numbers, &header)?;
        file.write_at(frame, u64::from(HEADER_LEN))?;
        let written = HEADER_LEN + saturate(frame.len());
        file.sync()?;
        let name = segment_name(header.number);
        self.storage.rename(spare, &name)?;
        if let Err(error) = self.storage.sync_dir() {
            self.storage.rename(&name, spare)?;
            return Err(error);
        }
        Ok(Active { header, file, written, synced: written, first: written, sealed: false, poisoned: false })
    }

    /// Returns the last number of each resource that is used up: written, or dropped. One that still waits to be written
    /// is not: a process killed before that gives it again, and no subscriber sees a gap where nothing was kept.
    fn numbers_used(&self) -> BTreeMap<Cri, u64> {
        let mut numbers = self.numbers.clone();
        let waiting = self.pending.iter().rev().filter(|pending| !pending.accepted);
        numbers.extend(waiting.map(|pending| (pending.resource, pending.seq - 1)));
        numbers
    }

    fn enter_trouble(&mut self, error: &io::Error, now: Instant) {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk full".to_owned(),
            io::ErrorKind::ReadOnlyFilesystem => "read-only".to_owned(),
            _ => error.to_string(),
        };
        let retry_at = now + PAUSE;
        match &mut self.trouble {
            Some(trouble) => {
                trouble.retry_at = retry_at;
                trouble.written = false;
            }
            None => {
                error!(reason, "the disk refuses; observations are dropped until it does not");
                self.trouble = Some(Trouble { dropped: 0, written: false, retry_at });
            }
        }
        self.monitor.store(|store| store.trouble = Some(reason));
    }

    fn leave_trouble(&mut self) {
        if let Some(trouble) = self.trouble.take_if(|trouble| trouble.written) {
            info!(dropped = trouble.dropped, "the disk accepts observations again");
            self.monitor.store(|store| store.trouble = None);
        }
    }
}

fn is_lack_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
