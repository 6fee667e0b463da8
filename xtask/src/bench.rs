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
    Pipeline {
        /// Passed on; `-- --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let Bench::Pipeline { arguments } = &options.bench;
    // Apart, so that the daemon measured is the daemon shipped: built together, it would get the bench's features too.
    run(&mut cargo("build --quiet --release -p ganglion"))?;
    run(&mut cargo("build --quiet --release -p ganglion-hil --bin bench-pipeline"))?;
    let built = target_dir()?.join("release");
    Err(become_command(command(built.join("bench-pipeline"), ["--daemon"]).arg(built.join("ganglion")).args(arguments)))
}
