//! Whether messages go out, or wait because the broker refused one for now. Pure: time and chance come in as arguments.

use std::time::Duration;

use tokio::time::Instant;

use crate::deliver::backoff::Backoff;

/// The flow of messages on one connection.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    state: State,
    backoff: Backoff,
    /// Pauses in a row without anything delivered in between.
    times: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    AwaitingAnswers,
    Resting { until: Instant },
}

/// A pause that begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pause {
    /// How long it is.
    pub(super) length: Duration,
    /// The how many-th in a row without anything delivered in between, from 1.
    pub(super) times: u64,
}

impl Flow {
    /// Starts open; the pauses lie between these two.
    pub(super) fn new(retry: (Duration, Duration)) -> Self {
        Self { state: State::Open, backoff: Backoff::new(retry), times: 0 }
    }

    /// Returns whether messages may go out.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Notes that the broker refused a message for now: nothing further goes out.
    pub(super) fn refused(&mut self) {
        if self.is_open() {
            self.state = State::AwaitingAnswers;
        }
    }

    /// Returns whether the answers to what is in flight are waited for, after which the pause begins.
    pub(super) fn awaits_answers(&self) -> bool {
        self.state == State::AwaitingAnswers
    }

    /// Begins the pause; `progress` says whether anything was delivered since the last one, `chance` is 0.0..1.0.
    pub(super) fn rest(&mut self, now: Instant, progress: bool, chance: f64) -> Pause {
        if progress {
            self.backoff.reset();
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        let length = self.backoff.pause(chance);
        self.state = State::Resting { until: now + length };
        Pause { length, times: self.times }
    }

    /// Returns when the pause ends.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        match self.state {
            State::Resting { until } => Some(until),
            State::Open | State::AwaitingAnswers => None,
        }
    }

    /// Ends the pause.
    pub(super) fn resume(&mut self) {
        self.state = State::Open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_refusal_closes_the_flow_until_the_answers_have_come_and_a_pause_has_passed() {
        let now = Instant::now();
        let mut flow = Flow::new((SECOND, 50 * SECOND));
        assert!(flow.is_open());
        flow.refused();
        flow.refused();
        assert!(!flow.is_open() && flow.awaits_answers());
        assert_eq!(flow.rest(now, false, 0.0), Pause { length: SECOND, times: 1 });
        assert_eq!(flow.rests_until(), Some(now + SECOND));
        assert!(!flow.is_open() && !flow.awaits_answers());
        flow.refused();
        assert_eq!(flow.rests_until(), Some(now + SECOND), "a late refusal is no reason to begin anew");
        flow.resume();
        assert!(flow.is_open() && flow.rests_until().is_none());
    }

    #[test]
    fn pauses_grow_while_nothing_is_delivered_and_start_anew_after_something_was() {
        let now = Instant::now();
        let mut flow = Flow::new((SECOND, 50 * SECOND));
        let mut pause = |progress| {
            flow.refused();
            let pause = flow.rest(now, progress, 1.0);
            flow.resume();
            (pause.length.as_secs(), pause.times)
        };
        let pauses = [false, false, false, false, false, true, false].map(&mut pause);
        assert_eq!(pauses, [(16, 1), (32, 2), (50, 3), (50, 4), (50, 5), (16, 1), (32, 2)]);
    }
}
