//! A broker that does everything the standard does not forbid, and some things it does: acknowledges in any order, late
//! or together with the end of the connection, breaks off at any time, or answers nothing at all.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ganglion_hil::pki::Pair;
use rumqttc::tokio_rustls::TlsAcceptor;
use rumqttc::tokio_rustls::server::TlsStream;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::arrived::{Arrived, Content, Lane};
use crate::storm::{self, Storm};

/// What a connection is treated to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Treatment {
    /// Nothing is answered, not even TLS.
    Silence,
    /// Accepted and then never read from or written to again.
    SilenceAfterConnAck,
    /// The connection breaks after some messages, acknowledgements come in any order and some never.
    Chaos,
    /// As chaos, and some messages are refused for now.
    Moods,
    /// So many messages are refused with this reason code of PUBACK, then nothing unusual.
    RefuseFirst(u8, usize),
    /// Whatever may go wrong.
    Storm(Storm),
    /// Nothing unusual.
    Courtesy,
}

/// A message that is not acknowledged yet.
pub(crate) struct Owed {
    id: [u8; 2],
    pub(crate) topic: String,
    content: Content,
}

/// A broker in this process; ended when dropped.
pub(crate) struct Hostile {
    pub(crate) port: u16,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What a broker knows of its connections, all together.
#[derive(Default)]
pub(crate) struct Seen {
    connections: usize,
    left_by_client: usize,
    arrivals: BTreeMap<String, Vec<u64>>,
    taken: BTreeMap<String, BTreeSet<u64>>,
    pub(crate) last_arrival: Option<Instant>,
    pub(crate) longest_silence: Duration,
    pub(crate) arrived: Arrived,
    /// Messages refused for now, and for good.
    pub(crate) refused: (u64, u64),
    /// Connections ended for a packet too large.
    pub(crate) oversize: u64,
    /// Connections ended because nothing came any more after a lost acknowledgement.
    pub(crate) stalled: u64,
}

impl Hostile {
    /// Listens with `identity`; `treatment` says what the connection of that number, from 0, gets.
    pub(crate) async fn start(identity: &Pair, treatment: impl Fn(usize) -> Treatment + Send + 'static) -> Self {
        let chain: Vec<_> = CertificateDer::pem_file_iter(&identity.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&seen), treatment));
        Self { port, seen, task }
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Connections that the client ended without DISCONNECT.
    pub(crate) fn left_by_client(&self) -> usize {
        self.seen.lock().unwrap().left_by_client
    }

    /// Looks at everything seen.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    /// `seq` of every live observation of a resource that arrived, in the order of arrival.
    pub(crate) fn arrivals(&self, resource: &str) -> Vec<u64> {
        self.seen.lock().unwrap().arrivals.get(resource).cloned().unwrap_or_default()
    }

    /// `seq` of every live observation of a resource whose message was acknowledged and not refused.
    pub(crate) fn taken(&self, resource: &str) -> Vec<u64> {
        self.seen.lock().unwrap().taken.get(resource).into_iter().flatten().copied().collect()
    }

    /// Longest time between two messages.
    pub(crate) fn longest_silence(&self) -> Duration {
        self.seen.lock().unwrap().longest_silence
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    seen: Arc<Mutex<Seen>>,
    treatment: impl Fn(usize) -> Treatment,
) {
    let (mut silent, mut silenced) = (Vec::new(), Vec::new());
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.connections += 1;
            seen.connections - 1
        };
        match treatment(number) {
            Treatment::Silence => silent.push(stream),
            treatment => {
                // One after the other, so that arrivals are in order.
                match serve(&acceptor, stream, &seen, treatment, number).await {
                    Ok(stream) => silenced.extend(stream),
                    Err(_) => seen.lock().unwrap().left_by_client += 1,
                }
            }
        }
    }
}

/// Serves one connection to its end; returns it if it is to be left standing in silence.
async fn serve(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    seen: &Mutex<Seen>,
    treatment: Treatment,
    number: usize,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut stream = acceptor.accept(stream).await?;
    if let Treatment::Storm(storm) = treatment {
        return storm::serve(stream, seen, storm).await;
    }
    let mut random = fastrand::Rng::with_seed(number as u64);
    let chaos = matches!(treatment, Treatment::Chaos | Treatment::Moods);
    let mut left = if chaos { random.u32(1..80) } else { u32::MAX };
    let mut owed: Vec<Owed> = Vec::new();
    let mut buffer = Vec::new();
    let (mut level, mut answered) = (5, 0);
    loop {
        while let Some((kind, body)) = take_packet(&mut buffer) {
            match kind >> 4 {
                // CONNECT: CONNACK without session, with a receive maximum where the version has one.
                1 => {
                    level = body[6];
                    let receive_max = if chaos { random.u8(1..100) } else { 100 };
                    let connack: &[u8] =
                        if level == 5 { &[0x20, 6, 0, 0, 3, 0x21, 0, receive_max] } else { &[0x20, 2, 0, 0] };
                    stream.write_all(connack).await?;
                    stream.flush().await?;
                    if treatment == Treatment::SilenceAfterConnAck {
                        return Ok(Some(stream));
                    }
                }
                3 => owed.push(note(seen, level, &body)),
                12 => stream.write_all(&[0xd0, 0]).await?,
                14 => return Ok(None),
                other => return Err(io::Error::other(format!("packet type {other}"))),
            }
            left -= 1;
            if left == 0 {
                // What is acknowledged now is read by the client together with the end of the stream.
                random.shuffle(&mut owed);
                owed.truncate(owed.len() / 2);
                pay(&mut stream, (seen, level), &mut owed, |_, _| 0x00).await?;
                return Ok(None);
            }
        }
        let patient = chaos && random.u8(..4) > 0;
        if !patient {
            let (refused, mood) = (answered, random.u8(..8));
            let reason = |place, _: &Owed| match treatment {
                Treatment::RefuseFirst(reason, count) if refused + place < count => reason,
                Treatment::Moods if mood == 0 => 0x97,
                _ => 0x00,
            };
            if !matches!(treatment, Treatment::RefuseFirst(..)) {
                random.shuffle(&mut owed);
            }
            let keep = if chaos { random.usize(0..=owed.len()) } else { 0 };
            let mut paid = owed.split_off(keep);
            answered += paid.len();
            pay(&mut stream, (seen, level), &mut paid, reason).await?;
        }
        match tokio::time::timeout(Duration::from_millis(2), stream.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

/// Acknowledges; MQTT 3.1.1, protocol level 4, has no room for a reason.
pub(crate) async fn pay(
    stream: &mut TlsStream<TcpStream>,
    (seen, level): (&Mutex<Seen>, u8),
    owed: &mut Vec<Owed>,
    mut reason: impl FnMut(usize, &Owed) -> u8,
) -> io::Result<()> {
    for (place, owed) in owed.drain(..).enumerate() {
        let reason = if level == 5 { reason(place, &owed) } else { 0x00 };
        let Owed { id: [high, low], content, .. } = owed;
        {
            let mut seen = seen.lock().unwrap();
            match reason {
                0..0x80 => {
                    seen.arrived.taken(&content);
                    if content.lane == Some(Lane::Live) {
                        for ((_, resource), seq) in content.observations {
                            seen.taken.entry(resource).or_default().insert(seq);
                        }
                    }
                }
                0x87 | 0x90 | 0x99 => seen.refused.1 += 1,
                _ => seen.refused.0 += 1,
            }
        }
        let puback: &[u8] = if level == 5 { &[0x40, 3, high, low, reason] } else { &[0x40, 2, high, low] };
        stream.write_all(puback).await?;
    }
    stream.flush().await
}

/// Takes one MQTT packet: its first byte and what follows the length.
pub(crate) fn take_packet(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (length, digits) = variable(buffer.get(1..)?)?;
    let head = 1 + digits;
    if buffer.len() < head + length {
        return None;
    }
    let packet: Vec<u8> = buffer.drain(..head + length).collect();
    Some((packet[0], packet[head..].to_vec()))
}

/// Reads a variable byte integer; returns it and how many bytes it took.
fn variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (place, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

/// Notes what is in a PUBLISH at QoS 1.
pub(crate) fn note(seen: &Mutex<Seen>, level: u8, body: &[u8]) -> Owed {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
    let id = [body[2 + length], body[3 + length]];
    let rest = &body[4 + length..];
    let (properties, digits) = if level == 5 { variable(rest).unwrap() } else { (0, 0) };
    let content = Content::read(&topic, &rest[digits + properties..]);
    let mut seen = seen.lock().unwrap();
    let now = Instant::now();
    let silence = seen.last_arrival.replace(now).map_or(Duration::ZERO, |last| now - last);
    seen.longest_silence = seen.longest_silence.max(silence);
    seen.arrived.came(&content);
    if content.lane == Some(Lane::Live) {
        for ((_, resource), seq) in &content.observations {
            seen.arrivals.entry(resource.clone()).or_default().push(*seq);
        }
    }
    Owed { id, topic, content }
}
