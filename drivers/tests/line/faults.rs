//! What goes wrong, how often, and how often it did.

use std::time::Duration;

/// Chances of faults, each in a million.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A request is lost.
    pub drop_request: u32,
    /// One to three bits of a request are wrong.
    pub flip_request: u32,
    /// Bytes of a request are random.
    pub spoil_request: u32,
    /// An answer is lost.
    pub drop: u32,
    /// An answer comes late, by a time within `late_by`.
    pub late: u32,
    /// How late, beyond the unit's turnaround.
    pub late_by: (Duration, Duration),
    /// An answer comes twice, the second time at once.
    pub duplicate: u32,
    /// One to three bits of an answer are wrong: a CRC always finds it.
    pub flip: u32,
    /// Bytes of an answer are random, alone or in a burst: a CRC misses one in 65536.
    pub spoil: u32,
    /// An answer ends early.
    pub truncate: u32,
    /// An answer bears a unit id that no unit has.
    pub wrong_unit: u32,
    /// An answer holds one register less than asked for.
    pub wrong_length: u32,
    /// One to four random bytes come before, and with the same chance after, an answer.
    pub stray: u32,
    /// Another client asks a unit, once a request, at a time within `foreign_within` after it.
    pub foreign: u32,
    /// See [`foreign`](Self::foreign).
    pub foreign_within: Duration,
    /// The other client does not wait for silence.
    pub rude: u32,
    /// The client hears what it sends.
    pub echo: bool,
}

/// What was injected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Frames the client sent.
    pub requests: u64,
    /// As of [`Faults::drop_request`].
    pub requests_dropped: u64,
    /// As of [`Faults::flip_request`].
    pub requests_flipped: u64,
    /// As of [`Faults::spoil_request`].
    pub requests_spoiled: u64,
    /// As of [`Faults::drop`].
    pub dropped: u64,
    /// As of [`Faults::late`].
    pub late: u64,
    /// As of [`Faults::duplicate`].
    pub duplicated: u64,
    /// As of [`Faults::flip`].
    pub flipped: u64,
    /// As of [`Faults::spoil`].
    pub spoiled: u64,
    /// As of [`Faults::truncate`].
    pub truncated: u64,
    /// As of [`Faults::wrong_unit`].
    pub wrong_unit: u64,
    /// As of [`Faults::wrong_length`].
    pub wrong_length: u64,
    /// Times that stray bytes came.
    pub strays: u64,
    /// Requests of another client.
    pub foreign: u64,
    /// Times that two talked at once.
    pub collisions: u64,
}

impl Ledger {
    /// Says whether every kind of fault was injected; stray bytes and collisions included, an echo not.
    pub fn is_complete(&self) -> bool {
        let Self {
            requests,
            requests_dropped,
            requests_flipped,
            requests_spoiled,
            dropped,
            late,
            duplicated,
            flipped,
            spoiled,
            truncated,
            wrong_unit,
            wrong_length,
            strays,
            foreign,
            collisions,
        } = *self;
        let requests = [requests, requests_dropped, requests_flipped, requests_spoiled];
        let answers = [dropped, late, duplicated, flipped, spoiled, truncated, wrong_unit, wrong_length, strays];
        !requests.iter().chain(&answers).chain(&[foreign, collisions]).any(|&count| count == 0)
    }
}
