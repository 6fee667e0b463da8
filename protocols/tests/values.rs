//! Values that Modbus registers hold, from outside.

use ganglion_protocols::Value;
use ganglion_protocols::modbus::{BitField, Raw, ValueError, ValueType, WordOrder};
use proptest::prelude::*;

const ORDERS: [WordOrder; 4] = [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba];

fn bits(offset: u8, width: u8) -> ValueType {
    ValueType::Bits(BitField::new(offset, width).expect("a field of one register"))
}

fn value(of: ValueType, registers: &[u16], order: WordOrder) -> Result<Value, ValueError> {
    of.decode(registers, order).map(|raw| raw.value)
}

#[test]
fn one_register_holds_the_same_in_both_word_orders() {
    for (of, register, expected) in [
        (ValueType::Bool, 0x0000, Value::Bool(false)),
        (ValueType::Bool, 0x0001, Value::Bool(true)),
        (ValueType::U16, 0xFFFE, Value::Uint(65_534)),
        (ValueType::I16, 0xFFFE, Value::Int(-2)),
        (ValueType::I16, 0x8000, Value::Int(-32_768)),
        (ValueType::I16, 0x7FFF, Value::Int(32_767)),
        (ValueType::Bcd16, 0x9876, Value::Uint(9_876)),
        (bits(0, 1), 0x0001, Value::Bool(true)),
        (bits(15, 1), 0x7FFF, Value::Bool(false)),
        (bits(15, 1), 0x8000, Value::Bool(true)),
        (bits(4, 4), 0x1234, Value::Uint(3)),
        (bits(8, 8), 0xABCD, Value::Uint(0xAB)),
        (bits(0, 16), 0xABCD, Value::Uint(0xABCD)),
    ] {
        for order in [WordOrder::Abcd, WordOrder::Cdab] {
            assert_eq!(value(of, &[register], order), Ok(expected), "{of:?} {register:04X} {order:?}");
        }
        for order in [WordOrder::Badc, WordOrder::Dcba] {
            let swapped = register.swap_bytes();
            assert_eq!(value(of, &[swapped], order), Ok(expected), "{of:?} {swapped:04X} {order:?}");
        }
    }
}

#[test]
fn two_registers_hold_a_number_in_each_word_order() {
    for (of, layouts, expected) in [
        (ValueType::U32, [[0x0001, 0x16F0], [0x16F0, 0x0001], [0x0100, 0xF016], [0xF016, 0x0100]], Value::Uint(71_408)),
        (ValueType::I32, [[0xFFFE, 0xE910], [0xE910, 0xFFFE], [0xFEFF, 0x10E9], [0x10E9, 0xFEFF]], Value::Int(-71_408)),
        (
            ValueType::F32,
            [[0xC148, 0x0000], [0x0000, 0xC148], [0x48C1, 0x0000], [0x0000, 0x48C1]],
            Value::Single(-12.5),
        ),
        (
            ValueType::Bcd32,
            [[0x1234, 0x5678], [0x5678, 0x1234], [0x3412, 0x7856], [0x7856, 0x3412]],
            Value::Uint(12_345_678),
        ),
    ] {
        for (registers, order) in layouts.iter().zip(ORDERS) {
            assert_eq!(value(of, registers, order), Ok(expected), "{of:?} {registers:04X?} {order:?}");
        }
    }
}

#[test]
fn four_registers_hold_a_number_in_each_word_order() {
    for (of, layouts, expected) in [
        (
            ValueType::U64,
            [
                [0x0123, 0x4567, 0x89AB, 0xCDEF],
                [0xCDEF, 0x89AB, 0x4567, 0x0123],
                [0x2301, 0x6745, 0xAB89, 0xEFCD],
                [0xEFCD, 0xAB89, 0x6745, 0x2301],
            ],
            Value::Uint(0x0123_4567_89AB_CDEF),
        ),
        (
            ValueType::I64,
            [
                [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD],
                [0xFFFD, 0xFFFF, 0xFFFF, 0xFFFF],
                [0xFFFF, 0xFFFF, 0xFFFF, 0xFDFF],
                [0xFDFF, 0xFFFF, 0xFFFF, 0xFFFF],
            ],
            Value::Int(-3),
        ),
        (
            ValueType::F64,
            [
                [0xC093, 0x4A45, 0x6D5C, 0xFAAD],
                [0xFAAD, 0x6D5C, 0x4A45, 0xC093],
                [0x93C0, 0x454A, 0x5C6D, 0xADFA],
                [0xADFA, 0x5C6D, 0x454A, 0x93C0],
            ],
            Value::Double(-1234.5678),
        ),
        (
            ValueType::Bcd64,
            [
                [0x9999, 0x0000, 0x1234, 0x5678],
                [0x5678, 0x1234, 0x0000, 0x9999],
                [0x9999, 0x0000, 0x3412, 0x7856],
                [0x7856, 0x3412, 0x0000, 0x9999],
            ],
            Value::Uint(9_999_000_012_345_678),
        ),
    ] {
        for (registers, order) in layouts.iter().zip(ORDERS) {
            assert_eq!(value(of, registers, order), Ok(expected), "{of:?} {registers:04X?} {order:?}");
        }
    }
}

#[test]
fn published_values_are_decoded() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("vectors/modbus_values.json")).expect("the vectors are JSON");
    let vectors = vectors.as_array().expect("an array");
    for vector in vectors {
        let hex = vector["hex"].as_str().expect("hex");
        let registers: Vec<u16> =
            (0..hex.len()).step_by(4).map(|at| u16::from_str_radix(&hex[at..at + 4], 16).expect("hex")).collect();
        let decoded = &vector["decoded"];
        let order = match decoded["order"].as_str() {
            Some("ABCD" | "AB") => WordOrder::Abcd,
            Some("CDAB") => WordOrder::Cdab,
            Some("BADC") => WordOrder::Badc,
            Some("DCBA") => WordOrder::Dcba,
            other => panic!("order {other:?}"),
        };
        let (of, expected) = match decoded["type"].as_str() {
            #[allow(clippy::cast_possible_truncation, reason = "the vector is a binary32")]
            Some("float32") => (ValueType::F32, Value::Single(decoded["value"].as_f64().expect("a number") as f32)),
            Some("int16") => (ValueType::I16, Value::Int(decoded["value"].as_i64().expect("a number"))),
            Some("uint32") => (ValueType::U32, Value::Uint(decoded["value"].as_u64().expect("a number"))),
            other => panic!("type {other:?}"),
        };
        assert_eq!(value(of, &registers, order), Ok(expected), "{vector}");
    }
    assert_eq!(vectors.len(), 5);
}

#[test]
fn the_raw_bits_are_in_abcd_order_whatever_the_wire_does() {
    for (registers, order) in [
        ([0x8000, 0x0001], WordOrder::Abcd),
        ([0x0001, 0x8000], WordOrder::Cdab),
        ([0x0080, 0x0100], WordOrder::Badc),
        ([0x0100, 0x0080], WordOrder::Dcba),
    ] {
        let expected = Raw { value: Value::Int(-2_147_483_647), bits: 0x8000_0001 };
        assert_eq!(ValueType::I32.decode(&registers, order), Ok(expected), "{order:?}");
    }
}

#[test]
fn a_marker_that_is_no_value_of_its_type_still_has_bits() {
    for (of, registers, order, bits) in [
        (ValueType::F32, vec![0x0000, 0x7FC0], WordOrder::Cdab, 0x7FC0_0000),
        (ValueType::Bcd16, vec![0xFFFF], WordOrder::Abcd, 0xFFFF),
        (ValueType::F64, vec![0xFFFF; 4], WordOrder::Dcba, u64::MAX),
    ] {
        assert!(of.decode(&registers, order).is_err());
        assert_eq!(of.bits(&registers, order), Ok(bits));
    }
    let error = ValueError::Registers { got: 1, expected: 2 };
    assert_eq!(ValueType::F32.bits(&[0], WordOrder::Abcd), Err(error));
    assert_eq!(error.to_string(), "1 registers, the type takes 2");
}

#[test]
fn a_bcd_digit_above_nine_is_named_with_its_place() {
    for (of, registers, got, place) in [
        (ValueType::Bcd16, vec![0xA000], 0xA, 3),
        (ValueType::Bcd16, vec![0x123F], 0xF, 0),
        (ValueType::Bcd32, vec![0x1B34, 0x5678], 0xB, 6),
        (ValueType::Bcd64, vec![0xC000, 0, 0, 0], 0xC, 15),
        // The most significant wrong digit is named.
        (ValueType::Bcd16, vec![0x0DE0], 0xD, 2),
    ] {
        assert_eq!(of.decode(&registers, WordOrder::Abcd), Err(ValueError::BcdDigit { got, place }));
    }
    assert_eq!(ValueError::BcdDigit { got: 0xB, place: 6 }.to_string(), "BCD digit B at place 6 is above 9");
}

#[test]
fn a_float_that_is_infinite_or_no_number_is_refused() {
    for registers in [[0x7F80, 0], [0xFF80, 0], [0x7FC0, 0], [0x7F80, 1], [0xFFFF, 0xFFFF]] {
        assert_eq!(ValueType::F32.decode(&registers, WordOrder::Abcd), Err(ValueError::NotFinite), "{registers:04X?}");
    }
    for registers in [[0x7FF0, 0, 0, 0], [0xFFF0, 0, 0, 0], [0x7FF8, 0, 0, 0], [0x7FF0, 0, 0, 1]] {
        assert_eq!(ValueType::F64.decode(&registers, WordOrder::Abcd), Err(ValueError::NotFinite), "{registers:04X?}");
    }
    assert_eq!(ValueError::NotFinite.to_string(), "the float is infinite or not a number");
    assert_eq!(value(ValueType::F32, &[0x7F7F, 0xFFFF], WordOrder::Abcd), Ok(Value::Single(f32::MAX)));
    assert_eq!(value(ValueType::F32, &[0x0000, 0x0001], WordOrder::Abcd), Ok(Value::Single(f32::from_bits(1))));
}

#[test]
fn a_bit_field_lies_within_one_register() {
    for (offset, width) in [(0, 1), (0, 16), (15, 1), (8, 8)] {
        let field = BitField::new(offset, width).expect("it fits");
        assert_eq!((field.offset(), field.width()), (offset, width));
    }
    for (offset, width) in [(0, 0), (0, 17), (16, 1), (15, 2), (1, 16), (255, 1), (1, 255)] {
        assert_eq!(BitField::new(offset, width), None, "{offset} {width}");
    }
}

fn any_type() -> impl Strategy<Value = ValueType> {
    use ValueType::{Bcd16, Bcd32, Bcd64, Bool, F32, F64, I16, I32, I64, U16, U32, U64};
    let field = (0_u8..16).prop_flat_map(|offset| (Just(offset), 1..=16 - offset));
    prop_oneof![
        12 => prop::sample::select(vec![Bool, U16, I16, U32, I32, U64, I64, F32, F64, Bcd16, Bcd32, Bcd64]),
        3 => field.prop_map(|(offset, width)| bits(offset, width)),
    ]
}

/// Lays a number out over registers: bytes from the highest, then the order's swaps.
fn encode(number: u64, registers: u16, order: WordOrder) -> Vec<u16> {
    let bytes = number.to_be_bytes();
    let mut words: Vec<u16> = bytes[8 - 2 * usize::from(registers)..]
        .chunks_exact(2)
        .map(|pair| match order {
            WordOrder::Abcd | WordOrder::Cdab => u16::from_be_bytes([pair[0], pair[1]]),
            WordOrder::Badc | WordOrder::Dcba => u16::from_le_bytes([pair[0], pair[1]]),
        })
        .collect();
    if matches!(order, WordOrder::Cdab | WordOrder::Dcba) {
        words.reverse();
    }
    words
}

/// Writes a number's decimal digits as packed BCD.
fn packed(number: u64) -> u64 {
    u64::from_str_radix(&number.to_string(), 16).expect("decimal digits are hex digits")
}

proptest! {
    #[test]
    fn what_a_device_encodes_is_what_is_decoded(
        order in prop::sample::select(ORDERS.to_vec()),
        number in any::<u64>(),
        single in prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
        double in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
    ) {
        #[allow(clippy::cast_possible_truncation, reason = "a narrower number is wanted")]
        let (n16, n32) = (number as u16, number as u32);
        let (d4, d8, d16) = (number % 10_000, number % 100_000_000, number % 10_000_000_000_000_000);
        for (of, bits, expected) in [
            (ValueType::U16, u64::from(n16), Value::Uint(n16.into())),
            (ValueType::I16, u64::from(n16), Value::Int(n16.cast_signed().into())),
            (ValueType::U32, u64::from(n32), Value::Uint(n32.into())),
            (ValueType::I32, u64::from(n32), Value::Int(n32.cast_signed().into())),
            (ValueType::U64, number, Value::Uint(number)),
            (ValueType::I64, number, Value::Int(number.cast_signed())),
            (ValueType::F32, single.to_bits().into(), Value::Single(single)),
            (ValueType::F64, double.to_bits(), Value::Double(double)),
            (ValueType::Bcd16, packed(d4), Value::Uint(d4)),
            (ValueType::Bcd32, packed(d8), Value::Uint(d8)),
            (ValueType::Bcd64, packed(d16), Value::Uint(d16)),
        ] {
            let registers = encode(bits, of.registers(), order);
            prop_assert_eq!(of.decode(&registers, order), Ok(Raw { value: expected, bits }), "{:?} {:?}", of, order);
        }
    }

    #[test]
    fn a_bit_field_holds_its_bits_and_no_others(register in any::<u16>(), offset in 0_u8..16, width in 1_u8..=16) {
        prop_assume!(offset + width <= 16);
        let digits = format!("{register:016b}");
        let end = 16 - usize::from(offset);
        let expected = u64::from_str_radix(&digits[end - usize::from(width)..end], 2).expect("binary digits");
        let expected = if width == 1 { Value::Bool(expected == 1) } else { Value::Uint(expected) };
        prop_assert_eq!(value(bits(offset, width), &[register], WordOrder::Abcd), Ok(expected));
    }

    #[test]
    fn any_registers_are_a_finite_value_or_an_error(
        of in any_type(),
        registers in prop::collection::vec(any::<u16>(), 0..6),
        order in prop::sample::select(ORDERS.to_vec()),
    ) {
        match of.decode(&registers, order) {
            Ok(raw) => {
                match of {
                    ValueType::Bits(field) => {
                        let whole = ValueType::U16.bits(&registers, order).expect("one register");
                        prop_assert_eq!(raw.bits, (whole >> field.offset()) % (1 << field.width()));
                    }
                    _ => prop_assert_eq!(encode(raw.bits, of.registers(), order), registers),
                }
                match raw.value {
                    Value::Single(value) => prop_assert!(value.is_finite()),
                    Value::Double(value) => prop_assert!(value.is_finite()),
                    Value::Bool(_) | Value::Int(_) | Value::Uint(_) => {}
                }
            }
            Err(ValueError::Registers { got, expected }) => {
                prop_assert_eq!((got, expected), (registers.len(), of.registers()));
                prop_assert_ne!(got, usize::from(expected));
            }
            Err(ValueError::BcdDigit { got, .. }) => prop_assert!((10..=15).contains(&got)),
            Err(ValueError::NotFinite) => prop_assert!(matches!(of, ValueType::F32 | ValueType::F64)),
        }
    }
}
