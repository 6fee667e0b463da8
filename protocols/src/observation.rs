//! What was seen of one resource at one time.

use crate::cri::Cri;
use crate::quality::Quality;
use crate::time::Timestamp;

/// A typed value in the unit of its property.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value {
    /// A state: on or off, open or closed.
    Bool(bool),
    /// A whole number that may be negative.
    Int(i64),
    /// A whole number, such as a counter: kept exactly over all 64 bits.
    Uint(u64),
    /// A measured quantity in IEEE 754 binary32, as the device sent it: written with the digits it has, `221.4` and not
    /// `221.39999389648438`. Finite: what is no number becomes a reading without a value.
    Single(f32),
    /// A measured quantity in IEEE 754 binary64. Finite.
    Double(f64),
}

/// One property's value in an observation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// The value, if there is one to show; a bad reading may carry none.
    pub value: Option<Value>,
    /// How far the value may be trusted.
    pub quality: Quality,
}

/// Name and unit of one observable property of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Property<'a> {
    /// Name from the code directory, with an optional channel: `pressure`, `vehicle_count.3`. At most 255 bytes.
    pub name: &'a str,
    /// UCUM unit, `1` for a pure number. At most 255 bytes.
    pub unit: &'a str,
}

/// What one stream of observations looks like: whose they are, and what each reading means by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape<'a> {
    /// The resource observed.
    pub resource: Cri,
    /// Domain of its class in the code directory, a topic level: `water`, `traffic`, … At most 255 bytes.
    pub domain: &'a str,
    /// Edition of the code directory that names the properties. At most 255 bytes.
    pub directory: &'a str,
    /// The properties, in the order of every observation's readings.
    pub properties: &'a [Property<'a>],
}

/// Readings of one resource taken together, numbered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Observation<'a> {
    /// Whose readings, and what they mean.
    pub shape: Shape<'a>,
    /// Number of this observation among all of its resource, from 1, without gaps, for the life of the store.
    pub seq: u64,
    /// Time of measurement: arrival of the last answer that contributed.
    pub t: Timestamp,
    /// One reading for each property of the shape, in its order.
    pub readings: &'a [Reading],
}
