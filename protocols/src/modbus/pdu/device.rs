//! Device identification, function 0x2B type 0x0E.

use super::error::{Defect, PduError};
use crate::bytes::{Full, Writer};

/// An answer to read device identification.
///
/// Source: Application Protocol V1.1b3 §6.21.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceId<'a> {
    /// Read device id code as asked: 1 basic, 2 regular, 3 extended, 4 one object.
    pub level: u8,
    /// What the device can say: 0x01..=0x03 as stream only, 0x81..=0x83 also one object. Others are kept.
    pub conformity: u8,
    /// Whether another request is needed for the rest.
    pub more_follows: bool,
    /// The object to ask for next, when more follows; otherwise 0.
    pub next_object: u8,
    /// The objects of this answer.
    pub objects: DeviceObjects<'a>,
}

/// One object of a device identification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceObject<'a> {
    /// 0 vendor name, 1 product code, 2 revision, 3 vendor URL, 4 product name, 5 model name, 6 application name; from
    /// 0x80 the vendor's own.
    pub id: u8,
    /// Its text; ASCII by the standard, whatever the device sends in fact.
    pub value: &'a [u8],
}

/// Objects behind their count; each id, length, text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceObjects<'a>(&'a [u8]);

impl<'a> DeviceObjects<'a> {
    /// Takes the count and as many objects, and nothing else.
    ///
    /// # Errors
    /// With `at` counted from the count.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PduError> {
        let truncated = || PduError {
            at: bytes.len(),
            what: Defect::Truncated { needed: bytes.len().saturating_add(1), got: bytes.len() },
        };
        let (count, mut rest) = bytes.split_first().ok_or_else(truncated)?;
        for _ in 0..*count {
            (_, rest) = Self::take(rest).ok_or_else(truncated)?;
        }
        if rest.is_empty() {
            Ok(Self(bytes))
        } else {
            let expected = bytes.len().saturating_sub(rest.len());
            Err(PduError { at: expected, what: Defect::TrailingBytes { expected, got: bytes.len() } })
        }
    }

    fn take(bytes: &'a [u8]) -> Option<(DeviceObject<'a>, &'a [u8])> {
        let (&[id, len], rest) = bytes.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(len.into())?;
        Some((DeviceObject { id, value }, rest))
    }

    /// Returns count and objects as they lie on the wire.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns the objects in order.
    pub fn iter(self) -> impl Iterator<Item = DeviceObject<'a>> + Clone + 'a {
        let mut rest = self.0.get(1..).unwrap_or_default();
        core::iter::from_fn(move || {
            let (object, after) = Self::take(rest)?;
            rest = after;
            Some(object)
        })
    }
}

impl<'a> DeviceId<'a> {
    /// Takes what follows the type 0x0E.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, PduError> {
        let [level, conformity, more, next_object, objects @ ..] = data else {
            return Err(PduError { at: data.len(), what: Defect::Truncated { needed: 5, got: data.len() } });
        };
        let more_follows = match more {
            0x00 => false,
            0xFF => true,
            &got => return Err(PduError { at: 2, what: Defect::MoreFollows { got } }),
        };
        let objects = DeviceObjects::parse(objects).map_err(|error| error.further(4))?;
        let (level, conformity, next_object) = (self::level(0, *level)?, *conformity, *next_object);
        Ok(Self { level, conformity, more_follows, next_object, objects })
    }

    /// Puts what follows the type 0x0E.
    pub(super) fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        let more = if self.more_follows { 0xFF } else { 0x00 };
        out.put(&[self.level, self.conformity, more, self.next_object])?;
        out.put(self.objects.0)
    }
}

/// Takes a read device id code, 1..=4.
pub(super) const fn level(at: usize, got: u8) -> Result<u8, PduError> {
    if got >= 1 && got <= 4 { Ok(got) } else { Err(PduError { at, what: Defect::DeviceIdLevel { got } }) }
}
