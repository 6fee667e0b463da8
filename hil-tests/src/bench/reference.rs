//! The reference of the pipeline bench: what a person would write by hand for one customer.
//!
//! One thread, blocking sockets, no identifiers, no units, no quality, no numbering, no recovery: polls every device,
//! spools the values, makes the spool durable, publishes one compact message a device over mutual TLS and waits for the
//! acknowledgements. The distance of the daemon to it is what the contract costs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::pki::Pair;
use crate::subscriber::tls;

/// Registers of one request, the standard's maximum.
const BLOCK: u16 = 125;

/// Polls `registers` holding registers of unit 1 of every device each second, `rounds` times.
///
/// # Errors
/// At the first thing that goes wrong: a reference recovers from nothing.
pub fn run(
    devices: &[u16],
    registers: u16,
    rounds: u32,
    broker: u16,
    pki: &ClientFiles,
    spool: &Path,
) -> io::Result<()> {
    let mut sockets = Vec::new();
    for &port in devices {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let mut mqtt = connect(broker, pki)?;
    let mut spool = File::create(spool)?;
    let mut payload = String::new();
    let start = Instant::now();
    for round in 0..rounds {
        std::thread::sleep((start + Duration::from_secs(u64::from(round))).saturating_duration_since(Instant::now()));
        for (device, socket) in sockets.iter_mut().enumerate() {
            let values = poll(socket, registers)?;
            payload.clear();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let _infallible = write!(payload, "{{\"d\":{device},\"t\":{},\"v\":[", now.as_millis());
            for (i, value) in values.iter().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                let _infallible = write!(payload, "{comma}{value}");
            }
            payload.push_str("]}");
            spool.write_all(payload.as_bytes())?;
            publish(&mut mqtt, device, payload.as_bytes())?;
        }
        spool.sync_data()?;
        mqtt.flush()?;
        for _ in 0..sockets.len() {
            let mut puback = [0_u8; 4];
            mqtt.read_exact(&mut puback)?;
        }
    }
    Ok(())
}

/// The files a client shows and trusts.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// Certificate of the authority.
    pub ca: PathBuf,
    /// Certificate and key of the client.
    pub own: Pair,
}

fn poll(socket: &mut TcpStream, registers: u16) -> io::Result<Vec<u16>> {
    let mut values = Vec::with_capacity(usize::from(registers));
    let mut address = 0_u16;
    while address < registers {
        let count = BLOCK.min(registers - address);
        let [a, b] = address.to_be_bytes();
        let [c, d] = count.to_be_bytes();
        socket.write_all(&[0, 1, 0, 0, 0, 6, 1, 3, a, b, c, d])?;
        let mut head = [0_u8; 9];
        socket.read_exact(&mut head)?;
        let mut body = vec![0_u8; usize::from(count) * 2];
        socket.read_exact(&mut body)?;
        values.extend(body.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])));
        address += count;
    }
    Ok(values)
}

type Mqtt = StreamOwned<ClientConnection, TcpStream>;

fn connect(port: u16, files: &ClientFiles) -> io::Result<Mqtt> {
    let config = tls(&files.ca, &files.own)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut mqtt = StreamOwned::new(tls, TcpStream::connect(("127.0.0.1", port))?);
    // CONNECT of MQTT 3.1.1 (§3.1): clean session, keep-alive 60 s, client identifier "reference".
    mqtt.write_all(b"\x10\x15\x00\x04MQTT\x04\x02\x00\x3c\x00\x09reference")?;
    mqtt.flush()?;
    let mut connack = [0_u8; 4];
    mqtt.read_exact(&mut connack)?;
    if connack[3] == 0 { Ok(mqtt) } else { Err(io::Error::other(format!("connection refused: {:#04x}", connack[3]))) }
}

/// PUBLISH of MQTT 3.1.1 (§3.3) at QoS 1; the packet identifier is the device's place, from 1.
fn publish(mqtt: &mut Mqtt, device: usize, payload: &[u8]) -> io::Result<()> {
    let topic = format!("reference/{device}");
    let mut rest = 2 + topic.len() + 2 + payload.len();
    let mut packet = vec![0x32];
    loop {
        let low = u8::try_from(rest % 128).map_err(io::Error::other)?;
        rest /= 128;
        packet.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    packet.extend(u16::try_from(topic.len()).map_err(io::Error::other)?.to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.extend(u16::try_from(device + 1).map_err(io::Error::other)?.to_be_bytes());
    packet.extend(payload);
    mqtt.write_all(&packet)
}
