//! One test of the bench and what became of it.

use std::fs;
use std::path::Path;

/// A test that was run.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) suite: String,
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) outcome: Outcome,
}

/// What became of a test.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Passed,
    /// It lacks something.
    Skipped {
        why: String,
    },
    Failed {
        printed: String,
        /// Names and contents of what it left.
        traces: Vec<(String, String)>,
    },
}

/// Longest trace that a report shows, in bytes; its end is what counts.
const MOST: usize = 100_000;
/// Only text is shown: a trace, a log.
const SHOWN: [&str; 3] = ["txt", "log", "json"];

impl Outcome {
    /// Judges what a test's process did. A test that lacks something passes and prints `skipped: <why>`.
    pub(super) fn of(success: bool, printed: String, traces: impl FnOnce() -> Vec<(String, String)>) -> Self {
        if !success {
            return Self::Failed { printed, traces: traces() };
        }
        match printed.lines().find_map(|line| line.strip_prefix("skipped: ")) {
            Some(why) => Self::Skipped { why: why.to_owned() },
            None => Self::Passed,
        }
    }
}

impl Case {
    /// Returns the name as the sentence that it is.
    pub(super) fn sentence(&self) -> String {
        self.name.rsplit("::").next().unwrap_or(&self.name).replace('_', " ")
    }

    /// Returns the line of the table.
    pub(super) fn row(&self) -> String {
        let (word, why) = match &self.outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Skipped { why } => ("skipped", format!(": {why}")),
            Outcome::Failed { .. } => ("FAILED", String::new()),
        };
        format!("{word:<8} {:7.1} s  {}{why}", self.seconds, self.sentence())
    }
}

/// Reads what a failed test left.
pub(super) fn traces(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let shown = |path: &std::path::PathBuf| {
        path.is_file() && path.extension().is_some_and(|end| SHOWN.iter().any(|known| end == *known))
    };
    let mut paths: Vec<_> = entries.filter(shown).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).ok()?;
        let end = bytes.get(bytes.len().saturating_sub(MOST)..).unwrap_or_default();
        Some((path.file_name()?.to_string_lossy().into_owned(), String::from_utf8_lossy(end).into_owned()))
    };
    paths.iter().filter_map(read).collect()
}
