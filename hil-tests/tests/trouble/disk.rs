//! The disk is full, read-only or damaged.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ganglion_hil::peers::{PeerError, require};

use crate::rig::{Rig, Running, SOON};

/// A small file system in memory; unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one on a new folder; root may.
    fn mount(path: &Path, options: &str) -> Result<Self, PeerError> {
        fs::create_dir(path).map_err(|error| PeerError::Io { peer: "tmpfs", error })?;
        let missing = |why: String| PeerError::Missing { peer: "tmpfs", why };
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(path.to_owned())),
            Ok(output) => Err(missing(format!("mount: {}", String::from_utf8_lossy(&output.stderr).trim_end()))),
            Err(error) => Err(missing(format!("mount: {error}"))),
        }
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(status.expect("mount runs").success(), "remount {options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, for a daemon of a failed test may still hold it for a moment.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// Fills a file system of `size` bytes until `spare` bytes are free.
fn fill(folder: &Path, size: usize, spare: usize) -> PathBuf {
    let path = folder.join("ballast");
    fs::write(&path, vec![1; size - spare]).expect("it fits");
    path
}

fn small_segments(rig: &mut Rig) {
    let events = "events = { max_bytes = 1048576, segment_bytes = 65536 }";
    rig.file.buffer.extend(["max_bytes = 1048576", "segment_bytes = 65536", events].map(str::to_owned));
}

/// Waits until the newest status message says this, or does not.
fn expect_told(rig: &Rig, text: &str, told: bool) {
    let said = rig.subscriber.wait_until(SOON, |view| {
        let mut others = view.received.others().values();
        others.any(|payload| String::from_utf8_lossy(payload).contains(text)) == told
    });
    assert!(said, "{:?}", rig.subscriber.look(|view| view.received.others().clone()));
}

#[test]
fn on_a_full_disk_acquisition_goes_on_the_trouble_shows_and_what_is_dropped_is_what_is_counted() {
    let (mut rig, _site) = Rig::with_bench(4, 100, 50);
    small_segments(&mut rig);
    let Some(disk) = require(Tmpfs::mount(&rig.file.data_dir, "size=1m")) else { return };
    // Room for one segment; the second is never reclaimed, so there is no way around it.
    let ballast = fill(&disk.0, 1 << 20, 100 << 10);
    let Some(mut running) = rig.start() else { return };
    let full = running.wait_for("trouble", |status| status.store.trouble.is_some() && status.dropped() > 20);
    assert_eq!(full.store.trouble.as_deref(), Some("disk full"));
    expect_told(&rig, "\"trouble\":\"disk full\"", true);
    let polls = full.polls() + 100;
    running.wait_for("polls with a full disk", |status| status.polls() >= polls);
    fs::remove_file(ballast).expect("removed");
    running.wait_for("recovery", |status| status.store.trouble.is_none());
    expect_told(&rig, "trouble", false);
    let dropped = running.wait_until_durable(100).dropped();
    let last_seq = running.stop();
    rig.expect_all_but(&last_seq, dropped);
}

#[test]
fn a_daemon_that_starts_on_a_full_disk_polls_and_recovers() {
    let (mut rig, _site) = Rig::with_bench(2, 100, 50);
    small_segments(&mut rig);
    let Some(disk) = require(Tmpfs::mount(&rig.file.data_dir, "size=1m")) else { return };
    let ballast = fill(&disk.0, 1 << 20, 0);
    let Some(mut running) = rig.start() else { return };
    running.wait_for("trouble", |status| status.store.trouble.as_deref() == Some("disk full") && status.polls() > 20);
    fs::remove_file(ballast).expect("removed");
    running.wait_for("recovery", |status| status.store.trouble.is_none());
    let dropped = running.wait_until_durable(20).dropped();
    let last_seq = running.stop();
    rig.expect_all_but(&last_seq, dropped);
}

#[test]
fn a_disk_that_turns_read_only_shows_and_is_used_again_when_it_can_be_written() {
    let (mut rig, _site) = Rig::with_bench(2, 100, 50);
    small_segments(&mut rig);
    let Some(disk) = require(Tmpfs::mount(&rig.file.data_dir, "size=4m")) else { return };
    rig.broker.cut();
    let Some(mut running) = rig.start() else { return };
    running.wait_until_durable(100);
    running.daemon.kill().expect("killed");
    disk.remount("ro");
    rig.broker.restore().expect("the broker is back");
    let Some(mut running) = rig.launch() else { return };
    // What is on a disk that cannot be written any more is delivered all the same.
    let came = rig.subscriber.wait_until(SOON, |view| view.received.count() >= 100);
    assert!(came, "{}", running.log());
    expect_told(&rig, "\"trouble\":\"read-only\"", true);
    disk.remount("rw");
    expect_told(&rig, "trouble", false);
    running.daemon.kill().expect("killed");
    rig.subscriber.look(|view| rig.expect_order(&view.received));
}

#[test]
fn a_data_directory_that_cannot_be_made_or_written_is_named_with_the_reason() {
    let (mut rig, _site) = Rig::with_bench(1, 10, 50);
    let file = rig.path("file");
    fs::write(&file, "not a folder").expect("written");
    let mut refused = vec![
        (file.clone(), "File exists"),
        (file.join("below"), "Not a directory"),
        (PathBuf::from("/proc/ganglion"), "No such file"),
    ];
    let disk = require(Tmpfs::mount(&rig.path("read-only"), "size=64k,ro"));
    refused.extend(disk.iter().map(|disk| (disk.0.clone(), "Read-only file system")));
    for (data_dir, reason) in refused {
        rig.file.data_dir = data_dir.clone();
        let Some(mut running) = rig.launch() else { return };
        let status = running.daemon.wait_for_end(SOON).expect("it ends");
        let log = running.log();
        assert_eq!(status.code(), Some(1), "{log}");
        let end = log.lines().last().unwrap_or_default();
        assert!(end.contains(&data_dir.display().to_string()) && end.contains(reason), "{log}");
    }
}

#[test]
fn a_damaged_segment_costs_what_is_damaged_and_the_loss_shows() {
    let (mut rig, _site) = Rig::with_bench(4, 100, 50);
    small_segments(&mut rig);
    rig.broker.cut();
    let Some(mut running) = rig.start() else { return };
    running.wait_for("four segments", |status| status.store.segments >= 4);
    running.daemon.kill().expect("killed");
    damage(&rig.file.data_dir.join("buffer"), 1).expect("damaged");
    rig.broker.restore().expect("the broker is back");
    let Some(mut running) = rig.start() else { return };
    running.expect_line("uplink connected");
    let status = running.wait_for("the loss", |status| status.store.damaged_bytes > 0);
    assert!(status.store.damaged_bytes < 32 << 10, "{status:?}");
    expect_error(&running, "damaged");
    let last_seq = running.stop();
    let settled = rig.subscriber.wait_until(SOON, |view| {
        last_seq.iter().all(|(id, &last)| view.received.resource(id).is_some_and(|r| r.highest() >= last))
    });
    assert!(settled, "what came after the damage arrives");
    rig.subscriber.look(|view| {
        rig.expect_order(&view.received);
        let lost = crate::rig::missing(&view.received, &last_seq);
        assert!((1..=200).contains(&lost), "lost {lost} of {last_seq:?}");
    });
}

/// Flips bytes in the middle of a segment, by its place from the oldest.
fn damage(buffer: &Path, place: usize) -> io::Result<()> {
    let mut segments: Vec<PathBuf> = fs::read_dir(buffer)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    segments.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seg")));
    segments.sort();
    let path = segments.get(place).ok_or_else(|| io::Error::other(format!("{segments:?}")))?;
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, middle)?;
    let flipped = bytes.map(|byte| !byte);
    file.write_all_at(&flipped, middle)
}

fn expect_error(running: &Running, text: &str) {
    let log = running.log();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains(text)), "no ERROR with {text:?} in\n{log}");
}
