//! The server of a serial line, from its frames.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

mod any;
mod charts;
mod device;
mod diagnostics;
mod golden;
mod identity;
mod rmodbus_peer;
