//! Measures the daemon from the register to the subscriber, beside a reference; `cargo xtask bench pipeline` builds and
//! runs it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ganglion_hil::bench::pipeline;
use ganglion_hil::bench::reference::{self, ClientFiles};
use ganglion_hil::pki::Pair;

/// CPU, memory and latency from the register to the subscriber, beside a hand-written reference in the same run.
#[derive(Parser)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    measure: Measure,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Args)]
struct Measure {
    /// The daemon's binary
    #[arg(long, value_name = "PATH", required = true)]
    daemon: Option<PathBuf>,
    /// Folder with the daemon's `directory`
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs"))]
    configs: PathBuf,
    /// Devices of 1,000 registers; one measurement for each number
    #[arg(long, value_delimiter = ',', default_value = "10,100", value_parser = clap::value_parser!(u16).range(1..=1000))]
    devices: Vec<u16>,
    /// Length of each measured window
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..))]
    seconds: u64,
    /// Print one JSON object for each measurement instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Part {
    /// The reference itself; the bench starts it
    #[command(hide = true)]
    Reference {
        /// How many seconds to poll
        #[arg(long)]
        rounds: u32,
        /// Port of the broker
        #[arg(long)]
        broker: u16,
        /// The authority's certificate
        #[arg(long)]
        ca: PathBuf,
        /// The client's certificate
        #[arg(long)]
        certificate: PathBuf,
        /// The client's key
        #[arg(long)]
        key: PathBuf,
        /// File for the values
        #[arg(long)]
        spool: PathBuf,
        /// Ports of the devices
        ports: Vec<u16>,
    },
}

fn main() -> ExitCode {
    let Cli { measure, part } = Cli::parse();
    let outcome = match part {
        Some(Part::Reference { rounds, broker, ca, certificate, key, spool, ports }) => {
            let files = ClientFiles { ca, own: Pair { certificate, key } };
            reference::run(&ports, pipeline::REGISTERS, rounds, broker, &files, &spool)
                .map_err(|error| error.to_string())
        }
        None => bench(measure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(Measure { daemon, configs, devices, seconds, json }: Measure) -> Result<(), String> {
    let options = pipeline::Options {
        daemon: daemon.unwrap_or_default(),
        reference: std::env::current_exe().map_err(|error| error.to_string())?,
        configs,
        devices,
        window: Duration::from_secs(seconds),
    };
    let mut complete = true;
    let print = |measured: &pipeline::Measured| {
        complete &= measured.is_complete();
        match serde_json::to_string(measured) {
            Ok(line) if json => println!("{line}"),
            _ => println!("{measured}"),
        }
    };
    pipeline::run(&options, print).map_err(|error| error.to_string())?;
    if complete { Ok(()) } else { Err("values were lost, repeated or wrong".to_owned()) }
}
