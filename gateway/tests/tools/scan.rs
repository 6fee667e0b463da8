//! `ganglion scan`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::site::{SiteFile, ganglion};
use super::units::{Line, Unit};

fn scan(line: &Line, arguments: &[&str]) -> super::site::Told {
    ganglion(&[&["scan", "--port", line.path_text(), "--listen-ms", "100", "--timeout-ms", "120"], arguments].concat())
}

fn document(told: &super::site::Told) -> serde_json::Value {
    serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {told:?}"))
}

#[test]
fn units_are_found_at_their_speed_and_noise_at_another_is_no_find() {
    let mut named = Unit::holding(0, &[1, 2, 3]);
    named.names = Some(("ACME", "PT-100"));
    // Unit 5 has input registers only, unit 200 is beyond the likely ones.
    let input = Unit { input: [(0, 1)].into(), ..Unit::default() };
    let units = [(2, named), (5, input), (200, Unit::holding(40, &[1]))];
    let line = Line::new(units, Some(4_800));
    let told = scan(&line, &["--baud", "9600,4800", "--units", "1-6,198-201", "--json"]);
    let document = document(&told);
    assert_eq!(told.code, 0);
    let found: Vec<_> =
        document["units"].as_array().unwrap().iter().map(|unit| unit["unit"].as_u64().unwrap()).collect();
    assert_eq!(found, [2, 5, 200], "{document}");
    assert!(document["link"].as_str().unwrap().ends_with("4800 8E1"), "{document}");
    assert_eq!(document["units"][0]["identification"]["vendor"], "ACME");
    assert_eq!(document["units"][1]["table"], "input");
    assert_eq!(document["units"][2]["exception"], 2, "a refusal is a sign of life");
    assert_eq!((&document["complete"], &document["remarks"]), (&true.into(), &serde_json::json!([])));
    // Only reads went out.
    assert!(line.shared().asked.iter().all(|(_, pdu)| [0x03, 0x04, 0x11, 0x2B].contains(&pdu[0])));
}

#[test]
fn a_template_is_named_by_what_its_points_hold_and_the_bus_can_be_pasted() {
    let line =
        Line::new([(3, Unit::holding(0, &[412, 163, 3592])), (4, Unit::holding(0, &[60_000, 60_000, 60_000]))], None);
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("configs");
    let (templates, directory) = (configs.join("templates"), configs.join("directory"));
    let named = ["--templates", templates.to_str().unwrap(), "--directory", directory.to_str().unwrap()];
    let told = scan(&line, &[&["--baud", "9600", "--units", "3,4", "--limits"], &named[..]].concat());
    assert!(
        told.out.contains("likely: pressure-transmitter (3 of 3 points answer with possible values"),
        "{}",
        told.out
    );
    assert!(told.out.contains("answers at most 3 holding registers at once, from 0"), "{}", told.out);
    assert_eq!(told.out.matches("pressure-transmitter (").count(), 1, "unit 4 holds nothing possible: {}", told.out);
    let bus: toml::Table = toml::from_str(told.out.split_once("# for the site file").unwrap().1).unwrap();
    assert_eq!(bus["bus"][0]["baud"], toml::Value::from(9600));
    assert_eq!(bus["bus"][0]["device"][0]["template"], toml::Value::from("pressure-transmitter"));
}

#[test]
fn where_somebody_talks_nothing_is_asked() {
    let line = Line::new([(3, Unit::holding(0, &[1]))], None);
    let mut other = line.babble(&[0x03, 0x03, 0x00, 0x00, 0x00, 0x01, 0x85, 0xE8]);
    let told = ganglion(&["scan", "--port", line.path_text(), "--baud", "9600", "--units", "3"]);
    other.stop();
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.out.contains("another client asks on this line at 9600 8E1"), "{told:?}");
    assert!(told.out.contains("read holding 0"), "{told:?}");
    assert!(told.out.contains("nothing was asked"), "{told:?}");
    assert!(line.shared().asked.is_empty());
}

#[test]
fn a_port_that_the_daemon_holds_is_not_taken_from_it() {
    let line = Line::new([(3, Unit::holding(0, &[412, 163, 3592]))], None);
    let device = r#"
[[bus.device]]
name = "pressure-1"
unit = 3
template = "pressure-transmitter"
resource = "330502-9601-000123-02"
poll_interval_ms = 200
"#;
    let site = SiteFile::new(&line.path, device);
    let _daemon = site.daemon(&[]);
    super::site::within("the daemon's port", || !line.shared().asked.is_empty());
    let told = scan(&line, &["--units", "3"]);
    assert_eq!(told.code, 1);
    assert!(told.err.contains("held by process") && told.err.contains("ganglion read"), "{told:?}");
}

#[test]
fn a_line_on_which_nobody_answers_says_what_to_look_at() {
    let line = Line::new([], None);
    let told = scan(&line, &["--baud", "9600", "--parity", "even", "--units", "1-3"]);
    assert_eq!(told.code, 1);
    assert!(told.out.starts_with("nobody answers\n") && told.out.contains("swap"), "{told:?}");
}

#[test]
fn what_a_scan_lacks_is_said_for_the_kind_of_link() {
    let line = Line::new([(3, Unit::holding(0, &[1]))], None);
    let told = scan(&line, &["--baud", "9600", "--parity", "even", "--units", "3"]);
    assert!(told.out.contains("template = \"\"  # --config or --templates says which may fit\n"), "{told:?}");
    let told = ganglion(&["scan"]);
    assert!(told.code == 2 && told.err.contains("<--port <PATH>|--tcp <HOST[:PORT]>|--rtu-over-tcp"), "{told:?}");

    // It takes one call, and says nothing.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let calls = std::thread::spawn(move || server.accept().unwrap());
    let told = ganglion(&["scan", "--tcp", &address, "--units", "1", "--timeout-ms", "50"]);
    assert!(told.code == 1 && told.out.contains("takes calls") && !told.out.contains("swap"), "{told:?}");
    calls.join().unwrap();
}

#[test]
fn noise_at_a_wrong_speed_is_a_hint() {
    let line = Line::new([(3, Unit::holding(0, &[1]))], Some(4_800));
    let told = scan(&line, &["--baud", "9600", "--parity", "even", "--units", "3"]);
    assert_eq!(told.code, 1);
    assert!(told.out.contains("something came for units 3 that is no answer: noise, or another speed"), "{told:?}");
}

#[test]
fn ctrl_c_ends_a_scan_with_what_was_found_so_far() {
    let line = Line::new([(3, Unit::holding(0, &[1]))], None);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ganglion"))
        .args(["scan", "--port", line.path_text(), "--baud", "9600", "--listen-ms", "0", "--units", "3,11-247"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut first = String::new();
    said.read_line(&mut first).unwrap();
    assert!(first.starts_with("unit   3  answers"), "{first}");
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && out.contains("unit   3  answers"), "{out}");
    assert!(out.contains("ended by Ctrl-C") && out.contains("[[bus.device]]"), "{out}");
    assert!(line.shared().asked.len() < 50, "it did not go on to the end");
}
