//! What a node says.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Channel, FALLBACK_VERSION, NotAMessage, SchemaHash, VERSION, put, take};
use crate::bytes::Full;

/// An answer of version 1. The order of the variants is the wire format: new ones come last. Number 0 is the answer of
/// version 0, so that no message of any version is mistaken for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer<'a> {
    /// The node knows other versions only. Its form is that of version 0, for ever.
    Unsupported {
        /// The lowest version it knows.
        lowest: u8,
        /// The highest.
        highest: u8,
    },
    /// Who the node is.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// What one of its channels measures.
    Channel(Channel<'a>),
    /// Samples, the oldest first.
    Batch(Batch<'a>),
    /// The time was taken, or is known already.
    Time {
        /// The boot the node is in.
        boot: u32,
        /// Its uptime at the last byte of the question.
        uptime_ms: u64,
        /// The UTC of uptime 0 that is in force: the one set now, or the earlier one where that was right; `None` as long
        /// as nobody knows.
        anchor_ms: Option<u64>,
        /// The epoch in force, not 0.
        epoch: u32,
    },
    /// An order was carried out, or not.
    Done {
        /// Its number.
        id: u32,
        /// What became of it.
        outcome: Done,
    },
    /// Entries of the fault log, as text lines.
    Log {
        /// Number of the first.
        from: u32,
        /// Number of the one behind the last; where it equals `from` there are no more.
        next: u32,
        /// UTF-8, a line each.
        text: &'a str,
    },
    /// How far new firmware is.
    Firmware(FirmwareState),
    /// The question cannot be answered.
    Refused(Refusal),
}

/// Why a question cannot be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// The payload is no message of the version its frame says.
    NotAMessage,
    /// There is no such channel.
    NoChannel,
    /// The acknowledgement is of numbers that were never given.
    BadAck,
    /// The store has no epoch yet: [`Ask::Time`](super::Ask::Time) comes first.
    Unnamed,
    /// There is no such setting, or its value is out of range.
    BadSetting,
    /// The image is for another board.
    OtherBoard,
    /// The image is larger than its place.
    TooLarge,
    /// The image is older than what runs.
    Older,
    /// The header is none.
    BadHeader,
    /// The bytes do not follow those received: see the offset in the state.
    Hole,
    /// The digest or the signature does not fit.
    BadSignature,
    /// The flash did not take what was written.
    FlashFailed,
    /// It is not complete.
    Incomplete,
    /// This node cannot do it.
    Unable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAMessage => "the node does not understand the message",
            Self::NoChannel => "the node has no such channel",
            Self::Unnamed => "the node's store has no epoch yet",
            Self::BadAck => "the acknowledgement fits no sample of the node's store",
            Self::BadSetting => "the node has no such setting, or the value is out of its range",
            Self::OtherBoard => "the image is for another board",
            Self::TooLarge => "the image is larger than its place",
            Self::Older => "the image is older than the firmware that runs",
            Self::BadHeader => "the image has no valid header",
            Self::Hole => "the bytes do not follow those received",
            Self::BadSignature => "the signature or the digest of the image is wrong",
            Self::FlashFailed => "the node's flash did not take what was written",
            Self::Incomplete => "the image is not complete",
            Self::Unable => "the node cannot do it",
        })
    }
}

/// Who a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// The city resource it measures, [`Cri::to_bits`](crate::Cri::to_bits); 0 before it is commissioned.
    pub cri: u64,
    /// Number of the chip; no two nodes have the same.
    pub serial: u64,
    /// Name of the board.
    pub board: &'a str,
    /// Version of the firmware that runs.
    pub firmware: Version,
    /// Hash of the descriptions of all channels.
    pub schema: SchemaHash,
    /// How many channels there are.
    pub channels: u8,
    /// Epoch of its store; 0 as long as nobody has named it.
    pub epoch: u32,
    /// How often it has started; from 1 again where nothing outlived a loss of power.
    pub boot: u32,
    /// Why it started last.
    pub reset: ResetCause,
    /// Most samples the store can hold.
    pub capacity: u16,
    /// The store outlives a loss of power.
    pub persistent: bool,
}

/// Version of a firmware. Greater is newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Version {
    /// Breaks something.
    pub major: u8,
    /// Adds something.
    pub minor: u8,
    /// Mends something.
    pub patch: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why a node started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ResetCause {
    /// Power came.
    Power,
    /// The reset pin, or something that cannot be told from it.
    Pin,
    /// It was told to.
    Order,
    /// The watchdog.
    Watchdog,
    /// A panic or a fault of the processor.
    Fault,
    /// The supply was too low.
    BrownOut,
    /// New firmware was installed, or the old one brought back.
    Update,
    /// Nobody knows.
    Unknown,
}

/// Samples, and what became of those before them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Batch<'a> {
    /// Epoch of the store. Numbers of another epoch have nothing to do with these.
    pub epoch: u32,
    /// Hash of the descriptions of the channels.
    pub schema: SchemaHash,
    /// Number of the first sample here, or the next one to be taken where there is none.
    pub first: u32,
    /// How many samples wait behind these.
    pub waiting: u16,
    /// Numbers right before `first` that were dropped and not yet acknowledged.
    pub lost: Option<Lost>,
    /// An alarm has begun in a sample that waits.
    pub alarm: bool,
    /// The boot these samples are of.
    pub boot: u32,
    /// The UTC in milliseconds of uptime 0 of that boot, if its clock was ever set.
    pub anchor_ms: Option<u64>,
    /// Uptime of that boot to which the first sample's time is added.
    pub base_ms: u64,
    /// The boot that the node is in, and its uptime when it began to answer.
    pub now: (u32, u64),
    /// The samples: see [`Samples`](super::Samples).
    pub samples: &'a [u8],
}

/// Samples that a node had to drop: the numbers `first..=last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lost {
    /// The first number.
    pub first: u32,
    /// The last one.
    pub last: u32,
    /// Why.
    pub cause: NodeLossCause,
}

/// Why a node dropped samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeLossCause {
    /// The store was full.
    Full,
    /// They could not be read back.
    Damaged,
    /// Their boot is over and its clock had never been set.
    Undated,
}

/// What became of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Done {
    /// It is done.
    Yes,
    /// It is done; this is what was asked for.
    Value(i32),
    /// It is not done.
    No(Refusal),
}

/// How far new firmware is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FirmwareState {
    /// What runs.
    pub running: Version,
    /// What is received or on trial.
    pub phase: FirmwarePhase,
}

/// Where an update stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FirmwarePhase {
    /// Nothing is under way.
    Idle,
    /// The image of this version is arriving.
    Receiving {
        /// Its version.
        version: Version,
        /// The offset of the next byte wanted.
        next: u32,
        /// Its length, header included.
        size: u32,
    },
    /// What runs is on trial: it goes back unless it is confirmed by a whole exchange.
    Trial,
    /// The last update was taken back: it did not confirm itself.
    RolledBack,
}

impl<'a> Answer<'a> {
    /// Takes a whole payload of a frame of this version.
    ///
    /// # Errors
    /// [`NotAMessage`], also for a version that is neither 0 nor [`VERSION`].
    pub fn parse(version: u8, payload: &'a [u8]) -> Result<Self, NotAMessage> {
        match (version, payload) {
            (VERSION, payload) => match take(payload)? {
                Self::Unsupported { .. } => Err(NotAMessage),
                answer => Ok(answer),
            },
            (FALLBACK_VERSION, &[UNSUPPORTED, lowest, highest]) => Ok(Self::Unsupported { lowest, highest }),
            _ => Err(NotAMessage),
        }
    }

    /// Writes the payload to `out`; returns the version its frame must say, and its length.
    ///
    /// # Errors
    /// [`Full`] when `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<(u8, usize), Full> {
        match *self {
            Self::Unsupported { lowest, highest } => {
                *out.first_chunk_mut().ok_or(Full)? = [UNSUPPORTED, lowest, highest];
                Ok((FALLBACK_VERSION, 3))
            }
            _ => Ok((VERSION, put(self, out)?)),
        }
    }
}

/// What the one message of version 0 begins with.
const UNSUPPORTED: u8 = 0;
