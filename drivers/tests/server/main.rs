//! The server of a serial line, from its frames.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

mod any;
mod charts;
mod device;
mod diagnostics;
mod golden;
mod identity;
#[path = "../line/mod.rs"]
mod line;
mod rmodbus_peer;
mod with_client;
