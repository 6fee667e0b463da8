//! `ganglion trace`: a saved trace as frames and words; and the same view while a tool runs.
//!
//! The format is that of [`crate::acquire::trace`].

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::ask::Way;
use super::frames::{Joiner, Seen, What, hex_bytes};
use super::{refuse, say};
use crate::acquire::trace::{HEADER, Moment, Trace};

/// Bytes on one line of hex.
const HEX_LINE: usize = 28;

/// What to print.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// A trace, written by `ganglion run --trace` or `ganglion read --trace-file`.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// One bus only.
    #[arg(long, value_name = "NAME")]
    bus: Option<String>,
    /// Print the bytes of each frame too.
    #[arg(long)]
    hex: bool,
}

/// One line of a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Since the trace began.
    pub at: Duration,
    /// The bus, its spaces written as `_`.
    pub bus: String,
    /// What happened.
    pub happened: Happened,
}

/// What a line tells, see [`Moment`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "documented at `Moment`")]
pub enum Happened {
    Started,
    Woken,
    Opened,
    Lost,
    Down,
    Sent(Vec<u8>),
    Received(Vec<u8>),
}

impl Happened {
    /// Returns it as the bus task records it.
    #[must_use]
    pub fn as_moment(&self) -> Moment<'_> {
        match self {
            Self::Started => Moment::Started,
            Self::Woken => Moment::Woken,
            Self::Opened => Moment::Opened,
            Self::Lost => Moment::Lost,
            Self::Down => Moment::Down,
            Self::Sent(bytes) => Moment::Sent(bytes),
            Self::Received(bytes) => Moment::Received(bytes),
        }
    }
}

/// What is wrong with a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for TraceError {}

/// Reads a trace. An unfinished last line, as a killed daemon leaves it, is left out.
///
/// # Errors
/// The first line that is none of a trace.
pub fn parse(text: &str) -> Result<Vec<Entry>, TraceError> {
    let mut lines = text.split_inclusive('\n').zip(1..);
    match lines.next() {
        Some((first, _)) if first.trim_end() == HEADER => {}
        _ => return Err(TraceError { line: 1, what: "not a trace: it begins with `# ganglion trace 1`" }),
    }
    lines
        .filter(|(line, _)| line.ends_with('\n') && !line.starts_with('#') && !line.trim().is_empty())
        .map(|(line, number)| entry(line.trim_end()).map_err(|what| TraceError { line: number, what }))
        .collect()
}

fn entry(line: &str) -> Result<Entry, &'static str> {
    let mut words = line.split(' ');
    let seconds = words.next().and_then(|word| word.parse().ok());
    let at = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or("it begins with no time")?;
    let bus = words.next().ok_or("it names no bus")?.to_owned();
    let word = words.next().ok_or("it says not what happened")?;
    let bytes = words.next().map(unhex);
    let happened = match (word, bytes) {
        ("started", None) => Happened::Started,
        (".", None) => Happened::Woken,
        ("opened", None) => Happened::Opened,
        ("lost", None) => Happened::Lost,
        ("down", None) => Happened::Down,
        (">", Some(Some(bytes))) => Happened::Sent(bytes),
        ("<", Some(Some(bytes))) => Happened::Received(bytes),
        (">" | "<", _) => return Err("its bytes are not hex"),
        _ => return Err("it says what no trace says"),
    };
    if words.next().is_some() { Err("there is more on it than belongs there") } else { Ok(Entry { at, bus, happened }) }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some((char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?).try_into().ok()?),
        _ => None,
    };
    pairs.map(byte).collect()
}

/// Prints a trace.
#[must_use]
pub fn main(options: &Options) -> ExitCode {
    let path = options.file.display();
    let text = match fs::read_to_string(&options.file) {
        Ok(text) => text,
        Err(error) => return refuse(format!("{path}: {error}")),
    };
    let entries = match parse(&text) {
        Ok(entries) => entries,
        Err(error) => return refuse(format!("{path}: {error}")),
    };
    let wanted = options.bus.as_ref().map(|bus| bus.replace(char::is_whitespace, "_"));
    let entries = entries.iter().filter(|entry| wanted.as_ref().is_none_or(|bus| *bus == entry.bus));
    let mut view = View::new(options.hex);
    let mut out = String::new();
    for entry in entries {
        out.push_str(&view.take(entry.at, &entry.bus, entry.happened.as_moment()));
    }
    out.push_str(&view.flush());
    say(&out)
}

/// A trace as people read it, line by line.
#[derive(Debug, Default)]
pub struct View {
    hex: bool,
    joiners: BTreeMap<String, Joiner>,
}

impl View {
    /// With the bytes of each frame, or only its words.
    #[must_use]
    pub fn new(hex: bool) -> Self {
        Self { hex, joiners: BTreeMap::new() }
    }

    /// Takes what happened next. Returns the lines that are complete now.
    pub fn take(&mut self, at: Duration, bus: &str, moment: Moment<'_>) -> String {
        let seen = self.joiners.entry(bus.to_owned()).or_default().take(at, moment);
        seen.iter().map(|seen| self.lines(bus, seen)).collect()
    }

    /// Returns what is left at the end.
    pub fn flush(&mut self) -> String {
        let mut joiners = std::mem::take(&mut self.joiners);
        let left = joiners.iter_mut().flat_map(|(bus, joiner)| joiner.flush().into_iter().map(move |seen| (bus, seen)));
        left.map(|(bus, seen)| self.lines(bus, &seen)).collect()
    }

    fn lines(&self, bus: &str, seen: &Seen) -> String {
        let (direction, words, bytes) = match &seen.what {
            What::Opened => ('-', "wire open".to_owned(), false),
            What::Lost => ('-', "wire lost".to_owned(), false),
            What::Sent(words) => ('>', words.clone(), false),
            What::Received(words) => ('<', words.clone(), false),
            What::Echo => ('<', "echo of the request".to_owned(), false),
            What::Spoiled => ('<', format!("CRC ERROR or cut short, {} bytes", seen.bytes.len()), true),
            What::Noise => ('<', format!("noise, {} bytes", seen.bytes.len()), true),
        };
        let mut out = format!("{:>12.6} {bus} {direction} {words}\n", seen.at.as_secs_f64());
        if self.hex || bytes {
            for line in seen.bytes.chunks(HEX_LINE) {
                out.push_str(&format!("{:>12}   {}\n", "", hex_bytes(line)));
            }
        }
        out
    }
}

/// What a tool shows of its wire while it runs.
#[derive(Args, Clone, Debug, Default)]
pub struct Watch {
    /// Show the frames on the wire, on standard error.
    #[arg(long)]
    trace: bool,
    /// Save the bytes on the wire to a new file.
    #[arg(long, value_name = "FILE")]
    trace_file: Option<PathBuf>,
}

impl Watch {
    /// Returns where the bytes of an own wire go.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn trace(&self) -> Result<Trace, String> {
        let file = self.trace_file.as_ref().map(|path| {
            let made = fs::File::create(path).and_then(|mut file| writeln!(file, "{HEADER}").map(|()| file));
            made.map_err(|error| format!("{}: {error}", path.display()))
        });
        match (file.transpose()?, self.trace) {
            (None, false) => Ok(Trace::default()),
            (file, shown) => Ok(Trace::to(Box::new(Live { file, view: shown.then(|| View::new(true)) }))),
        }
    }

    /// Says that there is nothing to show when the wire is the daemon's.
    pub fn explain(&self, way: &Way) {
        if (self.trace || self.trace_file.is_some()) && matches!(way, Way::Daemon { .. }) {
            eprintln!(
                "the wire is the daemon's: no frames are seen here; `ganglion run --trace FILE` writes them down"
            );
        }
    }
}

/// Lines of a trace as they are written: kept, shown, or both.
struct Live {
    file: Option<fs::File>,
    view: Option<View>,
}

impl Write for Live {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(view) = &mut self.view
            && let Some(entry) = std::str::from_utf8(line).ok().and_then(|line| entry(line.trim_end()).ok())
        {
            eprint!("{}", view.take(entry.at, &entry.bus, entry.happened.as_moment()));
        }
        if let Some(file) = &mut self.file {
            file.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(view) = &mut self.view {
            eprint!("{}", view.flush());
        }
    }
}
