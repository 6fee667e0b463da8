//! `ganglion buffer`: what the disk holds, whether it is whole, the observations out of it, and what the broker refused.
//!
//! Reads only and takes no lock: beside a running daemon, or a disk pulled out of a dead gateway, mounted read-only.

mod export;
mod inspect;
mod letters;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{REFUSED, load_quietly, refuse, with_causes};
use crate::buffer::examine::{ExamineError, StoredLog};

/// The logs of a data directory, by their folders.
const LOGS: [&str; 2] = ["buffer", "events"];

/// What to do with the buffer.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    /// Show what the disk holds: segments, numbers by resource, what is delivered.
    Inspect(inspect::Options),
    /// Read every byte and say what is damaged and what that means. Exit code 0 clean, 1 findings, 2 cannot read.
    Verify(verify::Options),
    /// Write the observations as JSON Lines or CSV.
    Export(export::Options),
    /// List the messages that the broker refused for good.
    Letters(letters::Options),
}

/// Which data directory.
#[derive(Args, Clone, Debug)]
struct Place {
    /// The site file; its data directory is looked at.
    #[arg(long, value_name = "FILE", required_unless_present = "dir", conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// A data directory, as of a disk from another gateway; or one log in it.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

/// Which logs.
#[derive(Args, Clone, Debug)]
struct Where {
    #[command(flatten)]
    place: Place,
    /// One log only: `buffer` (telemetry) or `events`.
    #[arg(long, value_name = "NAME")]
    log: Option<String>,
}

/// A log and its name.
struct Named {
    name: String,
    log: StoredLog,
}

/// Does what was asked for.
#[must_use]
pub fn main(verb: &Verb) -> ExitCode {
    match verb {
        Verb::Inspect(options) => inspect::main(options),
        Verb::Verify(options) => verify::main(options),
        Verb::Export(options) => export::main(options),
        Verb::Letters(options) => letters::main(options),
    }
}

impl Place {
    /// Returns the data directory, and the gateway if the site file or what the daemon left names it.
    fn data_dir(&self) -> Result<(PathBuf, Option<String>), ExitCode> {
        match (&self.config, &self.dir) {
            (Some(config), _) => {
                let site = load_quietly(config)?;
                Ok((site.data_dir, Some(site.gateway.to_string())))
            }
            (None, Some(dir)) => Ok((dir.clone(), None)),
            // Excluded by the arguments' own rules.
            (None, None) => Err(ExitCode::from(REFUSED)),
        }
    }
}

impl Where {
    /// Returns the data directory and the gateway, see [`Place`].
    fn data_dir(&self) -> Result<(PathBuf, Option<String>), ExitCode> {
        self.place.data_dir()
    }

    /// Opens the logs that are there.
    fn open(&self, data_dir: &Path) -> Result<Vec<Named>, ExitCode> {
        let mut logs = Vec::new();
        for (name, dir) in self.folders(data_dir)? {
            match StoredLog::open(&dir) {
                Ok(log) => logs.push(Named { name, log }),
                Err(error) => return Err(refuse(explained(&error))),
            }
        }
        Ok(logs)
    }

    fn folders(&self, data_dir: &Path) -> Result<Vec<(String, PathBuf)>, ExitCode> {
        let wanted = |name: &str| self.log.as_deref().is_none_or(|log| log == name);
        if let Some(log) = self.log.as_deref().filter(|log| !LOGS.contains(log)) {
            return Err(refuse(format!("no log is called {log:?}; there are: {}", LOGS.join(", "))));
        }
        if let Err(error) = std::fs::read_dir(data_dir) {
            return Err(refuse(format!("cannot read {}: {error}", data_dir.display())));
        }
        if is_log(data_dir) {
            let name =
                data_dir.file_name().map_or_else(|| "log".to_owned(), |name| name.to_string_lossy().into_owned());
            return Ok(vec![(name, data_dir.to_owned())]);
        }
        let there = LOGS.iter().filter(|name| wanted(name)).map(|name| ((*name).to_owned(), data_dir.join(name)));
        let there: Vec<_> = there.filter(|(_, dir)| dir.is_dir()).collect();
        if there.is_empty() {
            let names = self.log.as_deref().map_or_else(|| LOGS.join(" nor "), str::to_owned);
            return Err(refuse(format!("{} holds no log: no {names} in it", data_dir.display())));
        }
        Ok(there)
    }
}

/// Says whether a directory is itself a log.
fn is_log(dir: &Path) -> bool {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| name == "cursor" || name.to_string_lossy().starts_with("seg-"))
}

fn explained(error: &ExamineError) -> String {
    let advice = match error {
        ExamineError::Newer { .. } => "; nothing was changed, use the edition that wrote it or a later one",
        ExamineError::Io { .. } => "",
    };
    format!("{}{advice}", with_causes(error))
}

/// Says how many there are of something.
fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}
