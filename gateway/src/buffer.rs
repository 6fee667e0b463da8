//! Makes observations durable and hands them to deliver, oldest first.

use std::sync::Arc;

use ganglion_protocols::{Clock, Cri, Reading, Timestamp};

use crate::site::NamedProperty;

/// Place in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position(u64);

/// Durable observations, in the order of the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Chunk {
    /// Where the log goes on after them.
    pub end: Position,
    /// The observations.
    pub observations: Vec<Stored>,
}

/// An observation as the log holds it.
#[derive(Clone, PartialEq, Debug)]
pub struct Stored {
    /// Whose readings, and what they mean.
    pub shape: Arc<StoredShape>,
    /// Number among all observations of its resource.
    pub seq: u64,
    /// Time of measurement.
    pub t: Timestamp,
    /// State of the clock then.
    pub clock: Clock,
    /// One reading for each property of the shape.
    pub readings: Vec<Reading>,
}

/// What the observations of one resource look like, as the log holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredShape {
    /// The resource observed.
    pub resource: Cri,
    /// Domain of its class.
    pub domain: String,
    /// Edition of the code directory.
    pub directory: String,
    /// The properties, in the order of the readings.
    pub properties: Vec<NamedProperty>,
}

/// The reading end of the log.
#[derive(Debug)]
pub struct Outlet(());

impl Outlet {
    /// Waits for durable observations after those already read.
    pub async fn next(&mut self) -> Option<Chunk> {
        None
    }

    /// Says that everything before `up_to` is delivered.
    pub fn acknowledge(&self, _up_to: Position) {}

    /// Goes back to the first unacknowledged observation.
    pub fn rewind(&mut self) {}
}
