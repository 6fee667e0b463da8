//! Decisions over time, without a clock: given what is wanted, the bytes and the time, what now?
//!
//! **Invariants.** No I/O, no clock (time is an argument), no panic on any input, no `unsafe`. Depends on
//! `ganglion-protocols` only. The chip drivers (feature `chip`) do I/O through the bus or pin that they are given.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::std_instead_of_core
)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod alarm;
pub mod breaker;
#[cfg(feature = "alloc")]
pub mod bus;
#[cfg(feature = "chip")]
pub mod chip;
pub mod client;
pub mod learn;
#[cfg(feature = "alloc")]
pub mod node;
pub mod plan;
pub mod report;
pub mod schedule;
pub mod server;
pub mod turnaround;
pub mod update;

use core::time::Duration;

/// Counts nanoseconds; 64 bits of them last for 584 years, and longer times count as that.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
