//! One sample in the memory.
//!
//! ```text
//! slot = seq u32 LE, boot u32 LE, uptime ms u48 LE, channels x (state u8, value i32 LE), CRC-32 LE
//! ```
//! A state is 0 for a value, otherwise 1 + the fault; then the value is 0.

use ganglion_protocols::bytes::{Reader, Writer};
use ganglion_protocols::crc32;
use ganglion_protocols::node_link::{NodeReading, SensorFault};
use heapless::Vec;

use super::StoreError;
use crate::board::{Memory, MemoryError};
use crate::sampling::MAX_CHANNELS;

const HEAD: usize = 14;
const EACH: usize = 5;
const CRC: usize = 4;
const LONGEST: usize = size(MAX_CHANNELS);

/// Bytes of a slot.
#[allow(clippy::arithmetic_side_effects, reason = "small constants times at most MAX_CHANNELS")]
pub(super) const fn size(channels: usize) -> usize {
    HEAD + EACH * channels + CRC
}

/// A sample as it was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its number.
    pub seq: u32,
    /// The boot it was taken in.
    pub boot: u32,
    /// Uptime of that boot, in milliseconds.
    pub at_ms: u64,
    /// A reading for each channel.
    pub readings: Vec<NodeReading, MAX_CHANNELS>,
}

pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc32(bytes)
}

/// Writes a sample at `at`. Missing readings are faults, more than `channels` are left out.
pub(super) fn write(memory: &mut impl Memory, at: usize, channels: usize, stored: &Stored) -> Result<(), MemoryError> {
    let mut bytes = [0; LONGEST];
    let failed = MemoryError { at };
    let (content, rest) = bytes.split_at_mut_checked(size(channels).saturating_sub(CRC)).ok_or(failed)?;
    let mut out = Writer::new(content);
    let put = out.put(&stored.seq.to_le_bytes()).and_then(|()| {
        out.put(&stored.boot.to_le_bytes())?;
        out.put(stored.at_ms.to_le_bytes().first_chunk::<6>().unwrap_or(&[0; 6]))?;
        (0..channels).try_for_each(|channel| {
            let none = NodeReading::Fault(SensorFault::NoSample);
            let (state, value) = match stored.readings.get(channel).copied().unwrap_or(none) {
                NodeReading::Value(value) => (0, value),
                NodeReading::Fault(fault) => (fault.code().saturating_add(1), 0),
            };
            out.put(&[state])?;
            out.put(&value.to_le_bytes())
        })
    });
    put.map_err(|_| failed)?;
    let crc = checksum(content).to_le_bytes();
    *rest.first_chunk_mut::<CRC>().ok_or(failed)? = crc;
    memory.write(at, bytes.get(..size(channels)).ok_or(failed)?)
}

/// Reads the sample at `at`; `None` when there is none that is whole.
pub(super) fn read(memory: &mut impl Memory, at: usize, channels: usize) -> Option<Stored> {
    let mut bytes = [0; LONGEST];
    let bytes = bytes.get_mut(..size(channels))?;
    memory.read(at, bytes).ok()?;
    let (content, crc) = bytes.split_last_chunk::<CRC>()?;
    let mut reader = Reader::new(content);
    let (seq, boot) = (u32::from_le_bytes(reader.array().ok()?), u32::from_le_bytes(reader.array().ok()?));
    if checksum(content) != u32::from_le_bytes(*crc) || seq == 0 {
        return None;
    }
    let [b0, b1, b2, b3, b4, b5] = reader.array().ok()?;
    let at_ms = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, 0, 0]);
    let mut readings = Vec::new();
    for _ in 0..channels {
        let (state, value) = (reader.u8().ok()?, i32::from_le_bytes(reader.array().ok()?));
        let reading = match state.checked_sub(1) {
            None => NodeReading::Value(value),
            Some(code) => NodeReading::Fault(SensorFault::from_code(code)?),
        };
        readings.push(reading).ok()?;
    }
    Some(Stored { seq, boot, at_ms, readings })
}

/// Returns the highest number in a whole slot, 0 when there is none.
pub(super) fn highest(memory: &mut impl Memory, channels: usize, slots: u32) -> Result<u32, StoreError> {
    let mut highest = 0;
    let mut at = super::header::PLACES;
    for slot in 0..slots {
        // A number stands only where it belongs: a slot of another length that happens to be whole is no slot.
        let here = read(memory, at, channels).filter(|stored| stored.seq.checked_rem(slots) == Some(slot));
        highest = here.map_or(highest, |stored| stored.seq.max(highest));
        at = at.saturating_add(size(channels));
    }
    Ok(highest)
}
