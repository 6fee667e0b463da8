//! `ganglion read` and `ganglion write`.

use std::collections::BTreeSet;

use super::site::SiteFile;
use super::units::{Line, Unit};

const PRESSURE: &str = r#"
[[bus.device]]
name = "pressure-1"
unit = 3
template = "pressure-transmitter"
resource = "330502-9601-000123-02"
poll_interval_ms = 200
"#;

fn transmitter() -> (Line, SiteFile) {
    let line = Line::new([(3, Unit::holding(0, &[412, 163, 3592, 0, 0x0000, 0x42C8]))], None);
    let site = SiteFile::new(&line.path, PRESSURE);
    (line, site)
}

#[test]
fn a_device_is_read_as_the_site_means_it_without_a_daemon() {
    let (_line, site) = transmitter();
    let told = site.run("read", &["--device", "pressure-1", "--raw"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""), "{told:?}");
    let expected = "\
pressure-1  unit 3 of bus line, pressure-transmitter; no daemon runs, asked directly
330502-9601-000123-02
  pressure         0.412 MPa      good
                   holding 0: 019C
  temperature       16.3 Cel      good
                   holding 1: 00A3
  battery_voltage  3.592 V        good
                   holding 2: 0E08
";
    assert_eq!(told.out, expected);
}

#[test]
fn one_point_is_read_by_its_name_and_a_wrong_name_is_answered_with_the_right_ones() {
    let (line, site) = transmitter();
    let told = site.run("read", &["--device", "pressure-1", "pressure", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(document["points"][0]["value"], 0.412, "{document}");
    assert_eq!(document["points"].as_array().unwrap().len(), 1);
    let asked = line.shared().asked.len();
    let told = site.run("read", &["--device", "pressure-1", "presure"]);
    assert_eq!(told.code, 2);
    assert_eq!(told.err, "pressure-1 has no point \"presure\"; it has: battery_voltage, pressure, temperature\n");
    let told = site.run("read", &["--device", "pressure-2"]);
    assert_eq!((told.code, told.err.as_str()), (2, "no device is called \"pressure-2\"; did you mean pressure-1?\n"));
    assert_eq!(line.shared().asked.len(), asked, "nothing is asked for a wrong name");
}

#[test]
fn bare_registers_are_read_with_a_type_and_an_order() {
    let (_line, site) = transmitter();
    let bus = ["--bus", "line", "--unit", "3"];
    let told = site.run("read", &[&bus[..], &["--address", "0", "--count", "2"]].concat());
    assert!(told.out.ends_with("  holding      0  019C 00A3                                  412   163\n"), "{told:?}");
    let told = site.run("read", &[&bus[..], &["--address", "4", "--type", "f32", "--order", "cdab"]].concat());
    assert!(told.out.ends_with("  holding      4  0000 42C8            100\n"), "{told:?}");
    let told = site.run("read", &[&bus[..], &["--address", "0", "--count", "3", "--type", "f32"]].concat());
    assert_eq!((told.code, told.err.as_str()), (2, "3 registers do not divide into values of 2 registers\n"));
}

#[test]
fn what_a_unit_refuses_and_who_is_silent_is_said_in_words() {
    let (_line, site) = transmitter();
    let refused = site.run("read", &["--bus", "line", "--unit", "3", "--address", "100"]);
    assert_eq!((refused.code, refused.err.as_str()), (1, "unit 3 of bus line: exception 0x02: illegal data address\n"));
    let silent = site.run("read", &["--bus", "line", "--unit", "9", "--address", "0"]);
    assert_eq!(
        (silent.code, silent.err.as_str()),
        (1, "unit 9 of bus line: timeout: the unit did not answer in time\n")
    );
}

#[test]
fn a_write_is_read_back_and_a_register_that_does_not_keep_it_is_told() {
    let (line, site) = transmitter();
    let to = ["--bus", "line", "--unit", "3"];
    let told = site.run("write", &[&to[..], &["--address", "4", "--type", "f32", "--value", "-1.5"]].concat());
    assert_eq!(told.out, "unit 3 of bus line: write holding 4: BFC0 0000 (f32 -1.5); confirmed and read back\n");
    assert_eq!(line.shared().units[&3].holding[&4], 0xBFC0);

    line.shared().units.get_mut(&3).unwrap().stubborn = BTreeSet::from([1]);
    let told = site.run("write", &[&to[..], &["--address", "1", "--value", "7"]].concat());
    assert_eq!(told.code, 1);
    assert_eq!(
        told.err,
        "unit 3 of bus line: write holding 1: 0007 (u16 7): confirmed, but 1 holds 163 where 7 was written\n"
    );
    let told = site.run("write", &[&to[..], &["--address", "1", "--value", "7", "--no-verify"]].concat());
    assert_eq!((told.code, told.out.ends_with("confirmed, not read back\n")), (0, true), "{told:?}");
}

#[test]
fn a_write_that_is_confirmed_and_cannot_be_read_back_is_told_as_written() {
    let (line, site) = transmitter();
    line.shared().units.get_mut(&3).unwrap().stubborn = BTreeSet::from([90]);
    let write = ["--bus", "line", "--unit", "3", "--address", "90", "--value", "1"];
    let what = "unit 3 of bus line: write holding 90: 0001 (u16 1): ";
    let expected = format!("{what}written and confirmed, but it could not be read back: exception-02\n");
    let told = site.run("write", &write);
    assert_eq!((told.code, told.err.as_str()), (1, expected.as_str()));
    let _daemon = site.daemon(&[]);
    let told = site.run("write", &write);
    assert_eq!((told.code, told.err.as_str()), (1, expected.as_str()));
}

#[test]
fn another_device_in_the_place_of_the_one_that_is_named_is_not_written_to() {
    let meter = PRESSURE
        .replace("pressure-transmitter", "electricity-meter")
        .replace("330502-9601-000123-02", "330502-9304-000101-69");
    let line = Line::new([(3, Unit::holding(0, &[9; 20]))], None);
    let site = SiteFile::new(&line.path, &meter);
    let value = ["--address", "4", "--value", "1"];
    let told = site.run("write", &[&["--device", "pressure-1"], &value[..]].concat());
    assert_eq!(told.code, 1);
    assert!(told.err.contains("nothing was written: another device answers there"), "{told:?}");
    assert_eq!(line.shared().units[&3].holding[&4], 9);
    let told = site.run("write", &[&["--bus", "line", "--unit", "3"], &value[..]].concat());
    assert_eq!(told.code, 0, "who says bus and unit means them: {told:?}");

    line.shared().units.get_mut(&3).unwrap().holding.insert(0x0B, 666);
    let told = site.run("write", &[&["--device", "pressure-1"], &value[..]].concat());
    assert_eq!(told.code, 0, "{told:?}");
}

#[test]
fn a_point_is_written_in_the_unit_of_its_property() {
    let (line, site) = transmitter();
    let told = site.run("write", &["--device", "pressure-1", "battery_voltage", "--value", "3.6"]);
    assert_eq!(told.out, "unit 3 of bus line: write holding 2: 0E10 (3.6 V); confirmed and read back\n", "{told:?}");
    assert_eq!(line.shared().units[&3].holding[&2], 3600);
}

#[test]
fn nobody_writes_to_everybody_by_accident() {
    let (line, site) = transmitter();
    let everybody = ["--bus", "line", "--unit", "0", "--address", "1", "--value", "7"];
    let told = site.run("write", &everybody);
    assert_eq!((told.code, told.err.as_str()), (2, "unit 0 is every unit of the line: say --broadcast to mean it\n"));
    assert!(line.shared().asked.is_empty());
    let told = site.run("write", &[&everybody[..], &["--broadcast"]].concat());
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(line.shared().units[&3].holding[&1], 7);
    let _daemon = site.daemon(&[]);
    assert_eq!(site.run("write", &everybody).code, 2);
}

#[test]
fn while_the_daemon_runs_its_wire_is_asked_through_it() {
    let (line, site) = transmitter();
    let _daemon = site.daemon(&[]);
    let told = site.run("read", &["--device", "pressure-1"]);
    assert!(told.code == 0 && told.out.contains("asked through the running daemon"), "{told:?}");
    assert!(told.out.contains("pressure         0.412 MPa      good"), "{told:?}");
    let told = site.run("write", &["--bus", "line", "--unit", "3", "--address", "5", "--value", "0x1234"]);
    assert!(told.out.ends_with("confirmed and read back\n"), "{told:?}");
    assert_eq!(line.shared().units[&3].holding[&5], 0x1234);
    let told = site.run("read", &["--bus", "line", "--unit", "3", "--address", "100"]);
    assert_eq!((told.code, told.err.as_str()), (1, "unit 3 of bus line: exception 0x02: illegal data address\n"));
}

#[test]
fn the_frames_of_a_read_are_shown_and_saved() {
    let (_line, site) = transmitter();
    let saved = site.beside("read.trace");
    let told = site.run("read", &["--device", "pressure-1", "--trace", "--trace-file", saved.to_str().unwrap()]);
    assert!(told.err.contains(" line > unit 3 read holding 0-2 (3)\n"), "{told:?}");
    assert!(told.err.contains("03 03 00 00 00 03 04 29\n"), "{told:?}");
    assert!(told.err.contains(" line < unit 3 holding 0-2 (3): 019C 00A3 0E08\n"), "{told:?}");
    let view = super::site::ganglion(&["trace", saved.to_str().unwrap()]);
    assert!(view.out.contains(" line < unit 3 holding 0-2 (3): 019C 00A3 0E08\n"), "{view:?}");
}
