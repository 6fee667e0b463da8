//! A firmware update on a simulated flash: whatever happens to the power, the flash or the image, the node runs a whole
//! firmware, and a right one.
//!
//! QEMU models the flash controller of neither board, so this is where the update is proved; see
//! `docs/decisions/0006-the-node.md`.
#![allow(clippy::cast_possible_truncation, reason = "sizes of a small flash")]

mod cuts;
mod flash;
mod forms;
mod node;
mod refusals;
mod trial;
