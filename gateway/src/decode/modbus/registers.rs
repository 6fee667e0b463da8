//! Values that registers hold, when somebody says of which type and in which order.

use ganglion_protocols::Value;
use ganglion_protocols::modbus::{ValueType, WordOrder};

use crate::decode::{Decoded, Fault, Fields, Hints, Node};

/// Prefix of a field that shows registers as values: `values_as_float32`, `values_as_float32_ABCD`.
const VALUES_AS: &str = "values_as_";

/// Decodes registers on their own: `type` and `order` are given, the bytes are one value.
pub(in crate::decode) fn values(bytes: &[u8], hints: &Hints) -> Decoded {
    let mut fields = Fields::default();
    let refuse = |fields, at, why| Decoded { fields, fault: Some(Fault { at, why }) };
    let Some(name) = hints.value_type.as_deref() else {
        return refuse(fields, 0, format!("the type of the value must be given: {}", type_names()));
    };
    let order = hints.order.as_deref().unwrap_or("ABCD");
    let (Some(value_type), Some(word_order)) = (value_type(name), word_order(order)) else {
        let why = refuse_names(name, order).unwrap_or_default();
        return refuse(fields, 0, why);
    };
    fields.put("type", name);
    fields.put("order", order);
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return refuse(fields, bytes.len(), format!("{} bytes, a register takes two", bytes.len()));
    }
    let registers: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
    match value_type.decode(&registers, word_order) {
        Ok(raw) => {
            fields.put("value", node(raw.value));
            Decoded { fields, fault: None }
        }
        Err(error) => {
            fields.put("value", Node::Absent);
            refuse(fields, 0, error.to_string())
        }
    }
}

/// Says what is wrong with a type or order of the command line.
pub(in crate::decode) fn refuse(hints: &Hints) -> Option<String> {
    let name = hints.value_type.as_deref()?;
    refuse_names(name, hints.order.as_deref().unwrap_or("ABCD"))
}

fn refuse_names(name: &str, order: &str) -> Option<String> {
    if value_type(name).is_none() {
        return Some(format!("{name:?} is no type of a value: {}", type_names()));
    }
    word_order(order).is_none().then(|| format!("{order:?} is no order of bytes: ABCD, CDAB, BADC, DCBA"))
}

/// Other views of fields that were read, as far as somebody asked for them.
pub(super) fn views(read: &Fields, hints: &Hints) -> Fields {
    let mut views = Fields::default();
    let order = hints.order.as_deref().unwrap_or("ABCD");
    if let (Some(Node::List(registers)), Some(name)) = (read.find("registers"), hints.value_type.as_deref()) {
        views.put("word_order", order);
        put_values(&format!("{VALUES_AS}{name}"), registers, name, order, &mut views);
    }
    for wanted in &hints.wanted {
        if let (Some(Node::List(registers)), Some(what)) = (read.find("registers"), wanted.strip_prefix(VALUES_AS)) {
            let (name, order) = what.split_once('_').unwrap_or((what, order));
            put_values(wanted, registers, name, order, &mut views);
        } else if let (Some(Node::List(bits)), Some(count)) = (read.find("bits"), named_bits(wanted)) {
            let digits: Vec<String> = bits
                .get(..count)
                .unwrap_or(bits)
                .chunks(4)
                .map(|four| four.iter().map(|bit| if *bit == Node::Uint(1) { '1' } else { '0' }).collect())
                .collect();
            views.put(wanted, format!("{} (LSB of first byte first)", digits.join(" ")));
        }
    }
    views
}

/// Says how many bits a name like `bits_20_to_38` speaks of: items are numbered from 1, both ends counted.
fn named_bits(name: &str) -> Option<usize> {
    let (first, last) = name.strip_prefix("bits_")?.split_once("_to_")?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

fn put_values(field: &str, registers: &[Node], name: &str, order: &str, views: &mut Fields) {
    let (Some(value_type), Some(word_order)) = (value_type(name), word_order(order)) else { return };
    let words = registers.iter().filter_map(|node| match node {
        Node::Uint(word) => u16::try_from(*word).ok(),
        _ => None,
    });
    let words: Vec<u16> = words.collect();
    let every = words.chunks(usize::from(value_type.registers()));
    let values = every.map(|chunk| value_type.decode(chunk, word_order).map_or(Node::Absent, |raw| node(raw.value)));
    views.put(field, Node::List(values.collect()));
}

fn node(value: Value) -> Node {
    match value {
        Value::Bool(value) => Node::Bool(value),
        Value::Int(value) => Node::Int(value),
        Value::Uint(value) => Node::Uint(value),
        // The shortest digits that are this binary32, not the longer ones of the binary64 it widens to.
        Value::Single(value) => Node::Double(value.to_string().parse().unwrap_or(f64::from(value))),
        Value::Double(value) => Node::Double(value),
    }
}

const TYPES: [(&str, ValueType); 12] = [
    ("bool", ValueType::Bool),
    ("int16", ValueType::I16),
    ("uint16", ValueType::U16),
    ("int32", ValueType::I32),
    ("uint32", ValueType::U32),
    ("int64", ValueType::I64),
    ("uint64", ValueType::U64),
    ("float32", ValueType::F32),
    ("float64", ValueType::F64),
    ("bcd16", ValueType::Bcd16),
    ("bcd32", ValueType::Bcd32),
    ("bcd64", ValueType::Bcd64),
];

/// Takes a type by the name of test vectors (`float32`) or by that of templates (`f32`).
fn value_type(name: &str) -> Option<ValueType> {
    let of_template = |long: &str| {
        let digits = long.trim_start_matches(char::is_alphabetic);
        let short = match long.trim_end_matches(char::is_numeric) {
            "int" => 'i',
            "uint" => 'u',
            "float" => 'f',
            _ => return false,
        };
        name.strip_prefix(short) == Some(digits)
    };
    TYPES.iter().find(|(long, _)| *long == name || of_template(long)).map(|(_, value_type)| *value_type)
}

fn type_names() -> String {
    TYPES.map(|(name, _)| name).join(", ")
}

/// Takes the order of bytes as it is named for one, two or four registers.
fn word_order(name: &str) -> Option<WordOrder> {
    Some(match name {
        "AB" | "ABCD" | "ABCDEFGH" => WordOrder::Abcd,
        "CDAB" | "GHEFCDAB" => WordOrder::Cdab,
        "BA" | "BADC" | "BADCFEHG" => WordOrder::Badc,
        "DCBA" | "HGFEDCBA" => WordOrder::Dcba,
        _ => return None,
    })
}
