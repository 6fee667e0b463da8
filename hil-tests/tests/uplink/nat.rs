//! A network on the way that forgets a silent connection, as address translation and firewalls do: both ends believe in
//! it, and nothing gets through any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time;

use ganglion::site::MqttVersion;

use crate::bench::{Bench, PUMP, arrivals, within};

/// A relay to one port; ended when dropped.
struct Network {
    port: u16,
    forgotten: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Network {
    /// Relays until nothing has passed for `memory`, then swallows everything, for ever, in both directions.
    async fn start(to: u16, memory: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let forgotten = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&forgotten);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(relay(near, to, memory, Arc::clone(&count)));
            }
        });
        Self { port, forgotten, task }
    }

    /// Connections that were forgotten.
    fn forgotten(&self) -> usize {
        self.forgotten.load(Ordering::Relaxed)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut near: TcpStream, to: u16, memory: Duration, forgotten: Arc<AtomicUsize>) -> io::Result<()> {
    let mut far = TcpStream::connect(("127.0.0.1", to)).await?;
    let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = near.read(&mut there) => match read? {
                0 => return Ok(()),
                count => far.write_all(&there[..count]).await?,
            },
            read = far.read(&mut back) => match read? {
                0 => return Ok(()),
                count => near.write_all(&back[..count]).await?,
            },
            () = time::sleep(memory) => break,
        }
    }
    forgotten.fetch_add(1, Ordering::Relaxed);
    loop {
        tokio::select! {
            read = near.read(&mut there) => if read? == 0 { break },
            read = far.read(&mut back) => if read? == 0 { break },
        }
    }
    // The other end is told nothing either.
    std::future::pending().await
}

/// Deliver behind such a network, with the shortest keep-alive, 5 s.
async fn behind_a_network(version: MqttVersion, memory: Duration) -> Option<(Bench, Network)> {
    let mut bench = Bench::speaking(version)?;
    let network = Network::start(bench.broker.port(), memory).await;
    bench.settings.port = network.port;
    bench.start_deliver();
    within(|| bench.seen().uplink.connected, || "deliver connects".to_owned()).await;
    Some((bench, network))
}

pub(crate) async fn a_keep_alive_below_the_networks_memory_keeps_a_silent_connection(version: MqttVersion) {
    let memory = Duration::from_secs(7);
    let Some((mut bench, network)) = behind_a_network(version, memory).await else { return };
    // The silence is what is tested: it must be longer than the network remembers.
    time::sleep(2 * memory + Duration::from_secs(2)).await;
    assert_eq!((network.forgotten(), bench.seen().uplink.connections), (0, 1));
    bench.log.push_pump(1..=100);
    bench.finish().await;
    assert_eq!((bench.ledger(PUMP).delivered, bench.seen().uplink.connections), (100, 1));
}

pub(crate) async fn a_keep_alive_above_the_networks_memory_notices_the_loss_within_one_and_a_half(
    version: MqttVersion,
) {
    let Some((mut bench, network)) = behind_a_network(version, Duration::from_secs(3)).await else { return };
    let subscriber = bench.subscribe("reader");
    within(|| network.forgotten() == 1, || "the silence is too long".to_owned()).await;
    let lost = Instant::now();
    bench.log.push_pump(1..=100);
    within(|| !bench.seen().uplink.connected, || "the loss is noticed".to_owned()).await;
    let noticed = lost.elapsed();
    assert!(noticed < Duration::from_millis(7_500), "{noticed:?}");
    assert!(bench.seen().uplink.last_error.unwrap().starts_with("no answer to a ping within"));
    bench.expect_delivered(PUMP, 100).await;
    bench.finish().await;
    assert_eq!(bench.log.acknowledged(), 100);
    within(|| arrivals(&subscriber, PUMP).len() >= 100, || "all arrive".to_owned()).await;
    assert_eq!(arrivals(&subscriber, PUMP), (1..=100).collect::<Vec<_>>(), "nothing of it had come through");
}
