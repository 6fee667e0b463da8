//! City resource identifier (CRI, 城市资源标识): which thing of the city.
//!
//! | part | digits | from |
//! |---|---|---|
//! | [`Division`] | 6 | GB/T 2260 administrative division |
//! | [`Class`] | 2 + 2 | GB/T 30428.2 major and minor class |
//! | [`Serial`] | 6 | issued once by the city, never reused |
//! | check digits | 2 | ISO/IEC 7064 MOD 97-10 over the sixteen digits before them |
//!
//! The text form is `620602-9101-000007-05`; the binary form is the sixteen digits as one `u64`, whose upper ten bits
//! are a namespace, 0 today. Text and binary are lossless both ways. Whether a division or class is *known* is a
//! question for the code directory, not for this module.

use core::fmt;
use core::str::FromStr;

use serde::{Serialize, Serializer};

/// Identifies one resource of the city, for ever.
///
/// Source: GB/T 30428.2 (part code), ISO/IEC 7064 (MOD 97-10). The order of values is the order by place, class,
/// serial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cri(u64);

impl Cri {
    /// Length of the canonical text, `dddddd-cccc-ssssss-kk`.
    pub const TEXT_LEN: usize = 21;

    /// Joins the parts; every combination of valid parts is a valid identifier.
    #[must_use]
    pub const fn new(division: Division, class: Class, serial: Serial) -> Self {
        let code = (division.0 as u64)
            .saturating_mul(10_000_000_000)
            .saturating_add((class.0 as u64).saturating_mul(1_000_000))
            .saturating_add(serial.0 as u64);
        Self(code)
    }

    /// Takes the binary form.
    ///
    /// # Errors
    /// [`CriError::Namespace`] when one of the upper ten bits is set, [`CriError::Code`] when the value has more than
    /// sixteen digits, otherwise the error of the part that is out of range.
    pub fn from_bits(bits: u64) -> Result<Self, CriError> {
        let namespace = bits >> 54;
        if namespace != 0 {
            return Err(CriError::Namespace { got: namespace });
        }
        let division = u32::try_from(bits / 10_000_000_000).map_err(|_| CriError::Code { got: bits })?;
        let class = u16::try_from(bits / 1_000_000 % 10_000).map_err(|_| CriError::Code { got: bits })?;
        let serial = u32::try_from(bits % 1_000_000).map_err(|_| CriError::Code { got: bits })?;
        if division > 999_999 {
            return Err(CriError::Code { got: bits });
        }
        Ok(Self::new(Division::new(division)?, Class::new(class)?, Serial::new(serial)?))
    }

    /// Returns the binary form: sixteen decimal digits in the low 54 bits, namespace 0 above.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Takes a bare sixteen-digit part code, as a city system exports it; for code tables, not for what a person types.
    ///
    /// # Errors
    /// As for parsing, with [`CriError::Length`] counting sixteen digits.
    pub fn from_part_code(text: &str) -> Result<Self, CriError> {
        let (digits, count) = digits::<16>(text)?;
        if count != 16 {
            return Err(CriError::Length { digits: count, expected: 16 });
        }
        Self::from_bits(number(&digits))
    }

    /// Returns the administrative division, GB/T 2260.
    #[must_use]
    pub const fn division(self) -> Division {
        Division((self.0 / 10_000_000_000) as u32)
    }

    /// Returns the class, GB/T 30428.2 or the city's own.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "a remainder of 10 000 fits 16 bits")]
    pub const fn class(self) -> Class {
        Class((self.0 / 1_000_000 % 10_000) as u16)
    }

    /// Returns the serial within division and class.
    #[must_use]
    pub const fn serial(self) -> Serial {
        Serial((self.0 % 1_000_000) as u32)
    }

    /// Returns the two check digits, 2..=98.
    ///
    /// Source: ISO/IEC 7064 MOD 97-10: all eighteen digits as one number leave remainder 1 modulo 97.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "98 minus a remainder of 97 fits 8 bits")]
    pub const fn check_digits(self) -> u8 {
        let remainder = (self.0 % 97).saturating_mul(100) % 97;
        98_u64.saturating_sub(remainder) as u8
    }
}

impl FromStr for Cri {
    type Err = CriError;

    /// Takes the eighteen digits with or without hyphens and spaces, and the URI form `cri:…`.
    fn from_str(text: &str) -> Result<Self, CriError> {
        let body = text.strip_prefix("cri:").unwrap_or(text);
        let (digits, count) = digits::<18>(body)?;
        if count != 18 {
            return Err(CriError::Length { digits: count, expected: 18 });
        }
        let all = number(&digits);
        let (code, check) = (all / 100, all % 100);
        let cri = Self::from_bits(code)?;
        if u64::from(cri.check_digits()) == check {
            Ok(cri)
        } else {
            Err(CriError::CheckDigits { got: u8::try_from(check).unwrap_or(u8::MAX), code })
        }
    }
}

impl fmt::Display for Cri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{:02}", self.division(), self.class(), self.serial(), self.check_digits())
    }
}

impl fmt::Debug for Cri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Cri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Administrative division, six digits.
///
/// Source: GB/T 2260: the first two digits name the province-level unit and are 11..=91.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Division(u32);

impl Division {
    /// Takes the six digits as a number.
    ///
    /// # Errors
    /// [`CriError::Division`] outside 110000..=919999.
    pub const fn new(code: u32) -> Result<Self, CriError> {
        if code >= 110_000 && code <= 919_999 { Ok(Self(code)) } else { Err(CriError::Division { got: code }) }
    }

    /// Returns the six digits as a number.
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Division {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// Resource class: major and minor, two digits each.
///
/// Source: GB/T 30428.2; majors 01 to 06 national, 21 and up the city's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Class(u16);

impl Class {
    /// Takes the four digits as a number.
    ///
    /// # Errors
    /// [`CriError::Class`] when the major or the minor is 00, or the number has more than four digits.
    pub const fn new(code: u16) -> Result<Self, CriError> {
        if code <= 9_999 && code / 100 != 0 && !code.is_multiple_of(100) {
            Ok(Self(code))
        } else {
            Err(CriError::Class { got: code })
        }
    }

    /// Returns the four digits as a number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Returns the major class, 1..=99.
    #[must_use]
    pub const fn major(self) -> u16 {
        self.0 / 100
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

/// Serial of a resource within its division and class, 0..=999999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Serial(u32);

impl Serial {
    /// Takes the six digits as a number.
    ///
    /// # Errors
    /// [`CriError::Serial`] above 999999.
    pub const fn new(number: u32) -> Result<Self, CriError> {
        if number <= 999_999 { Ok(Self(number)) } else { Err(CriError::Serial { got: number }) }
    }

    /// Returns the serial as a number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// Why a text or number is not an identifier: names the part that is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CriError {
    /// The text holds something that is neither a digit, a hyphen nor a space.
    Character {
        /// The character.
        got: char,
        /// Its place in the text, in bytes from 0, after a `cri:` prefix.
        at: usize,
    },
    /// The text does not hold the expected count of digits.
    Length {
        /// Digits found; one more than `expected` stands for any longer text.
        digits: usize,
        /// 18 for an identifier with check digits, 16 for a bare part code.
        expected: usize,
    },
    /// The first six digits are no GB/T 2260 division.
    Division {
        /// The six digits as a number.
        got: u32,
    },
    /// Digits 7 to 10 are no class.
    Class {
        /// The four digits as a number.
        got: u16,
    },
    /// The serial has more than six digits.
    Serial {
        /// The serial as a number.
        got: u32,
    },
    /// The check digits do not belong to the sixteen digits before them. They are never repaired.
    CheckDigits {
        /// The two digits found.
        got: u8,
        /// The sixteen digits before them.
        code: u64,
    },
    /// The binary form carries a namespace other than 0.
    Namespace {
        /// The upper ten bits.
        got: u64,
    },
    /// The binary form has more than sixteen digits.
    Code {
        /// The number.
        got: u64,
    },
}

impl fmt::Display for CriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Character { got, at } => {
                write!(f, "character {got:?} at {at} is not a digit, a hyphen or a space")
            }
            Self::Length { digits, expected } if digits > expected => {
                write!(f, "more than {expected} digits")
            }
            Self::Length { digits, expected } => write!(f, "{digits} digits, {expected} are needed"),
            Self::Division { got } => {
                write!(f, "division {got:06} is outside 110000..=919999 (GB/T 2260)")
            }
            Self::Class { got } => write!(f, "class {got:04} has a major or minor of 00"),
            Self::Serial { got } => write!(f, "serial {got} is above 999999"),
            Self::CheckDigits { got, code } => {
                write!(f, "check digits {got:02} do not belong to {code:016}: at least one digit is wrong")
            }
            Self::Namespace { got } => write!(f, "namespace {got} is not assigned, only 0 is"),
            Self::Code { got } => write!(f, "{got} has more than 16 digits"),
        }
    }
}

impl core::error::Error for CriError {}

/// Collects the digits of `text`, left to right; a count of `N + 1` says that there were more than `N`.
fn digits<const N: usize>(text: &str) -> Result<([u8; N], usize), CriError> {
    let mut out = [0_u8; N];
    let mut count = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '0'..='9' => {
                match out.get_mut(count) {
                    Some(slot) => *slot = u8::try_from(u32::from(c)).unwrap_or(b'0').saturating_sub(b'0'),
                    None => return Ok((out, N.saturating_add(1))),
                }
                count = count.saturating_add(1);
            }
            '-' | ' ' => {}
            got => return Err(CriError::Character { got, at }),
        }
    }
    Ok((out, count))
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |n: u64, &d| n.saturating_mul(10).saturating_add(u64::from(d)))
}
