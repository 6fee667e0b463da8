//! Devices in a table: in, out, through a spreadsheet, and wrong.

use std::fs;
use std::path::Path;
use std::process::Command;

use ganglion::config::{self, Severity};
use ganglion_protocols::{Class, Cri, Division, Serial};
use proptest::prelude::*;

use super::copy::{Copy, compare};

const SITE: &str = "market-hall.toml";
const TABLE: &str = "market-hall-devices.csv";

const MUTABLE: &[&str] = &[
    SITE,
    TABLE,
    "../templates/electricity-meter.toml",
    "../templates/pressure-transmitter-decimals.toml",
    "../templates/ultrasonic-flow-meter-tuf2000.toml",
];

fn text(copy: &Copy, file: &str) -> String {
    fs::read_to_string(copy.path(file)).expect("the file")
}

fn export(copy: &Copy, file: &str, bus: Option<&str>) -> String {
    config::devices_csv(&copy.path(file), bus).unwrap_or_else(|report| panic!("{report}"))
}

/// Takes the tables of devices out of a site file and names a table of devices instead.
fn without_devices(site: &str) -> String {
    let mut out = "devices_csv = \"all.csv\"\n".to_owned();
    let mut device = false;
    for line in site.lines().filter(|line| !line.starts_with("devices_csv")) {
        device =
            line.starts_with("[[bus.device") || line.starts_with("[bus.device") || device && !line.starts_with('[');
        if !device {
            out.push_str(&format!("{line}\n"));
        }
    }
    out
}

#[test]
fn a_device_with_alarms_of_its_own_is_not_exported_without_them() {
    let copy = Copy::new();
    let report = config::devices_csv(&copy.site(), None).expect_err("a report");
    let problems: Vec<_> = report.problems().iter().filter(|problem| problem.severity == Severity::Error).collect();
    assert_eq!(problems.len(), 1, "{report}");
    assert_eq!(problems[0].message, "a table of devices cannot say `alarms`");
    config::devices_csv(&copy.site(), Some("crossing")).expect("a table of the other bus");
}

#[test]
fn what_is_exported_takes_the_place_of_the_devices_it_was_made_from() {
    for site in ["pump-house.toml", SITE] {
        let copy = Copy::new();
        if site == "pump-house.toml" {
            copy.without_alarms();
        }
        let before = config::load(&copy.path(site)).expect("the site");
        let table = export(&copy, site, None);
        copy.write("all.csv", &table);
        copy.write(site, &without_devices(&text(&copy, site)));
        let after = config::load(&copy.path(site)).unwrap_or_else(|report| panic!("{report}"));
        assert!(before == after, "{site} is another site when its devices come from\n{table}");
        assert_eq!(export(&copy, site, None), table);
    }
}

#[test]
fn the_devices_of_one_bus_are_exported_as_they_stand_in_the_table() {
    let copy = Copy::new();
    let table = text(&copy, TABLE);
    let stalls: Vec<_> = table.lines().filter(|line| line.starts_with("bus,") || line.starts_with("stalls,")).collect();
    assert_eq!(export(&copy, SITE, Some("stalls")).lines().collect::<Vec<_>>(), stalls);
    let report = config::devices_csv(&copy.path(SITE), Some("stall")).expect_err("a report");
    assert!(report.render(false).contains("no bus is called \"stall\""), "{report}");
}

#[test]
fn quirks_of_a_device_are_cells_like_any_other_key() {
    let copy = Copy::new();
    let table = "bus,name,unit,template,resource,poll_interval_ms,request_gap_ms,identity_equals\n\
                 stalls,meter-1,1,electricity-meter,330502-9304-000101-69,5000,0,0x2A\n\
                 cellar,inlet,1,pressure-transmitter-decimals,330502-9601-000131-75,1000,,\n";
    copy.write(TABLE, table);
    let site = config::load(&copy.path(SITE)).unwrap_or_else(|report| panic!("{report}"));
    let quirks = site.devices.iter().map(|device| {
        let equals = device.identity.map(|identity| identity.equals);
        (device.name.as_str(), device.request_gap.as_millis(), equals)
    });
    let expected = [("meter-1", 0, Some(42)), ("street-flow", 50, Some(0)), ("inlet", 50, Some(0))];
    assert_eq!(quirks.collect::<Vec<_>>(), expected);
    let copied = export(&copy, SITE, Some("stalls"));
    assert_eq!(copied.lines().nth(1), table.lines().nth(1));
}

#[test]
fn a_spreadsheet_adds_a_mark_line_ends_quotes_empty_rows_and_columns_of_its_own() {
    let copy = Copy::new();
    let before = config::load(&copy.path(SITE)).expect("the site");
    let mut changed = "\u{feff}".to_owned();
    for (number, line) in text(&copy, TABLE).lines().enumerate() {
        let (name, rest) = line.split_once(',').expect("columns");
        let note = if number == 0 { "# note" } else { "\"stall 3, behind the fish\"" };
        changed.push_str(&format!("\"{name}\", {rest} ,{note},\r\n"));
    }
    changed.push_str(&format!("{}\r\n", ",".repeat(9)));
    copy.write(TABLE, &changed);
    let after = config::load(&copy.path(SITE)).unwrap_or_else(|report| panic!("{report}"));
    assert!(before == after, "another site");
}

#[test]
fn a_table_that_is_wrong_is_reported_by_file_line_and_column() {
    let report = config::load_to_run(Path::new("tests/config/devices/site.toml")).1;
    compare(&report.render(false), "tests/config/devices/site.expected");
    let rounded = report.problems().iter().find(|problem| problem.message.contains("rounded")).expect("reported");
    let mark = rounded.mark.as_ref().expect("a place");
    assert_eq!((mark.line, mark.column), (2, 36));
    assert!(mark.file.ends_with("devices.csv"));
}

#[test]
fn a_table_that_is_no_table_of_devices_is_said_so() {
    let errors = |table: &str| {
        let copy = Copy::new();
        copy.write(TABLE, table);
        let report = config::load_to_run(&copy.path(SITE)).1;
        let errors = report.problems().iter().filter(|problem| problem.severity == Severity::Error);
        errors.map(|problem| problem.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(errors(""), ["the table is empty: its first line names its columns"]);
    assert_eq!(errors("bus;name;unit\nstalls;a;1\n"), ["the columns of the table are not parted by commas"]);
    assert_eq!(errors("bus,name,unit,template,poll_interval\n"), ["a device has no key `poll_interval`"]);
    assert_eq!(errors("bus,name,name,unit,template,poll_interval_ms\n"), ["the column `name` is there twice"]);
    assert_eq!(errors("name,unit,template,poll_interval_ms\n"), ["the table has no column `bus`"]);
}

#[test]
fn three_hundred_meters_are_three_hundred_rows() {
    let copy = Copy::new();
    let mut table = "bus,name,unit,template,resource,poll_interval_ms\n".to_owned();
    let mut buses = String::new();
    for bus in 0..10 {
        buses.push_str(&format!(
            "[[bus]]\nname = \"riser-{bus}\"\nkind = \"rtu-over-tcp\"\nhost = \"192.168.10.{bus}\"\nport = 4196\n"
        ));
        for unit in 1..=30 {
            let serial = Serial::new(bus * 100 + unit).expect("a serial");
            let cri = Cri::new(Division::new(330_502).expect("a division"), Class::new(9304).expect("a class"), serial);
            table.push_str(&format!("riser-{bus},meter-{bus}-{unit},{unit},electricity-meter,{cri},5000\n"));
        }
    }
    let site = text(&copy, SITE);
    copy.write(SITE, &format!("{}{buses}", site.split("# The gateway calls").next().expect("the head")));
    copy.write(TABLE, &table);
    let verb = |verb: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_ganglion")).args(verb).arg("--config").arg(copy.path(SITE)).output();
        let output = run.expect("the gateway runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let summary = verb(&["check"]);
    for line in ["buses      10", "devices    300", "points     4200", "resources  300"] {
        assert!(summary.contains(line), "{summary}");
    }
    assert_eq!(verb(&["devices", "export"]), table);
    assert_eq!(verb(&["devices", "export", "--excel"]), format!("\u{feff}{table}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_table_or_template_is_loaded_or_reported_and_never_panics(
        file in prop::sample::select(MUTABLE),
        changes in prop::collection::vec((any::<usize>(), "[;=,\"\r\n\u{feff}#0-9a-z.+é-]{0,4}"), 1..8),
    ) {
        let copy = Copy::new();
        let mut table = text(&copy, file);
        for (at, piece) in changes {
            let at = table.floor_char_boundary(at % (table.len() + 1));
            let end = table.floor_char_boundary(at + piece.len() % 3);
            table.replace_range(at..end.max(at), &piece);
        }
        copy.write(file, &table);
        let (site, report) = config::load_to_run(&copy.path(SITE));
        let refused = report.problems().iter().any(|problem| problem.severity == Severity::Error);
        prop_assert_eq!(site.is_none(), refused);
        prop_assert_eq!(report.render(true).is_empty(), report.problems().is_empty());
        prop_assert_eq!(config::devices_csv(&copy.path(SITE), None).is_err(), refused);
    }
}
