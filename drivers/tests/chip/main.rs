//! Chips and transducers, against the sample values of their datasheets, a mocked bus and whatever bytes come.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "an overflow or a panic in a test is a failed test"
)]

mod analog;
mod any_bytes;
mod i2c_chips;
mod memory;
mod one_wire;
mod pulse;
mod rs485;
mod tilt;
mod ultrasonic;

use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}
