//! One `[[point]]` of a template: which registers its value is made of, and what they mean.

use std::time::Duration;

use ganglion_drivers::plan::ReadRequest;
use ganglion_drivers::report::Deadband;
use ganglion_protocols::modbus::{BitField, Table as ModbusTable, ValueType, WordOrder};

use super::alarm::Said;
use super::build::millis;
use super::directory::is_property_name;
use super::keys::Table;
use super::number;
use super::report::{At, Findings, Place};
use crate::site::{Role, Scale};

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
    /// Its own registers.
    pub(super) own: ReadRequest,
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
    /// What makes it an alarm, unless the device says otherwise.
    pub(super) alarm: Option<Said>,
    /// Whether it shares registers with another point on purpose.
    pub(super) overlap: bool,
}

/// A register that another value depends on.
#[derive(Clone, Debug)]
pub(super) struct TemplateTerm {
    pub(super) role: Role,
    pub(super) own: ReadRequest,
    pub(super) value_type: ValueType,
    pub(super) word_order: WordOrder,
    /// Whether another request than the value's may read it.
    pub(super) apart: bool,
    /// Addresses from one channel's to the next.
    step: u32,
    place: Place,
}

impl TemplatePoint {
    /// Returns the property's name as in observations: `pressure`, `vehicle_count.3`.
    pub(super) fn name(&self) -> String {
        match self.channel {
            Some(channel) => format!("{}.{channel}", self.property),
            None => self.property.clone(),
        }
    }

    /// Says whether it may share its registers with others like it.
    pub(super) const fn shares(&self) -> bool {
        matches!(self.value_type, ValueType::Bits(_))
    }

    /// Returns what one request must read together: its registers and those of its terms that are not apart.
    pub(super) fn want(&self) -> ReadRequest {
        self.terms.iter().filter(|term| !term.apart).fold(self.own, |want, term| {
            let address = want.address.min(term.own.address);
            let end = want.end().max(term.own.end());
            let count = u16::try_from(end.saturating_sub(u32::from(address))).unwrap_or(u16::MAX);
            ReadRequest { table: want.table, address, count }
        })
    }

    /// Returns what reads a term.
    pub(super) fn want_of(&self, term: &TemplateTerm) -> ReadRequest {
        if term.apart { term.own } else { self.want() }
    }
}

/// Returns the place of some items among those of the want that reads them.
pub(super) fn first(own: ReadRequest, want: ReadRequest) -> usize {
    usize::from(own.address.saturating_sub(want.address))
}

pub(super) fn modbus_table(word: &str) -> Option<ModbusTable> {
    match word {
        "holding" => Some(ModbusTable::HoldingRegister),
        "input" => Some(ModbusTable::InputRegister),
        "coil" => Some(ModbusTable::Coil),
        "discrete" => Some(ModbusTable::DiscreteInput),
        _ => None,
    }
}

pub(super) fn word_order(word: &str) -> Option<WordOrder> {
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

pub(super) fn address(
    findings: &mut Findings,
    at: &Table,
    key: &str,
    notation: &str,
    table: ModbusTable,
) -> Option<u16> {
    let written = at.integer(key)?;
    on_wire(notation, table, written.value).map_err(|why| findings.error(written.place, why)).ok()
}

/// Takes the type of registers; `what` is what a person calls them.
pub(super) fn value_type(
    findings: &mut Findings,
    (point, what): (&Table, &str),
    table: ModbusTable,
) -> Option<ValueType> {
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
            findings
                .error(point.place, format!("{what} needs `type` for registers"))
                .help("`type`: what the registers hold");
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
pub(super) fn point(findings: &mut Findings, table: &Table, notation: &str, order: WordOrder) -> Option<TemplatePoint> {
    let modbus = table.text("table").and_then(|word| modbus_table(word.value));
    let property =
        table.text("property").and_then(|text| property(findings, &text, table.integer("channels").is_some()));
    let place = |key| At { value: (), place: table.place_of(key) }.place;
    let modbus = modbus?;
    let value_type = value_type(findings, (table, "[[point]]"), modbus);
    let address = address(findings, table, "address", notation, modbus);
    let scale = number::scale(table.decimal("scale").map(|at| at.value), table.decimal("offset").map(|at| at.value))
        .map_err(|why| findings.error(place(if table.get("scale").is_some() { "scale" } else { "offset" }), why))
        .ok();
    let terms = terms(findings, table, notation, (modbus, order));
    let deadband = deadband(findings, table);
    let alarm = table.get("alarm").map_or(Some(None), |at| Said::read(findings, at).map(Some));
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
        own: ReadRequest { table: modbus, address: address?, count: value_type.registers() },
        value_type,
        word_order: table.text("word_order").and_then(|order| word_order(order.value)).unwrap_or(order),
        terms: terms?,
        scale: scale?,
        missing: missing?,
        unit: At { value: unit.value.to_owned(), place: unit.place },
        interval: millis(table, "poll_interval_ms"),
        deadband: deadband?,
        alarm: alarm?,
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
pub(super) fn repeat(findings: &mut Findings, table: &Table, first: TemplatePoint) -> Vec<TemplatePoint> {
    let Some(channels) = table.number::<u32>("channels") else {
        if let Some(stray) = ["first_channel", "step"].into_iter().find_map(|key| table.get(key)) {
            findings.error(stray.place, "`first_channel` and `step` are for a point with `channels`");
        }
        if first.resource.as_ref().is_some_and(|name| name.contains('#')) {
            findings.error(table.place_of("resource"), "`#` stands for a channel, and the point has no `channels`");
        }
        return vec![first];
    };
    let step = table.number::<u32>("step").unwrap_or_else(|| u32::from(first.own.count));
    let first_channel = table.number::<u32>("first_channel").unwrap_or(1);
    let mut points = Vec::new();
    for index in 0..channels {
        let channel = first_channel.saturating_add(index);
        let Ok(address) = moved(first.own.address, step, index) else {
            let message = format!("channel {channel} of `{}` would be past address 65535", first.property);
            findings.error(table.place_of("channels"), message).help("fewer channels, or a smaller `step`");
            break;
        };
        let mut point = first.clone();
        point.own.address = address;
        for term in &mut point.terms {
            match moved(term.own.address, term.step, index) {
                Ok(address) => term.own.address = address,
                Err(_) => {
                    findings.error(term.place, format!("for channel {channel} it would be past address 65535"));
                    return points;
                }
            }
        }
        match &first.resource {
            Some(name) if name.contains('#') => point.resource = Some(name.replace('#', &channel.to_string())),
            _ => point.channel = Some(channel),
        }
        points.push(point);
    }
    points
}

fn moved(address: u16, step: u32, index: u32) -> Result<u16, std::num::TryFromIntError> {
    u16::try_from(u32::from(address).saturating_add(index.saturating_mul(step)))
}

/// Takes the other registers of a value. `None` when one of them is wrong.
fn terms(
    findings: &mut Findings,
    point: &Table,
    notation: &str,
    from_point: (ModbusTable, WordOrder),
) -> Option<Vec<TemplateTerm>> {
    let one = |key: &str, role| point.table(key).into_iter().map(move |table| (table, role)).collect::<Vec<_>>();
    let mut tables = one("fraction", Role::Part);
    tables.extend(point.tables("factor").map(|table| (table, Role::Factor)));
    tables.extend(one("exponent", Role::Exponent));
    tables.extend(one("decimals", Role::Decimals));
    // All of them, so that each is reported.
    let terms: Vec<_> = tables.iter().map(|(table, role)| term(findings, table, *role, notation, from_point)).collect();
    terms.into_iter().collect()
}

fn term(
    findings: &mut Findings,
    table: &Table,
    role: Role,
    notation: &str,
    (of_point, order): (ModbusTable, WordOrder),
) -> Option<TemplateTerm> {
    let modbus = table.text("table").map_or(Some(of_point), |word| modbus_table(word.value))?;
    let value_type = value_type(findings, (table, "a register of the value"), modbus);
    let address = address(findings, table, "address", notation, modbus);
    let (value_type, address) = (value_type?, address?);
    let apart = table.flag("apart");
    if value_type == ValueType::Bool {
        findings.error(table.place, "a coil or discrete input is no number that a value could be made of");
        return None;
    }
    if modbus != of_point && !apart {
        findings
            .error(table.place_of("table"), "one request reads one table: it cannot be read together with the value")
            .help("say `apart = true`: it is then read in the same poll, and not at the same instant");
        return None;
    }
    Some(TemplateTerm {
        role,
        own: ReadRequest { table: modbus, address, count: value_type.registers() },
        value_type,
        word_order: table.text("word_order").and_then(|order| word_order(order.value)).unwrap_or(order),
        apart,
        step: table.number("step").unwrap_or(0),
        place: table.place,
    })
}

/// Takes the two limits; `Some(None)` when there is none, `None` when one is wrong.
fn deadband(findings: &mut Findings, table: &Table) -> Option<Option<Deadband>> {
    let mut limit =
        |key: &str| match table.decimal(key).map(|at| number::limit(at.value).map_err(|why| (at.place, why))) {
            Some(Ok(limit)) => Some(limit),
            Some(Err((place, why))) => {
                findings.error(place, why);
                None
            }
            None => Some(0.0),
        };
    let (absolute, percent) = (limit("deadband"), limit("deadband_percent"));
    let deadband = Deadband { absolute: absolute?, percent: percent? };
    Some((deadband.absolute > 0.0 || deadband.percent > 0.0).then_some(deadband))
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
