//! The simulation: tries, handshakes and losses are events in virtual time, traffic is a flow in steps (`traffic`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use ganglion::deliver::backoff::Backoff;

use crate::model::{Cluster, Consumers, Event, Fleet, Policy};
use crate::node::{Node, Wish};
use crate::seen::Seen;
use crate::traffic::Traffic;

/// Microseconds of virtual time since the event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Micros(pub(crate) i64);

impl Micros {
    /// Rounds up, so that nothing takes no time at all.
    #[allow(clippy::cast_possible_truncation, reason = "spans of hours in microseconds are far below 2^53")]
    pub(crate) fn of(micros: f64) -> Self {
        Self(micros.ceil() as i64)
    }

    fn plus(self, span: Duration) -> Self {
        Self(self.0 + i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 2))
    }

    /// Returns seconds.
    #[allow(clippy::cast_precision_loss, reason = "spans of hours in microseconds are far below 2^53")]
    pub(crate) fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

/// How long before the return the outage is simulated: by then every back-off has long reached its longest pause.
const LEAD: Duration = Duration::from_secs(900);
/// For so long after the event the flow goes by steps of a second, then by ten.
const FINE: Micros = Micros(300_000_000);
/// When a dropped SYN is sent again, after the one before. Source: RFC 6298 §2 and §5.5: a second, doubled each time.
const SYN_AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// One run: who, where, what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) cluster: Cluster,
    pub(crate) consumers: Consumers,
    pub(crate) fleet: Fleet,
    pub(crate) policy: Policy,
    pub(crate) event: Event,
    /// When to stop at the latest.
    pub(crate) limit: Duration,
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum What {
    NodeUp(usize),
    Lose(usize),
    Try(usize),
    Syn { gateway: usize, attempt: u32, sent: usize },
    HandshakeDone { node: usize, life: u32, gateway: usize, attempt: u32 },
    Online { gateway: usize, attempt: u32, node: usize, life: u32 },
    GiveUp { gateway: usize, attempt: u32 },
    Step,
}

/// One gateway.
pub(crate) struct Gateway {
    backoff: Backoff,
    /// The pauses after a refused message, while the connection stays.
    flow: Backoff,
    /// When such a pause ends.
    pub(crate) rests_until: Micros,
    /// Live observations that wait for its end.
    pub(crate) behind: f64,
    attempt: u32,
    trying: bool,
    /// The node it is connected to.
    pub(crate) node: Option<usize>,
    /// Which cluster is tried: 0, or 1 for the second.
    site: usize,
    /// Whether something was delivered on this connection.
    pub(crate) delivered: bool,
    /// Whether it runs: without power it takes no observations.
    pub(crate) awake: bool,
    /// Observations kept and not delivered.
    pub(crate) kept: f64,
}

struct Simulation {
    run: Run,
    chance: Rng,
    now: Micros,
    events: BinaryHeap<Reverse<(Micros, u64, What)>>,
    scheduled: u64,
    gateways: Vec<Gateway>,
    /// The nodes of the first cluster, then those of the second.
    nodes: Vec<Node>,
    turn: usize,
    online: usize,
    traffic: Traffic,
    seen: Seen,
}

/// Runs until every gateway is connected and nothing is kept back, or the limit has come.
pub(crate) fn simulate(run: Run) -> Seen {
    let mut simulation = Simulation::new(run);
    simulation.set_up();
    while let Some(Reverse((now, _, what))) = simulation.events.pop() {
        simulation.now = now;
        if now > Micros(0).plus(run.limit) || simulation.happen(what) {
            break;
        }
    }
    let Simulation { mut seen, gateways, online, traffic, .. } = simulation;
    seen.online_at_end = online;
    seen.kept_at_end = gateways.iter().map(|gateway| gateway.kept + gateway.behind).sum();
    seen.close(traffic);
    seen
}

impl Simulation {
    fn new(run: Run) -> Self {
        let Run { cluster, fleet, policy, event, seed, .. } = run;
        let sites = if matches!(event, Event::FailOver(_)) { 2 } else { 1 };
        let gateway = || Gateway {
            backoff: Backoff::new(policy.retry),
            flow: Backoff::new(policy.retry),
            rests_until: Micros(i64::MIN),
            behind: 0.0,
            attempt: 0,
            trying: false,
            node: None,
            site: 0,
            delivered: true,
            awake: true,
            kept: 0.0,
        };
        Self {
            run,
            chance: Rng::with_seed(seed),
            now: Micros(0),
            events: BinaryHeap::new(),
            scheduled: 0,
            gateways: (0..fleet.gateways).map(|_| gateway()).collect(),
            nodes: vec![Node::new(cluster.handshakes_per_s, cluster.backlog); cluster.nodes * sites],
            turn: 0,
            online: 0,
            traffic: Traffic::new(&run),
            seen: Seen::new(fleet.gateways, cluster.nodes),
        }
    }

    fn set_up(&mut self) {
        let nodes = self.run.cluster.nodes;
        let zero = Micros(0);
        for index in 0..self.gateways.len() {
            match self.run.event {
                Event::Return { hours } => {
                    self.gateways[index].kept = self.run.fleet.live_per_s * hours * 3600.0;
                    self.at(Micros(0 - zero.plus(LEAD).0), What::Lose(index));
                }
                Event::Flap => {
                    self.connected_before(index, index % nodes);
                    self.at(zero, What::Lose(index));
                }
                Event::Restart(_) => {
                    self.connected_before(index, index % nodes);
                    if index % nodes == 0 {
                        self.at(zero, What::Lose(index));
                    }
                }
                Event::Power(span) => {
                    self.gateways[index].awake = false;
                    let start = zero.plus(span.mul_f64(self.chance.f64()) + self.drawn_spread());
                    self.at(start, What::Try(index));
                }
                Event::FailOver(span) => {
                    self.connected_before(index, index % nodes);
                    let told = zero.plus(span.mul_f64(0.5 + 0.5 * self.chance.f64()));
                    self.at(told, What::Lose(index));
                }
            }
        }
        match self.run.event {
            Event::Return { .. } => {
                for node in 0..nodes {
                    self.nodes[node].fail();
                    self.at(zero, What::NodeUp(node));
                }
            }
            Event::Restart(away) => {
                self.nodes[0].fail();
                self.at(zero.plus(away), What::NodeUp(0));
            }
            Event::FailOver(_) => self.nodes.iter_mut().take(nodes).for_each(Node::fail),
            Event::Flap | Event::Power(_) => {}
        }
        self.at(zero.plus(Duration::from_secs(1)), What::Step);
    }

    fn connected_before(&mut self, index: usize, node: usize) {
        self.gateways[index].node = Some(node);
        self.online += 1;
    }

    /// Does what is due; `true` ends the run.
    fn happen(&mut self, what: What) -> bool {
        match what {
            What::NodeUp(node) => self.nodes[node].up = true,
            What::Lose(index) => {
                let spread = self.drawn_spread();
                self.lose(index, spread);
            }
            What::Try(index) => self.try_to_connect(index),
            What::Syn { gateway, attempt, sent } => self.knock(Wish { gateway, attempt }, sent),
            What::HandshakeDone { node, life, gateway, attempt } => {
                if self.nodes[node].life == life {
                    self.nodes[node].end();
                    let there = self.now.plus(self.run.fleet.round_trip);
                    self.at(there, What::Online { gateway, attempt, node, life });
                    self.serve(node);
                }
            }
            What::Online { gateway, attempt, node, life } => self.come_online(Wish { gateway, attempt }, node, life),
            What::GiveUp { gateway, attempt } => {
                let there = &self.gateways[gateway];
                if there.trying && there.attempt == attempt {
                    self.seen.failed(self.now);
                    self.lose(gateway, Duration::ZERO);
                }
            }
            What::Step => return self.step(),
        }
        false
    }

    fn try_to_connect(&mut self, index: usize) {
        let fleet = self.run.fleet;
        let gateway = &mut self.gateways[index];
        gateway.awake = true;
        gateway.trying = true;
        gateway.attempt += 1;
        let attempt = gateway.attempt;
        self.seen.attempt(self.now);
        let arrival = self.now.plus(fleet.round_trip);
        self.at(arrival, What::Syn { gateway: index, attempt, sent: 0 });
        let patience = self.now.plus(fleet.connect_timeout);
        self.at(patience, What::GiveUp { gateway: index, attempt });
    }

    /// A SYN arrives at the load balancer, which hands the connections to the nodes in turn.
    fn knock(&mut self, wish: Wish, sent: usize) {
        let Gateway { site, attempt, trying, .. } = self.gateways[wish.gateway];
        if !trying || attempt != wish.attempt {
            return;
        }
        let nodes = self.run.cluster.nodes;
        let up: Vec<usize> = (site * nodes..(site + 1) * nodes).filter(|&node| self.nodes[node].up).collect();
        self.turn = self.turn.wrapping_add(1);
        let chosen = (!up.is_empty()).then(|| up[self.turn % up.len()]);
        if let Some(node) = chosen {
            if sent == 0 {
                self.seen.knocked(self.now, node % nodes);
            }
            if self.nodes[node].take(wish) {
                self.serve(node);
                return;
            }
            self.seen.dropped();
        }
        if let Some(&again) = SYN_AGAIN.get(sent) {
            let Wish { gateway, attempt } = wish;
            let again = self.now.plus(again);
            self.at(again, What::Syn { gateway, attempt, sent: sent + 1 });
        }
    }

    fn serve(&mut self, node: usize) {
        let gateways = &self.gateways;
        let is_there = |wish: Wish| gateways[wish.gateway].trying && gateways[wish.gateway].attempt == wish.attempt;
        if let Some((Wish { gateway, attempt }, cost)) = self.nodes[node].begin(is_there) {
            let done = Micros(self.now.0 + cost.0);
            let life = self.nodes[node].life;
            self.at(done, What::HandshakeDone { node, life, gateway, attempt });
        }
    }

    fn come_online(&mut self, wish: Wish, node: usize, life: u32) {
        let there = &mut self.gateways[wish.gateway];
        if self.nodes[node].life != life || !there.trying || there.attempt != wish.attempt {
            return;
        }
        there.trying = false;
        there.node = Some(node);
        there.delivered = false;
        self.online += 1;
        self.seen.online(self.now, self.online);
    }

    /// Ends a connection or a try, and waits before the next as the daemon does.
    fn lose(&mut self, index: usize, spread: Duration) {
        let chance = if self.run.policy.jitter { self.chance.f64() } else { 1.0 };
        let sites = self.nodes.len() / self.run.cluster.nodes;
        let gateway = &mut self.gateways[index];
        if gateway.node.take().is_some() {
            self.online -= 1;
        }
        gateway.trying = false;
        if std::mem::take(&mut gateway.delivered) {
            gateway.backoff.reset();
        } else {
            gateway.site = (gateway.site + 1) % sites;
        }
        // As `deliver/brokers.rs`: the next in the list is tried after a moment, and the list anew after a pause.
        let pause = match gateway.site {
            0 => gateway.backoff.pause(chance),
            _ => self.run.policy.retry.0.mul_f64(chance),
        };
        let next = self.now.plus(pause + spread);
        self.at(next, What::Try(index));
    }

    /// Pauses after a refused message, as `deliver/wire/flow.rs` does: the answers to what is in flight, then a pause. A
    /// gateway sends until it is refused, so something was delivered in between and the pauses begin anew.
    fn rest(&mut self, index: usize) {
        let chance = self.chance.f64();
        let gateway = &mut self.gateways[index];
        gateway.flow.reset();
        gateway.rests_until = self.now.plus(self.run.fleet.round_trip + gateway.flow.pause(chance));
    }

    fn step(&mut self) -> bool {
        let seconds = if self.now < FINE || !self.traffic.may_be_coarse() { 1 } else { 10 };
        let refused = self.traffic.flow(&mut self.gateways, self.now, &mut self.seen);
        for index in refused {
            self.rest(index);
        }
        let next = self.now.plus(Duration::from_secs(seconds));
        self.at(next, What::Step);
        let settled = self.online == self.gateways.len() && self.seen.is_drained();
        settled && self.now >= self.seen.first_end()
    }

    fn drawn_spread(&mut self) -> Duration {
        match self.run.policy.spread {
            Duration::ZERO => Duration::ZERO,
            spread => spread.mul_f64(self.chance.f64()),
        }
    }

    fn at(&mut self, time: Micros, what: What) {
        self.scheduled += 1;
        self.events.push(Reverse((time, self.scheduled, what)));
    }
}
