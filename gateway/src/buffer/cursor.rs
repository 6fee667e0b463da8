//! The acknowledgement cursor: two slots written in turn, so that a torn write leaves the other.
//!
//! It is written lazily. A lost cursor costs duplicates, never an observation.

use std::io;

use super::format::{CursorSlot, PAGE, Position, SLOT_LEN, Unreadable};
use super::spans::Spans;
use super::storage::{Storage, StorageFile};

pub(super) const NAME: &str = "cursor";
const NEW_NAME: &str = "new-cursor";

/// Writes the slots.
pub(super) struct Cursor {
    epoch: u64,
    generation: u64,
    /// What the disk is known to hold.
    written: Option<Spans>,
    file: Option<Box<dyn StorageFile>>,
}

impl Cursor {
    /// Goes on from the slot found at open.
    pub(super) fn new(epoch: u64, found: Option<CursorSlot>) -> Self {
        let generation = found.as_ref().map_or(0, |slot| slot.generation);
        Self { epoch, generation, written: found.map(|slot| slot.delivered), file: None }
    }

    /// Returns what survives a power cut.
    pub(super) const fn written(&self) -> Option<&Spans> {
        self.written.as_ref()
    }

    /// Makes `delivered` durable.
    pub(super) fn write(&mut self, storage: &dyn Storage, delivered: Spans, durable: Position) -> io::Result<()> {
        let generation = self.generation + 1;
        let slot = CursorSlot { epoch: self.epoch, generation, delivered, durable };
        let result = self.write_slot(storage, generation, &slot.encode());
        match result {
            Ok(()) => {
                self.generation = generation;
                self.written = Some(slot.delivered);
            }
            // A handle whose sync failed once is not trusted again.
            Err(_) => self.file = None,
        }
        result
    }

    fn write_slot(&mut self, storage: &dyn Storage, generation: u64, slot: &[u8]) -> io::Result<()> {
        let place = generation % 2 * u64::from(PAGE);
        if let Some(file) = &self.file {
            file.write_at(slot, place)?;
            return file.sync();
        }
        // A new file beside the old one: the old one's other slot may be the only good one.
        let file = storage.create(NEW_NAME)?;
        file.write_at(&[0; 2 * PAGE as usize], 0)?;
        file.write_at(slot, place)?;
        file.sync()?;
        storage.rename(NEW_NAME, NAME)?;
        storage.sync_dir()?;
        self.file = Some(file);
        Ok(())
    }
}

/// Reads the newer of the two slots.
pub(super) fn read(storage: &dyn Storage) -> Result<Option<CursorSlot>, Unreadable> {
    let Ok(file) = storage.open_to_read(NAME) else { return Ok(None) };
    let mut newest: Option<CursorSlot> = None;
    for place in [0, u64::from(PAGE)] {
        let mut bytes = [0; SLOT_LEN];
        // Version 1 wrote files that end behind the second slot's page, so there is always as much to read.
        let whole = matches!(file.read_at(&mut bytes, place), Ok(read) if read == bytes.len());
        match CursorSlot::decode(&bytes) {
            Ok(slot) if whole && newest.as_ref().is_none_or(|other| other.generation < slot.generation) => {
                newest = Some(slot)
            }
            Err(newer @ Unreadable::Newer { .. }) if whole => return Err(newer),
            _ => {}
        }
    }
    Ok(newest)
}
