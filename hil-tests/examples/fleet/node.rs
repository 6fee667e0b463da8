//! One broker node as a server of handshakes: a queue, one handshake after another, and work for clients that have gone.

use std::collections::VecDeque;

use crate::sim::Micros;

/// What a handshake costs whose client is gone when its turn comes: the node has signed before it finds out.
const WASTED: f64 = 0.5;

/// A connection that wants a handshake: the gateway, and which of its tries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    pub(crate) gateway: usize,
    pub(crate) attempt: u32,
}

/// A node's handshakes.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Whether the load balancer sends it connections.
    pub(crate) up: bool,
    /// Counts starts, so that a handshake of before a restart does not end after it.
    pub(crate) life: u32,
    waiting: VecDeque<Wish>,
    busy: bool,
    backlog: usize,
    cost: f64,
}

impl Node {
    /// Starts idle.
    pub(crate) fn new(handshakes_per_s: f64, backlog: usize) -> Self {
        let cost = 1e6 / handshakes_per_s;
        Self { up: true, life: 0, waiting: VecDeque::new(), busy: false, backlog, cost }
    }

    /// Takes a connection; `false` when too many wait, and the kernel drops its SYN.
    pub(crate) fn take(&mut self, wish: Wish) -> bool {
        let room = self.waiting.len() < self.backlog;
        if room {
            self.waiting.push_back(wish);
        }
        room
    }

    /// Begins the next handshake unless one is on; returns whose it is and how long it takes.
    pub(crate) fn begin(&mut self, is_there: impl Fn(Wish) -> bool) -> Option<(Wish, Micros)> {
        if self.busy {
            return None;
        }
        let wish = self.waiting.pop_front()?;
        self.busy = true;
        let cost = if is_there(wish) { self.cost } else { self.cost * WASTED };
        Some((wish, Micros::of(cost)))
    }

    /// Ends the handshake that is on.
    pub(crate) fn end(&mut self) {
        self.busy = false;
    }

    /// Loses all that it had and takes nothing until it is up again.
    pub(crate) fn fail(&mut self) {
        self.up = false;
        self.life += 1;
        self.busy = false;
        self.waiting.clear();
    }
}
