//! What this machine does on one thread: the broker's side of full mutual-TLS handshakes, and decoding of backfill
//! messages. No sockets, no MQTT: what a broker does besides comes on top.

use std::hint::black_box;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_hil::pki::{Pair, Pki};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use crate::policies::as_f64;
use crate::sizes::{backfill, sizes};

/// How long each is measured.
const WINDOW: Duration = Duration::from_secs(2);

/// Measures both.
///
/// # Errors
/// When a throw-away certificate cannot be made, or a handshake does not end.
pub(crate) fn measure() -> io::Result<String> {
    let folder = tempfile::tempdir()?;
    let (client, server) = configs(folder.path())?;
    let (mut handshakes, mut spent) = (0.0, Duration::ZERO);
    while spent < WINDOW {
        spent += handshake(&client, &server)?;
        handshakes += 1.0;
    }
    let in_batch = sizes().in_batch;
    let text = backfill(in_batch);
    let (mut decoded, started) = (0.0, Instant::now());
    while started.elapsed() < WINDOW {
        black_box(serde_json::from_slice::<serde_json::Value>(&text)?);
        decoded += as_f64(in_batch);
    }
    Ok(format!(
        "TLS 1.3, P-256 on both sides, ring, one thread: {:.0} full handshakes/s of the broker's side\n\
         serde_json to a tree, one thread: {:.0} observations/s",
        handshakes / spent.as_secs_f64(),
        decoded / started.elapsed().as_secs_f64(),
    ))
}

/// Makes a connection in memory; returns the time that the server's side took.
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> io::Result<Duration> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut client = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
    let started = Instant::now();
    let mut server = ServerConnection::new(Arc::clone(server)).map_err(io::Error::other)?;
    let mut spent = started.elapsed();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        while client.wants_write() {
            client.write_tls(&mut to_server)?;
        }
        let started = Instant::now();
        let mut bytes = to_server.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes)?;
            server.process_new_packets().map_err(io::Error::other)?;
        }
        while server.wants_write() {
            server.write_tls(&mut to_client)?;
        }
        spent += started.elapsed();
        let mut bytes = to_client.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes)?;
            client.process_new_packets().map_err(io::Error::other)?;
        }
        to_server.clear();
        to_client.clear();
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(spent);
        }
    }
    Err(io::Error::other("the handshake did not end in four flights"))
}

fn configs(folder: &Path) -> io::Result<(Arc<ClientConfig>, Arc<ServerConfig>)> {
    let pki = Pki::create(folder)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&pki.ca).map_err(io::Error::other)?).map_err(io::Error::other)?;
    let roots = Arc::new(roots);
    let (chain, key) = pair(&pki.gateway)?;
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(Arc::clone(&roots))
        .with_client_auth_cert(chain, key)
        .map_err(io::Error::other)?;
    // A gateway that was away for a night has no session to resume.
    client.resumption = rustls::client::Resumption::disabled();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().map_err(io::Error::other)?;
    let (chain, key) = pair(&pki.broker)?;
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    Ok((Arc::new(client), Arc::new(server)))
}

fn pair(pair: &Pair) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_file(&pair.certificate).map_err(io::Error::other)?;
    Ok((vec![certificate], PrivateKeyDer::from_pem_file(&pair.key).map_err(io::Error::other)?))
}
