//! What flows between the stages, and how the stages are started, watched and drained.

use std::fmt;
use std::future::Future;
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::{Clock, LossCause, Origin, Reading, Reason, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tracing::{info, warn};

use crate::acquire::Surroundings;
use crate::acquire::learned::Learned;
use crate::acquire::trace::Trace;
use crate::buffer::{self, OpenError};
use crate::deliver::{Epochs, Sources};
use crate::monitor::Monitor;
use crate::site::{BrokerSettings, DeviceId, Site, StreamId};
use crate::{acquire, control, deliver, normalize, status, vitals};

/// From acquire to normalize.
#[derive(Clone, PartialEq, Debug)]
pub enum Acquired {
    /// What a device said.
    Sample(Sample),
    /// What a device had measured and can no longer say.
    Lost(LostAtSource),
}

/// One poll of one group of a device's points, as its answers came.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// The device polled.
    pub device: DeviceId,
    /// Which of its groups, a place in [`Device::groups`](crate::site::Device::groups).
    pub group: usize,
    /// When the last answer arrived, or when the poll was given up.
    pub t: Timestamp,
    /// State of the clock then.
    pub clock: Clock,
    /// The items of all the group's wants, each want's at its offset; a coil or discrete input is 0 or 1. What stands in
    /// the place of a want without items means nothing.
    pub words: Vec<u16>,
    /// One entry for each of the group's wants, in its order: why it has no items.
    pub states: Vec<Option<Reason>>,
    /// Its place among the device's own samples, where the device numbers and keeps them and sends them until they are durable
    /// here.
    pub origin: Option<Origin>,
}

/// Samples of one group that a device has lost, in their place among those it has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostAtSource {
    /// The device.
    pub device: DeviceId,
    /// Which of its groups, a place in [`Device::groups`](crate::site::Device::groups).
    pub group: usize,
    /// How many there were, or were likely. Each resource of the group uses up as many numbers.
    pub count: NonZeroU64,
    /// Earliest time of measurement of any of them.
    pub from: Timestamp,
    /// Latest time of measurement of any of them.
    pub to: Timestamp,
    /// Why.
    pub cause: LossCause,
    /// The place of the last of them among the device's own samples.
    pub origin: Option<Origin>,
}

/// What the buffer is to number: from normalize to buffer.
#[derive(Clone, PartialEq, Debug)]
pub enum Offered {
    /// An observation, or an event.
    Observation(Unnumbered),
    /// Observations that will never come.
    Lost(LostOfStream),
}

impl From<Unnumbered> for Offered {
    fn from(observation: Unnumbered) -> Self {
        Self::Observation(observation)
    }
}

impl From<LostOfStream> for Offered {
    fn from(lost: LostOfStream) -> Self {
        Self::Lost(lost)
    }
}

/// Observations of one stream that its device has lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostOfStream {
    /// The stream.
    pub stream: StreamId,
    /// How many numbers they use up.
    pub count: NonZeroU64,
    /// Earliest time of measurement of any of them.
    pub from: Timestamp,
    /// Latest time of measurement of any of them.
    pub to: Timestamp,
    /// Why.
    pub cause: LossCause,
    /// The place of the last of them among the device's own samples.
    pub origin: Option<Origin>,
}

/// An observation that the buffer has not numbered yet.
#[derive(Clone, PartialEq, Debug)]
pub struct Unnumbered {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Time of measurement.
    pub t: Timestamp,
    /// State of the clock then.
    pub clock: Clock,
    /// One reading for each property of the stream.
    pub readings: Vec<Reading>,
    /// Its place among its device's own samples, as in [`Sample::origin`].
    pub origin: Option<Origin>,
}

/// Samples that may wait for normalize; then acquire waits.
const SAMPLES: usize = 64;

/// How long deliver may go on after acquisition has stopped. What is left is durable and goes out after the next start.
pub const DRAIN: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// The broker has acknowledged everything, what earlier runs had left included.
    Everything,
    /// Time was up; the rest is on disk.
    InPart,
}

/// Why the daemon cannot run.
#[derive(Debug)]
pub enum RunError {
    /// The data directory cannot be made.
    DataDir(PathBuf, io::Error),
    /// The buffer cannot be opened.
    Buffer(OpenError),
    /// A stage ended on its own, which is a defect.
    Stage(&'static str, Option<JoinError>),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(path, _) => write!(f, "cannot make the data directory {}", path.display()),
            Self::Buffer(_) => f.write_str("cannot open the buffer"),
            Self::Stage(stage, _) => write!(f, "stage {stage} ended on its own"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::DataDir(_, error) => Some(error),
            Self::Buffer(error) => Some(error),
            Self::Stage(_, error) => error.as_ref().map(|error| error as _),
        }
    }
}

/// Runs the site until `stop`, writing the raw bytes of its buses to `trace`; then stops acquisition, drains what is accepted
/// and returns. What `broker` holds takes the place of the site's broker, now and whenever it changes.
///
/// # Errors
/// See [`RunError`]. What was accepted is on disk in every case.
pub async fn run(
    site: Site,
    trace: Trace,
    broker: watch::Receiver<Arc<BrokerSettings>>,
    stop: impl Future<Output = &'static str>,
) -> Result<Drained, RunError> {
    let site = Arc::new(site);
    let monitor = Arc::new(Monitor::new(&site));
    std::fs::create_dir_all(&site.data_dir).map_err(|error| RunError::DataDir(site.data_dir.clone(), error))?;
    let store = buffer::open(&site, &monitor).map_err(RunError::Buffer)?;
    let listener = status::listen(&site.data_dir)
        .inspect_err(|error| {
            let path = status::socket_path(&site.data_dir);
            warn!(path = %path.display(), %error, "no status socket until the next start");
        })
        .ok();

    let orders = control::listen(&site.data_dir)
        .inspect_err(|error| {
            let path = control::socket_path(&site.data_dir);
            warn!(path = %path.display(), %error, "no control socket until the next start");
        })
        .ok();

    let (stop_polling, polling) = watch::channel(false);
    let (samples, received) = mpsc::channel(SAMPLES);
    let surroundings = Surroundings {
        monitor: Arc::clone(&monitor),
        learned: Learned::open(&site.data_dir),
        trace,
        out: samples,
        stop: polling.clone(),
    };
    let (mut acquire, handle) = acquire::spawn(&site, &surroundings);
    drop(surroundings);
    let events = store.events.intake;
    let vitals = tokio::spawn(vitals::run(Arc::clone(&site), Arc::clone(&monitor), events.clone(), polling));
    let (of_site, of_monitor) = (Arc::clone(&site), Arc::clone(&monitor));
    let mut normalize = tokio::spawn(normalize::run(of_site, of_monitor, received, store.telemetry.intake, events));
    let sources = Sources {
        event: Some(store.events.outlet),
        live: store.telemetry.live,
        backfill: Some(store.telemetry.backfill),
        epochs: Epochs { telemetry: store.telemetry.epoch, events: store.events.epoch },
    };
    let mut deliver = tokio::spawn({
        let (gateway, letters, monitor) = (site.gateway, Some(site.data_dir.clone()), Arc::clone(&monitor));
        async move { deliver::run(broker, gateway, sources, letters, monitor).await }
    });
    let status = listener.map(|listener| tokio::spawn(status::serve(listener, Arc::clone(&monitor))));
    let control = orders.map(|listener| tokio::spawn(control::serve(listener, handle)));
    info!(gateway = %site.gateway, buses = site.buses.len(), devices = site.devices.len(), "running");

    let ended = tokio::select! {
        signal = stop => { info!(signal, "stopping"); None }
        ended = acquire.join_next() => Some(("acquire", ended.and_then(Result::err))),
        ended = &mut normalize => Some(("normalize", ended.err())),
        ended = &mut deliver => Some(("deliver", ended.err())),
    };
    stop_polling.send_replace(true);
    if let Some(control) = control {
        control.abort();
    }
    let mut broken = ended;
    while let Some(end) = acquire.join_next().await {
        broken = broken.or(end.err().map(|error| ("acquire", Some(error))));
    }
    if !matches!(broken, Some(("normalize", _))) {
        broken = broken.or(normalize.await.err().map(|error| ("normalize", Some(error))));
    }
    broken = broken.or(vitals.await.err().map(|error| ("vitals", Some(error))));
    let drained = match broken {
        Some(("deliver", _)) => Drained::InPart,
        _ => drain(&mut deliver).await.unwrap_or_else(|error| {
            broken = broken.take().or(Some(("deliver", Some(error))));
            Drained::InPart
        }),
    };
    if store.writer.join().is_err() {
        return Err(RunError::Stage("buffer", None));
    }
    if let Some(status) = status {
        status.abort();
    }
    if let Err(error) = status::leave(&site.data_dir, &monitor) {
        warn!(%error, "the last status could not be left in the data directory");
    }
    match broken {
        None => Ok(drained),
        Some((stage, error)) => Err(RunError::Stage(stage, error)),
    }
}

/// Gives deliver its time, then ends it; its outlet goes with it, which lets the writer end.
async fn drain(deliver: &mut JoinHandle<()>) -> Result<Drained, JoinError> {
    if let Ok(end) = tokio::time::timeout(DRAIN, &mut *deliver).await {
        return end.map(|()| Drained::Everything);
    }
    deliver.abort();
    // Aborted on purpose; only its end is waited for.
    drop(deliver.await);
    Ok(Drained::InPart)
}
