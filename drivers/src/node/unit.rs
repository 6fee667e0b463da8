//! What is known of one configured node, and what it is asked next.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::Origin;
use ganglion_protocols::node_link::{Batch, NodeLossCause, Samples};

use super::event::{ChannelInfo, Event, Lost, LostCause, NodeInfo, Sample};
use super::settings::{Moment, Taken, UnitSettings};
use crate::breaker::{Breaker, Permit, State};
use crate::turnaround::Turnaround;

/// How wrong the clock of a node may be. The node itself keeps an anchor that is no more than 2 s wrong; the rest is what the
/// line and the port make of the same time.
const MAX_CLOCK_ERROR_MS: u64 = 2_250;

/// The clock is not set more often than this, whatever it shows.
const CLOCK_EVERY: Duration = Duration::from_secs(60);

/// Anchors kept of boots whose clock was not set: those of which samples can still wait.
const ANCHORS: usize = 4;

/// A question of its own accord.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Describe,
    Channel(u8),
    Time,
    Fetch,
}

pub(super) struct Unit {
    pub(super) settings: UnitSettings,
    pub(super) breaker: Breaker,
    pub(super) pace: Turnaround,
    pub(super) info: Option<NodeInfo>,
    pub(super) channels: Vec<ChannelInfo>,
    /// Boot and epoch that it said last when it said who it is.
    pub(super) told: Option<(u32, u32)>,
    /// It was told the time since it or this gateway started.
    pub(super) named: bool,
    pub(super) wrong_cri: bool,
    /// Not asked before.
    pub(super) ready_at: Duration,
    pub(super) fetch_at: Duration,
    /// Failures since it was last answered or given up.
    pub(super) tries: u8,
    /// Its last batch, or its refusal of one, did not fit what it said of itself.
    doubtful: bool,
    taken: Option<Taken>,
    durable: Option<Origin>,
    /// Samples wait behind those taken.
    waits: bool,
    /// Boot and uptime in milliseconds that it said last.
    life: Option<(u32, u64)>,
    clock_at: Duration,
    /// Epoch, boot, and the UTC of uptime 0 of boots whose clock was not set, as this gateway reckons it.
    anchors: VecDeque<(u32, u32, u64)>,
}

/// What a batch tells beside its samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Verdict {
    /// It began anew since it was last heard, or another one stands in its place: nothing of it is taken before it has
    /// said who it is.
    pub(super) restarted: bool,
    /// It has other channels.
    pub(super) changed: bool,
    /// Some of its samples are none.
    pub(super) malformed: bool,
}

impl Unit {
    pub(super) fn new(settings: UnitSettings, breaker: Breaker, pace: Turnaround) -> Self {
        Self {
            taken: settings.taken,
            durable: settings.taken.map(|taken| taken.origin),
            settings,
            breaker,
            pace,
            info: None,
            channels: Vec::new(),
            told: None,
            named: false,
            wrong_cri: false,
            ready_at: Duration::ZERO,
            fetch_at: Duration::ZERO,
            tries: 0,
            doubtful: false,
            waits: false,
            life: None,
            clock_at: Duration::ZERO,
            anchors: VecDeque::new(),
        }
    }

    /// Returns what is asked next, and when at the earliest.
    pub(super) fn next(&self, now: Duration) -> (Step, Duration) {
        let step = match &self.info {
            None => Step::Describe,
            Some(_) if self.wrong_cri => Step::Describe,
            Some(info) if self.channels.len() < usize::from(info.channels) => {
                Step::Channel(u8::try_from(self.channels.len()).unwrap_or(u8::MAX))
            }
            Some(_) if !self.named => Step::Time,
            Some(_) => Step::Fetch,
        };
        let due = if step == Step::Fetch { self.fetch_at.max(self.ready_at) } else { self.ready_at };
        match self.breaker.permit(now) {
            Permit::NotBefore(until) => (step, due.max(until)),
            Permit::Ask | Permit::Probe => (step, due),
        }
    }

    /// Returns the acknowledgement that may be given.
    pub(super) const fn durable(&self) -> Option<Origin> {
        self.durable
    }

    /// Returns up to where samples are taken.
    pub(super) const fn taken(&self) -> Option<Taken> {
        self.taken
    }

    /// Everything up to `origin` is durable. What waits behind it is asked for at once.
    pub(super) fn made_durable(&mut self, now: Duration, origin: Origin) {
        let Some(taken) = self.taken.filter(|taken| taken.origin.covers(origin)) else { return };
        if self.durable.is_none_or(|durable| !durable.covers(origin)) {
            self.durable = Some(origin);
        }
        if self.waits && self.durable == Some(taken.origin) {
            self.fetch_at = self.fetch_at.min(now);
        }
    }

    /// Somebody on the line answers, for the first time since `before`. A node that was given up in between was not heard
    /// because nobody was: it is asked at once.
    pub(super) fn line_answers(&mut self, now: Duration, before: Duration) {
        if matches!(self.breaker.state(), State::Open { since, .. } if since > before) {
            self.breaker.probe_at_once(now);
            self.ready_at = self.ready_at.min(now);
            self.fetch_at = self.fetch_at.min(now);
        }
    }

    /// The node must be asked anew who it is; what it measures is believed as long as it says the same hash.
    pub(super) fn forget(&mut self) {
        self.info = None;
        self.named = false;
    }

    /// What it says does not fit what it said of itself. It is asked anew at once, but not again and again.
    pub(super) fn doubt(&mut self, now: Duration) {
        self.forget();
        if core::mem::replace(&mut self.doubtful, true) {
            self.ready_at = now.saturating_add(self.settings.period);
        }
    }

    /// Takes an answer to the time.
    pub(super) fn timed(&mut self, now: Duration, (boot, uptime_ms): (u32, u64), epoch: u32) {
        self.told = Some((boot, epoch));
        self.named = true;
        self.life = Some((boot, uptime_ms));
        self.clock_at = now.saturating_add(CLOCK_EVERY);
    }

    /// Takes a batch whose answer began at `began`.
    pub(super) fn batch(
        &mut self,
        node: usize,
        batch: &Batch<'_>,
        (moment, began): (Moment, Duration),
        events: &mut VecDeque<Event>,
    ) -> Verdict {
        let mut verdict = Verdict { restarted: self.restarted(batch), ..Verdict::default() };
        self.life = Some(batch.now);
        let Some((schema, channels)) = self.info.as_ref().map(|info| (info.schema, info.channels)) else {
            return verdict;
        };
        verdict.changed = batch.schema != schema;
        if verdict.changed || verdict.restarted {
            return verdict;
        }
        self.doubtful = false;
        let zero_of_now = moment.utc_of(began).saturating_sub(batch.now.1);
        if batch.boot == batch.now.0 {
            self.judge_clock(moment, batch.anchor_ms, zero_of_now);
        }
        let anchor = batch.anchor_ms.or_else(|| self.own_anchor(batch, zero_of_now));
        let first_utc = || {
            let first = Samples::new(batch.samples, channels, batch.base_ms).next();
            first.and_then(Result::ok).zip(anchor).map(|(sample, anchor)| anchor.saturating_add(sample.at_ms))
        };
        let until = first_utc().unwrap_or(moment.utc_ms);
        self.account(node, batch, until, events);
        let mut seq = batch.first;
        let mut undated: Option<Lost> = None;
        for sample in Samples::new(batch.samples, channels, batch.base_ms) {
            let Ok(sample) = sample else {
                verdict.malformed = true;
                break;
            };
            let origin = Origin { epoch: batch.epoch, seq };
            seq = seq.saturating_add(1);
            if self.taken.is_some_and(|taken| taken.origin.covers(origin)) {
                continue;
            }
            if let Some(anchor) = anchor {
                let utc_ms = anchor.saturating_add(sample.at_ms);
                self.taken = Some(Taken { origin, utc_ms: Some(utc_ms) });
                events.push_back(Event::Sample(Sample { node, origin, utc_ms, readings: sample.readings().collect() }));
            } else {
                let since = self.span_begin(moment.utc_ms);
                self.taken = Some(Taken { origin, ..self.taken.unwrap_or(Taken { origin, utc_ms: None }) });
                let count = undated.map_or(0, |lost| lost.count).saturating_add(1);
                let span_ms = (since, moment.utc_ms);
                undated = Some(Lost { node, origin, count, span_ms, cause: LostCause::Undated });
            }
        }
        events.extend(undated.map(Event::Lost));
        self.waits = batch.waiting > 0;
        let period = self.settings.period;
        self.fetch_at = moment.now.saturating_add(period);
        // Numbers that are lost and told need no patience of the buffer: the owner says when they are durable, too.
        if self.waits && self.taken.map(|taken| taken.origin) == self.durable {
            self.fetch_at = moment.now;
        }
        verdict
    }

    fn restarted(&self, batch: &Batch<'_>) -> bool {
        let (boot, uptime_ms) = batch.now;
        self.told.is_some_and(|(_, epoch)| epoch != batch.epoch)
            || self.life.is_some_and(|(before, uptime)| before != boot || uptime_ms < uptime)
    }

    /// Has the clock set when it is wrong, or was never set.
    fn judge_clock(&mut self, moment: Moment, anchor_ms: Option<u64>, zero_ms: u64) {
        let wrong = anchor_ms.is_none_or(|anchor| anchor.abs_diff(zero_ms) > MAX_CLOCK_ERROR_MS);
        if moment.sure && wrong && moment.now >= self.clock_at {
            self.named = false;
        }
    }

    /// Returns what is reckoned here for a boot whose clock was not set; it is chosen while the boot lasts, and never
    /// changed.
    fn own_anchor(&mut self, batch: &Batch<'_>, zero_of_now: u64) -> Option<u64> {
        let known = |(epoch, boot, _): &&(u32, u32, u64)| (*epoch, *boot) == (batch.epoch, batch.boot);
        if let Some(&(.., anchor)) = self.anchors.iter().find(known) {
            return Some(anchor);
        }
        if batch.boot != batch.now.0 {
            return None;
        }
        if self.anchors.len() >= ANCHORS {
            self.anchors.pop_front();
        }
        self.anchors.push_back((batch.epoch, batch.boot, zero_of_now));
        Some(zero_of_now)
    }

    /// Tells what went between the last sample taken and the first of the batch.
    fn account(&mut self, node: usize, batch: &Batch<'_>, until: u64, events: &mut VecDeque<Event>) {
        let begin = batch.lost.map_or(batch.first, |lost| lost.first);
        let before = Origin { epoch: batch.epoch, seq: begin.saturating_sub(1) };
        let since = self.span_begin(until);
        let anything = !batch.samples.is_empty() || batch.lost.is_some();
        match self.taken {
            Some(taken) if taken.origin.epoch != batch.epoch => {
                // Only when something of the new life is there its beginning is known.
                if !anything {
                    return;
                }
                let period_ms = super::millis(self.settings.period).max(1);
                let periods = until.saturating_sub(since).checked_div(period_ms).unwrap_or_default();
                let count = u32::try_from(periods.saturating_sub(1).max(1)).unwrap_or(u32::MAX);
                let lost = Lost { node, origin: before, count, span_ms: (since, until), cause: LostCause::Restart };
                events.push_back(Event::Lost(lost));
                self.taken = Some(Taken { origin: before, utc_ms: taken.utc_ms });
            }
            Some(taken) if taken.origin.seq < before.seq => {
                let count = before.seq.saturating_sub(taken.origin.seq);
                let lost = Lost { node, origin: before, count, span_ms: (since, until), cause: LostCause::Damaged };
                events.push_back(Event::Lost(lost));
                self.taken = Some(Taken { origin: before, utc_ms: taken.utc_ms });
            }
            _ => {}
        }
        let Some(lost) = batch.lost else { return };
        let done = self.taken.map_or(begin.saturating_sub(1), |taken| taken.origin.seq);
        let count = lost.last.saturating_sub(done.max(lost.first.saturating_sub(1)));
        if count == 0 {
            return;
        }
        let cause = match lost.cause {
            NodeLossCause::Full => LostCause::Full,
            NodeLossCause::Damaged => LostCause::Damaged,
            NodeLossCause::Undated => LostCause::Undated,
        };
        let origin = Origin { epoch: batch.epoch, seq: lost.last };
        events.push_back(Event::Lost(Lost { node, origin, count, span_ms: (since, until), cause }));
        self.taken = Some(Taken { origin, utc_ms: self.taken.and_then(|taken| taken.utc_ms) });
    }

    /// The time of the last sample taken, as far as it is known and not after `until`.
    fn span_begin(&self, until: u64) -> u64 {
        self.taken.and_then(|taken| taken.utc_ms).map_or(until, |utc_ms| utc_ms.min(until))
    }
}
