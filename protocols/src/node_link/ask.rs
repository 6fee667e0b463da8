//! What a gateway says.

use serde::{Deserialize, Serialize};

use super::{NotAMessage, put, take};
use crate::bytes::Full;

/// A request of version 1. The order of the variants is the wire format: new ones come last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ask<'a> {
    /// Asks every node, or every one that was not asked for anything since it started, to say [`Answer::Hello`](super::Answer::Hello) in
    /// a slot of its own choice.
    Who {
        /// Changes from question to question, so that two nodes do not choose the same slot again.
        salt: u16,
        /// How many slots there are, at least 1.
        slots: u8,
        /// How long each is.
        slot_ms: u16,
        /// Nodes that are acquainted answer, too.
        all: bool,
    },
    /// Asks for [`Answer::Hello`](super::Answer::Hello).
    Describe,
    /// Asks for the description of one channel.
    Channel {
        /// Which, from 0.
        index: u8,
    },
    /// Gives an acknowledgement and asks for the oldest samples behind it.
    Fetch {
        /// What is durable; `None` when the gateway has nothing of this epoch.
        ack: Option<Ack>,
        /// Most samples wanted; 0 asks for the state of the store only.
        most: u8,
    },
    /// Says what time it was when the last byte of this frame had left, and names a store that has no name yet. The
    /// first thing a gateway tells a node after each start of either.
    Time {
        /// Milliseconds since 1970-01-01T00:00:00Z; `None` where the gateway does not know.
        utc_ms: Option<u64>,
        /// How wrong it may be.
        error_ms: u16,
        /// A number drawn at random, not 0: the epoch of the node's store from now on, if that has none.
        epoch: u32,
    },
    /// Gives an order. One with the number of the order before is answered as that was, and not done again.
    Do {
        /// Number of the order, chosen by the gateway.
        id: u32,
        /// What to do.
        command: Command,
    },
    /// Asks for entries of the fault log.
    Log {
        /// The first entry wanted.
        from: u32,
    },
    /// Sends or asks for new firmware.
    Firmware(#[serde(borrow)] FirmwareAsk<'a>),
}

/// Everything up to `seq` of this epoch is durable in the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ack {
    /// The node's store.
    pub epoch: u32,
    /// The last number that is durable; 0 when none is.
    pub seq: u32,
}

/// An order to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Start anew, as after a short loss of power; the answer goes out first.
    Reset,
    /// Blink, so that a person finds the node.
    Identify {
        /// For so long.
        seconds: u16,
    },
    /// Change a setting; it holds from the next start on where its description says so.
    Set {
        /// Which: the number of the holding register of the same setting.
        key: u16,
        /// Its new value.
        value: i32,
    },
    /// Read a setting.
    Get {
        /// Which.
        key: u16,
    },
    /// Forget the fault log.
    ClearLog,
    /// Say which city resource the node measures: [`Cri::to_bits`](crate::Cri::to_bits).
    Adopt {
        /// A valid identifier.
        cri: u64,
    },
}

/// New firmware. An image file is a header and the body behind it; offsets count from the header's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FirmwareAsk<'a> {
    /// Asks how far things are.
    State,
    /// Begins, or goes on with, the transfer of the image with this header.
    Begin {
        /// The header of the image file.
        header: &'a [u8],
        /// An older version than the running one may be installed.
        downgrade: bool,
    },
    /// Carries bytes of the image. Those that the node has already are no harm; a hole is refused.
    Write {
        /// Place of the first byte in the image file.
        offset: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// Checks what was received and installs it: the node starts anew, on trial.
    Install,
    /// Forgets what was received.
    Abandon,
}

impl<'a> Ask<'a> {
    /// Takes a whole payload.
    ///
    /// # Errors
    /// [`NotAMessage`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, NotAMessage> {
        take(payload)
    }

    /// Writes the payload to `out`; returns its length.
    ///
    /// # Errors
    /// [`Full`] when `out` is too short.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, Full> {
        put(self, out)
    }
}
