//! A site of a few buses, the acquire stage over it, and the samples it makes.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up fails its test")]

use std::sync::Arc;
use std::time::Duration;

use ganglion::monitor::Monitor;
use ganglion::pipeline::Sample;
use ganglion::site::{BrokerSettings, BufferSettings, Bus, Device, DeviceId, Link, Parity, SerialLink, Site};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::{Table, UnitId};
use ganglion_protocols::{Class, Cri, Division, Reason, Serial};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest wait for anything that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A bus of a test: how it is reached, its response timeout, and unit, interval and requests of each device.
pub(crate) struct BusPlan {
    pub(crate) link: Link,
    pub(crate) response_timeout: Duration,
    pub(crate) devices: Vec<(u8, Duration, Vec<ReadRequest>)>,
}

pub(crate) fn tcp(port: u16) -> Link {
    Link::Tcp { host: "127.0.0.1".to_owned(), port }
}

pub(crate) fn serial(path: impl Into<std::path::PathBuf>, late_reply: Duration) -> Link {
    Link::Serial(SerialLink { path: path.into(), baud: 115_200, parity: Parity::None, stop_bits: 1, late_reply })
}

pub(crate) fn holding(address: u16, count: u16) -> ReadRequest {
    ReadRequest { table: Table::HoldingRegister, address, count }
}

pub(crate) fn site(buses: Vec<BusPlan>) -> Site {
    let gateway = Cri::new(Division::new(330_502).unwrap(), Class::new(9101).unwrap(), Serial::new(1).unwrap());
    let mut site = Site {
        gateway,
        directory: "test".to_owned(),
        data_dir: "unused".into(),
        buses: Vec::new(),
        devices: Vec::new(),
        streams: Vec::new(),
        buffer: BufferSettings { max_bytes: 0, segment_bytes: 0, commit_interval: Duration::ZERO, commit_bytes: 0 },
        broker: BrokerSettings {
            host: String::new(),
            port: 0,
            ca: "unused".into(),
            certificate: "unused".into(),
            key: "unused".into(),
            client_id: String::new(),
            keep_alive: Duration::ZERO,
            retry: (Duration::ZERO, Duration::ZERO),
            max_payload: 0,
            user_properties: std::collections::BTreeMap::new(),
        },
    };
    for (number, plan) in buses.into_iter().enumerate() {
        let first = site.devices.len();
        for (unit, poll_interval, requests) in plan.devices {
            site.devices.push(Device {
                name: format!("device {}", site.devices.len()),
                unit: UnitId(unit),
                poll_interval,
                requests,
                points: [].into(),
                streams: Vec::new(),
            });
        }
        site.buses.push(Bus {
            name: format!("bus {number}"),
            link: plan.link,
            response_timeout: plan.response_timeout,
            devices: (first..site.devices.len()).map(DeviceId).collect(),
        });
    }
    site
}

/// The acquire stage at work.
pub(crate) struct Acquisition {
    pub(crate) site: Arc<Site>,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) samples: mpsc::Receiver<Sample>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) tasks: JoinSet<()>,
}

pub(crate) fn acquire(buses: Vec<BusPlan>) -> Acquisition {
    let site = Arc::new(site(buses));
    let monitor = Arc::new(Monitor::new(&site));
    let (out, samples) = mpsc::channel(64);
    let (stop, stopping) = watch::channel(false);
    let tasks = ganglion::acquire::spawn(&site, &monitor, &out, &stopping);
    Acquisition { site, monitor, samples, stop, tasks }
}

impl Acquisition {
    /// Waits for the next sample of any device.
    pub(crate) async fn sample(&mut self) -> Sample {
        timeout(SOON, self.samples.recv()).await.expect("a sample within the deadline").expect("the stage runs")
    }

    /// Waits for the next sample of one device that fulfils the condition.
    pub(crate) async fn sample_of(&mut self, device: usize, wanted: impl Fn(&Sample) -> bool) -> Sample {
        let until = tokio::time::Instant::now() + SOON;
        loop {
            let sample = self.sample().await;
            if sample.device == DeviceId(device) && wanted(&sample) {
                return sample;
            }
            assert!(tokio::time::Instant::now() < until, "no such sample of device {device}, the last: {sample:?}");
        }
    }

    /// Stops the stage and waits for the end of its tasks and of its samples.
    pub(crate) async fn end(mut self) {
        self.stop.send_replace(true);
        timeout(SOON, async {
            while self.samples.recv().await.is_some() {}
            while let Some(end) = self.tasks.join_next().await {
                end.expect("a bus task ends by itself");
            }
        })
        .await
        .expect("the bus tasks end soon after stop");
    }
}

pub(crate) fn all_good(sample: &Sample) -> bool {
    sample.answers.iter().all(Result::is_ok)
}

pub(crate) fn all_are(sample: &Sample, reason: Reason) -> bool {
    sample.answers.iter().all(|answer| *answer == Err(reason))
}
