//! The acquire stage over real ports and sockets: orders, what is learnt and kept, serial servers, shared lines, traces.

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
