//! Observations as a flow: what each gateway could send, what the nodes take of it, what the consumers make of it.
//!
//! Live goes first. Of what a node has left, each gateway gets the same share of what it asks for, as from a broker that
//! reads its sockets in turn. What a gateway has in flight is in one TCP connection, in order: a live message waits for
//! the history in front of it.

use crate::model::{Cap, Cluster, Consumers, Fleet, LEAST_IN_FLIGHT, LIVE_LAG, Policy, Sharing};
use crate::seen::{Seen, Step};
use crate::sim::{Gateway, Micros, Run};

/// Everything that flows.
#[derive(Debug)]
pub(crate) struct Traffic {
    cluster: Cluster,
    fleet: Fleet,
    policy: Policy,
    last: Micros,
    /// Live messages that a node has not yet taken.
    unread: Vec<f64>,
    /// Bytes that a client may still send, and since when; for brokers that refuse.
    buckets: Vec<(f64, Micros)>,
    live: Group,
    backfill: Option<Group>,
}

/// The consumers of one subscription.
#[derive(Clone, Copy, Debug)]
struct Group {
    decoded_per_s: f64,
    most_messages: f64,
    waiting: Both,
}

/// Observations of the two lanes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Both {
    /// Each in a message of its own.
    pub(crate) live: f64,
    /// Many in a message.
    pub(crate) history: f64,
}

/// What one node is asked for in a step.
#[derive(Clone, Copy, Default, Debug)]
struct Asked {
    live: f64,
    history_bytes: f64,
}

impl Traffic {
    pub(crate) fn new(run: &Run) -> Self {
        let Run { cluster, fleet, policy, consumers, .. } = *run;
        let (live, backfill) = match policy.sharing {
            Sharing::Plain => (Group::new(consumers, 1), None),
            Sharing::Shared(all) => (Group::new(consumers, all), None),
            Sharing::ByLane { live, backfill } => (Group::new(consumers, live), Some(Group::new(consumers, backfill))),
        };
        Self {
            cluster,
            fleet,
            policy,
            last: Micros::default(),
            unread: vec![0.0; cluster.nodes],
            buckets: vec![(0.0, Micros::default()); fleet.gateways],
            live,
            backfill,
        }
    }

    /// Says whether steps of ten seconds show the same as those of one: a drain of hours, not one of minutes.
    pub(crate) fn may_be_coarse(&self) -> bool {
        matches!(self.policy.cap, Cap::Pause(_) | Cap::Gateway(_))
    }

    /// Lets everything flow up to `now`; returns the gateways whose messages the broker refused.
    pub(crate) fn flow(&mut self, gateways: &mut [Gateway], now: Micros, seen: &mut Seen) -> Vec<usize> {
        let seconds = now.seconds() - self.last.seconds();
        self.last = now;
        let nodes = self.cluster.nodes;
        let mut refused = Vec::new();
        let mut asked = vec![Asked::default(); nodes];
        let free = self.free_rate();
        let mut asks = vec![(0.0, 0.0); gateways.len()];
        for (index, gateway) in gateways.iter_mut().enumerate().filter(|(_, gateway)| gateway.awake) {
            let new = self.fleet.live_per_s * seconds;
            seen.taken += new;
            let Some(node) = gateway.node.map(|node| node % nodes) else {
                gateway.kept += new;
                continue;
            };
            gateway.delivered = true;
            gateway.behind += new;
            let ask = if gateway.rests_until > now {
                // Live that falls this far behind is history: live goes on at the present.
                if gateway.behind > LIVE_LAG.as_secs_f64() * self.fleet.live_per_s {
                    gateway.kept += std::mem::take(&mut gateway.behind);
                }
                (0.0, 0.0)
            } else {
                let (live, history, is_refused) = self.ask(index, gateway, free, (now, seconds));
                if is_refused {
                    refused.push(index);
                }
                (live, history)
            };
            asks[index] = ask;
            asked[node].live += ask.0;
            asked[node].history_bytes += ask.1;
        }
        let mut load: f64 = 0.0;
        let shares: Vec<(f64, f64)> = asked
            .iter()
            .enumerate()
            .map(|(node, asked)| {
                load = load.max(self.load(*asked, seconds));
                self.taken_by(node, *asked, seconds)
            })
            .collect();
        let lag = self.live.lag();
        let (mut live, mut history) = (0.0, 0.0);
        for (gateway, (sent, ask)) in gateways.iter_mut().zip(asks).filter(|(gateway, _)| gateway.awake) {
            let Some(node) = gateway.node.map(|node| node % nodes) else { continue };
            let (share, unread_for) = shares[node];
            let latency = self.waits(gateway.kept, free * share) + unread_for + lag;
            let mut left = sent;
            while left > 1e-9 {
                // What came within this step has not waited; what a pause kept back goes first, the oldest in front.
                let waited = (gateway.behind / self.fleet.live_per_s - seconds).max(0.0);
                let some = left.min(self.fleet.live_per_s * seconds);
                seen.live(waited + latency, some);
                gateway.behind = (gateway.behind - some).max(0.0);
                left -= some;
            }
            let delivered = (ask * share / self.per_observation()).min(gateway.kept);
            gateway.kept = if gateway.kept - delivered < 1e-3 { 0.0 } else { gateway.kept - delivered };
            live += sent;
            history += delivered;
        }
        let now_delivered = Both { live, history };
        seen.delivered = seen.delivered.plus(now_delivered);
        let batch = self.fleet.batch;
        let discarded = match &mut self.backfill {
            Some(group) => {
                let of_history = group.take(Both { live: 0.0, history }, batch, seconds);
                self.live.take(Both { live, history: 0.0 }, batch, seconds).plus(of_history)
            }
            None => self.live.take(now_delivered, batch, seconds),
        };
        seen.discarded = seen.discarded.plus(discarded);
        let kept: f64 = gateways.iter().map(|gateway| gateway.kept + gateway.behind).sum();
        seen.step(Step { at: now, seconds, load, kept, backfill_per_s: history / seconds });
        refused
    }

    /// Observations that the broker has and no consumer.
    pub(crate) fn with_broker(&self) -> f64 {
        self.live.waiting.all() + self.backfill.map_or(0.0, |group| group.waiting.all())
    }

    /// Returns the bytes of history a second that a gateway would send if the node took everything.
    fn free_rate(&self) -> f64 {
        let Fleet { live_per_s, live_bytes, link_bytes_per_s, round_trip, .. } = self.fleet;
        let live = live_per_s * live_bytes;
        let by_window = self.history_in_flight() / round_trip.as_secs_f64();
        let by_policy = match self.policy.cap {
            Cap::None | Cap::Refuse(_) => f64::INFINITY,
            Cap::Gateway(rate) => rate,
            Cap::Pause(cap) => cap - live,
        };
        by_policy.min(by_window).min(link_bytes_per_s - live).max(0.0)
    }

    /// Returns the live messages and the bytes of history that a gateway sends up to `now`, and whether the broker refuses
    /// more then. Live goes first.
    fn ask(&mut self, index: usize, gateway: &Gateway, free: f64, (now, seconds): (Micros, f64)) -> (f64, f64, bool) {
        let live = gateway.behind;
        let history = (gateway.kept * self.per_observation()).min(free * seconds);
        let Cap::Refuse(cap) = self.policy.cap else { return (live, history, false) };
        let (left, since) = self.buckets[index];
        let left = (left + cap * (now.seconds() - since.seconds())).min(cap);
        let live_sent = live.min(left / self.fleet.live_bytes);
        let history_sent = history.min(left - live_sent * self.fleet.live_bytes);
        self.buckets[index] = (left - live_sent * self.fleet.live_bytes - history_sent, now);
        (live_sent, history_sent, live_sent < live || history_sent < history)
    }

    /// Returns the load that was asked for, as a part of what the node can do; messages or bytes, whichever is worse.
    fn load(&self, Asked { live, history_bytes }: Asked, seconds: f64) -> f64 {
        let messages = live + history_bytes / self.fleet.batch_bytes;
        let bytes = live * self.fleet.live_bytes + history_bytes;
        (messages / self.cluster.messages_per_s).max(bytes / self.cluster.bytes_per_s) / seconds
    }

    /// Returns which part of the history asked for a node takes, and how long live messages wait for the node.
    fn taken_by(&mut self, node: usize, Asked { live, history_bytes }: Asked, seconds: f64) -> (f64, f64) {
        let Cluster { messages_per_s, bytes_per_s, .. } = self.cluster;
        let live_per_s = messages_per_s.min(bytes_per_s / self.fleet.live_bytes);
        let read = (self.unread[node] + live).min(live_per_s * seconds);
        self.unread[node] += live - read;
        let messages = (messages_per_s * seconds - read) * self.fleet.batch_bytes;
        let bytes = bytes_per_s * seconds - read * self.fleet.live_bytes;
        let room = messages.min(bytes).max(0.0);
        let share = if history_bytes > room { room / history_bytes } else { 1.0 };
        (share, self.unread[node] / live_per_s)
    }

    /// Returns how long a live message takes, with so much history kept and the rate at which history goes.
    ///
    /// Little's law over one connection: what is in flight goes at the connection's rate, live and history in order.
    fn waits(&self, kept: f64, bytes_per_s: f64) -> f64 {
        let round_trip = self.fleet.round_trip.as_secs_f64();
        let kept = kept * self.per_observation();
        // A gateway that holds itself back has little in flight: what it sends is gone after a round trip.
        if kept == 0.0 || matches!(self.policy.cap, Cap::Gateway(rate) if bytes_per_s >= 0.99 * rate) {
            return round_trip;
        }
        let rate = bytes_per_s.max(1.0);
        let whole = self.history_in_flight().min(kept) / rate;
        let paced = self.policy.pace.map_or(f64::INFINITY, |pace| {
            let all = rate + self.fleet.live_per_s * self.fleet.live_bytes;
            round_trip + pace.as_secs_f64().max(LEAST_IN_FLIGHT / all)
        });
        round_trip.max(whole.min(paced))
    }

    /// Returns the bytes of history that a gateway has in flight while it has any: at least one message.
    fn history_in_flight(&self) -> f64 {
        let all = (self.policy.receive_maximum * self.fleet.batch_bytes).min(self.fleet.window_bytes);
        (all * self.policy.backfill_share).max(self.fleet.batch_bytes)
    }

    fn per_observation(&self) -> f64 {
        self.fleet.batch_bytes / self.fleet.batch
    }
}

impl Group {
    fn new(Consumers { decoded_per_s, queue, .. }: Consumers, consumers: u32) -> Self {
        let consumers = f64::from(consumers);
        Self { decoded_per_s: decoded_per_s * consumers, most_messages: queue * consumers, waiting: Both::default() }
    }

    /// Takes observations, with so many in a message of history; returns those that were discarded, for the broker keeps
    /// so many messages only.
    fn take(&mut self, new: Both, batch: f64, seconds: f64) -> Both {
        let waiting = self.waiting.plus(new);
        let rest = (1.0 - self.decoded_per_s * seconds / waiting.all().max(1e-9)).max(0.0);
        let waiting = waiting.times(rest);
        let messages = waiting.live + waiting.history / batch;
        let kept = if messages > self.most_messages { self.most_messages / messages } else { 1.0 };
        self.waiting = waiting.times(kept);
        waiting.times(1.0 - kept)
    }

    /// Returns how long what comes now waits.
    fn lag(&self) -> f64 {
        self.waiting.all() / self.decoded_per_s
    }
}

impl Both {
    /// Returns the sum of the two.
    pub(crate) fn all(self) -> f64 {
        self.live + self.history
    }

    fn plus(self, other: Self) -> Self {
        Self { live: self.live + other.live, history: self.history + other.history }
    }

    fn times(self, part: f64) -> Self {
        Self { live: self.live * part, history: self.history * part }
    }
}
