//! How large a packet the broker takes, learnt where it does not say.
//!
//! A broker of MQTT 5 may announce its maximum packet size. One of MQTT 3.1.1 cannot, and many of both close the connection
//! on a packet above their limit without a word: sent again, it closes the next connection too, for ever. Two things give
//! such a limit away:
//! - The broker says so: DISCONNECT with 0x95 (MQTT 5.0 §3.14.2.1).
//! - [`LOSSES`] connections in a row end with the same message unacknowledged, and none of them took one as large.
//!
//! The size of that message is then *suspect*: packets are cut to half of it, and one that cannot be cut is still tried
//! below the suspect size and given up from there on. So a guess that was wrong, on a line that only broke, makes small
//! packets and costs no observation smaller than one that three connections failed on. Nothing below [`SMALLEST`] is ever
//! suspect.
//!
//! What was learnt may be over, for brokers get other settings. After a day in which packets near the limit were taken it is
//! doubled and put to the test again.
//!
//! One for each broker, kept over its connections. Pure: time is an argument. All sizes are those of whole packets in bytes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Largest packet there is. Source: MQTT 5.0 §2.1.4.
const LARGEST: usize = 268_435_455;
/// What every broker takes.
const SMALLEST: usize = 1024;
/// Connections in a row that one message must end before its size is suspect.
const LOSSES: u8 = 3;
/// How long a limit is believed that packets near it went through.
const LIMIT_AGE: Duration = Duration::from_secs(24 * 3600);

/// What is known of one broker.
#[derive(Clone, Debug, Default)]
pub(super) struct PacketLimit {
    announced: Option<usize>,
    learnt: Option<Learnt>,
    /// How many connections in a row ended on each message that the last one ended on.
    losses: HashMap<u64, u8>,
}

#[derive(Clone, Copy, Debug)]
struct Learnt {
    /// Smallest size that the broker did not take, as far as one can tell.
    suspect: usize,
    since: Instant,
}

/// A packet in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Packet {
    /// What tells its message from others, the same when it is sent again on another connection.
    pub(super) message: u64,
    /// Its size.
    pub(super) bytes: usize,
}

impl PacketLimit {
    /// Notes what the broker said when it accepted a connection.
    pub(super) fn announced(&mut self, limit: Option<usize>) {
        self.announced = limit;
    }

    /// Returns the size that packets are cut to.
    pub(super) fn limit(&self) -> usize {
        let learnt = self.learnt.map_or(LARGEST, |learnt| (learnt.suspect / 2).max(SMALLEST));
        learnt.min(self.announced.unwrap_or(LARGEST))
    }

    /// Returns the largest size that is worth a try; a packet that is larger and cannot be cut is given up.
    pub(super) fn hopeful(&self) -> usize {
        let learnt = self.learnt.map_or(LARGEST, |learnt| learnt.suspect.saturating_sub(1).max(SMALLEST));
        learnt.min(self.announced.unwrap_or(LARGEST))
    }

    /// Notes that the broker acknowledged a packet.
    pub(super) fn taken(&mut self, now: Instant, bytes: usize) {
        let Some(learnt) = &mut self.learnt else { return };
        if bytes >= learnt.suspect {
            self.learnt = None;
        } else if bytes >= learnt.suspect / 4 && now.saturating_duration_since(learnt.since) >= LIMIT_AGE {
            let suspect = learnt.suspect.saturating_mul(2);
            self.learnt = (suspect <= LARGEST).then_some(Learnt { suspect, since: now });
        }
    }

    /// Notes that a connection ended, on which the largest packet acknowledged had `largest_taken` bytes, 0 if there was
    /// none; returns whether packets are smaller from now on. `too_large` is whether the broker said so.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        too_large: bool,
        largest_taken: usize,
        unacknowledged: &[Packet],
    ) -> bool {
        let doubtful = unacknowledged.iter().filter(|packet| packet.bytes > largest_taken.max(SMALLEST));
        if too_large {
            return doubtful.map(|packet| packet.bytes).max().is_some_and(|bytes| self.suspect(now, bytes));
        }
        if unacknowledged.is_empty() {
            // A connection that failed before anything was sent says nothing of sizes.
            return false;
        }
        let before = std::mem::take(&mut self.losses);
        let mut lost_again = None;
        for packet in doubtful {
            let times = before.get(&packet.message).copied().unwrap_or(0).saturating_add(1);
            self.losses.insert(packet.message, times);
            if times >= LOSSES {
                lost_again = lost_again.max(Some(packet.bytes));
            }
        }
        lost_again.is_some_and(|bytes| self.suspect(now, bytes))
    }

    fn suspect(&mut self, now: Instant, bytes: usize) -> bool {
        self.losses.clear();
        let is_news = self.learnt.is_none_or(|learnt| bytes < learnt.suspect);
        if is_news {
            self.learnt = Some(Learnt { suspect: bytes, since: now });
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A connection breaks on one message and took nothing.
    fn broken(limit: &mut PacketLimit, now: Instant, message: u64, bytes: usize) -> bool {
        limit.ended(now, false, 0, &[Packet { message, bytes }])
    }

    fn said_too_large(limit: &mut PacketLimit, now: Instant, bytes: usize) -> bool {
        limit.ended(now, true, 0, &[Packet { message: 7, bytes: 300 }, Packet { message: 8, bytes }])
    }

    fn learnt(bytes: usize) -> (PacketLimit, Instant) {
        let (mut limit, now) = (PacketLimit::default(), Instant::now());
        said_too_large(&mut limit, now, bytes);
        (limit, now)
    }

    #[test]
    fn a_broker_that_says_nothing_takes_what_the_protocol_allows() {
        let mut limit = PacketLimit::default();
        assert_eq!((limit.limit(), limit.hopeful()), (LARGEST, LARGEST));
        limit.announced(Some(10_000));
        assert_eq!((limit.limit(), limit.hopeful()), (10_000, 10_000));
        limit.announced(None);
        assert_eq!(limit.limit(), LARGEST);
    }

    #[test]
    fn packet_too_large_halves_at_once() {
        let (limit, _) = learnt(16_000);
        assert_eq!((limit.limit(), limit.hopeful()), (8_000, 15_999));
    }

    #[test]
    fn three_connections_that_end_on_the_same_message_halve() {
        let (mut limit, now) = (PacketLimit::default(), Instant::now());
        assert_eq!([0; 3].map(|_| broken(&mut limit, now, 7, 16_000)), [false, false, true]);
        assert_eq!(limit.limit(), 8_000);
        assert_eq!([0; 3].map(|_| broken(&mut limit, now, 7, 8_000)), [false, false, true]);
        assert_eq!(limit.limit(), 4_000);
    }

    #[test]
    fn a_poison_is_found_among_messages_of_other_lanes_that_are_new_each_time() {
        let (mut limit, now) = (PacketLimit::default(), Instant::now());
        let poison = Packet { message: 7, bytes: 12_000 };
        let halved = [100, 200, 300].map(|live| {
            let live = [0, 1].map(|more| Packet { message: live + more, bytes: 20_000 });
            limit.ended(now, false, 900, &[live[0], poison, live[1]])
        });
        assert_eq!(halved, [false, false, true]);
        assert_eq!(limit.limit(), 6_000);
    }

    #[test]
    fn connections_that_fail_before_anything_is_sent_are_neither_counted_nor_forgiven() {
        let (mut limit, now) = (PacketLimit::default(), Instant::now());
        for _ in 0..2 {
            assert!(!broken(&mut limit, now, 7, 16_000));
            for _ in 0..10 {
                assert!(!limit.ended(now, false, 0, &[]));
            }
        }
        assert!(broken(&mut limit, now, 7, 16_000));
    }

    #[test]
    fn a_line_that_breaks_on_ever_other_messages_is_no_limit() {
        let (mut limit, now) = (PacketLimit::default(), Instant::now());
        for message in 0..100 {
            broken(&mut limit, now, message / 2, 16_000);
        }
        assert_eq!(limit.limit(), LARGEST);
    }

    #[test]
    fn a_broker_that_took_a_packet_as_large_is_not_suspected() {
        let (mut limit, now) = (PacketLimit::default(), Instant::now());
        for _ in 0..100 {
            limit.ended(now, false, 16_000, &[Packet { message: 7, bytes: 16_000 }]);
        }
        assert_eq!(limit.limit(), LARGEST);
    }

    #[test]
    fn one_that_cannot_be_cut_is_tried_below_the_suspect_size_and_given_up_once_it_failed_too() {
        let (mut limit, now) = learnt(16_000);
        assert!(12_000 <= limit.hopeful());
        for _ in 0..3 {
            broken(&mut limit, now, 7, 12_000);
        }
        assert!(12_000 > limit.hopeful());
        assert_eq!(limit.limit(), 6_000);
    }

    #[test]
    fn nothing_below_a_kibibyte_is_ever_suspect() {
        let (mut limit, now) = (PacketLimit::default(), Instant::now());
        let mut size = 16_000;
        for _ in 0..100 {
            broken(&mut limit, now, 7, size);
            size = size.min(limit.limit());
        }
        assert_eq!(limit.limit(), SMALLEST);
        assert!(limit.hopeful() >= SMALLEST);
        assert!(!said_too_large(&mut limit, now, SMALLEST));
    }

    #[test]
    fn a_guess_is_forgotten_when_the_broker_takes_as_much() {
        let (mut limit, now) = learnt(16_000);
        limit.taken(now, 15_999);
        assert_eq!(limit.limit(), 8_000);
        limit.taken(now, 16_000);
        assert_eq!(limit.limit(), LARGEST);
    }

    #[test]
    fn after_a_day_of_packets_near_it_the_limit_doubles() {
        let (mut limit, now) = learnt(16_000);
        limit.taken(now + 23 * HOUR, 8_000);
        assert_eq!(limit.limit(), 8_000);
        limit.taken(now + 24 * HOUR, 3_000);
        assert_eq!(limit.limit(), 8_000, "small packets prove nothing");
        limit.taken(now + 25 * HOUR, 7_500);
        assert_eq!(limit.limit(), 16_000);
        limit.taken(now + 26 * HOUR, 15_000);
        assert_eq!(limit.limit(), 16_000, "another day");
        said_too_large(&mut limit, now + 26 * HOUR, 16_000);
        assert_eq!(limit.limit(), 8_000, "and was right");
    }

    #[test]
    fn what_is_announced_bounds_what_was_learnt() {
        let (mut limit, _) = learnt(16_000);
        limit.announced(Some(4_000));
        assert_eq!((limit.limit(), limit.hopeful()), (4_000, 4_000));
        limit.announced(Some(100_000));
        assert_eq!(limit.limit(), 8_000);
    }

    proptest! {
        /// Every connection sends messages of one observation or several, oldest first, until the broker closes it.
        #[test]
        fn behind_any_limit_of_a_silent_broker_everything_it_can_take_is_delivered(
            broker in 2 * SMALLEST..100_000,
            observations in prop::collection::vec(10_usize..20_000, 1..60),
        ) {
            let (mut limit, now) = (PacketLimit::default(), Instant::now());
            let (mut next, mut given_up, mut connections) = (0, Vec::new(), 0);
            while next < observations.len() {
                connections += 1;
                prop_assert!(connections < 200);
                let mut largest_taken = 0;
                while next < observations.len() {
                    if observations[next] > limit.hopeful() {
                        given_up.push(observations[next]);
                        next += 1;
                        continue;
                    }
                    let (mut size, mut count) = (observations[next], 1);
                    while observations.get(next + count).is_some_and(|more| size + more <= limit.limit()) {
                        size += observations[next + count];
                        count += 1;
                    }
                    if size > broker {
                        limit.ended(now, false, largest_taken, &[Packet { message: next as u64, bytes: size }]);
                        break;
                    }
                    limit.taken(now, size);
                    largest_taken = largest_taken.max(size);
                    next += count;
                }
            }
            prop_assert!(given_up.iter().all(|&size| size > broker), "{given_up:?}");
        }
    }
}
