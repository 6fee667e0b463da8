//! The buffer beside SQLite, on the same private file system in the same run: appended and drained per second, bytes that the
//! device writes per byte of payload, time to open a backlog, memory. `cargo xtask bench buffer` builds and runs it.
//!
//! Each engine works in processes of its own, so that neither its memory nor its page cache is another's.

mod load;
mod ours;
mod part;
mod sqlite;
mod table;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use part::{Engine, Part, Runner, Seen};
use volume::Volume;

/// Appends, drains, wear, opening and memory of the buffer beside SQLite
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    measure: Measure,
    #[command(subcommand)]
    part: Option<Inner>,
}

#[derive(Args)]
struct Measure {
    /// Observations appended and drained for the rates
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    observations: u64,
    /// Commits for each figure of wear
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    commits: u64,
    /// Bytes of payload in the backlog that is opened
    #[arg(long, default_value_t = 1_000_000_000)]
    backlog: u64,
    /// Folder for the file system, or for the files themselves where no file system can be made
    #[arg(long, value_name = "PATH", default_value = ".")]
    folder: PathBuf,
}

#[derive(Subcommand)]
enum Inner {
    /// One part of the measurement; the bench starts it
    #[command(hide = true)]
    Part {
        /// Who stores
        engine: Engine,
        /// Where
        folder: PathBuf,
        /// What is done
        #[command(subcommand)]
        part: Part,
    },
}

fn main() -> ExitCode {
    let Cli { measure, part } = Cli::parse();
    let outcome = match part {
        Some(Inner::Part { engine, folder, part }) => part::run(engine, &folder, &part),
        None => bench(&measure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(measure: &Measure) -> Result<(), String> {
    // A database takes somewhat more than its payload, and a log beside it.
    let most = measure.backlog.max(measure.observations * 100);
    let volume = Volume::make(&measure.folder, most + most / 2 + (256 << 20))?;
    println!("{}", table::head(&volume, measure.observations, measure.backlog));
    let mut seen = Vec::new();
    for engine in Engine::ALL {
        let runner = Runner::new(engine, &volume)?;
        eprintln!("bench: {engine}");
        seen.push(measure_engine(&runner, &volume, measure)?);
    }
    print!("{}", table::of(&seen));
    Ok(())
}

fn measure_engine(runner: &Runner<'_>, volume: &Volume, measure: &Measure) -> Result<Seen, String> {
    let observations = measure.observations;
    let small = runner.rate(load::Size::Small, observations)?;
    let hundred = runner.rate(load::Size::Hundred, observations)?;
    let mut wear = Vec::new();
    for records in part::PER_COMMIT {
        wear.push(runner.wear(records, measure.commits)?);
    }
    let bytes = runner.fill(measure.backlog)?;
    let cold = volume.drop_caches().then(|| runner.open()).transpose()?;
    // What the last one read is in memory now.
    let warm = runner.open()?;
    runner.clear()?;
    Ok(Seen { small, hundred, wear, bytes, cold, warm })
}
