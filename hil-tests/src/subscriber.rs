//! A subscriber: MQTT 5 over mutual TLS, QoS 1, a kept session, in a thread of its own.
//!
//! It lives through a cut broker: one client lives exactly as long as one connection, the session at the broker outlives
//! it. What comes in goes to a [`Sink`], such as [`Received`]; everybody else looks at that.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, ConnectReturnCode, Packet};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;

use crate::pki::Pair;
use crate::received::Received;

/// Pause before the next try to connect.
const RETRY: Duration = Duration::from_millis(200);

/// Whom to subscribe at, as whom, and to what.
#[derive(Clone, Debug)]
pub struct Subscription<'a> {
    /// The broker's port on `localhost`.
    pub port: u16,
    /// The authority that signed the broker's certificate.
    pub ca: &'a Path,
    /// The subscriber's own certificate.
    pub own: &'a Pair,
    /// MQTT client identifier, unique at the broker.
    pub client_id: &'a str,
    /// Topic filter, such as `city/v1/#`.
    pub filter: &'a str,
}

/// What takes the messages.
pub trait Sink: Send + 'static {
    /// Takes one message.
    fn message(&mut self, topic: &str, payload: &[u8], arrival: SystemTime);
}

impl Sink for Received {
    fn message(&mut self, topic: &str, payload: &[u8], arrival: SystemTime) {
        Received::message(self, topic, payload, arrival);
    }
}

/// A running subscriber; dropping it ends it.
#[derive(Debug)]
pub struct Subscriber<S = Received> {
    shared: Arc<Shared<S>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<S> {
    view: Mutex<View<S>>,
    changed: Condvar,
}

/// What a subscriber has seen so far.
#[derive(Debug)]
pub struct View<S = Received> {
    /// Everything that came in.
    pub received: S,
    /// Whether it is connected and subscribed.
    pub subscribed: bool,
    /// How often it was.
    pub connections: u64,
    /// Why the last connection ended or was refused.
    pub last_error: Option<String>,
}

impl<S: Sink> Subscriber<S> {
    /// Starts; it connects in the background and keeps trying.
    ///
    /// # Errors
    /// When a certificate cannot be read or used, or no thread can be started.
    pub fn start(subscription: &Subscription<'_>, received: S) -> io::Result<Self> {
        let mut options = MqttOptions::new(subscription.client_id, "localhost", subscription.port);
        let tls = Arc::new(tls(subscription.ca, subscription.own)?);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        options.set_keep_alive(Duration::from_secs(5)).set_clean_start(false);
        // The client's own default allocates room for 65 535 publishes of its own; it makes none.
        options.set_outgoing_inflight_upper_limit(10);
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(3600);
        properties.max_packet_size = Some(16 << 20);
        options.set_connect_properties(properties);
        let shared = Arc::new(Shared {
            view: Mutex::new(View { received, subscribed: false, connections: 0, last_error: None }),
            changed: Condvar::new(),
        });
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (filter, inside) = (subscription.filter.to_owned(), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("subscriber".to_owned())
            .spawn(move || runtime.block_on(run(&options, &filter, &inside, stopped)))?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// Looks at what has been seen.
    pub fn look<T>(&self, look: impl FnOnce(&View<S>) -> T) -> T {
        look(&self.shared.lock())
    }

    /// Changes how the messages are taken, such as from when on they count.
    pub fn change(&self, change: impl FnOnce(&mut S)) {
        self.shared.change(|view| change(&mut view.received));
    }

    /// Waits until `wanted` holds, at most `within`. Says whether it did.
    #[must_use]
    pub fn wait_until(&self, within: Duration, wanted: impl Fn(&View<S>) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut view = self.shared.lock();
        while !wanted(&view) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            view = self.shared.changed.wait_timeout(view, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits until it is connected and subscribed.
    #[must_use]
    pub fn wait_until_subscribed(&self, within: Duration) -> bool {
        self.wait_until(within, |view| view.subscribed)
    }
}

impl<S> Drop for Subscriber<S> {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; there is nothing to add.
            drop(thread.join());
        }
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, View<S>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut View<S>)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

async fn run<S: Sink>(options: &MqttOptions, filter: &str, shared: &Shared<S>, mut stopped: watch::Receiver<bool>) {
    loop {
        let ended = tokio::select! {
            ended = one_connection(options, filter, shared) => ended,
            _ = stopped.changed() => return,
        };
        tracing::debug!("subscriber: {ended}");
        shared.change(|view| {
            view.subscribed = false;
            view.last_error = Some(ended);
        });
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = stopped.changed() => return,
        }
    }
}

/// Serves one connection; returns why it ended.
async fn one_connection<S: Sink>(options: &MqttOptions, filter: &str, shared: &Shared<S>) -> String {
    let (client, mut wire) = AsyncClient::new(options.clone(), 10);
    loop {
        let event = match wire.poll().await {
            Ok(event) => event,
            Err(error) => return error.to_string(),
        };
        match event {
            Event::Incoming(Packet::ConnAck(ack)) => {
                if ack.code != ConnectReturnCode::Success {
                    return format!("refused: {:?}", ack.code);
                }
                // A kept session may be from before a broker that was made anew; subscribing twice does no harm.
                if let Err(error) = client.subscribe(filter, QoS::AtLeastOnce).await {
                    return error.to_string();
                }
            }
            Event::Incoming(Packet::SubAck(_)) => shared.change(|view| {
                view.subscribed = true;
                view.connections += 1;
            }),
            Event::Incoming(Packet::Publish(publish)) => shared.change(|view| {
                let topic = String::from_utf8_lossy(&publish.topic);
                view.received.message(&topic, &publish.payload, SystemTime::now());
            }),
            _ => {}
        }
    }
}

/// Returns the TLS side of a client that shows a certificate.
///
/// # Errors
/// When a certificate cannot be read or used.
pub fn tls(ca: &Path, own: &Pair) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let chain = CertificateDer::pem_file_iter(&own.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&own.key).map_err(io::Error::other)?;
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(io::Error::other)
}
