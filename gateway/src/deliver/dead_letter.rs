//! What the broker will never take, kept on disk for a person.
//!
//! `dead-letter/letters.jsonl` in the data directory has one JSON object a line, oldest first; when it reaches half of the
//! bound it becomes `letters.old.jsonl`, and what had that name goes. The two together never exceed the bound.
//!
//! **Invariants**
//! - A letter is durable when [`DeadLetters::put`] has returned.
//! - What a crash or a full disk leaves of a line is never joined to the next one, and is passed over by [`read_all`].
//! - A disk that refuses is an error and a count, and stops nothing: what the letter holds is declared lost elsewhere, whether
//!   or not it is kept here.
//!
//! Not for an async task: it writes files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::{error, fmt};

use ganglion_protocols::Timestamp;
use serde::{Deserialize, Serialize};

use crate::monitor::DeadLetters as Stats;

/// Most bytes that dead letters may take unless a site says otherwise.
pub(super) const DEFAULT_MAX_BYTES: u64 = 16 * 1024 * 1024;

const DIRECTORY: &str = "dead-letter";
const PRESENT: &str = "letters.jsonl";
const OLD: &str = "letters.old.jsonl";

/// The dead letters of one gateway.
#[derive(Debug)]
pub(super) struct DeadLetters {
    directory: PathBuf,
    max_bytes: u64,
    present: Kept,
    old: Kept,
    stats: Stats,
}

/// What the broker refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Letter<'a> {
    /// Where it was to go.
    pub(super) topic: &'a str,
    /// Why it can never be delivered.
    pub(super) reason: &'a str,
    /// When it was given up.
    pub(super) t: Timestamp,
    /// What it held.
    pub(super) payload: &'a [u8],
}

/// A letter read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeptLetter {
    /// When it was given up, RFC 3339.
    pub(crate) t: String,
    /// Where it was to go.
    pub(crate) topic: String,
    /// Why it was not delivered.
    pub(crate) reason: String,
    /// What it held, byte for byte.
    pub(crate) payload: Vec<u8>,
}

/// Why a letter is not kept.
#[derive(Debug)]
pub(super) enum PutError {
    /// Its line is longer than half of the bound.
    TooLarge {
        /// Bytes of the line.
        bytes: u64,
        /// Most bytes of a line.
        limit: u64,
    },
    /// The disk refused.
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Kept {
    letters: u64,
    bytes: u64,
}

/// One line: the payload as text where it is UTF-8, else in hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct Line<T, S> {
    t: T,
    topic: S,
    reason: S,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

impl DeadLetters {
    /// Counts what is kept in `data_dir`. Creates nothing: most gateways never write a letter. A file that cannot be read
    /// counts as empty, and the next letter tells why.
    pub(super) fn open(data_dir: &Path, max_bytes: u64) -> Self {
        let directory = data_dir.join(DIRECTORY);
        let count = |name| count(&directory.join(name)).unwrap_or_default();
        let (present, old) = (count(PRESENT), count(OLD));
        Self { directory, max_bytes, present, old, stats: Stats::default() }
    }

    /// Keeps a letter; it is durable afterwards.
    ///
    /// # Errors
    /// When it is too large or the disk refuses; it is counted and not kept.
    pub(super) fn put(&mut self, letter: &Letter<'_>) -> Result<(), PutError> {
        self.stats.last_topic = Some(letter.topic.to_owned());
        self.stats.last_reason = Some(letter.reason.to_owned());
        let kept = self.try_put(letter);
        if kept.is_err() {
            self.stats.refused += 1;
        }
        kept
    }

    /// Returns what is kept, and what is not.
    pub(super) fn stats(&self) -> Stats {
        Stats {
            letters: self.present.letters + self.old.letters,
            bytes: self.present.bytes + self.old.bytes,
            ..self.stats.clone()
        }
    }

    fn try_put(&mut self, letter: &Letter<'_>) -> Result<(), PutError> {
        let line = line(letter);
        // One byte more, for the end of a torn line before it.
        let (bytes, limit) = (line.len() as u64 + 1, self.max_bytes / 2);
        if bytes > limit {
            return Err(PutError::TooLarge { bytes, limit });
        }
        let (directory, path) = (self.directory.clone(), self.directory.join(PRESENT));
        let made = fs::create_dir_all(&directory);
        made.map_err(|source| PutError::Disk { path: directory.clone(), source })?;
        if fs::metadata(&path).map_or(0, |metadata| metadata.len()) == 0 {
            // A person may have taken it away.
            self.present = Kept::default();
        }
        if self.present.bytes.saturating_add(bytes) > limit {
            self.rotate().map_err(|source| PutError::Disk { path: directory.join(OLD), source })?;
        }
        self.append(&path, &line).map_err(|source| PutError::Disk { path, source })
    }

    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(self.directory.join(PRESENT), self.directory.join(OLD))?;
        self.stats.evicted += self.old.letters;
        self.old = std::mem::take(&mut self.present);
        Ok(())
    }

    fn append(&mut self, path: &Path, line: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let before = file.metadata()?.len();
        let written = write_line(&mut file, before, line);
        if written.is_err() {
            // Half a line would be passed over all the same; this only gives its room back, if the disk lets us.
            file.set_len(before).ok();
        }
        self.present.bytes = file.metadata().map_or(before, |metadata| metadata.len());
        written?;
        self.present.letters += 1;
        if before == 0 {
            // The names, too: of this file, and of the directory it is in.
            for directory in self.directory.ancestors().take(2) {
                File::open(directory)?.sync_all()?;
            }
        }
        Ok(())
    }
}

/// Reads the letters kept in a data directory, oldest first, and how many lines were none, of a crash or a full disk.
///
/// # Errors
/// When a file is there and cannot be read.
pub(crate) fn read_all(data_dir: &Path) -> io::Result<(Vec<KeptLetter>, u64)> {
    let (mut letters, mut damaged) = (Vec::new(), 0);
    for name in [OLD, PRESENT] {
        let file = match File::open(data_dir.join(DIRECTORY).join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).split(b'\n') {
            match parse(&line?) {
                Some(letter) => letters.push(letter),
                None => damaged += 1,
            }
        }
    }
    Ok((letters, damaged))
}

fn write_line(file: &mut File, before: u64, line: &[u8]) -> io::Result<()> {
    let mut last = [b'\n'];
    if let Some(place) = before.checked_sub(1) {
        file.seek(SeekFrom::Start(place))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    file.write_all(line)?;
    file.sync_data()
}

fn line(letter: &Letter<'_>) -> Vec<u8> {
    let text = str::from_utf8(letter.payload).ok();
    let payload_hex =
        text.is_none().then(|| letter.payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let Letter { topic, reason, t, .. } = *letter;
    let mut line = serde_json::to_vec(&Line { t, topic, reason, payload: text, payload_hex }).unwrap_or_default();
    line.push(b'\n');
    line
}

fn parse(line: &[u8]) -> Option<KeptLetter> {
    let Line { t, topic, reason, payload, payload_hex } = serde_json::from_slice::<Line<String, String>>(line).ok()?;
    let payload = match (payload, payload_hex) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(digits)) => bytes_of(&digits)?,
        _ => return None,
    };
    Some(KeptLetter { t, topic, reason, payload })
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = digits.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

/// Counts the lines of a file, whole or not.
fn count(path: &Path) -> io::Result<Kept> {
    let mut kept = Kept::default();
    let mut file = BufReader::new(File::open(path)?);
    loop {
        let bytes = file.skip_until(b'\n')? as u64;
        if bytes == 0 {
            return Ok(kept);
        }
        kept.letters += 1;
        kept.bytes += bytes;
    }
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, limit } => write!(f, "dead letter of {bytes} bytes, {limit} are kept at most"),
            Self::Disk { path, source } => write!(f, "dead letter not kept, {}: {source}", path.display()),
        }
    }
}

impl error::Error for PutError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Disk { source, .. } => Some(source),
            Self::TooLarge { .. } => None,
        }
    }
}

#[cfg(test)]
#[path = "dead_letter_tests.rs"]
mod tests;
