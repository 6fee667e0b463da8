//! Devices as rows of a CSV table: many like devices without a `[[bus.device]]` for each, and back to a spreadsheet.
//!
//! The first line names the columns: `bus`, and the keys of `[[bus.device]]` but for `alarms`, which no cell can hold. A column whose name begins with `#` is a
//! person's own business. An empty cell is a key that is not there; a row of empty cells is none.

use std::collections::BTreeMap;
use std::path::Path;

use super::csv_table::{self, Row};
use super::files;
use super::keys::{Item, Key, Need, Table};
use super::report::{At, Findings, Place, nearest};
use super::site_keys::DEVICE;
use super::values;

/// The column that says which bus a device is on.
const BUS: &str = "bus";

/// Returns the keys of a device that a cell can hold.
fn keys() -> impl Iterator<Item = &'static Key> {
    DEVICE.keys.iter().filter(|key| key.kind.fits_a_cell())
}

/// Reads the table that the site file names at `at`: the name of its bus, and the keys, of each device in it.
/// `None` when it is no table of devices, which is then reported.
pub(super) fn read(findings: &mut Findings, path: &Path, at: Place, site: &Table) -> Option<Vec<(String, Table)>> {
    let (source, text) = files::read(findings, path, at)?;
    let (columns, names) = columns(findings, source, &text)?;
    let buses: Vec<_> = site.tables("bus").filter_map(|bus| bus.text("name")).map(|name| name.value).collect();
    let (before, mut devices) = (findings.errors(), Vec::new());
    for row in csv_table::read(findings, source, &text, &names) {
        if (0..names.len()).all(|column| row.field(column).is_empty()) {
            continue;
        }
        let bus = row.field(0);
        if !buses.contains(&bus) {
            let place = row.place(findings, 0);
            let help = match nearest(bus, buses.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("its buses are {}", values::listed(buses.iter().copied())),
            };
            findings.error(place, format!("the site file has no bus {bus:?}")).help(help);
        }
        devices.push((bus.to_owned(), device(findings, &row, &columns)));
    }
    (findings.errors() == before || !devices.is_empty()).then_some(devices)
}

/// Finds out which key each column holds; the names begin with that of the bus.
fn columns(findings: &mut Findings, source: usize, text: &str) -> Option<(Vec<&'static Key>, Vec<&'static str>)> {
    let header = csv_table::header(findings, source, text)?;
    let before = findings.errors();
    if header.len() == 1 && header.iter().any(|(name, _)| name.contains([';', '\t'])) {
        findings
            .error(header.first()?.1, "the columns of the table are not parted by commas")
            .help("save it as \"CSV UTF-8 (comma delimited)\"");
        return None;
    }
    let known = || keys().map(|key| key.name).chain([BUS]);
    let mut seen: Vec<&str> = Vec::new();
    for (name, place) in &header {
        if name.starts_with('#') || name.is_empty() {
            continue;
        }
        if seen.contains(&name.as_str()) {
            findings.error(*place, format!("the column `{name}` is there twice"));
        } else if !known().any(|key| key == name) {
            let help = match nearest(name, known()) {
                Some(near) => format!("did you mean `{near}`? A column of your own begins with `#`"),
                None => format!(
                    "its columns are {}; a column of your own begins with `#`",
                    values::listed([BUS].into_iter().chain(keys().map(|key| key.name)))
                ),
            };
            findings.error(*place, format!("a device has no key `{name}`")).help(help);
        }
        seen.push(name);
    }
    let wanted = |key: &&Key| matches!(key.need, Need::Required) || seen.contains(&key.name);
    let columns: Vec<&'static Key> = keys().filter(wanted).collect();
    let names = [BUS].into_iter().chain(columns.iter().map(|key| key.name)).collect();
    (findings.errors() == before).then_some((columns, names))
}

fn device(findings: &mut Findings, row: &Row, columns: &[&'static Key]) -> Table {
    let mut items = BTreeMap::new();
    let mut wrong = Vec::new();
    for (column, &key) in (1..).zip(columns) {
        let cell = row.field(column);
        let place = row.place(findings, column);
        if cell.is_empty() {
            if matches!(key.need, Need::Required) {
                let message = format!("the row needs `{}`", key.name);
                findings.error(row.whole(findings), message).help(format!("`{}`: {}", key.name, key.doc));
                wrong.push(key.name);
            }
            continue;
        }
        match values::cell(findings, key, &key.kind, cell, place) {
            Some(value) => {
                items.insert(key.name, At { value, place });
            }
            None => wrong.push(key.name),
        }
    }
    Table::from_cells(&DEVICE, row.whole(findings), items, wrong)
}

/// Writes the devices of a checked site file as such a table: those of one bus, or all.
///
/// # Errors
/// The CSV writer's, of which none is foreseen: it writes to memory.
pub(super) fn write(devices: &[(String, &Table)]) -> Result<String, csv::Error> {
    let used = |key: &&Key| {
        matches!(key.need, Need::Required) || devices.iter().any(|(_, device)| device.get(key.name).is_some())
    };
    let columns: Vec<_> = keys().filter(used).collect();
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record([BUS].into_iter().chain(columns.iter().map(|key| key.name)))?;
    for (bus, device) in devices {
        let cells = columns.iter().map(|key| device.get(key.name).map_or_else(String::new, |at| shown(&at.value)));
        out.write_record([bus.clone()].into_iter().chain(cells))?;
    }
    let bytes = out.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a value as a cell.
fn shown(item: &Item) -> String {
    match item {
        Item::Text(text) | Item::Decimal(text) => text.clone(),
        Item::Resource(cri) => cri.to_string(),
        Item::Integer(number) => number.to_string(),
        Item::Boolean(flag) => flag.to_string(),
        Item::List(items) => items.iter().map(|at| shown(&at.value)).collect::<Vec<_>>().join(";"),
        Item::Map(entries) => {
            let entries = entries.iter().filter_map(|(name, at)| Some((&name.value, shown(&at.as_ref()?.value))));
            entries.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(";")
        }
        // A device has no table within it.
        Item::Table(_) => String::new(),
    }
}
