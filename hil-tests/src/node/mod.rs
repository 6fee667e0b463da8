//! The bench: sensor nodes under QEMU on one emulated RS-485 pair.
//!
//! | file | what it owns |
//! |---|---|
//! | `wire.rs` | the pair without its ends: which character is on it when, who hears what |
//! | `line.rs`, `plug.rs` | the pair with its ends: a pty for a client, a socket for each machine |
//! | `trace.rs` | everything heard, with times, as a file |

mod line;
mod plug;
mod trace;
mod wire;

pub use line::{Pair, Plan};
pub use wire::{End, PairCounts};
