//! Whether a broker answers: TCP and the TLS handshake, and then the end. MQTT is not spoken, for a second CONNECT with
//! our client identifier could end the connection that stands.

use std::future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::tokio_rustls::TlsConnector;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time;
use tracing::debug;

use super::brokers::Brokers;
use crate::site::Address;

/// Longest time for name, TCP and TLS together.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until the preferred broker answers; for ever when it is the one that is connected.
pub(super) async fn preferred_answers(preferred: &Address, tls: &ClientConfig, brokers: &Brokers) {
    while let Some(pause) = brokers.probe_pause(fastrand::f64()) {
        time::sleep(pause).await;
        match time::timeout(PROBE_TIMEOUT, probe(preferred, tls)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => debug!(broker = %preferred, %error, "the preferred broker does not answer yet"),
            Err(_) => debug!(broker = %preferred, "the preferred broker does not answer yet"),
        }
    }
    future::pending().await
}

async fn probe(broker: &Address, tls: &ClientConfig) -> io::Result<()> {
    let name = ServerName::try_from(broker.host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((broker.host.as_str(), broker.port)).await?;
    let mut stream = TlsConnector::from(Arc::new(tls.clone())).connect(name, stream).await?;
    stream.shutdown().await
}
