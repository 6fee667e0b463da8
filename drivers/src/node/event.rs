//! What a bus of nodes tells its owner.

use alloc::string::String;
use alloc::vec::Vec;

use ganglion_protocols::node_link::{Channel, ChannelKind, Hello, NodeReading, ResetCause, SchemaHash, Version};
use ganglion_protocols::{Origin, Reason};

use super::order::{OrderId, Outcome};

/// Something happened. `node` is a place in the settings.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A sample, each exactly once.
    Sample(Sample),
    /// Samples that will never come.
    Lost(Lost),
    /// What the node is and measures is known: for the first time, or it has changed.
    Described {
        /// Which.
        node: usize,
    },
    /// A question for samples was answered.
    Answered {
        /// Which.
        node: usize,
    },
    /// It was not, in spite of all retries.
    Failed {
        /// Which.
        node: usize,
        /// Why.
        reason: Reason,
    },
    /// The node has started anew.
    Restarted {
        /// Which.
        node: usize,
        /// How often it has, by its own count.
        boot: u32,
        /// Why.
        reset: ResetCause,
    },
    /// The node is asked only now and then, for it does not answer.
    Silent {
        /// Which.
        node: usize,
    },
    /// A silent node answers again.
    Back {
        /// Which.
        node: usize,
    },
    /// The node measures another resource than the one configured; its samples are not taken.
    WrongCri {
        /// Which.
        node: usize,
        /// What it says; 0 when it was never commissioned.
        found: u64,
    },
    /// It measures the right one, after it was wrong.
    RightCri {
        /// Which.
        node: usize,
    },
    /// The node speaks other versions of the link only.
    Unsupported {
        /// Its address.
        unit: u8,
        /// The lowest version it knows.
        lowest: u8,
        /// The highest.
        highest: u8,
    },
    /// What the node says of its channels does not fit the hash that it says.
    Undescribed {
        /// Which.
        node: usize,
    },
    /// A node that is not configured; told again when something about it changes.
    Found(NodeInfo),
    /// Two nodes have one address.
    SameUnit {
        /// The address.
        unit: u8,
        /// Their serial numbers.
        serials: [u64; 2],
    },
    /// The questions of [`NodeBus::scan`](super::NodeBus::scan) are over.
    Scanned,
    /// An order has ended.
    Ordered {
        /// Which.
        id: OrderId,
        /// How.
        outcome: Outcome,
    },
}

/// One sample of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The node.
    pub node: usize,
    /// Its place among the node's samples.
    pub origin: Origin,
    /// When it was taken, in milliseconds since 1970.
    pub utc_ms: u64,
    /// A reading for each channel.
    pub readings: Vec<NodeReading>,
}

/// Samples that will never come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The node.
    pub node: usize,
    /// Everything of this epoch up to this number is told with this.
    pub origin: Origin,
    /// How many, at least 1; after a restart what is likely.
    pub count: u32,
    /// From when to when they were taken, in milliseconds since 1970, as narrow as is known; the first is not after the second.
    pub span_ms: (u64, u64),
    /// Why.
    pub cause: LostCause,
}

/// Why samples will never come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LostCause {
    /// The node's store was full.
    Full,
    /// The node could not read them back, or holds them for acknowledged without this gateway having them.
    Damaged,
    /// The node's clock had not been set in their boot, and that boot is over.
    Undated,
    /// The node's store was gone after a restart.
    Restart,
}

/// Who a node is, [`Hello`] kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// Its address.
    pub unit: u8,
    /// The resource it measures, 0 before it is commissioned.
    pub cri: u64,
    /// Number of its chip.
    pub serial: u64,
    /// Name of its board.
    pub board: String,
    /// Version of its firmware.
    pub firmware: Version,
    /// Hash of its channels.
    pub schema: SchemaHash,
    /// How many those are.
    pub channels: u8,
    /// Epoch of its store, 0 when it has none.
    pub epoch: u32,
    /// How often it has started.
    pub boot: u32,
    /// Why it started last.
    pub reset: ResetCause,
    /// Most samples its store can hold.
    pub capacity: u16,
    /// Its store outlives a loss of power.
    pub persistent: bool,
}

impl NodeInfo {
    /// Keeps what the node of an address said.
    #[must_use]
    pub fn new(unit: u8, hello: &Hello<'_>) -> Self {
        Self {
            unit,
            cri: hello.cri,
            serial: hello.serial,
            board: String::from(hello.board),
            firmware: hello.firmware,
            schema: hello.schema,
            channels: hello.channels,
            epoch: hello.epoch,
            boot: hello.boot,
            reset: hello.reset,
            capacity: hello.capacity,
            persistent: hello.persistent,
        }
    }
}

/// What a channel measures, [`Channel`] kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelInfo {
    /// The observable property.
    pub property: String,
    /// UCUM unit.
    pub unit: String,
    /// A value is so many times 10^exponent of the unit.
    pub exponent: i8,
    /// The first of the two input registers that hold the latest value.
    pub register: u16,
    /// What kind of number it is.
    pub kind: ChannelKind,
    /// Lowest possible value, in units of 10^exponent.
    pub low: i32,
    /// Highest possible value.
    pub high: i32,
    /// Seconds from one sample to the next.
    pub period_s: u16,
}

impl ChannelInfo {
    /// Keeps what a node said.
    #[must_use]
    pub fn new(channel: &Channel<'_>) -> Self {
        Self {
            property: String::from(channel.property),
            unit: String::from(channel.unit),
            exponent: channel.exponent,
            register: channel.register,
            kind: channel.kind,
            low: channel.low,
            high: channel.high,
            period_s: channel.period_s,
        }
    }

    /// Returns it as the node said it, at that place.
    #[must_use]
    pub fn at(&self, index: u8) -> Channel<'_> {
        Channel {
            index,
            property: &self.property,
            unit: &self.unit,
            exponent: self.exponent,
            register: self.register,
            kind: self.kind,
            low: self.low,
            high: self.high,
            period_s: self.period_s,
        }
    }
}
