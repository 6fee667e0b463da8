//! What the cursor says. The one place of [`examine`](super) that knows the cursor's form.

use std::fmt;

use super::super::cursor;
use super::super::format::{CursorSlot, PAGE, Position, SLOT_LEN, Unreadable};
use super::super::storage::Storage;
use super::finding::{Finding, Trouble};
use super::version;

/// Name of the cursor's file.
pub(super) const NAME: &str = cursor::NAME;

/// What is delivered.
#[derive(Clone, Default, Debug)]
pub(super) struct Delivered {
    slot: Option<(CursorSlot, u16)>,
}

impl Delivered {
    /// Reads both slots. One of another store than `epoch` counts for nothing; one that never was written is none.
    ///
    /// # Errors
    /// A newer format version.
    pub(super) fn read(
        storage: &dyn Storage,
        epoch: Option<u64>,
        findings: &mut Vec<Finding>,
    ) -> Result<Self, Unreadable> {
        let file = match storage.open_to_read(NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                findings.push(Finding::at(NAME, 0, Trouble::Withheld { error: error.to_string() }));
                return Ok(Self::default());
            }
        };
        let mut newest: Option<(CursorSlot, u16)> = None;
        for place in [0, u64::from(PAGE)] {
            let mut bytes = [0; SLOT_LEN];
            if let Err(error) = file.read_at(&mut bytes, place) {
                findings.push(Finding::at(NAME, place, Trouble::Withheld { error: error.to_string() }));
                continue;
            }
            match CursorSlot::decode(&bytes) {
                Ok(slot) if epoch.is_some_and(|epoch| epoch != slot.epoch) => {
                    findings.push(Finding::at(NAME, place, Trouble::SlotOfAnother { epoch: slot.epoch }));
                }
                Ok(slot) if newest.as_ref().is_none_or(|(other, _)| other.generation < slot.generation) => {
                    newest = Some((slot, version(&bytes)));
                }
                Err(newer @ Unreadable::Newer { .. }) => return Err(newer),
                Err(Unreadable::Damaged) if bytes.iter().any(|byte| *byte != 0) => {
                    findings.push(Finding::at(NAME, place, Trouble::Slot));
                }
                Ok(_) | Err(Unreadable::Damaged) => {}
            }
        }
        Ok(Self { slot: newest })
    }

    /// Returns the format version of the slot that counts.
    pub(super) fn version(&self) -> Option<u16> {
        self.slot.as_ref().map(|(_, version)| *version)
    }

    /// Says whether what begins at a place is delivered.
    pub(super) fn holds(&self, at: Position) -> bool {
        self.slot.as_ref().is_some_and(|(slot, _)| slot.delivered.end_of(at).is_some())
    }

    /// Says whether everything in the segments `from` to `to` is delivered.
    pub(super) fn holds_segments(&self, from: u64, to: u64) -> bool {
        let (from, to) = (Position::start_of(from), Position::start_of(to.saturating_add(1)));
        self.slot.as_ref().is_some_and(|(slot, _)| slot.delivered.covers(from, to))
    }

    /// Returns up to where a segment is known to have been durable; 0 when the cursor says nothing of it.
    pub(super) fn durable_in(&self, segment: u64) -> u32 {
        let durable = self.slot.as_ref().map(|(slot, _)| slot.durable);
        durable.filter(|durable| durable.segment == segment).map_or(0, |durable| durable.offset)
    }
}

impl fmt::Display for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((slot, _)) = &self.slot else { return f.write_str("none: nothing is known to be delivered") };
        let Position { segment, offset } = slot.delivered.end_of(Position::ORIGIN).unwrap_or(Position::ORIGIN);
        write!(f, "everything before byte {offset} of segment {segment} is delivered")?;
        match slot.delivered.iter().filter(|span| span.from > Position::ORIGIN).count() {
            0 => Ok(()),
            1 => f.write_str(", and one stretch behind it"),
            more => write!(f, ", and {more} stretches behind it"),
        }
    }
}
