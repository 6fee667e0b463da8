//! Numbers that are not there: the numbers of a resource rise by one, so whatever is lost shows. Pure.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use ganglion_protocols::{Cri, Gap};

/// Follows the numbers of every resource through a log.
#[derive(Clone, Default, Debug)]
pub struct Numbering {
    epoch: u64,
    by_resource: BTreeMap<Cri, Followed>,
    /// First and last number of what was declared lost.
    declared: BTreeSet<(Cri, u64, u64)>,
    breaks: Breaks,
    /// As they were when the segment before the present one began.
    before: Breaks,
    /// As they were when the present segment began.
    present: Breaks,
}

/// What was seen of one resource.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Numbers {
    /// The first number held; 0 when none is.
    pub first: u64,
    /// The last number held or carried over.
    pub last: u64,
    /// How many are held.
    pub held: u64,
    /// How many between are not.
    pub missing: u64,
}

/// Numbers that are not held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Jump {
    /// The resource.
    pub resource: Cri,
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// What became of them.
    pub cause: Cause,
}

/// Why numbers are not held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Something between is damaged, or missing.
    Damage,
    /// What is between was delivered and its segment reclaimed.
    Reclaimed,
    /// Nothing here tells: the disk refused them, or they were lost.
    Unknown,
    /// None is missing: the number after `from` was not above it.
    Twice,
}

#[derive(Clone, Copy, Default, Debug)]
struct Followed {
    numbers: Numbers,
    seen: Breaks,
    /// What the present segment carries over beyond the last number held, and why it may not be held. After a failed
    /// fsync the observations of these numbers are written once more, behind the word of them.
    carried: Option<(u64, Cause)>,
}

/// How often something was not there, up to some place.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Breaks {
    damage: u64,
    reclaimed: u64,
}

impl Breaks {
    const fn cause_since(self, earlier: Self) -> Cause {
        if self.damage > earlier.damage {
            Cause::Damage
        } else if self.reclaimed > earlier.reclaimed {
            Cause::Reclaimed
        } else {
            Cause::Unknown
        }
    }
}

impl Numbering {
    /// Notes that a segment begins; with another epoch all numbers begin anew.
    pub fn segment(&mut self, epoch: u64) {
        if epoch != self.epoch {
            self.by_resource.clear();
            self.declared.clear();
            self.epoch = epoch;
        }
        self.before = std::mem::replace(&mut self.present, self.breaks);
    }

    /// Notes that something cannot be read here.
    pub fn damage(&mut self) {
        self.breaks.damage += 1;
    }

    /// Notes that something was reclaimed here.
    pub fn reclaimed(&mut self) {
        self.breaks.reclaimed += 1;
    }

    /// Takes the last number before a segment; returns those that are not held and will not come any more.
    pub fn last_seq(&mut self, resource: Cri, seq: u64) -> Option<Jump> {
        // Where something was destroyed in the newest segment, recovery skips numbers of every resource.
        let cause = self.breaks.cause_since(self.before);
        let breaks = self.breaks;
        match self.by_resource.entry(resource) {
            Entry::Vacant(entry) => {
                let numbers = Numbers { last: seq, ..Numbers::default() };
                entry.insert(Followed { numbers, seen: breaks, carried: None });
                None
            }
            Entry::Occupied(mut entry) => {
                let followed = entry.get_mut();
                let overdue = followed.overdue(resource);
                if seq > followed.numbers.last {
                    followed.carried = Some((seq, cause));
                    followed.seen = breaks;
                }
                overdue
            }
        }
    }

    /// Takes a declared loss.
    pub fn declared(&mut self, gap: &Gap) {
        self.declared.insert((gap.resource(), gap.first(), gap.last()));
    }

    /// Says whether numbers that are not held have been declared lost, all of them. A declaration stands behind the loss, so
    /// this is asked at the end of the log.
    #[must_use]
    pub fn is_declared(&self, jump: &Jump) -> bool {
        let mut next = jump.from;
        for (_, first, last) in self.declared.range((jump.resource, 0, 0)..=(jump.resource, jump.to, u64::MAX)) {
            if *first <= next && *last >= next {
                next = last.saturating_add(1);
            }
        }
        next > jump.to
    }

    /// Says that the log ends; returns the numbers that are not held at its end.
    pub fn finish(&mut self) -> Vec<Jump> {
        self.by_resource.iter_mut().filter_map(|(resource, followed)| followed.overdue(*resource)).collect()
    }

    /// Takes the number of an observation; returns those that are not held before it.
    pub fn observation(&mut self, resource: Cri, seq: u64) -> Option<Jump> {
        let breaks = self.breaks;
        let followed = self.by_resource.entry(resource).or_insert_with(|| Followed {
            // The first of a resource that no segment before has carried over.
            numbers: Numbers { last: seq.saturating_sub(1), ..Numbers::default() },
            seen: breaks,
            carried: None,
        });
        let last = followed.numbers.last;
        if seq <= last {
            return Some(Jump { resource, from: seq, to: last, cause: Cause::Twice });
        }
        let cause = match (breaks.cause_since(followed.seen), followed.carried) {
            (Cause::Unknown, Some((_, cause))) => cause,
            (cause, _) => cause,
        };
        followed.carried = followed.carried.filter(|(carried, _)| *carried > seq);
        let jump = (seq > last + 1).then(|| followed.jump(resource, seq - 1, cause));
        followed.seen = breaks;
        followed.numbers.last = seq;
        followed.numbers.held += 1;
        if followed.numbers.first == 0 {
            followed.numbers.first = seq;
        }
        jump
    }

    /// Returns what was seen of every resource.
    pub fn resources(&self) -> impl Iterator<Item = (Cri, Numbers)> {
        self.by_resource.iter().map(|(resource, followed)| (*resource, followed.numbers))
    }
}

impl Followed {
    fn overdue(&mut self, resource: Cri) -> Option<Jump> {
        let (to, cause) = self.carried.take()?;
        (to > self.numbers.last).then(|| self.jump(resource, to, cause))
    }

    fn jump(&mut self, resource: Cri, to: u64, cause: Cause) -> Jump {
        let from = self.numbers.last + 1;
        self.numbers.last = to;
        self.numbers.missing += to + 1 - from;
        Jump { resource, from, to, cause }
    }
}
