//! Device templates: where a kind of device keeps which values.
//!
//! A template knows nothing of identifiers. It names properties and, when a device serves several resources, gives those
//! resources names that the site file ties to identifiers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ganglion_drivers::plan::{PlanError, ReadRequest};
use ganglion_drivers::report::Deadband;
use ganglion_protocols::modbus::{BitField, Table as ModbusTable, ValueType, WordOrder};

use super::directory::is_property_name;
use super::files;
use super::keys::{self, Table};
use super::number;
use super::report::{At, Findings, Place, nearest};
use super::template_keys::TEMPLATE_FILE;
use crate::site::{DeviceLimits, Role, Scale};

/// Most points of one template, channels counted one by one.
const MAX_POINTS: usize = 65_536;

/// A device template whose own checks have passed.
#[derive(Debug)]
pub(super) struct Template {
    /// Its points, each channel on its own.
    pub(super) points: Vec<TemplatePoint>,
    /// What one request may be.
    pub(super) limits: Arc<DeviceLimits>,
}

/// One value of the device.
#[derive(Clone, Debug)]
pub(super) struct TemplatePoint {
    /// The `property` key that made it; its channels share it.
    pub(super) place: Place,
    /// The property without channel.
    pub(super) property: String,
    /// Its channel, unless the resource has one value of the property only.
    pub(super) channel: Option<u32>,
    /// Name of its resource; `None` for the device's one resource.
    pub(super) resource: Option<String>,
    /// What has to be read.
    pub(super) want: ReadRequest,
    /// Its first item in that.
    pub(super) first: usize,
    pub(super) value_type: ValueType,
    pub(super) word_order: WordOrder,
    /// Other registers that its value is made of.
    pub(super) terms: Vec<TemplateTerm>,
    pub(super) scale: Option<Scale>,
    pub(super) missing: Option<u64>,
    /// Unit after the scale.
    pub(super) unit: At<String>,
    /// Time from one poll to the next, if the device's does not suit it.
    pub(super) interval: Option<Duration>,
    pub(super) deadband: Option<Deadband>,
    overlap: bool,
}

/// A register that another value depends on.
#[derive(Clone, Debug)]
pub(super) struct TemplateTerm {
    pub(super) role: Role,
    /// What has to be read.
    pub(super) want: ReadRequest,
    /// Its first item in that.
    pub(super) first: usize,
    pub(super) value_type: ValueType,
    pub(super) word_order: WordOrder,
}

impl TemplatePoint {
    /// Returns the property's name as in observations: `pressure`, `vehicle_count.3`.
    pub(super) fn name(&self) -> String {
        match self.channel {
            Some(channel) => format!("{}.{channel}", self.property),
            None => self.property.clone(),
        }
    }
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
        let mut template = Self { points: Vec::new(), limits: Arc::new(limits) };
        let word_order = head.text("word_order").and_then(|order| word_order(order.value)).unwrap_or_default();
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
        let refused =
            points.iter().find_map(|point| self.limits.as_limits().allow(point.want).err().map(|error| (point, error)));
        let Some((point, error)) = refused else { return };
        let help = match error {
            PlanError::TooLong { .. } => "one request must hold a whole value; see `max_registers`",
            PlanError::Forbidden { .. } => "see `forbidden` in [template]",
            PlanError::PastEnd { .. } | PlanError::Empty { .. } => "a table has the addresses 0 to 65535 on the wire",
        };
        findings.error(table.place_of("address"), format!("`{}` cannot be read: {error}", point.name())).help(help);
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
        points.sort_by_key(|point| (point.want, point.place));
        let mut open: Vec<&TemplatePoint> = Vec::new();
        let mut reported = Vec::new();
        for point in points {
            open.retain(|before| before.want.overlaps(point.want));
            let other =
                open.iter().find(|before| !(point.shares() && before.shares() || point.overlap || before.overlap));
            if let Some(other) = other
                && !reported.contains(&(other.place, point.place))
            {
                reported.push((other.place, point.place));
                let (low, high) = (other.place.min(point.place), other.place.max(point.place));
                let message = format!("`{}` and `{}` share address {}", other.name(), point.name(), point.want.address);
                findings
                    .error(high, message)
                    .other(low, "this point reads it too")
                    .help("correct the address or the type, or say `overlap = true` if it is meant");
            }
            open.push(point);
        }
    }
}

impl TemplatePoint {
    const fn shares(&self) -> bool {
        matches!(self.value_type, ValueType::Bits(_))
    }
}

fn modbus_table(word: &str) -> Option<ModbusTable> {
    match word {
        "holding" => Some(ModbusTable::HoldingRegister),
        "input" => Some(ModbusTable::InputRegister),
        "coil" => Some(ModbusTable::Coil),
        "discrete" => Some(ModbusTable::DiscreteInput),
        _ => None,
    }
}

fn word_order(word: &str) -> Option<WordOrder> {
    match word {
        "ABCD" => Some(WordOrder::Abcd),
        "CDAB" => Some(WordOrder::Cdab),
        "BADC" => Some(WordOrder::Badc),
        "DCBA" => Some(WordOrder::Dcba),
        _ => None,
    }
}

/// Turns an address as the document writes it into the address on the wire.
fn on_wire(notation: &str, table: ModbusTable, written: i64) -> Result<u16, String> {
    let wire = match notation {
        "from-1" => written - 1,
        "modicon" => {
            let prefix = match table {
                ModbusTable::Coil => 0,
                ModbusTable::DiscreteInput => 1,
                ModbusTable::InputRegister => 3,
                ModbusTable::HoldingRegister => 4,
            };
            let (short, long) = (written - prefix * 10_000, written - prefix * 100_000);
            if prefix == 0 || !(1..=9999).contains(&short) { long - 1 } else { short - 1 }
        }
        _ => written,
    };
    u16::try_from(wire).map_err(|_| match notation {
        "modicon" => format!("{written} is no address of this table in the notation 40001 or 400001"),
        "from-1" => format!("{written} is no address counted from 1: 1 to 65536"),
        _ => format!("{written} is no address: 0 to 65535; see `address_notation` for 40001"),
    })
}

fn address(findings: &mut Findings, at: &Table, key: &str, notation: &str, table: ModbusTable) -> Option<u16> {
    let written = at.integer(key)?;
    on_wire(notation, table, written.value).map_err(|why| findings.error(written.place, why)).ok()
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

fn value_type(findings: &mut Findings, point: &Table, table: ModbusTable) -> Option<ValueType> {
    let word = point.text("type");
    let field_keys = ["bit", "width"].into_iter().filter_map(|key| point.get(key));
    if word.as_ref().is_none_or(|word| word.value != "bits")
        && let Some(stray) = field_keys.into_iter().next()
    {
        findings.error(stray.place, "`bit` and `width` are for the type `bits`").help("say `type = \"bits\"`");
        return None;
    }
    if table.is_bits() {
        if let Some(word) = word.filter(|word| word.value != "bool") {
            let message = format!("a coil or discrete input is `bool`, not `{}`", word.value);
            findings.error(word.place, message).help("take the type out, or name the table of registers");
            return None;
        }
        return Some(ValueType::Bool);
    }
    let Some(word) = word else {
        if point.lacks("type") {
            findings.error(point.place, "[[point]] needs `type` for registers").help("`type`: what the registers hold");
        }
        return None;
    };
    match word.value {
        "u16" => Some(ValueType::U16),
        "i16" => Some(ValueType::I16),
        "u32" => Some(ValueType::U32),
        "i32" => Some(ValueType::I32),
        "u64" => Some(ValueType::U64),
        "i64" => Some(ValueType::I64),
        "f32" => Some(ValueType::F32),
        "f64" => Some(ValueType::F64),
        "bcd16" => Some(ValueType::Bcd16),
        "bcd32" => Some(ValueType::Bcd32),
        "bcd64" => Some(ValueType::Bcd64),
        "bits" => bits(findings, point, word.place),
        _ => {
            findings
                .error(word.place, "`bool` is for coils and discrete inputs")
                .help("for one bit of a register say `type = \"bits\", bit = 0`");
            None
        }
    }
}

fn bits(findings: &mut Findings, point: &Table, at: Place) -> Option<ValueType> {
    let Some(bit) = point.number::<u8>("bit") else {
        if point.lacks("bit") {
            findings.error(at, "`bits` needs `bit`").help("`bit`: the lowest bit, from 0");
        }
        return None;
    };
    let width = point.number::<u8>("width")?;
    let field = BitField::new(bit, width);
    if field.is_none() {
        findings.error(point.place_of("width"), format!("{width} bits from bit {bit} leave the register"));
    }
    field.map(ValueType::Bits)
}

/// Builds the first channel of a point.
fn point(findings: &mut Findings, table: &Table, notation: &str, order: WordOrder) -> Option<TemplatePoint> {
    let modbus = table.text("table").and_then(|word| modbus_table(word.value));
    let property =
        table.text("property").and_then(|text| property(findings, &text, table.integer("channels").is_some()));
    let place = |key| At { value: (), place: table.place_of(key) }.place;
    let modbus = modbus?;
    let value_type = value_type(findings, table, modbus);
    let address = address(findings, table, "address", notation, modbus);
    let scale = number::scale(table.decimal("scale").map(|at| at.value), table.decimal("offset").map(|at| at.value))
        .map_err(|why| findings.error(place(if table.get("scale").is_some() { "scale" } else { "offset" }), why))
        .ok();
    let value_type = value_type?;
    let missing = table.decimal("missing").map(|at| number::marker(at.value, value_type));
    let missing = missing.transpose().map_err(|why| findings.error(place("missing"), why)).ok();
    let (property, channel) = property?;
    let unit = table.text("unit")?;
    Some(TemplatePoint {
        place: place("property"),
        property,
        channel,
        resource: table.text("resource").map(|name| name.value.to_owned()),
        want: ReadRequest { table: modbus, address: address?, count: value_type.registers() },
        first: 0,
        value_type,
        word_order: table.text("word_order").and_then(|order| word_order(order.value)).unwrap_or(order),
        terms: Vec::new(),
        scale: scale?,
        missing: missing?,
        unit: At { value: unit.value.to_owned(), place: unit.place },
        interval: None,
        deadband: None,
        overlap: table.flag("overlap"),
    })
}

/// Splits `vehicle_count.3` into property and channel.
fn property(findings: &mut Findings, text: &At<&str>, repeated: bool) -> Option<(String, Option<u32>)> {
    let (name, channel) = match text.value.split_once('.') {
        Some((name, channel)) => (name, Some(channel)),
        None => (text.value, None),
    };
    let number = channel.and_then(|channel| channel.parse().ok()).filter(|n: &u32| channel == Some(&n.to_string()));
    if !is_property_name(name) || channel.is_some() != number.is_some() {
        findings
            .error(text.place, format!("{:?} cannot be a property", text.value))
            .help("lower case letters, digits and `_`, and for one of several channels its number: `vehicle_count.3`");
        None
    } else if repeated && channel.is_some() {
        findings.error(text.place, "a point with `channels` numbers them itself").help(format!("write `{name}`"));
        None
    } else {
        Some((name.to_owned(), number))
    }
}

/// Makes one point for each channel.
fn repeat(findings: &mut Findings, table: &Table, first: TemplatePoint) -> Vec<TemplatePoint> {
    let Some(channels) = table.number::<u32>("channels") else {
        if let Some(stray) = ["first_channel", "step"].into_iter().find_map(|key| table.get(key)) {
            findings.error(stray.place, "`first_channel` and `step` are for a point with `channels`");
        }
        if first.resource.as_ref().is_some_and(|name| name.contains('#')) {
            findings.error(table.place_of("resource"), "`#` stands for a channel, and the point has no `channels`");
        }
        return vec![first];
    };
    let step = table.number::<u32>("step").unwrap_or_else(|| u32::from(first.want.count));
    let first_channel = table.number::<u32>("first_channel").unwrap_or(1);
    let mut points = Vec::new();
    for index in 0..channels {
        let channel = first_channel.saturating_add(index);
        let address = u32::from(first.want.address).saturating_add(index.saturating_mul(step));
        let Ok(address) = u16::try_from(address) else {
            let message = format!("channel {channel} of `{}` would be at {address}, past 65535", first.property);
            findings.error(table.place_of("channels"), message).help("fewer channels, or a smaller `step`");
            break;
        };
        let mut point = first.clone();
        point.want.address = address;
        match &first.resource {
            Some(name) if name.contains('#') => point.resource = Some(name.replace('#', &channel.to_string())),
            _ => point.channel = Some(channel),
        }
        points.push(point);
    }
    points
}

#[cfg(test)]
mod tests {
    use super::ModbusTable::{Coil, DiscreteInput, HoldingRegister, InputRegister};
    use super::on_wire;

    #[test]
    fn an_address_in_any_notation_is_the_same_on_the_wire() {
        let same = [
            ("from-0", HoldingRegister, 0, 0),
            ("from-0", Coil, 65_535, 65_535),
            ("from-1", InputRegister, 1, 0),
            ("from-1", InputRegister, 65_536, 65_535),
            ("modicon", HoldingRegister, 40_001, 0),
            ("modicon", HoldingRegister, 49_999, 9998),
            ("modicon", HoldingRegister, 400_001, 0),
            ("modicon", HoldingRegister, 465_536, 65_535),
            ("modicon", InputRegister, 30_003, 2),
            ("modicon", DiscreteInput, 10_001, 0),
            ("modicon", DiscreteInput, 165_536, 65_535),
            ("modicon", Coil, 1, 0),
            ("modicon", Coil, 10_000, 9999),
        ];
        for (notation, table, written, wire) in same {
            assert_eq!(on_wire(notation, table, written), Ok(wire), "{notation} {table:?} {written}");
        }
    }

    #[test]
    fn an_address_of_another_table_or_notation_is_refused() {
        let wrong = [
            ("from-0", HoldingRegister, 65_536),
            ("from-1", HoldingRegister, 0),
            ("modicon", HoldingRegister, 30_001),
            ("modicon", HoldingRegister, 40_000),
            ("modicon", InputRegister, 40_001),
            ("modicon", Coil, 0),
            ("modicon", HoldingRegister, 50_000),
        ];
        for (notation, table, written) in wrong {
            assert!(on_wire(notation, table, written).is_err(), "{notation} {table:?} {written}");
        }
    }
}
