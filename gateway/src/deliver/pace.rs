//! How many payload bytes may be in flight on one connection, learnt from how long the broker takes to acknowledge.
//!
//! What is handed to the connection cannot be called back, so every byte in flight stands before the next alarm and the
//! next ping. The window therefore follows the *queueing delay*: how much longer a message took than the path alone
//! takes. Below [`TARGET`] the window grows, above it for longer than two round trips it shrinks; where it settles, the
//! link is always busy and a message waits about a second more than on an idle one. This is LEDBAT (RFC 6817) at the level
//! of messages, below which TCP does what it likes.
//!
//! Two traps of measuring delay are met on purpose:
//! - A lost segment holds up all behind it, once. A shrink needs every message of two round trips to be late, one that is
//!   in time clears the suspicion.
//! - Under steady load no message sees the path alone, and the least delay seen lately would creep upwards. So every
//!   [`PATH_AGE`] the window is closed to [`SMALLEST`] until one message has crossed an all but empty link (as in LEDBAT++),
//!   unless one has of itself.
//!
//! Pure: time is an argument. One for each connection: another may take another path.

use std::time::{Duration, Instant};

/// Queueing delay aimed at: long enough to keep a link busy over the pauses of a modem, short enough for an alarm.
pub(super) const TARGET: Duration = Duration::from_secs(1);
/// Fewest bytes in flight: two of the shortest messages.
pub(super) const SMALLEST: usize = 2 * 1024;
/// Most bytes in flight: the client keeps each message until it is acknowledged.
pub(super) const LARGEST: usize = 1024 * 1024;
/// Bytes in flight before anything is known.
const FIRST: usize = 4 * 1024;
/// Shortest length asked of a message: below, topic and envelope would be most of it.
const SHORTEST_MESSAGE: usize = 1024;
/// A message is this part of the window, so that one that must go first waits behind little. It is more where fewer messages
/// may be in flight: half of them fill the window.
const MESSAGES_IN_WINDOW: usize = 8;
/// How much of the window each round trip adds once the first doubling has ended.
const GROWTH: usize = 8;
/// How long the least delay of the path is believed.
const PATH_AGE: Duration = Duration::from_secs(300);
/// A window that was not filled for so long is halved: nobody knows any more whether the link still carries it.
const UNPROVEN_AGE: Duration = Duration::from_secs(60);

/// The window of one connection.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    window: usize,
    messages_in_window: usize,
    in_flight: usize,
    /// The window doubles each round trip until the first sign of a queue.
    doubling: bool,
    /// When a message last filled the window: one that was sent later says nothing about a larger one.
    full_at: Option<Instant>,
    /// When the window was last filled, or halved because nothing filled it.
    proven_at: Instant,
    path: Path,
    late: Option<Late>,
    /// Messages sent before the window last shrank are not held against the new one.
    judged_from: Instant,
}

/// The least delay of the path.
#[derive(Clone, Debug)]
struct Path {
    /// Least delay since `since`, and of the period before.
    least: Option<Duration>,
    least_before: Option<Duration>,
    since: Instant,
    /// When the message was sent that has the link to itself.
    alone: Option<Instant>,
    /// The window is closed until a message has had the link to itself.
    measuring: bool,
}

/// Every message since `since` came late, by `least` or more.
#[derive(Clone, Copy, Debug)]
struct Late {
    since: Instant,
    least: Duration,
}

impl Pace {
    /// Starts a connection of which nothing is known but how many messages may be in flight.
    pub(super) fn new(now: Instant, messages: usize) -> Self {
        Self {
            window: FIRST,
            messages_in_window: (messages / 2).clamp(1, MESSAGES_IN_WINDOW),
            in_flight: 0,
            doubling: true,
            full_at: None,
            proven_at: now,
            path: Path { least: None, least_before: None, since: now, alone: None, measuring: false },
            late: None,
            judged_from: now,
        }
    }

    /// Returns how many payload bytes may be in flight, [`SMALLEST`] to [`LARGEST`]. A longer message may go when nothing
    /// else is in flight.
    pub(super) fn window(&self) -> usize {
        if self.path.measuring { SMALLEST } else { self.window }
    }

    /// Returns how long a message should be at most, in bytes; at least 1 KiB.
    pub(super) fn payload(&self) -> usize {
        (self.window() / self.messages_in_window).max(SHORTEST_MESSAGE)
    }

    /// Notes that a message was handed to the connection.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize) {
        self.forget(now);
        // A longer message takes time of its own, but where none is shorter it must do.
        let must_do = self.path.measuring && self.in_flight == 0;
        self.in_flight = self.in_flight.saturating_add(bytes);
        if (must_do || self.in_flight <= SMALLEST) && self.path.alone.is_none() {
            self.path.alone = Some(now);
        }
        if self.in_flight.saturating_add(self.payload()) > self.window() {
            self.full_at = Some(now);
            self.proven_at = now;
        }
    }

    /// Halves what nothing has filled for a while, down to where a connection begins.
    fn forget(&mut self, now: Instant) {
        while self.window > FIRST && now.saturating_duration_since(self.proven_at) >= UNPROVEN_AGE {
            self.window = (self.window / 2).max(FIRST);
            self.proven_at += UNPROVEN_AGE;
            self.doubling = true;
        }
        if self.window <= FIRST {
            self.proven_at = now;
        }
    }

    /// Notes that the broker answered a message that was sent at `sent_at`.
    pub(super) fn settled(&mut self, now: Instant, sent_at: Instant, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        let delay = now.saturating_duration_since(sent_at);
        let path = self.path.seen(now, sent_at, delay);
        if sent_at < self.judged_from {
            return;
        }
        let queueing = delay.saturating_sub(path);
        if queueing > TARGET {
            self.came_late(now, delay, path);
        } else {
            self.late = None;
            self.came_in_time(sent_at, bytes, queueing);
        }
    }

    fn came_in_time(&mut self, sent_at: Instant, bytes: usize, queueing: Duration) {
        if queueing * 2 > TARGET {
            self.doubling = false;
        }
        let was_full = self.full_at.is_some_and(|full_at| sent_at <= full_at);
        if !was_full || self.path.measuring {
            return;
        }
        let growth = if self.doubling {
            bytes
        } else {
            // The nearer the target the less, so that the window comes to rest there.
            let room = TARGET.saturating_sub(queueing).as_millis();
            let share = (bytes / GROWTH) as u128 * room / TARGET.as_millis();
            usize::try_from(share).unwrap_or(usize::MAX)
        };
        self.window = self.window.saturating_add(growth).min(LARGEST);
    }

    fn came_late(&mut self, now: Instant, delay: Duration, path: Duration) {
        self.doubling = false;
        let late = self.late.get_or_insert(Late { since: now, least: delay });
        late.least = late.least.min(delay);
        let Late { since, least } = *late;
        let wanted = path + TARGET;
        if now.saturating_duration_since(since) < wanted * 2 {
            return;
        }
        if self.window <= SMALLEST {
            // So few bytes make no queue: it is the path that takes longer now.
            self.path.restart(now, least);
            self.doubling = true;
        } else {
            // The queue is what is in flight, so its delay says how much of it is too much.
            let part = wanted.as_secs_f64() / delay.as_secs_f64();
            self.window = scaled(self.window, part.clamp(0.25, 0.9)).max(SMALLEST);
        }
        self.judged_from = now;
        self.late = None;
    }
}

impl Path {
    /// Notes a delay; returns the least one seen lately.
    fn seen(&mut self, now: Instant, sent_at: Instant, delay: Duration) -> Duration {
        let was_alone = self.alone == Some(sent_at);
        if was_alone {
            self.alone = None;
        }
        if now.saturating_duration_since(self.since) >= PATH_AGE {
            if was_alone {
                self.least_before = self.least;
                self.least = None;
                self.since = now;
                self.measuring = false;
            } else {
                self.measuring = true;
            }
        }
        let least = self.least.map_or(delay, |least| least.min(delay));
        self.least = Some(least);
        self.least_before.map_or(least, |before| before.min(least))
    }

    fn restart(&mut self, now: Instant, delay: Duration) {
        self.least = Some(delay);
        self.least_before = None;
        self.since = now;
        self.measuring = false;
    }
}

/// Returns a part of so many bytes; `part` is 0.0..=1.0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of at most 1 MiB, not negative")]
fn scaled(bytes: usize, part: f64) -> usize {
    (bytes.min(LARGEST) as f64 * part) as usize
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
