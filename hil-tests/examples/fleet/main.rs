//! What a fleet of gateways does to an MQTT cluster that returns, in virtual time: `docs/scale.md` has the question, the
//! assumptions and the answer. `cargo xtask bench fleet` builds and runs it.

mod measure;
mod model;
mod node;
mod picture;
mod policies;
mod seen;
mod sim;
mod sizes;
mod table;
#[cfg(test)]
mod tests;
mod traffic;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use policies::Setting;

/// Connections, load, latency and drain of a fleet that comes back, for several policies
#[derive(Parser)]
struct Cli {
    /// Gateways
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=200_000))]
    gateways: u32,
    /// Hours without the cluster
    #[arg(long, default_value_t = 12.0)]
    hours: f64,
    /// Handshakes a second and node
    #[arg(long, default_value_t = 1000.0)]
    handshakes: f64,
    /// Connections that wait at a node
    #[arg(long, default_value_t = 1024)]
    backlog: usize,
    /// By how much zstd makes a backfill message smaller; `--sample` prints one to measure it
    #[arg(long, default_value_t = 8.0)]
    compression: f64,
    /// Chance; the same number gives the same table
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the picture of two policies to this file
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Measure handshakes and decoding on this machine instead
    #[arg(long)]
    measure: bool,
    /// Print the text of one backfill message instead
    #[arg(long)]
    sample: bool,
}

fn main() -> ExitCode {
    match bench(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(cli: &Cli) -> Result<(), io::Error> {
    if cli.sample {
        return io::stdout().write_all(&sizes::backfill(sizes::sizes().in_batch));
    }
    if cli.measure {
        println!("{}", measure::measure()?);
        return Ok(());
    }
    let Cli { gateways, hours, handshakes, backlog, compression, seed, .. } = *cli;
    let setting = Setting { gateways, hours, handshakes, backlog, compression, seed };
    println!("{}", table::head(&setting));
    for part in policies::parts(&setting) {
        println!("{}", table::part(&part));
        for run in part.runs {
            println!("{}", table::row(&run, &sim::simulate(run)));
        }
    }
    println!("{}", table::capacity(&setting));
    if let Some(path) = &cli.picture {
        fs::write(path, picture::draw(&policies::pictured(&setting)))?;
    }
    Ok(())
}
