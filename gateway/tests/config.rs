//! What the files of a site may say, and what a person is told when they are wrong.

use std::fs;
use std::path::Path;

use ganglion::config::{self, Report, Severity};
use ganglion::site::{Link, Scale};
use ganglion_protocols::modbus::{UnitId, ValueType, WordOrder};
use proptest::prelude::*;

#[path = "config/alarms.rs"]
mod alarms;
#[path = "config/copy.rs"]
mod copy;
#[path = "config/devices.rs"]
mod devices;
#[path = "config/disk.rs"]
mod disk;
#[path = "config/keys.rs"]
mod keys;
#[path = "config/uplink.rs"]
mod uplink;

use copy::{Copy, compare, set_mode, stems};

fn report_of(site: &str) -> Report {
    config::load(Path::new(site)).expect_err("a report")
}

#[test]
fn every_mistake_of_a_person_is_reported_at_once_with_its_place() {
    let report = report_of("tests/config/nonsense/site.toml");
    compare(&report.render(false), "tests/config/nonsense/site.expected");
    let mut kinds: Vec<_> = report.problems().iter().map(|problem| problem.message.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.len() > 60, "{} different messages", kinds.len());
}

#[test]
fn slips_of_syntax_are_reported_together_with_what_can_still_be_read() {
    compare(&report_of("tests/config/broken/site.toml").render(false), "tests/config/broken/site.expected");
}

#[test]
fn a_code_table_is_reported_by_file_line_and_column() {
    let report = report_of("tests/config/tables/site.toml");
    compare(&report.render(false), "tests/config/tables/site.expected");
    let mark = report.problems().iter().find(|problem| problem.message.contains("Water")).and_then(|p| p.mark.as_ref());
    let mark = mark.expect("the domain is reported where it stands");
    assert_eq!((mark.line, mark.column), (6, 20));
    assert!(mark.file.ends_with("classes.csv"));
}

#[test]
fn the_schemas_for_editors_are_those_in_configs() {
    let text = |schema| format!("{:#}\n", schema);
    compare(&text(config::json_schema()), "../configs/schema/site.json");
    compare(&text(config::template_json_schema()), "../configs/schema/template.json");
}

#[test]
fn every_example_site_loads_without_an_error() {
    let copy = Copy::new();
    for site in stems("sites") {
        let (loaded, report) = config::load_to_run(&copy.path(&format!("{site}.toml")));
        assert!(loaded.is_some(), "{report}");
        assert_eq!(report.warnings(), 1, "only that classes are provisional:\n{report}");
    }
}

#[test]
fn every_template_is_used_by_an_example_site() {
    let copy = Copy::new();
    let sites = stems("sites").into_iter().map(|site| copy.path(&format!("{site}.toml")));
    let devices: Vec<_> = sites.flat_map(|path| config::load(&path).expect("a site").devices).collect();
    for template in stems("templates") {
        assert!(devices.iter().any(|device| device.template == template), "no example site uses {template}");
    }
}

#[test]
fn the_example_site_means_what_it_says() {
    let site = Copy::new().load();
    assert_eq!(site.gateway.to_string(), "330502-9101-000001-31");
    assert_eq!(site.broker.client_id, "330502-9101-000001-31");
    assert_eq!((site.broker.port, site.broker.keep_alive.as_secs()), (8883, 30));
    assert_eq!((site.buffer.max_bytes, site.buffer.segment_bytes), (4 << 30, 4 << 20));
    assert_eq!(site.directory, "2026-11");
    assert!(matches!(&site.buses[0].link, Link::Serial(serial) if serial.speed.baud == 9600));
    assert!(matches!(&site.buses[1].link, Link::Tcp { port: 502, .. }));

    let pressure = &site.devices[0];
    assert_eq!((pressure.unit, pressure.template.as_str()), (UnitId(3), "pressure-transmitter"));
    assert_eq!((pressure.groups.len(), pressure.groups[0].interval.as_millis()), (1, 1000));
    let points = &pressure.groups[0].points;
    assert_eq!(points[0].scale, Some(Scale { multiply: 1.0, divide: 1000.0, offset: 0.0 }));
    assert_eq!((points[0].missing, points[0].range), (Some(0x8000), Some((-0.1, 10.0))));

    let flow = &site.devices[1].groups[0];
    assert_eq!((flow.points[0].value_type, flow.points[0].word_order), (ValueType::F32, WordOrder::Cdab));
    let asked: Vec<_> = flow.wants.iter().map(|want| (want.read.address, want.read.count, want.offset)).collect();
    assert_eq!(asked, [(0, 2, 0), (4, 2, 2), (8, 2, 4), (91, 1, 6)]);

    let level = &site.devices[2];
    assert_eq!((level.limits.max_registers, level.limits.bridge), (16, 124));
    assert_eq!((level.groups[0].points[2].want, level.groups[0].points[2].first), (2, 0));

    let loops = &site.devices[3].groups[0];
    assert_eq!((loops.streams.len(), loops.points.len()), (3, 12));
    let lane = &site.streams[loops.streams[1].0];
    assert_eq!((lane.resource.to_string().as_str(), lane.domain.as_str()), ("330502-9401-000212-27", "traffic"));
    let names: Vec<_> =
        lane.properties.iter().map(|property| (property.name.as_str(), property.unit.as_str())).collect();
    assert_eq!(names, [("vehicle_count", "1"), ("occupancy", "%"), ("speed", "km/h"), ("vehicle_present", "1")]);
}

#[test]
fn a_thousand_registers_are_a_template_of_one_point() {
    let copy = Copy::new();
    let point = "property = \"vehicle_count\"\nchannels = 1000\ntable = \"holding\"\naddress = 0\ntype = \"u16\"\n";
    copy.write("../templates/thousand.toml", &format!("[template]\nname = \"thousand\"\n[[point]]\n{point}"));
    copy.change("pump-house.toml", "template = \"loop-detector-controller\"", "template = \"thousand\"");
    copy.change("pump-house.toml", "unused = [\"lane4\"]\n", "resource = \"330502-9401-000211-30\"\n");
    let text = fs::read_to_string(copy.site()).expect("the site");
    copy.write("pump-house.toml", text.split("[bus.device.resources]").next().expect("the rest"));
    let site = copy.load();
    let group = &site.devices.last().expect("the device").groups[0];
    assert_eq!((group.wants.len(), group.points.len(), group.streams.len()), (1000, 1000, 1));
    let last = group.points.last().expect("the last point");
    assert_eq!((last.want, last.first, last.place, group.wants[999].offset), (999, 0, 999, 999));
    assert_eq!(site.streams[group.streams[0].0].properties[999].name, "vehicle_count.1000");
}

#[test]
fn points_share_a_register_as_bit_fields_or_on_purpose() {
    let point = |property: &str, rest: &str| {
        format!("[[point]]\nproperty = \"{property}\"\ntable = \"holding\"\naddress = 9\n{rest}\n")
    };
    let bits = |property, bit| point(property, &format!("type = \"bits\"\nbit = {bit}"));
    let whole = |overlap| point("pressure", &format!("type = \"u16\"\nunit = \"MPa\"\n{overlap}"));
    let errors = |points: &[String]| {
        let copy = Copy::new();
        let text = format!("[template]\nname = \"pressure-transmitter\"\n{}", points.concat());
        copy.write("../templates/pressure-transmitter.toml", &text);
        copy.without_alarms();
        copy.messages(Severity::Error)
    };
    let none: [String; 0] = [];
    assert_eq!(errors(&[bits("cover_open", 0), bits("cover_open.2", 1)]), none);
    assert_eq!(errors(&[bits("cover_open", 0), whole("overlap = true")]), none);
    assert_eq!(errors(&[bits("cover_open", 0), whole("")]), ["`cover_open` and `pressure` share address 9"]);
}

#[test]
fn an_expired_certificate_is_a_warning_and_never_stops_acquisition() {
    let copy = Copy::new();
    copy.issue("pki/gateway.pem", 2021);
    copy.load();
    let warnings = copy.messages(Severity::Warning);
    assert!(warnings.iter().any(|warning| warning.ends_with("the certificate expired on 2021-01-01")), "{warnings:?}");
}

#[test]
fn a_key_that_everybody_can_read_is_a_warning() {
    let copy = Copy::new();
    set_mode(&copy.path("pki/gateway.key"), 0o644);
    copy.load();
    assert!(copy.messages(Severity::Warning).iter().any(|warning| warning.contains("everybody on this machine")));
}

#[test]
fn a_key_of_another_certificate_is_an_error() {
    let copy = Copy::new();
    fs::copy(copy.path("pki/ca.key"), copy.path("pki/gateway.key")).expect("copied");
    assert_eq!(copy.messages(Severity::Uplink), ["the private key does not belong to the certificate"]);
    assert!(config::load(&copy.site()).is_err(), "a check refuses it");
    assert!(config::load_to_run(&copy.site()).0.is_some(), "acquisition and buffer can go on without the uplink");
}

/// Certificate and key of one pair, as `openssl x509` makes them without `-extfile`: X.509 version 1.
const VERSION_1: (&str, &str) = (
    "\
-----BEGIN CERTIFICATE-----
MIIBGDCBvwIUEpbjsqOqzWi/5KNgn/8Sbnu+03swCgYIKoZIzj0EAwIwDjEMMAoG
A1UEAwwDb2xkMCAXDTI2MTEyMjExMzk1MloYDzIxMjYxMDI5MTEzOTUyWjAOMQww
CgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAS8Uiyul4Q9zsuU
PxeXd6Z9iEiPl4fqOCVOL7tO8jvlWum7/quSrhp00ArJ050isai2VDO+mzwSCRqm
FWxIaZDaMAoGCCqGSM49BAMCA0gAMEUCICFWydjjH9c2rBIK9M4qjICHC0nZ3bPi
S2LgJaC1WrHHAiEA+v5ruldGoUvZu9ki5P4ADtbor3P8N4/LuCumQQBKEj0=
-----END CERTIFICATE-----
",
    "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgv31wM6dAUnBMvbOq
iyE5EO8gdlKsly2B61HZOmFKd92hRANCAAS8Uiyul4Q9zsuUPxeXd6Z9iEiPl4fq
OCVOL7tO8jvlWum7/quSrhp00ArJ050isai2VDO+mzwSCRqmFWxIaZDa
-----END PRIVATE KEY-----
",
);

#[test]
fn a_certificate_that_tls_cannot_use_is_no_other_pair() {
    let copy = Copy::new();
    fs::write(copy.path("pki/gateway.pem"), VERSION_1.0).expect("written");
    fs::write(copy.path("pki/gateway.key"), VERSION_1.1).expect("written");
    let errors = copy.messages(Severity::Uplink);
    assert!(errors.len() == 1 && errors[0].contains("gateway.pem: certificate not usable"), "{errors:?}");
}

#[test]
fn what_is_no_certificate_or_key_is_an_error_and_never_shown() {
    let copy = Copy::new();
    copy.write("pki/ca.pem", "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n");
    copy.write("pki/gateway.pem", "-----BEGIN CERTIFICATE-----\nsecret!\n-----END CERTIFICATE-----\n");
    copy.write("pki/gateway.key", "secret");
    let report = copy.report();
    assert_eq!(report.errors(), 3, "{report}");
    assert!(!report.render(false).contains("secret!") && !report.render(false).contains("c2VjcmV0"));
}

#[test]
fn a_class_that_the_edition_does_not_name_is_taken_and_flagged() {
    let copy = Copy::new();
    copy.change("pump-house.toml", "330502-9505-000007-75", "330502-9599-000007-27");
    copy.change("../templates/water-level-gauge.toml", "property = \"level\"", "property = \"battery_voltage\"");
    copy.change("../templates/water-level-gauge.toml", "unit = \"m\"", "unit = \"V\"");
    copy.change(
        "../templates/water-level-gauge.toml",
        "property = \"temperature\"",
        "property = \"battery_voltage.2\"",
    );
    copy.change("../templates/water-level-gauge.toml", "unit = \"Cel\"", "unit = \"V\"");
    let site = copy.load();
    assert_eq!(site.streams[site.devices[2].groups[0].streams[0].0].domain, "environment");
    assert!(copy.messages(Severity::Warning).iter().any(|warning| warning.starts_with("class 9599 has a minor")));
}

#[test]
fn a_site_file_that_is_not_there_is_said_so() {
    let report = report_of("tests/config/no-such-site.toml");
    assert_eq!(report.problems().len(), 1);
    let shown = report.render(false);
    assert!(shown.contains("no such file") && shown.contains("no-such-site.toml"), "{shown}");
}

#[test]
fn a_file_nested_as_deep_as_it_is_long_is_reported() {
    let copy = Copy::new();
    for (open, close) in [("[", ""), ("x = [", ""), ("a.", "a = 1"), ("x={a=", ""), ("[a.", "]"), ("\"", "")] {
        copy.write("pump-house.toml", &format!("{}{close}\n", open.repeat(100_000)));
        assert!(copy.report().errors() > 0, "{open}");
        let body = open.trim_start_matches("x = ").trim_start_matches("x=");
        copy.write("pump-house.toml", &format!("x = {}\n", body.repeat(100_000)));
        assert!(copy.report().errors() > 0, "{open}");
    }
    copy.write("pump-house.toml", &format!("[{}a]\n", "a.".repeat(100_000)));
    assert!(copy.report().errors() > 0);
}

#[test]
fn a_report_in_colour_has_the_same_words() {
    let report = report_of("tests/config/broken/site.toml");
    let mut plain = String::new();
    let mut escape = false;
    for c in report.render(true).chars() {
        match (escape, c) {
            (false, '\u{1b}') => escape = true,
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, c) => plain.push(c),
        }
    }
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&plain), words(&report.render(false)));
    assert_ne!(report.render(true), report.render(false));
}

/// Changes some bytes of a file: overwrites, removes, repeats.
fn mutate(bytes: &mut Vec<u8>, changes: &[(usize, usize, u8)]) {
    for &(at, kind, byte) in changes {
        if bytes.is_empty() {
            return;
        }
        let at = at % bytes.len();
        match kind {
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, byte),
            3 => bytes.truncate(at),
            _ => {
                let end = (at + usize::from(byte)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

const MUTABLE: &[&str] = &[
    "pump-house.toml",
    "../templates/loop-detector-controller.toml",
    "../templates/ultrasonic-flow-meter.toml",
    "../directory/edition.toml",
    "../directory/divisions.csv",
    "../directory/classes.csv",
    "../directory/properties.csv",
    "pki/gateway.pem",
    "pki/gateway.key",
];

fn any_changes() -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\"'[]{}=.,#\n\r -0x9e".to_vec())];
    prop::collection::vec((any::<usize>(), 0_usize..5, byte), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_file_is_loaded_or_reported_and_never_panics(
        file in prop::sample::select(MUTABLE),
        changes in any_changes(),
    ) {
        let copy = Copy::new();
        let mut bytes = fs::read(copy.path(file)).expect("the file");
        mutate(&mut bytes, &changes);
        fs::write(copy.path(file), bytes).expect("written");
        let (site, report) = config::load_to_run(&copy.site());
        let refused = report.problems().iter().any(|problem| problem.severity == Severity::Error);
        prop_assert_eq!(site.is_none(), refused);
        prop_assert_eq!(report.render(true).is_empty(), report.problems().is_empty());
    }

    #[test]
    fn any_bytes_are_reported_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let copy = Copy::new();
        for file in ["pump-house.toml", "../templates/water-level-gauge.toml", "../directory/properties.csv"] {
            let kept = fs::read(copy.path(file)).expect("the file");
            fs::write(copy.path(file), &bytes).expect("written");
            let report = config::load(&copy.site()).expect_err("a report");
            prop_assert!(!report.render(false).is_empty());
            fs::write(copy.path(file), kept).expect("written");
        }
    }

    #[test]
    fn any_punctuation_is_reported_and_never_panics(text in "[\\[\\]{}=\"'.,#a-c0-9_\\-\n\r \u{e9}\u{4e00}]{0,200}") {
        let copy = Copy::new();
        copy.write("pump-house.toml", &text);
        prop_assert!(!config::load(&copy.site()).expect_err("a report").render(false).is_empty());
    }
}
