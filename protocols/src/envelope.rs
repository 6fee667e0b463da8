//! The payload the city brain receives: contract v1, JSON or any other serde format.
//!
//! `{v, gw, epoch, dir, clock, obs:[{id, seq, t, p:{pressure:{v, u, q}}}]}`. A reading that is not good carries its
//! reason in `r`; one without a value carries `v: null`.

use serde::{Serialize, Serializer, ser::SerializeMap, ser::SerializeStruct};

use crate::cri::Cri;
use crate::gap::Gap;
use crate::observation::{Observation, Property, Reading, Value};
use crate::time::Clock;

/// Version of the contract, the `v` of every envelope.
pub const CONTRACT_VERSION: u8 = 1;

/// One message's payload: who speaks, on which terms, and what was observed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Envelope<'a> {
    /// The gateway that speaks.
    pub gateway: Cri,
    /// Identity of the store that numbers the observations; changes only when the store is created anew.
    pub epoch: u64,
    /// Edition of the code directory the names are from.
    pub directory: &'a str,
    /// State of the clock for every observation below.
    pub clock: Clock,
    /// The observations, oldest first.
    pub observations: &'a [Observation<'a>],
}

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Envelope", 6)?;
        out.serialize_field("v", &CONTRACT_VERSION)?;
        out.serialize_field("gw", &self.gateway)?;
        out.serialize_field("epoch", &Hex(self.epoch))?;
        out.serialize_field("dir", self.directory)?;
        out.serialize_field("clock", &self.clock)?;
        out.serialize_field("obs", self.observations)?;
        out.end()
    }
}

/// One message's payload of declared loss.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GapEnvelope<'a> {
    /// The gateway that speaks.
    pub gateway: Cri,
    /// Identity of the store that numbered the observations.
    pub epoch: u64,
    /// What is lost.
    pub gaps: &'a [Gap],
}

impl Serialize for GapEnvelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("GapEnvelope", 4)?;
        out.serialize_field("v", &CONTRACT_VERSION)?;
        out.serialize_field("gw", &self.gateway)?;
        out.serialize_field("epoch", &Hex(self.epoch))?;
        out.serialize_field("gap", self.gaps)?;
        out.end()
    }
}

/// The epoch as sixteen hex digits: a JSON number would lose bits above 2^53 in many consumers.
struct Hex(u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl Serialize for Observation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Observation", 4)?;
        out.serialize_field("id", &self.shape.resource)?;
        out.serialize_field("seq", &self.seq)?;
        out.serialize_field("t", &self.t)?;
        out.serialize_field("p", &Readings { properties: self.shape.properties, readings: self.readings })?;
        out.end()
    }
}

struct Readings<'a> {
    properties: &'a [Property<'a>],
    readings: &'a [Reading],
}

impl Serialize for Readings<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(Some(self.readings.len().min(self.properties.len())))?;
        for (property, reading) in self.properties.iter().zip(self.readings) {
            out.serialize_entry(property.name, &ReadingInUnit { unit: property.unit, reading })?;
        }
        out.end()
    }
}

/// One property of an observation's `p`: `{v, u, q}`, with the reason in `r` when the quality is not good.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ReadingInUnit<'a> {
    /// UCUM unit.
    pub unit: &'a str,
    /// Value and quality.
    pub reading: &'a Reading,
}

impl Serialize for ReadingInUnit<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reason = self.reading.quality.reason();
        let mut out = serializer.serialize_struct("Reading", if reason.is_some() { 4 } else { 3 })?;
        out.serialize_field("v", &self.reading.value)?;
        out.serialize_field("u", self.unit)?;
        out.serialize_field("q", self.reading.quality.as_str())?;
        match reason {
            Some(reason) => out.serialize_field("r", &AsText(reason))?,
            None => out.skip_field("r")?,
        }
        out.end()
    }
}

struct AsText<T>(T);

impl<T: core::fmt::Display> Serialize for AsText<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Bool(value) => serializer.serialize_bool(value),
            Self::Int(value) => serializer.serialize_i64(value),
            Self::Uint(value) => serializer.serialize_u64(value),
            Self::Single(value) => serializer.serialize_f32(value),
            Self::Double(value) => serializer.serialize_f64(value),
        }
    }
}
