//! What the files of a site may say, and what a person is told when they are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use ganglion::config::{self, Report, Severity};
use ganglion::site::{Link, Scale, Site};
use ganglion_protocols::modbus::{UnitId, ValueType, WordOrder};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

const CONFIGS: &str = "../configs";

/// Set to write what the tests compare with anew.
const UPDATE: &str = "UPDATE_EXPECTED";

/// A copy of `configs/` with certificates, to change.
struct Copy {
    folder: TempDir,
}

impl Copy {
    fn new() -> Self {
        let copy = Self { folder: tempfile::tempdir().expect("a folder") };
        copy_folder(Path::new(CONFIGS), copy.folder.path());
        copy.issue("pki/ca.pem", 2120);
        copy.issue("pki/gateway.pem", 2120);
        copy
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("sites").join(file)
    }

    fn site(&self) -> PathBuf {
        self.path("pump-house.toml")
    }

    /// Makes a certificate that ends with the given year, and its key.
    fn issue(&self, file: &str, end: i32) {
        let mut params = CertificateParams::new(vec!["gateway".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(end, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        self.write(file, &certificate.pem());
        self.write(&file.replace(".pem", ".key"), &key.serialize_pem());
        set_mode(&self.path(&file.replace(".pem", ".key")), 0o600);
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn change(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).expect("the file");
        assert!(text.contains(from), "{file} holds no {from:?}");
        self.write(file, &text.replacen(from, to, 1));
    }

    fn load(&self) -> Site {
        config::load(&self.site()).unwrap_or_else(|report| panic!("{report}"))
    }

    fn report(&self) -> Report {
        config::load_to_run(&self.site()).1
    }

    /// Loads and returns the messages of the given severity.
    fn messages(&self, severity: Severity) -> Vec<String> {
        let report = self.report();
        report.problems().iter().filter(|problem| problem.severity == severity).map(|p| p.message.clone()).collect()
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy_folder(&path, &target) } else { fs::copy(&path, target).map(drop).expect("copied") }
    }
}

fn stems(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(Path::new(CONFIGS).join(folder)).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Compares with a file that `UPDATE_EXPECTED=1` writes anew.
fn compare(got: &str, file: &str) {
    if std::env::var_os(UPDATE).is_some() {
        fs::write(file, got).expect("written");
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert!(got == expected, "not as in {file}; {UPDATE}=1 writes it anew, then look at the difference:\n{got}");
}

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
    let sites: String = stems("sites")
        .iter()
        .map(|site| fs::read_to_string(format!("{CONFIGS}/sites/{site}.toml")).expect("the site"))
        .collect();
    for template in stems("templates") {
        assert!(sites.contains(&format!("template = \"{template}\"")), "no example site uses {template}");
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
    assert!(matches!(&site.buses[0].link, Link::Serial(serial) if serial.baud == 9600));
    assert!(matches!(&site.buses[1].link, Link::Tcp { port: 502, .. }));

    let pressure = &site.devices[0];
    assert_eq!((pressure.unit, pressure.requests.len()), (UnitId(3), 1));
    assert_eq!(pressure.points[0].scale, Some(Scale { multiply: 1.0, divide: 1000.0, offset: 0.0 }));
    assert_eq!((pressure.points[0].missing, pressure.points[0].range), (Some(0x8000), Some((-0.1, 10.0))));

    let flow = &site.devices[1];
    assert_eq!((flow.points[0].value_type, flow.points[0].word_order), (ValueType::F32, WordOrder::Cdab));
    let asked: Vec<_> = flow.requests.iter().map(|request| (request.address, request.count)).collect();
    assert_eq!(asked, [(0, 2), (4, 2), (8, 2), (91, 1)]);

    let level = &site.devices[2];
    assert_eq!((level.requests[0].address, level.requests[0].count), (0, 4));
    assert_eq!((level.points[2].request, level.points[2].offset), (0, 3));

    let loops = &site.devices[3];
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
    let device = site.devices.last().expect("the device");
    assert_eq!((device.requests.len(), device.points.len(), device.streams.len()), (8, 1000, 1));
    let last = device.points.last().expect("the last point");
    assert_eq!((last.request, last.offset, last.place), (7, 124, 999));
    assert_eq!(site.streams[device.streams[0].0].properties[999].name, "vehicle_count.1000");
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
    assert_eq!(site.streams[site.devices[2].streams[0].0].domain, "environment");
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
