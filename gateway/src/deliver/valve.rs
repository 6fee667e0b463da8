//! How much of which lane a connection takes next: its pace, the lanes' shares of it, and the broker's largest packet.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use super::cap::Cap;
use super::feed::Cargo;
use super::message::Limits;
use super::pace::Pace;
use super::packet_limit::{Packet, PacketLimit};
use super::share::{Lane, Ready, Room, Share};
use super::window::Window;
use crate::monitor::InFlight;

/// One connection's.
pub(super) struct Valve<'a> {
    pace: Pace,
    share: Share,
    history: &'a mut Cap,
    packets: &'a mut PacketLimit,
    /// Longest payload of a message by the site file.
    max_payload: usize,
    /// Bytes of a packet's properties, at most.
    properties: usize,
    largest_taken: usize,
}

impl<'a> Valve<'a> {
    /// Starts a connection that takes so many messages at once.
    pub(super) fn new(
        (packets, history): (&'a mut PacketLimit, &'a mut Cap),
        backfill_percent: u8,
        max_payload: usize,
        properties: usize,
    ) -> Self {
        let (pace, share) = (Pace::new(Instant::now(), 1), Share::new(backfill_percent));
        Self { pace, share, history, packets, max_payload, properties, largest_taken: 0 }
    }

    /// Notes what the broker said when it accepted the connection.
    pub(super) fn connected(&mut self, messages: usize, packet_max: Option<usize>) {
        self.pace = Pace::new(Instant::now(), messages);
        self.packets.announced(packet_max);
    }

    /// Returns the lane that may send the next message, and how large that may be.
    pub(super) fn next<M>(&mut self, mut ready: Ready, window: &Window<Cargo<M>>) -> Option<(Lane, Limits)> {
        ready.backfill = ready.backfill && self.history.allows(Instant::now());
        let payload = self.max_payload.min(self.pace.payload());
        let room = Room { bytes: self.pace.window(), payload, messages: window.limit(), messages_taken: window.len() };
        let packet = |bytes: usize| bytes.saturating_sub(self.properties);
        let limits =
            Limits { payload: payload.min(packet(self.packets.limit())), packet: packet(self.packets.hopeful()) };
        self.share.next(ready, room).map(|lane| (lane, limits))
    }

    /// Returns the payload bytes that each lane has in flight.
    pub(super) fn in_flight(&self) -> InFlight {
        let bytes = |lane| self.share.bytes_in_flight(lane);
        InFlight { event: bytes(Lane::Event), live: bytes(Lane::Live), backfill: bytes(Lane::Backfill) }
    }

    /// Notes a message handed to the client.
    pub(super) fn sent<M>(&mut self, cargo: &Cargo<M>) {
        if let Some(lane) = cargo.lane {
            self.share.sent(lane, cargo.payload.len());
            self.pace.sent(cargo.sent, cargo.payload.len());
            if lane == Lane::Backfill {
                self.history.sent(cargo.spans.iter().map(|span| span.count).sum());
            }
        }
    }

    /// Notes that the broker answered a message; `taken` is whether it took it.
    pub(super) fn answered<M>(&mut self, cargo: &Cargo<M>, taken: bool) {
        let now = Instant::now();
        if let Some(lane) = cargo.lane {
            self.share.settled(lane, cargo.payload.len());
            self.pace.settled(now, cargo.sent, cargo.payload.len());
        }
        if taken {
            let bytes = self.packet_len(cargo);
            self.largest_taken = self.largest_taken.max(bytes);
            self.packets.taken(now, bytes);
        }
    }

    /// Notes that everything in flight is given back, to be sent again on the same connection.
    pub(super) fn restart<M>(&mut self, window: &Window<Cargo<M>>) {
        let now = Instant::now();
        for cargo in window.unanswered() {
            if let Some(lane) = cargo.lane {
                self.share.settled(lane, cargo.payload.len());
                self.pace.settled(now, now, cargo.payload.len());
            }
        }
    }

    /// Notes the end of the connection; `too_large` is whether the broker named that as the cause. Returns the new limit
    /// when packets are smaller from now on.
    pub(super) fn ended<M>(&mut self, too_large: bool, window: &Window<Cargo<M>>) -> Option<usize> {
        let unacknowledged: Vec<Packet> = window
            .unanswered()
            .map(|cargo| Packet { message: identity(cargo), bytes: self.packet_len(cargo) })
            .collect();
        let smaller = self.packets.ended(Instant::now(), too_large, self.largest_taken, &unacknowledged);
        smaller.then(|| self.packets.limit())
    }

    fn packet_len<M>(&self, cargo: &Cargo<M>) -> usize {
        cargo.payload.len() + cargo.topic.len() + self.properties
    }
}

/// Tells a message from others, the same when it is sent again.
fn identity<M>(cargo: &Cargo<M>) -> u64 {
    let mut hasher = DefaultHasher::new();
    cargo.topic.hash(&mut hasher);
    cargo.spans.first().map(|span| (span.resource, span.first)).hash(&mut hasher);
    hasher.finish()
}
