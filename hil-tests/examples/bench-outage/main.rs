//! Twelve hours without a broker: memory meanwhile, and afterwards how fast the backlog goes out, how late live data comes
//! beside it, and whether every observation came, once and right. `cargo xtask bench outage` builds and runs it.
//!
//! The gateway's buffer and its delivery run in a process of their own, on the real disk, to Mosquitto over mutual TLS. The
//! outage is replayed: times of measurement run as in real time, observations come as fast as the buffer takes them. Before
//! and after it a thousand a second are measured in real time.

mod consumer;
mod figures;
mod gateway;
mod plant;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Memory, drain and latency of an outage of hours
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    measure: Measure,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Args)]
struct Measure {
    /// Length of the outage
    #[arg(long, default_value_t = 12.0)]
    hours: f64,
    /// How long live data is measured before the outage, in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..))]
    before: u64,
    /// Folder for the buffer; 12 hours take some 2 GB
    #[arg(long, value_name = "PATH", default_value = ".")]
    folder: PathBuf,
}

#[derive(Subcommand)]
enum Part {
    /// The gateway; the bench starts it
    #[command(hide = true)]
    Gateway {
        /// Its folder, with the certificates; files in it say what it is to do
        folder: PathBuf,
        /// The broker's port
        port: u16,
        /// Length of the outage
        hours: f64,
    },
}

fn main() -> ExitCode {
    let Cli { measure, part } = Cli::parse();
    let outcome = match part {
        Some(Part::Gateway { folder, port, hours }) => gateway::run(&folder, port, hours),
        None => stage::run(&measure.folder, measure.hours, measure.before).and_then(|figures| {
            print!("{figures}");
            if figures.is_complete() { Ok(()) } else { Err("observations were lost, repeated or wrong".to_owned()) }
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
