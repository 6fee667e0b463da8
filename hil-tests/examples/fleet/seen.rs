//! What is seen of a run: counts by the second, latencies, and when things were over.

use crate::sim::Micros;
use crate::traffic::{Both, Traffic};

/// Latencies are kept in steps of five percent, from a millisecond.
const STEP: f64 = 1.05;
/// No run ends before, so that what happens at once is seen.
const FIRST_END: Micros = Micros(60_000_000);

/// What was seen from the event on.
#[derive(Debug)]
pub(crate) struct Seen {
    gateways: usize,
    /// Tries begun, by the second.
    pub(crate) attempts: Vec<u32>,
    /// Connections that reached a node, by the second, for each node.
    knocks: Vec<Vec<u32>>,
    /// Tries that ended without a connection.
    pub(crate) failed: u64,
    /// SYNs dropped because too many waited.
    pub(crate) dropped: u64,
    /// When 99 % were connected.
    pub(crate) connected_at: Option<Micros>,
    /// Gateways connected, at each change.
    pub(crate) connected: Vec<(Micros, usize)>,
    /// Steps of the flow.
    pub(crate) steps: Vec<Step>,
    /// When nothing was kept back any more.
    pub(crate) drained_at: Option<Micros>,
    latencies: Vec<f64>,
    /// Observations taken after the event.
    pub(crate) taken: f64,
    /// Observations that the broker has acknowledged.
    pub(crate) delivered: Both,
    /// Of these, what the broker discarded before a consumer had it.
    pub(crate) discarded: Both,
    /// Of these, what the broker still has.
    pub(crate) with_broker: f64,
    /// Connected at the end.
    pub(crate) online_at_end: usize,
    /// Kept back at the end.
    pub(crate) kept_at_end: f64,
}

/// One step of the flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Its end.
    pub(crate) at: Micros,
    /// Its length.
    pub(crate) seconds: f64,
    /// What the busiest node was asked for, of what it can do.
    pub(crate) load: f64,
    /// Observations kept back in all gateways.
    pub(crate) kept: f64,
    /// Observations of history delivered a second.
    pub(crate) backfill_per_s: f64,
}

impl Seen {
    pub(crate) fn new(gateways: usize, nodes: usize) -> Self {
        Self {
            gateways,
            attempts: Vec::new(),
            knocks: vec![Vec::new(); nodes],
            failed: 0,
            dropped: 0,
            connected_at: None,
            connected: Vec::new(),
            steps: Vec::new(),
            drained_at: None,
            latencies: Vec::new(),
            taken: 0.0,
            delivered: Both::default(),
            discarded: Both::default(),
            with_broker: 0.0,
            online_at_end: 0,
            kept_at_end: 0.0,
        }
    }

    pub(crate) fn attempt(&mut self, now: Micros) {
        count(&mut self.attempts, now);
    }

    pub(crate) fn knocked(&mut self, now: Micros, node: usize) {
        count(&mut self.knocks[node], now);
    }

    pub(crate) fn failed(&mut self, now: Micros) {
        self.failed += u64::from(now > Micros(0));
    }

    pub(crate) fn dropped(&mut self) {
        self.dropped += 1;
    }

    pub(crate) fn online(&mut self, now: Micros, online: usize) {
        self.connected.push((now, online));
        if online * 100 >= self.gateways * 99 {
            self.connected_at.get_or_insert(now);
        }
    }

    /// Notes how long live messages took, and how many; until history is drained.
    pub(crate) fn live(&mut self, seconds: f64, messages: f64) {
        if self.drained_at.is_some() {
            return;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and a few hundred")]
        let place = (seconds.max(1e-3) * 1e3).log(STEP) as usize;
        if self.latencies.len() <= place {
            self.latencies.resize(place + 1, 0.0);
        }
        self.latencies[place] += messages;
    }

    pub(crate) fn step(&mut self, step: Step) {
        if step.kept > 0.0 {
            self.drained_at = None;
        } else {
            self.drained_at.get_or_insert(step.at);
        }
        self.steps.push(step);
    }

    pub(crate) fn close(&mut self, traffic: Traffic) {
        self.with_broker = traffic.with_broker();
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained_at.is_some()
    }

    pub(crate) fn first_end(&self) -> Micros {
        FIRST_END
    }

    /// Returns the most tries in one second.
    pub(crate) fn most_attempts(&self) -> u32 {
        self.attempts.iter().copied().max().unwrap_or(0)
    }

    /// Returns for each second the most connections at one node, of what it can do.
    pub(crate) fn handshake_load(&self, handshakes_per_s: f64) -> Vec<f64> {
        let seconds = self.knocks.iter().map(Vec::len).max().unwrap_or(0);
        let at = |second: usize| self.knocks.iter().filter_map(|node| node.get(second)).copied().max().unwrap_or(0);
        (0..seconds).map(|second| f64::from(at(second)) / handshakes_per_s).collect()
    }

    /// Returns the highest load of a node by messages or bytes.
    pub(crate) fn most_load(&self) -> f64 {
        self.steps.iter().map(|step| step.load).fold(0.0, f64::max)
    }

    /// Returns for how many seconds a node was asked for more than it can do, in handshakes, messages or bytes.
    pub(crate) fn over_capacity(&self, handshakes_per_s: f64) -> f64 {
        let handshakes = self.handshake_load(handshakes_per_s);
        let flow: f64 = self.steps.iter().filter(|step| step.load > 1.0).map(|step| step.seconds).sum();
        // Where both are too high in one second it counts once: the flow's steps of a second come first.
        let is_over = |second: usize| {
            self.steps.iter().take_while(|step| step.seconds < 2.0).nth(second).is_some_and(|step| step.load > 1.0)
        };
        let alone = handshakes.iter().enumerate().filter(|&(second, &load)| load > 1.0 && !is_over(second)).count();
        flow + f64::from(u32::try_from(alone).unwrap_or(u32::MAX))
    }

    /// Returns the latency that 99 % of the live messages stayed below, in seconds.
    pub(crate) fn live_p99(&self) -> Option<f64> {
        let all: f64 = self.latencies.iter().sum();
        let mut below = 0.0;
        let place = self.latencies.iter().position(|messages| {
            below += messages;
            all > 0.0 && below >= 0.99 * all
        })?;
        Some(STEP.powi(i32::try_from(place + 1).unwrap_or(i32::MAX)) / 1e3)
    }
}

fn count(seconds: &mut Vec<u32>, now: Micros) {
    let Ok(second) = usize::try_from(now.0.div_euclid(1_000_000)) else { return };
    if seconds.len() <= second {
        seconds.resize(second + 1, 0);
    }
    seconds[second] += 1;
}
