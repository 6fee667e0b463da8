//! The pair without its ends: bytes and times in, what is heard out.
//!
//! Every end has a transmitter of its own, which sends one character after the other at the speed of the line. Nothing
//! keeps two of them from talking at once: characters that overlap in time are spoiled, both, for whoever hears them. A
//! character is heard when it is over, never before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::site::Noise;

/// Longest time that a character is held back so that others go with it, as a UART's FIFO does.
const LUMP: Duration = Duration::from_millis(1);
/// What a collision does to a character; any other change would do.
const CLASH: u8 = 0x5A;
/// Most ends of a pair: who collided with whom is a bit of a `u64`.
pub(super) const MOST_ENDS: usize = 63;

/// One end of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End(pub(super) usize);

/// What happened on a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PairCounts {
    /// Characters that were on the pair, spoiled ones too.
    pub characters: u64,
    /// Times that two or more began to talk at once.
    pub collisions: u64,
    /// Characters that a collision spoiled.
    pub spoiled: u64,
    /// Bits hit by noise.
    pub hit_bits: u64,
    /// Characters that noise took.
    pub dropped: u64,
    /// Characters that noise made.
    pub inserted: u64,
    /// Characters that never reached the pair, for their end was cut off.
    pub cut: u64,
    /// The most that a character was handed over later than it was over: what this computer added to the line.
    pub latest: Duration,
}

/// What became of a character.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It was heard as it was sent.
    Whole,
    /// Noise hit it.
    Hit,
    /// Another one was on the pair at the same time.
    Spoiled,
    /// Noise took it: nobody hears it.
    Dropped,
    /// Noise made it: nobody sent it.
    Inserted,
    /// Its end is cut off: nobody hears it.
    Cut,
}

/// A character that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    pub(super) from: End,
    /// When it was over.
    pub(super) over: Instant,
    pub(super) byte: u8,
    pub(super) fate: Fate,
    /// Ends that talked at the same time, a bit each.
    clash: u64,
}

/// State of one pair.
#[derive(Debug)]
pub(super) struct Wire {
    character: Duration,
    talkers: Vec<Talker>,
    flips: Noise,
    random: fastrand::Rng,
    drop_share: f64,
    insert_share: f64,
    /// Until when the collision counted last goes on.
    clashing: Option<Instant>,
    counts: PairCounts,
}

#[derive(Debug, Default)]
struct Talker {
    waiting: VecDeque<Character>,
    echo: bool,
    cut: bool,
}

#[derive(Clone, Copy, Debug)]
struct Character {
    byte: u8,
    over: Instant,
    clash: u64,
}

impl Wire {
    /// A pair with so many ends, quiet and whole; noise is drawn from `seed`.
    pub(super) fn new(character: Duration, ends: usize, seed: u64) -> Self {
        Self {
            character,
            talkers: (0..ends).map(|_| Talker::default()).collect(),
            flips: Noise::new(seed),
            random: fastrand::Rng::with_seed(seed),
            drop_share: 0.0,
            insert_share: 0.0,
            clashing: None,
            counts: PairCounts::default(),
        }
    }

    /// Takes bytes that an end began to send now; they follow what it still sends.
    pub(super) fn say(&mut self, now: Instant, end: End, bytes: &[u8]) {
        let character = self.character;
        let Some(talker) = self.talkers.get_mut(end.0) else { return };
        let mut over = talker.waiting.back().map_or(now, |last| last.over.max(now));
        for &byte in bytes {
            over += character;
            talker.waiting.push_back(Character { byte, over, clash: 0 });
        }
    }

    /// Forgets what an end still had to send: its power is gone.
    pub(super) fn hush(&mut self, end: End) {
        if let Some(talker) = self.talkers.get_mut(end.0) {
            talker.waiting.clear();
        }
    }

    /// Returns how many characters an end still has to send.
    pub(super) fn waiting(&self, end: End) -> usize {
        self.talkers.get(end.0).map_or(0, |talker| talker.waiting.len())
    }

    /// Returns the characters that are over by now, in their order.
    pub(super) fn advance(&mut self, now: Instant) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Some((from, character)) = self.first_over(now) {
            self.counts.latest = self.counts.latest.max(now.saturating_duration_since(character.over));
            self.hand_over(from, character, &mut heard);
        }
        heard
    }

    /// Says whether an end hears a character. An end without echo has its receiver off while it talks.
    pub(super) fn hears(&self, listener: End, heard: &Heard) -> bool {
        let Some(ear) = self.talkers.get(listener.0) else { return false };
        let silent = listener != heard.from && heard.clash & bit(listener.0) == 0;
        !matches!(heard.fate, Fate::Cut | Fate::Dropped) && !ear.cut && (ear.echo || silent)
    }

    /// Returns when the next characters are due.
    pub(super) fn next(&self) -> Option<Instant> {
        let held = |talker: &Talker| {
            let (first, last) = talker.waiting.front().zip(talker.waiting.back())?;
            Some(last.over.min(first.over + LUMP.saturating_sub(self.character)))
        };
        self.talkers.iter().filter_map(held).min()
    }

    /// Cuts the wire of an end, or mends it.
    pub(super) fn set_cut(&mut self, end: End, cut: bool) {
        if let Some(talker) = self.talkers.get_mut(end.0) {
            talker.cut = cut;
        }
    }

    /// Lets an end hear what it says itself, or not.
    pub(super) fn set_echo(&mut self, end: End, echo: bool) {
        if let Some(talker) = self.talkers.get_mut(end.0) {
            talker.echo = echo;
        }
    }

    /// Sets the share of bits that flip, and of characters that get lost and that come from nowhere, each 0 to 1.
    pub(super) fn set_noise(&mut self, flips: f64, drops: f64, inserts: f64) {
        self.flips.set(flips);
        self.drop_share = drops.clamp(0.0, 1.0);
        self.insert_share = inserts.clamp(0.0, 1.0);
    }

    pub(super) fn counts(&self) -> PairCounts {
        self.counts
    }

    /// Takes the character that was over first, of those that are over by now.
    fn first_over(&mut self, now: Instant) -> Option<(usize, Character)> {
        let fronts = self.talkers.iter().enumerate();
        let over = fronts.filter_map(|(place, talker)| Some((talker.waiting.front()?.over, place)));
        let (_, place) = over.filter(|(over, _)| *over <= now).min()?;
        let character = self.talkers.get_mut(place)?.waiting.pop_front()?;
        Some((place, character))
    }

    fn hand_over(&mut self, from: usize, mut character: Character, heard: &mut Vec<Heard>) {
        let mut tell = |byte, fate, clash| {
            heard.push(Heard { from: End(from), over: character.over, byte, fate, clash });
        };
        if self.talkers.get(from).is_none_or(|talker| talker.cut) {
            self.counts.cut += 1;
            return tell(character.byte, Fate::Cut, 0);
        }
        let begin = character.over - self.character;
        let mut until = character.over;
        for (place, other) in self.talkers.iter_mut().enumerate().filter(|(place, _)| *place != from) {
            // What this end sent before is over and has left its mark; only the first of the waiting can overlap.
            for rival in other.waiting.iter_mut().take_while(|_| !other.cut) {
                if rival.over - self.character >= character.over {
                    break;
                }
                rival.clash |= bit(from);
                character.clash |= bit(place);
                until = until.max(rival.over);
            }
        }
        self.counts.characters += 1;
        if character.clash != 0 {
            self.counts.spoiled += 1;
            self.counts.collisions += u64::from(self.clashing.is_none_or(|end| begin >= end));
            self.clashing = self.clashing.max(Some(until));
            return tell(character.byte ^ CLASH, Fate::Spoiled, character.clash);
        }
        if self.insert_share > 0.0 && self.random.f64() < self.insert_share {
            self.counts.inserted += 1;
            tell(self.random.u8(..), Fate::Inserted, 0);
        }
        if self.drop_share > 0.0 && self.random.f64() < self.drop_share {
            self.counts.dropped += 1;
            return tell(character.byte, Fate::Dropped, 0);
        }
        let mut byte = [character.byte];
        let hits = self.flips.pass(&mut byte);
        self.counts.hit_bits += hits;
        tell(byte[0], if hits == 0 { Fate::Whole } else { Fate::Hit }, 0);
    }
}

fn bit(end: usize) -> u64 {
    1_u64.checked_shl(u32::try_from(end).unwrap_or(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
