//! Where one segment of a log ends and the next begins: on which file, with what carried over, and what has to go for it.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use ganglion_protocols::Cri;
use tracing::warn;

use super::format::{HEADER_LEN, SegmentHeader, saturate, segment_name};
use super::log::{Active, Log, is_lack_of_room};
use super::lost;
use super::pool::SPARES;
use super::shared::Entry;
use crate::site::WhenFull;

impl Log {
    /// Ends the active segment and begins the next. When this fails the active one stays, sealed, and this is tried again.
    pub(super) fn rotate(&mut self, now: Instant) -> io::Result<()> {
        if let Some(active) = &mut self.active {
            active.sealed = true;
            if !active.poisoned && active.synced < active.written {
                let segment = active.header.number;
                if let Err(error) = self.sync(now) {
                    warn!(segment, %error, "fsync failed; what it should have made durable is written to another segment");
                }
            }
        }
        // What is delivered is reclaimed before anything is made or evicted.
        let delivered = self.shared.delivered();
        // Asked after it: what is found missing is reported before its place is acknowledged.
        let nothing_found = self.undeclared.is_empty() && self.declared.is_empty() && !self.shared.has_found();
        if nothing_found && self.shared.oldest_delivered(1).is_some() {
            self.note_delivered(delivered, now);
        }
        let active = self.begin_on_a_spare(now)?;
        self.next_segment += 1;
        self.encoder.forget_shapes();
        let end = active.written;
        let (number, size) = (active.header.number, active.header.size);
        self.shared.push(Entry { number, size, first: end, end, synced: end });
        self.active = Some(active);
        self.make_room(now);
        self.report();
        Ok(())
    }

    /// Evicts the oldest segment when the quota leaves no file for the next one. What goes with it is declared and durable
    /// before it goes, in the segment that has just begun.
    fn make_room(&mut self, now: Instant) {
        self.pool.reclaim();
        while self.settings.when_full == WhenFull::EvictOldest
            && let Some(oldest) = self.pool.to_evict()
        {
            let delivered = self.shared.delivered();
            self.undeclared.append(&mut lost::with_segment(&*self.storage, &oldest, &delivered, &self.account));
            if !self.declare(now) {
                self.late += 1;
                warn!(segment = oldest.number, times = self.late, "the loss of a segment is declared only after it");
            }
            if let Err(error) = self.pool.retire(&oldest) {
                warn!(segment = oldest.number, %error, "cannot evict a segment");
                return;
            }
        }
    }

    /// Makes all losses durable if the active segment takes them.
    fn declare(&mut self, now: Instant) -> bool {
        let usable = |active: &Active| !active.poisoned;
        while !self.undeclared.is_empty() && self.active.as_ref().is_some_and(usable) {
            let before = self.undeclared.len();
            if !matches!(self.write_losses(), Ok(false)) || self.undeclared.len() == before {
                return false;
            }
        }
        self.undeclared.is_empty() && (self.declared.is_empty() || self.sync(now).is_ok())
    }

    /// Begins a segment on the first file that can be used. One that cannot is not tried again: the spares before it,
    /// and at last a new one, may be sound.
    fn begin_on_a_spare(&mut self, now: Instant) -> io::Result<Active> {
        let mut left = SPARES;
        loop {
            let spare = match self.pool.take()? {
                Some(spare) => spare,
                None => {
                    self.make_room(now);
                    self.pool.take()?.ok_or(io::ErrorKind::QuotaExceeded)?
                }
            };
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
        let frame = self.encoder.numbers(&numbers, &self.marks, &header)?;
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

    /// Returns the last number of each resource that is used up: durable, or dropped and declared. Any other is not: it
    /// goes into the segment that begins, and a process that ends before that gives it again, so that no subscriber sees
    /// a gap where nothing was kept.
    fn numbers_used(&self) -> BTreeMap<Cri, u64> {
        let mut numbers = self.numbers.clone();
        numbers.extend(self.pending.iter().rev().map(|pending| (pending.resource, pending.seq - 1)));
        for (resource, first) in &self.refused {
            numbers.entry(*resource).and_modify(|number| *number = (*number).min(first - 1));
        }
        numbers
    }
}
