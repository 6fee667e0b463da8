//! `ganglion`: the command line of the edge perception gateway.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
