//! What is in flight on one connection: a window by sequence, and which packet identifier stands for what.
//!
//! rumqttc hands out packet identifiers 1..=N in turn and does not look whether one is still in use. The window is
//! therefore counted from the *oldest unacknowledged* message and not by how many are unacknowledged: with at most N
//! messages between the oldest and the newest, no identifier can come round while its last bearer waits, in whatever
//! order the broker acknowledges. Pure: no I/O, no clock.

use std::collections::{HashMap, VecDeque};

use ganglion_protocols::LossCause;

/// Most messages between the oldest unacknowledged one and the newest. At 16 KiB each and 200 ms to the broker and back
/// this is 5 MB/s, and it stays well below the packet identifiers in use (100).
pub(super) const WINDOW: u16 = 64;

/// Most payload bytes in memory, settled out of order or not, unless it is one message. How many may be in flight is for
/// [`Pace`](super::pace::Pace) to say.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// Messages in flight, oldest first, each with its cargo.
#[derive(Debug)]
pub(super) struct Window<C> {
    limit: usize,
    /// Payload bytes of the entries.
    bytes: usize,
    /// Sequence number of the front entry.
    first: u64,
    entries: VecDeque<Entry<C>>,
    /// Handed to the client, no packet identifier yet; the client gives identifiers in this order.
    unnamed: VecDeque<u64>,
    named: HashMap<u16, u64>,
}

#[derive(Debug)]
struct Entry<C> {
    cargo: C,
    bytes: usize,
    settled: Option<Outcome>,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The broker took it.
    Delivered,
    /// It can never be delivered and was given up.
    Dropped(LossCause),
}

/// The client used a packet identifier that nothing was handed to it for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct UnexpectedId;

impl<C> Window<C> {
    /// Starts empty; the broker's receive maximum bounds it further than [`WINDOW`].
    pub(super) fn new(receive_max: u16) -> Self {
        Self {
            limit: usize::from(receive_max.clamp(1, WINDOW)),
            bytes: 0,
            first: 0,
            entries: VecDeque::new(),
            unnamed: VecDeque::new(),
            named: HashMap::new(),
        }
    }

    /// Returns whether another message may be handed to the client.
    pub(super) fn has_room(&self) -> bool {
        self.entries.len() < self.limit && self.bytes < WINDOW_BYTES
    }

    /// Returns the sequence number of the oldest message in flight.
    pub(super) fn oldest(&self) -> Option<u64> {
        (!self.entries.is_empty()).then_some(self.first)
    }

    /// Returns the payload bytes in flight, those that are settled behind an older message included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many messages may be between the oldest unacknowledged one and the newest.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Returns how many are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the cargo of every message that is not settled, oldest first.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &C> {
        self.entries.iter().filter(|entry| entry.settled.is_none()).map(|entry| &entry.cargo)
    }

    /// Returns whether nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the cargo of a message of so many payload bytes that is about to be handed to the client.
    pub(super) fn hand_over(&mut self, cargo: C, bytes: usize) {
        self.unnamed.push_back(self.first + self.entries.len() as u64);
        self.bytes += bytes;
        self.entries.push_back(Entry { cargo, bytes, settled: None });
    }

    /// Takes cargo that needs no message, in its place between those that do.
    pub(super) fn settle_at_once(&mut self, cargo: C, outcome: Outcome) {
        self.entries.push_back(Entry { cargo, bytes: 0, settled: Some(outcome) });
    }

    /// Notes the packet identifier that the client gave to the next message handed to it.
    ///
    /// # Errors
    /// When nothing waits for an identifier, or the identifier still stands for another message.
    pub(super) fn name(&mut self, id: u16) -> Result<(), UnexpectedId> {
        let sequence = self.unnamed.pop_front().ok_or(UnexpectedId)?;
        match self.named.insert(id, sequence) {
            None => Ok(()),
            Some(_) => Err(UnexpectedId),
        }
    }

    /// Returns what a packet identifier stands for.
    pub(super) fn cargo(&self, id: u16) -> Option<&C> {
        let sequence = self.named.get(&id)?;
        self.entries.get(self.place(*sequence)?).map(|entry| &entry.cargo)
    }

    /// Notes what became of a message; an identifier that stands for nothing is ignored.
    pub(super) fn settle(&mut self, id: u16, outcome: Outcome) {
        let Some(sequence) = self.named.remove(&id) else { return };
        let Some(place) = self.place(sequence) else { return };
        if let Some(entry) = self.entries.get_mut(place) {
            entry.settled = Some(outcome);
        }
    }

    /// Notes that a message was answered and is not settled: it has to be sent again.
    pub(super) fn refuse(&mut self, id: u16) {
        self.named.remove(&id);
    }

    /// Returns whether every message handed to the client is answered.
    pub(super) fn is_answered(&self) -> bool {
        self.unnamed.is_empty() && self.named.is_empty()
    }

    /// Takes the oldest message if it is settled: all before it are, too.
    pub(super) fn pop_settled(&mut self) -> Option<(C, Outcome)> {
        let outcome = self.entries.front()?.settled?;
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.bytes -= entry.bytes;
        Some((entry.cargo, outcome))
    }

    fn place(&self, sequence: u64) -> Option<usize> {
        usize::try_from(sequence.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn popped(window: &mut Window<u32>) -> Vec<u32> {
        std::iter::from_fn(|| window.pop_settled()).map(|(cargo, _)| cargo).collect()
    }

    #[test]
    fn large_messages_fill_the_window_by_their_bytes_and_free_it_again() {
        let mut window = Window::new(20);
        window.hand_over(0, WINDOW_BYTES - 1);
        assert!(window.has_room());
        window.hand_over(1, 2 * WINDOW_BYTES);
        assert!(!window.has_room());
        window.name(1).unwrap();
        window.name(2).unwrap();
        window.settle(2, Outcome::Delivered);
        assert!(!window.has_room(), "the oldest is still in flight");
        window.settle(1, Outcome::Delivered);
        assert_eq!(popped(&mut window), [0, 1]);
        assert!(window.has_room());
    }

    #[test]
    fn the_broker_bounds_the_window() {
        for (receive_max, room) in [(0, 1), (1, 1), (20, 20), (64, 64), (65_535, 64)] {
            let mut window = Window::new(receive_max);
            let mut taken = 0;
            while window.has_room() {
                window.hand_over(taken, 1);
                taken += 1;
            }
            assert_eq!(taken, room, "receive maximum {receive_max}");
        }
    }

    #[test]
    fn an_acknowledgement_out_of_order_frees_nothing_before_its_turn() {
        let mut window = Window::new(3);
        for cargo in [10, 11, 12] {
            window.hand_over(cargo, 1);
        }
        for id in [1, 2, 3] {
            window.name(id).unwrap();
        }
        window.settle(3, Outcome::Delivered);
        window.settle(2, Outcome::Delivered);
        assert!(!window.has_room());
        assert!(popped(&mut window).is_empty());
        window.settle(1, Outcome::Delivered);
        assert_eq!(popped(&mut window), [10, 11, 12]);
        assert!(window.is_empty());
    }

    #[test]
    fn cargo_without_a_message_keeps_its_place() {
        let mut window = Window::new(3);
        window.hand_over(1, 1);
        window.settle_at_once(2, Outcome::Dropped(LossCause::NotAuthorised));
        window.hand_over(3, 1);
        window.name(7).unwrap();
        window.name(8).unwrap();
        assert_eq!(window.cargo(8), Some(&3));
        window.settle(8, Outcome::Delivered);
        assert!(popped(&mut window).is_empty());
        window.settle(7, Outcome::Delivered);
        assert_eq!(window.pop_settled(), Some((1, Outcome::Delivered)));
        assert_eq!(window.pop_settled(), Some((2, Outcome::Dropped(LossCause::NotAuthorised))));
        assert_eq!(window.pop_settled(), Some((3, Outcome::Delivered)));
    }

    #[test]
    fn a_refused_message_is_answered_and_keeps_those_behind_it_in_the_window() {
        let mut window = Window::new(3);
        for cargo in [10, 11, 12] {
            window.hand_over(cargo, 1);
        }
        window.name(1).unwrap();
        window.name(2).unwrap();
        window.settle(1, Outcome::Delivered);
        window.refuse(2);
        assert!(!window.is_answered(), "the third has not even a name");
        window.name(3).unwrap();
        window.settle(3, Outcome::Delivered);
        assert!(window.is_answered());
        assert_eq!(popped(&mut window), [10]);
        assert!(!window.is_empty());
    }

    #[test]
    fn an_acknowledgement_of_nothing_is_ignored() {
        let mut window = Window::new(3);
        window.settle(5, Outcome::Delivered);
        window.hand_over(1, 1);
        window.settle(1, Outcome::Delivered);
        assert!(popped(&mut window).is_empty(), "its identifier was not known yet");
        window.name(1).unwrap();
        window.settle(1, Outcome::Delivered);
        window.settle(1, Outcome::Delivered);
        assert_eq!(popped(&mut window), [1]);
    }

    #[test]
    fn an_identifier_for_nothing_or_twice_is_an_error() {
        let mut window = Window::new(3);
        assert_eq!(window.name(1), Err(UnexpectedId));
        window.hand_over(1, 1);
        window.hand_over(2, 1);
        window.name(1).unwrap();
        assert_eq!(window.name(1), Err(UnexpectedId));
    }

    proptest! {
        #[test]
        fn identifiers_given_in_turn_never_meet_and_cargo_leaves_in_order(
            receive_max in 1_u16..=100,
            choices in prop::collection::vec(any::<u16>(), 1..600),
        ) {
            let ids = receive_max.min(100);
            let mut window = Window::new(receive_max);
            let (mut handed, mut given, mut out) = (0_u32, 0_u16, Vec::new());
            let mut waiting = Vec::new();
            for choice in choices {
                if choice % 3 > 0 && window.has_room() {
                    window.hand_over(handed, 1);
                    handed += 1;
                    given = given % ids + 1;
                    prop_assert_eq!(window.name(given), Ok(()));
                    waiting.push(given);
                } else if !waiting.is_empty() {
                    let id = waiting.swap_remove(usize::from(choice) % waiting.len());
                    window.settle(id, Outcome::Delivered);
                }
                out.extend(popped(&mut window));
            }
            for id in waiting {
                window.settle(id, Outcome::Delivered);
            }
            out.extend(popped(&mut window));
            prop_assert!(window.is_empty());
            prop_assert_eq!(out, (0..handed).collect::<Vec<_>>());
        }
    }
}
