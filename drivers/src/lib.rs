//! Decisions over time, without a clock: given what is wanted, the bytes and the time, what now?
//!
//! **Invariants.** No I/O, no clock (time is an argument), no panic on any input, no `unsafe`. Depends on
//! `ganglion-protocols` only.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::std_instead_of_core
)]

pub mod client;
pub mod plan;
pub mod schedule;
