//! What goes with a segment that is given up undelivered, and what is waiting to be declared. Pure but for reading the segment.

use std::collections::BTreeMap;

use ganglion_protocols::record::Record;
use ganglion_protocols::{Cri, Gap, LossCause, Timestamp};
use tracing::error;

use super::account::Account;
use super::format::Position;
use super::scan::{SegmentReader, Shapes, Step, records};
use super::shared::Entry;
use super::spans::Spans;
use super::storage::Storage;

/// Losses, one for each resource and cause.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses(BTreeMap<(Cri, LossCause), Gap>);

impl Losses {
    /// Adds a loss to what is lost of the same resource for the same cause.
    pub(super) fn add(&mut self, gap: Gap) {
        self.0
            .entry((gap.resource(), gap.cause()))
            .and_modify(|own| *own = own.merged(&gap).unwrap_or(gap))
            .or_insert(gap);
    }

    /// Adds one lost observation.
    pub(super) fn add_one(&mut self, resource: Cri, seq: u64, t: Timestamp, cause: LossCause) {
        if let Some(gap) = Gap::whole(resource, (seq, seq), (t, t), cause) {
            self.add(gap);
        }
    }

    /// Adds all of the other's.
    pub(super) fn append(&mut self, other: &mut Self) {
        std::mem::take(&mut other.0).into_values().for_each(|gap| self.add(gap));
    }

    /// Takes the first loss away.
    pub(super) fn pop(&mut self) -> Option<Gap> {
        self.0.pop_first().map(|(_, gap)| gap)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Gap> {
        self.0.values()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Returns what is lost with a segment: its undelivered observations, and the losses that it was to declare itself.
pub(super) fn with_segment(storage: &dyn Storage, entry: &Entry, delivered: &Spans, account: &Account) -> Losses {
    let mut losses = Losses::default();
    let segment = entry.number;
    let mut reader = match SegmentReader::open(storage, segment) {
        Ok(reader) => reader,
        Err(error) => {
            error!(segment, ?error, "the quota is spent: the oldest segment is given up, unreadable and so uncounted");
            return losses;
        }
    };
    let mut shapes = Shapes::default();
    let mut counts: BTreeMap<Cri, u64> = BTreeMap::new();
    let mut at = Position::start_of(segment);
    loop {
        match reader.step(at.offset, entry.end) {
            Err(error) => {
                let offset = at.offset;
                error!(segment, offset, %error, "the rest of a segment that is given up cannot be read nor counted");
                break;
            }
            Ok(Step::End) => break,
            Ok(Step::Hole { next, .. }) => at.offset = next,
            Ok(Step::Frame { records: frame, next, .. }) => {
                shapes.learn_all(frame);
                if delivered.end_of(at).is_none() {
                    of_frame(frame, &shapes, &mut losses, &mut counts);
                }
                at.offset = next;
            }
        }
    }
    let observations: u64 = counts.values().sum();
    if observations > 0 {
        error!(segment, observations, "the quota is spent: the oldest segment is given up undelivered");
    }
    for (resource, count) in counts {
        account.count(resource, |ledger| ledger.dropped += count);
    }
    losses
}

fn of_frame(frame: &[u8], shapes: &Shapes, losses: &mut Losses, counts: &mut BTreeMap<Cri, u64>) {
    for record in records(frame) {
        match record {
            Ok(Record::Observation(observation)) => {
                if let Some(shape) = shapes.get(observation.shape) {
                    losses.add_one(shape.resource, observation.seq, observation.t, LossCause::Quota);
                    *counts.entry(shape.resource).or_default() += 1;
                }
            }
            Ok(Record::Gap(gap)) => losses.add(gap),
            Ok(Record::Shape(_) | Record::LastSeq { .. } | Record::Mark { .. }) | Err(_) => {}
        }
    }
}
