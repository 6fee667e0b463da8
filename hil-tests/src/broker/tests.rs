use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use tempfile::TempDir;

use super::*;
use crate::pki::Pki;
use crate::received::{Keep, Received};
use crate::subscriber::{Subscriber, Subscription};

const ID: &str = "620602-9101-000007-05";
const TOPIC: &str = "city/v1/620602/gateway/9101/000007/obs";
const WITHIN: Duration = Duration::from_secs(20);

struct Bench {
    pki: Pki,
    broker: Broker,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let pki = Pki::create(folder.path()).expect("certificates");
        let broker = Broker::start(&pki.ca, &pki.broker).expect("a broker");
        Self { pki, broker, _folder: folder }
    }

    fn subscriber(&self, client_id: &str, filter: &str) -> Subscriber {
        let subscriber = Subscriber::start(
            &Subscription { port: self.broker.port(), ca: &self.pki.ca, own: &self.pki.subscriber, client_id, filter },
            Received::new(Keep::All),
        )
        .expect("a subscriber");
        assert!(subscriber.wait_until_subscribed(WITHIN), "{:?}", subscriber.look(|view| view.last_error.clone()));
        subscriber
    }

    fn options(&self, client_id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client_id, "localhost", self.broker.port());
        let tls = crate::subscriber::tls(&self.pki.ca, &self.pki.gateway).expect("certificates");
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))));
        options.set_keep_alive(Duration::from_secs(5)).set_clean_start(true).set_outgoing_inflight_upper_limit(50);
        options
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(WITHIN, work).await.expect("in time") })
}

fn payload(seq: u64) -> Vec<u8> {
    let text = serde_json::json!({
        "v": 1, "gw": ID, "epoch": "e", "dir": "city", "clock": {"src": "none"},
        "obs": [{"id": ID, "seq": seq, "t": "2026-11-22T06:53:55.123Z",
                 "p": {"pressure": {"v": 0.412, "u": "MPa", "q": "good"}}}],
    });
    text.to_string().into_bytes()
}

async fn poll_until(wire: &mut EventLoop, wanted: impl Fn(&Event) -> bool) -> Result<Event, ConnectionError> {
    loop {
        let event = wire.poll().await?;
        if wanted(&event) {
            return Ok(event);
        }
    }
}

fn is_ack(event: &Event) -> bool {
    matches!(event, Event::Incoming(Packet::PubAck(_)))
}

/// Publishes one message and waits for its acknowledgement and a clean goodbye.
fn publish_one(bench: &Bench, topic: &str, payload: &[u8], retain: bool) {
    block_on(async {
        let (client, mut wire) = AsyncClient::new(bench.options("one"), 10);
        client.publish(topic, QoS::AtLeastOnce, retain, payload.to_vec()).await.expect("room");
        poll_until(&mut wire, is_ack).await.expect("acknowledged");
        client.disconnect().await.expect("room");
        poll_until(&mut wire, |event| matches!(event, Event::Outgoing(Outgoing::Disconnect))).await.expect("sent");
    });
}

/// Publishes 1..=last in order as the gateway does: one client for one connection, what is not acknowledged goes again.
async fn publish_all(options: &MqttOptions, last: u64) {
    let mut acknowledged = 0;
    while acknowledged < last {
        let (client, mut wire) = AsyncClient::new(options.clone(), 10);
        let mut sent = acknowledged;
        while acknowledged < last {
            if sent < last && sent - acknowledged < 40 {
                sent += 1;
                client.try_publish(TOPIC, QoS::AtLeastOnce, false, payload(sent)).unwrap_or_else(|_| sent -= 1);
            }
            match wire.poll().await {
                Ok(event) if is_ack(&event) => acknowledged += 1,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn an_acknowledged_message_reaches_every_matching_subscriber_with_its_properties() {
    let bench = Bench::new();
    let one = bench.subscriber("one-level", "city/v1/620602/gateway/+/000007/obs");
    let all = bench.subscriber("all", "city/v1/#");
    let other = bench.subscriber("other", "city/v1/+/water/#");
    block_on(async {
        let (listener, mut ears) = AsyncClient::new(bench.options("listener"), 10);
        listener.subscribe(TOPIC, QoS::AtLeastOnce).await.expect("room");
        poll_until(&mut ears, |event| matches!(event, Event::Incoming(Packet::SubAck(_)))).await.expect("subscribed");
        let (client, mut wire) = AsyncClient::new(bench.options("publisher"), 10);
        let properties = PublishProperties {
            content_type: Some("application/json".to_owned()),
            message_expiry_interval: Some(600),
            user_properties: vec![("schema".to_owned(), "1".to_owned())],
            ..PublishProperties::default()
        };
        let sent = client.publish_with_properties(TOPIC, QoS::AtLeastOnce, false, payload(1), properties.clone()).await;
        sent.expect("room");
        poll_until(&mut wire, is_ack).await.expect("acknowledged");
        let event = poll_until(&mut ears, |event| matches!(event, Event::Incoming(Packet::Publish(_)))).await;
        let Ok(Event::Incoming(Packet::Publish(publish))) = event else { panic!("no message") };
        let got = publish.properties.expect("properties");
        assert_eq!((got.content_type, got.user_properties), (properties.content_type, properties.user_properties));
        assert!(got.message_expiry_interval.is_some_and(|left| (590..=600).contains(&left)));
        assert_eq!((publish.qos, publish.retain, publish.payload.to_vec()), (QoS::AtLeastOnce, false, payload(1)));
    });
    assert!(one.wait_until(WITHIN, |view| view.received.count() == 1));
    assert!(all.wait_until(WITHIN, |view| view.received.count() == 1));
    assert_eq!(other.look(|view| view.received.count()), 0);
}

#[test]
fn a_retained_message_waits_for_later_subscribers_until_it_is_cleared() {
    let bench = Bench::new();
    publish_one(&bench, "city/v1/620602/gateway/000007/status", b"online", true);
    assert_eq!(bench.broker.retained("city/v1/620602/gateway/000007/status").as_deref(), Some(&b"online"[..]));
    let late = bench.subscriber("late", "city/v1/+/gateway/+/status");
    assert!(late.wait_until(WITHIN, |view| view.received.others().values().any(|status| status == b"online")));
    publish_one(&bench, "city/v1/620602/gateway/000007/status", b"", true);
    assert_eq!(bench.broker.retained("city/v1/620602/gateway/000007/status"), None);
}

#[test]
fn a_will_is_published_when_a_client_vanishes_and_not_when_it_says_goodbye() {
    let bench = Bench::new();
    let subscriber = bench.subscriber("watch", "wills/#");
    block_on(async {
        for (name, goodbye) in [("polite", true), ("vanished", false)] {
            let mut options = bench.options(name);
            options.set_last_will(LastWill::new(format!("wills/{name}"), "offline", QoS::AtLeastOnce, true, None));
            let (client, mut wire) = AsyncClient::new(options, 10);
            poll_until(&mut wire, |event| matches!(event, Event::Incoming(Packet::ConnAck(_)))).await.expect("in");
            if goodbye {
                client.disconnect().await.expect("room");
                let sent = poll_until(&mut wire, |event| matches!(event, Event::Outgoing(Outgoing::Disconnect))).await;
                sent.expect("sent");
            }
        }
    });
    assert!(subscriber.wait_until(WITHIN, |view| view.received.others().contains_key("wills/vanished")));
    assert_eq!(bench.broker.retained("wills/vanished").as_deref(), Some(&b"offline"[..]));
    assert_eq!(bench.broker.retained("wills/polite"), None);
}

#[test]
fn a_client_with_no_certificate_or_one_of_another_authority_is_refused() {
    let bench = Bench::new();
    let folder = TempDir::new().expect("a temporary folder");
    let stranger = Pki::create(folder.path()).expect("certificates");
    let nobody = {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&bench.pki.ca).expect("the authority") {
            roots.add(certificate.expect("a certificate")).expect("a usable one");
        }
        rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    };
    let foreign = crate::subscriber::tls(&bench.pki.ca, &stranger.gateway).expect("certificates");
    block_on(async {
        for config in [nobody, foreign] {
            let mut options = bench.options("stranger");
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
            let (_client, mut wire) = AsyncClient::new(options, 10);
            assert!(poll_until(&mut wire, |event| matches!(event, Event::Incoming(_))).await.is_err());
        }
    });
    assert_eq!(bench.broker.counts().connections, 0);
}

#[test]
fn a_cut_drops_everyone_and_refuses_newcomers_until_it_is_restored() {
    let mut bench = Bench::new();
    let subscriber = bench.subscriber("watch", "city/v1/#");
    bench.broker.cut();
    assert!(subscriber.wait_until(WITHIN, |view| !view.subscribed));
    let refused = std::net::TcpStream::connect(("127.0.0.1", bench.broker.port())).expect_err("nobody listens");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    bench.broker.restore().expect("the port is still ours");
    assert!(subscriber.wait_until_subscribed(WITHIN));
    publish_one(&bench, TOPIC, &payload(1), false);
    assert!(subscriber.wait_until(WITHIN, |view| view.received.count() == 1));
}

#[test]
fn nothing_acknowledged_is_lost_over_many_cuts() {
    let mut bench = Bench::new();
    let subscriber = bench.subscriber("watch", "city/v1/#");
    let options = bench.options("publisher");
    let publisher = std::thread::spawn(move || block_on(publish_all(&options, 3000)));
    let deadline = Instant::now() + WITHIN;
    let (mut cuts, mut next) = (0, 300);
    while !publisher.is_finished() && Instant::now() < deadline {
        if bench.broker.counts().received >= next {
            bench.broker.cut();
            bench.broker.restore().expect("the port is still ours");
            (cuts, next) = (cuts + 1, bench.broker.counts().received + 300);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    publisher.join().expect("it published everything");
    assert!(subscriber.wait_until(WITHIN, |view| view.received.count() == 3000));
    subscriber.look(|view| {
        let resource = view.received.resource(ID).expect("it came");
        assert_eq!((resource.lost(3000), resource.reordered()), (0, 0));
    });
    assert!(cuts >= 5, "{cuts} cuts");
}

#[test]
fn a_subscriber_that_does_not_acknowledge_for_a_while_gets_everything_later() {
    let bench = Bench::new();
    let mut options = bench.options("slow");
    options.set_manual_acks(true);
    block_on(async {
        // Room for every acknowledgement: several messages come in one poll.
        let (slow, mut ears) = AsyncClient::new(options, 3000);
        slow.subscribe(TOPIC, QoS::AtLeastOnce).await.expect("room");
        poll_until(&mut ears, |event| matches!(event, Event::Incoming(Packet::SubAck(_)))).await.expect("subscribed");
        publish_all(&bench.options("publisher"), 2500).await;
        assert_eq!(bench.broker.counts().received, 2500);
        let mut got = Vec::new();
        while got.len() < 2500 {
            if let Event::Incoming(Packet::Publish(publish)) = ears.poll().await.expect("still connected") {
                got.push(publish.payload.to_vec());
                slow.ack(&publish).await.expect("room");
            }
        }
        assert!((1..=2500).map(payload).eq(got));
    });
}
