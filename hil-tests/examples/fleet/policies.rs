//! What is compared: the settings of the cluster and the fleet, and the policies under each event.

use std::time::Duration;

use crate::model::{Cap, Cluster, Consumers, Event, Fleet, Policy, Sharing};
use crate::sim::Run;
use crate::sizes::{Sizes, sizes};

/// What the command line sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) gateways: u32,
    pub(crate) hours: f64,
    pub(crate) handshakes: f64,
    pub(crate) backlog: usize,
    pub(crate) compression: f64,
    pub(crate) seed: u64,
}

/// Runs that belong together.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) title: String,
    pub(crate) runs: Vec<Run>,
}

/// The daemon's defaults for `retry_min_ms` and `retry_max_ms`.
pub(crate) const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Observations that a consumer decodes and stores in a second.
pub(crate) const DECODED_PER_S: f64 = 50_000.0;
/// Consumers of the lanes: a third more than live needs, and history at four times the rate at which it was taken.
const LANES: Sharing = Sharing::ByLane { live: 3, backfill: 8 };
/// History that one gateway may send, in times of the rate at which it was taken.
pub(crate) const CATCH_UP: f64 = 4.0;
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// The daemon as it is, on a cluster that caps nothing: where every other policy starts.
const BUILT: Policy = Policy {
    name: "full jitter as built, 0.5-60 s",
    retry: RETRY,
    jitter: true,
    spread: Duration::ZERO,
    backfill_share: 1.0,
    pace: None,
    receive_maximum: 64.0,
    cap: Cap::None,
    sharing: LANES,
};

/// Returns all runs of the table.
pub(crate) fn parts(setting: &Setting) -> Vec<Part> {
    let run = |policy, event, limit| setting.run(policy, event, limit);
    let back = Event::Return { hours: setting.hours };
    let short = Event::Return { hours: 0.0 };
    let Setting { hours, .. } = setting;
    let fixed = Policy { name: "fixed 5 s", retry: (5 * SECOND, 5 * SECOND), jitter: false, ..BUILT };
    let exponential = Policy { name: "exponential 8-60 s, no jitter", jitter: false, ..BUILT };
    let together = Policy { name: "all after 0.5 s", retry: (RETRY.0, RETRY.0), jitter: false, ..BUILT };
    let longer = Policy { name: "full jitter 0.5-300 s", retry: (RETRY.0, 300 * SECOND), ..BUILT };
    let spread = |name, seconds| Policy { name, spread: seconds * SECOND, ..BUILT };
    let fifth = |mut run: Run| {
        run.cluster.handshakes_per_s /= 5.0;
        run
    };
    let drain = |policy| run(policy, back, 24 * HOUR);
    let share = Policy { name: "share 0.25", backfill_share: 0.25, ..BUILT };
    let pause = Policy { name: "share 0.25, broker pauses socket", cap: Cap::Pause(setting.client_cap()), ..share };
    let paced = Policy { name: "same, in flight 1 s of its link", pace: Some(SECOND), ..pause };
    let own = Policy { name: "backfill_max_per_s = 40", cap: Cap::Gateway(setting.history_cap()), ..share };
    let refuse = Policy { name: "share 0.25, broker answers 0x97", cap: Cap::Refuse(setting.client_cap()), ..share };
    let named = |policy: Policy, name, sharing| Policy { name, sharing, ..policy };
    vec![
        Part {
            title: "Connections: the cluster returns".to_owned(),
            runs: [fixed, exponential, BUILT, longer].map(|policy| run(policy, short, HOUR)).to_vec(),
        },
        Part {
            title: "Connections: the same, a fifth of the handshakes".to_owned(),
            runs: [fixed, exponential, BUILT, longer].map(|policy| fifth(run(policy, short, HOUR))).to_vec(),
        },
        Part {
            title: "Connections: every session cut at once".to_owned(),
            runs: [together, BUILT, spread("same, and 10 s more", 10), spread("same, and 30 s more", 30)]
                .map(|policy| run(policy, Event::Flap, HOUR))
                .to_vec(),
        },
        Part {
            title: "Connections: one node restarts, 30 s".to_owned(),
            runs: [together, BUILT, spread("same, and 10 s more", 10)]
                .map(|policy| run(policy, Event::Restart(30 * SECOND), HOUR))
                .to_vec(),
        },
        Part {
            title: "Connections: power returns".to_owned(),
            runs: vec![
                run(Policy { name: "all start within 30 s", ..BUILT }, Event::Power(30 * SECOND), HOUR),
                run(Policy { name: "all start within 3 s", ..BUILT }, Event::Power(3 * SECOND), HOUR),
                fifth(run(Policy { name: "same, a fifth of handshakes", ..BUILT }, Event::Power(3 * SECOND), HOUR)),
                fifth(run(spread("same, start spread over 30 s", 30), Event::Power(3 * SECOND), HOUR)),
            ],
        },
        Part {
            title: "Connections: fail-over to a second cluster, silence noticed within 60 s".to_owned(),
            runs: vec![run(BUILT, Event::FailOver(60 * SECOND), HOUR)],
        },
        Part {
            title: format!("History of {hours} h, full jitter"),
            runs: vec![
                drain(named(BUILT, "no share, plain", Sharing::Plain)),
                drain(named(BUILT, "no share, shared by 11", Sharing::Shared(11))),
                drain(named(share, "share 0.25, shared by 11", Sharing::Shared(11))),
                drain(named(share, "share 0.25, by lane 3 + 8", LANES)),
                drain(Policy { name: "same, receive maximum 4", receive_maximum: 4.0, ..share }),
                drain(pause),
                drain(paced),
                drain(own),
                drain(named(own, "same, plain subscription", Sharing::Plain)),
                run(refuse, back, 600 * SECOND),
            ],
        },
    ]
}

/// Returns the runs of the picture.
pub(crate) fn pictured(setting: &Setting) -> [Run; 2] {
    let back = Event::Return { hours: setting.hours };
    let fixed = Policy { name: "fixed 5 s, nothing capped", retry: (5 * SECOND, 5 * SECOND), jitter: false, ..BUILT };
    let own = Policy {
        name: "full jitter 0.5-60 s, history capped",
        backfill_share: 0.25,
        cap: Cap::Gateway(setting.history_cap()),
        ..BUILT
    };
    [fixed, own].map(|policy| setting.run(policy, back, 24 * HOUR))
}

impl Setting {
    /// Returns the daemon's defaults after an outage without history.
    #[cfg(test)]
    pub(crate) fn built(&self) -> Run {
        self.run(BUILT, Event::Return { hours: 0.0 }, HOUR)
    }

    fn run(&self, policy: Policy, event: Event, limit: Duration) -> Run {
        Run {
            cluster: self.cluster(),
            consumers: Consumers { decoded_per_s: DECODED_PER_S, queue: 1000.0 },
            fleet: self.fleet(),
            policy,
            event,
            limit,
            seed: self.seed,
        }
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster {
            nodes: 3,
            handshakes_per_s: self.handshakes,
            backlog: self.backlog,
            messages_per_s: 60_000.0,
            bytes_per_s: 60e6,
        }
    }

    pub(crate) fn fleet(&self) -> Fleet {
        let Sizes { live, batch, in_batch, .. } = sizes();
        Fleet {
            gateways: self.gateways as usize,
            live_per_s: f64::from(crate::sizes::RESOURCES),
            live_bytes: as_f64(live),
            batch: as_f64(in_batch),
            batch_bytes: as_f64(batch) / self.compression,
            round_trip: Duration::from_millis(50),
            link_bytes_per_s: 625_000.0,
            connect_timeout: 10 * SECOND,
            window_bytes: 1_048_576.0,
        }
    }

    /// Returns the bytes of history a second at which the consumers of history just keep up.
    pub(crate) fn history_cap(&self) -> f64 {
        let fleet = self.fleet();
        CATCH_UP * fleet.live_per_s * fleet.batch_bytes / fleet.batch
    }

    /// Returns the same with the live messages, as a broker counts it for a client.
    fn client_cap(&self) -> f64 {
        let fleet = self.fleet();
        self.history_cap() + fleet.live_per_s * fleet.live_bytes
    }
}

#[allow(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}
