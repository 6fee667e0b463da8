//! The account at the end: what was sampled, and where each of it is.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::daemon::{Counts, Snapshot};
use super::stage::Simulated;
use crate::received::Received;

/// What became of everything.
#[derive(Clone, Debug, Serialize)]
pub struct Ledger {
    /// Whether every device was heard and nothing is lost, wrong or against the contract.
    pub ok: bool,
    /// Whether somebody ended the demo early.
    pub interrupted: bool,
    /// Whether the daemon ended in time and with success after it was told to.
    pub drained: bool,
    /// How long the broker was away, in seconds.
    pub outage_s: f64,
    /// Connections of the daemon that the broker accepted, as the daemon counts them.
    pub uplink_connections: u64,
    /// Messages that break the contract.
    pub violations: Vec<String>,
    /// The resources.
    pub resources: Vec<Row>,
}

/// The account of one resource, in observations.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The resource.
    pub resource: String,
    /// The device that observes it.
    pub device: String,
    /// Made by the daemon.
    pub sampled: u64,
    /// On the daemon's disk.
    pub durable: u64,
    /// Acknowledged by the broker.
    pub delivered: u64,
    /// Different ones at the subscriber.
    pub received: u64,
    /// Came again at the subscriber, as QoS 1 allows.
    pub duplicated: u64,
    /// Came for the first time behind a later one.
    pub reordered: u64,
    /// Numbers that the daemon gave, or had to give for what it sampled, and the subscriber never saw.
    pub lost: u64,
    /// Readings called good whose value the device never showed.
    pub wrong: u64,
}

/// How the demo ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// How long the broker was away.
    pub outage: Duration,
    /// Whether the daemon ended in time and with success.
    pub drained: bool,
    /// Whether somebody ended the demo early.
    pub interrupted: bool,
}

impl Ledger {
    /// Draws up the account from what the subscriber has and what the daemon said last.
    #[must_use]
    pub fn draw(devices: &[Simulated], received: &Received, last: Option<&Snapshot>, end: End) -> Self {
        let counts = |id: &str| last.and_then(|last| last.resources.get(id)).copied().unwrap_or_default();
        let row = |device: &Simulated| Row::draw(device, counts(&device.resource), received);
        let resources: Vec<Row> = devices.iter().map(row).collect();
        let violations: Vec<String> = received.violations().iter().map(ToString::to_string).collect();
        let heard = |row: &Row| row.received > 0 || end.interrupted;
        let clean = |row: &Row| heard(row) && (row.lost, row.wrong, row.reordered) == (0, 0, 0);
        Self {
            ok: last.is_some() && end.drained && violations.is_empty() && resources.iter().all(clean),
            interrupted: end.interrupted,
            drained: end.drained,
            outage_s: end.outage.as_secs_f64(),
            uplink_connections: last.map_or(0, |last| last.uplink.connections),
            violations,
            resources,
        }
    }
}

impl Row {
    fn draw(device: &Simulated, counts: Counts, received: &Received) -> Self {
        let seen = received.resource(&device.resource);
        // The store is new, so that there is a number for everything sampled.
        let last = counts.last_seq.max(counts.sampled);
        let observations = seen.into_iter().flat_map(|seen| seen.observations().values());
        Self {
            resource: device.resource.clone(),
            device: format!("{} {}", device.name, device.part).trim_end().to_owned(),
            sampled: counts.sampled,
            durable: counts.durable,
            delivered: counts.delivered,
            received: seen.map_or(0, |seen| seen.received()),
            duplicated: seen.map_or(0, |seen| seen.duplicates()),
            reordered: seen.map_or(0, |seen| seen.reordered()),
            lost: seen.map_or(last, |seen| seen.lost(last)),
            wrong: observations.map(|observation| device.wrong_readings(observation)).sum(),
        }
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22} {:<20} {:>8} {:>8} {:>9} {:>8} {:>10} {:>5} {:>5}",
            "resource", "device", "sampled", "durable", "delivered", "received", "duplicated", "lost", "wrong"
        )?;
        for row in &self.resources {
            writeln!(
                f,
                "{:<22} {:<20} {:>8} {:>8} {:>9} {:>8} {:>10} {:>5} {:>5}",
                row.resource,
                row.device,
                row.sampled,
                row.durable,
                row.delivered,
                row.received,
                row.duplicated,
                row.lost,
                row.wrong
            )?;
        }
        for violation in &self.violations {
            writeln!(f, "against the contract: {violation}")?;
        }
        if !self.drained {
            writeln!(f, "the daemon did not drain")?;
        }
        for row in self.resources.iter().filter(|row| row.received == 0) {
            writeln!(f, "nothing came from {}", row.device)?;
        }
        for row in self.resources.iter().filter(|row| row.reordered > 0) {
            writeln!(f, "{}: {} out of order", row.device, row.reordered)?;
        }
        let verdict = if self.ok { "nothing was lost" } else { "NOT in order" };
        writeln!(f, "broker away for {:.1} s: {verdict}", self.outage_s)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::received::Keep;
    use crate::site::{Model, Tick, Unit};

    const ID: &str = "330502-9601-000041-54";
    const END: End = End { outage: Duration::from_secs(3), drained: true, interrupted: false };

    /// A device, and a subscriber that got these numbers with the pressure the device showed, plus `off`.
    fn got(numbers: &[u64], off: f64) -> (Vec<Simulated>, Received) {
        let unit = Unit::new(1, Model::PressureTransmitter, 3);
        let shown = Model::PressureTransmitter.cells()[0].shown(3, Tick::now());
        let mut received = Received::new(Keep::All);
        for seq in numbers {
            let payload = serde_json::json!({
                "v": 1, "epoch": "e",
                "obs": [{"id": ID, "seq": seq, "t": jiff::Timestamp::now().to_string(),
                         "p": {"pressure": {"v": shown + off, "u": "MPa", "q": "good"}}}],
            });
            let topic = "city/v1/330502/water/9601/000041/obs";
            received.message(topic, payload.to_string().as_bytes(), SystemTime::now());
        }
        (
            vec![Simulated { name: "main-pressure".to_owned(), part: String::new(), resource: ID.to_owned(), unit }],
            received,
        )
    }

    fn said(sampled: u64) -> Snapshot {
        let counts = Counts { sampled, durable: sampled, delivered: sampled, dropped: 0, last_seq: sampled };
        Snapshot { resources: [(ID.to_owned(), counts)].into(), ..Snapshot::default() }
    }

    #[test]
    fn an_account_is_in_order_when_every_number_arrived_even_twice() {
        let (devices, received) = got(&[1, 2, 2, 3], 0.0);
        let ledger = Ledger::draw(&devices, &received, Some(&said(3)), END);
        assert!(ledger.ok, "{ledger}");
        assert_eq!((ledger.resources[0].received, ledger.resources[0].duplicated), (3, 1));
    }

    #[test]
    fn a_number_sampled_and_never_received_is_lost() {
        let (devices, received) = got(&[1, 3], 0.0);
        for (sampled, lost) in [(3, 1), (5, 3)] {
            let ledger = Ledger::draw(&devices, &received, Some(&said(sampled)), END);
            assert_eq!((ledger.ok, ledger.resources[0].lost), (false, lost));
        }
    }

    #[test]
    fn a_value_the_device_never_showed_is_wrong() {
        let (devices, received) = got(&[1, 2], 0.5);
        let ledger = Ledger::draw(&devices, &received, Some(&said(2)), END);
        assert_eq!((ledger.ok, ledger.resources[0].wrong), (false, 2));
    }

    #[test]
    fn a_silent_device_an_unfinished_drain_or_a_daemon_that_said_nothing_is_not_in_order() {
        let (devices, received) = got(&[1, 2], 0.0);
        assert!(!Ledger::draw(&devices, &Received::new(Keep::All), Some(&said(0)), END).ok);
        assert!(!Ledger::draw(&devices, &received, Some(&said(2)), End { drained: false, ..END }).ok);
        assert!(!Ledger::draw(&devices, &received, None, END).ok);
    }
}
