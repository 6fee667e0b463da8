//! On the real disk, with the thread.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::Value;
use tempfile::TempDir;

use super::{observation, resource, site};
use crate::buffer::{Chunk, OpenError, Opened, Stored, open};
use crate::monitor::Monitor;
use crate::site::Site;

const DEADLINE: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn start(site: &Site) -> (Opened, Arc<Monitor>) {
    let monitor = Arc::new(Monitor::new(site));
    (open(&Arc::new(site.clone()), &monitor).unwrap(), monitor)
}

async fn read(opened: &mut Opened, count: usize, acknowledge: bool) -> Vec<Stored> {
    let mut out = Vec::new();
    while out.len() < count {
        let chunk = tokio::time::timeout(DEADLINE, next(opened)).await.expect("durable in time");
        let Some(chunk) = chunk else { break };
        out.extend(chunk.observations);
        if acknowledge {
            opened.telemetry.live.acknowledge(chunk.span);
        }
    }
    out
}

/// Takes what is next: what an earlier run left first.
async fn next(opened: &mut Opened) -> Option<Chunk> {
    let (old, new) = (&mut opened.telemetry.backfill, &mut opened.telemetry.live);
    tokio::select! {
        biased;
        Some(chunk) = old.next() => Some(chunk),
        Some(chunk) = new.next() => Some(chunk),
        else => None,
    }
}

/// Closes the intakes, checks that the outlets end, and waits for the thread.
async fn stop(mut opened: Opened) {
    close(&mut opened);
    while tokio::time::timeout(DEADLINE, next(&mut opened)).await.expect("the outlets end").is_some() {}
    let Opened { telemetry, events, writer } = opened;
    drop((telemetry, events));
    writer.join().unwrap();
}

fn close(opened: &mut Opened) {
    opened.telemetry.intake = tokio::sync::mpsc::channel(1).0;
    opened.events.intake = tokio::sync::mpsc::channel(1).0;
}

fn marks(observations: &[Stored]) -> Vec<u64> {
    let mark = |stored: &Stored| match stored.readings[0].value {
        Some(Value::Uint(mark)) => mark,
        other => panic!("{other:?}"),
    };
    observations.iter().map(mark).collect()
}

#[test]
fn what_was_durable_and_not_acknowledged_is_read_again_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let site = site(dir.path(), 8);
    runtime().block_on(async {
        let (mut opened, monitor) = start(&site);
        let epoch = opened.telemetry.epoch;
        for mark in 0..10 {
            opened
                .telemetry
                .intake
                .send(observation(&site, usize::try_from(mark % 4).unwrap(), mark).into())
                .await
                .unwrap();
        }
        assert_eq!(marks(&read(&mut opened, 10, false).await), (0..10).collect::<Vec<_>>());
        let ledger = monitor.snapshot().resources[&resource(1)];
        assert_eq!((ledger.accepted, ledger.durable, ledger.last_seq), (5, 5, 5));
        stop(opened).await;

        let (mut opened, monitor) = start(&site);
        assert_eq!(opened.telemetry.epoch, epoch);
        assert_eq!(monitor.snapshot().resources[&resource(1)].last_seq, 5);
        opened.telemetry.intake.send(observation(&site, 0, 10).into()).await.unwrap();
        let again = read(&mut opened, 11, true).await;
        assert_eq!(marks(&again), (0..=10).collect::<Vec<_>>());
        assert_eq!((again[10].seq, again[10].shape.resource), (6, resource(1)));
        stop(opened).await;
    });
}

#[test]
fn acknowledgements_made_after_the_intake_closed_are_kept() {
    let dir = TempDir::new().unwrap();
    let site = site(dir.path(), 8);
    runtime().block_on(async {
        let (mut opened, _) = start(&site);
        opened.telemetry.intake.send(observation(&site, 0, 0).into()).await.unwrap();
        close(&mut opened);
        read(&mut opened, 1, true).await;
        assert_eq!(tokio::time::timeout(DEADLINE, next(&mut opened)).await.unwrap(), None);
        stop(opened).await;

        let (opened, _) = start(&site);
        stop_expecting_nothing(opened).await;
    });
}

async fn stop_expecting_nothing(mut opened: Opened) {
    close(&mut opened);
    assert_eq!(tokio::time::timeout(DEADLINE, next(&mut opened)).await.unwrap(), None);
    stop(opened).await;
}

#[test]
fn a_second_open_is_refused_and_names_the_process() {
    let dir = TempDir::new().unwrap();
    let site = site(dir.path(), 8);
    let (opened, monitor) = start(&site);
    let Err(refused) = open(&Arc::new(site.clone()), &monitor) else { panic!("opened twice") };
    assert!(matches!(refused, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    assert!(refused.to_string().starts_with(&format!("process {} already holds ", std::process::id())));
    runtime().block_on(stop(opened));
    drop(open(&Arc::new(site.clone()), &Arc::new(Monitor::new(&site))).unwrap());
}

/// Names the data directory to the child process of the test below.
const CHILD: &str = "GANGLION_BUFFER_CHILD";

#[test]
fn files_that_are_none_of_ours_are_left_alone_and_spend_no_numbers() {
    let dir = TempDir::new().unwrap();
    let site = site(dir.path(), 8);
    let buffer = site.data_dir.join("buffer");
    std::fs::create_dir_all(&buffer).unwrap();
    let strays = ["seg-ffffffffffffffff", "seg-0000000100000000", "seg-1", "seg-zzzzzzzzzzzzzzzz", "readme"];
    for (mark, last_seq) in [(0, 1), (1, 2)] {
        strays.iter().for_each(|name| std::fs::write(buffer.join(name), [7; 9000]).unwrap());
        let (mut opened, _) = start(&site);
        runtime().block_on(async {
            opened.telemetry.intake.send(observation(&site, 0, mark).into()).await.unwrap();
            let read = read(&mut opened, 1, true).await;
            assert_eq!(read.last().map(|stored| stored.seq), Some(last_seq));
            stop(opened).await;
        });
    }
    assert!(strays.iter().all(|name| buffer.join(name).exists()));
}

#[test]
fn a_killed_process_loses_nothing_accepted() {
    // The same test in another process: no commit ever comes due there.
    if let Some(dir) = std::env::var_os(CHILD) {
        let mut site = site(Path::new(&dir), 64);
        (site.buffer.commit_interval, site.buffer.commit_bytes) = (Duration::from_secs(3600), u32::MAX);
        let (opened, monitor) = start(&site);
        for mark in 0.. {
            opened.telemetry.intake.blocking_send(observation(&site, 0, mark).into()).unwrap();
            let ledger = monitor.snapshot().resources[&resource(1)];
            eprintln!("accepted {}", ledger.accepted);
            if ledger.accepted > 40 {
                std::thread::sleep(DEADLINE);
            }
        }
    }
    let dir = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "buffer::tests::disk::a_killed_process_loses_nothing_accepted", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let accepted = lines.filter_map(|line| line.strip_prefix("accepted ").and_then(|count| count.parse().ok()));
    let accepted: u64 = accepted.into_iter().find(|count| *count > 40).expect("the child writes");

    let site = site(dir.path(), 64);
    let Err(refused) = open(&Arc::new(site.clone()), &Arc::new(Monitor::new(&site))) else { panic!("opened twice") };
    assert!(matches!(refused, OpenError::Locked { pid: Some(pid), .. } if pid == child.id()), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();

    runtime().block_on(async {
        let (mut opened, _) = start(&site);
        let read = read(&mut opened, usize::try_from(accepted).unwrap(), false).await;
        assert!(read.iter().map(|stored| stored.seq).eq(1..=read.len() as u64));
        stop(opened).await;
    });
}

#[test]
fn the_disk_stays_within_its_quota_and_drains_to_a_few_segments() {
    let dir = TempDir::new().unwrap();
    let site = site(dir.path(), 6);
    let bytes_on_disk = || {
        let files = std::fs::read_dir(dir.path().join("buffer")).unwrap().map(Result::unwrap);
        // A file may get another name between its listing and this.
        let sizes = files.filter(|file| file.file_name() != "cursor").filter_map(|file| file.metadata().ok());
        sizes.map(|metadata| metadata.len()).sum::<u64>()
    };
    runtime().block_on(async {
        let (mut opened, monitor) = start(&site);
        let count = 2000;
        for mark in 0..count {
            opened.telemetry.intake.send(observation(&site, 2, mark).into()).await.unwrap();
            assert!(bytes_on_disk() <= site.buffer.max_bytes);
        }
        close(&mut opened);
        let kept = read(&mut opened, usize::MAX, true).await;
        let ledger = monitor.snapshot().resources[&resource(3)];
        assert_eq!((ledger.accepted, ledger.durable), (count, count));
        assert!(ledger.dropped > 0);
        assert_eq!(kept.last().unwrap().seq, count);
        assert!(kept.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        assert!(kept.len() as u64 >= count - ledger.dropped, "{} {}", kept.len(), ledger.dropped);
        stop(opened).await;
        assert!(bytes_on_disk() <= u64::from(site.buffer.segment_bytes) * 4);
    });
}
