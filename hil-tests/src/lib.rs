//! The simulated site, the peers, the demo and the benches; `tests/` holds the behaviour of the whole.
//!
//! Works on public interfaces only: the daemon's binary, its files, Modbus and MQTT. Tests may drive one stage of the
//! daemon's library too; nothing in `src/` does.

pub mod bench;
pub mod broker;
pub mod cpio;
pub mod demo;
pub mod disk;
mod gate;
pub mod gateway;
pub mod guest;
pub mod node;
pub mod peers;
pub mod pki;
pub mod received;
pub mod site;
pub mod site_file;
pub mod subscriber;
