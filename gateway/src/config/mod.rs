//! Files to a validated [`Site`], or a report of everything that is wrong with them.
//!
//! A site is a site file, the templates it names and a code directory, all data. [`load`] reads them and nothing else: it
//! opens no port and touches no wire. It does not stop at the first error, and what it accepts needs no further check.
//!
//! | file here | what it owns |
//! |---|---|
//! | `site_keys.rs`, `template_keys.rs` | **the keys**: a new key is a row there, and its meaning in `build.rs` or `template.rs` |
//! | `keys.rs`, `values.rs` | the walk that checks a file against its keys |
//! | `schema.rs` | the same keys as JSON Schema, for editors |
//! | `directory.rs`, `csv_table.rs` | the code directory |
//! | `template.rs`, `point.rs`, `number.rs` | device templates |
//! | `device_table.rs` | devices as rows of a CSV table, in and out |
//! | `device.rs`, `link.rs`, `broker.rs`, `build.rs` | what lies between the keys: wires, units, brokers, identifiers, sources |
//! | `signature.rs` | what a device of each template must look like |
//! | `files.rs` | reading files and certificates |
//! | `report.rs` | problems and how they are shown |

use std::path::Path;

use ganglion_protocols::Cri;
use serde_json::Value;

use crate::site::{BrokerSettings, Site};

mod alarm;
mod broker;
mod build;
mod csv_table;
mod device;
mod device_table;
mod directory;
mod files;
mod keys;
mod link;
mod nodes;
mod number;
mod point;
mod report;
mod schema;
mod signature;
mod site_keys;
mod template;
mod template_keys;
mod values;

pub(crate) use report::nearest;
pub use report::{Mark, Problem, Report, Severity};
pub use signature::{Signature, signatures, signatures_of_site};

/// Reads a site file with its templates and its code directory; a relative path in it starts at its own folder.
///
/// # Errors
/// Every problem found, when at least one of them is more than a warning.
pub fn load(path: &Path) -> Result<Site, Report> {
    let (site, report) = load_to_run(path);
    site.filter(|_| report.errors() == 0).ok_or(report)
}

/// Does the same for a daemon that shall run if it can: there is a site even when a certificate or key cannot be used, for
/// acquisition and buffer go on without the uplink, which reads those files anew at each attempt. There is none exactly
/// when the report has a [`Severity::Error`].
#[must_use]
pub fn load_to_run(path: &Path) -> (Option<Site>, Report) {
    let mut findings = report::Findings::default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let site = files::read_first(&mut findings, path).and_then(|(source, text)| {
        let file = keys::check(&mut findings, source, &text, &site_keys::SITE);
        build::site(&mut findings, &file, folder)
    });
    if site.is_none() && findings.errors() == 0 {
        findings.unusable(0, "not usable, and no check says why: this is a fault of the gateway, please report it");
    }
    let usable = findings.errors() == 0;
    (site.filter(|_| usable), findings.into_report())
}

/// Reads `[broker]` of a site file anew, for the gateway that runs; the buses and devices are not looked at.
///
/// # Errors
/// Every problem found, when the file cannot be read with its keys, or the section cannot be used with its certificates.
pub fn load_broker(path: &Path, gateway: Cri) -> Result<BrokerSettings, Report> {
    let mut findings = report::Findings::default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let broker = files::read_first(&mut findings, path).and_then(|(source, text)| {
        let file = keys::check(&mut findings, source, &text, &site_keys::SITE);
        broker::broker(&mut findings, file.table("broker")?, folder, Some(gateway))
    });
    let report = findings.into_report();
    broker.filter(|_| report.errors() == 0).ok_or(report)
}

/// Returns the devices of a site file as a table for `devices_csv`: those of the bus with the given name, or all. What it
/// holds is what [`load`] has checked, so the table says the same.
///
/// # Errors
/// Every problem of the site's files, and a bus that they do not name.
pub fn devices_csv(path: &Path, bus: Option<&str>) -> Result<String, Report> {
    let (site, report) = load_to_run(path);
    if site.is_none() {
        return Err(report);
    }
    let mut findings = report::Findings::default();
    let table = files::read_first(&mut findings, path).and_then(|(source, text)| {
        let file = keys::check(&mut findings, source, &text, &site_keys::SITE);
        let listed = file.text("devices_csv").map(|at| {
            let path = path.parent().unwrap_or(Path::new("")).join(at.value);
            device_table::read(&mut findings, &path, at.place, &file)
        });
        let listed = listed.flatten().unwrap_or_default();
        let mut devices = Vec::new();
        let mut buses = Vec::new();
        for table in file.tables("bus") {
            let name = table.text("name")?.value;
            buses.push(name);
            if bus.is_none_or(|bus| bus == name) {
                devices.extend(table.tables("device").map(|device| (name.to_owned(), device)));
                let rows = listed.iter().filter(|(bus, _)| bus == name);
                devices.extend(rows.map(|(_, device)| (name.to_owned(), device)));
            }
        }
        if let Some(bus) = bus.filter(|bus| !buses.contains(bus)) {
            let buses = values::listed(buses.iter().copied());
            findings.unusable(source, format!("no bus is called {bus:?}")).help(format!("its buses are {buses}"));
            return None;
        }
        for (_, device) in &devices {
            if device.get("alarms").is_some() {
                findings
                    .error(device.place_of("alarms"), "a table of devices cannot say `alarms`")
                    .help("say them in a template of its own, or leave this device and its bus out of the table");
            }
        }
        device_table::write(&devices)
            .map_err(|error| findings.unusable(source, format!("the table cannot be written: {error}")))
            .ok()
    });
    table.filter(|_| findings.errors() == 0).ok_or_else(|| findings.into_report())
}

/// Returns the JSON Schema (2020-12) of a site file.
#[must_use]
pub fn json_schema() -> Value {
    schema::of(&site_keys::SITE)
}

/// Returns the JSON Schema (2020-12) of a device template.
#[must_use]
pub fn template_json_schema() -> Value {
    schema::of(&template_keys::TEMPLATE_FILE)
}
