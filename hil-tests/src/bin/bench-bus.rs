//! Measures how well the daemon fills a serial line, beside a plain poller; `cargo xtask bench bus` builds and runs it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ganglion_hil::bench::bus::layout::Layout;
use ganglion_hil::bench::bus::{self, Case, Measured, Options, Table};

/// Line use, the rate of the others beside dead units, and seconds covered on a noisy line.
#[derive(Parser)]
struct Cli {
    /// The daemon's binary
    #[arg(long, value_name = "PATH")]
    daemon: PathBuf,
    /// Folder with the daemon's `directory`
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs"))]
    configs: PathBuf,
    /// Bits per second of the line
    #[arg(long, value_delimiter = ',', default_value = "9600,19200,115200", value_parser = clap::value_parser!(u32).range(300..))]
    baud: Vec<u32>,
    /// Where the registers lie: contiguous, scattered
    #[arg(long, value_delimiter = ',', default_value = "contiguous,scattered")]
    layout: Vec<Layout>,
    /// What is wrong: clean, 1-dead, 3-dead, bit-errors
    #[arg(long, value_delimiter = ',', default_value = "clean,1-dead,3-dead,bit-errors")]
    case: Vec<Case>,
    /// Length of each measured window, once for the daemon and once for the reference
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How long the daemon runs before its window
    #[arg(long, default_value_t = 10)]
    warm_up: u64,
    /// Print one JSON object for each case instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match bench(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(cli: Cli) -> Result<(), String> {
    let Cli { daemon, configs, baud, layout, case, seconds, warm_up, json } = cli;
    let options = Options {
        daemon,
        configs,
        bauds: baud,
        layouts: layout,
        cases: case,
        warm_up: Duration::from_secs(warm_up),
        window: Duration::from_secs(seconds),
    };
    let (mut right, mut above) = (true, None);
    let print = |measured: &Measured| {
        right &= measured.is_right();
        let group = Some((measured.baud, measured.layout.clone()));
        let head = group != above;
        above = group;
        match serde_json::to_string(measured) {
            Ok(line) if json => println!("{line}"),
            _ => println!("{}", Table { measured, head }),
        }
    };
    bus::run(&options, print).map_err(|error| error.to_string())?;
    if right { Ok(()) } else { Err("values were wrong or lost".to_owned()) }
}
