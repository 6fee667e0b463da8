//! The sensor node without a board: what it measures and when, what it keeps, what it answers. Decision page 0006.
//!
//! A board implements [`Board`] and calls [`run`]. Everything else is [`Node`], a state machine over bytes and time that
//! runs in host tests just as on the chip.
//!
//! | file | what it owns |
//! |---|---|
//! | `board.rs` | what the node needs of a board |
//! | `run.rs` | the loop that joins them |
//! | `node.rs` | the node as a whole: which part gets what, and when to wake |
//! | `sensor.rs`, `window.rs`, `limit.rs`, `sampling.rs` | what is measured, summed up, compared with limits, sampled when |
//! | `store.rs`, `store/` | samples, kept until they are acknowledged |
//! | `settings.rs` | settings in two copies |
//! | `fault_log.rs` | what went wrong |
//! | `firmware.rs`, `update/` | new firmware |
//! | `link.rs` | the node link's answers |
//! | `modbus.rs`, `registers.rs` | what a Modbus client reads and writes |
//! | `text.rs` | lines of text |
//! | `state.rs` | what both faces work on |
//!
//! **Invariants.** No I/O, no clock, no heap, no panic on any input, no `unsafe`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::std_instead_of_core
)]

#[cfg(test)]
extern crate std;

mod board;
mod fault_log;
mod firmware;
mod limit;
mod link;
mod modbus;
mod node;
mod registers;
mod run;
mod sampling;
mod sensor;
mod settings;
mod state;
mod store;
mod text;
pub mod update;
mod window;

pub use board::{Copies, Memory, MemoryError, Part};
pub use fault_log::{Fault, FaultEntry, FaultLog};
pub use firmware::{Firmware, NoUpdates, Updates};
pub use link::MAX_CLOCK_ERROR;
pub use node::Node;
pub use run::{Board, run};
pub use sampling::{MAX_CHANNELS, Sampler, Taken};
pub use sensor::{ChannelSpec, Sensor, SensorKind, Statistic};
pub use settings::SettingsKeeper;
pub use state::{FAULT_LOG_BYTES, Identity, Wish};
pub use store::{Next, Store, StoreError, Stored};
