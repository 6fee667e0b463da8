//! `ganglion buffer`: real buffers, written by the library.

use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ganglion::buffer;
use ganglion::config;
use ganglion::monitor::Monitor;
use ganglion::pipeline::Unnumbered;
use ganglion::site::StreamId;
use ganglion_protocols::{Clock, ClockSource, Quality, Reading, Reason, Timestamp, Value};
use serde_json::json;

use super::site::{SiteFile, Told, ganglion, within};

const DEVICES: &str = r#"
[[bus.device]]
name = "pressure-1"
unit = 3
template = "pressure-transmitter"
resource = "330502-9601-000123-02"
poll_interval_ms = 1000

[[bus.device]]
name = "flow-1"
unit = 4
template = "ultrasonic-flow-meter"
resource = "330502-9305-000045-59"
poll_interval_ms = 1000
"#;

/// 2026-11-28T00:00:00Z.
const MIDNIGHT: i64 = 1_795_824_000_000_000_000;

/// A site whose buffer holds `count` observations, one a second from midnight, of its two resources in turn; the first
/// ones, as many as one handing out holds, are delivered if `deliver` says so.
fn stored(count: usize, deliver: bool) -> SiteFile {
    let file = SiteFile::new("/dev/null/none".as_ref(), DEVICES);
    write(&file, 0..count / 2, deliver);
    write(&file, count / 2..count, false);
    file
}

fn write(file: &SiteFile, marks: std::ops::Range<usize>, deliver: bool) {
    write_within(file, marks, deliver, 64);
}

fn write_within(file: &SiteFile, marks: std::ops::Range<usize>, deliver: bool, segments: u64) {
    let (site, report) = config::load_to_run(&file.path);
    let mut site = site.unwrap_or_else(|| panic!("{}", report.render(false)));
    (site.buffer.segment_bytes, site.buffer.max_bytes) = (4096, 4096 * segments);
    let site = Arc::new(site);
    let opened = buffer::open(&site, &Arc::new(Monitor::new(&site))).unwrap();
    let (mut telemetry, events) = (opened.telemetry, opened.events);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for mark in marks {
            telemetry.intake.send(observation(&site, mark).into()).await.unwrap();
        }
        drop((telemetry.intake, events));
        while let Some(chunk) = telemetry.live.next().await {
            if deliver {
                telemetry.live.acknowledge(chunk.span);
            }
        }
        drop((telemetry.live, telemetry.backfill));
    });
    opened.writer.join().unwrap();
}

fn observation(site: &ganglion::site::Site, mark: usize) -> Unnumbered {
    let stream = mark % 2;
    let width = site.streams[stream].properties.len();
    let mut readings = vec![Reading { value: None, quality: Quality::Bad(Reason::Timeout) }; width];
    readings[0] = Reading { value: Some(Value::Uint(mark as u64)), quality: Quality::Good };
    Unnumbered {
        stream: StreamId(stream),
        t: Timestamp::from_unix_nanos(MIDNIGHT + i64::try_from(mark).unwrap() * 1_000_000_000),
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
        readings,
        origin: None,
    }
}

fn buffer(verb: &str, site: &SiteFile, more: &[&str]) -> Told {
    ganglion(&[&["buffer", verb, "--config", site.path.to_str().unwrap()], more].concat())
}

fn first_segment(dir: &Path) -> PathBuf {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(dir.join("buffer")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("seg-")).unwrap()
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    FileExt::read_exact_at(&file, &mut byte, offset).unwrap();
    FileExt::write_all_at(&file, &[byte[0] ^ 1], offset).unwrap();
}

fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn inspect_says_what_the_disk_holds() {
    let site = stored(300, false);
    let told = buffer("inspect", &site, &[]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    for expected in [
        "; format version ",
        "holds     300 observations, measured 2026-11-28T00:00:00Z to 2026-11-28T00:04:59Z",
        "damage    none",
        "  330502-9601-000123-02            1         150           150          150        0\n",
        "cursor    everything before byte 64 of segment 1 is delivered; 300 not delivered",
    ] {
        assert!(told.out.contains(expected), "{expected}: {}", told.out);
    }
    assert!(told.out.lines().all(|line| line.chars().count() <= 100), "{}", told.out);
    let document: serde_json::Value = serde_json::from_str(&buffer("inspect", &site, &["--json"]).out).unwrap();
    let log = &document["buffer"];
    assert_eq!(log["observations"], 300);
    assert_eq!(log["resources"]["330502-9305-000045-59"]["last_seq"], 150);
    assert!(document["dead_letter"].is_null() && !told.out.contains("dead-letter"), "{document}");
    let held = log["segments"].as_array().unwrap().iter().map(|row| row["observations"].as_u64().unwrap());
    assert_eq!(held.sum::<u64>(), 300);
}

#[test]
fn a_loss_that_was_declared_is_shown_and_is_no_finding() {
    let site = SiteFile::new("/dev/null/none".as_ref(), DEVICES);
    write_within(&site, 0..1500, false, 5);
    let told = buffer("inspect", &site, &[]).out;
    assert!(told.contains(" declared in ") && told.contains("measured from         cause\n"), "{told}");
    let document: serde_json::Value = serde_json::from_str(&buffer("inspect", &site, &["--json"]).out).unwrap();
    let log = &document["buffer"];
    let gaps = log["gaps"].as_array().unwrap();
    let lost: u64 = gaps.iter().map(|gap| gap["observations"].as_u64().unwrap()).sum();
    assert_eq!(lost + log["observations"].as_u64().unwrap(), 1500, "{log}");
    assert!(gaps.iter().all(|gap| gap["cause"] == "quota" && gap["first_t"].is_string()), "{log}");
    let told = buffer("verify", &site, &[]);
    assert!(told.code == 0 && !told.out.contains("note:"), "{told:?}");
}

#[test]
fn inspect_shows_what_the_broker_would_never_take_and_folds_long_tables() {
    let site = stored(60, false);
    (0..30).for_each(|run| write(&site, 60 + run..61 + run, false));
    let letters = site.data_dir.join("dead-letter");
    std::fs::create_dir(&letters).unwrap();
    std::fs::write(letters.join("1.json"), "{}\n").unwrap();
    let told = buffer("inspect", &site, &[]);
    assert!(told.out.ends_with("\ndead-letter  1 file, 3 B\n"), "{}", told.out);
    assert!(told.out.contains("  … 8 more, --json has them …\n"), "{}", told.out);
    let document: serde_json::Value = serde_json::from_str(&buffer("inspect", &site, &["--json"]).out).unwrap();
    assert_eq!(document["dead_letter"], json!({"files": 1, "bytes": 3}));
    assert_eq!(document["buffer"]["segments"].as_array().unwrap().len(), 32);
}

#[test]
fn export_writes_each_observation_as_the_contract_has_it() {
    let site = stored(4, false);
    let told = buffer("export", &site, &[]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let mut envelopes = lines(&told.out);
    let epoch = envelopes[0]["epoch"].as_str().unwrap().to_owned();
    assert_eq!(epoch.len(), 16);
    let unread = |unit: &str| json!({"v": null, "u": unit, "q": "bad", "r": "timeout"});
    let expected = json!({
        "v": 1, "gw": "330502-9101-000001-31", "epoch": epoch, "dir": envelopes[2]["dir"],
        "clock": {"src": "ntp", "err_ms": 12},
        "obs": [{"id": "330502-9601-000123-02", "seq": 2, "t": "2026-11-28T00:00:02.000Z", "p": {
            "pressure": {"v": 2, "u": "MPa", "q": "good"}, "temperature": unread("Cel"), "battery_voltage": unread("V"),
        }}],
    });
    assert_eq!(envelopes.remove(2), expected);
    assert_eq!(envelopes.len(), 3);
}

#[test]
fn export_keeps_to_resource_time_and_what_is_not_delivered() {
    let site = stored(200, true);
    let count = |more: &[&str]| buffer("export", &site, more).out.lines().count();
    // Those that were delivered stay a while: the newest two segments are never reclaimed.
    assert_eq!(count(&[]), 200);
    assert_eq!(count(&["--undelivered"]), 100);
    assert_eq!(count(&["--undelivered", "--resource", "330502-9601-000123-02"]), 50);
    let span = ["--from", "2026-11-28T08:02:00+08:00", "--to", "2026-11-28T00:02:10Z"];
    assert_eq!(count(&span), 10);
    assert_eq!(count(&["--from", "2026-11-29"]), 0);
    let told = buffer("export", &site, &["--from", "2026-11-28T08:02:00"]);
    assert!(told.code == 2 && told.err.contains("neither a day nor an instant with its offset"), "{}", told.err);
}

#[test]
fn export_as_csv_has_a_line_for_each_reading() {
    let site = stored(2, false);
    let out = site.beside("out.csv");
    let told = buffer("export", &site, &["--format", "csv", "--out", out.to_str().unwrap()]);
    assert_eq!((told.code, told.out.as_str()), (0, ""));
    assert_eq!(told.err, format!("2 observations in {}\n", out.display()));
    let text = std::fs::read_to_string(&out).unwrap();
    let mut rows = text.lines();
    assert_eq!(rows.next(), Some("t,id,property,value,unit,quality,reason,seq"));
    assert_eq!(rows.next(), Some("2026-11-28T00:00:00.000Z,330502-9601-000123-02,pressure,0,MPa,good,,1"));
    assert_eq!(rows.next(), Some("2026-11-28T00:00:00.000Z,330502-9601-000123-02,temperature,,Cel,bad,timeout,1"));
    // A file that is there is left alone.
    assert_eq!(buffer("export", &site, &["--out", out.to_str().unwrap()]).code, 2);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), text);
}

#[test]
fn a_disk_without_its_site_file_needs_the_gateway_named() {
    let site = stored(2, false);
    let dir = site.data_dir.to_str().unwrap();
    let told = ganglion(&["buffer", "export", "--dir", dir]);
    assert!(told.code == 2 && told.err.contains("say --gateway ID"), "{}", told.err);
    assert_eq!(ganglion(&["buffer", "export", "--dir", dir, "--format", "csv"]).code, 0);
    let told = ganglion(&["buffer", "export", "--dir", dir, "--gateway", "330502-9101-000001-31"]);
    assert_eq!(lines(&told.out)[0]["gw"], "330502-9101-000001-31");
    // What the daemon left when it ended says it too.
    std::fs::write(site.data_dir.join("last-status.json"), r#"{"gateway": "330502-9101-000001-31"}"#).unwrap();
    assert_eq!(ganglion(&["buffer", "export", "--dir", dir]).out, told.out);
    // The log itself may be named instead of the data directory.
    let log = site.data_dir.join("buffer");
    let told = ganglion(&["buffer", "verify", "--dir", log.to_str().unwrap()]);
    assert!(told.code == 0 && told.out.starts_with("buffer: "), "{told:?}");
}

#[test]
fn verify_names_file_and_offset_of_damage_and_export_steps_over_it() {
    let site = stored(300, false);
    let told = buffer("verify", &site, &[]);
    assert_eq!((told.code, told.out.contains(", 300 observations: clean\n")), (0, true), "{told:?}");
    let segment = first_segment(&site.data_dir);
    flip(&segment, 1000);
    let told = buffer("verify", &site, &[]);
    assert_eq!(told.code, 1);
    let name = segment.file_name().unwrap().to_str().unwrap();
    let finding = told.out.lines().find(|line| line.contains("bytes are damaged")).unwrap();
    let offset = finding.strip_prefix(&format!("buffer/{name}:")).unwrap().split(':').next().unwrap();
    let offset: u64 = offset.parse().unwrap();
    assert!((64..=1000).contains(&offset), "{finding}");
    assert!(told.out.contains(" observations: 1 finding\n"), "{}", told.out);

    let exported = buffer("export", &site, &[]);
    assert!(exported.err.starts_with(&format!("buffer/{name}:{offset}: ")), "{}", exported.err);
    let left = lines(&exported.out).len();
    assert!(exported.code == 0 && left > 0 && left < 300, "{left}");
    let inspected = buffer("inspect", &site, &[]).out;
    assert!(inspected.contains("damage    1 finding: `ganglion buffer verify` says where"), "{inspected}");
}

#[test]
fn a_newer_format_is_refused_by_every_verb() {
    let site = stored(2, false);
    let segment = first_segment(&site.data_dir);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8..10].copy_from_slice(&99_u16.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&segment, bytes).unwrap();
    for verb in ["inspect", "verify", "export"] {
        let told = buffer(verb, &site, &[]);
        assert_eq!((told.code, told.out.as_str()), (2, ""));
        assert!(told.err.contains("has format version 99, this edition reads up to "), "{}", told.err);
    }
}

#[test]
fn what_holds_no_log_or_an_empty_one_is_said_to() {
    let site = SiteFile::new("/dev/null/none".as_ref(), DEVICES);
    let told = buffer("verify", &site, &[]);
    assert!(told.code == 2 && told.err.contains("cannot read "), "{}", told.err);
    std::fs::create_dir(&site.data_dir).unwrap();
    let told = buffer("inspect", &site, &[]);
    assert!(told.code == 2 && told.err.ends_with(" holds no log: no buffer nor events in it\n"), "{}", told.err);
    std::fs::create_dir(site.data_dir.join("buffer")).unwrap();
    let told = buffer("inspect", &site, &[]);
    assert!(told.code == 0 && told.out.contains("holds nothing"), "{told:?}");
    assert_eq!(buffer("verify", &site, &[]).out, "buffer: 0 segments, 0 B, 0 observations: clean\n");
    assert_eq!(buffer("export", &site, &[]).out, "");
    assert_eq!(
        buffer("export", &site, &["--log", "alarms"]).err,
        "no log is called \"alarms\"; there are: buffer, events\n"
    );
}

#[test]
fn a_directory_that_cannot_be_written_is_read_all_the_same_and_nothing_is_changed() {
    let site = stored(100, false);
    let log = site.data_dir.join("buffer");
    let state = || {
        let mut files: Vec<_> = [&site.data_dir, &log]
            .into_iter()
            .flat_map(|dir| std::fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = state();
    let set = |mode| {
        for dir in [&site.data_dir, &log] {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o555);
    let codes = ["inspect", "verify", "export"].map(|verb| buffer(verb, &site, &[]).code);
    set(0o755);
    assert_eq!(codes, [0, 0, 0]);
    assert!(state() == before);
}

#[test]
fn a_buffer_is_looked_at_beside_the_daemon_that_holds_its_lock() {
    let site = stored(50, false);
    let _daemon = site.daemon(&[]);
    let told = buffer("verify", &site, &[]);
    assert!(told.code == 0 && told.out.ends_with(": clean\n"), "{told:?}");
    assert!(buffer("export", &site, &[]).out.lines().count() >= 50);
}

#[test]
fn status_says_how_long_an_outage_is_covered_as_soon_as_it_knows() {
    let site = SiteFile::new("/dev/null/none".as_ref(), DEVICES);
    let _daemon = site.daemon(&[]);
    within("a first commit", || {
        let told = site.run("status", &[]).out;
        told.contains(" free, no rate measured yet; 0 % of the quota used\n")
    });
}

#[test]
fn a_reader_that_leaves_early_ends_an_export_quietly() {
    let site = stored(2000, false);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ganglion"))
        .args(["buffer", "export", "--config", site.path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));
}

#[test]
fn letters_are_what_the_broker_refused_and_a_torn_line_is_told() {
    let site = stored(2, false);
    let told = buffer("letters", &site, &[]);
    assert_eq!((told.code, told.out.as_str(), told.err.as_str()), (0, "0 dead letters\n", ""));
    let payload = json!({ "v": 1, "obs": [{ "id": "330502-9601-000123-02", "seq": 41 }] });
    let letter = json!({ "t": "2026-11-28T00:00:00.000Z", "topic": "city/v1/330502/water/9601/000123/obs",
        "reason": "not authorised (0x87)", "payload": payload.to_string() });
    std::fs::create_dir(site.data_dir.join("dead-letter")).unwrap();
    std::fs::write(site.data_dir.join("dead-letter/letters.jsonl"), format!("{letter}\n{{\"t\":\"2026")).unwrap();
    let told = buffer("letters", &site, &[]);
    assert_eq!((told.code, told.err.as_str()), (0, "1 line is no letter: torn by a crash or a full disk\n"));
    let expected = [
        "2026-11-28T00:00:00.000Z  city/v1/330502/water/9601/000123/obs",
        "  refused  not authorised (0x87)",
        "  held     330502-9601-000123-02  seq 41 to 41, 1 observation",
        "1 dead letter",
    ];
    assert_eq!(told.out.lines().collect::<Vec<_>>(), expected);
    let told = buffer("letters", &site, &["--json"]);
    assert_eq!(lines(&told.out)[0]["payload"], payload);
    let told = ganglion(&["buffer", "letters", "--dir", "/nowhere"]);
    assert_eq!(told.code, 2, "{}", told.err);
}
