//! The writing end of the buffer, without its thread: every step is a call, so tests can stop between any two.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_protocols::{Cri, LossCause, Origin, Timestamp};
use tracing::{error, info, warn};

use super::account::Account;
use super::ahead::Ahead;
use super::cursor::Cursor;
use super::encode::{Encoded, Encoder, Pending};
use super::format::{Position, SegmentHeader, saturate};
use super::lost::Losses;
use super::pool::Pool;
use super::shared::Shared;
use super::spans::Spans;
use super::storage::{Storage, StorageFile};
use crate::pipeline::Offered;
use crate::site::BufferSettings;

/// Shortest time between two tries to write to a disk that refuses, and between two writes of the cursor.
const PAUSE: Duration = Duration::from_secs(1);

/// Numbers observations and writes them to segments.
pub(super) struct Log {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) shared: Arc<Shared>,
    pub(super) account: Account,
    pub(super) settings: BufferSettings,
    pub(super) epoch: u64,
    pub(super) rng: fastrand::Rng,
    pub(super) numbers: BTreeMap<Cri, u64>,
    /// Up to where the samples of each resource's source are taken; and durably so.
    pub(super) taken: BTreeMap<Cri, Origin>,
    pub(super) marks: BTreeMap<Cri, (Origin, Timestamp)>,
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
    /// Losses to declare, and those that stand in the active segment and are not durable yet.
    pub(super) undeclared: Losses,
    pub(super) declared: Losses,
    /// The first number of each resource that the disk refused and whose loss is not durable: a process killed now gives
    /// it again, for nobody would know that it was used up.
    pub(super) refused: BTreeMap<Cri, u64>,
    /// Segments that went before their loss was durable, for want of any other place.
    pub(super) late: u64,
    pub(super) commit_due: Option<Instant>,
    pub(super) cursor_due: Option<Instant>,
    pub(super) cursor_refused: bool,
    pub(super) trouble: Option<Trouble>,
    pub(super) ahead: Ahead,
}

/// The segment being written.
pub(super) struct Active {
    pub(super) header: SegmentHeader,
    pub(super) file: Box<dyn StorageFile>,
    /// Behind the last frame written.
    pub(super) written: u32,
    /// Behind the last frame known durable.
    pub(super) synced: u32,
    /// Behind what was carried over.
    pub(super) first: u32,
    /// A write failed in it, or its successor is being made: nothing is appended any more.
    pub(super) sealed: bool,
    /// A sync failed in it: what is behind `synced` is void, and never asked for again.
    pub(super) poisoned: bool,
}

/// The disk refuses to write.
pub(super) struct Trouble {
    dropped: u64,
    cause: LossCause,
    /// Whether everything pending has been written since; the next sync then ends it.
    written: bool,
    retry_at: Instant,
}

impl Active {
    /// Returns how many bytes of frames fit behind what is written.
    fn room(&self) -> u32 {
        self.header.frames_end() - self.written
    }
}

impl Log {
    /// Accepts a batch: numbers and writes it at once. What the disk refuses is dropped and counted.
    /// What a source sends again that is taken already is not taken twice.
    pub(super) fn append(&mut self, batch: &mut Vec<impl Into<Offered>>, now: Instant) {
        for offered in batch.drain(..).map(Into::into) {
            let stream = match &offered {
                Offered::Observation(observation) => observation.stream,
                Offered::Lost(lost) => lost.stream,
            };
            let Some(resource) = self.encoder.resource(stream) else {
                error!(stream = stream.0, "an observation belongs to no stream of the site");
                continue;
            };
            let last = self.numbers.entry(resource).or_insert(0);
            let pending = Pending { offered, resource, seq: *last + 1, accepted: false };
            if let Some(origin) = pending.origin() {
                if self.taken.get(&resource).is_some_and(|taken| taken.covers(origin)) {
                    self.account.count(resource, |ledger| ledger.repeated += 1);
                    continue;
                }
                self.taken.insert(resource, origin);
            }
            *last = pending.last();
            self.pending.push(pending);
        }
        match &self.trouble {
            Some(Trouble { retry_at, cause, .. }) if now < *retry_at => self.drop_unwritten(*cause),
            _ => self.try_to_write(now),
        }
    }

    /// Says whether something waits for a disk that refuses.
    fn waits(&self) -> bool {
        !self.pending.is_empty() || !self.undeclared.is_empty()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.retry_at <= now) && self.waits() {
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
        let retry = self.trouble.as_ref().filter(|_| self.waits()).map(|trouble| trouble.retry_at);
        [self.commit_due, self.cursor_due, retry].into_iter().flatten().min()
    }

    /// Notes that something was acknowledged, or found missing.
    pub(super) fn acknowledged(&mut self, now: Instant) {
        self.declare_found(now);
        if self.cursor_due.is_none() && self.cursor.written() != Some(&self.shared.delivered()) {
            self.cursor_due = Some(now + PAUSE);
        }
    }

    /// Writes what the outlets found missing.
    fn declare_found(&mut self, now: Instant) {
        let found = self.shared.take_found();
        if found.is_empty() {
            return;
        }
        for gap in found {
            let (first, last) = (gap.first(), gap.last());
            error!(resource = %gap.resource(), first, last, count = gap.count(), cause = %gap.cause(), "observations are lost");
            // What the broker never takes is counted where it is given up.
            if matches!(gap.cause(), LossCause::Damaged | LossCause::PowerCut) {
                self.account.count(gap.resource(), |ledger| ledger.dropped += gap.count());
            }
            self.undeclared.add(gap);
        }
        if self.trouble.as_ref().is_none_or(|trouble| trouble.retry_at <= now) {
            self.try_to_write(now);
        }
    }

    /// Makes everything written durable.
    pub(super) fn commit(&mut self, now: Instant) {
        self.commit_due = None;
        if self.written == 0 && self.declared.is_empty() {
            return;
        }
        let result = self.sync(now).or_else(|error| {
            let segment = self.active.as_ref().map_or(0, |active| active.header.number);
            warn!(segment, %error, "fsync failed; what it should have made durable is written to another segment");
            self.write(now).and_then(|()| self.sync(now))
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
        if let Err(error) = self.try_to_save_cursor(now) {
            if !self.cursor_refused {
                warn!(%error, "cannot write what is delivered; a restart would deliver it again");
            }
            self.cursor_refused = true;
            self.cursor_due = Some(now + PAUSE);
        }
        self.report();
    }

    /// Makes durable what is delivered, if the disk lets it; otherwise it is tried again.
    pub(super) fn note_delivered(&mut self, delivered: Spans, now: Instant) {
        if self.write_cursor(delivered).is_err() {
            self.cursor_due = Some(now + PAUSE);
        }
    }

    /// What was found missing is declared first: a cursor that has passed the place would never find it again. Only a disk
    /// that refuses the declaration is not waited for, since what is reclaimed may be the room it lacks.
    fn try_to_save_cursor(&mut self, now: Instant) -> io::Result<()> {
        let delivered = self.shared.delivered();
        self.declare_found(now);
        if !self.declared.is_empty() {
            self.commit(now);
        }
        self.write_cursor(delivered)
    }

    fn write_cursor(&mut self, delivered: Spans) -> io::Result<()> {
        if self.cursor.written() != Some(&delivered) {
            let durable = self.shared.newest().map_or(Position::ORIGIN, |newest| newest.synced_position());
            self.cursor.write(&*self.storage, delivered, durable)?;
            self.cursor_refused = false;
        }
        self.pool.reclaim();
        Ok(())
    }

    pub(super) fn report(&self) {
        let (bytes, segments) = self.pool.usage();
        self.account.store(|store| {
            store.bytes = bytes;
            store.segments = segments;
        });
    }

    fn try_to_write(&mut self, now: Instant) {
        match self.write(now) {
            Ok(()) => {
                if let Some(trouble) = &mut self.trouble {
                    trouble.written = true;
                }
            }
            Err(error) => {
                self.enter_trouble(&error, now);
                self.drop_unwritten(cause_of(&error));
            }
        }
        let unsynced = self.active.as_ref().map_or(0, |active| active.written - active.synced);
        if self.written == 0 && self.declared.is_empty() {
            return;
        }
        if unsynced >= self.settings.commit_bytes || self.trouble.as_ref().is_some_and(|trouble| trouble.written) {
            self.commit(now);
        } else if self.commit_due.is_none() {
            self.commit_due = Some(now + self.settings.commit_interval);
        }
    }

    /// Writes everything pending, in as many frames and segments as it takes: losses first.
    fn write(&mut self, now: Instant) -> io::Result<()> {
        while !self.undeclared.is_empty() || self.written < self.pending.len() {
            if self.active.as_ref().is_none_or(|active| active.sealed || active.poisoned) {
                self.rotate(now)?;
                // Making room may have declared all that was waiting. With nothing to write no frame fits, and the segment
                // just begun would be taken for full.
                continue;
            }
            let full = if self.undeclared.is_empty() { self.write_observations()? } else { self.write_losses()? };
            if full {
                self.rotate(now)?;
            }
        }
        Ok(())
    }

    /// Writes one frame of observations; returns whether the segment is full.
    fn write_observations(&mut self) -> io::Result<bool> {
        let Some(active) = &self.active else { return Ok(false) };
        let waiting = self.pending.get(self.written..).unwrap_or_default();
        let room = active.room();
        match self.encoder.encode(waiting, room) {
            Encoded::Frame { count } => {
                if self.write_frame()? {
                    self.accept(count);
                }
                Ok(false)
            }
            // In a segment with nothing but what was carried over, there is nowhere it would fit.
            Encoded::NoRoom if active.written == active.first => {
                self.drop_too_long();
                Ok(false)
            }
            Encoded::NoRoom => Ok(true),
        }
    }

    /// Writes one frame of losses; returns whether the segment is full.
    pub(super) fn write_losses(&mut self) -> io::Result<bool> {
        let Some(active) = &self.active else { return Ok(false) };
        let count = self.encoder.gaps(self.undeclared.iter(), active.room());
        if count == 0 {
            // In a segment with nothing but what was carried over, there is nowhere it would fit.
            let nowhere = active.written == active.first;
            return if nowhere { Err(io::Error::other("a segment has no room for a loss")) } else { Ok(true) };
        }
        if self.write_frame()? {
            for gap in (0..count).map_while(|_| self.undeclared.pop()) {
                self.declared.add(gap);
            }
        }
        Ok(false)
    }

    /// Writes the frame that the encoder holds. `false` when the segment took nothing and is sealed.
    fn write_frame(&mut self) -> io::Result<bool> {
        let Some(active) = &mut self.active else { return Ok(false) };
        let frame = self.encoder.seal(active.header.salt, active.written, active.synced);
        match active.file.write_at(frame, u64::from(active.written)) {
            Ok(()) => {
                active.written += saturate(frame.len());
                Ok(true)
            }
            Err(error) if is_lack_of_room(&error) || active.written == active.first => Err(error),
            Err(error) => {
                warn!(segment = active.header.number, %error, "write failed; going on in another segment");
                active.sealed = true;
                Ok(false)
            }
        }
    }

    fn accept(&mut self, count: usize) {
        self.encoder.keep_shapes();
        let until = self.written + count;
        for pending in self.pending.get_mut(self.written..until).unwrap_or_default() {
            if !pending.accepted {
                pending.accepted = true;
                self.account.count(pending.resource, |ledger| {
                    match pending.offered {
                        Offered::Observation(_) => ledger.accepted += 1,
                        Offered::Lost(_) => ledger.dropped += pending.count(),
                    }
                    ledger.last_seq = pending.last();
                });
            }
        }
        self.written = until;
    }

    fn drop_too_long(&mut self) {
        let pending = self.pending.remove(self.written);
        error!(resource = %pending.resource, seq = pending.seq, "an observation is longer than a segment and dropped");
        self.account.count(pending.resource, |ledger| ledger.dropped += pending.count());
        give_up(&pending, LossCause::TooLong, &mut self.undeclared);
        self.refused.entry(pending.resource).or_insert(pending.seq);
    }

    /// Drops what never was in any segment. What a failed sync left stays: it was accepted, and is bounded.
    fn drop_unwritten(&mut self, cause: LossCause) {
        let (account, undeclared, refused) = (&self.account, &mut self.undeclared, &mut self.refused);
        let mut dropped = 0;
        self.pending.retain(|pending| {
            if !pending.accepted {
                dropped += 1;
                account.count(pending.resource, |ledger| ledger.dropped += pending.count());
                give_up(pending, cause, undeclared);
                refused.entry(pending.resource).or_insert(pending.seq);
            }
            pending.accepted
        });
        if let Some(trouble) = &mut self.trouble {
            trouble.dropped += dropped;
        }
    }

    pub(super) fn sync(&mut self, now: Instant) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if let Err(error) = active.file.sync() {
            active.poisoned = true;
            self.written = 0;
            self.undeclared.append(&mut self.declared);
            return Err(error);
        }
        active.synced = active.written;
        self.declared.clear();
        if self.undeclared.is_empty() {
            self.refused.clear();
        }
        // Counted before the outlet may read it, so that nothing is ever delivered and not yet durable.
        for pending in self.pending.drain(..self.written) {
            if let Offered::Observation(_) = pending.offered {
                self.account.count(pending.resource, |ledger| ledger.durable += 1);
            }
            if let Some(origin) = pending.origin() {
                self.marks.insert(pending.resource, (origin, pending.t()));
                self.account.durable_origin(pending.resource, origin, pending.t());
            }
        }
        self.written = 0;
        self.shared.set_durable(active.header.number, active.synced, now);
        Ok(())
    }

    fn enter_trouble(&mut self, error: &io::Error, now: Instant) {
        let reason = match error.kind() {
            io::ErrorKind::QuotaExceeded => "quota spent".to_owned(),
            io::ErrorKind::StorageFull => "disk full".to_owned(),
            io::ErrorKind::ReadOnlyFilesystem => "read-only".to_owned(),
            _ => error.to_string(),
        };
        let retry_at = now + PAUSE;
        match &mut self.trouble {
            Some(trouble) => {
                trouble.retry_at = retry_at;
                trouble.written = false;
                trouble.cause = cause_of(error);
            }
            None => {
                error!(reason, "the disk refuses; observations are dropped until it does not");
                self.trouble = Some(Trouble { dropped: 0, cause: cause_of(error), written: false, retry_at });
            }
        }
        self.account.store(|store| store.trouble = Some(reason));
    }

    fn leave_trouble(&mut self) {
        if let Some(trouble) = self.trouble.take_if(|trouble| trouble.written) {
            info!(dropped = trouble.dropped, "the disk accepts observations again");
            self.account.store(|store| store.trouble = None);
        }
    }
}

/// Declares what will not be written: an observation for this cause, a loss for its own.
fn give_up(pending: &Pending, cause: LossCause, undeclared: &mut Losses) {
    match &pending.offered {
        Offered::Observation(observation) => {
            undeclared.add_one(pending.resource, pending.seq, observation.t, cause);
        }
        Offered::Lost(_) => pending.gap().into_iter().for_each(|gap| undeclared.add(gap)),
    }
}

fn cause_of(error: &io::Error) -> LossCause {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => LossCause::Quota,
        io::ErrorKind::StorageFull => LossCause::DiskFull,
        io::ErrorKind::ReadOnlyFilesystem => LossCause::ReadOnly,
        _ => LossCause::DiskError,
    }
}

pub(super) fn is_lack_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
