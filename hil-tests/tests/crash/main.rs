//! A process killed, a power cut, and what is on the disk then.
//!
//! What a simulated disk shows for the buffer alone (`gateway/src/buffer/tests/`) is shown here with the real one.
//! Everything the buffer promised must hold when the store is opened again: see `promises.rs`.
//!
//! *Killed* (`tracer.rs`): a process that uses the buffer gets SIGKILL at every boundary of every system call with which
//! it touches its data directory. Needs: permission to trace a child process.
//!
//! *Cut* (`cut.rs`): a virtual machine uses the buffer on a disk whose every write and flush is logged. Disks are made as
//! they were behind a write, whole or with a part of the writes since the last flush lost or torn, mounted, and the buffer
//! on them opened. `GANGLION_CRASH_CUTS=all` cuts behind every write, `GANGLION_CRASH_SEED=n` loses other writes. Needs:
//! QEMU and a kernel (`cargo xtask setup --power-cut`), mke2fs, root for loop mounts.
//!
//! | file | owns |
//! |---|---|
//! | `buffer.rs` | the buffer as used here |
//! | `promises.rs`, `known.rs` | what was promised, and the check of a store against it |
//! | `kill.rs` | the process killed everywhere |
//! | `worker.rs`, `tracer.rs` | that process, and who kills it |
//! | `cut.rs`, `write_log.rs` | the power cut everywhere |
//! | `machine.rs`, `guest.rs` | the machine, and what runs in it |

mod buffer;
mod cut;
mod guest;
mod kill;
mod known;
mod machine;
mod promises;
mod tracer;
mod worker;
mod write_log;

use std::io::{self, Write as _};

use buffer::Log;
use ganglion_hil::peers::require;

#[test]
fn a_process_killed_at_any_boundary_of_a_system_call_keeps_every_promise_of_its_events() {
    worker::run_if_asked();
    let name = "a_process_killed_at_any_boundary_of_a_system_call_keeps_every_promise_of_its_events";
    killed(Log::Events, name);
}

#[test]
fn a_process_killed_at_any_boundary_of_a_system_call_keeps_every_promise_of_its_telemetry() {
    worker::run_if_asked();
    let name = "a_process_killed_at_any_boundary_of_a_system_call_keeps_every_promise_of_its_telemetry";
    killed(Log::Telemetry, name);
}

fn killed(log: Log, name: &str) {
    let Some(tried) = require(kill::in_a_whole_life(log, name)) else { return };
    say(&format!("{log:?}: killed in a whole life, every promise kept: {tried}"));
    assert!(tried.reached(), "the history is to reach everything: {tried}");
    let Some(tried) = require(kill::while_recovering(log, name)) else { return };
    say(&format!("{log:?}: killed again while it recovers, every promise kept: {tried}"));
}

#[test]
fn a_machine_whose_power_is_cut_at_any_write_keeps_every_promise_of_what_was_durable() {
    guest::run_if_asked();
    let name = "a_machine_whose_power_is_cut_at_any_write_keeps_every_promise_of_what_was_durable";
    for log in [Log::Telemetry, Log::Events] {
        let Some(tried) = require(cut::power(log, name)) else { return };
        say(&format!("{log:?}: power cut, every promise of what was durable kept: {tried}"));
    }
}

/// Says it past the test runner's capture, which keeps what a test prints to itself when it passes.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}
