//! `ganglion plan`.

use super::site::{SiteFile, within};
use super::units::{Line, Unit};

fn devices(interval_ms: u32) -> String {
    format!(
        r#"
[[bus.device]]
name = "pressure-1"
unit = 3
template = "pressure-transmitter"
resource = "330502-9601-000123-02"
poll_interval_ms = {interval_ms}

[[bus.device]]
name = "flow-1"
unit = 4
template = "ultrasonic-flow-meter"
resource = "330502-9305-000045-59"
poll_interval_ms = {interval_ms}
"#
    )
}

#[test]
fn a_bus_is_planned_without_a_wire_and_it_says_that_nothing_is_measured() {
    let site = SiteFile::new("/dev/null/none".as_ref(), &devices(1000));
    let told = site.run("plan", &[]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.starts_with("no daemon runs: what follows is planned"), "{}", told.out);
    for expected in
        ["holding 0-2 (3)  pressure, temperature", "holding 0-9 (10)  flow, velocity", "holding 91  signal_quality"]
    {
        assert!(told.out.contains(expected), "{expected}: {}", told.out);
    }
    assert!(!told.out.contains("late"), "{}", told.out);
    assert!(told.out.lines().all(|line| line.chars().count() <= 100), "{}", told.out);
}

#[test]
fn an_overloaded_bus_says_who_is_late_and_why() {
    let site = SiteFile::new("/dev/null/none".as_ref(), &devices(60));
    let told = site.run("plan", &[]);
    let late = told.out.lines().find(|line| line.starts_with("    pressure-1 every 60 ms: gets ")).unwrap();
    assert!(late.contains(": the bus is asked for ") && late.ends_with(" % of its time"), "{late}");
    let document: serde_json::Value = serde_json::from_str(&site.run("plan", &["--json"]).out).unwrap();
    let bus = &document["buses"]["line"];
    assert_eq!(document["daemon"], false);
    assert!(bus["load_percent"].as_f64().unwrap() > 100.0, "{bus}");
    assert!(bus["tasks"][0]["planned_ms"].as_f64().unwrap() > 60.0, "{bus}");
    assert_eq!(bus["late"].as_array().unwrap().len(), 2);
    assert_eq!(site.run("plan", &["--bus", "lime"]).err, "no bus is called \"lime\"; there are: line\n");
}

#[test]
fn what_a_daemon_measures_and_has_learnt_stands_beside_the_plan() {
    // The flow meter refuses more than six registers at once; nobody answers for unit 3.
    let mut meter = Unit::holding(0, &[7; 92]);
    meter.longest = 6;
    let line = Line::new([(4, meter)], None);
    let site = SiteFile::new(&line.path, &devices(300));
    let daemon = site.daemon(&[]);
    within("a learnt limit and a silent device", || {
        let out = site.run("plan", &[]).out;
        out.contains("pressure-1: silent") && out.contains("learnt:") && out.contains("flow-1: ")
    });
    let told = site.run("plan", &[]);
    assert!(told.out.starts_with("the daemon runs"), "{}", told.out);
    assert!(told.out.contains("  measured:\n"), "{}", told.out);
    drop(daemon);
    // What was learnt counts without the daemon too.
    let told = site.run("plan", &[]);
    assert!(told.out.contains("no daemon runs") && told.out.contains("learnt:"), "{}", told.out);
    assert!(!told.out.contains("holding 0-9 (10)"), "{}", told.out);
}
