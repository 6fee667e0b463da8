//! What flows between the stages, and how the stages are started, watched and drained.

use std::time::Instant;

use ganglion_protocols::{Clock, Reading, Reason, Timestamp};

use crate::site::{DeviceId, StreamId};

/// One poll of one device, as its answers came: from acquire to normalize.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// The device polled.
    pub device: DeviceId,
    /// When the last answer arrived, or when the poll was given up.
    pub t: Timestamp,
    /// The same on the monotonic clock.
    pub at: Instant,
    /// One entry for each of the device's requests, in its order: the items read (a coil or discrete input is 0 or 1),
    /// as many as were asked for, or why there are none.
    pub answers: Vec<Result<Vec<u16>, Reason>>,
}

/// An observation that the buffer has not numbered yet: from normalize to buffer.
#[derive(Clone, PartialEq, Debug)]
pub struct Unnumbered {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Time of measurement.
    pub t: Timestamp,
    /// State of the clock then.
    pub clock: Clock,
    /// One reading for each property of the stream.
    pub readings: Vec<Reading>,
}
