//! What a buffer has promised, and whether a store keeps it.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::path::Path;

use crate::buffer::{Declared, Ledgers, Limits, Log, Mark, NARROW, RARE, Resource, Seen, Store, WIDE};

/// A set of numbers; written as `1-5,8-9`, or `-` when there are none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Numbers(pub(crate) BTreeSet<u64>);

impl Numbers {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = BTreeSet::new();
        for range in text.split(',').filter(|range| *range != "-") {
            let (first, last) = range.split_once('-')?;
            numbers.extend(first.parse::<u64>().ok()?..=last.parse().ok()?);
        }
        Some(Self(numbers))
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => ranges.push((*number, *number)),
            }
        }
        if ranges.is_empty() {
            return f.write_char('-');
        }
        for (place, (first, last)) in ranges.iter().enumerate() {
            write!(f, "{}{first}-{last}", if place > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// What was promised of one resource. No number is ever left out when observations are accepted, for the disk takes
/// everything.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Promise {
    /// Accepted are all up to this.
    pub(crate) accepted: u64,
    /// Durable are all up to this.
    pub(crate) durable: u64,
    /// Acknowledged, and not necessarily written down.
    pub(crate) acknowledged: Numbers,
    /// Written down as acknowledged.
    pub(crate) kept: Numbers,
    /// Declared lost, and the declaration acknowledged.
    pub(crate) lost: Numbers,
}

/// What was promised of all resources, at one instant.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Promises(pub(crate) [Promise; 3]);

impl Promises {
    /// Reads what [`fmt::Display`] wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut promises = Self::default();
        for promise in &mut promises.0 {
            *promise = Promise {
                accepted: words.next()?.parse().ok()?,
                durable: words.next()?.parse().ok()?,
                acknowledged: Numbers::parse(words.next()?)?,
                kept: Numbers::parse(words.next()?)?,
                lost: Numbers::parse(words.next()?)?,
            };
        }
        words.next().is_none().then_some(promises)
    }
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Promise { accepted, durable, acknowledged, kept, lost }) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{accepted} {durable} {acknowledged} {kept} {lost}")?;
        }
        Ok(())
    }
}

/// What a store must hold after a crash of one kind at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    /// All up to this were promised and must be there, or declared lost.
    pub(crate) sure: u64,
    /// No number above this was ever given.
    pub(crate) most: u64,
    /// Nothing of this is handed out again.
    pub(crate) kept: Numbers,
    /// Nothing but this was ever acknowledged.
    pub(crate) acknowledged: Numbers,
    /// Of nothing but this was the loss ever acknowledged.
    pub(crate) lost: Numbers,
}

/// How many observations are added to each resource after the crash.
const ADDED: u64 = 2;

/// Opens the log of `data_dir` and checks it, then opens it once more and goes on with it.
///
/// # Errors
/// The promise that was broken.
pub(crate) fn check(data_dir: &Path, log: Log, limits: &Limits, due: &[Due; 3]) -> Result<(), String> {
    let ledgers = Ledgers::new(log);
    let store = Store::open(data_dir, limits, &ledgers)?;
    let epoch = store.epoch();
    let last = ledgers.counts().map(|counts| counts.last);
    let found = Found::read(store, &ledgers)?;
    // What the outlet found missing is declared, which may take a new segment, and that an old one.
    let dropped = ledgers.counts().map(|counts| counts.dropped);
    for resource in RESOURCES {
        found
            .keeps(resource, last[resource], &due[resource])
            .map_err(|broken| format!("resource {resource}: {broken}; {:?}", due[resource]))?;
    }

    let ledgers = Ledgers::new(log);
    let store = Store::open(data_dir, limits, &ledgers)?;
    let (again, now) = (ledgers.counts().map(|counts| counts.last), store.epoch());
    if again != last || last != [0; 3] && now != epoch {
        return Err(format!("first it went on behind {last:?} of {epoch:x}, then behind {again:?} of {now:x}"));
    }
    for number in 1..=ADDED {
        for resource in RESOURCES {
            store.append(resource, Mark { maker: SUCCESSOR, number: last[resource] + number });
        }
    }
    let more = Found::read(store, &ledgers)?;
    let evicted = RESOURCES.map(|resource| dropped[resource] + ledgers.counts()[resource].dropped);
    for resource in RESOURCES {
        let (found, more) = (found.of(resource), more.of(resource));
        let (added, old): (Vec<Seen>, Vec<Seen>) = more.iter().partition(|seen| seen.mark.maker == SUCCESSOR);
        let is_in =
            |seen: &Seen, all: &[Seen]| all.iter().any(|own| (own.number, own.mark) == (seen.number, seen.mark));
        let gone: Vec<u64> = found.iter().filter(|seen| !is_in(seen, &old)).map(|seen| seen.number).collect();
        let new: Vec<u64> = old.iter().filter(|seen| !is_in(seen, &found)).map(|seen| seen.number).collect();
        let added: Vec<u64> = added.iter().map(|seen| seen.number).collect();
        let next = last[resource] + 1..=last[resource] + ADDED;
        if !new.is_empty() || gone.len() as u64 > evicted[resource] || !added.iter().copied().eq(next) {
            let evicted = evicted[resource];
            return Err(format!(
                "resource {resource}: the second start lacks {gone:?} ({evicted} evicted), has {new:?} besides, adds {added:?}"
            ));
        }
    }
    Ok(())
}

/// Maker of what is added after the crash.
const SUCCESSOR: u64 = 9;

/// What a store handed out.
struct Found {
    seen: Vec<Seen>,
    declared: Vec<Declared>,
}

impl Found {
    /// Reads everything there is, and acknowledges none of it: the next start must hand it out again.
    fn read(mut store: Store, ledgers: &Ledgers) -> Result<Self, String> {
        store.no_more();
        let mut found = Self { seen: Vec::new(), declared: Vec::new() };
        while let Some(read) = store.read(usize::MAX) {
            found.seen.extend(read.seen);
            found.declared.extend(read.declared);
        }
        store.close();
        // What a kill or a power cut leaves is never damage.
        match ledgers.damaged_bytes() {
            0 => Ok(found),
            bytes => Err(format!("{bytes} bytes are called damaged")),
        }
    }

    /// Returns the observations of a resource by their numbers.
    fn of(&self, resource: Resource) -> Vec<Seen> {
        let mut seen: Vec<Seen> = self.seen.iter().filter(|seen| seen.resource == resource).copied().collect();
        seen.sort_by_key(|seen| seen.number);
        seen
    }

    /// Checks what was handed out of one resource, whose numbering goes on behind `last`.
    fn keeps(&self, resource: Resource, last: u64, due: &Due) -> Result<(), String> {
        if !(due.sure..=due.most).contains(&last) {
            return Err(format!("numbering goes on behind {last}"));
        }
        let seen = self.of(resource);
        if let Some(wrong) = seen.iter().find(|seen| seen.mark.number != seen.number || seen.number > last) {
            return Err(format!("{wrong:?} has the number of another, numbering goes on behind {last}"));
        }
        if let Some(pair) = seen.windows(2).find(|pair| pair[0].number == pair[1].number) {
            return Err(format!("{pair:?} are one"));
        }
        for lane in 0..2 {
            let in_lane = self.seen.iter().filter(|seen| seen.resource == resource && seen.lane == lane);
            let numbers: Vec<u64> = in_lane.map(|seen| seen.number).collect();
            if let Some(pair) = numbers.windows(2).find(|pair| pair[0] > pair[1]) {
                return Err(format!("{pair:?} out of order"));
            }
        }
        if let Some(again) = seen.iter().find(|seen| due.kept.0.contains(&seen.number)) {
            return Err(format!("{again:?} is handed out again"));
        }
        // Whatever is gone that nobody acknowledged was declared lost, durably and before it went.
        let declared = |number: &u64| {
            let mut gaps = self.declared.iter().filter(|gap| gap.resource == resource);
            gaps.any(|gap| (gap.first..=gap.last).contains(number))
        };
        let settled = |number: &u64| due.acknowledged.0.contains(number) || due.lost.0.contains(number);
        let missing = (1..=due.sure).filter(|number| !settled(number));
        let missing = missing.filter(|number| seen.binary_search_by_key(number, |seen| seen.number).is_err());
        let undeclared: Vec<u64> = missing.filter(|number| !declared(number)).collect();
        if undeclared.is_empty() { Ok(()) } else { Err(format!("{undeclared:?} are missing, {:?}", self.declared)) }
    }
}

/// Every resource, in the order of [`Promises`].
pub(crate) const RESOURCES: [Resource; 3] = [RARE, NARROW, WIDE];
