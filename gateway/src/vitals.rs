//! What the gateway tells of itself, as events of its own resource: that it runs, and what its monitor shows of lost and
//! refused observations.
//!
//! A trouble that is counted and not shown as a state lasts until nothing was counted for a while. Each kind is told at
//! most once a minute, so that a disk at its edge does not fill the log of events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_protocols::{Quality, Reading, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock;
use crate::monitor::{Monitor, Vitals};
use crate::pipeline::{Offered, Unnumbered};
use crate::site::{RUNNING, Site};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Shortest time between two events of one kind, and how long a trouble that is counted lasts after the last count.
const QUIET: Duration = Duration::from_secs(60);

/// What the gateway tells about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The disk does not take observations.
    DiskRefuses,
    /// Observations were given up, by the buffer or because the broker can never take them.
    DataLost,
    /// The broker refuses messages, for now or for good.
    BrokerRefuses,
}

impl Trouble {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::DiskRefuses, Self::DataLost, Self::BrokerRefuses];

    /// Returns the name of its state in events.
    #[must_use]
    pub const fn state(self) -> &'static str {
        match self {
            Self::DiskRefuses => "disk_refuses",
            Self::DataLost => "data_lost",
            Self::BrokerRefuses => "broker_refuses",
        }
    }
}

/// Returns the name of every state that the gateway tells of itself.
pub fn states() -> impl Iterator<Item = &'static str> {
    Trouble::ALL.into_iter().map(Trouble::state).chain([RUNNING])
}

/// Tells the gateway's own troubles until `stop`, or until nobody takes events any more; before that, that it runs, and
/// after it, that it does not. An alarm that was raised before the gateway ran anew is raised anew too, or is over.
pub async fn run(
    site: Arc<Site>,
    monitor: Arc<Monitor>,
    events: mpsc::Sender<Offered>,
    mut stop: watch::Receiver<bool>,
) {
    let start = Instant::now();
    let tell = async |state: &str, holds: bool| {
        let Some(stream) = site.event_stream(site.gateway, state) else { return Ok(()) };
        let readings = vec![Reading { value: Some(Value::Bool(holds)), quality: Quality::Good }];
        let event = Unnumbered { stream, t: clock::now(), clock: clock::state(), readings, origin: None };
        monitor.event(&site, &event);
        events.send(event.into()).await
    };
    if tell(RUNNING, true).await.is_err() {
        return;
    }
    let mut watched = Watched::default();
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            // An error says that nobody could stop this task any more.
            _ = stop.wait_for(|&stop| stop) => break,
            _ = looks.tick() => {}
        }
        for (trouble, holds) in watched.look(start.elapsed(), &monitor.vitals()) {
            if tell(trouble.state(), holds).await.is_err() {
                return;
            }
        }
    }
    // Whoever would take it may be gone already.
    drop(tell(RUNNING, false).await);
}

/// What is known of each trouble. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    kinds: [Kind; Trouble::ALL.len()],
    last: Vitals,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    /// Whether it was told last that it holds, and when.
    told: bool,
    told_at: Option<Duration>,
    /// When it was counted last.
    counted: Option<Duration>,
}

impl Watched {
    /// Takes what the monitor shows at `now`; returns what is to be told: each trouble that began, and each that is over.
    pub fn look(&mut self, now: Duration, vitals: &Vitals) -> Vec<(Trouble, bool)> {
        let mut told = Vec::new();
        for (trouble, kind) in Trouble::ALL.into_iter().zip(&mut self.kinds) {
            let counted = match trouble {
                Trouble::DiskRefuses => vitals.disk_refuses,
                Trouble::DataLost => vitals.dropped > self.last.dropped,
                Trouble::BrokerRefuses => vitals.refused > self.last.refused,
            };
            if counted {
                kind.counted = Some(now);
            }
            let since = |at: Option<Duration>| at.map(|at| now.saturating_sub(at));
            let holds = match trouble {
                Trouble::DiskRefuses => counted,
                Trouble::DataLost | Trouble::BrokerRefuses => since(kind.counted).is_some_and(|age| age < QUIET),
            };
            if holds != kind.told && since(kind.told_at).is_none_or(|age| age >= QUIET) {
                (kind.told, kind.told_at) = (holds, Some(now));
                told.push((trouble, holds));
            }
        }
        self.last = *vitals;
        told
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Trouble::{BrokerRefuses, DataLost, DiskRefuses};
    use super::*;

    const NOTHING: Vitals = Vitals { disk_refuses: false, dropped: 0, refused: 0 };

    fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_gateway_in_order_says_nothing() {
        let mut watched = Watched::default();
        assert!((0..1000).all(|now| watched.look(s(now), &NOTHING).is_empty()));
    }

    #[test]
    fn a_disk_that_refuses_is_told_and_so_is_its_recovery_but_not_within_a_minute() {
        let mut watched = Watched::default();
        let full = Vitals { disk_refuses: true, ..NOTHING };
        assert_eq!(watched.look(s(10), &full), [(DiskRefuses, true)]);
        assert_eq!(watched.look(s(11), &full), []);
        assert_eq!(watched.look(s(12), &NOTHING), [], "too soon");
        assert_eq!(watched.look(s(69), &NOTHING), []);
        assert_eq!(watched.look(s(70), &NOTHING), [(DiskRefuses, false)]);
        assert_eq!(watched.look(s(130), &full), [(DiskRefuses, true)]);
    }

    #[test]
    fn a_loss_is_told_once_and_is_over_a_minute_after_the_last() {
        let mut watched = Watched::default();
        let lost = |dropped| Vitals { dropped, ..NOTHING };
        assert_eq!(watched.look(s(0), &NOTHING), []);
        assert_eq!(watched.look(s(1), &lost(5)), [(DataLost, true)]);
        assert_eq!(watched.look(s(30), &lost(9)), []);
        assert_eq!(watched.look(s(89), &lost(9)), []);
        assert_eq!(watched.look(s(90), &lost(9)), [(DataLost, false)]);
        assert_eq!(watched.look(s(200), &Vitals { refused: 1, ..lost(10) }), [(DataLost, true), (BrokerRefuses, true)]);
    }

    proptest! {
        #[test]
        fn no_kind_is_told_twice_within_a_minute_and_it_is_told_in_turns(
            looks in prop::collection::vec((0_u64..50, any::<bool>(), 0_u64..2, 0_u64..2), 0..100),
        ) {
            let mut watched = Watched::default();
            let (mut now, mut vitals) = (Duration::ZERO, NOTHING);
            let mut last = [(None, false); 3];
            for (pause, disk_refuses, dropped, refused) in looks {
                now += s(pause);
                vitals = Vitals { disk_refuses, dropped: vitals.dropped + dropped, refused: vitals.refused + refused };
                for (trouble, holds) in watched.look(now, &vitals) {
                    let (at, told) = &mut last[trouble as usize];
                    prop_assert!(at.is_none_or(|at| now - at >= QUIET), "{:?} at {:?}", trouble, now);
                    prop_assert_ne!(*told, holds);
                    (*at, *told) = (Some(now), holds);
                }
            }
        }
    }
}
