//! The edge perception gateway: a process of four stages.
//!
//! ```text
//! point --acquire--> Sample --normalize--> Unnumbered --buffer--> record on disk --deliver--> message --PUBACK--> reclaimed
//! ```
//!
//! One module and one task each, bounded channels between, one type per channel ([`pipeline`]). What is acquired, and
//! what it means, is a [`Site`](site::Site), which only [`config`] makes.
#![deny(unsafe_code)]

pub mod acquire;
pub mod buffer;
pub mod clock;
pub mod config;
pub mod control;
pub mod decode;
pub mod deliver;
pub mod monitor;
pub mod normalize;
pub mod pipeline;
pub mod site;
pub mod status;
pub mod tools;
pub mod vitals;
