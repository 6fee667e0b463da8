//! What a client heard beside the answers it waited for.

/// Counters of one client, from its beginning; none ever wraps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Requests sent, broadcasts included.
    pub requests: u64,
    /// Answers believed.
    pub answers: u64,
    /// Exception answers believed.
    pub refusals: u64,
    /// Exchanges that failed, for whatever reason.
    pub failures: u64,
    /// Own requests heard back, from an adapter that hears what it sends.
    pub echoes: u64,
    /// Well-formed requests of other clients.
    pub foreign_requests: u64,
    /// Well-formed answers that nobody seems to have asked for: of another unit, function or length, or repeated.
    pub unasked_answers: u64,
    /// Answers to requests given up before, own or of another client, and answers that could be such.
    pub late_answers: u64,
    /// Frames with the header of the answer waited for and a wrong CRC.
    pub crc_errors: u64,
    /// Bytes that were part of no frame.
    pub noise_bytes: u64,
    /// Requests sent although the line never fell silent.
    pub babbled: u64,
}

/// Adds to a counter without ever wrapping.
pub(super) fn add(counter: &mut u64, count: usize) {
    *counter = counter.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
}
