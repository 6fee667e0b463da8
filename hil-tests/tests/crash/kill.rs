//! A process killed at every boundary, and its store checked each time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ganglion_hil::peers::PeerError;
use tempfile::TempDir;

use crate::buffer::Log;
use crate::promises::{Due, Promise, Promises, check};
use crate::tracer::{self, Boundary, Killed, Side};
use crate::worker::{self, History, LIMITS};

/// Workers that run at a time.
const LANES: usize = 2;

/// Kills a process at every boundary from the first start of a store to the end of its second run.
///
/// # Errors
/// When tracing is not permitted, or the worker failed.
pub(crate) fn in_a_whole_life(log: Log, name: &str) -> Result<Tried, PeerError> {
    everywhere(&Before { name, log, folder: None, promises: Promises::default(), history: History::Whole })
}

/// Kills a process at every boundary of a start behind a kill, for kills that leave something half done.
///
/// # Errors
/// When tracing is not permitted, or the worker failed.
pub(crate) fn while_recovering(log: Log, name: &str) -> Result<Tried, PeerError> {
    let mut tried = Tried::default();
    for left in HALF_DONE {
        let scratch = scratch();
        let nothing = Before { name, log, folder: None, promises: Promises::default(), history: History::Whole };
        let mut times = 0;
        let end = nothing.run(scratch.path(), |_, boundary| {
            times += usize::from(left.is(log, boundary));
            times == left.time
        })?;
        let Some(Killed { promises, .. }) = end else { panic!("{left:?} is not reached") };
        let folder = Some(data_dir(scratch.path()));
        tried.add(&everywhere(&Before { name, log, folder, promises, history: History::Restart })?);
    }
    Ok(tried)
}

/// A kill behind a system call that leaves something half done.
#[derive(Debug)]
struct HalfDone {
    call: &'static str,
    /// How the file's name begins.
    file: &'static str,
    /// How often the call is made until then.
    time: usize,
}

impl HalfDone {
    fn is(&self, log: Log, boundary: &Boundary) -> bool {
        let file = boundary.file.strip_prefix(log.folder()).unwrap_or_default();
        boundary.side == Side::Behind && boundary.call == self.call && file.starts_with(self.file)
    }
}

const HALF_DONE: &[HalfDone] = &[
    // The newest segment holds what is not synced.
    HalfDone { call: "pwrite64", file: "/seg-0000000000000002", time: 2 },
    // A spare segment without contents.
    HalfDone { call: "openat", file: "/new-segment", time: 3 },
    // A cursor beside the one that counts; the first of the second run, behind the first run's.
    HalfDone { call: "pwrite64", file: "/new-cursor", time: 4 },
    // The oldest segment is taken by the quota, and its file not used yet.
    HalfDone { call: "rename", file: "/seg-0000000000000006", time: 1 },
];

/// What a process that is to be killed begins with.
struct Before<'a> {
    /// The test that becomes the process.
    name: &'a str,
    log: Log,
    /// The data directory, if there is one.
    folder: Option<PathBuf>,
    /// What was promised of it.
    promises: Promises,
    history: History,
}

impl Before<'_> {
    fn run(&self, scratch: &Path, here: impl FnMut(usize, &Boundary) -> bool) -> Result<Option<Killed>, PeerError> {
        let data_dir = data_dir(scratch);
        fs::create_dir_all(&data_dir).expect("a folder");
        if let Some(from) = &self.folder {
            copy(from, &data_dir);
        }
        let socket = scratch.join("socket");
        // What was perhaps acknowledged before the kill is only surely so if the cursor held it.
        let mut promises = self.promises.clone();
        for promise in &mut promises.0 {
            promise.acknowledged = promise.kept.clone();
        }
        let mut worker = worker::command(self.name, (&data_dir, &socket), self.log, self.history, &promises);
        tracer::run(&mut worker, &socket, (&data_dir, self.log), here)
    }
}

/// Kills a process at its first boundary, another at its second, and so on until one ends by itself.
fn everywhere(before: &Before<'_>) -> Result<Tried, PeerError> {
    let started = Instant::now();

    let (next, last) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let lane = || {
        let mut tried = Tried::default();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= last.load(Ordering::Relaxed) {
                return Ok(tried);
            }
            let scratch = scratch();
            match before.run(scratch.path(), |count, _| count == place)? {
                Some(Killed { boundary, promises }) => {
                    let mut due = promises.0.map(after_a_kill);
                    for (due, before) in due.iter_mut().zip(&before.promises.0) {
                        due.acknowledged.0.extend(&before.acknowledged.0);
                    }
                    if let Err(broken) = check(&data_dir(scratch.path()), before.log, &LIMITS, &due) {
                        panic!("killed {boundary}, boundary {place} of {:?}: {broken}", before.history);
                    }
                    *tried.calls.entry(boundary.call).or_default() += 1;
                }
                None => {
                    last.fetch_min(place, Ordering::Relaxed);
                }
            }
        }
    };
    let lanes: Vec<Result<Tried, PeerError>> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut all = Tried { took: started.elapsed(), ..Tried::default() };
    for tried in lanes {
        all.add(&tried?);
    }
    Ok(all)
}

/// `kill -9` loses nothing accepted.
fn after_a_kill(promise: Promise) -> Due {
    Due {
        sure: promise.accepted,
        // Written, perhaps, and not yet said to be.
        most: promise.accepted + 1,
        kept: promise.kept,
        acknowledged: promise.acknowledged,
        lost: promise.lost,
    }
}

/// Boundaries where a process was killed, by system call.
#[derive(Default, Debug)]
pub(crate) struct Tried {
    calls: BTreeMap<&'static str, usize>,
    took: Duration,
}

impl Tried {
    fn add(&mut self, other: &Self) {
        for (call, times) in &other.calls {
            *self.calls.entry(call).or_default() += times;
        }
        self.took += other.took;
    }

    /// Says whether every kind of step was among them.
    pub(crate) fn reached(&self) -> bool {
        ["openat", "pwrite64", "fdatasync", "fsync", "rename", "unlink", "flock", "ftruncate", "mkdir"]
            .iter()
            .all(|call| self.calls.contains_key(call))
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: Vec<String> = self.calls.iter().map(|(call, times)| format!("{call} {times}")).collect();
        let all: usize = self.calls.values().sum();
        write!(f, "{all} boundaries ({}), {:.0} s", calls.join(", "), self.took.as_secs_f64())
    }
}

/// In memory where that can be: a killed process leaves the page cache as it is, so no disk is needed and none is waited
/// for.
fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a folder")
}

fn data_dir(scratch: &Path) -> PathBuf {
    scratch.join("data")
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("a folder");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}
