//! The node link: what a sensor node and its gateway say to each other on a serial line.
//!
//! ```text
//! frame = 00, COBS(version u8, unit u8, token u8, message, CRC-32 LE), 00           at most 256 bytes
//! ```
//!
//! The gateway asks ([`Ask`]), the node answers ([`Answer`]); a message is [postcard]. Version, unit, token and CRC keep
//! their places for ever; the top bit of the version says that a node speaks. A node asked in a version it does not know
//! answers in version 0 ([`Answer::Unsupported`], three bytes that are the same for ever) and guesses nothing.
//!
//! Source: `docs/node-link.md`; the bytes of every message are tests.
//!
//! | file | what it owns |
//! |---|---|
//! | `frame.rs` | bytes of the line to head and payload, and back |
//! | `ask.rs` | what a gateway says |
//! | `answer.rs` | what a node says |
//! | `discovery.rs` | which slot a node answers in |
//! | `sample.rs` | samples as they lie in a batch |
//! | `schema.rs` | what a node measures, and the hash of it |
//! | `image.rs` | the file that new firmware comes in |

mod answer;
mod ask;
mod discovery;
mod frame;
mod image;
mod sample;
mod schema;

pub use answer::{
    Answer, Batch, Done, FirmwarePhase, FirmwareState, Hello, Lost, NodeLossCause, Refusal, ResetCause, Version,
};
pub use ask::{Ack, Ask, Command, FirmwareAsk};
pub use discovery::slot;
pub(crate) use frame::checksum;
pub use frame::{FrameError, Head, MAX_FRAME, MAX_PAYLOAD, Speaker, open, seal};
pub use image::{BoardName, BodySize, ImageError, ImageHeader};
pub use sample::{NodeReading, NodeSample, Samples, SensorFault, put_sample};
pub use schema::{Channel, ChannelKind, SchemaHash};

use crate::bytes::Full;

/// The version of the messages in this module.
pub const VERSION: u8 = 1;

/// The version in which a node says which versions it knows.
pub const FALLBACK_VERSION: u8 = 0;

/// Why a payload is no message of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAMessage;

impl core::fmt::Display for NotAMessage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "no message of node link version {VERSION}")
    }
}

impl core::error::Error for NotAMessage {}

/// Takes a whole postcard value; bytes behind it make it none.
fn take<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, NotAMessage> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(NotAMessage),
    }
}

/// Puts a postcard value; returns its length.
fn put<T: serde::Serialize>(value: &T, out: &mut [u8]) -> Result<usize, Full> {
    postcard::to_slice(value, out).map(|used| used.len()).map_err(|_| Full)
}
