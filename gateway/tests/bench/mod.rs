//! A site of a few buses, the acquire stage over it, and the samples it makes.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up fails its test")]

use std::sync::Arc;
use std::time::Duration;

use ganglion::acquire::learned::Learned;
use ganglion::acquire::trace::Trace;
use ganglion::acquire::{Handle, Surroundings};
use ganglion::monitor::{Monitor, Snapshot};
use ganglion::pipeline::{Acquired, Sample};
use ganglion::site::{
    BrokerSettings, BufferSettings, Bus, Device, DeviceId, DeviceLimits, Endpoint, Group, Identity, LineSpeed, Link,
    MqttVersion, Parity, SerialLink, Site, Want, WhenFull,
};
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

/// A bus of a test: how it is reached, what its requests may cost, and its devices.
#[derive(Clone)]
pub(crate) struct BusPlan {
    pub(crate) link: Link,
    pub(crate) response_timeout: Duration,
    pub(crate) late_reply: Duration,
    pub(crate) retries: u8,
    pub(crate) dead_unit_share_percent: u8,
    pub(crate) devices: Vec<DevicePlan>,
}

impl BusPlan {
    /// With what a site file that says nothing about it means, but for the late replies: those are seldom and short here.
    pub(crate) fn new(link: Link, response_timeout: Duration, devices: Vec<DevicePlan>) -> Self {
        Self { link, response_timeout, late_reply: ms(40), retries: 1, dead_unit_share_percent: 5, devices }
    }
}

/// A device of a test.
#[derive(Clone)]
pub(crate) struct DevicePlan {
    pub(crate) unit: u8,
    pub(crate) limits: DeviceLimits,
    pub(crate) identity: Option<Identity>,
    /// Interval and wants of each group.
    pub(crate) groups: Vec<(Duration, Vec<ReadRequest>)>,
}

/// A device of one group that takes any request; nothing unwanted is read along, so each run of wants is one request.
pub(crate) fn device(unit: u8, interval: Duration, wants: Vec<ReadRequest>) -> DevicePlan {
    let limits = DeviceLimits { max_registers: 125, max_bits: 2000, bridge: 0, forbidden: Vec::new() };
    DevicePlan { unit, limits, identity: None, groups: vec![(interval, wants)] }
}

pub(crate) fn tcp(port: u16) -> Link {
    Link::Tcp { host: "127.0.0.1".to_owned(), port }
}

/// A quick line.
pub(crate) const SPEED: LineSpeed = LineSpeed { baud: 115_200, parity: Parity::None, stop_bits: 1 };

pub(crate) fn serial(path: impl Into<std::path::PathBuf>) -> Link {
    Link::Serial(SerialLink { path: path.into(), speed: SPEED, rs485: None, low_latency: false })
}

pub(crate) fn rtu_over_tcp(endpoint: Endpoint) -> Link {
    Link::RtuOverTcp { endpoint, speed: SPEED }
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
        event_streams: Vec::new(),
        buffer: NO_BUFFER,
        event_buffer: NO_BUFFER,
        broker: BrokerSettings {
            host: String::new(),
            port: 0,
            alternatives: Vec::new(),
            fail_back: Duration::from_secs(1),
            mqtt: MqttVersion::V5,
            ca: "unused".into(),
            certificate: "unused".into(),
            key: "unused".into(),
            certificate_check: Duration::from_secs(1),
            client_id: String::new(),
            keep_alive: Duration::ZERO,
            retry: (Duration::ZERO, Duration::ZERO),
            max_payload: 0,
            backfill_percent: 50,
            backfill_max_per_s: 0,
            user_properties: std::collections::BTreeMap::new(),
        },
    };
    for (number, plan) in buses.into_iter().enumerate() {
        let first = site.devices.len();
        for plan in plan.devices {
            site.devices.push(Device {
                name: format!("device {}", site.devices.len()),
                template: "test".to_owned(),
                unit: UnitId(plan.unit),
                request_gap: Duration::ZERO,
                limits: Arc::new(plan.limits),
                identity: plan.identity,
                groups: plan.groups.into_iter().map(|(interval, wants)| group(interval, wants)).collect(),
                reachable: Vec::new(),
            });
        }
        site.buses.push(Bus {
            protocol: ganglion::site::Protocol::Modbus,
            name: format!("bus {number}"),
            link: plan.link,
            response_timeout: plan.response_timeout,
            late_reply: plan.late_reply,
            retries: plan.retries,
            dead_unit_share_percent: plan.dead_unit_share_percent,
            devices: (first..site.devices.len()).map(DeviceId).collect(),
        });
    }
    site
}

fn group(interval: Duration, mut wants: Vec<ReadRequest>) -> Group {
    wants.sort_unstable();
    let mut offset = 0;
    let wants = wants.into_iter().map(|read| {
        let want = Want { read, offset };
        offset += usize::from(read.count);
        want
    });
    Group {
        interval,
        wants: wants.collect(),
        points: [].into(),
        streams: Vec::new(),
        heartbeat: None,
        alarms: Vec::new(),
    }
}

/// The acquire stage at work.
pub(crate) struct Acquisition {
    pub(crate) site: Arc<Site>,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) handle: Handle,
    pub(crate) samples: mpsc::Receiver<Acquired>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) tasks: JoinSet<()>,
}

pub(crate) fn acquire(buses: Vec<BusPlan>) -> Acquisition {
    acquire_with(buses, Learned::in_memory(), Trace::default())
}

pub(crate) fn acquire_with(buses: Vec<BusPlan>, learned: Learned, trace: Trace) -> Acquisition {
    let site = Arc::new(site(buses));
    let monitor = Arc::new(Monitor::new(&site));
    let (out, samples) = mpsc::channel(64);
    let (stop, stopping) = watch::channel(false);
    let surroundings = Surroundings { monitor: Arc::clone(&monitor), learned, trace, out, stop: stopping };
    let (tasks, handle) = ganglion::acquire::spawn(&site, &surroundings);
    Acquisition { site, monitor, handle, samples, stop, tasks }
}

/// What became of one want in a poll: the items, or why there are none.
pub(crate) type Answer = Result<Vec<u16>, Reason>;

impl Acquisition {
    /// Waits for the next sample of any device.
    pub(crate) async fn sample(&mut self) -> Sample {
        match timeout(SOON, self.samples.recv()).await.expect("a sample within the deadline").expect("the stage runs") {
            Acquired::Sample(sample) => sample,
            Acquired::Lost(lost) => panic!("a Modbus device loses nothing: {lost:?}"),
        }
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

    /// Takes samples until the monitor shows what is wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Snapshot) -> bool) {
        let until = tokio::time::Instant::now() + SOON;
        loop {
            let snapshot = self.monitor.snapshot();
            if wanted(&snapshot) {
                return;
            }
            assert!(tokio::time::Instant::now() < until, "{what}: {snapshot:?}");
            self.sample().await;
        }
    }

    /// Returns the wants of a sample's group and what became of them.
    pub(crate) fn answers(&self, sample: &Sample) -> Vec<(ReadRequest, Answer)> {
        let wants = &self.site.devices[sample.device.0].groups[sample.group].wants;
        assert_eq!(wants.len(), sample.states.len());
        let answer = |(want, state): (&Want, &Option<Reason>)| {
            let items = || sample.words[want.offset..][..usize::from(want.read.count)].to_vec();
            (want.read, state.map_or_else(|| Ok(items()), Err))
        };
        wants.iter().zip(&sample.states).map(answer).collect()
    }

    /// Returns the wants of a sample whose items are not those that `truth` gives for unit and request.
    pub(crate) fn wrong(&self, sample: &Sample, truth: impl Fn(u8, ReadRequest, u16) -> u16) -> Vec<ReadRequest> {
        let unit = self.site.devices[sample.device.0].unit.0;
        let is_wrong = |(want, answer): &(ReadRequest, Answer)| {
            let right = (want.address..).take(usize::from(want.count)).map(|address| truth(unit, *want, address));
            answer.as_ref().is_ok_and(|items| !right.eq(items.iter().copied()))
        };
        self.answers(sample).into_iter().filter(is_wrong).map(|(want, _)| want).collect()
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
    sample.states.iter().all(Option::is_none)
}

pub(crate) fn all_are(sample: &Sample, reason: Reason) -> bool {
    sample.states.iter().all(|state| *state == Some(reason))
}

const NO_BUFFER: BufferSettings = BufferSettings {
    max_bytes: 0,
    segment_bytes: 0,
    commit_interval: Duration::ZERO,
    commit_bytes: 0,
    when_full: WhenFull::EvictOldest,
};
