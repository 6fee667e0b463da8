//! The acquire stage over real ports and sockets: orders, what is learnt and kept, serial servers, shared lines, traces.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up fails its test")]

#[path = "../bench/mod.rs"]
mod bench;
#[path = "../bench/line.rs"]
mod line;
#[path = "../bench/server.rs"]
mod server;

mod learned;
mod orders;
mod serial_server;
mod shared_line;
mod truth;
