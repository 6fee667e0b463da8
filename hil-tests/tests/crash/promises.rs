//! What a buffer has promised, and whether a store keeps it.

use std::fmt::{self, Write as _};
use std::path::Path;

use crate::buffer::{Ledgers, Limits, Mark, NARROW, RARE, Resource, Seen, Store, WIDE};

/// What was promised of one resource, as numbers of observations: no number is ever left out here, for the disk takes
/// everything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Promise {
    /// Accepted are all up to this.
    pub(crate) accepted: u64,
    /// Durable are all up to this.
    pub(crate) durable: u64,
    /// Acknowledged are all up to this, and not necessarily written down.
    pub(crate) acknowledged: u64,
    /// Written down as acknowledged are all up to this.
    pub(crate) kept: u64,
    /// How many the quota has taken that were not acknowledged.
    pub(crate) evicted: u64,
}

/// What was promised of all resources, at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Promises(pub(crate) [Promise; 3]);

impl Promises {
    /// Reads what [`fmt::Display`] wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace().map(|word| word.parse().ok());
        let mut promises = Self::default();
        for promise in &mut promises.0 {
            let mut word = || words.next().flatten();
            *promise =
                Promise { accepted: word()?, durable: word()?, acknowledged: word()?, kept: word()?, evicted: word()? };
        }
        words.next().is_none().then_some(promises)
    }
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Promise { accepted, durable, acknowledged, kept, evicted }) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{accepted} {durable} {acknowledged} {kept} {evicted}")?;
        }
        Ok(())
    }
}

/// What a store must hold after a crash of one kind at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    /// All up to this were promised and must be there.
    pub(crate) sure: u64,
    /// No number above this was ever given.
    pub(crate) most: u64,
    /// Nothing up to this is handed out again.
    pub(crate) kept: u64,
    /// What is behind this was never acknowledged.
    pub(crate) acknowledged: u64,
    /// So many may be missing, the oldest, for the quota took them.
    pub(crate) evicted: u64,
}

/// How many observations are added to each resource after the crash.
const ADDED: u64 = 2;

/// Opens the store of `data_dir` and checks it, then opens it once more and goes on with it.
///
/// # Errors
/// The promise that was broken.
pub(crate) fn check(data_dir: &Path, limits: &Limits, due: &[Due; 3]) -> Result<(), String> {
    let ledgers = Ledgers::new();
    let store = Store::open(data_dir, limits, &ledgers)?;
    let epoch = store.epoch();
    let last = ledgers.counts().map(|counts| counts.last);
    let found = read_to_end(store, &ledgers)?;
    for resource in RESOURCES {
        holds(&of(&found, resource), last[resource], &due[resource])
            .map_err(|broken| format!("resource {resource}: {broken}; {:?}", due[resource]))?;
    }

    let ledgers = Ledgers::new();
    let store = Store::open(data_dir, limits, &ledgers)?;
    let again = ledgers.counts().map(|counts| counts.last);
    if again != last || last != [0; 3] && store.epoch() != epoch {
        let now = store.epoch();
        return Err(format!(
            "the second start goes on behind {again:?} of {now:x}, the first would behind {last:?} of {epoch:x}"
        ));
    }
    for number in 1..=ADDED {
        for resource in RESOURCES {
            store.append(resource, Mark { maker: SUCCESSOR, number: last[resource] + number });
        }
    }
    let more = read_to_end(store, &ledgers)?;
    let evicted = ledgers.counts().map(|counts| counts.dropped);
    for resource in RESOURCES {
        let (found, more) = (of(&found, resource), of(&more, resource));
        let added: Vec<u64> = more.iter().filter(|seen| seen.mark.maker == SUCCESSOR).map(|seen| seen.number).collect();
        let old = &more[..more.len() - added.len()];
        let taken = (found.len() as u64).saturating_sub(old.len() as u64);
        if !found.ends_with(old)
            || taken > evicted[resource]
            || !added.iter().copied().eq(last[resource] + 1..=last[resource] + ADDED)
        {
            return Err(format!("resource {resource}: the second start hands out {more:?} after {found:?}"));
        }
    }
    Ok(())
}

/// Maker of what is added after the crash.
const SUCCESSOR: u64 = 9;

fn of(seen: &[Seen], resource: Resource) -> Vec<Seen> {
    seen.iter().filter(|seen| seen.resource == resource).copied().collect()
}

/// Checks what was handed out of one resource, whose numbering goes on behind `last`.
fn holds(seen: &[Seen], last: u64, due: &Due) -> Result<(), String> {
    if !(due.sure..=due.most).contains(&last) {
        return Err(format!("numbering goes on behind {last}"));
    }
    let numbers: Vec<u64> = seen.iter().map(|seen| seen.number).collect();
    if let Some(wrong) = seen.iter().find(|seen| seen.mark.number != seen.number || seen.number > last) {
        return Err(format!("{wrong:?} has the number of another, numbering goes on behind {last}"));
    }
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(format!("{pair:?} out of order"));
    }
    if let Some(again) = numbers.first().filter(|first| **first <= due.kept) {
        return Err(format!("{again} is handed out again"));
    }
    // Behind the place of the cursor there is no hole among what is sure.
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1] && pair[1] <= due.sure) {
        return Err(format!("nothing between {pair:?}"));
    }
    let missing = (due.acknowledged + 1..=due.sure).filter(|number| numbers.binary_search(number).is_err());
    accounted_for(&missing.collect::<Vec<_>>(), due)
}

/// Observations that are gone must be the oldest, and no more than the ledgers say that the quota took.
fn accounted_for(missing: &[u64], due: &Due) -> Result<(), String> {
    let oldest = missing.iter().copied().eq((due.acknowledged + 1..).take(missing.len()));
    if oldest && missing.len() as u64 <= due.evicted { Ok(()) } else { Err(format!("{missing:?} are missing")) }
}

/// Reads everything there is, and acknowledges none of it: the next start must hand it out again.
fn read_to_end(mut store: Store, ledgers: &Ledgers) -> Result<Vec<Seen>, String> {
    store.no_more();
    let mut all = Vec::new();
    while let Some(seen) = store.read() {
        all.extend(seen);
    }
    store.close();
    // What a kill or a power cut leaves is never damage.
    match ledgers.damaged_bytes() {
        0 => Ok(all),
        bytes => Err(format!("{bytes} bytes are called damaged")),
    }
}

/// Every resource, in the order of [`Promises`].
pub(crate) const RESOURCES: [Resource; 3] = [RARE, NARROW, WIDE];
