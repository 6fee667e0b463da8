//! Who goes first, and who starves: on a first-in first-out link of which only the window counts.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const LANES: [Lane; 3] = [Lane::Event, Lane::Live, Lane::Backfill];
const ALL: Ready = Ready { event: true, live: true, backfill: true };
const NOT_EVENT: Ready = Ready { event: false, ..ALL };
const ONLY_BACKFILL: Ready = Ready { live: false, ..NOT_EVENT };
const ROOM: Room = Room { bytes: 64_000, payload: 1_000, messages: 64, messages_taken: 0 };

/// Sends what may be sent and answers the oldest whenever nothing may; every lane sends messages of its own length.
struct Line {
    share: Share,
    room: Room,
    lengths: [usize; 3],
    in_flight: VecDeque<(Lane, usize)>,
    sent: [usize; 3],
    most_backfill: usize,
}

impl Line {
    fn new(percent: u8, room: Room, lengths: [usize; 3]) -> Self {
        Self { share: Share::new(percent), room, lengths, in_flight: VecDeque::new(), sent: [0; 3], most_backfill: 0 }
    }

    /// Sends as much as may be; returns the lanes in turn.
    fn send_all(&mut self, ready: Ready) -> Vec<Lane> {
        let mut lanes = Vec::new();
        while let Some(lane) = self.share.next(ready, Room { messages_taken: self.in_flight.len(), ..self.room }) {
            let bytes = self.lengths[lane as usize];
            self.share.sent(lane, bytes);
            self.in_flight.push_back((lane, bytes));
            self.sent[lane as usize] += bytes;
            lanes.push(lane);
        }
        self.most_backfill = self.most_backfill.max(self.share.bytes_in_flight(Lane::Backfill));
        lanes
    }

    fn answer(&mut self) {
        let (lane, bytes) = self.in_flight.pop_front().unwrap();
        self.share.settled(lane, bytes);
    }

    fn run(&mut self, ready: Ready, answers: usize) {
        (self.sent, self.most_backfill) = ([0; 3], 0);
        for _ in 0..answers {
            self.send_all(ready);
            self.answer();
        }
    }

    /// Returns the part of all bytes that a lane sent.
    fn part(&self, lane: Lane) -> f64 {
        self.sent[lane as usize] as f64 / self.sent.iter().sum::<usize>() as f64
    }
}

#[test]
fn events_go_first_then_live_then_backfill() {
    let mut share = Share::new(50);
    share.sent(Lane::Backfill, 1_000);
    share.settled(Lane::Backfill, 1_000);
    assert_eq!(share.next(ALL, ROOM), Some(Lane::Event));
    assert_eq!(share.next(NOT_EVENT, ROOM), Some(Lane::Live));
    assert_eq!(share.next(ONLY_BACKFILL, ROOM), Some(Lane::Backfill));
    assert_eq!(share.next(Ready::default(), ROOM), None);
}

#[test]
fn an_event_goes_though_the_others_fill_the_window() {
    for others in [NOT_EVENT, ONLY_BACKFILL] {
        let mut line = Line::new(100, ROOM, [300, 1_000, 1_000]);
        line.send_all(others);
        assert_eq!(line.send_all(others), []);
        assert_eq!(line.send_all(Ready { event: true, ..others })[0], Lane::Event);
    }
}

#[test]
fn without_the_others_backfill_fills_the_window() {
    let mut line = Line::new(10, ROOM, [300, 1_000, 1_000]);
    line.run(ONLY_BACKFILL, 1_000);
    assert_eq!(line.most_backfill, 48_000, "the rest of the 64 messages is kept");
    let mut line = Line::new(10, Room { bytes: 8_000, ..ROOM }, [300, 1_000, 1_000]);
    line.run(ONLY_BACKFILL, 1_000);
    assert_eq!(line.most_backfill, 8_000);
}

#[test]
fn what_live_leaves_is_used_by_backfill() {
    let mut line = Line::new(50, Room { bytes: 8_000, ..ROOM }, [300, 1_000, 1_000]);
    for answered in 0..1_000 {
        line.send_all(Ready { live: answered % 4 == 0, ..ONLY_BACKFILL });
        line.answer();
        if answered % 4 == 0 {
            // Live had one message to send, not more.
            line.send_all(ONLY_BACKFILL);
        }
    }
    assert_eq!(line.in_flight.len(), 7, "the window is full again after each answer");
}

#[test]
fn backfill_gives_way_to_its_share_when_live_comes() {
    let mut line = Line::new(30, Room { bytes: 10_000, ..ROOM }, [300, 1_000, 1_000]);
    line.run(ONLY_BACKFILL, 100);
    line.run(NOT_EVENT, 10);
    assert!(line.share.bytes_in_flight(Lane::Backfill) <= 3_000);
    assert!(line.part(Lane::Live) > 0.9);
}

#[test]
fn with_one_message_at_a_time_nobody_starves() {
    let mut line = Line::new(25, Room { messages: 1, ..ROOM }, [300, 1_000, 1_000]);
    line.run(NOT_EVENT, 2_000);
    assert!(line.part(Lane::Backfill) >= 0.05, "{}", line.part(Lane::Backfill));
    assert!(line.part(Lane::Live) >= 0.90, "{}", line.part(Lane::Live));
    line.send_all(NOT_EVENT);
    assert_eq!(line.send_all(ALL), [], "one is in flight");
    line.answer();
    assert_eq!(line.send_all(ALL), [Lane::Event]);
}

#[test]
fn a_link_that_nobody_else_used_is_not_owed() {
    let mut line = Line::new(50, Room { bytes: 8_000, ..ROOM }, [300, 1_000, 1_000]);
    line.run(ONLY_BACKFILL, 10_000);
    line.run(NOT_EVENT, 100);
    assert!(line.part(Lane::Backfill) >= 0.04, "{}", line.part(Lane::Backfill));
    // Nor the other way round: what live sent while there was no backfill.
    line.run(Ready { live: true, ..Ready::default() }, 10_000);
    line.run(NOT_EVENT, 100);
    assert!(line.part(Lane::Backfill) <= 0.07, "{}", line.part(Lane::Backfill));
}

#[test]
fn counts_that_do_not_fit_stop_at_their_ends() {
    let mut share = Share::new(0);
    share.settled(Lane::Live, 1);
    for lane in LANES {
        share.sent(lane, usize::MAX);
        share.sent(lane, usize::MAX);
    }
    let room = Room { bytes: usize::MAX, payload: usize::MAX, messages: usize::MAX, messages_taken: usize::MAX };
    assert_eq!(share.next(ALL, room), None);
    assert_eq!(Share::new(255).next(ALL, Room { messages: 0, ..ROOM }), Some(Lane::Event));
}

proptest! {
    #[test]
    fn an_event_never_waits_behind_another_lane_where_there_is_room(
        percent in 1_u8..=100,
        bytes in 2_048_usize..=1_048_576,
        messages in 1_usize..=64,
        steps in prop::collection::vec((0_u8..8, 1_usize..20_000), 1..300),
    ) {
        let payload = (bytes / 8).max(1_024);
        let mut share = Share::new(percent);
        let mut in_flight: VecDeque<(Lane, usize)> = VecDeque::new();
        for (kind, length) in steps {
            let room = Room { bytes, payload, messages, messages_taken: in_flight.len() };
            let events = share.bytes_in_flight(Lane::Event);
            if in_flight.len() < messages && (events == 0 || events + payload <= bytes) {
                let ready = Ready { event: true, live: kind & 1 > 0, backfill: kind & 2 > 0 };
                prop_assert_eq!(share.next(ready, room), Some(Lane::Event));
            }
            let ready = Ready { event: length % 13 == 0, live: kind & 1 > 0, backfill: kind & 2 > 0 };
            let next = share.next(ready, room).filter(|_| kind < 6);
            if let Some(lane) = next {
                let length = length.min(payload);
                let (before, share_owes) = (share.bytes_in_flight(lane), share.is_owed());
                share.sent(lane, length);
                in_flight.push_back((lane, length));
                let after = share.bytes_in_flight(lane);
                prop_assert!(before == 0 || after <= bytes);
                if lane == Lane::Backfill && ready.live && !share_owes {
                    prop_assert!(before == 0 || after * 100 <= bytes * usize::from(percent));
                }
            } else if let Some((lane, length)) = in_flight.pop_front() {
                share.settled(lane, length);
            }
        }
        for (lane, length) in in_flight {
            share.settled(lane, length);
        }
        prop_assert!(LANES.iter().all(|&lane| share.bytes_in_flight(lane) == 0));
    }

    #[test]
    fn with_live_always_ready_backfill_gets_a_twentieth_at_least_and_its_share_at_most(
        percent in 1_u8..=100,
        bytes in 2_048_usize..=1_048_576,
        messages in 1_usize..=64,
        live in 100_usize..=16_384,
        // Of ever so short ones, three quarters of the messages in flight are too few.
        backfill in 500_usize..=16_384,
    ) {
        let payload = (bytes / 8).max(1_024);
        let room = Room { bytes, payload, messages, messages_taken: 0 };
        let mut line = Line::new(percent, room, [300, live.min(payload), backfill.min(payload)]);
        line.run(NOT_EVENT, 4_000);
        // One message of 16 KiB more or less in the count.
        prop_assert!(line.part(Lane::Backfill) >= 0.045, "{}", line.part(Lane::Backfill));
        let twentieth = bytes / 20 + backfill + live / 19;
        prop_assert!(line.most_backfill <= (bytes * usize::from(percent) / 100).max(twentieth), "{}", line.most_backfill);
        prop_assert!(line.part(Lane::Live) >= 0.5, "{}", line.part(Lane::Live));
    }
}
