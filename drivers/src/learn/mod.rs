//! What a unit refuses, learnt from what it answers: cuts, a longest request, and points not worth asking for.
//!
//! [`Memory`] turns refusals into [`Limits`] for the planner. There is no procedure that could get stuck half-way:
//! each refusal changes the limits, the owner plans what is still unread anew and asks at once, until every want was
//! read or was refused alone.
//!
//! # Policy
//!
//! **A refused block is cut.** A block is a request for several wants, refused with 0x02 or 0x03; other codes say
//! nothing about addresses. It is cut in its largest gap (the one nearest the middle of several), else between the
//! two wants nearest its middle. A cut is a place no request spans. Wants that overlap are parted as well: the one
//! that spans the cut is then read alone. Until the refusal is explained, no request reaches over the ends of the
//! block either.
//!
//! **What the refusal meant is decided when both sides of its cut have answered** (each in a request that ends or
//! begins there):
//! - in a gap: there is a hole, the cut stays;
//! - between neighbours, and nothing so long ever answered: the block was too long. The cut goes, and the longest
//!   request is searched between the longest that answered and the shortest that did not, halving: at most seven
//!   searches, for bits down to 16. A length that no plan makes use of counts as tested once everything was asked
//!   again;
//! - between neighbours, though longer ones answered: noise. The cut goes. If the same place is refused again, it
//!   stays: some units do not answer over the border of two of their areas.
//!
//! A gap is no proof when nothing so long ever answered. The length is blamed for it if the code was 0x03 ("value"),
//! if a length limit is known already, or if it is the second such gap. Then, before the search, a request no longer
//! than what answered must cross the gap: if it is refused, there is a hole after all and the limit goes.
//!
//! **A refusal is explained by the smallest refused part.** When a part of a refused block is refused too, the cut of
//! the whole draws no conclusion; when the part's own reason is found (a point refused alone, a cut that stays, a
//! length), the cuts of the blocks around it go, and so does a length limit that rested on such a block.
//!
//! **A point refused alone stays alone** until it answers, so that it spoils no other. Refused [three
//! times](Memory::parked) and never answered, it is parked: not asked until its time is over, then once, alone. *A
//! point whose items ever answered is never parked* ([wirenboard/wb-mqtt-serial#806]); the ranges that answered are
//! part of the facts and so outlive a restart. They are bounded: when there are too many, near ones become one, and a
//! point between two of them is rather asked in vain than lost. A unit that never answered anything may be starting up:
//! nothing of it is parked, and its first answer clears what was held against its points.
//!
//! **Some units do not answer at all when too much is asked.** A request is taken for too long when it was silent
//! twice and a shorter one answered in between, and none as long ever answered.
//!
//! **Every verdict has a term,** ten minutes at first, doubling with each confirmation up to a day. When it is over,
//! the next plan tries again (a length at exactly what was too long): refused, the verdict is back with its
//! confirmations, at its old place and without another search; answered, it is gone for good. An answer over a place
//! always removes the verdict there at once.
//!
//! **Bounds.** 64 cuts, 64 points, 64 ranges; the one that ends first gives way, lapsed ones before all others. A
//! unit with more holes than that is still read, at the price of asking in vain now and then. About 7 KiB for a unit,
//! no heap.
//!
//! What is learnt holds for the unit, not for one period: plans of several periods share one memory.
//!
//! [wirenboard/wb-mqtt-serial#806]: https://github.com/wirenboard/wb-mqtt-serial/issues/806

mod fact;
mod length;
mod place;
mod points;
mod term;

pub use fact::{Fact, FactKind};

use core::time::Duration;

use ganglion_protocols::modbus::{ExceptionCode, Table};
use heapless::Vec;

use self::length::Length;
use self::place::{Joint, Place, State};
use self::points::{Answered, Point};
use self::term::Term;
use crate::plan::{Cut, Limits, ReadRequest, is_parted};

/// Most cuts from refused blocks.
const PLACES: usize = 64;
/// Most points that were refused alone.
const POINTS: usize = 64;
/// Most ranges that answered.
const RANGES: usize = 64;
/// A place and a point each have up to three cuts.
const CUTS: usize = 3 * PLACES + 3 * POINTS;

/// What a refusal means for the rest of the poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The limits are others now: plan what is still unread anew, the wants of this request included, and ask at
    /// once.
    Cut,
    /// One want alone was refused: it stays unread in this poll. Plan the rest anew if [`Memory::changed`] moved.
    Point,
    /// It says nothing about addresses.
    Nothing,
}

/// What is known about one unit.
///
/// Times count from any one start, the same for all calls. Call [`expire`](Self::expire) before each poll, leave
/// [`parked`](Self::parked) wants out of the plan, plan with [`limits`](Self::limits), and report each outcome.
#[derive(Clone, Debug)]
pub struct Memory {
    places: Vec<Place, PLACES>,
    points: Vec<Point, POINTS>,
    answered: Answered,
    registers: Length,
    bits: Length,
    /// Those of the places and points that hold now, sorted.
    cuts: Vec<Cut, CUTS>,
    changed: u32,
    learnt: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// Knows nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            places: Vec::new(),
            points: Vec::new(),
            answered: Answered::new(),
            registers: Length::UNKNOWN,
            bits: Length::UNKNOWN,
            cuts: Vec::new(),
            changed: 0,
            learnt: 0,
        }
    }

    /// Returns the limits of `template` with what was learnt: its own cuts are replaced, its joined lengths can only
    /// shrink.
    #[must_use]
    pub fn limits<'a>(&'a self, template: &Limits<'a>) -> Limits<'a> {
        Limits {
            joined_registers: template.joined_registers.min(self.registers.limit()),
            joined_bits: template.joined_bits.min(self.bits.limit()),
            cuts: &self.cuts,
            ..*template
        }
    }

    /// Says whether `want` is not to be asked for now: it was refused alone three times and never answered.
    #[must_use]
    pub fn parked(&self, now: Duration, want: ReadRequest) -> bool {
        let parked = |point: &Point| point.want == want && point.is_parked() && point.term.is_running_at(now);
        self.answered.any() && self.points.iter().any(parked)
    }

    /// Counts changes of [`limits`](Self::limits) and [`parked`](Self::parked), wrapping: a plan made before the last
    /// one is out of date.
    #[must_use]
    pub fn changed(&self) -> u32 {
        self.changed
    }

    /// Counts changes of [`facts`](Self::facts), wrapping, apart from the time they have left: store them again.
    #[must_use]
    pub fn learnt(&self) -> u32 {
        self.learnt
    }

    /// Takes note that `request` was answered.
    pub fn answered(&mut self, now: Duration, request: ReadRequest) {
        let before = self.bounds();
        if !self.answered.any() {
            // Whatever was refused until now was refused by a unit that was not ready.
            self.points.clear();
        }
        let (good, ranges) = (self.length(request.table).good, self.answered.add(request));
        self.length_mut(request.table).answered(request);
        self.points.retain(|point| !request.covers(point.want));
        self.places.retain(|place| !place.is_crossed_by(request));
        self.places.iter_mut().for_each(|place| place.hear(request));
        while let Some(place) = self.places.iter().copied().find(Place::is_heard) {
            self.conclude(now, place);
        }
        if ranges || self.length(request.table).good != good {
            self.learnt = self.learnt.wrapping_add(1);
        }
        self.note(before);
    }

    /// Takes note that `request` was refused with `code`; `wants` are those it was to read, sorted.
    pub fn refused(
        &mut self,
        now: Duration,
        request: ReadRequest,
        code: ExceptionCode,
        wants: &[ReadRequest],
    ) -> Verdict {
        let value = code == ExceptionCode::ILLEGAL_DATA_VALUE;
        if !value && code != ExceptionCode::ILLEGAL_DATA_ADDRESS {
            return Verdict::Nothing;
        }
        let inside = || wants.iter().filter(|want| request.covers(**want));
        let alone = is_parted(request, &self.cuts) || request.count > self.length(request.table).limit();
        let before = self.bounds();
        let verdict = if inside().any(|want| *want == request) && (alone || inside().all(|want| *want == request)) {
            self.strike(now, request);
            Verdict::Point
        } else if inside().next().is_none() {
            Verdict::Nothing
        } else if alone || self.part(now, request, value, wants) {
            // A plan from before the last change asks for what the limits no longer allow: nothing to learn, plan
            // anew.
            Verdict::Cut
        } else {
            Verdict::Nothing
        };
        self.note(before);
        verdict
    }

    /// Takes note that `request` was not answered in time. A unit that answers shorter requests and leaves this one
    /// unanswered twice does not take as much at once.
    pub fn silent(&mut self, now: Duration, request: ReadRequest) {
        let before = self.bounds();
        if self.length_mut(request.table).silent(now, request) {
            self.drop_cuts_of_length(request);
        }
        self.note(before);
    }

    /// Ends the verdicts whose time is over, so that the next plan tries again. Says whether that changes a plan.
    pub fn expire(&mut self, now: Duration) -> bool {
        // It is asked all the time, and hardly ever is there something.
        if !self.terms().any(|term| term.is_over(now)) {
            return false;
        }
        let before = self.bounds();
        for place in &mut self.places {
            place.term.lapse(now);
        }
        self.places.retain(|place| !place.term.is_forgotten(now));
        for point in &mut self.points {
            point.term.lapse(now);
        }
        self.points.retain(|point| !point.term.is_forgotten(now));
        self.registers.expire(now);
        self.bits.expire(now);
        self.note(before)
    }

    /// Returns what is known, to be stored: everything but refusals whose reason is not found yet.
    pub fn facts(&self, now: Duration) -> impl Iterator<Item = Fact> {
        let fact = move |kind, request, term: Term| Fact {
            kind,
            request,
            left: term.left(now),
            confirmations: term.confirmations(),
        };
        let settled = |place: &&Place| place.state == State::Settled || !place.term.is_running();
        let cuts = self.places.iter().filter(settled);
        let cuts = cuts
            .map(move |place| fact(FactKind::Cut { at: place.joint.at, gap: place.in_gap() }, place.block, place.term));
        let points = self.points.iter();
        let points =
            points.map(move |point| fact(FactKind::Refused { strikes: point.strikes }, point.want, point.term));
        let lengths = [(Table::HoldingRegister, self.registers), (Table::Coil, self.bits)];
        let bad = lengths
            .into_iter()
            .filter_map(move |(_, length)| length.bad.map(|bad| fact(FactKind::TooLong, bad.block, bad.term)));
        let plain = |kind, request| Fact { kind, request, left: Duration::ZERO, confirmations: 0 };
        let good = lengths.into_iter().filter(|(_, length)| length.good > 0).map(move |(table, length)| {
            plain(FactKind::Longest, ReadRequest { table, address: 0, count: length.good })
        });
        let answered = self.answered.iter().map(move |range| plain(FactKind::Answered, range));
        answered.chain(good).chain(bad).chain(points).chain(cuts)
    }

    /// Takes back one fact. Facts that cannot be are left out: without items, past the end, a cut at the edge of its
    /// block.
    pub fn restore(&mut self, now: Duration, fact: Fact) {
        let Fact { kind, request, left, confirmations } = fact;
        if request.count == 0 || request.end() > 65_536 {
            return;
        }
        let before = self.bounds();
        let term = Term::restored(now, left, confirmations);
        match kind {
            FactKind::Cut { at, gap } if (Cut { table: request.table, at }).is_inside(request) => {
                let place = Place::new(now, request, Joint::restored(at, gap), false);
                self.insert_place(Place { state: State::Settled, term, ..place });
            }
            FactKind::Cut { .. } => {}
            FactKind::Refused { strikes } => {
                let point = Point { strikes: strikes.min(points::STRIKES), term, ..Point::new(now, request) };
                self.insert_point(point);
            }
            FactKind::TooLong => self.length_mut(request.table).restore(request, term),
            FactKind::Longest => self.length_mut(request.table).answered(request),
            FactKind::Answered => {
                self.answered.add(request);
            }
        }
        self.note(before);
    }

    fn length(&self, table: Table) -> &Length {
        if table.is_bits() { &self.bits } else { &self.registers }
    }

    fn length_mut(&mut self, table: Table) -> &mut Length {
        if table.is_bits() { &mut self.bits } else { &mut self.registers }
    }

    /// Takes note that one want alone was refused.
    fn strike(&mut self, now: Duration, want: ReadRequest) {
        let answered = self.answered.holds(want);
        let known = self.points.iter().any(|point| point.want == want);
        if !known {
            self.insert_point(Point::new(now, want));
            // What was refused around it was refused because of it.
            self.places.retain(|place| {
                let open = place.state != State::Settled && place.term.is_running();
                !(place.block.covers(want) && (open || !answered))
            });
            if !answered {
                self.length_mut(want.table).explain(want);
            }
        }
        if let Some(point) = self.points.iter_mut().find(|point| point.want == want && !answered) {
            point.strike(now);
        }
        self.learnt = self.learnt.wrapping_add(1);
    }

    /// Finds a limit that forbids the refused `block`. Says whether there is one.
    fn part(&mut self, now: Duration, block: ReadRequest, value: bool, wants: &[ReadRequest]) -> bool {
        for place in self.places.iter_mut().filter(|place| place.encloses(block) && place.term.is_running()) {
            if place.state != State::Settled {
                place.state = State::Explained;
            }
        }
        if self.length_mut(block.table).confirm(now, block) {
            return true;
        }
        // Where a refusal was before, it is likely again.
        let lapsed = |place: &&mut Place| !place.term.is_running() && place.cut().is_inside(block);
        if let Some(place) = self.places.iter_mut().filter(lapsed).max_by_key(|place| place.term.confirmations()) {
            *place = place.again(now, block, value);
            return true;
        }
        let joint = Joint::of(block, wants);
        if let Some(joint) = joint {
            self.insert_place(Place::new(now, block, joint, value));
        }
        joint.is_some()
    }

    /// Both sides of `place` have answered: decides what the refusal of its block meant.
    fn conclude(&mut self, now: Duration, place: Place) {
        let block = place.block;
        let length = *self.length(block.table);
        let ambiguous = |other: &Place| {
            let same_kind = other.block.table.is_bits() == block.table.is_bits();
            same_kind && other.term.is_running() && other.in_gap() && other.block.count > length.good
        };
        let also = self.places.iter().filter(|other| other.state == State::Settled && ambiguous(other));
        let also = also.min_by_key(|other| other.block.count).copied();
        let by_length = !place.in_gap() || place.value || length.is_known() || also.is_some();
        let mut stays = false;
        if block.count > length.good && by_length {
            let shortest = also.filter(|other| other.block.count < block.count).unwrap_or(place);
            let doubt = shortest.in_gap().then_some(shortest.joint);
            self.length_mut(block.table).too_long(now, shortest.block, doubt);
            self.drop_cuts_of_length(shortest.block);
        } else {
            stays = place.in_gap() || place.term.confirmations() > 0;
            if stays {
                self.length_mut(block.table).explain(block);
            }
            if let Some(known) = self.places.iter_mut().find(|other| **other == place) {
                if stays {
                    known.state = State::Settled;
                } else {
                    known.term.suspend();
                }
            }
        }
        self.learnt = self.learnt.wrapping_add(1);
        self.places.retain(|other| {
            let explained = other.state != State::Settled || stays;
            !(explained && other.term.is_running() && other.encloses(block))
        });
    }

    /// The length of `block` is the reason for every refusal of one as long.
    fn drop_cuts_of_length(&mut self, block: ReadRequest) {
        self.places.retain(|place| {
            let same_kind = place.block.table.is_bits() == block.table.is_bits();
            !(same_kind && place.term.is_running() && place.block.count >= block.count)
        });
    }

    fn insert_place(&mut self, place: Place) {
        if let Some(known) = self.places.iter_mut().find(|other| other.cut() == place.cut()) {
            *known = place;
        } else {
            insert(&mut self.places, place, |place| place.term.rank());
        }
    }

    fn insert_point(&mut self, point: Point) {
        if let Some(known) = self.points.iter_mut().find(|other| other.want == point.want) {
            *known = point;
        } else {
            insert(&mut self.points, point, |point| point.term.rank());
        }
    }

    fn terms(&self) -> impl Iterator<Item = Term> {
        let lengths = [self.registers.bad, self.bits.bad].into_iter().flatten().map(|bad| bad.term);
        let places = self.places.iter().map(|place| place.term);
        places.chain(self.points.iter().map(|point| point.term)).chain(lengths)
    }

    /// What a plan depends on, apart from the cuts.
    fn bounds(&self) -> Bounds {
        let parked = self.points.iter().filter(|point| point.is_parked()).count();
        Bounds { registers: self.registers.limit(), bits: self.bits.limit(), parked }
    }

    /// Makes the cuts anew and counts a change if a plan depends on what changed since `before`.
    fn note(&mut self, before: Bounds) -> bool {
        let mut cuts: Vec<Cut, CUTS> = Vec::new();
        let places = self.places.iter().filter(|place| place.term.is_running()).flat_map(Place::cuts);
        for cut in places.chain(self.points.iter().flat_map(Point::cuts)) {
            // The capacity is that of all places and points together.
            cuts.push(cut).unwrap_or_default();
        }
        cuts.sort_unstable();
        let changes = cuts != self.cuts || before != self.bounds();
        self.cuts = cuts;
        if changes {
            self.changed = self.changed.wrapping_add(1);
            self.learnt = self.learnt.wrapping_add(1);
        }
        changes
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Bounds {
    registers: u16,
    bits: u16,
    parked: usize,
}

/// Adds `item`; in a full list the one of the lowest rank gives way.
fn insert<T, R: Ord, const N: usize>(list: &mut Vec<T, N>, item: T, rank: impl Fn(&T) -> R) {
    if let Err(item) = list.push(item)
        && let Some(first) = list.iter_mut().min_by_key(|other| rank(other))
    {
        *first = item;
    }
}
