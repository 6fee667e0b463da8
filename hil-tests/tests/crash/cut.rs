//! The power cut at any write: disks as they were then, and the store on each checked.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ganglion_hil::peers::PeerError;
use tempfile::TempDir;

use crate::buffer::Log;
use crate::guest::{DATA_DIR, FILE_SYSTEM_BYTES, LIMITS, MARK};
use crate::machine;
use crate::promises::{Due, Promise, Promises, check};
use crate::write_log::{Entry, WriteLog};

/// How many cuts are tried: a number, or `all`.
const CUTS: &str = "GANGLION_CRASH_CUTS";
const SEED: &str = "GANGLION_CRASH_SEED";
const FEW: usize = 60;

/// Runs the machine, then cuts its power at writes spread over all of its life.
///
/// # Errors
/// When something that it takes is missing, or the machine failed.
pub(crate) fn power(log: Log, name: &str) -> Result<Tried, PeerError> {
    // In memory where that can be: these disks are made hundreds of times.
    let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a folder");
    let mount = Mount { image: folder.path().join("cut.img"), point: folder.path().join("mounted") };
    fs::create_dir(&mount.point).expect("a folder");
    machine::make_file_system(&mount.image)?;
    if let Err(why) = mount.with(|_| ()) {
        return Err(PeerError::Missing { peer: "loop mount", why });
    }
    let started = Instant::now();
    let left = machine::run(folder.path(), log, name)?;
    let ran = started.elapsed();
    let kind = log;
    let log = WriteLog::read(&left.log).unwrap_or_else(|error| panic!("{}: {error}", left.log.display()));
    let told = Told::of(&log);
    let last = told.0.values().next_back().cloned().unwrap_or_default();
    let evicted = |own: &Promise| own.accepted > own.acknowledged.0.len() as u64 + 50;
    assert!(
        last.0.iter().any(evicted) && last.0.iter().all(|own| !own.kept.0.is_empty()),
        "too little happened: {last}"
    );
    let mut disk = Disk { durable: fs::read(&left.disk).expect("the disk"), since: Vec::new() };
    let changes = log.entries.iter().enumerate().filter(|(_, entry)| is_change(entry)).map(|(place, _)| place + 1);
    let changes: Vec<usize> = changes.collect();
    let all = env::var(CUTS).is_ok_and(|cuts| cuts == "all");
    let wanted =
        if all { changes.len() } else { env::var(CUTS).ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(FEW) };
    let seed = env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut chosen = changes.clone();
    rng.shuffle(&mut chosen);
    chosen.truncate(wanted);
    chosen.sort_unstable();

    let mut tried = Tried { entries: log.entries.len(), ran, ..Tried::default() };
    tried.flushes = log.entries.iter().filter(|entry| matches!(entry, Entry::Flush)).count();
    tried.promises = told.0.len();
    let started = Instant::now();
    let mut at = 0;
    for cut in chosen {
        while at < cut {
            disk.take(&log, at);
            at += 1;
        }
        let due = told.due(cut);
        for lossy in [false, true] {
            if lossy && disk.since.is_empty() {
                continue;
            }
            let image = disk.cut(&log, lossy.then_some(&mut rng));
            fs::write(&mount.image, image).expect("the image");
            let verdict = mount.with(|root| check(&root.join(DATA_DIR), kind, &LIMITS, &due)).flatten();
            if let Err(broken) = verdict {
                panic!("cut behind entry {cut} of {}, {SEED}={seed}, lossy {lossy}: {broken}", log.entries.len());
            }
            *(if lossy { &mut tried.lossy } else { &mut tried.whole }) += 1;
        }
    }
    tried.took = started.elapsed();
    Ok(tried)
}

/// What came of it.
#[derive(Default, Debug)]
pub(crate) struct Tried {
    entries: usize,
    flushes: usize,
    promises: usize,
    whole: usize,
    lossy: usize,
    ran: Duration,
    took: Duration,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, flushes, promises, whole, lossy, ran, took } = self;
        let (ran, took) = (ran.as_secs_f64(), took.as_secs_f64());
        write!(
            f,
            "{entries} entries with {flushes} flushes and {promises} promises; cut {whole} times behind an entry and \
             {lossy} times with a part of the writes since the last flush lost; {ran:.0} s in the machine, {took:.0} s checking"
        )
    }
}

/// Says whether an entry changes the file system's bytes or makes them durable.
fn is_change(entry: &Entry) -> bool {
    matches!(entry, Entry::Write { at, .. } if *at < FILE_SYSTEM_BYTES)
}

/// Promises by the place of their entry.
struct Told(BTreeMap<usize, Promises>);

impl Told {
    fn of(log: &WriteLog) -> Self {
        let mut told = BTreeMap::new();
        for (place, entry) in log.entries.iter().enumerate() {
            if let Entry::Write { at, data, .. } = entry
                && *at >= FILE_SYSTEM_BYTES
            {
                let text = String::from_utf8_lossy(log.data(data));
                let line = text.split_once('\n').and_then(|(line, _)| line.strip_prefix(MARK));
                let promises = line.and_then(Promises::parse);
                told.insert(place, promises.unwrap_or_else(|| panic!("entry {place} is no promise: {text:?}")));
            }
        }
        Self(told)
    }

    /// Returns what must hold when only the first `cut` entries were made.
    ///
    /// What was promised before is sure. What may have happened besides is bounded by what was told later: not by the
    /// next promise, which may have been looked up before the last of these entries and written behind it, nor the one
    /// after that, for the buffer counts a moment after it has done.
    fn due(&self, cut: usize) -> [Due; 3] {
        let before = self.0.range(..cut).next_back().map(|(_, promises)| promises.clone()).unwrap_or_default();
        let later = self.0.range(cut..).map(|(_, promises)| promises).take(LATER).last();
        let later = later.or_else(|| self.0.values().next_back()).cloned().unwrap_or_default();
        std::array::from_fn(|resource| {
            let (before, later) = (&before.0[resource], &later.0[resource]);
            Due {
                sure: before.durable,
                most: later.accepted,
                kept: before.kept.clone(),
                acknowledged: later.acknowledged.clone(),
                lost: later.lost.clone(),
            }
        })
    }
}

const LATER: usize = 4;

/// A disk with a cache that a power cut empties.
struct Disk {
    /// What was flushed.
    durable: Vec<u8>,
    /// Entries of the writes since.
    since: Vec<usize>,
}

impl Disk {
    /// Takes the next entry.
    fn take(&mut self, log: &WriteLog, place: usize) {
        match &log.entries[place] {
            Entry::Flush => {
                for place in std::mem::take(&mut self.since) {
                    write(&mut self.durable, log, place, |_| true);
                }
            }
            entry if is_change(entry) => self.since.push(place),
            _ => {}
        }
    }

    /// Returns what is there when the power is cut now: all writes, or of those since the last flush a part, some of
    /// them torn between sectors. Not the first block: ext4 writes its superblock in place, past its journal, with the
    /// checksum in another sector than the rest, and cannot be mounted when that is torn.
    fn cut(&self, log: &WriteLog, mut lossy: Option<&mut fastrand::Rng>) -> Vec<u8> {
        let mut image = self.durable.clone();
        for place in &self.since {
            let Entry::Write { at, forced, .. } = log.entries[*place] else { continue };
            match &mut lossy {
                Some(rng) if !forced => match rng.u8(..4) {
                    0 | 1 => {}
                    2 if at >= BLOCK => write(&mut image, log, *place, |_| rng.bool()),
                    _ => write(&mut image, log, *place, |_| true),
                },
                _ => write(&mut image, log, *place, |_| true),
            }
        }
        image
    }
}

/// Writes the sectors of an entry that `reaches` says.
fn write(image: &mut [u8], log: &WriteLog, place: usize, mut reaches: impl FnMut(usize) -> bool) {
    let Entry::Write { at, data, .. } = &log.entries[place] else { return };
    let at = usize::try_from(*at).expect("within the disk");
    for (sector, bytes) in log.data(data).chunks(SECTOR).enumerate() {
        if reaches(sector) {
            image[at + sector * SECTOR..][..bytes.len()].copy_from_slice(bytes);
        }
    }
}

const SECTOR: usize = crate::guest::SECTOR;
/// Length of a block of the file system.
const BLOCK: u64 = 4096;

/// Where an image is mounted.
struct Mount {
    image: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Mounts the image, which replays its journal, for as long as `act` runs.
    fn with<T>(&self, act: impl FnOnce(&Path) -> T) -> Result<T, String> {
        let mut command = Command::new("mount");
        command.args(["-t", "ext4", "-o", "loop"]).arg(&self.image).arg(&self.point);
        let output = command.output().map_err(|error| format!("mount: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned());
        }
        let _unmounted = Unmount(&self.point);
        Ok(act(&self.point))
    }
}

/// Unmounts when dropped, also when a check panics.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        // A child of another test, from its fork to its exec, holds what this one had open there. The image is written over
        // next, so it is not enough that the file system goes some time.
        let deadline = Instant::now() + PATIENCE;
        let unmounted = || Command::new("umount").arg(self.0).output().is_ok_and(|output| output.status.success());
        while !unmounted() {
            if Instant::now() > deadline {
                drop(Command::new("umount").arg("-l").arg(self.0).status());
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// How long an image may be busy after its check.
const PATIENCE: Duration = Duration::from_secs(20);
