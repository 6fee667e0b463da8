//! What one bus is made of.

use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::modbus::{UnitId, ValueType, WordOrder};

use crate::breaker::Policy;
use crate::client::Framing;
use crate::plan::{Cost, Limits, ReadRequest};

/// One bus: its line, its units and what is read from them.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// RTU with the line's timing, or TCP.
    pub framing: Framing,
    /// What an exchange costs.
    pub line: LineCost,
    /// Longest wait for the first byte of an answer, and the wait for a unit that has not answered yet.
    pub response_timeout: Duration,
    /// Shortest wait for the first byte of an answer, however quick the unit has been.
    pub shortest_wait: Duration,
    /// What a unit is taken to need before it begins its answer, as long as it has not answered.
    pub usual_turnaround: Duration,
    /// How often a request without a usable answer is asked again within one poll.
    pub retries: u8,
    /// When a silent unit is asked.
    pub breaker: Policy,
    /// The units, each once.
    pub units: Vec<UnitSettings>,
    /// What is read, and how often.
    pub tasks: Vec<TaskSettings>,
}

/// What an exchange costs beside the unit's own turnaround.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineCost {
    /// A serial line.
    Rtu {
        /// Time of one character.
        character: Duration,
        /// Silence between frames.
        gap: Duration,
    },
    /// A network: only round trips count.
    Tcp,
}

impl LineCost {
    /// Returns the cost model of a unit that takes `turnaround` to answer.
    #[must_use]
    pub fn with(self, turnaround: Duration) -> Cost {
        match self {
            Self::Rtu { character, gap } => Cost::rtu(character, gap, turnaround),
            Self::Tcp => Cost::tcp(turnaround),
        }
    }
}

/// One Modbus server of the bus.
#[derive(Clone, PartialEq, Debug)]
pub struct UnitSettings {
    /// Its unit id.
    pub unit: UnitId,
    /// Silence it needs between two requests to it.
    pub request_gap: Duration,
    /// Most registers of one request, as far as its document tells.
    pub max_registers: u16,
    /// Most coils or discrete inputs of one request.
    pub max_bits: u16,
    /// Most unwanted items that may be read along between two wants.
    pub bridge: u16,
    /// Items that must never be asked for.
    pub forbidden: Vec<ReadRequest>,
    /// What tells that it is the device it should be.
    pub identity: Option<IdentityCheck>,
}

impl UnitSettings {
    /// Returns what its document allows; nothing learnt.
    #[must_use]
    pub fn limits(&self) -> Limits<'_> {
        Limits {
            max_registers: self.max_registers,
            max_bits: self.max_bits,
            bridge: self.bridge,
            forbidden: &self.forbidden,
            ..Limits::STANDARD
        }
    }
}

/// A register that must hold a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdentityCheck {
    /// Where it is.
    pub want: ReadRequest,
    /// What it holds.
    pub value_type: ValueType,
    /// How its bytes lie.
    pub word_order: WordOrder,
    /// The bits it must hold, see [`ValueType::bits`].
    pub equals: u64,
}

impl IdentityCheck {
    /// Says whether the items read are those of the right device.
    #[must_use]
    pub fn holds(&self, items: &[u16]) -> bool {
        self.value_type.bits(items, self.word_order) == Ok(self.equals)
    }
}

/// What is read from one unit at one period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskSettings {
    /// Place of the unit in [`Settings::units`].
    pub unit: usize,
    /// Time from one poll to the next.
    pub interval: Duration,
    /// What is wanted, sorted, each once.
    pub wants: Vec<ReadRequest>,
}
