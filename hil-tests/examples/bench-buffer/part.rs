//! One part of the measurement, in a process of its own; and the process's view from outside.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::{Subcommand, ValueEnum};
use ganglion_hil::bench::process::Cost;

use crate::load::Size;
use crate::ours::{Commit, Ours};
use crate::sqlite::{Layout, Sqlite};
use crate::volume::{Device, Volume, Written, flush};

/// Observations of one commit, for the figures of wear.
pub(crate) const PER_COMMIT: [u64; 4] = [1, 10, 100, 1000];

/// Payload that passes through before wear is counted: some segments, so that those counted are used again.
const WARM_UP: u64 = 24 << 20;

/// Who stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Engine {
    /// The buffer.
    Ganglion,
    /// SQLite with a row for each observation.
    Rows,
    /// SQLite with a BLOB for each batch.
    Blobs,
}

impl Engine {
    pub(crate) const ALL: [Self; 3] = [Self::Ganglion, Self::Rows, Self::Blobs];
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ganglion => "ganglion",
            Self::Rows => "sqlite-rows",
            Self::Blobs => "sqlite-blobs",
        })
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Part {
    /// Appends, then drains
    Rate {
        /// How long they are
        size: Size,
        /// How many
        observations: u64,
    },
    /// Appends, reads and acknowledges group by group
    Wear {
        /// Observations of a group
        records: u64,
        /// Groups
        commits: u64,
    },
    /// Appends a backlog
    Fill {
        /// How many
        observations: u64,
    },
    /// Opens it and reads from its front
    Open,
}

/// What stores observations.
pub(crate) trait Store {
    /// Appends so many and returns when all are durable.
    fn append(&mut self, count: u64) -> Result<(), String>;
    /// Appends so many in one commit, reads them and says that they are delivered.
    fn pass_through(&mut self, count: u64) -> Result<(), String>;
    /// Reads so many and says that they are delivered.
    fn drain(&mut self, count: u64) -> Result<(), String>;
    /// Reads from the front.
    fn first(&mut self) -> Result<(), String>;
    /// Ends in order.
    fn close(self: Box<Self>) -> Result<(), String>;
}

fn open(engine: Engine, folder: &Path, size: Size, commit: Commit) -> Result<Box<dyn Store>, String> {
    Ok(match engine {
        Engine::Ganglion => Box::new(Ours::open(folder, size, commit)?),
        Engine::Rows => Box::new(Sqlite::open(folder, size, Layout::Rows)?),
        Engine::Blobs => Box::new(Sqlite::open(folder, size, Layout::Blobs)?),
    })
}

/// Does one part and prints its figures, parted by spaces.
pub(crate) fn run(engine: Engine, folder: &Path, part: &Part) -> Result<(), String> {
    match *part {
        Part::Rate { size, observations } => {
            let mut store = open(engine, folder, size, Commit::Default)?;
            let begin = Instant::now();
            store.append(observations)?;
            let appended = begin.elapsed().as_secs_f64();
            let begin = Instant::now();
            store.drain(observations)?;
            let drained = begin.elapsed().as_secs_f64();
            let peak = Cost::of(std::process::id()).map_err(|error| error.to_string())?.peak;
            println!("{appended} {drained} {peak}");
            store.close()
        }
        Part::Wear { records, commits } => {
            let (size, device) = (Size::Hundred, Device::of(folder)?);
            let mut store = open(engine, folder, size, Commit::Group)?;
            let mut appended = 0;
            while size.payload(0, 1) * appended < WARM_UP {
                store.pass_through(1000)?;
                appended += 1000;
            }
            flush(folder)?;
            let before = device.written()?;
            let begin = Instant::now();
            for _ in 0..commits {
                store.pass_through(records)?;
            }
            let took = begin.elapsed().as_secs_f64();
            flush(folder)?;
            let Written { bytes, flushes } = device.written()?.since(before);
            println!("{bytes} {} {flushes} {took}", size.payload(appended, records * commits));
            store.close()
        }
        Part::Fill { observations } => {
            let mut store = open(engine, folder, Size::Hundred, Commit::Default)?;
            store.append(observations)?;
            store.close()
        }
        Part::Open => {
            let begin = Instant::now();
            let mut store = open(engine, folder, Size::Hundred, Commit::Default)?;
            let opened = begin.elapsed().as_secs_f64();
            store.first()?;
            println!("{opened} {}", begin.elapsed().as_secs_f64());
            store.close()
        }
    }
}

/// Rates of one size of observations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Observations appended a second.
    pub(crate) appended: f64,
    /// Observations read and acknowledged a second.
    pub(crate) drained: f64,
    /// Most resident memory, in bytes.
    pub(crate) peak: f64,
}

/// What the device did for one size of commits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wear {
    /// Bytes that the device wrote per byte of payload.
    pub(crate) per_byte: f64,
    /// Flushes of the device per group appended, read and acknowledged.
    pub(crate) flushes: f64,
}

/// How long opening took, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// Until it is open.
    pub(crate) opened: f64,
    /// Until the first observations are read.
    pub(crate) first: f64,
}

/// All figures of one engine.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) small: Rate,
    pub(crate) hundred: Rate,
    /// One for each of [`PER_COMMIT`].
    pub(crate) wear: Vec<Wear>,
    /// Bytes of the backlog's files.
    pub(crate) bytes: u64,
    /// Opening with nothing in memory, where the page cache can be dropped.
    pub(crate) cold: Option<Opening>,
    pub(crate) warm: Opening,
}

/// Starts the parts of one engine.
pub(crate) struct Runner<'a> {
    engine: Engine,
    program: PathBuf,
    volume: &'a Volume,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(engine: Engine, volume: &'a Volume) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        Ok(Self { engine, program, volume })
    }

    pub(crate) fn rate(&self, size: Size, observations: u64) -> Result<Rate, String> {
        let size = if size == Size::Small { "small" } else { "hundred" };
        let figures = self.part(&["rate", size, &observations.to_string()])?;
        self.clear()?;
        let [appended, drained, peak] = figures[..] else { return Err(format!("rates are {figures:?}")) };
        let count = as_f64(observations);
        Ok(Rate { appended: count / appended, drained: count / drained, peak })
    }

    pub(crate) fn wear(&self, records: u64, commits: u64) -> Result<Wear, String> {
        let figures = self.part(&["wear", &records.to_string(), &commits.to_string()])?;
        self.clear()?;
        let [bytes, payload, flushes, _] = figures[..] else { return Err(format!("wear is {figures:?}")) };
        Ok(Wear { per_byte: bytes / payload, flushes: flushes / as_f64(commits) })
    }

    /// Leaves a backlog with so many bytes of payload; returns the bytes of its files.
    pub(crate) fn fill(&self, payload: u64) -> Result<u64, String> {
        let observations = payload / Size::Hundred.payload(0, 1);
        self.part(&["fill", &observations.to_string()])?;
        flush(self.volume.folder())?;
        size_of(&self.folder())
    }

    pub(crate) fn open(&self) -> Result<Opening, String> {
        let figures = self.part(&["open"])?;
        let [opened, first] = figures[..] else { return Err(format!("opening is {figures:?}")) };
        Ok(Opening { opened, first })
    }

    /// Removes what the engine stored.
    pub(crate) fn clear(&self) -> Result<(), String> {
        fs::remove_dir_all(self.folder()).map_err(|error| format!("{}: {error}", self.folder().display()))
    }

    fn folder(&self) -> PathBuf {
        self.volume.folder().join(self.engine.to_string())
    }

    fn part(&self, arguments: &[&str]) -> Result<Vec<f64>, String> {
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let engine = self.engine.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = Command::new(&self.program);
        command.arg("part").arg(engine).arg(&folder).args(arguments).stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("{} {arguments:?} ended with {}", self.engine, output.status));
        }
        let figure = |word: &str| word.parse().map_err(|error| format!("{word:?}: {error}"));
        printed.split_whitespace().map(figure).collect()
    }
}

/// Returns the bytes of all files below a folder.
fn size_of(folder: &Path) -> Result<u64, String> {
    let mut sum = 0;
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        sum += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_gives_back_what_it_took_also_after_it_was_closed() {
        for engine in Engine::ALL {
            for size in [Size::Small, Size::Hundred] {
                let folder = tempfile::tempdir().unwrap();
                let opened = || open(engine, folder.path(), size, Commit::Group).unwrap();
                let mut store = opened();
                store.append(2500).unwrap();
                store.close().unwrap();
                let mut store = opened();
                store.first().unwrap();
                store.close().unwrap();
                let mut store = opened();
                store.drain(2500).unwrap();
                store.pass_through(10).unwrap();
                store.close().unwrap();
            }
        }
    }
}
