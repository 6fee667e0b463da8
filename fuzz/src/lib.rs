//! Bytes nobody would send, for every decoder of this workspace.
//!
//! A [`Target`] is a decoder with what must hold for any bytes: it does not panic, and what it reads it writes again as
//! the same bytes. `cargo xtask fuzz` runs the targets under libFuzzer, which keeps inputs that reach new code and
//! mutates those; the tests here run the same targets over their seeds and over every input that ever failed
//! (`regressions/`).
//!
//! **Add a target** with one row in [`TARGETS`].

mod client;
mod identifier;
mod modbus;
mod node;
mod record;
mod server;

/// One decoder and its properties.
pub struct Target {
    /// Its name on the command line and of its folders.
    pub name: &'static str,
    /// Panics when a property does not hold for these bytes.
    pub run: fn(&[u8]),
    /// Inputs to begin with: good ones, so that their mutations are nearly good.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "modbus-request", run: modbus::request, seeds: modbus::pdus },
    Target { name: "modbus-response", run: modbus::response, seeds: modbus::pdus },
    Target { name: "modbus-rtu", run: modbus::rtu, seeds: modbus::rtu_frames },
    Target { name: "modbus-tcp", run: modbus::tcp, seeds: modbus::tcp_frames },
    Target { name: "modbus-ascii", run: modbus::ascii, seeds: modbus::ascii_frames },
    Target { name: "modbus-values", run: modbus::values, seeds: modbus::registers },
    Target { name: "modbus-client", run: client::run, seeds: client::seeds },
    Target { name: "modbus-server", run: server::run, seeds: server::seeds },
    Target { name: "node", run: node::run, seeds: node::seeds },
    Target { name: "record", run: record::run, seeds: record::seeds },
    Target { name: "identifier", run: identifier::run, seeds: identifier::seeds },
];

/// Finds a target by its name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
