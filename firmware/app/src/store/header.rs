//! What a store knows beside its samples, in two copies.

use ganglion_protocols::bytes::{Reader, Writer};
use ganglion_protocols::node_link::SchemaHash;

use super::{StoreError, slot};
use crate::board::{Memory, MemoryError};

/// Bytes of a copy.
const COPY: usize = 144;
/// Bytes of both.
pub(super) const PLACES: usize = 2 * COPY;
/// Boots whose clock is remembered.
pub(super) const ANCHORS: usize = 8;

const MAGIC: u32 = 0x5347_4E31;
const CRC: usize = 4;

/// What a store knows beside its samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// 0 as long as nobody has named it.
    pub(super) epoch: u32,
    pub(super) boot: u32,
    pub(super) acked: u32,
    /// Numbers below it were of another schema and are gone.
    pub(super) base: u32,
    pub(super) schema: SchemaHash,
    /// Of the slots.
    pub(super) channels: u8,
    /// Boot and its UTC at uptime 0; boot 0 is none.
    anchors: [(u32, u64); ANCHORS],
}

impl Header {
    pub(super) const NEW: Self =
        Self { epoch: 0, boot: 1, acked: 0, base: 1, schema: SchemaHash(0), channels: 0, anchors: [(0, 0); ANCHORS] };

    pub(super) fn anchor(&self, boot: u32) -> Option<u64> {
        self.anchors.iter().find(|(of, _)| *of == boot && boot != 0).map(|(_, anchor)| *anchor)
    }

    /// Remembers the clock of a boot in the place of the oldest.
    pub(super) fn set_anchor(&mut self, boot: u32, anchor: u64) {
        let held = self.anchors.iter().position(|(of, _)| *of == boot);
        let place = match held {
            Some(place) => self.anchors.get_mut(place),
            None => self.anchors.iter_mut().min_by_key(|(of, _)| *of),
        };
        if let Some(place) = place {
            *place = (boot, anchor);
        }
    }

    pub(super) fn forget_anchors_before(&mut self, boot: u32) {
        self.anchors.iter_mut().filter(|(of, _)| *of < boot).for_each(|place| *place = (0, 0));
    }

    /// Returns the highest number that the slots of its own schema hold.
    pub(super) fn last_known(&self, memory: &mut impl Memory) -> Result<u32, StoreError> {
        let channels = usize::from(self.channels);
        let room = memory.size().saturating_sub(PLACES);
        let slots = room.checked_div(slot::size(channels)).unwrap_or_default();
        slot::highest(memory, channels, u32::try_from(slots).unwrap_or_default())
    }

    /// Reads the whole copy with the higher generation; `None` when neither is whole.
    pub(super) fn read(memory: &mut impl Memory) -> Option<(u32, Self)> {
        let one = Self::read_copy(memory, 0);
        let other = Self::read_copy(memory, COPY);
        match (one, other) {
            (Some(one), Some(other)) => {
                // Generations differ by one, and wrap.
                let newer = one.0.wrapping_sub(other.0) < u32::MAX / 2;
                Some(if newer { one } else { other })
            }
            (one, other) => one.or(other),
        }
    }

    /// Writes the copy whose turn it is.
    pub(super) fn write(&self, memory: &mut impl Memory, generation: u32) -> Result<(), MemoryError> {
        let mut bytes = [0; COPY];
        let (content, crc) = bytes.split_at_mut(COPY.saturating_sub(CRC));
        let mut out = Writer::new(content);
        let words = [MAGIC, generation, self.epoch, self.boot, self.acked, self.base, self.schema.0];
        let put = words.iter().try_for_each(|word| out.put(&word.to_le_bytes())).and_then(|()| {
            out.put(&[self.channels])?;
            self.anchors.iter().try_for_each(|(boot, anchor)| {
                out.put(&boot.to_le_bytes())?;
                out.put(&anchor.to_le_bytes())
            })
        });
        debug_assert!(put.is_ok(), "a copy has room for a header");
        crc.copy_from_slice(&slot::checksum(content).to_le_bytes());
        memory.write(if generation.is_multiple_of(2) { 0 } else { COPY }, &bytes)
    }

    fn read_copy(memory: &mut impl Memory, at: usize) -> Option<(u32, Self)> {
        let mut bytes = [0; COPY];
        memory.read(at, &mut bytes).ok()?;
        let (content, crc) = bytes.split_last_chunk::<CRC>()?;
        let mut reader = Reader::new(content);
        let mut word = || reader.array().ok().map(u32::from_le_bytes);
        if slot::checksum(content) != u32::from_le_bytes(*crc) || word()? != MAGIC {
            return None;
        }
        let generation = word()?;
        let (epoch, boot, acked, base, schema) = (word()?, word()?, word()?, word()?, SchemaHash(word()?));
        let channels = reader.u8().ok()?;
        let mut anchors = [(0, 0); ANCHORS];
        for anchor in &mut anchors {
            *anchor = (u32::from_le_bytes(reader.array().ok()?), u64::from_le_bytes(reader.array().ok()?));
        }
        Some((generation, Self { epoch, boot, acked, base, schema, channels, anchors }))
    }
}
