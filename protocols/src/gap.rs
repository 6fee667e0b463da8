//! Declared loss: which observations of a resource will never come, and why.

use core::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::cri::Cri;
use crate::time::Timestamp;

/// Observations of one resource that are lost: `count` of the numbers `first..=last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    resource: Cri,
    first: u64,
    last: u64,
    count: u64,
    from: Timestamp,
    to: Timestamp,
    cause: LossCause,
}

/// Why observations are lost. Codes are part of the record format and never change their meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LossCause {
    /// The quota was spent and the oldest went, or the newest were not taken.
    Quota,
    /// They were on disk and cannot be read any more.
    Damaged,
    /// The disk was full.
    DiskFull,
    /// The disk was read-only.
    ReadOnly,
    /// The disk refused for another reason.
    DiskError,
    /// One observation alone is longer than a segment of the buffer.
    TooLong,
    /// The broker does not authorise the topic (PUBACK 0x87).
    NotAuthorised,
    /// The broker does not take the topic name (PUBACK 0x90), or it would be none.
    TopicInvalid,
    /// The broker does not take the payload (PUBACK 0x99), or the observation has no JSON form.
    PayloadInvalid,
    /// One observation alone is larger than the broker's packets.
    PacketTooLarge,
    /// They were accepted and not yet durable when the power went, and later ones survived.
    PowerCut,
    /// The node's own store was full and its oldest went.
    NodeFull,
    /// The node's own store was gone after a restart. How many it held nobody knows: the count is what its period makes likely.
    NodeRestart,
    /// The node's clock was never set in the boot that measured them, and that boot is over.
    Undated,
    /// The node could not read them back from its own store.
    NodeDamaged,
    /// A cause this edition does not know, kept by its code.
    Other(UnknownCause),
}

/// Code of a cause that this edition does not know. Only [`LossCause::from_code`] makes one, so that no known cause has two
/// forms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnknownCause(u8);

impl Gap {
    /// Says that `count` of the numbers `first..=last`, measured between `from` and `to`, are lost. `None` when `first` is
    /// 0 or above `last`, or there are not that many numbers, or none.
    #[must_use]
    pub fn new(
        resource: Cri,
        (first, last): (u64, u64),
        count: u64,
        (from, to): (Timestamp, Timestamp),
        cause: LossCause,
    ) -> Option<Self> {
        let more = count.checked_sub(1)?;
        let possible = first > 0 && last.checked_sub(first)? >= more;
        possible.then_some(Self { resource, first, last, count, from: from.min(to), to: to.max(from), cause })
    }

    /// Says that every one of the numbers `first..=last` is lost. `None` when `first` is 0 or above `last`.
    #[must_use]
    pub fn whole(
        resource: Cri,
        (first, last): (u64, u64),
        span: (Timestamp, Timestamp),
        cause: LossCause,
    ) -> Option<Self> {
        Self::new(resource, (first, last), last.checked_sub(first)?.checked_add(1)?, span, cause)
    }

    /// Returns the resource.
    #[must_use]
    pub const fn resource(&self) -> Cri {
        self.resource
    }

    /// Returns the first number lost.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Returns the last number lost.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Returns how many are lost, at least 1. Where it is less than the numbers `first..=last`, others between them are not lost.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the earliest and the latest time at which a lost one was, or can have been, measured.
    #[must_use]
    pub const fn span(&self) -> (Timestamp, Timestamp) {
        (self.from, self.to)
    }

    /// Returns why.
    #[must_use]
    pub const fn cause(&self) -> LossCause {
        self.cause
    }

    /// Returns one gap that says what both say; `None` when they differ in resource or cause. Numbers that both name are
    /// counted once where each is whole.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Option<Self> {
        if (self.resource, self.cause) != (other.resource, other.cause) {
            return None;
        }
        let (first, last) = (self.first.min(other.first), self.last.max(other.last));
        let most = last.saturating_sub(first).saturating_add(1);
        let both = self.last.min(other.last).saturating_add(1).saturating_sub(self.first.max(other.first));
        let count = self.count.saturating_add(other.count).saturating_sub(both).max(self.count).max(other.count);
        Self::new(
            self.resource,
            (first, last),
            count.min(most),
            (self.from.min(other.from), self.to.max(other.to)),
            self.cause,
        )
    }
}

impl LossCause {
    /// Returns the code kept in records.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Quota => 0x01,
            Self::Damaged => 0x02,
            Self::DiskFull => 0x03,
            Self::ReadOnly => 0x04,
            Self::DiskError => 0x05,
            Self::TooLong => 0x06,
            Self::NotAuthorised => 0x07,
            Self::TopicInvalid => 0x08,
            Self::PayloadInvalid => 0x09,
            Self::PacketTooLarge => 0x0A,
            Self::PowerCut => 0x0B,
            Self::NodeFull => 0x0C,
            Self::NodeRestart => 0x0D,
            Self::Undated => 0x0E,
            Self::NodeDamaged => 0x0F,
            Self::Other(UnknownCause(code)) => code,
        }
    }

    /// Takes the code kept in records; [`code`](Self::code) of the cause is the code again.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0x01 => Self::Quota,
            0x02 => Self::Damaged,
            0x03 => Self::DiskFull,
            0x04 => Self::ReadOnly,
            0x05 => Self::DiskError,
            0x06 => Self::TooLong,
            0x07 => Self::NotAuthorised,
            0x08 => Self::TopicInvalid,
            0x09 => Self::PayloadInvalid,
            0x0A => Self::PacketTooLarge,
            0x0B => Self::PowerCut,
            0x0C => Self::NodeFull,
            0x0D => Self::NodeRestart,
            0x0E => Self::Undated,
            0x0F => Self::NodeDamaged,
            code => Self::Other(UnknownCause(code)),
        }
    }
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quota => "quota",
            Self::Damaged => "damaged",
            Self::DiskFull => "disk-full",
            Self::ReadOnly => "read-only",
            Self::DiskError => "disk-error",
            Self::TooLong => "too-long",
            Self::NotAuthorised => "not-authorised",
            Self::TopicInvalid => "topic-invalid",
            Self::PayloadInvalid => "payload-invalid",
            Self::PacketTooLarge => "packet-too-large",
            Self::PowerCut => "power-cut",
            Self::NodeFull => "node-full",
            Self::NodeRestart => "node-restart",
            Self::Undated => "undated",
            Self::NodeDamaged => "node-damaged",
            Self::Other(UnknownCause(code)) => return write!(f, "other-{code:02x}"),
        })
    }
}

impl Serialize for LossCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Gap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Gap", 7)?;
        out.serialize_field("id", &self.resource)?;
        out.serialize_field("first", &self.first)?;
        out.serialize_field("last", &self.last)?;
        out.serialize_field("n", &self.count)?;
        out.serialize_field("from", &self.from)?;
        out.serialize_field("to", &self.to)?;
        out.serialize_field("r", &self.cause)?;
        out.end()
    }
}
