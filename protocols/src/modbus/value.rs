//! Values that one to four registers hold.
//!
//! Registers come as the wire gives them: each sixteen bits, big-endian (Application Protocol V1.1b3 §4.2). How several
//! registers form one number is the device maker's choice, hence [`WordOrder`].

use core::fmt;

use crate::observation::Value;

/// How the bytes of a value wider than one register are laid over the registers, named for a 32-bit `ABCD`.
///
/// For 64 bits the same four orders hold over four registers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum WordOrder {
    /// High word first, high byte first.
    #[default]
    Abcd,
    /// Low word first, high byte first in each word.
    Cdab,
    /// High word first, low byte first in each word.
    Badc,
    /// Low word first, low byte first.
    Dcba,
}

/// A run of bits in one register: `offset` 0 is the least significant bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BitField {
    offset: u8,
    width: u8,
}

impl BitField {
    /// Takes the place of the lowest bit and the width.
    ///
    /// Returns `None` unless `width` is 1..=16 and the run ends within the register.
    #[must_use]
    pub const fn new(offset: u8, width: u8) -> Option<Self> {
        if width >= 1 && width <= 16 && offset < 16 && offset.saturating_add(width) <= 16 {
            Some(Self { offset, width })
        } else {
            None
        }
    }

    /// Returns the place of the lowest bit, 0..=15.
    #[must_use]
    pub const fn offset(self) -> u8 {
        self.offset
    }

    /// Returns the count of bits, 1..=16.
    #[must_use]
    pub const fn width(self) -> u8 {
        self.width
    }
}

/// What the registers of one point hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ValueType {
    /// One coil or discrete input.
    Bool,
    /// Unsigned, one register.
    U16,
    /// Two's complement, one register.
    I16,
    /// Unsigned, two registers.
    U32,
    /// Two's complement, two registers.
    I32,
    /// Unsigned, four registers.
    U64,
    /// Two's complement, four registers.
    I64,
    /// IEEE 754 binary32, two registers.
    F32,
    /// IEEE 754 binary64, four registers.
    F64,
    /// Packed BCD, four digits, one register.
    Bcd16,
    /// Packed BCD, eight digits, two registers.
    Bcd32,
    /// Packed BCD, sixteen digits, four registers.
    Bcd64,
    /// Some bits of one register: a state when one bit wide, otherwise a number.
    Bits(BitField),
}

impl ValueType {
    /// Returns how many registers the value takes, 1, 2 or 4; a coil or discrete input takes one item.
    #[must_use]
    pub const fn registers(self) -> u16 {
        match self {
            Self::Bool | Self::U16 | Self::I16 | Self::Bcd16 | Self::Bits(_) => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 => 2,
            Self::U64 | Self::I64 | Self::F64 | Self::Bcd64 => 4,
        }
    }

    /// Takes the value out of its registers.
    ///
    /// # Errors
    /// [`ValueError::Registers`] when `registers` is not as long as [`registers`](Self::registers) says,
    /// [`ValueError::BcdDigit`] for a BCD digit above 9, [`ValueError::NotFinite`] for a float that is infinite or no
    /// number.
    pub fn decode(self, registers: &[u16], order: WordOrder) -> Result<Raw, ValueError> {
        let bits = self.bits(registers, order)?;
        let value = match self {
            Self::Bool => Value::Bool(bits != 0),
            Self::U16 | Self::U32 | Self::U64 => Value::Uint(bits),
            Self::I16 => Value::Int(sign_extend(bits, 16)),
            Self::I32 => Value::Int(sign_extend(bits, 32)),
            Self::I64 => Value::Int(sign_extend(bits, 64)),
            Self::F32 => Value::Single(single(bits)?),
            Self::F64 => Value::Double(double(bits)?),
            Self::Bcd16 => Value::Uint(bcd(bits, 4)?),
            Self::Bcd32 => Value::Uint(bcd(bits, 8)?),
            Self::Bcd64 => Value::Uint(bcd(bits, 16)?),
            Self::Bits(field) if field.width == 1 => Value::Bool(bits != 0),
            Self::Bits(_) => Value::Uint(bits),
        };
        Ok(Raw { value, bits })
    }

    /// Joins the registers into one number in `ABCD` order, of which a bit field takes its bits, whatever they hold: a device's marker for "no value" may be
    /// a NaN or a BCD digit above 9, which [`decode`](Self::decode) refuses.
    ///
    /// # Errors
    /// [`ValueError::Registers`] when `registers` is not as long as [`registers`](Self::registers) says.
    pub fn bits(self, registers: &[u16], order: WordOrder) -> Result<u64, ValueError> {
        if registers.len() != usize::from(self.registers()) {
            return Err(ValueError::Registers { got: registers.len(), expected: self.registers() });
        }
        let bits = join(registers, order);
        Ok(match self {
            Self::Bits(field) => (bits >> field.offset) & (1_u64 << field.width).wrapping_sub(1),
            _ => bits,
        })
    }
}

/// A value as the device said it: before scale, offset and limits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Raw {
    /// The value.
    pub value: Value,
    /// As of [`ValueType::bits`], to compare with a device's marker for "no value".
    pub bits: u64,
}

/// Why registers hold no value of their type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueError {
    /// Another count of registers than the type takes.
    Registers {
        /// Registers given.
        got: usize,
        /// Registers of the type.
        expected: u16,
    },
    /// A packed BCD digit above 9.
    BcdDigit {
        /// The digit, 10..=15.
        got: u8,
        /// Its place, 0 for the least significant.
        place: u8,
    },
    /// A float that is infinite or not a number.
    NotFinite,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registers { got, expected } => write!(f, "{got} registers, the type takes {expected}"),
            Self::BcdDigit { got, place } => write!(f, "BCD digit {got:X} at place {place} is above 9"),
            Self::NotFinite => f.write_str("the float is infinite or not a number"),
        }
    }
}

impl core::error::Error for ValueError {}

/// Joins registers into one number whose highest byte is `A`.
fn join(registers: &[u16], order: WordOrder) -> u64 {
    let push = |bits: u64, word: u16| (bits << 16) | u64::from(word);
    match order {
        WordOrder::Abcd => registers.iter().fold(0, |bits, &word| push(bits, word)),
        WordOrder::Cdab => registers.iter().rev().fold(0, |bits, &word| push(bits, word)),
        WordOrder::Badc => registers.iter().fold(0, |bits, &word| push(bits, word.swap_bytes())),
        WordOrder::Dcba => registers.iter().rev().fold(0, |bits, &word| push(bits, word.swap_bytes())),
    }
}

#[allow(clippy::cast_possible_wrap, reason = "the sign bit is what is wanted")]
const fn sign_extend(bits: u64, width: u32) -> i64 {
    let unused = 64_u32.saturating_sub(width);
    ((bits << unused) as i64) >> unused
}

#[allow(clippy::cast_possible_truncation, reason = "the caller joined two registers")]
const fn single(bits: u64) -> Result<f32, ValueError> {
    let value = f32::from_bits(bits as u32);
    if value.is_finite() { Ok(value) } else { Err(ValueError::NotFinite) }
}

const fn double(bits: u64) -> Result<f64, ValueError> {
    let value = f64::from_bits(bits);
    if value.is_finite() { Ok(value) } else { Err(ValueError::NotFinite) }
}

#[allow(clippy::cast_possible_truncation, reason = "a digit is four bits")]
fn bcd(bits: u64, digits: u8) -> Result<u64, ValueError> {
    let mut value = 0_u64;
    for place in (0..digits).rev() {
        let digit = (bits >> (u32::from(place).saturating_mul(4))) & 0xF;
        if digit > 9 {
            return Err(ValueError::BcdDigit { got: digit as u8, place });
        }
        value = value.saturating_mul(10).saturating_add(digit);
    }
    Ok(value)
}
