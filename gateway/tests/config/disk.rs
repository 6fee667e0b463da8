//! What `ganglion check` says of the disk before the site ever ran.

use std::process::Command;
use std::time::Duration;

use ganglion::buffer::predict::Prediction;

use crate::copy::Copy;

const QUOTA: &str = "max_bytes = \"4 GiB\"";

/// Runs `check`; returns what it printed and what it warned of.
fn check(copy: &Copy) -> (String, Vec<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_ganglion")).arg("check").arg("--config").arg(copy.site()).output();
    let output = output.expect("the gateway runs");
    let (out, err) =
        (String::from_utf8(output.stdout).expect("UTF-8"), String::from_utf8(output.stderr).expect("UTF-8"));
    assert!(output.status.success(), "{err}");
    let warnings = err.lines().filter_map(|line| line.strip_prefix("warning: ")).map(str::to_owned);
    // What the code directory says of its edition is no matter of the disk.
    (out, warnings.filter(|warning| !warning.starts_with("provisional")).collect())
}

fn line<'a>(out: &'a str, name: &str) -> &'a str {
    let line = out.lines().find_map(|line| line.trim_start().strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}: {out}")).trim_start()
}

#[test]
fn check_predicts_how_long_an_outage_is_covered_and_how_long_a_card_lasts() {
    let copy = Copy::new();
    copy.change("pump-house.toml", QUOTA, "max_bytes = \"64 MiB\"");
    let (out, warnings) = check(&copy);
    assert_eq!(warnings, [] as [&str; 0]);
    let buffer = line(&out, "buffer");
    assert!(buffer.starts_with("covers ") && buffer.contains(" h of outage at "), "{buffer}");
    assert!(buffer.ends_with(" B/s; predicted"), "{buffer}");
    let wear = line(&out, "wear");
    assert!(wear.contains(" GB a day predicted; an 8 GB card of 3000 cycles lasts "), "{wear}");
    assert!(wear.ends_with(" years"), "{wear}");
}

#[test]
fn check_warns_of_a_buffer_that_does_not_last_a_day() {
    let copy = Copy::new();
    copy.change("pump-house.toml", QUOTA, "max_bytes = \"16 MiB\"\nsegment_bytes = \"1 MiB\"");
    let (out, warnings) = check(&copy);
    assert!(line(&out, "buffer").starts_with("covers "), "{out}");
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(warning.starts_with("the buffer covers ") && warning.contains(" of outage, less than 24 h: "), "{warning}");
}

#[test]
fn check_warns_of_a_quota_that_the_file_system_cannot_hold() {
    let copy = Copy::new();
    copy.change("pump-house.toml", QUOTA, "max_bytes = \"1000000 GiB\"");
    let (_, warnings) = check(&copy);
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(warning.starts_with("the file system of /var/lib/ganglion cannot hold the buffer: "), "{warning}");
    assert!(warning.ends_with(" free, `max_bytes` of both logs are 1074 TB"), "{warning}");
}

#[test]
fn a_site_that_polls_fast_syncs_once_in_each_commit_window() {
    let copy = Copy::new();
    let mut site = copy.load();
    for group in site.devices.iter_mut().flat_map(|device| &mut device.groups) {
        group.interval = Duration::from_millis(10);
    }
    let busy = Prediction::of(&site);
    assert!((busy.syncs_per_s - 5.0).abs() < 1e-9, "{busy:?}");
    // And oftener where `commit_bytes` are reached before.
    site.buffer.commit_bytes = 1024;
    let bytes = Prediction::of(&site);
    assert!((bytes.syncs_per_s - busy.bytes_per_s / 1024.0).abs() < 1e-6 && bytes.syncs_per_s > 20.0, "{bytes:?}");
}

#[test]
fn a_prediction_follows_intervals_and_the_commit_window() {
    let copy = Copy::new();
    let usual = Prediction::of(&copy.load());
    // Two instruments and three loops a second, one gauge every five.
    assert!((usual.observations_per_s - 5.2).abs() < 1e-9, "{usual:?}");
    assert!(usual.bytes_per_s > 5.2 * 40.0 && usual.bytes_per_s < 5.2 * 120.0, "{usual:?}");
    // 3.2 polls a second, each of which may have an fsync of its own.
    assert!((usual.syncs_per_s - 3.2).abs() < 1e-9, "{usual:?}");
    assert!(usual.device_bytes_per_day > 86_400.0 * (usual.bytes_per_s + 4096.0 * usual.syncs_per_s), "{usual:?}");
    copy.change("pump-house.toml", QUOTA, &format!("{QUOTA}\ncommit_interval_ms = 5000"));
    let lazy = Prediction::of(&copy.load());
    assert_eq!(lazy.bytes_per_s, usual.bytes_per_s);
    assert!(lazy.syncs_per_s <= 0.2 && lazy.years_of_a_card() > 2.0 * usual.years_of_a_card(), "{lazy:?}");
}
