//! What a field engineer has on site: look at the plan, read and write, find what is on a line, read a trace,
//! look into the buffer.
//!
//! | file | verb |
//! |---|---|
//! | `check.rs` | `ganglion check`: whether a site file is good, and what it asks of the disk |
//! | `plan.rs` | `ganglion plan`: what a bus is asked for, what it can carry, who is late and why |
//! | `read.rs`, `write.rs` | `ganglion read`, `ganglion write` |
//! | `scan/` | `ganglion scan`: who is on this line? |
//! | `node/` | `ganglion node`: sensor nodes on a line, their settings, samples and firmware |
//! | `buffer/` | `ganglion buffer`: what the disk holds, whether it is whole, and the observations out of it |
//! | `trace.rs`, `frames.rs` | `ganglion trace`: raw bytes as frames and words |
//! | `replay.rs` | a trace against the engine, in virtual time, for tests |
//!
//! A port has one owner. While the daemon runs its ports are asked through it ([`crate::control`]); otherwise a tool opens
//! the wire itself and drives the same engine ([`line`]).

pub mod ask;
pub mod buffer;
pub mod check;
pub mod device;
pub mod frames;
pub mod line;
pub mod node;
pub mod plan;
pub mod read;
pub mod replay;
pub mod scan;
pub mod trace;
pub mod value;
pub mod write;

use std::error::Error;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config;
use crate::site::{Bus, Site};

/// Exit code of a configuration or of arguments that are refused, with nothing started.
pub const REFUSED: u8 = 2;

/// Loads a site that can be run; prints everything that is wrong with it.
///
/// # Errors
/// The exit code to end with when that is too much.
pub fn load(path: &Path) -> Result<(Site, config::Report), ExitCode> {
    let (site, report) = config::load_to_run(path);
    if !report.problems().is_empty() {
        eprint!("{}", report.render(io::stderr().is_terminal()));
    }
    site.map(|site| (site, report)).ok_or(ExitCode::from(REFUSED))
}

/// Loads a site for a tool, which says nothing of warnings: they are for whoever writes the site file.
///
/// # Errors
/// The exit code to end with; every error is printed.
pub fn load_quietly(path: &Path) -> Result<Site, ExitCode> {
    let (site, report) = config::load_to_run(path);
    site.ok_or_else(|| {
        eprint!("{}", report.render(io::stderr().is_terminal()));
        ExitCode::from(REFUSED)
    })
}

/// Prints to standard output; a reader that left early is no failure.
pub fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// Says why nothing was started.
pub fn refuse(message: impl std::fmt::Display) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(REFUSED)
}

/// Writes an error and what caused it in one line.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors say their cause themselves.
        if !text.ends_with(&more) {
            text.push_str(&format!(": {more}"));
        }
        cause = error.source();
    }
    text
}

/// Runs one tool to its end.
fn run(tool: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime cannot be made: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(tool);
    // A serial port that stalls in its thread is not waited for.
    runtime.shutdown_background();
    code
}

/// Returns the bus of a site by name.
///
/// # Errors
/// What to tell: the names there are.
fn bus<'a>(site: &'a Site, name: &str) -> Result<&'a Bus, String> {
    site.buses.iter().find(|bus| bus.name == name).ok_or_else(|| {
        let names: Vec<&str> = site.buses.iter().map(|bus| bus.name.as_str()).collect();
        format!("no bus is called {name:?}; there are: {}", names.join(", "))
    })
}
