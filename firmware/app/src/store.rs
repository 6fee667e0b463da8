//! Samples, kept until they are acknowledged: the node's half of the durability contract.
//!
//! Samples are numbered from 1 without gaps in one epoch. The store is a ring of equal slots in a [`Memory`], a slot for
//! each number modulo their count, each with a checksum. When it is full the oldest give way. Nothing is written to say
//! what was lost: a number that is not acknowledged and cannot be read is lost, and why follows from its place.
//!
//! ```text
//! memory = header copy, header copy, slot, slot, …
//! ```
//!
//! **Over a reset.** What [`push`](Store::push) returned for is kept: the highest whole slot says how far the numbers are. A
//! header that nobody can read, or another schema, begins a new life: without the one, epoch 0 until a gateway names it;
//! with the other, the same epoch behind the last number, and what was not acknowledged is declared damaged.

mod header;
mod slot;

use core::time::Duration;

use ganglion_protocols::node_link::{Lost, NodeLossCause, NodeReading, SchemaHash};
use heapless::Vec;

use self::header::Header;
pub use self::slot::Stored;
use crate::board::{Memory, MemoryError};
use crate::sampling::{MAX_CHANNELS, Taken, millis};

/// A sample store over a memory that is handed to each call.
#[derive(Debug)]
pub struct Store {
    header: Header,
    generation: u32,
    /// The last number given.
    last: u32,
    channels: usize,
    slots: u32,
    boot: u32,
}

/// Why the store does not do what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// The memory has no place for the headers and two samples.
    TooSmall(usize),
    /// The memory failed.
    Memory(MemoryError),
    /// All numbers are used up.
    Exhausted,
}

impl From<MemoryError> for StoreError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

/// What can be said of a number that is not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Kept { boot: u32 },
    Lost(NodeLossCause),
}

/// What comes next for the gateway: see [`Store::next`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Next {
    /// The numbers before `first` that are lost.
    pub lost: Option<Lost>,
    /// The first number that can be read, or the one that will be given next.
    pub first: u32,
    /// The boot of that sample, if there is one.
    pub boot: Option<u32>,
}

impl Store {
    /// Opens the store at a start of the node. `resumed` says that the memory may hold an earlier life; else nothing of it
    /// is believed.
    ///
    /// # Errors
    /// [`StoreError::TooSmall`], or the memory does not answer.
    pub fn open(
        memory: &mut impl Memory,
        schema: SchemaHash,
        channels: usize,
        resumed: bool,
    ) -> Result<Self, StoreError> {
        let channels = channels.min(MAX_CHANNELS);
        let room = memory.size().saturating_sub(header::PLACES);
        let slots = room.checked_div(slot::size(channels)).unwrap_or_default();
        let slots = u32::try_from(slots).ok().filter(|slots| *slots >= 2).ok_or(StoreError::TooSmall(memory.size()))?;
        let found = if resumed { Header::read(memory) } else { None };
        let mut store = Self { header: Header::NEW, generation: 0, last: 0, channels, slots, boot: 1 };
        match found {
            Some((generation, header)) => {
                (store.generation, store.header) = (generation, header);
                store.boot = header.boot.saturating_add(1);
                store.header.boot = store.boot;
                if header.schema == schema {
                    store.last = store.highest(memory)?.max(header.acked).max(header.base.saturating_sub(1));
                } else {
                    // Read with the slots of the schema that wrote them: what it had numbered is told from there.
                    store.last = header.last_known(memory)?.max(header.acked);
                    store.wipe(memory)?;
                    store.header.base = store.last.saturating_add(1);
                }
            }
            None => store.wipe(memory)?,
        }
        store.header.schema = schema;
        store.header.channels = u8::try_from(channels).unwrap_or_default();
        store.write_header(memory)?;
        Ok(store)
    }

    /// Keeps a sample; returns its number. The oldest one gives way when the store is full.
    ///
    /// # Errors
    /// The memory does not take it, which uses no number up; or [`StoreError::Exhausted`].
    pub fn push(&mut self, memory: &mut impl Memory, taken: &Taken) -> Result<u32, StoreError> {
        let seq = self.last.checked_add(1).ok_or(StoreError::Exhausted)?;
        let stored = Stored { seq, boot: self.boot, at_ms: millis(taken.at), readings: taken.readings.clone() };
        slot::write(memory, self.place(seq), self.channels, &stored)?;
        self.last = seq;
        Ok(seq)
    }

    /// Takes an acknowledgement of everything up to `seq`. One of numbers that were never given is refused (false).
    ///
    /// # Errors
    /// The memory does not take it: then it holds until the next reset only.
    pub fn acknowledge(&mut self, memory: &mut impl Memory, seq: u32) -> Result<bool, StoreError> {
        if seq > self.last {
            return Ok(false);
        }
        if seq > self.header.acked {
            self.header.acked = seq;
            self.forget_anchors(memory);
            self.write_header(memory)?;
        }
        Ok(true)
    }

    /// Returns what the gateway gets next: from the first number that is not acknowledged on.
    pub fn next(&self, memory: &mut impl Memory) -> Next {
        let begin = self.header.acked.saturating_add(1);
        let mut lost: Option<Lost> = None;
        let mut seq = begin;
        while seq <= self.last {
            match (self.standing(memory, seq), &mut lost) {
                (Standing::Kept { boot }, lost) => return Next { lost: *lost, first: seq, boot: Some(boot) },
                (Standing::Lost(cause), Some(so_far)) if so_far.cause != cause => {
                    return Next { lost, first: seq, boot: None };
                }
                (Standing::Lost(cause), lost) => {
                    // What gave way is one stretch: no need to look at each number of it.
                    let end = if cause == NodeLossCause::Full { self.oldest_slot().saturating_sub(1) } else { seq };
                    lost.get_or_insert(Lost { first: begin, last: end, cause }).last = end;
                    seq = end.saturating_add(1);
                }
            }
        }
        Next { lost, first: seq, boot: None }
    }

    /// Reads one sample; `None` when it was never given or cannot be read any more.
    pub fn read(&self, memory: &mut impl Memory, seq: u32) -> Option<Stored> {
        let inside = seq > 0 && seq <= self.last && seq >= self.oldest_slot();
        slot::read(memory, self.place(seq), self.channels).filter(|stored| inside && stored.seq == seq)
    }

    /// Returns the readings of the last sample, nothing when there is none.
    pub fn last_readings(&self, memory: &mut impl Memory) -> Vec<NodeReading, MAX_CHANNELS> {
        self.read(memory, self.last).map(|stored| stored.readings).unwrap_or_default()
    }

    /// Gives the store an epoch, if it has none; returns the one in force.
    ///
    /// # Errors
    /// The memory does not take it: then the store still has none.
    pub fn name(&mut self, memory: &mut impl Memory, epoch: u32) -> Result<u32, StoreError> {
        if self.header.epoch == 0 {
            self.header.epoch = epoch;
            self.write_header(memory).inspect_err(|_| self.header.epoch = 0)?;
        }
        Ok(self.header.epoch)
    }

    /// Says what UTC uptime 0 of this boot was, in milliseconds. What was said before holds where the two differ by no more
    /// than `tolerance`, so that a sample keeps its time; returns the one in force.
    ///
    /// # Errors
    /// The memory does not take it: then it holds until the next reset only.
    pub fn anchor(&mut self, memory: &mut impl Memory, anchor_ms: u64, tolerance: Duration) -> Result<u64, StoreError> {
        if let Some(held) = self.header.anchor(self.boot)
            && held.abs_diff(anchor_ms) <= millis(tolerance)
        {
            return Ok(held);
        }
        self.header.set_anchor(self.boot, anchor_ms);
        self.write_header(memory)?;
        Ok(anchor_ms)
    }

    /// Returns the UTC of uptime 0 of a boot, in milliseconds.
    #[must_use]
    pub fn anchor_of(&self, boot: u32) -> Option<u64> {
        self.header.anchor(boot)
    }

    /// Returns the epoch, 0 as long as nobody has named it.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.header.epoch
    }

    /// Returns the number of this boot.
    #[must_use]
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// Returns the last number given, 0 before the first.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.last
    }

    /// Returns how many numbers are not acknowledged.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.last.saturating_sub(self.header.acked)
    }

    /// Returns how many samples it can hold.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.slots
    }

    /// The lowest number that has not been overwritten.
    fn oldest_slot(&self) -> u32 {
        self.last.saturating_sub(self.slots.saturating_sub(1)).max(1)
    }

    fn standing(&self, memory: &mut impl Memory, seq: u32) -> Standing {
        if seq < self.header.base {
            return Standing::Lost(NodeLossCause::Damaged);
        }
        if seq < self.oldest_slot() {
            return Standing::Lost(NodeLossCause::Full);
        }
        match self.read(memory, seq) {
            None => Standing::Lost(NodeLossCause::Damaged),
            Some(stored) if stored.boot != self.boot && self.header.anchor(stored.boot).is_none() => {
                Standing::Lost(NodeLossCause::Undated)
            }
            Some(stored) => Standing::Kept { boot: stored.boot },
        }
    }

    fn place(&self, seq: u32) -> usize {
        let slot = seq.checked_rem(self.slots).unwrap_or_default();
        let before = usize::try_from(slot).unwrap_or_default().saturating_mul(slot::size(self.channels));
        header::PLACES.saturating_add(before)
    }

    /// The highest number in a whole slot of this life.
    fn highest(&self, memory: &mut impl Memory) -> Result<u32, StoreError> {
        slot::highest(memory, self.channels, self.slots)
    }

    /// Makes every slot and both headers none, so that nothing of another life is believed.
    fn wipe(&self, memory: &mut impl Memory) -> Result<(), StoreError> {
        let blank = [0; 32];
        let mut at = 0;
        while let Some(left) = memory.size().checked_sub(at).filter(|left| *left > 0) {
            memory.write(at, blank.get(..left.min(blank.len())).unwrap_or(&blank))?;
            at = at.saturating_add(blank.len());
        }
        Ok(())
    }

    /// Forgets the clocks of boots whose samples are all acknowledged.
    fn forget_anchors(&mut self, memory: &mut impl Memory) {
        let oldest = self.next(memory).boot.unwrap_or(self.boot);
        self.header.forget_anchors_before(oldest);
    }

    fn write_header(&mut self, memory: &mut impl Memory) -> Result<(), StoreError> {
        self.generation = self.generation.wrapping_add(1);
        self.header.write(memory, self.generation)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
