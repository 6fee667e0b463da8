//! Measures the gateway.

use std::ffi::OsString;

use clap::{Args, Subcommand};

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
    /// A simulated fleet: what 10,000 gateways that come back at once do to an MQTT cluster
    Fleet(PassedOn),
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
        Bench::Fleet(PassedOn { arguments }) => return fleet(arguments),
    };
    // Apart, so that the daemon measured is the daemon shipped: built together, it would get the bench's features too.
    run(&mut cargo("build --quiet --release -p ganglion"))?;
    run(&mut cargo(&format!("build --quiet --release -p ganglion-hil --bin {program}")))?;
    let built = target_dir()?.join("release");
    Err(become_command(command(built.join(program), ["--daemon"]).arg(built.join("ganglion")).args(arguments)))
}

/// Runs the simulation: no daemon, and virtual time.
fn fleet(arguments: &[OsString]) -> Result<(), Failure> {
    run(&mut cargo("build --quiet --release -p ganglion-hil --example fleet"))?;
    let program = target_dir()?.join("release/examples/fleet");
    Err(become_command(command::<&str>(program, []).args(arguments)))
}
