//! Values, types and tables as a person types and reads them.

use clap::ValueEnum;
use ganglion_protocols::Value;
use ganglion_protocols::modbus::{Table, ValueType, WordOrder};

/// A table.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableArg {
    /// Coils: bits, read and write.
    Coil,
    /// Discrete inputs: bits, read only.
    Discrete,
    /// Input registers, read only.
    Input,
    /// Holding registers, read and write.
    Holding,
}

impl From<TableArg> for Table {
    fn from(table: TableArg) -> Self {
        match table {
            TableArg::Coil => Self::Coil,
            TableArg::Discrete => Self::DiscreteInput,
            TableArg::Input => Self::InputRegister,
            TableArg::Holding => Self::HoldingRegister,
        }
    }
}

/// What registers hold.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum TypeArg {
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    Bcd16,
    Bcd32,
    Bcd64,
}

impl From<TypeArg> for ValueType {
    fn from(kind: TypeArg) -> Self {
        match kind {
            TypeArg::U16 => Self::U16,
            TypeArg::I16 => Self::I16,
            TypeArg::U32 => Self::U32,
            TypeArg::I32 => Self::I32,
            TypeArg::U64 => Self::U64,
            TypeArg::I64 => Self::I64,
            TypeArg::F32 => Self::F32,
            TypeArg::F64 => Self::F64,
            TypeArg::Bcd16 => Self::Bcd16,
            TypeArg::Bcd32 => Self::Bcd32,
            TypeArg::Bcd64 => Self::Bcd64,
        }
    }
}

/// How the bytes of a value lie over its registers.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[value(rename_all = "UPPER")]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum OrderArg {
    #[default]
    #[value(alias = "abcd")]
    Abcd,
    #[value(alias = "cdab")]
    Cdab,
    #[value(alias = "badc")]
    Badc,
    #[value(alias = "dcba")]
    Dcba,
}

impl From<OrderArg> for WordOrder {
    fn from(order: OrderArg) -> Self {
        match order {
            OrderArg::Abcd => Self::Abcd,
            OrderArg::Cdab => Self::Cdab,
            OrderArg::Badc => Self::Badc,
            OrderArg::Dcba => Self::Dcba,
        }
    }
}

/// Writes a value as a person reads it.
#[must_use]
pub fn text(value: Value) -> String {
    match value {
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Single(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
    }
}

/// Returns the value as JSON.
#[must_use]
pub fn json(value: Value) -> serde_json::Value {
    match value {
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Uint(value) => value.into(),
        Value::Single(value) => value.into(),
        Value::Double(value) => value.into(),
    }
}

/// Writes registers in hex, as the wire has them.
#[must_use]
pub fn hex(words: &[u16]) -> String {
    words.iter().map(|word| format!("{word:04X}")).collect::<Vec<_>>().join(" ")
}

/// Reads a number as a person types it: decimal, or hex with 0x.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let number = match hex {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if negative { -number } else { number })
}

/// Reads a switch position: on, off, true, false, 1, 0.
#[must_use]
pub fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" => Some(true),
        "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// Returns the registers that hold a number typed by a person.
///
/// # Errors
/// What is wrong: no number, or none that the type holds.
pub fn encode(text: &str, kind: ValueType, order: WordOrder) -> Result<Vec<u16>, String> {
    let bits = match kind {
        ValueType::F32 => u64::from(single(text)?.to_bits()),
        ValueType::F64 => double(text)?.to_bits(),
        _ => {
            let number = integer(text).ok_or_else(|| format!("{text:?} is no whole number"))?;
            whole(number, kind).ok_or_else(|| {
                let (low, high) = range(kind);
                format!("{number} is outside what {} holds: {low} to {high}", type_name(kind))
            })?
        }
    };
    Ok(split(bits, kind.registers(), order))
}

fn double(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if number.is_finite() { Ok(number) } else { Err(format!("{text:?} is no finite number")) }
}

#[allow(clippy::cast_possible_truncation, reason = "the nearest binary32 is what is wanted")]
fn single(text: &str) -> Result<f32, String> {
    let number = double(text)?;
    let nearest = number as f32;
    if nearest.is_finite() { Ok(nearest) } else { Err(format!("{number} is outside what f32 holds")) }
}

/// Returns what a type holds, first and last.
fn range(kind: ValueType) -> (i128, i128) {
    match kind {
        ValueType::Bool => (0, 1),
        ValueType::U16 => (0, u16::MAX.into()),
        ValueType::I16 => (i16::MIN.into(), i16::MAX.into()),
        ValueType::U32 => (0, u32::MAX.into()),
        ValueType::I32 => (i32::MIN.into(), i32::MAX.into()),
        ValueType::U64 | ValueType::F32 | ValueType::F64 => (0, u64::MAX.into()),
        ValueType::I64 => (i64::MIN.into(), i64::MAX.into()),
        ValueType::Bcd16 => (0, 9_999),
        ValueType::Bcd32 => (0, 99_999_999),
        ValueType::Bcd64 => (0, 9_999_999_999_999_999),
        ValueType::Bits(field) => (0, (1 << field.width()) - 1),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked; negative ones wrap")]
fn whole(number: i128, kind: ValueType) -> Option<u64> {
    let (low, high) = range(kind);
    if number < low || number > high {
        return None;
    }
    let bcd = || (0..16).fold(0_u64, |bits, place| bits | (number as u64 / 10_u64.pow(place) % 10) << (4 * place));
    Some(match kind {
        ValueType::Bcd16 | ValueType::Bcd32 | ValueType::Bcd64 => bcd(),
        _ => number as u64,
    })
}

/// Lays the lowest bits of a number over registers.
#[allow(clippy::cast_possible_truncation, reason = "sixteen bits at a time")]
fn split(bits: u64, registers: u16, order: WordOrder) -> Vec<u16> {
    let mut words: Vec<u16> = (0..registers).rev().map(|place| (bits >> (16 * place)) as u16).collect();
    if matches!(order, WordOrder::Cdab | WordOrder::Dcba) {
        words.reverse();
    }
    if matches!(order, WordOrder::Badc | WordOrder::Dcba) {
        words.iter_mut().for_each(|word| *word = word.swap_bytes());
    }
    words
}

/// Returns the name of a type as templates write it.
#[must_use]
pub const fn type_name(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Bool => "bool",
        ValueType::U16 => "u16",
        ValueType::I16 => "i16",
        ValueType::U32 => "u32",
        ValueType::I32 => "i32",
        ValueType::U64 => "u64",
        ValueType::I64 => "i64",
        ValueType::F32 => "f32",
        ValueType::F64 => "f64",
        ValueType::Bcd16 => "bcd16",
        ValueType::Bcd32 => "bcd32",
        ValueType::Bcd64 => "bcd64",
        ValueType::Bits(_) => "bits",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_in_every_type_and_order() {
        let types = [
            (ValueType::U16, "65535"),
            (ValueType::I16, "-2"),
            (ValueType::U32, "0xDEADBEEF"),
            (ValueType::I32, "-70000"),
            (ValueType::U64, "18446744073709551615"),
            (ValueType::I64, "-1"),
            (ValueType::F32, "412.5"),
            (ValueType::F64, "-0.1"),
            (ValueType::Bcd16, "1234"),
            (ValueType::Bcd32, "98765432"),
            (ValueType::Bcd64, "1234567890123456"),
        ];
        for (kind, typed) in types {
            for order in [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba] {
                let words = encode(typed, kind, order).unwrap();
                let read = text(kind.decode(&words, order).unwrap().value);
                let expected = if typed.starts_with("0x") { "3735928559" } else { typed };
                assert_eq!(read, expected, "{kind:?} {order:?} {words:04X?}");
            }
        }
    }

    #[test]
    fn a_number_the_type_does_not_hold_is_refused_with_its_range() {
        let refused = |text, kind| encode(text, kind, WordOrder::Abcd).unwrap_err();
        assert_eq!(refused("70000", ValueType::U16), "70000 is outside what u16 holds: 0 to 65535");
        assert_eq!(refused("10000", ValueType::Bcd16), "10000 is outside what bcd16 holds: 0 to 9999");
        assert_eq!(refused("1.5", ValueType::I32), "\"1.5\" is no whole number");
        assert_eq!(refused("1e39", ValueType::F32), format!("{} is outside what f32 holds", 1e39));
        assert_eq!(refused("nan", ValueType::F64), "\"nan\" is no finite number");
    }
}
