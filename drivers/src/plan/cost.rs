//! What a request costs in bus time.

use core::time::Duration;

use ganglion_protocols::modbus::Table;

use super::ReadRequest;
use crate::nanos;

/// The bus time of requests to one unit. Sums saturate; a plan is exact as long as all of it lasts less than 584
/// years.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// One exchange without the data of its answer, in nanoseconds.
    pub exchange: u64,
    /// One byte of data in the answer, in nanoseconds.
    pub byte: u64,
}

impl Cost {
    /// Returns the cost on a serial line: 8 characters of request and 5 of answer around the data, the time the unit takes
    /// to answer, and the silence before the next request.
    ///
    /// `character` is the time of one character, `gap` the silence between frames, `turnaround` the time from the end
    /// of a request to the begin of its answer; the silence by which the unit knows the end is in it.
    ///
    /// Source: MODBUS over Serial Line V1.02 §2.5.1; Application Protocol V1.1b3 §6.1 to §6.4.
    #[must_use]
    pub fn rtu(character: Duration, gap: Duration, turnaround: Duration) -> Self {
        let frames = character.saturating_mul(8 + 5);
        let exchange = frames.saturating_add(gap).saturating_add(turnaround);
        Self { exchange: nanos(exchange), byte: nanos(character) }
    }

    /// Returns the cost on TCP, where data is nearly free: 80 ns for a byte, as on a 100 Mbit/s Ethernet.
    ///
    /// `turnaround` is the time from the request to its answer.
    #[must_use]
    pub fn tcp(turnaround: Duration) -> Self {
        Self { exchange: nanos(turnaround), byte: 80 }
    }

    /// Returns what one request costs.
    #[must_use]
    pub fn of(&self, request: ReadRequest) -> Duration {
        Duration::from_nanos(self.exchange.saturating_add(self.byte.saturating_mul(data_bytes(request))))
    }
}

/// Returns the bytes of data in the answer.
fn data_bytes(request: ReadRequest) -> u64 {
    let count = u64::from(request.count);
    if request.table.is_bits() { count.div_ceil(8) } else { count.saturating_mul(2) }
}

/// Counts data bytes from both ends: an answer from `start` to `end` has `after(end) - before(start, lane(end))`
/// bytes.
///
/// Bits fill whole bytes from the first one asked for, so the part of `start` depends on where in a byte the end is:
/// `⌈(8a - lane - start) / 8⌉ = a - ⌊(start + lane) / 8⌋`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    bits: bool,
}

impl Bytes {
    /// The places in a byte where a run can end.
    pub(super) const LANES: usize = 8;

    pub(super) fn of(table: Table) -> Self {
        Self { bits: table.is_bits() }
    }

    pub(super) fn after(self, end: u32) -> u64 {
        let end = u64::from(end);
        if self.bits { end.div_ceil(8) } else { end.saturating_mul(2) }
    }

    pub(super) fn lane(self, end: u32) -> usize {
        if self.bits { (end.wrapping_neg() & 7) as usize } else { 0 }
    }

    pub(super) fn before(self, start: u16, lane: usize) -> u64 {
        let start = u64::from(start);
        if self.bits { start.saturating_add(lane as u64) >> 3 } else { start.saturating_mul(2) }
    }
}
