//! The window by count, the pace and the shares together on a link in virtual time: an event each ten seconds, telemetry of
//! 1 kB/s, and a backlog without an end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::pace::{Pace, TARGET};
use super::share::{Lane, Ready, Room, Share};
use super::virtual_link::Link;
use super::window::{Outcome, WINDOW, Window};

const SECOND: Duration = Duration::from_secs(1);
const EVENT: usize = 300;
const EVENT_PERIOD: Duration = Duration::from_secs(10);
/// One observation of live.
const OBSERVATION: usize = 250;
const OBSERVATION_PERIOD: Duration = Duration::from_millis(250);
/// Longest message, as configured.
const CONFIGURED: usize = 16 * 1024;
/// Packet identifiers in use.
const IDS: u16 = 100;

#[derive(Clone, Debug)]
struct Cargo {
    lane: Lane,
    bytes: usize,
    sent_at: Instant,
    /// When each thing in it came to be.
    born: Vec<Instant>,
}

/// A gateway on a link.
struct Plant {
    link: Link<(u16, Cargo)>,
    window: Window<Cargo>,
    messages: usize,
    messages_taken: usize,
    last_id: u16,
    pace: Pace,
    share: Share,
    now: Instant,
    has_backlog: bool,
    next_event: Instant,
    next_observation: Instant,
    events: VecDeque<Instant>,
    live: VecDeque<Instant>,
    seen: Seen,
}

/// What the broker acknowledged.
#[derive(Clone, Debug, Default)]
struct Seen {
    event_delays: Vec<Duration>,
    live_delays: Vec<Duration>,
    backfill_bytes: usize,
}

impl Plant {
    fn new(link: Link<(u16, Cargo)>, receive_max: u16, percent: u8, has_backlog: bool) -> Self {
        let now = Instant::now();
        let messages = usize::from(receive_max.min(WINDOW));
        Self {
            link,
            window: Window::new(receive_max),
            messages,
            messages_taken: 0,
            last_id: 0,
            pace: Pace::new(now, messages),
            share: Share::new(percent),
            now,
            has_backlog,
            next_event: now + SECOND,
            next_observation: now,
            events: VecDeque::new(),
            live: VecDeque::new(),
            seen: Seen::default(),
        }
    }

    fn run(mut self, time: Duration) -> Seen {
        let (start, warm) = (self.now, self.now + time / 10);
        while self.now < start + time {
            self.send();
            let next = self.next_event.min(self.next_observation);
            self.now = self.link.next().map_or(next, |at| at.min(next));
            if self.now == self.next_event {
                self.events.push_back(self.now);
                self.next_event += EVENT_PERIOD;
            }
            if self.now == self.next_observation {
                self.live.push_back(self.now);
                self.next_observation += OBSERVATION_PERIOD;
            }
            while let Some((id, cargo)) = self.link.poll(self.now) {
                self.acknowledged(id, &cargo, warm);
                self.send();
            }
        }
        self.seen
    }

    fn send(&mut self) {
        loop {
            let room = Room {
                bytes: self.pace.window(),
                payload: self.pace.payload().min(CONFIGURED),
                messages: self.messages,
                messages_taken: self.messages_taken,
            };
            let (event, live) = (!self.events.is_empty(), !self.live.is_empty());
            let Some(lane) = self.share.next(Ready { event, live, backfill: self.has_backlog }, room) else { return };
            assert!(self.window.has_room());
            let (bytes, born): (_, Vec<_>) = match lane {
                Lane::Event => (EVENT, self.events.drain(..1).collect()),
                Lane::Live => {
                    let count = (room.payload / OBSERVATION).min(self.live.len());
                    (count * OBSERVATION, self.live.drain(..count).collect())
                }
                Lane::Backfill => (room.payload, Vec::new()),
            };
            let cargo = Cargo { lane, bytes, sent_at: self.now, born };
            self.window.hand_over(cargo.clone(), bytes);
            self.messages_taken += 1;
            self.last_id = self.last_id % IDS + 1;
            self.window.name(self.last_id).unwrap();
            self.pace.sent(self.now, bytes);
            self.share.sent(lane, bytes);
            self.link.put(self.now, (self.last_id, cargo), bytes);
        }
    }

    fn acknowledged(&mut self, id: u16, cargo: &Cargo, warm: Instant) {
        self.window.settle(id, Outcome::Delivered);
        self.pace.settled(self.now, cargo.sent_at, cargo.bytes);
        self.share.settled(cargo.lane, cargo.bytes);
        while self.window.pop_settled().is_some() {
            self.messages_taken -= 1;
        }
        if self.now < warm {
            return;
        }
        let delays = cargo.born.iter().map(|born| self.now - *born);
        match cargo.lane {
            Lane::Event => self.seen.event_delays.extend(delays),
            Lane::Live => self.seen.live_delays.extend(delays),
            Lane::Backfill => self.seen.backfill_bytes += cargo.bytes,
        }
    }
}

/// A link without its seed.
#[derive(Clone, Copy, Debug)]
struct On {
    rate: f64,
    round_trip_ms: u64,
    loss: f64,
    receive_max: u16,
}

impl On {
    const fn new(rate: f64, round_trip_ms: u64) -> Self {
        Self { rate, round_trip_ms, loss: 0.0, receive_max: 64 }
    }

    /// Half an hour on the link, or a minute on a fast one, after a tenth of it.
    fn run(self, has_backlog: bool) -> Seen {
        let link = Link::new(self.rate, Duration::from_millis(self.round_trip_ms), self.loss, 3);
        let mut seen = Plant::new(link, self.receive_max, 50, has_backlog).run(self.time());
        seen.event_delays.sort();
        seen.live_delays.sort();
        seen
    }

    fn time(self) -> Duration {
        if self.rate < 1e6 { 1800 * SECOND } else { 60 * SECOND }
    }
}

impl Seen {
    fn bytes(&self) -> usize {
        self.event_delays.len() * EVENT + self.live_delays.len() * OBSERVATION + self.backfill_bytes
    }
}

/// Returns the delay that so many percent do not exceed.
fn slowest_of(percent: usize, delays: &[Duration]) -> Duration {
    delays[(delays.len() - 1) * percent / 100]
}

#[test]
fn a_backlog_uses_what_is_left_and_delays_the_others_by_what_the_pace_aims_at() {
    for on in [
        On::new(2e3, 2_000),
        On::new(2e3, 200),
        On::new(4e3, 2_000),
        On::new(10e3, 500),
        On::new(64e3, 200),
        On::new(10e6, 20),
    ] {
        let (without, with) = (on.run(false), on.run(true));
        let possible = on.rate * on.time().as_secs_f64() * 0.9;
        assert!(with.bytes() as f64 > 0.85 * possible, "{on:?}: {} bytes of {possible}", with.bytes());
        for (lane, without, with) in
            [("event", &without.event_delays, &with.event_delays), ("live", &without.live_delays, &with.live_delays)]
        {
            let slowest = slowest_of(100, with);
            assert!(slowest < slowest_of(100, without) + 3 * TARGET, "{on:?} {lane}: {slowest:?}");
            let median = slowest_of(50, with);
            assert!(median < slowest_of(50, without) + TARGET * 8 / 5, "{on:?} {lane}: {median:?}");
        }
    }
}

#[test]
fn where_the_path_is_long_live_takes_twice_as_long_at_most() {
    for on in [On::new(2e3, 2_000), On::new(4e3, 2_000), On::new(64e3, 2_000)] {
        let (without, with) = (on.run(false).live_delays, on.run(true).live_delays);
        for percent in [50, 95] {
            let (without, with) = (slowest_of(percent, &without), slowest_of(percent, &with));
            assert!(with < 2 * without, "{on:?}, {percent} %: {with:?} and without a backlog {without:?}");
        }
    }
}

#[test]
fn lost_segments_delay_an_event_by_their_pauses_and_not_by_the_backlog() {
    // A pause is 3 s, the next one of the same segment 6 s more.
    let seen = On { loss: 0.02, ..On::new(2e3, 2_000) }.run(true);
    assert!(slowest_of(50, &seen.event_delays) < 4 * SECOND, "{:?}", slowest_of(50, &seen.event_delays));
    assert!(slowest_of(100, &seen.event_delays) < 15 * SECOND, "{:?}", slowest_of(100, &seen.event_delays));
    assert!(seen.backfill_bytes > 0);
}

#[test]
fn where_the_link_does_not_even_carry_live_events_are_in_time_and_backfill_gets_its_twentieth() {
    let seen = On::new(1e3, 1_000).run(true);
    assert!(slowest_of(100, &seen.event_delays) < 5 * SECOND, "{:?}", slowest_of(100, &seen.event_delays));
    assert!(seen.backfill_bytes * 20 > seen.bytes() * 9 / 10, "{} of {}", seen.backfill_bytes, seen.bytes());
}

#[test]
fn with_a_receive_maximum_of_one_every_lane_goes_on() {
    for on in [On::new(64e3, 200), On::new(2e3, 2_000)] {
        let seen = On { receive_max: 1, ..on }.run(true);
        // Another message is answered first, then its own.
        let slowest = slowest_of(100, &seen.event_delays);
        assert!(slowest < Duration::from_millis(2 * on.round_trip_ms) + 6 * TARGET, "{on:?}: {slowest:?}");
        assert!(!seen.live_delays.is_empty(), "{on:?}");
        assert!(seen.backfill_bytes * 22 > seen.bytes(), "{on:?}: {} of {}", seen.backfill_bytes, seen.bytes());
    }
}
