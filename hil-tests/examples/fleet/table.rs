//! The table, as text.

use std::time::Duration;

use crate::policies::{CATCH_UP, DECODED_PER_S, Part, Setting, as_f64};
use crate::seen::Seen;
use crate::sim::Run;
use crate::sizes::sizes;

/// Returns what all runs have in common.
pub(crate) fn head(setting: &Setting) -> String {
    let sizes = sizes();
    let Setting { gateways, handshakes, backlog, compression, seed, .. } = setting;
    format!(
        "{gateways} gateways x {} observations/s; 3 nodes x {handshakes:.0} handshakes/s, backlog {backlog}; seed {seed}\n\
         an observation of two readings: {} bytes on disk, {} as a live message; {} in a backfill message of {} bytes,\n\
         {:.0} compressed {compression:.1} times\n\n\
         {:<34} | 99 % up tries/s failed  dropped | hands. traffic    over | live p99 drained     lost",
        crate::sizes::RESOURCES,
        sizes.record,
        sizes.live,
        sizes.in_batch,
        sizes.batch,
        as_f64(sizes.batch) / compression,
        "",
    )
}

/// Returns the title of a part.
pub(crate) fn part(part: &Part) -> &str {
    &part.title
}

/// Returns one line: when 99 % are connected, most tries in a second, tries that failed and SYNs dropped; the highest
/// load of a node by handshakes and by traffic, and how long either was above what it can do; then live latency, when
/// history is drained, and what the brokers discarded of what they had acknowledged.
pub(crate) fn row(run: &Run, seen: &Seen) -> String {
    let handshakes = run.cluster.handshakes_per_s;
    let load = seen.handshake_load(handshakes).into_iter().fold(0.0, f64::max);
    let connected = seen.connected_at.map_or_else(|| "never".to_owned(), |at| format!("{:.1} s", at.seconds()));
    let history = seen.steps.iter().any(|step| step.backfill_per_s > 0.0);
    let drained = match seen.drained_at {
        Some(at) if history => span(at.seconds()),
        Some(_) => "-".to_owned(),
        None => format!(">{}", span(run.limit.as_secs_f64())),
    };
    let p99 = seen.live_p99().map_or_else(|| "-".to_owned(), latency);
    format!(
        "  {:<32} | {connected:>7} {:>7} {:>6} {:>8} | {load:>5.2}x {:>6.2}x {:>7} | {p99:>8} {drained:>7} {:>3.0} {:>3.0} %",
        run.policy.name,
        seen.most_attempts(),
        seen.failed,
        seen.dropped,
        seen.most_load(),
        span(seen.over_capacity(handshakes)),
        100.0 * seen.discarded.live / seen.delivered.live.max(1.0),
        100.0 * seen.discarded.history / seen.delivered.history.max(1.0),
    )
}

/// Returns messages and bytes for fleets of several sizes, and what carries them with one node away.
pub(crate) fn capacity(setting: &Setting) -> String {
    let mut out =
        "\n   gateways | live msg/s   MB/s | history msg/s   MB/s | nodes | consumers | kept after the outage"
            .to_owned();
    let cluster = setting.cluster();
    for gateways in [1_000, 10_000, 50_000] {
        let fleet = Setting { gateways, ..*setting }.fleet();
        let n = f64::from(gateways);
        let (live, history) = (n * fleet.live_per_s, n * setting.history_cap());
        let consumers = (live * 4.0 / 3.0 / DECODED_PER_S).ceil() + (live * CATCH_UP / DECODED_PER_S).ceil();
        out += &format!(
            "\n  {gateways:>9} | {live:>10.0} {:>6.1} | {:>13.0} {:>6.1} | {:>5.0} | {consumers:>9.0} | {:.2e} \
             observations, {:.0} MB a gateway",
            live * fleet.live_bytes / 1e6,
            history / fleet.batch_bytes,
            history / 1e6,
            (live / cluster.messages_per_s).ceil() + 1.0,
            live * setting.hours * 3600.0,
            fleet.live_per_s * setting.hours * 3600.0 * as_f64(sizes().record) / 1e6,
        );
    }
    out
}

fn span(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.round()).as_secs();
    match whole {
        0..600 => format!("{whole} s"),
        600..7200 => format!("{} min", whole / 60),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

fn latency(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}
