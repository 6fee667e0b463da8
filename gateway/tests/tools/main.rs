//! The tools of the field engineer: the real binary against units on pseudo-terminals.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up fails its test")]

mod ask;
mod buffer;
mod control;
mod plan;
mod scan;
mod site;
mod trace;
mod units;
