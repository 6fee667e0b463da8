//! Looking at a log without serving it.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ganglion_protocols::{Gap, LossCause, Timestamp};
use tempfile::TempDir;

use super::sim_disk::{Faults, SimDisk};
use super::{OPENED, observation, open_whole, resource, site};
use crate::buffer::examine::{Cause, ExamineError, Finding, Jump, Numbering, Seen, StoredLog, Trouble, Weight};
use crate::buffer::format::{Position, SLOT_LEN, VERSION, segment_name};
use crate::buffer::log::Log;
use crate::buffer::shared::Lane;
use crate::buffer::storage::Disk;
use crate::buffer::{Kind, Outlet, Span, Stored, open_on};
use crate::monitor::Monitor;
use crate::site::Site;

/// What a walk has shown.
#[derive(Default)]
struct Shown {
    observations: Vec<Stored>,
    undelivered: usize,
    findings: Vec<Finding>,
}

fn opened(dir: &Path, site: &Site, seed: u64) -> (Log, Outlet) {
    let monitor = Arc::new(Monitor::new(site));
    let (disk, opened) = (Disk::new(dir).unwrap(), (Timestamp::from_unix_nanos(OPENED), Instant::now()));
    let (log, shelf) = open_on(disk, Kind::telemetry(site), &monitor, fastrand::Rng::with_seed(seed), opened).unwrap();
    (log, shelf.outlet(Lane::Whole))
}

/// Writes observations over two runs and some segments; half of the first segment is delivered.
fn written(dir: &Path) {
    let site = site(dir, 64);
    for run in 0..2 {
        let (mut log, outlet) = opened(dir, &site, run);
        for batch in 0..30 {
            let mark = run * 1000 + batch * 10;
            let observation = |n: u64| observation(&site, usize::try_from(n % 4).unwrap(), mark + n);
            log.append(&mut (0..10).map(observation).collect(), Instant::now());
            log.commit(Instant::now());
        }
        // The cursor, once written, vouches for the end of the newest segment too.
        outlet.acknowledge(up_to(1000 + 1000 * u32::from(run > 0)));
        log.save_cursor(Instant::now());
    }
}

/// The first segment up to a place.
fn up_to(offset: u32) -> Span {
    Span { from: Position::ORIGIN, to: Position { segment: 1, offset } }
}

fn shown(dir: &Path) -> Shown {
    let log = StoredLog::open(dir).unwrap();
    let mut shown = Shown { findings: log.findings().to_vec(), ..Shown::default() };
    let _ended = log.walk(|seen| {
        match seen {
            Seen::Observation { delivered, stored, .. } => {
                shown.undelivered += usize::from(!delivered);
                shown.observations.push(stored);
            }
            Seen::Finding(finding) => shown.findings.push(finding),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    shown
}

/// The files of a log with their contents, in order.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_sound_log_is_clean_and_everything_in_it_is_seen_and_nothing_touched() {
    let dir = TempDir::new().unwrap();
    written(dir.path());
    let before = files(dir.path());
    let Shown { observations, undelivered, findings } = shown(dir.path());
    assert_eq!(findings, []);
    assert_eq!(observations.len(), 600);
    assert!(undelivered > 500 && undelivered < 600, "{undelivered}");
    let mut numbering = Numbering::default();
    for stored in &observations {
        assert_eq!(numbering.observation(stored.shape.resource, stored.seq), None);
    }
    assert!(numbering.resources().all(|(_, numbers)| numbers.first == 1 && numbers.last == numbers.held));
    assert!(files(dir.path()) == before);
}

#[test]
fn a_log_is_read_beside_its_writer() {
    let dir = TempDir::new().unwrap();
    let site = site(dir.path(), 64);
    let (mut log, _outlet) = opened(dir.path(), &site, 1);
    assert_eq!(StoredLog::open(dir.path()).unwrap().epoch(), None);
    for mark in 1..200_usize {
        log.append(&mut vec![observation(&site, 0, mark as u64)], Instant::now());
        if mark % 50 == 0 {
            log.commit(Instant::now());
        }
        if mark % 20 == 0 {
            let shown = shown(dir.path());
            assert_eq!((shown.findings.as_slice(), shown.observations.len()), (&[][..], mark));
        }
    }
    assert_eq!(StoredLog::open(dir.path()).unwrap().epoch(), Some(log.epoch));
}

#[test]
fn a_flipped_bit_is_found_where_it_is_or_changes_nothing() {
    let dir = TempDir::new().unwrap();
    written(dir.path());
    let sound = shown(dir.path());
    let files = files(dir.path());
    let mut rng = fastrand::Rng::with_seed(7);
    let mut found = 0;
    for _ in 0..1500 {
        let (path, bytes) = &files[rng.usize(..files.len())];
        let (at, bit) = (rng.usize(..bytes.len()), rng.u8(..8));
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        fs::write(path, &flipped).unwrap();
        let shown = shown(dir.path());
        let name = path.file_name().unwrap().to_str().unwrap();
        let damage = shown.findings.iter().find(|finding| finding.weight() == Weight::Damage);
        match damage {
            Some(finding) => {
                found += 1;
                let end = match finding.trouble {
                    Trouble::Hole { bytes, .. } => finding.offset + u64::from(bytes),
                    Trouble::Slot => finding.offset + SLOT_LEN as u64,
                    _ => finding.offset + 64,
                };
                let at = at as u64;
                assert!(finding.file == name && finding.offset <= at && at < end, "{name} {at}: {finding:?}");
            }
            None => assert!(shown.observations == sound.observations, "{name} {at}: {:?}", shown.findings),
        }
        fs::write(path, bytes).unwrap();
    }
    assert!(found > 500, "{found}");
}

#[test]
fn a_newer_version_is_refused_with_its_number_and_the_newest_known() {
    let dir = TempDir::new().unwrap();
    written(dir.path());
    for name in [segment_name(1), "cursor".to_owned()] {
        let path = dir.path().join(&name);
        let sound = fs::read(&path).unwrap();
        let mut newer = sound.clone();
        for place in (0..newer.len()).step_by(4096) {
            newer[place + 8..place + 10].copy_from_slice(&(VERSION + 1).to_le_bytes());
            let crc = crc32c::crc32c(&newer[place..place + 60]);
            newer[place + 60..place + 64].copy_from_slice(&crc.to_le_bytes());
        }
        fs::write(&path, newer).unwrap();
        let error = StoredLog::open(dir.path()).err().unwrap();
        assert!(matches!(&error, ExamineError::Newer { got, known, .. } if (*got, *known) == (VERSION + 1, VERSION)));
        let text = format!("{name} has format version {}, this edition reads up to {VERSION}", VERSION + 1);
        assert!(error.to_string().ends_with(&text), "{error}");
        fs::write(&path, sound).unwrap();
    }
}

#[test]
fn a_segment_recycled_while_it_is_read_is_no_damage() {
    let dir = TempDir::new().unwrap();
    written(dir.path());
    let log = StoredLog::open(dir.path()).unwrap();
    let mut findings = Vec::new();
    let mut taken = Vec::new();
    let mut numbering = Numbering::default();
    let mut jumps = Vec::new();
    let _ended = log.walk(|seen| {
        match seen {
            Seen::LastSeq { resource, seq } => jumps.extend(numbering.last_seq(resource, seq)),
            Seen::Observation { stored, .. } => jumps.extend(numbering.observation(stored.shape.resource, stored.seq)),
            Seen::Missing { delivered: true, .. } => numbering.reclaimed(),
            Seen::Segment(segment) if (2..=3).contains(&segment.number) => {
                numbering.segment(segment.epoch());
                let (old, new) = (dir.path().join(&segment.name), dir.path().join("free-0001"));
                fs::rename(old, &new).unwrap();
                let len = usize::try_from(fs::metadata(&new).unwrap().len()).unwrap();
                fs::write(&new, vec![0xA5; len]).unwrap();
                taken.push(segment.name.clone());
            }
            Seen::Segment(segment) => numbering.segment(segment.epoch()),
            Seen::Finding(finding) => findings.push(finding),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert!(findings.iter().all(|finding| finding.trouble == Trouble::Recycled), "{findings:?}");
    assert!(findings.iter().map(|finding| &finding.file).eq(&taken), "{findings:?}");
    // What was in them and was not read is no loss either.
    assert!(!jumps.is_empty() && jumps.iter().all(|jump| jump.cause == Cause::Reclaimed), "{jumps:?}");
}

#[test]
fn a_torn_end_is_told_and_is_no_damage() {
    let dir = TempDir::new().unwrap();
    let site = site(dir.path(), 64);
    let (mut log, _outlet) = opened(dir.path(), &site, 1);
    for mark in 0..3 {
        log.append(&mut vec![observation(&site, 0, mark)], Instant::now());
    }
    let path = dir.path().join(segment_name(1));
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes[..4000].iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] = 0;
    fs::write(&path, bytes).unwrap();
    let shown = shown(dir.path());
    assert_eq!(shown.observations.len(), 2);
    let [torn] = shown.findings.as_slice() else { panic!("{:?}", shown.findings) };
    assert!(matches!(torn.trouble, Trouble::Torn { observations: 1, .. }) && torn.weight() == Weight::Note, "{torn:?}");
}

#[test]
fn no_power_cut_kill_or_failed_sync_is_ever_taken_for_damage() {
    let site = site(Path::new(""), 64);
    let (mut torn, mut again) = (0, 0);
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = SimDisk::new();
        let mut durable = 0;
        let syncs_fail = rng.bool();
        for _ in 0..8 {
            let monitor = Arc::new(Monitor::new(&site));
            let (mut log, outlet) = open_whole(&disk, &site, &monitor, rng.u64(..)).unwrap();
            for _ in 0..rng.u64(..12) {
                if syncs_fail && rng.u8(..10) == 0 {
                    disk.set_faults(Faults { failing_syncs: 1, ..Faults::default() });
                    again += 1;
                }
                let observation = |_| observation(&site, rng.usize(..4), 0);
                log.append(&mut (0..8).map(observation).collect(), Instant::now());
                if rng.bool() {
                    log.commit(Instant::now());
                }
                if rng.u8(..4) == 0 {
                    outlet.acknowledge(up_to(64 + rng.u32(..3) * 8));
                    log.save_cursor(Instant::now());
                }
            }
            durable += monitor.snapshot().resources.values().map(|ledger| ledger.durable).sum::<u64>();
            drop((log, outlet));
            if rng.bool() {
                disk.cut_power(&mut rng);
            }
            let log = StoredLog::open_on(Arc::new(disk.clone()), Path::new("")).unwrap();
            let mut numbering = Numbering::default();
            let mut held = 0;
            let walked = log.walk(|seen| {
                let jump = match seen {
                    Seen::Segment(segment) => {
                        numbering.segment(segment.epoch());
                        None
                    }
                    Seen::LastSeq { resource, seq } => numbering.last_seq(resource, seq),
                    Seen::Observation { stored, .. } => {
                        held += 1;
                        numbering.observation(stored.shape.resource, stored.seq)
                    }
                    Seen::Gap(gap) => {
                        numbering.declared(&gap);
                        None
                    }
                    Seen::Mark { .. } => None,
                    Seen::Hole { .. } => {
                        numbering.damage();
                        None
                    }
                    Seen::Missing { .. } => panic!("seed {seed}: nothing is reclaimed"),
                    Seen::Finding(finding) => {
                        assert!(finding.weight() == Weight::Note, "seed {seed}: {finding:?}");
                        torn += 1;
                        None
                    }
                };
                let explained = jump.is_none_or(|jump| jump.cause == Cause::Damage);
                assert!(explained, "seed {seed}: {jump:?}");
                ControlFlow::Continue(())
            });
            assert_eq!(walked, ControlFlow::Continue(()));
            // A store that was never written to leaves the cursor of an epoch that nobody has.
            let stray = |finding: &Finding| matches!(finding.trouble, Trouble::SlotOfAnother { .. });
            assert!(log.findings().iter().all(stray), "seed {seed}: {:?}", log.findings());
            assert!(held >= durable, "seed {seed}: {held} of {durable}");
        }
    }
    assert!(torn > 20 && again > 20, "the histories are to reach everything: {torn} {again}");
}

#[test]
fn numbers_that_are_not_held_are_named_with_their_cause() {
    let (one, two) = (resource(1), resource(2));
    let mut numbering = Numbering::default();
    numbering.segment(7);
    assert_eq!(numbering.last_seq(one, 10), None);
    assert_eq!(numbering.observation(one, 11), None);
    assert_eq!(numbering.observation(two, 5), None, "nobody says what was before");
    let jump = numbering.observation(one, 14).unwrap();
    assert_eq!((jump.from, jump.to, jump.cause), (12, 13, Cause::Unknown));
    numbering.damage();
    assert_eq!(numbering.observation(one, 16).unwrap().cause, Cause::Damage);
    assert_eq!(numbering.observation(one, 18).unwrap().cause, Cause::Unknown, "the damage was before");
    assert_eq!(numbering.observation(one, 18).unwrap().cause, Cause::Twice);
    // After damage recovery skips numbers of every resource, also of one that was seen behind it.
    numbering.segment(7);
    assert_eq!(numbering.last_seq(one, 100), None, "they may be written once more");
    assert_eq!(numbering.observation(one, 19), None);
    let jump = numbering.observation(one, 101).unwrap();
    assert_eq!((jump.from, jump.to, jump.cause), (20, 100, Cause::Damage));
    numbering.segment(7);
    assert_eq!(numbering.last_seq(two, 6), None);
    assert_eq!(numbering.last_seq(one, 102), None);
    numbering.segment(7);
    let jump = numbering.last_seq(two, 9).unwrap();
    assert_eq!((jump.from, jump.to, jump.cause), (6, 6, Cause::Unknown));
    assert_eq!(numbering.observation(two, 10).map(|jump| (jump.from, jump.to)), Some((7, 9)));
    let end = numbering.finish();
    assert!(matches!(end.as_slice(), [Jump { from: 102, to: 102, .. }]), "{end:?}");
    // What is declared lost in several pieces is declared.
    let mut gap = |first, last| {
        let span = (Timestamp::from_unix_nanos(0), Timestamp::from_unix_nanos(0));
        numbering.declared(&Gap::whole(two, (first, last), span, LossCause::DiskFull).unwrap());
    };
    [(1, 2), (7, 8), (9, 9)].into_iter().for_each(|(first, last)| gap(first, last));
    assert!(numbering.is_declared(&Jump { from: 7, to: 9, ..jump }));
    assert!(!numbering.is_declared(&Jump { from: 6, to: 9, ..jump }));
    assert!(!numbering.is_declared(&Jump { from: 8, to: 10, ..jump }));
    assert!(!numbering.is_declared(&Jump { resource: one, from: 7, to: 9, ..jump }));
    numbering.segment(8);
    assert_eq!(numbering.observation(one, 1), None, "another epoch begins anew");
}
