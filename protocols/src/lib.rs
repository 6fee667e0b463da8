//! Bytes to types and back, for everything Ganglion says or hears.
//!
//! This crate owns the words every other room uses: the city resource identifier ([`Cri`]), the
//! [`Observation`](observation::Observation) with its [`Quality`], the [`Envelope`](envelope::Envelope) the city brain
//! receives, the [`Record`](record::Record) the buffer keeps, and the field's own codecs ([`modbus`]).
//!
//! **Invariants.** No I/O, no clock, no heap, no panic on any bytes, no `unsafe`. It depends on nothing else in this
//! workspace. If a value exists, it is valid.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::std_instead_of_core
)]

pub mod bytes;
pub mod cri;
pub mod envelope;
pub mod gap;
pub mod modbus;
pub mod node_link;
pub mod node_settings;
pub mod observation;
pub mod origin;
pub mod quality;
pub mod record;
pub mod time;
pub mod topic;

pub use cri::{Class, Cri, CriError, Division, Serial};
pub use gap::{Gap, LossCause};
pub use observation::{Observation, Property, Reading, Shape, Value};
pub use origin::Origin;
pub use quality::{Quality, Reason};
pub use time::{Clock, ClockSource, Timestamp};

/// Returns the CRC-32 (ISO-HDLC, as of Ethernet and zip) of bytes. Without a table: nodes are short of flash, not of time.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    node_link::checksum(bytes)
}
