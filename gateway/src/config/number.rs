//! Decimal texts of a template as exact numbers.

use ganglion_protocols::modbus::ValueType;

use crate::site::Scale;

/// Largest power of ten that is exact in an `f64`.
const MAX_EXACT_POWER: usize = 22;

/// Most digits that are exact in an `f64`.
const MAX_EXACT_DIGITS: usize = 15;

/// Joins a scale and an offset, each a decimal text; `Ok(None)` when they leave every number as it is.
///
/// # Errors
/// Says what is wrong with the scale.
pub(super) fn scale(scale: Option<&str>, offset: Option<&str>) -> Result<Option<Scale>, String> {
    let (multiply, divide) = scale.map_or(Ok((1.0, 1.0)), ratio)?;
    let offset = offset.map_or(Ok(0.0), finite)?;
    #[allow(clippy::float_cmp, reason = "1 and 0 are exact")]
    let nothing = multiply == divide && offset == 0.0;
    Ok((!nothing).then_some(Scale { multiply, divide, offset }))
}

/// Writes a decimal as a ratio of two exact numbers: 0.025 is 25 / 1000.
fn ratio(text: &str) -> Result<(f64, f64), String> {
    let value = finite(text)?;
    if value == 0.0 {
        return Err("a scale of 0 would make every value 0".to_owned());
    }
    Ok(exact_ratio(text).unwrap_or((value, 1.0)))
}

fn exact_ratio(text: &str) -> Option<(f64, f64)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let exponent = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let digits = format!("{whole}{fraction}");
    let power = usize::try_from(exponent.unsigned_abs()).ok()?;
    if exponent >= 0 || power > MAX_EXACT_POWER || digits.len() > MAX_EXACT_DIGITS {
        return None;
    }
    Some((digits.parse().ok()?, format!("1e{power}").parse().ok()?))
}

/// Takes a limit: a number that is not negative.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn limit(text: &str) -> Result<f64, String> {
    let value = finite(text)?;
    if value < 0.0 { Err(format!("{text} is below 0")) } else { Ok(value) }
}

/// Takes a number.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn finite(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().map_err(|_| format!("{text} is no decimal number"))?;
    if value.is_finite() { Ok(value) } else { Err(format!("{text} is not finite")) }
}

/// Turns a marker for "no value" into the bits that the registers, or the bit field, hold in `ABCD` order: hex is the bits
/// themselves, anything else a number of the type.
///
/// # Errors
/// Says why the type cannot hold it.
pub(super) fn marker(text: &str, value_type: ValueType) -> Result<u64, String> {
    let width = match value_type {
        ValueType::Bits(field) => u32::from(field.width()),
        _ => u32::from(value_type.registers()) * 16,
    };
    let max = u64::MAX >> (64 - width);
    let fits = |bits: Option<u64>| {
        bits.filter(|bits| *bits <= max).ok_or_else(|| format!("{text} does not fit the {width} bits of its type"))
    };
    if let Some(radix) = [("0x", 16), ("0o", 8), ("0b", 2)].iter().find(|(prefix, _)| text.starts_with(prefix)) {
        return fits(u64::from_str_radix(text.get(2..).unwrap_or_default(), radix.1).ok());
    }
    match value_type {
        ValueType::Bool => Err("one bit cannot say that it has no value".to_owned()),
        ValueType::F32 => finite(text).and_then(|_| {
            let single = text.parse::<f32>().ok().filter(|single| single.is_finite());
            single.map(|single| u64::from(single.to_bits())).ok_or_else(|| format!("{text} does not fit an f32"))
        }),
        ValueType::F64 => finite(text).map(f64::to_bits),
        ValueType::I16 | ValueType::I32 | ValueType::I64 => {
            let number = text.parse::<i64>().ok().filter(|number| {
                let half = i64::MAX >> (64 - width);
                (-half - 1..=half).contains(number)
            });
            fits(number.map(|number| number.cast_unsigned() & max))
        }
        ValueType::Bcd16 | ValueType::Bcd32 | ValueType::Bcd64 => {
            fits(u64::from_str_radix(text, 16).ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())))
        }
        ValueType::U16 | ValueType::U32 | ValueType::U64 | ValueType::Bits(_) => fits(text.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use ganglion_protocols::modbus::{BitField, ValueType};
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> (f64, f64, f64) {
        let scale = scale(Some(text), None).expect("a scale").expect("not 1");
        (scale.multiply, scale.divide, scale.offset)
    }

    #[test]
    fn a_decimal_scale_becomes_an_exact_division() {
        assert_eq!(parts("0.001"), (1.0, 1000.0, 0.0));
        assert_eq!(parts("-0.0250"), (-25.0, 1000.0, 0.0));
        assert_eq!(parts("1.5"), (15.0, 10.0, 0.0));
        assert_eq!(parts("1e-3"), (1.0, 1000.0, 0.0));
        assert_eq!(parts("+2.5E-1"), (25.0, 100.0, 0.0));
        assert_eq!(parts("10"), (10.0, 1.0, 0.0));
        assert_eq!(parts("1.5e3"), (1500.0, 1.0, 0.0));
        assert_eq!(parts("0.30000000000000004"), (0.300_000_000_000_000_04, 1.0, 0.0));
    }

    #[test]
    fn scale_one_and_offset_nothing_leave_the_number_as_it_is() {
        for one in ["1", "1.0", "1e0", "10e-1"] {
            assert_eq!(scale(Some(one), Some("0.0")), Ok(None), "{one}");
        }
        assert_eq!(scale(None, None), Ok(None));
        assert_eq!(scale(None, Some("-40")), Ok(Some(Scale { multiply: 1.0, divide: 1.0, offset: -40.0 })));
    }

    #[test]
    fn a_scale_that_is_no_scale_is_refused() {
        for text in ["0", "-0.0", "inf", "nan", "0x10", "1e400"] {
            assert!(scale(Some(text), None).is_err(), "{text}");
        }
    }

    #[test]
    fn a_marker_is_the_bits_of_its_registers() {
        assert_eq!(marker("0xFFFF", ValueType::U16), Ok(0xFFFF));
        assert_eq!(marker("-32768", ValueType::I16), Ok(0x8000));
        assert_eq!(marker("-1", ValueType::I64), Ok(u64::MAX));
        assert_eq!(marker("9999", ValueType::Bcd16), Ok(0x9999));
        assert_eq!(marker("0x7FC00000", ValueType::F32), Ok(0x7FC0_0000));
        assert_eq!(marker("-9999", ValueType::F32), Ok(u64::from((-9999.0_f32).to_bits())));
        assert_eq!(marker("-9999.0", ValueType::F64), Ok((-9999.0_f64).to_bits()));
        assert_eq!(marker("7", ValueType::Bits(BitField::new(0, 3).expect("a field"))), Ok(7));
    }

    #[test]
    fn a_marker_that_its_type_cannot_hold_is_refused() {
        let wrong = [
            ("0x10000", ValueType::U16),
            ("-1", ValueType::U16),
            ("32768", ValueType::I16),
            ("12345", ValueType::Bcd16),
            ("1.5", ValueType::I32),
            ("nan", ValueType::F32),
            ("1e39", ValueType::F32),
            ("1", ValueType::Bool),
        ];
        for (text, value_type) in wrong {
            assert!(marker(text, value_type).is_err(), "{text} in {value_type:?}");
        }
    }

    proptest! {
        #[test]
        fn a_scaled_register_is_the_nearest_number_to_its_decimal(raw in 0_u16.., places in 1_usize..8) {
            let (multiply, divide, _) = parts(&format!("{}1", "0.".to_owned() + &"0".repeat(places - 1)));
            let digits = format!("{raw:0>width$}", width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            let nearest: f64 = format!("{whole}.{fraction}").parse().expect("a decimal");
            prop_assert_eq!(f64::from(raw) * multiply / divide, nearest);
        }

        #[test]
        fn any_text_is_a_number_of_the_type_or_refused(text in "[-+0-9a-fxobXEe._]{0,30}", place in 0_usize..4) {
            let value_type = [ValueType::U16, ValueType::I32, ValueType::F64, ValueType::Bcd64][place];
            if let Ok(Some(scale)) = scale(Some(&text), Some(&text)) {
                prop_assert!(scale.multiply.is_finite() && scale.divide.is_finite() && scale.divide != 0.0);
            }
            if let Ok(bits) = marker(&text, value_type) {
                prop_assert!(bits <= u64::MAX >> (64 - 16 * value_type.registers()));
            }
        }
    }
}
