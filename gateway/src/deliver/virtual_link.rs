//! A link to a broker in virtual time, for tests: bytes leave one after another at a rate, lost segments hold up what is
//! behind them, and what has crossed is acknowledged a round trip later.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Bytes in a segment.
const SEGMENT: u64 = 1460;

/// The link; `C` is what tells messages apart.
#[derive(Debug)]
pub(super) struct Link<C> {
    /// Bytes a second.
    pub(super) rate: f64,
    /// The way there and back of nothing at all.
    pub(super) round_trip: Duration,
    /// Chance that a segment is lost, 0.0..1.0.
    pub(super) loss: f64,
    rng: Rng,
    /// Bytes carried so far.
    carried: u64,
    queue: VecDeque<(C, u64)>,
    /// The bytes on their way, and when they will have left.
    leaving: Option<(Instant, u64)>,
    answers: VecDeque<(Instant, C)>,
}

impl<C> Link<C> {
    pub(super) fn new(rate: f64, round_trip: Duration, loss: f64, seed: u64) -> Self {
        Self {
            rate,
            round_trip,
            loss,
            rng: Rng::with_seed(seed),
            carried: 0,
            queue: VecDeque::new(),
            leaving: None,
            answers: VecDeque::new(),
        }
    }

    /// Takes a message at the end of the queue.
    pub(super) fn put(&mut self, now: Instant, cargo: C, bytes: usize) {
        self.queue.push_back((cargo, bytes.max(1) as u64));
        if self.leaving.is_none() {
            self.leave(now);
        }
    }

    /// Returns when something happens next.
    pub(super) fn next(&self) -> Option<Instant> {
        let leaving = self.leaving.map(|(at, _)| at);
        let answer = self.answers.front().map(|(at, _)| *at);
        leaving.into_iter().chain(answer).min()
    }

    /// Returns the next message acknowledged by now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<C> {
        while let Some((at, bytes)) = self.leaving.filter(|(at, _)| *at <= now) {
            self.leaving = None;
            let (_, left) = self.queue.front_mut().unwrap();
            *left -= bytes;
            if *left == 0 {
                let (cargo, _) = self.queue.pop_front().unwrap();
                self.answers.push_back((at + self.round_trip, cargo));
            }
            self.leave(at);
        }
        self.answers.pop_front_if(|(at, _)| *at <= now).map(|(_, cargo)| cargo)
    }

    fn leave(&mut self, now: Instant) {
        let Some(&(_, left)) = self.queue.front() else { return };
        let bytes = left.min(SEGMENT - self.carried % SEGMENT);
        self.carried += bytes;
        let mut takes = Duration::from_secs_f64(bytes as f64 / self.rate);
        if self.carried.is_multiple_of(SEGMENT) {
            // RFC 6298: each time it is lost again, it is waited for twice as long.
            let mut timeout = (self.round_trip * 3 / 2).max(Duration::from_secs(1));
            while self.rng.f64() < self.loss {
                takes += timeout;
                timeout *= 2;
            }
        }
        self.leaving = Some((now + takes, bytes));
    }
}
