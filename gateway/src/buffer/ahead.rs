//! What the writer knows of the time ahead: how fast the log grows, what quota and disk still leave.

use std::time::{Duration, Instant};

use super::log::Log;
use super::outlook::{Outlook, Room};
use super::rate::Rate;

/// How long what the file system says is taken for true.
const ASKED: Duration = Duration::from_secs(10);

/// Kept between two looks.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    rate: Rate,
    /// When the file system was asked, and what it leaves.
    disk: Option<(Instant, Option<u64>)>,
}

impl Log {
    /// Measures, and tells the monitor. Called at each commit.
    pub(super) fn look_ahead(&mut self, now: Instant) {
        let segment_bytes = u64::from(self.settings.segment_bytes);
        let written = self.active.as_ref().map(|active| (active.header.number, u64::from(active.written)));
        if let Some((number, written)) = written {
            // Segments fill up one after the other: what this grows by is what an outage would take of the quota.
            self.ahead.rate.note(number.saturating_mul(segment_bytes).saturating_add(written), now);
        }
        let stale = |asked: &Instant| now.saturating_duration_since(*asked) >= ASKED;
        if self.ahead.disk.as_ref().is_none_or(|(asked, _)| stale(asked)) {
            self.ahead.disk = Some((now, self.storage.free_bytes()));
        }
        let (files, undelivered) = self.pool.usage();
        let held = undelivered.saturating_mul(segment_bytes);
        let unwritten = written.map_or(0, |(_, written)| segment_bytes.saturating_sub(written));
        let room = Room {
            quota: self.settings.max_bytes - self.settings.max_bytes % segment_bytes.max(1),
            held: held.saturating_sub(unwritten),
            files,
            disk: self.ahead.disk.and_then(|(_, free)| free),
        };
        let outlook =
            Outlook { free: room.free(), rate: self.ahead.rate.bytes_per_second(), used: (room.held, room.quota) };
        self.account.store(|store| {
            store.append_bytes_per_s = outlook.rate.map(tenths);
            store.free_bytes = Some(outlook.free);
            store.held_bytes = room.held;
            store.quota_bytes = room.quota;
            store.covers_hours = outlook.hours().map(tenths);
        });
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
