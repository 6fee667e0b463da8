//! A link as a weak cell gives it: little room, a long way, and segments that must be sent again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use ganglion::site::MqttVersion;
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::{sync::mpsc, time};

use crate::arrived::{Arrived, Lane};
use crate::bench::{Bench, within_of};
use crate::station::{Plan, Station, buffer_of, stream};

/// Bytes a second, in each direction.
const RATE: u32 = 2_000;
/// From one end to the other.
const ONE_WAY: Duration = Duration::from_secs(1);
/// Bytes of a segment, at most.
const SEGMENT: usize = 500;
/// One of so many segments is lost and comes a round trip later, and all behind it wait for it.
const LOST: u32 = 10;
/// What an event may take on such a link, whatever waits: three round trips of a message, its queue and losses on its way.
const EVENT_WITHIN: Duration = Duration::from_secs(30);
/// Observations that wait when the connection begins.
const BACKLOG: usize = 600;

/// A relay to one port; ended when dropped.
struct Link {
    port: u16,
    task: JoinHandle<()>,
}

impl Link {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut seed = 0;
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, Rng::with_seed(seed)));
                tokio::spawn(carry(far_in, near_out, Rng::with_seed(seed + 1)));
                seed += 2;
            }
        });
        Self { port, task }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries one direction: segment by segment at the link's rate, each a way later and in order.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    mut random: Rng,
) -> io::Result<()> {
    let (on_the_way, mut arriving) = mpsc::unbounded_channel::<(time::Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, segment)) = arriving.recv().await {
            time::sleep_until(due).await;
            to.write_all(&segment).await?;
        }
        to.shutdown().await
    });
    let mut due = time::Instant::now();
    let mut free = due;
    let mut segment = [0; SEGMENT];
    loop {
        let count = from.read(&mut segment).await?;
        if count == 0 {
            return Ok(());
        }
        free = free.max(time::Instant::now()) + Duration::from_secs(1) * u32::try_from(count).unwrap() / RATE;
        time::sleep_until(free).await;
        let lost = if random.u32(..LOST) == 0 { 2 * ONE_WAY } else { Duration::ZERO };
        due = due.max(free + ONE_WAY + lost);
        if on_the_way.send((due, segment[..count].to_vec())).is_err() {
            return Ok(());
        }
    }
}

pub(crate) async fn a_backlog_an_event_and_what_is_new_come_through_a_link_of_2_kb_a_second(version: MqttVersion) {
    let Some(bench) = Bench::speaking(version) else { return };
    let subscriber = bench.subscribe("reader");
    let link = Link::start(bench.broker.port()).await;
    let mut settings = bench.settings.clone();
    settings.port = link.port;
    settings.keep_alive = Duration::from_secs(15);
    settings.max_payload = 65_536;
    let plan = Plan {
        streams: (1..=12).map(|serial| stream(serial, 3)).collect(),
        event_streams: vec![stream(1, 1)],
        buffer: buffer_of(16, 64 * 1024),
        event_buffer: buffer_of(16, 64 * 1024),
    };
    let data = bench.path("data");
    // What an earlier run left is history.
    let mut before = Station::open(&data, &plan, &settings);
    let mut random = Rng::with_seed(1);
    for place in 0..BACKLOG {
        before.observe(place % 12, random.f64()).await;
    }
    before.finish().await;
    let mut station = Station::open(&data, &plan, &settings);
    station.start_deliver(&settings);
    let start = Instant::now();
    let monitor = std::sync::Arc::clone(&station.monitor);
    let uplink = || monitor.snapshot().uplink;
    within_of(Duration::from_secs(20), || uplink().connected, || format!("it connects: {:?}", uplink())).await;
    let connected = start.elapsed();

    let event = station.events(1);
    let (mut raised, mut event_took, mut waited) = (None, None, 0);
    let mut delays: VecDeque<Instant> = VecDeque::new();
    let deadline = start + Duration::from_secs(90);
    let arrived = loop {
        time::sleep(Duration::from_millis(500)).await;
        let arrived = Arrived::of(&subscriber);
        let through = arrived.by_lane.get(&Lane::Backfill).copied().unwrap_or_default();
        let backlog = u64::try_from(BACKLOG).unwrap();
        if raised.is_none() && through > 0 {
            raised = Some(Instant::now());
            waited = station.total() - arrived.accounted();
            station.raise(0, true).await;
        }
        if event_took.is_none() && !arrived.numbers(&event).is_empty() {
            event_took = raised.map(|raised| raised.elapsed());
        }
        // What is new goes on while the backlog is on its way.
        if station.total() < backlog + 20 && delays.back().is_none_or(|last| last.elapsed() > Duration::from_secs(1)) {
            delays.push_back(Instant::now());
            station.observe(random.usize(..12), random.f64()).await;
        }
        if event_took.is_some() && station.missing(&arrived).is_empty() && station.total() >= backlog + 20 {
            break arrived;
        }
        assert!(Instant::now() < deadline, "{} of {}: {:?}", arrived.accounted(), station.total(), uplink());
    };
    let took = start.elapsed();
    let total = station.total();
    let left = station.finish().await;
    let event_took = event_took.unwrap();
    println!(
        "{version:?}: connected in {connected:.1?}; {total} observations in {took:.1?}, {:?}; an event behind {waited} \
         of them took {event_took:.1?}; {} connections, {} came again",
        arrived.by_lane, left.uplink.connections, arrived.duplicates,
    );
    assert!(event_took < EVENT_WITHIN, "{event_took:?}");
    assert!(waited > 100, "the event was raised while {waited} waited");
    assert_eq!((left.uplink.connections, left.uplink.last_error), (1, None), "never lost");
    assert_eq!((arrived.duplicates, &arrived.reordered), (0, &Vec::new()));
}
