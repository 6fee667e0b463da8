//! Measurements, always beside a reference in the same run; nothing here asserts a time.

pub mod bus;
pub mod pipeline;
pub mod process;
pub mod reference;
pub mod tally;
