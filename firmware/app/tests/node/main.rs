//! The node as a whole, on the host and in virtual time: what it answers on either face, when it speaks, and that no sample
//! is lost without a word.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    unreachable_pub,
    reason = "a test that panics fails"
)]

mod bytes;
mod history;
mod link;
mod modbus;
mod orders;
mod page;
mod rig;
mod samples;
mod timing;
