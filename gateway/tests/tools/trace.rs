//! Saved traces: read by people, and replayed.

use std::path::{Path, PathBuf};

use ganglion::config;
use ganglion::site::Site;
use ganglion::tools::replay::{Divergence, Replay, replay};
use ganglion::tools::trace::{Entry, Happened, parse};
use ganglion_drivers::bus::Sampled;
use ganglion_protocols::Reason;

use super::site::ganglion;

fn traces() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")
}

fn entries() -> Vec<Entry> {
    parse(&std::fs::read_to_string(traces().join("pump-house.trace")).unwrap()).unwrap()
}

/// The site without its certificates, which nobody replays.
fn site() -> Site {
    let (site, report) = config::load_to_run(&traces().join("pump-house.toml"));
    site.unwrap_or_else(|| panic!("{}", report.render(false)))
}

/// The samples as text, a line each: task, milliseconds, registers or reasons.
fn listed(samples: &[Sampled]) -> String {
    let line = |sampled: &Sampled| {
        let Sampled { task, at, missed, words, states } = sampled;
        let words: Vec<String> = words.iter().map(|word| format!("{word:04X}")).collect();
        let reasons: Vec<String> = states.iter().flatten().map(Reason::to_string).collect();
        format!("{task} {} +{missed} {} {}", at.as_millis(), words.join(""), reasons.join(","))
    };
    samples.iter().map(|sampled| line(sampled).trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_engine_asks_and_reads_today_what_it_asked_and_read_when_the_trace_was_made() {
    let entries = entries();
    let Replay { requests, samples } =
        replay(&site(), "pump-house", &entries).unwrap_or_else(|error| panic!("{error}"));
    let sent = entries.iter().filter(|entry| matches!(entry.happened, Happened::Sent(_))).count();
    assert_eq!(requests, sent);
    let (path, got) = (traces().join("pump-house.samples"), listed(&samples));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    assert_eq!(got, std::fs::read_to_string(&path).unwrap());
    // The trace is worth replaying: late answers, lost ones, spoiled ones, and a unit that is not there.
    let failed = |reason| samples.iter().filter(|sampled| sampled.states.contains(&Some(reason))).count();
    assert!(samples.len() > 150 && failed(Reason::Timeout) > 10, "{} {}", samples.len(), failed(Reason::Timeout));
}

#[test]
fn a_replay_tells_where_the_engine_does_something_else() {
    let mut entries = entries();
    let place = entries.iter().rposition(|entry| matches!(entry.happened, Happened::Sent(_))).unwrap();
    let Happened::Sent(frame) = &mut entries[place].happened else { unreachable!() };
    frame[3] ^= 1;
    match replay(&site(), "pump-house", &entries) {
        Err(Divergence::Asks { sends, trace, .. }) => assert_ne!(Some(sends), trace),
        other => panic!("{other:?}"),
    }
    assert_eq!(replay(&site(), "crossing", &entries), Err(Divergence::NoStart));
}

#[test]
fn lumps_become_frames_and_everything_that_came_is_accounted_for() {
    let told = ganglion(&["trace", traces().join("pump-house.trace").to_str().unwrap()]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let count = |text: &str| told.out.lines().filter(|line| line.contains(text)).count();
    let entries = entries();
    let sent = entries.iter().filter(|entry| matches!(entry.happened, Happened::Sent(_))).count();
    assert_eq!(count(" pump-house > unit "), sent);
    assert!(count(" pump-house < unit ") * 10 > sent * 7, "{} of {sent}", count(" pump-house < unit "));
    assert!(count("CRC ERROR or cut short") > 0 && count("refused: exception 06, server device busy") > 0);
    assert!(!told.out.contains("no answer:"), "{}", told.out);
}

#[test]
fn what_is_no_trace_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.trace");
    for (text, why) in [
        ("hello\n", "line 1: not a trace: it begins with `# ganglion trace 1`"),
        ("# ganglion trace 1\n0.1 bus > 01\n0.2 bus < 0\n", "line 3: its bytes are not hex"),
        ("# ganglion trace 1\nsoon bus opened\n", "line 2: it begins with no time"),
        ("# ganglion trace 1\n0.1 bus vanished\n", "line 2: it says what no trace says"),
    ] {
        std::fs::write(&path, text).unwrap();
        let told = ganglion(&["trace", path.to_str().unwrap()]);
        assert_eq!((told.code, told.err), (2, format!("{}: {why}\n", path.display())));
    }
    // A daemon that was killed leaves half a line.
    std::fs::write(&path, "# ganglion trace 1\n0.1 bus opened\n0.2 bu").unwrap();
    assert_eq!(ganglion(&["trace", path.to_str().unwrap()]).out, "    0.100000 bus - wire open\n");
}
