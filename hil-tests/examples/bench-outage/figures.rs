//! What was measured, as text.

use std::fmt;

use crate::consumer::Joined;
use crate::plant::{A_SECOND, RESOURCES};

/// Bytes by which memory may differ during the outage.
const FLAT: f64 = 10e6;
/// How many times faster than real time the backlog goes out, at least.
const DRAIN: f64 = 20.0;
/// How much later than normal live data may come during the drain.
const LATER: f64 = 2.0;

/// Resident memory of the gateway's process, in bytes.
#[derive(Clone, Default, Debug)]
pub(crate) struct Memory {
    /// Most before the outage.
    pub(crate) before: u64,
    /// Looked at again and again during it.
    pub(crate) during: Vec<u64>,
    /// Most while the backlog goes out.
    pub(crate) draining: u64,
}

/// How late live observations came, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    p50: i64,
    p99: i64,
    count: usize,
}

impl Latency {
    /// Looks at those measured from one time to another.
    pub(crate) fn of(joined: &Joined, from_ms: i64, to_ms: i64) -> Self {
        let (p50, p99, count) = joined.ages_between(from_ms, to_ms);
        Self { p50, p99, count }
    }
}

/// Everything that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) hours: f64,
    /// Observations that the plant made.
    pub(crate) made: u64,
    /// Replayed ones that came, and those that should have.
    pub(crate) replayed: u64,
    pub(crate) expected: u64,
    /// Seconds that the replay took.
    pub(crate) replayed_s: f64,
    /// Seconds from the broker's return to the last of the replay.
    pub(crate) drain_s: f64,
    /// CPU seconds of the gateway's process from its start to the end of the drain.
    pub(crate) cpu_s: f64,
    pub(crate) memory: Memory,
    pub(crate) normal: Latency,
    pub(crate) draining: Latency,
    /// Messages of history, their bytes and the bytes of their text.
    pub(crate) backfill: (u64, u64, u64),
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// Those of them that were made in the last second before the broker went.
    pub(crate) repeated_at_cut: u64,
    pub(crate) wrong: u64,
    pub(crate) gaps: u64,
}

/// One line: a figure and what is to be reached.
struct Row {
    name: &'static str,
    /// None where there was nothing to measure.
    figure: Option<f64>,
    /// What to reach, and whether more is better.
    target: Option<(f64, bool)>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, figure, target } = self;
        let Some(figure) = figure else { return writeln!(f, "  {name:<58} {:>12}", "-") };
        let Some((target, more)) = target else { return writeln!(f, "  {name:<58} {figure:>12.3}") };
        let met = if *more { figure >= target } else { figure <= target };
        let (distance, verdict) = (figure / target, if met { "met" } else { "MISSED" });
        writeln!(f, "  {name:<58} {figure:>12.3} {target:>10.3} {distance:>7.2}  {verdict}")
    }
}

impl Figures {
    /// Says whether every observation came, once and right.
    pub(crate) fn is_complete(&self) -> bool {
        (self.lost, self.repeated, self.wrong, self.gaps) == (0, 0, 0, 0)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |name, figure, target| Row { name, figure: Some(figure), target };
        let late = |name, of: fn(&Latency) -> i64, latency: &Latency, most: Option<f64>| Row {
            name,
            figure: (latency.count > 0).then(|| as_ms(of(latency))),
            target: most.map(|most| (most, false)),
        };
        let Memory { before, during, draining } = &self.memory;
        let (least, most) = (during.iter().min().copied().unwrap_or(0), during.iter().max().copied().unwrap_or(0));
        let (values, replayed) = (as_f64(self.replayed) * 1.5, as_f64(self.replayed));
        let (messages, bytes, text) = self.backfill;
        let normal = &self.normal;
        let p50: fn(&Latency) -> i64 = |latency| latency.p50;
        let p99: fn(&Latency) -> i64 = |latency| latency.p99;
        vec![
            row("appended during the outage, 1000/s", as_f64(self.expected) / self.replayed_s / 1e3, None),
            row("RSS before the outage, MB", as_f64(*before) / 1e6, None),
            row("RSS during the outage, most, MB", as_f64(most) / 1e6, None),
            row("RSS during the outage, most less least, MB", as_f64(most - least) / 1e6, Some((FLAT / 1e6, false))),
            row(
                "RSS above that before the outage, MB",
                (as_f64(most) - as_f64(*before)) / 1e6,
                Some((FLAT / 1e6, false)),
            ),
            row("RSS during the drain, most, MB", as_f64(*draining) / 1e6, None),
            row("drained, times real time", replayed / as_f64(A_SECOND) / self.drain_s, Some((DRAIN, true))),
            row("drained, 1000 observations/s", replayed / self.drain_s / 1e3, None),
            row("drained, 1000 values/s", values / self.drain_s / 1e3, None),
            row("backfill: bytes a message", as_f64(bytes) / as_f64(messages.max(1)), None),
            row("backfill: times smaller by zstd", as_f64(text) / as_f64(bytes.max(1)), None),
            late("live before the outage, p50, ms", p50, normal, None),
            late("live before the outage, p99, ms", p99, normal, None),
            late("live during the drain, p50, ms", p50, &self.draining, Some(LATER * as_ms(normal.p50))),
            late("live during the drain, p99, ms", p99, &self.draining, Some(LATER * as_ms(normal.p99))),
            row("CPU seconds of the gateway, replay and drain", self.cpu_s, None),
        ]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hours, made, expected, replayed_s, drain_s, lost, repeated, repeated_at_cut, wrong, gaps, .. } =
            self;
        writeln!(
            f,
            "{hours} h at {A_SECOND} observations/s of {RESOURCES} resources: {expected} observations of one or two readings,\n\
             replayed in {replayed_s:.0} s and drained in {drain_s:.0} s over mutual TLS, beside {A_SECOND} live observations/s"
        )?;
        writeln!(f, "  {:<58} {:>12} {:>10} {:>7}", "", "ganglion", "target", "of it")?;
        self.rows().iter().try_for_each(|row| row.fmt(f))?;
        writeln!(
            f,
            "  live latencies of {} observations before and {} during the drain, accepted -> subscriber",
            self.normal.count, self.draining.count
        )?;
        let verdict = if self.is_complete() { "met" } else { "MISSED" };
        writeln!(
            f,
            "  {made} observations made: lost {lost}, repeated {repeated} ({repeated_at_cut} of the last second before the cut), wrong {wrong},\n  declared gaps {gaps}  {verdict}"
        )
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds far below 2^53")]
fn as_ms(ms: i64) -> f64 {
    ms as f64
}
