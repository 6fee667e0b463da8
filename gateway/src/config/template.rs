//! Device templates: where a kind of device keeps which values.
//!
//! A template knows nothing of identifiers. It names properties and, when a device serves several resources, gives those
//! resources names that the site file ties to identifiers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ganglion_drivers::plan::{PlanError, ReadRequest};
use ganglion_protocols::modbus::{ValueType, WordOrder};

use super::build::millis;
use super::files;
use super::keys::{self, Table};
use super::number;
use super::point::{TemplatePoint, address, modbus_table, point, repeat, value_type, word_order};
use super::report::{Findings, Place, nearest};
use super::template_keys::TEMPLATE_FILE;
use crate::site::DeviceLimits;

/// Most points of one template, channels counted one by one.
const MAX_POINTS: usize = 65_536;

/// A device template whose own checks have passed.
#[derive(Debug)]
pub(super) struct Template {
    /// Its points, each channel on its own.
    pub(super) points: Vec<TemplatePoint>,
    /// What one request may be.
    pub(super) limits: Arc<DeviceLimits>,
    /// Silence it needs between requests.
    pub(super) request_gap: Duration,
    /// How it is recognised.
    pub(super) identity: Option<TemplateIdentity>,
}

/// A register that tells devices apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct TemplateIdentity {
    pub(super) want: ReadRequest,
    pub(super) value_type: ValueType,
    pub(super) word_order: WordOrder,
    /// The bits it must hold, unless each device says its own.
    pub(super) equals: Option<u64>,
}

impl Template {
    /// Reads `<name>.toml`, named at `at`; whatever is wrong with it is reported.
    pub(super) fn read(findings: &mut Findings, folder: &Path, name: &str, at: Place) -> Option<Self> {
        let errors = findings.errors();
        if name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            findings
                .error(at, format!("{name:?} cannot be the name of a template"))
                .help("a file name without `.toml`");
            return None;
        }
        let path = folder.join(format!("{name}.toml"));
        let Some((source, text)) = files::read(findings, &path, at) else {
            let known = files::names(folder, "toml");
            if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
                findings.last().help(format!("did you mean `{near}`?"));
            }
            return None;
        };
        let file = keys::check(findings, source, &text, &TEMPLATE_FILE);
        let template = Self::build(findings, &file, name)?;
        (findings.errors() == errors).then_some(template)
    }

    fn build(findings: &mut Findings, file: &Table, name: &str) -> Option<Self> {
        let head = file.table("template")?;
        if let Some(own) = head.text("name").filter(|own| own.value != name) {
            findings
                .error(own.place, format!("the template calls itself {:?} and its file {name:?}", own.value))
                .help("a template has the name of its file, so that nobody copies one and forgets to rename it");
        }
        let notation = head.text("address_notation").map_or("from-0", |notation| notation.value);
        let limits = DeviceLimits {
            max_registers: head.number("max_registers").unwrap_or(1),
            max_bits: head.number("max_bits").unwrap_or(1),
            bridge: head.number("bridge").unwrap_or(0),
            forbidden: head.tables("forbidden").flat_map(|range| forbidden(findings, range, notation)).collect(),
        };
        let word_order = head.text("word_order").and_then(|order| word_order(order.value)).unwrap_or_default();
        let identity =
            head.table("identity").and_then(|table| identity(findings, table, notation, word_order, &limits));
        let mut template = Self {
            points: Vec::new(),
            limits: Arc::new(limits),
            request_gap: millis(head, "request_gap_ms").unwrap_or_default(),
            identity,
        };
        for table in file.tables("point") {
            let Some(first) = point(findings, table, notation, word_order) else { continue };
            let points = repeat(findings, table, first);
            if template.points.len() + points.len() > MAX_POINTS {
                findings.error(table.place, format!("more than {MAX_POINTS} points"));
                return None;
            }
            template.check_reads(findings, table, &points);
            template.points.extend(points);
        }
        template.check_names(findings);
        template.check_resources(findings, file);
        template.check_overlap(findings);
        Some(template)
    }

    /// Returns the names it gives to resources, each once.
    pub(super) fn resources(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.points.iter().filter_map(|point| point.resource.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn check_reads(&self, findings: &mut Findings, table: &Table, points: &[TemplatePoint]) {
        let limits = self.limits.as_limits();
        let refused = points.iter().find_map(|point| {
            let apart = point.terms.iter().filter(|term| term.apart).map(|term| term.own);
            let error = apart.chain([point.own, point.want()]).find_map(|read| limits.allow(read).err())?;
            Some((point, error))
        });
        let Some((point, error)) = refused else { return };
        let together = point.terms.iter().any(|term| !term.apart) && limits.allow(point.own).is_ok();
        let help = match error {
            _ if together => "one request must hold the value and the registers it is made of; see `apart`",
            PlanError::TooLong { .. } => "one request must hold a whole value; see `max_registers`",
            PlanError::Forbidden { .. } => "see `forbidden` in [template]",
            PlanError::PastEnd { .. } | PlanError::Empty { .. } => "a table has the addresses 0 to 65535 on the wire",
        };
        findings.error(table.place_of("address"), format!("`{}` cannot be read: {error}", point.name())).help(help);
    }

    /// Refuses names of resources that a device table could not list.
    fn check_resources(&self, findings: &mut Findings, file: &Table) {
        for name in file.tables("point").filter_map(|point| point.text("resource")) {
            if name.value.contains([';', '=']) || name.value.trim() != name.value {
                findings
                    .error(name.place, format!("a resource cannot be called {:?}", name.value))
                    .help("`;`, `=` and blanks around a name part the names in a device table");
            }
        }
    }

    /// Refuses a property that a resource would have twice.
    fn check_names(&self, findings: &mut Findings) {
        let mut seen = BTreeMap::new();
        let mut reported = Vec::new();
        for point in &self.points {
            let first = *seen.entry((point.resource.as_deref(), point.name())).or_insert(point.place);
            if first != point.place && !reported.contains(&point.place) {
                reported.push(point.place);
                let message = format!("`{}` has two sources in this template", point.name());
                findings.error(point.place, message).other(first, "the first is here").help(
                    "one property of one resource has one source; give each a channel such as `.2`, or a resource",
                );
            }
        }
    }

    /// Refuses registers that two points share, unless both are bit fields or one says that it is meant.
    fn check_overlap(&self, findings: &mut Findings) {
        let mut points: Vec<_> = self.points.iter().collect();
        points.sort_by_key(|point| (point.own, point.place));
        let mut open: Vec<&TemplatePoint> = Vec::new();
        let mut reported = Vec::new();
        for point in points {
            open.retain(|before| before.own.overlaps(point.own));
            let other =
                open.iter().find(|before| !(point.shares() && before.shares() || point.overlap || before.overlap));
            if let Some(other) = other
                && !reported.contains(&(other.place, point.place))
            {
                reported.push((other.place, point.place));
                let (low, high) = (other.place.min(point.place), other.place.max(point.place));
                let message = format!("`{}` and `{}` share address {}", other.name(), point.name(), point.own.address);
                findings
                    .error(high, message)
                    .other(low, "this point reads it too")
                    .help("correct the address or the type, or say `overlap = true` if it is meant");
            }
            open.push(point);
        }
    }
}

/// Takes a range as two: all but its last item, and its last item, since a count cannot say 65536.
fn forbidden(findings: &mut Findings, range: &Table, notation: &str) -> Vec<ReadRequest> {
    let Some(table) = range.text("table").and_then(|word| modbus_table(word.value)) else { return Vec::new() };
    let from = address(findings, range, "from", notation, table);
    let to = address(findings, range, "to", notation, table);
    let (Some(from), Some(to)) = (from, to) else { return Vec::new() };
    let Some(count) = to.checked_sub(from) else {
        findings.error(range.place_of("from"), "the range ends before it starts");
        return Vec::new();
    };
    vec![ReadRequest { table, address: from, count }, ReadRequest { table, address: to, count: 1 }]
}

fn identity(
    findings: &mut Findings,
    table: &Table,
    notation: &str,
    order: WordOrder,
    limits: &DeviceLimits,
) -> Option<TemplateIdentity> {
    let modbus = table.text("table").and_then(|word| modbus_table(word.value))?;
    if modbus.is_bits() {
        findings.error(table.place_of("table"), "one coil or discrete input tells no devices apart").help(
            "name a register: a model number, a serial number, a setting without which the values mean something else",
        );
        return None;
    }
    let value_type = value_type(findings, (table, "[template.identity]"), modbus);
    let address = address(findings, table, "address", notation, modbus);
    let value_type = value_type?;
    let want = ReadRequest { table: modbus, address: address?, count: value_type.registers() };
    if let Err(error) = limits.as_limits().allow(want) {
        findings.error(table.place_of("address"), format!("the identity cannot be read: {error}"));
        return None;
    }
    let equals = table.decimal("equals").map(|at| number::marker(at.value, value_type).map_err(|why| (at.place, why)));
    let equals = equals.transpose().map_err(|(place, why)| findings.error(place, why)).ok()?;
    let word_order = table.text("word_order").and_then(|order| word_order(order.value)).unwrap_or(order);
    Some(TemplateIdentity { want, value_type, word_order, equals })
}
