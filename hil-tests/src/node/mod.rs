//! The bench: sensor nodes under QEMU on one emulated RS-485 pair.
//!
//! | file | what it owns |
//! |---|---|
//! | `wire.rs` | the pair without its ends: which character is on it when, who hears what |
//! | `line.rs`, `plug.rs` | the pair with its ends: a pty for a client, a socket for each machine |
//! | `trace.rs` | everything heard, with times, as a file |
//! | `machine.rs` | a node as a machine with a power switch |
//! | `qmp.rs`, `hex.rs` | how a machine is spoken to, and how it is provisioned |
//! | `truth.rs` | what a node says it measured |
//! | `traces.rs` | the folder in which a test leaves what shows why it failed |

pub mod hex;
mod line;
mod machine;
mod plug;
mod qmp;
mod trace;
mod traces;
mod truth;
mod wire;

pub use line::{Pair, Plan};
pub use machine::{Board, NodeMachine, NodeSettings, firmware};
pub use qmp::{Qmp, QmpError};
pub use traces::Traces;
pub use truth::{Sample, Truth};
pub use wire::{End, PairCounts};
