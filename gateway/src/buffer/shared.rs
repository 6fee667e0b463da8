//! What the writer and the outlet both know: which segments there are, how far each is durable, what is delivered.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::format::Position;

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
    acked: Position,
    closed: bool,
    outlet_gone: bool,
}

/// Locked for moments only, never across an await. The one disk operation under the lock is the rename that takes a
/// segment away, so that the outlet never sees it half gone.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the outlet: more is durable, or there will be no more.
    pub(super) more: Notify,
    /// Wakes the writer: more is acknowledged, or the outlet is gone.
    pub(super) acked: Notify,
}

impl Shared {
    pub(super) fn new(segments: VecDeque<Entry>, acked: Position) -> Self {
        let state = State { segments, acked, closed: false, outlet_gone: false };
        Self { state: Mutex::new(state), more: Notify::new(), acked: Notify::new() }
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
    pub(super) fn set_durable(&self, number: u64, end: u32) {
        let mut state = self.lock();
        if let Some(entry) = state.segments.iter_mut().rev().find(|entry| entry.number == number) {
            entry.end = end;
            entry.synced = end;
        }
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

    /// Takes the oldest segment away if `take_file` succeeds.
    pub(super) fn take_oldest(&self, take_file: impl FnOnce(&Entry) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.lock();
        if let Some(entry) = state.segments.front() {
            take_file(entry)?;
            state.segments.pop_front();
        }
        Ok(())
    }

    /// Returns the bytes in segments, and how many segments hold something undelivered.
    pub(super) fn usage(&self) -> (u64, u64) {
        let state = self.lock();
        let bytes = state.segments.iter().map(|entry| u64::from(entry.size)).sum();
        let holds = |entry: &&Entry| entry.end > entry.first && state.acked < entry.end_position();
        (bytes, state.segments.iter().filter(holds).count() as u64)
    }

    /// Returns the place before which everything is delivered.
    pub(super) fn acknowledged(&self) -> Position {
        self.lock().acked
    }

    /// Notes that everything before `up_to` is delivered. A place behind an earlier one changes nothing.
    pub(super) fn acknowledge(&self, up_to: Position) {
        let mut state = self.lock();
        if up_to > state.acked {
            state.acked = up_to;
            drop(state);
            self.acked.notify_one();
        }
    }

    /// Says that nothing more will become durable.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Says that nothing more will be acknowledged.
    pub(super) fn leave(&self) {
        self.lock().outlet_gone = true;
        self.acked.notify_one();
    }

    pub(super) fn outlet_is_gone(&self) -> bool {
        self.lock().outlet_gone
    }
}
