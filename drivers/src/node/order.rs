//! What is asked of a node on demand: before anything that is asked by itself.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use ganglion_protocols::node_link::{Answer, Ask, Command, Done, FirmwareAsk, FirmwareState, Refusal};

use super::event::{ChannelInfo, NodeInfo};

/// Names an order; given by whoever makes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OrderId(pub u64);

/// Something asked once, of a node that need not be configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Its name.
    pub id: OrderId,
    /// Address of the node, 1..=247.
    pub unit: u8,
    /// What is asked.
    pub deed: Deed,
}

/// What an order does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Asks who the node is.
    Describe,
    /// Asks what a channel measures.
    Channel {
        /// Which, from 0.
        index: u8,
    },
    /// Has a command carried out, once however often it must be asked.
    Do(Command),
    /// Asks for entries of the fault log.
    Log {
        /// The first one wanted.
        from: u32,
    },
    /// Sends or asks for new firmware.
    Firmware(Firmware),
}

/// [`FirmwareAsk`] with bytes of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Firmware {
    /// How far are things?
    State,
    /// Begins, or goes on with, a transfer.
    Begin {
        /// The header of the image file.
        header: Vec<u8>,
        /// An older version may be installed.
        downgrade: bool,
    },
    /// Carries bytes of the image.
    Write {
        /// Place of the first byte.
        offset: u32,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Checks and installs what was received.
    Install,
    /// Forgets what was received.
    Abandon,
}

/// How an order ended.
pub type Outcome = Result<Reply, OrderError>;

/// What a node answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Who it is.
    Hello(NodeInfo),
    /// What the channel measures.
    Channel(ChannelInfo),
    /// The command was carried out; what was asked for, if something was.
    Done(Option<i32>),
    /// Entries of the fault log, a line each.
    Log {
        /// Number of the one behind the last.
        next: u32,
        /// The lines; empty when there are no more.
        text: String,
    },
    /// How far new firmware is.
    Firmware(FirmwareState),
}

/// Why an order was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderError {
    /// No usable answer came; the order may have been carried out all the same.
    NoAnswer,
    /// The line is down.
    Disconnected,
    /// The node says why not.
    Refused(Refusal),
    /// The node speaks other versions of the link only.
    Unsupported {
        /// The lowest version it knows.
        lowest: u8,
        /// The highest.
        highest: u8,
    },
    /// It does not fit a frame.
    TooLong,
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("no answer; the order may have been carried out all the same"),
            Self::Disconnected => f.write_str("the line is down"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::Unsupported { lowest, highest } => {
                write!(f, "the node speaks versions {lowest} to {highest} of the node link only")
            }
            Self::TooLong => f.write_str("the order does not fit a frame"),
        }
    }
}

impl core::error::Error for OrderError {}

impl Deed {
    /// Returns the question; `id` numbers a command.
    pub(super) fn ask(&self, id: u32) -> Ask<'_> {
        match self {
            Self::Describe => Ask::Describe,
            Self::Channel { index } => Ask::Channel { index: *index },
            Self::Do(command) => Ask::Do { id, command: *command },
            Self::Log { from } => Ask::Log { from: *from },
            Self::Firmware(firmware) => Ask::Firmware(match firmware {
                Firmware::State => FirmwareAsk::State,
                Firmware::Begin { header, downgrade } => FirmwareAsk::Begin { header, downgrade: *downgrade },
                Firmware::Write { offset, data } => FirmwareAsk::Write { offset: *offset, data },
                Firmware::Install => FirmwareAsk::Install,
                Firmware::Abandon => FirmwareAsk::Abandon,
            }),
        }
    }

    /// Returns what the answer means; `None` when it is none to this.
    pub(super) fn outcome(&self, unit: u8, id: u32, answer: &Answer<'_>) -> Option<Outcome> {
        Some(match (self, answer) {
            (_, Answer::Unsupported { lowest, highest }) => {
                Err(OrderError::Unsupported { lowest: *lowest, highest: *highest })
            }
            (_, Answer::Refused(refusal)) => Err(OrderError::Refused(*refusal)),
            (Self::Describe, Answer::Hello(hello)) => Ok(Reply::Hello(NodeInfo::new(unit, hello))),
            (Self::Channel { index }, Answer::Channel(channel)) if channel.index == *index => {
                Ok(Reply::Channel(ChannelInfo::new(channel)))
            }
            (Self::Do(_), Answer::Done { id: done, outcome }) if *done == id => match *outcome {
                Done::Yes => Ok(Reply::Done(None)),
                Done::Value(value) => Ok(Reply::Done(Some(value))),
                Done::No(refusal) => Err(OrderError::Refused(refusal)),
            },
            (Self::Log { .. }, Answer::Log { next, text, .. }) => {
                Ok(Reply::Log { next: *next, text: String::from(*text) })
            }
            (Self::Firmware(_), Answer::Firmware(state)) => Ok(Reply::Firmware(*state)),
            _ => return None,
        })
    }
}
