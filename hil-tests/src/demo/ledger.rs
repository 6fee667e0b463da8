//! The account at the end: what was sampled, and where each of it is.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::daemon::{Counts, Snapshot};
use super::stage::{Simulated, Stage};
use crate::subscriber::View;

/// What became of everything.
#[derive(Clone, Debug, Serialize)]
pub struct Ledger {
    /// Whether every device was heard and nothing is lost, wrong or against the contract.
    pub ok: bool,
    /// Whether somebody ended the demo early.
    pub interrupted: bool,
    /// Whether the daemon delivered everything before it ended, and ended well.
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

impl Ledger {
    /// Draws up the account from what the daemon said last and what the subscriber has.
    #[must_use]
    pub fn draw(stage: &Stage, last: Option<&Snapshot>, outage: Duration, drained: bool, interrupted: bool) -> Self {
        let (resources, violations): (Vec<Row>, Vec<String>) = stage.subscriber.look(|view| {
            let counts = |id: &str| last.and_then(|last| last.resources.get(id)).copied().unwrap_or_default();
            let rows = stage.devices.iter().map(|device| Row::draw(device, counts(&device.resource), view));
            (rows.collect(), view.received.violations().iter().map(ToString::to_string).collect())
        });
        let heard = |row: &Row| row.received > 0 || interrupted;
        let clean = |row: &Row| heard(row) && (row.lost, row.wrong, row.reordered) == (0, 0, 0);
        Self {
            ok: drained && violations.is_empty() && resources.iter().all(clean),
            interrupted,
            drained,
            outage_s: outage.as_secs_f64(),
            uplink_connections: last.map_or(0, |last| last.uplink.connections),
            violations,
            resources,
        }
    }
}

impl Row {
    fn draw(device: &Simulated, counts: Counts, view: &View) -> Self {
        let seen = view.received.resource(&device.resource);
        // The store is new, so that there is a number for everything sampled.
        let last = counts.last_seq.max(counts.sampled);
        let observations = seen.into_iter().flat_map(|seen| seen.observations().values());
        Self {
            resource: device.resource.clone(),
            device: device.name.to_owned(),
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
            "{:<22} {:<16} {:>8} {:>8} {:>9} {:>8} {:>10} {:>5} {:>5}",
            "resource", "device", "sampled", "durable", "delivered", "received", "duplicated", "lost", "wrong"
        )?;
        for row in &self.resources {
            writeln!(
                f,
                "{:<22} {:<16} {:>8} {:>8} {:>9} {:>8} {:>10} {:>5} {:>5}",
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
