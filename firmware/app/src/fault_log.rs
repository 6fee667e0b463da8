//! What went wrong, kept over resets: a ring of the latest entries.
//!
//! ```text
//! slot = number u32 LE, boot u32 LE, uptime s u32 LE, fault u8, detail u32 LE, CRC-32 LE
//! ```

use ganglion_protocols::bytes::{Reader, Writer};
use ganglion_protocols::crc32;

use crate::board::{Memory, MemoryError};
use crate::text::Text;

const CONTENT: usize = 17;
const SLOT: usize = CONTENT + 4;

/// What went wrong, or what must be known to understand what did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The node started; the detail is the cause of the reset.
    Started,
    /// The firmware panicked before this start; the detail is the line.
    Panic,
    /// A sensor began to fail; the detail is 256 x sensor + fault.
    Sensor,
    /// The memory of samples did not take one; the detail is the place.
    Memory,
    /// The settings were not readable: the defaults hold.
    Settings,
    /// The clock was set by more than it may be wrong; the detail is seconds.
    Clock,
    /// New firmware was installed; the detail is its version.
    Installed,
    /// New firmware did not prove itself, the old one is back.
    RolledBack,
    /// A fault that this version does not know.
    Other(u8),
}

/// An entry of the fault log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultEntry {
    /// Its number, from 1.
    pub number: u32,
    /// The boot it happened in.
    pub boot: u32,
    /// Seconds of uptime.
    pub uptime_s: u32,
    /// What it was.
    pub fault: Fault,
    /// More of it.
    pub detail: u32,
}

/// The latest entries, in a memory that is handed to each call.
#[derive(Debug)]
pub struct FaultLog {
    slots: u32,
    next: u32,
}

impl FaultLog {
    /// Opens the log that is in this memory, all of which is its own.
    pub fn open(memory: &mut impl Memory) -> Self {
        let slots = u32::try_from(memory.size() / SLOT).unwrap_or(u32::MAX);
        let mut log = Self { slots, next: 1 };
        for slot in 0..slots {
            if let Some(entry) = log.slot(memory, slot) {
                log.next = log.next.max(entry.number.saturating_add(1));
            }
        }
        log
    }

    /// Notes a fault; the oldest entry gives way.
    ///
    /// # Errors
    /// When the memory does not take it.
    pub fn note(
        &mut self,
        memory: &mut impl Memory,
        boot: u32,
        uptime_s: u32,
        fault: Fault,
        detail: u32,
    ) -> Result<(), MemoryError> {
        let number = self.next;
        let slot = number.checked_rem(self.slots).ok_or(MemoryError { at: 0 })?;
        let mut bytes = [0; SLOT];
        let mut out = Writer::new(&mut bytes);
        let put = out.put(&number.to_le_bytes()).and_then(|()| {
            out.put(&boot.to_le_bytes())?;
            out.put(&uptime_s.to_le_bytes())?;
            out.put(&[fault.code()])?;
            out.put(&detail.to_le_bytes())
        });
        debug_assert!(put.is_ok(), "a slot has room for an entry");
        if let Some((content, crc)) = bytes.split_last_chunk_mut::<4>() {
            *crc = crc32(content).to_le_bytes();
        }
        memory.write(place(slot), &bytes)?;
        self.next = number.saturating_add(1);
        Ok(())
    }

    /// Returns the first entry with this number or a higher one.
    pub fn from(&self, memory: &mut impl Memory, number: u32) -> Option<FaultEntry> {
        let oldest = self.next.saturating_sub(self.slots).max(1);
        (number.max(oldest)..self.next).find_map(|number| {
            let slot = number.checked_rem(self.slots)?;
            self.slot(memory, slot).filter(|entry| entry.number == number)
        })
    }

    /// Returns the number of the next entry: entries are below it.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Forgets every entry; numbers go on.
    ///
    /// # Errors
    /// When the memory does not take it.
    pub fn clear(&mut self, memory: &mut impl Memory) -> Result<(), MemoryError> {
        let latest = self.next.saturating_sub(1).checked_rem(self.slots);
        for slot in (0..self.slots).filter(|slot| Some(*slot) != latest) {
            memory.write(place(slot), &[0; SLOT])?;
        }
        Ok(())
    }

    fn slot(&self, memory: &mut impl Memory, slot: u32) -> Option<FaultEntry> {
        let mut bytes = [0; SLOT];
        memory.read(place(slot), &mut bytes).ok()?;
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let mut reader = Reader::new(content);
        let word = |reader: &mut Reader<'_>| reader.array().ok().map(u32::from_le_bytes);
        let (number, boot, uptime_s) = (word(&mut reader)?, word(&mut reader)?, word(&mut reader)?);
        let fault = Fault::from_code(reader.u8().ok()?);
        let detail = word(&mut reader)?;
        let whole = crc32(content) == u32::from_le_bytes(*crc) && number > 0;
        (whole && number.checked_rem(self.slots) == Some(slot)).then_some(FaultEntry {
            number,
            boot,
            uptime_s,
            fault,
            detail,
        })
    }
}

fn place(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX).saturating_mul(SLOT)
}

impl Fault {
    const fn code(self) -> u8 {
        match self {
            Self::Started => 1,
            Self::Panic => 2,
            Self::Sensor => 3,
            Self::Memory => 4,
            Self::Settings => 5,
            Self::Clock => 6,
            Self::Installed => 7,
            Self::RolledBack => 8,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Started,
            2 => Self::Panic,
            3 => Self::Sensor,
            4 => Self::Memory,
            5 => Self::Settings,
            6 => Self::Clock,
            7 => Self::Installed,
            8 => Self::RolledBack,
            other => Self::Other(other),
        }
    }
}

impl FaultEntry {
    /// Longest form in bytes, with the end of the line.
    pub(crate) const LONGEST: usize = 64;

    /// Writes it: `7 boot 3 +120 s started 4`.
    pub(crate) fn write<const N: usize>(&self, text: &mut Text<N>) {
        let name = match self.fault {
            Fault::Started => "started",
            Fault::Panic => "panic",
            Fault::Sensor => "sensor",
            Fault::Memory => "memory",
            Fault::Settings => "settings",
            Fault::Clock => "clock",
            Fault::Installed => "installed",
            Fault::RolledBack => "rolled-back",
            Fault::Other(_) => "other",
        };
        text.glued(self.number).word("boot").number(self.boot).word("+").glued(self.uptime_s).word("s");
        text.word(name).number(self.detail);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn entries(log: &FaultLog, mut memory: &mut [u8]) -> Vec<FaultEntry> {
        let (mut from, mut all) = (0, vec![]);
        while let Some(entry) = log.from(&mut memory, from) {
            from = entry.number + 1;
            all.push(entry);
        }
        all
    }

    #[test]
    fn the_latest_entries_are_found_after_a_reset_in_order() {
        let mut bytes = [0; 4 * SLOT + 7];
        let mut memory = &mut bytes[..];
        let mut log = FaultLog::open(&mut memory);
        for detail in 1..=6 {
            log.note(&mut memory, 1, detail, Fault::Started, detail).unwrap();
        }
        let mut log = FaultLog::open(&mut memory);
        assert_eq!(entries(&log, memory).iter().map(|entry| entry.detail).collect::<Vec<_>>(), [3, 4, 5, 6]);
        log.note(&mut memory, 2, 0, Fault::Panic, 99).unwrap();
        let mut text = Text::<{ FaultEntry::LONGEST }>::new();
        entries(&log, memory).last().unwrap().write(&mut text);
        assert_eq!(text.as_str(), "7 boot 2 +0 s panic 99");
    }

    #[test]
    fn a_damaged_entry_is_left_out() {
        let mut bytes = [0; 4 * SLOT];
        let mut memory = &mut bytes[..];
        let mut log = FaultLog::open(&mut memory);
        for detail in 1..=3 {
            log.note(&mut memory, 1, 0, Fault::Sensor, detail).unwrap();
        }
        memory[2 * SLOT + 5] ^= 1;
        assert_eq!(entries(&log, memory).iter().map(|entry| entry.detail).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_cleared_log_keeps_its_numbers() {
        let mut bytes = [0; 4 * SLOT];
        let mut memory = &mut bytes[..];
        let mut log = FaultLog::open(&mut memory);
        for _ in 0..3 {
            log.note(&mut memory, 1, 0, Fault::Clock, 7).unwrap();
        }
        log.clear(&mut memory).unwrap();
        assert_eq!(FaultLog::open(&mut memory).next(), 4);
        assert_eq!(entries(&log, memory).len(), 1, "the latest stays, to say where the numbers are");
    }

    #[test]
    fn a_log_without_room_says_so() {
        let mut memory: &mut [u8] = &mut [0; SLOT - 1];
        let mut log = FaultLog::open(&mut memory);
        assert!(log.note(&mut memory, 1, 0, Fault::Started, 0).is_err());
        assert_eq!(log.from(&mut memory, 0), None);
    }
}
