//! Measures the gateway.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::firmware::{Board, build_measuring};
use crate::shell::{Failure, become_command, cargo, command, run, target_dir};

/// Measures the gateway
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// From the register to the broker: CPU and memory per value, latency
    Pipeline(PassedOn),
    /// A serial line: how much of its time is used, beside dead units and with bit errors too
    Bus(PassedOn),
    /// The buffer beside SQLite: rates, bytes written by the device, time to open a backlog, memory
    Buffer(PassedOn),
    /// Twelve hours without a broker: memory, drain, latency of live data beside it, every observation counted
    Outage(PassedOn),
    /// A simulated fleet: what 10,000 gateways that come back at once do to an MQTT cluster
    Fleet(PassedOn),
    /// The node's Modbus server in QEMU: cycles from a request to its answer
    Turnaround(PassedOn),
}

#[derive(Args)]
struct PassedOn {
    /// Passed on; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let (program, PassedOn { arguments }) = match &options.bench {
        Bench::Pipeline(arguments) => ("bench-pipeline", arguments),
        Bench::Bus(arguments) => ("bench-bus", arguments),
        Bench::Buffer(PassedOn { arguments }) => return on_disk("bench-buffer", arguments),
        Bench::Outage(PassedOn { arguments }) => return on_disk("bench-outage", arguments),
        Bench::Fleet(PassedOn { arguments }) => return example("fleet", &[], arguments),
        Bench::Turnaround(PassedOn { arguments }) => return turnaround(arguments),
    };
    // Apart, so that the daemon measured is the daemon shipped: built together, it would get the bench's features too.
    run(&mut cargo("build --quiet --release -p ganglion"))?;
    run(&mut cargo(&format!("build --quiet --release -p ganglion-hil --bin {program}")))?;
    let built = target_dir()?.join("release");
    Err(become_command(command(built.join(program), ["--daemon"]).arg(built.join("ganglion")).args(arguments)))
}

/// Measures each board with firmware that logs how long its answers take.
fn turnaround(arguments: &[OsString]) -> Result<(), Failure> {
    run(&mut cargo("build --quiet -p ganglion-hil --example node-figures"))?;
    let program = target_dir()?.join("debug/examples/node-figures");
    for board in Board::NODES {
        let mut measure = command(&program, ["turnaround", "--board", board.name(), "--firmware"]);
        measure.arg(build_measuring(board)?);
        run(measure.args(arguments))?;
    }
    Ok(())
}

/// Runs an example that fills a disk: that of the target folder, for `/tmp` is often memory.
fn on_disk(name: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let folder = target_dir()?.join("bench");
    std::fs::create_dir_all(&folder).map_err(|error| Failure::File { path: folder.clone(), error })?;
    example(name, &["--folder".into(), folder.into()], arguments)
}

/// Runs what uses the library and hence is an example: only those are built with the dev-dependencies.
fn example(name: &str, own: &[OsString], arguments: &[OsString]) -> Result<(), Failure> {
    run(&mut cargo(&format!("build --quiet --release -p ganglion-hil --example {name}")))?;
    let program = target_dir()?.join("release/examples").join(name);
    Err(become_command(command(program, own).args(arguments)))
}
