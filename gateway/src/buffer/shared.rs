//! What the writer and the outlet both know: which segments there are, how far each is durable, what is delivered.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ganglion_protocols::Gap;
use tokio::sync::Notify;

use super::format::Position;
use super::spans::{Span, Spans};

/// What became durable within this time before a connection began goes out live; what is older is backfill.
const LIVE_AGE: Duration = Duration::from_secs(5);
/// When live falls further behind than this, it jumps to the present.
const LIVE_LAG: Duration = Duration::from_secs(30);
/// Least time between two marks of how far the log was durable when.
const MARK_EVERY: Duration = Duration::from_millis(500);

/// A segment that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// Length of the file in bytes.
    pub(super) size: u32,
    /// Where observations can begin: behind what was carried over.
    pub(super) first: u32,
    /// Everything before is durable; the outlet reads no further.
    pub(super) end: u32,
    /// A hole before this is corruption, after it what a power cut left and recovery has reported.
    pub(super) synced: u32,
}

impl Entry {
    pub(super) const fn end_position(&self) -> Position {
        Position { segment: self.number, offset: self.end }
    }

    /// Returns the place before which a hole is corruption.
    pub(super) const fn synced_position(&self) -> Position {
        Position { segment: self.number, offset: self.synced }
    }
}

/// Where the outlet stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// Its segment can be read up to `end`; `next` is the segment after it.
    Readable { end: u32, synced: u32, next: Option<u64> },
    /// Its segment is gone; this is the oldest after it.
    Gone { next: Position },
    /// There is no segment yet, or none after it.
    Nothing,
}

struct State {
    segments: VecDeque<Entry>,
    delivered: Spans,
    /// Handed out on the present connection, so that no two lanes hand out the same.
    taken: Spans,
    /// Where the live lane stands; none where a log has no live lane.
    live: Option<Position>,
    /// Up to where the log was durable when, oldest first; one older than [`LIVE_LAG`] is kept.
    marks: VecDeque<(Instant, Position)>,
    /// What the outlets found missing and the writer has not taken yet.
    found: Vec<Gap>,
    closed: bool,
    outlets: usize,
}

/// Locked for moments only, never across an await. The one disk operation under the lock is the rename that takes a
/// segment away, so that the outlet never sees it half gone.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the live outlet, or the only one: more is durable, or there will be no more.
    pub(super) more: Notify,
    /// Wakes the backfill outlet: live went on or jumped, or there will be no more.
    pub(super) older: Notify,
    /// Wakes the writer: more is acknowledged, something is found missing, or the outlets are gone.
    pub(super) acked: Notify,
}

/// Which part of a log an outlet reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// All of it, from the first undelivered place.
    Whole,
    /// What is new.
    Live,
    /// What is undelivered up to where live stands.
    Backfill,
}

/// Where an outlet may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Territory {
    pub(super) from: Position,
    /// Up to where; the durable end of the log bounds it further.
    pub(super) to: Option<Position>,
}

impl Shared {
    pub(super) fn new(segments: VecDeque<Entry>, delivered: Spans, opened: Instant) -> Self {
        let head = segments.back().map_or(Position::ORIGIN, Entry::end_position);
        let state = State {
            segments,
            delivered,
            taken: Spans::default(),
            live: None,
            marks: VecDeque::from([(opened, head)]),
            found: Vec::new(),
            closed: false,
            outlets: 0,
        };
        Self { state: Mutex::new(state), more: Notify::new(), older: Notify::new(), acked: Notify::new() }
    }

    pub(super) fn has_found(&self) -> bool {
        !self.lock().found.is_empty()
    }

    /// Counts an outlet; a live one makes everything older than the log's head backfill.
    pub(super) fn enter(&self, lane: Lane) {
        let mut state = self.lock();
        state.outlets += 1;
        if lane == Lane::Live {
            state.live = state.marks.back().map(|(_, head)| *head);
        }
    }

    /// Begins a connection: nothing is handed out, and live starts at what became durable lately.
    pub(super) fn begin(&self, lane: Lane, now: Instant) {
        let mut state = self.lock();
        match lane {
            Lane::Whole => state.taken.clear(),
            Lane::Live => {
                state.taken.clear();
                state.live = Some(state.lately(now));
            }
            // The live lane of the same log has cleared what both had taken.
            Lane::Backfill => {}
        }
        drop(state);
        self.older.notify_one();
    }

    /// Returns where the lane goes on at or behind `at`, and up to where; `None` when there is nothing for it. Live is
    /// sent to the present when it is too far behind.
    pub(super) fn territory(&self, lane: Lane, at: Position, now: Instant) -> Option<Territory> {
        let mut state = self.lock();
        let mut from = at;
        if lane == Lane::Live {
            from = from.max(state.live.unwrap_or(at));
            // Once nothing more comes, backfill may have ended: then live takes all that is left.
            if !state.closed && state.mark_before(now, LIVE_LAG).is_some_and(|mark| from < mark) {
                from = state.lately(now);
            }
        }
        while let Some(end) = state.delivered.end_of(from).or_else(|| state.taken.end_of(from)) {
            from = end;
        }
        let next = [&state.delivered, &state.taken].into_iter().filter_map(|spans| spans.next_start(from)).min();
        match lane {
            Lane::Whole => Some(Territory { from, to: next }),
            Lane::Live => {
                if state.live != Some(from) {
                    state.live = Some(from);
                    drop(state);
                    self.older.notify_one();
                }
                Some(Territory { from, to: next })
            }
            Lane::Backfill => {
                let live = state.live?;
                (from < live).then(|| Territory { from, to: Some(next.map_or(live, |next| next.min(live))) })
            }
        }
    }

    /// Notes that a stretch is handed out.
    pub(super) fn take(&self, lane: Lane, span: Span) {
        let mut state = self.lock();
        state.taken.add(span);
        if lane == Lane::Live {
            state.live = Some(span.to);
        }
    }

    /// Notes what an outlet found missing; the writer declares it before the cursor passes the place.
    pub(super) fn report(&self, gaps: impl IntoIterator<Item = Gap>) {
        let mut state = self.lock();
        let before = state.found.len();
        state.found.extend(gaps);
        let more = state.found.len() > before;
        drop(state);
        if more {
            self.acked.notify_one();
        }
    }

    /// Takes what the outlets found missing.
    pub(super) fn take_found(&self) -> Vec<Gap> {
        std::mem::take(&mut self.lock().found)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single store, so a panicking holder leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what can be read at `at`.
    pub(super) fn view(&self, at: Position) -> View {
        let state = self.lock();
        let place = state.segments.partition_point(|entry| entry.number < at.segment);
        match state.segments.get(place) {
            Some(entry) if entry.number == at.segment => View::Readable {
                end: entry.end,
                synced: entry.synced,
                next: state.segments.get(place + 1).map(|next| next.number),
            },
            Some(entry) => View::Gone { next: Position::start_of(entry.number) },
            None => View::Nothing,
        }
    }

    /// Adds the newest segment.
    pub(super) fn push(&self, entry: Entry) {
        self.lock().segments.push_back(entry);
    }

    /// Moves the durable end of a segment.
    pub(super) fn set_durable(&self, number: u64, end: u32, now: Instant) {
        let mut state = self.lock();
        if let Some(entry) = state.segments.iter_mut().rev().find(|entry| entry.number == number) {
            entry.end = end;
            entry.synced = end;
        }
        state.mark(now, Position { segment: number, offset: end });
        drop(state);
        self.more.notify_one();
    }

    /// Returns the oldest segment and how many there are.
    pub(super) fn oldest(&self) -> (Option<Entry>, usize) {
        let state = self.lock();
        (state.segments.front().copied(), state.segments.len())
    }

    /// Returns the newest segment.
    pub(super) fn newest(&self) -> Option<Entry> {
        self.lock().segments.back().copied()
    }

    /// Returns the oldest segment that holds nothing undelivered and is not among the newest `kept`.
    pub(super) fn oldest_delivered(&self, kept: usize) -> Option<Entry> {
        let state = self.lock();
        let old = state.segments.len().saturating_sub(kept);
        state.segments.iter().take(old).find(|entry| state.is_delivered(entry)).copied()
    }

    /// Takes a segment away if `take_file` succeeds.
    pub(super) fn take_segment(&self, number: u64, take_file: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.lock();
        if let Some(place) = state.segments.iter().position(|entry| entry.number == number) {
            take_file()?;
            state.segments.remove(place);
            if place == 0
                && let Some(oldest) = state.segments.front()
            {
                // What went with it is no longer waited for.
                let span = Span { from: Position::ORIGIN, to: Position::start_of(oldest.number) };
                state.delivered.add(span);
            }
        }
        Ok(())
    }

    /// Returns the bytes in segments, and how many segments hold something undelivered.
    pub(super) fn usage(&self) -> (u64, u64) {
        let state = self.lock();
        let bytes = state.segments.iter().map(|entry| u64::from(entry.size)).sum();
        let holds = |entry: &&Entry| entry.end > entry.first && !state.is_delivered(entry);
        (bytes, state.segments.iter().filter(holds).count() as u64)
    }

    /// Returns what is delivered.
    pub(super) fn delivered(&self) -> Spans {
        self.lock().delivered.clone()
    }

    /// Says whether the whole log is delivered.
    pub(super) fn is_all_delivered(&self) -> bool {
        let state = self.lock();
        state.segments.iter().all(|entry| entry.end <= entry.first || state.is_delivered(entry))
    }

    /// Notes that a stretch is delivered.
    pub(super) fn acknowledge(&self, span: Span) {
        let mut state = self.lock();
        if !state.delivered.covers(span.from, span.to) {
            state.delivered.add(span);
            drop(state);
            self.acked.notify_one();
        }
    }

    /// Says that nothing more will become durable.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
        self.older.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Says that one outlet will acknowledge nothing more.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.outlets = state.outlets.saturating_sub(1);
        drop(state);
        self.acked.notify_one();
    }

    pub(super) fn outlets_are_gone(&self) -> bool {
        self.lock().outlets == 0
    }
}

impl State {
    /// Notes up to where the log is durable.
    fn mark(&mut self, now: Instant, head: Position) {
        // The first mark says where the log ended when it was opened.
        let many = self.marks.len() > 1;
        match self.marks.back_mut() {
            Some((at, last)) if many && now.duration_since(*at) < MARK_EVERY => *last = head,
            _ => self.marks.push_back((now, head)),
        }
        while self.marks.get(1).is_some_and(|(at, _)| now.duration_since(*at) > LIVE_LAG) {
            self.marks.pop_front();
        }
    }

    /// Returns up to where the log was durable so long ago.
    fn mark_before(&self, now: Instant, age: Duration) -> Option<Position> {
        self.marks.iter().rev().find(|(at, _)| now.duration_since(*at) >= age).map(|(_, head)| *head)
    }

    /// Returns where that begins which became durable lately: all of it that is known of a log just opened.
    fn lately(&self, now: Instant) -> Position {
        let first = self.marks.front().map_or(Position::ORIGIN, |(_, head)| *head);
        self.mark_before(now, LIVE_AGE).unwrap_or(first)
    }

    fn is_delivered(&self, entry: &Entry) -> bool {
        // Between the segments nothing can be undelivered, so the first place with observations is enough of a start.
        self.delivered.covers(Position { segment: entry.number, offset: entry.first }, entry.end_position())
    }
}
