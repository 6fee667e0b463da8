//! The three lanes of one uplink: events, what is new, what an outage left behind.

use ganglion_protocols::Cri;

use super::feed::{Ahead, Cargo, Feed};
use super::message::Encoder;
use super::share::{Lane, Ready};
use super::window::Outcome;
use super::{Source, Sources};
use crate::monitor::Monitor;

/// A feed for each lane.
pub(super) struct Lanes<'a, S: Source> {
    event: Feed<'a, S>,
    live: Feed<'a, S>,
    backfill: Feed<'a, S>,
}

impl<'a, S: Source> Lanes<'a, S> {
    pub(super) fn new(sources: Sources<S>, gateway: Cri, monitor: &'a Monitor) -> Self {
        let Sources { event, live, backfill, epochs } = sources;
        let (events, telemetry) = (Ahead::default(), Ahead::default());
        let feed =
            |lane, source, epoch, ahead| Feed::new(lane, source, Encoder::new(gateway, epoch, lane), ahead, monitor);
        Self {
            event: feed(Lane::Event, event, epochs.events, events),
            live: feed(Lane::Live, Some(live), epochs.telemetry, telemetry.clone()),
            backfill: feed(Lane::Backfill, backfill, epochs.telemetry, telemetry),
        }
    }

    /// Returns one lane.
    pub(super) fn feed(&mut self, lane: Lane) -> &mut Feed<'a, S> {
        match lane {
            Lane::Event => &mut self.event,
            Lane::Live => &mut self.live,
            Lane::Backfill => &mut self.backfill,
        }
    }

    /// Reads a chunk of whichever lane has one and wants one. Cancel-safe.
    pub(super) async fn read(&mut self) {
        tokio::select! {
            biased;
            () = self.event.read() => {}
            () = self.live.read() => {}
            () = self.backfill.read() => {}
        }
    }

    /// Says which lanes have something to send.
    pub(super) fn ready(&self) -> Ready {
        let Self { event, live, backfill } = self;
        Ready { event: event.is_ready(), live: live.is_ready(), backfill: backfill.is_ready() }
    }

    /// Notes what became of a message.
    pub(super) fn settle(&mut self, cargo: &Cargo<S::Mark>, outcome: Outcome) {
        if let Some(lane) = cargo.lane {
            self.feed(lane).settle(cargo, outcome);
        }
    }

    /// Begins a connection: every lane at what is not acknowledged, live before the backfill that ends where it begins.
    pub(super) fn restart(&mut self) {
        self.event.restart();
        self.live.restart();
        self.backfill.restart();
    }

    /// Returns how many messages with observations were settled so far.
    pub(super) fn settled(&self) -> u64 {
        self.event.settled() + self.live.settled() + self.backfill.settled()
    }

    /// Returns whether all sources have ended and everything read from them is taken.
    pub(super) fn is_drained(&self) -> bool {
        self.event.is_drained() && self.live.is_drained() && self.backfill.is_drained()
    }
}
