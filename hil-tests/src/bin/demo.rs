//! Shows the daemon at work: a simulated site, a broker that is cut for a while, and a ledger of what arrived.
//!
//! Exit status 0 only if nothing was lost. Ctrl-C ends it in order at any time, with the ledger; a second one stops
//! waiting for the daemon to drain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ganglion_hil::demo;

/// A simulated site, a broker that is cut for a while, the real daemon, and a ledger of what arrived.
#[derive(Parser)]
struct Options {
    /// The daemon's binary
    #[arg(long, value_name = "PATH")]
    daemon: PathBuf,
    /// Folder with the daemon's `directory` and `templates`
    #[arg(long, value_name = "PATH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs"))]
    configs: PathBuf,
    /// How long to run, at least 6
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(6..))]
    seconds: u64,
    /// Print nothing but the ledger, as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Options { daemon, configs, seconds, json } = Options::parse();
    let options = demo::Options { daemon, configs, duration: Duration::from_secs(seconds), json };
    match demo::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::from(2)
        }
    }
}
