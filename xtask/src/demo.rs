//! Shows the gateway at work, on a simulated site.

use clap::Args;

use crate::shell::{Failure, become_command, cargo, command, run, target_dir};

/// Runs the gateway against a simulated site whose uplink is cut, and counts what arrives
#[derive(Args)]
pub(crate) struct Options {
    /// How long to run
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    // Both at once, so that they share one build of what they depend on.
    run(&mut cargo("build --quiet -p ganglion -p ganglion-hil --bin ganglion --bin demo"))?;
    let built = target_dir()?.join("debug");
    let mut demo = command(built.join("demo"), ["--daemon"]);
    demo.arg(built.join("ganglion"));
    if let Some(seconds) = options.seconds {
        demo.args(["--seconds", &seconds.to_string()]);
    }
    if options.json {
        demo.arg("--json");
    }
    // Ctrl-C must reach the demo, and nobody may die before it has printed its ledger.
    Err(become_command(&mut demo))
}
