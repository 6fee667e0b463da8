//! A small MQTT 5 broker inside the process: mutual TLS, QoS 0 and 1, retained messages, last wills, wildcards, kept
//! sessions; and it can be cut.
//!
//! It is made for tests and the demo: what it acknowledges it keeps until every subscriber's acknowledgement, in memory
//! and without limit, and it never drops a message because a subscriber is slow. A will is published at once; a will
//! delay is not waited for. It refuses QoS 2, topic aliases and shared subscriptions. Why it exists:
//! `docs/decisions/0002-embedded-broker.md`.

mod connection;
mod state;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::tokio_rustls::TlsAcceptor;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::runtime::Runtime;

use crate::gate::{Gate, Pass};
use crate::pki::Pair;
use state::State;

/// How long a peer may take for its TLS handshake and its CONNECT.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a broker has seen since it started; a cut does not reset it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// MQTT connections accepted.
    pub connections: u64,
    /// Peers that failed the TLS handshake or sent no acceptable CONNECT.
    pub refused: u64,
    /// PUBLISH packets received and, for QoS 1, acknowledged.
    pub received: u64,
    /// PUBLISH packets sent to subscribers, repetitions included.
    pub sent: u64,
    /// PUBLISH packets sent again because their connection ended before the acknowledgement.
    pub repeated: u64,
    /// Messages whose expiry passed before a subscriber took them.
    pub expired: u64,
}

/// A running broker on 127.0.0.1; dropping it ends it.
#[derive(Debug)]
pub struct Broker {
    runtime: Option<Runtime>,
    tls: Arc<ServerConfig>,
    address: SocketAddr,
    shared: Shared,
    line: Option<Gate>,
}

impl Broker {
    /// Starts on a free port of 127.0.0.1. A client needs a certificate signed by the authority in `ca`.
    ///
    /// # Errors
    /// When a certificate cannot be read or used, or nothing can be listened to.
    pub fn start(ca: &Path, own: &Pair) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("broker")
            .enable_io()
            .enable_time()
            .build()?;
        let mut broker = Self {
            runtime: Some(runtime),
            tls: Arc::new(tls(ca, own)?),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            shared: Shared::default(),
            line: None,
        };
        broker.restore()?;
        Ok(broker)
    }

    /// Returns the port it listens on, the same before and after a cut.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts the line: drops every connection, refuses new ones, and returns when that is done. What was acknowledged,
    /// retained and subscribed is kept; wills are published to the subscribers that come back.
    pub fn cut(&mut self) {
        if let Some(gate) = self.line.take() {
            gate.close();
        }
    }

    /// Brings the line back after a cut; does nothing when it is up.
    ///
    /// # Errors
    /// When the port cannot be listened to.
    pub fn restore(&mut self) -> io::Result<()> {
        let Some(runtime) = self.runtime.as_ref().filter(|_| self.line.is_none()) else { return Ok(()) };
        let listener = TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        self.address = listener.local_addr()?;
        let (gate, pass) = Gate::new();
        let (shared, tls) = (self.shared.clone(), TlsAcceptor::from(Arc::clone(&self.tls)));
        runtime.spawn(accept(listener, tls, shared, pass));
        self.line = Some(gate);
        Ok(())
    }

    /// Returns what it has seen.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }

    /// Returns the retained payload of a topic.
    #[must_use]
    pub fn retained(&self, topic: &str) -> Option<Vec<u8>> {
        self.shared.lock().retained(topic)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.cut();
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would block, which is not allowed inside another runtime.
            runtime.shutdown_background();
        }
    }
}

/// The state behind all connections.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Shared, mut pass: Pass) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("broker: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = pass.closed() => return,
        };
        let (tls, shared, mut pass) = (tls.clone(), shared.clone(), pass.clone());
        tokio::spawn(async move {
            // One segment a message, at once.
            let nodelay = stream.set_nodelay(true);
            let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(stream));
            let secured = tokio::select! {
                secured = handshake => secured,
                () = pass.closed() => return,
            };
            match (nodelay, secured) {
                (Ok(()), Ok(Ok(stream))) => connection::serve(stream, &shared, pass).await,
                (_, Ok(Err(error))) => {
                    tracing::debug!("broker: handshake refused: {error}");
                    shared.lock().counts.refused += 1;
                }
                _ => shared.lock().counts.refused += 1,
            }
        });
    }
}

fn tls(ca: &Path, own: &Pair) -> io::Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(io::Error::other)?;
    let chain = CertificateDer::pem_file_iter(&own.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&own.key).map_err(io::Error::other)?;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
