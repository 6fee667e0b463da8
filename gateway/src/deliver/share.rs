//! Which lane may send the next message of one connection.
//!
//! Three lanes share the bytes and the messages that may be in flight (decision 0005):
//! - **event** goes before the others, and counts its own bytes only: an alarm never waits until telemetry is acknowledged,
//!   for it is sent though the others fill the window.
//! - **live** comes next, into what the window still takes.
//! - **backfill** takes what they leave. While one of them waits, it holds at most its configured share of the window, or
//!   one message; and live does not starve it: of the bytes that are sent while it waits a twentieth is its own, even
//!   where its share is less.
//!
//! Of the messages that may be in flight, a few are kept for the lanes before: a window by count that backfill filled would
//! make an alarm wait for the oldest acknowledgement. Pure: no I/O, no clock.

/// A way that observations take to the broker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Lane {
    /// Events, from the event log.
    Event,
    /// Telemetry of now.
    Live,
    /// Telemetry of the past.
    Backfill,
}

/// Which lanes have something to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Ready {
    /// An event waits.
    pub(super) event: bool,
    /// Telemetry of now waits.
    pub(super) live: bool,
    /// Telemetry of the past waits.
    pub(super) backfill: bool,
}

/// What the connection takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Room {
    /// Payload bytes that may be in flight.
    pub(super) bytes: usize,
    /// Payload bytes the next message may have.
    pub(super) payload: usize,
    /// Messages that may be between the oldest unacknowledged one and the newest.
    pub(super) messages: usize,
    /// How many are.
    pub(super) messages_taken: usize,
}

/// The lanes of one connection, and what each has in flight.
#[derive(Clone, Debug)]
pub(super) struct Share {
    percent: usize,
    in_flight: [InFlight; 3],
    /// Bytes that others may still send before backfill goes before live. Negative: they sent more than that.
    others: i64,
    /// Backfill had something to send when last asked.
    backfill_waits: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct InFlight {
    messages: usize,
    bytes: usize,
}

/// Bytes of the others for each byte of backfill that waits: a twentieth is its own.
const OTHERS: i64 = 19;
/// Of so many messages that may be in flight, one is kept for events.
const KEPT_FOR_EVENTS: usize = 8;
/// Of so many messages that may be in flight, one is never backfill's.
const KEPT_FROM_BACKFILL: usize = 4;

impl Share {
    /// Starts with nothing in flight; backfill's share of the window is in percent, 1 to 100.
    pub(super) fn new(percent: u8) -> Self {
        Self {
            percent: usize::from(percent.clamp(1, 100)),
            in_flight: [InFlight::default(); 3],
            others: 0,
            backfill_waits: false,
        }
    }

    /// Returns the lane that may send a message now. That message must not be longer than `room.payload`, unless it cannot
    /// be shorter.
    pub(super) fn next(&mut self, ready: Ready, room: Room) -> Option<Lane> {
        self.backfill_waits = ready.backfill;
        let in_turn = if self.is_owed() {
            [Lane::Event, Lane::Backfill, Lane::Live]
        } else {
            [Lane::Event, Lane::Live, Lane::Backfill]
        };
        in_turn.into_iter().find(|&lane| {
            let is_ready = match lane {
                Lane::Event => ready.event,
                Lane::Live => ready.live,
                Lane::Backfill => ready.backfill,
            };
            is_ready && self.has_room(lane, ready, room)
        })
    }

    /// Notes a message handed to the connection.
    pub(super) fn sent(&mut self, lane: Lane, bytes: usize) {
        let in_flight = self.lane_mut(lane);
        in_flight.messages = in_flight.messages.saturating_add(1);
        in_flight.bytes = in_flight.bytes.saturating_add(bytes);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.others = match lane {
            // Only what the others sent too much while it waited is still owed: of a link that nobody else used, nothing is.
            Lane::Backfill => self.others.min(0).saturating_add(bytes.saturating_mul(OTHERS)),
            _ if self.backfill_waits => self.others.saturating_sub(bytes),
            _ => self.others.max(0),
        };
    }

    /// Notes that the broker answered a message.
    pub(super) fn settled(&mut self, lane: Lane, bytes: usize) {
        let in_flight = self.lane_mut(lane);
        in_flight.messages = in_flight.messages.saturating_sub(1);
        in_flight.bytes = in_flight.bytes.saturating_sub(bytes);
    }

    /// Returns the payload bytes a lane has in flight.
    pub(super) fn bytes_in_flight(&self, lane: Lane) -> usize {
        self.lane(lane).bytes
    }

    fn has_room(&self, lane: Lane, ready: Ready, room: Room) -> bool {
        let kept = if lane == Lane::Event { 0 } else { room.messages / KEPT_FOR_EVENTS };
        if room.messages_taken.saturating_add(kept) >= room.messages.max(1) {
            return false;
        }
        let fits = |taken: InFlight, bytes| taken.messages == 0 || taken.bytes.saturating_add(room.payload) <= bytes;
        match lane {
            Lane::Event => fits(self.lane(Lane::Event), room.bytes),
            Lane::Live => fits(self.total(), room.bytes),
            Lane::Backfill => {
                // What it is owed goes beyond a share below a twentieth.
                let others_wait = (ready.event || ready.live) && !self.is_owed();
                let own = if others_wait { room.bytes.saturating_mul(self.percent) / 100 } else { room.bytes };
                let taken = self.lane(Lane::Backfill);
                taken.messages < (room.messages - room.messages / KEPT_FROM_BACKFILL).max(1)
                    && fits(self.total(), room.bytes)
                    && fits(taken, own)
            }
        }
    }

    /// Returns whether backfill goes before live, for it got less than a twentieth.
    const fn is_owed(&self) -> bool {
        self.others <= 0
    }

    fn total(&self) -> InFlight {
        self.in_flight.iter().fold(InFlight::default(), |sum, lane| InFlight {
            messages: sum.messages.saturating_add(lane.messages),
            bytes: sum.bytes.saturating_add(lane.bytes),
        })
    }

    fn lane(&self, lane: Lane) -> InFlight {
        let [event, live, backfill] = self.in_flight;
        match lane {
            Lane::Event => event,
            Lane::Live => live,
            Lane::Backfill => backfill,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut InFlight {
        let [event, live, backfill] = &mut self.in_flight;
        match lane {
            Lane::Event => event,
            Lane::Live => live,
            Lane::Backfill => backfill,
        }
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
