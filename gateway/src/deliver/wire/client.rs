//! What the wire sees of an MQTT client, whichever version it speaks: options in, events and failures out.
//!
//! MQTT 3.1.1 has no properties, tells neither a receive maximum nor a packet size, and cannot refuse a message: what is
//! not there has the value that limits nothing.

use std::fmt::{self, Debug};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::LossCause;
use rumqttc::{NetworkOptions, TlsConfiguration, TlsError, Transport};
use rustls::ClientConfig;

use super::{v4, v5};
use crate::deliver::message::Payload;
use crate::site::MqttVersion;

/// Longest time for name, TCP, TLS and CONNACK together.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Packet identifiers in use; more than the window takes, and few, because the client allocates a slot for each.
pub(super) const PACKET_IDS: u16 = 100;
/// Largest packet taken from the broker: it sends acknowledgements only.
pub(super) const LARGEST_INCOMING: u32 = 64 * 1024;
/// Largest packet there is. Source: MQTT 5.0 §2.1.4, MQTT 3.1.1 §2.2.3.
pub(super) const LARGEST_PACKET: u32 = 268_435_455;
/// Content type of every message.
pub(super) const CONTENT_TYPE: &str = "application/json";

/// What one connection is opened with.
#[derive(Debug)]
pub(super) struct Options<'a> {
    /// Host name or address; the broker's certificate must name it.
    pub(super) host: &'a str,
    /// TCP port.
    pub(super) port: u16,
    /// MQTT client identifier.
    pub(super) client_id: &'a str,
    /// Longest silence before a ping, 5 s to 65 535 s.
    pub(super) keep_alive: Duration,
    /// TLS of this connection.
    pub(super) tls: ClientConfig,
    /// Topic of the last will, which is retained.
    pub(super) will_topic: &'a str,
    /// Payload of the last will.
    pub(super) will: String,
    /// Sent with every message and the last will, where the version has them.
    pub(super) user_properties: &'a [(String, String)],
}

/// The half of a client that is told what to send. It never waits.
#[derive(Debug)]
pub(super) enum Sender {
    /// MQTT 5.
    V5(v5::Sender),
    /// MQTT 3.1.1.
    V4(v4::Sender),
}

/// The half of a client that owns the connection and must be polled.
pub(super) enum Client {
    /// MQTT 5.
    V5(Box<v5::Client>),
    /// MQTT 3.1.1.
    V4(Box<v4::Client>),
}

/// What happened on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// The broker accepted the connection.
    Connected(Terms),
    /// The next message handed to the client was written and has this packet identifier.
    Sent(u16),
    /// The client holds a message back because its packet identifier is still in use.
    Collided(u16),
    /// The broker answered the message of this packet identifier.
    Acked(u16, Answer),
    /// DISCONNECT is written.
    Goodbye,
    /// A ping is written.
    Pinged,
    /// The broker sent something else, such as the answer to a ping.
    Heard,
    /// Something without consequence.
    Other,
}

/// What the broker accepts a connection under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Terms {
    /// Whether it takes messages at QoS 1.
    pub(super) qos_1: bool,
    /// Most messages in flight.
    pub(super) receive_max: u16,
    /// Longest packet, in bytes.
    pub(super) packet_max: u32,
    /// Longest silence before a ping, as agreed.
    pub(super) keep_alive: Duration,
}

/// What the broker said to a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// It took the message.
    Taken,
    /// It does not take the message now.
    NotNow(Refusal),
    /// It will never take the message.
    Never(Refusal),
}

/// A reason code, with its name in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::deliver) struct Refusal {
    code: u8,
    name: String,
}

/// Why a connection ended or was never made.
#[derive(Debug)]
pub(in crate::deliver) enum Failure {
    /// No answer within the connect timeout.
    Late,
    /// The network, or TLS inside of it.
    Io(io::Error),
    /// TLS.
    Tls(rustls::Error),
    /// The host is no host name; the library's text.
    Name(String),
    /// The broker refused the connection.
    Refused(Refusal),
    /// The broker ended the connection, with its own words if it has any.
    Ended(Refusal, Option<String>),
    /// The peer closed the stream.
    EndOfStream,
    /// A ping had no answer until the next one was due.
    NoPong,
    /// A packet larger than the broker takes.
    TooLarge {
        /// Its bytes.
        bytes: u64,
        /// Most bytes that would have been allowed.
        limit: u64,
    },
    /// The peer does not keep to the standard.
    Protocol {
        /// The standard.
        standard: &'static str,
        /// The library's text.
        detail: String,
    },
    /// Anything else; the library's text.
    Other(String),
}

impl Failure {
    /// Says whether the broker named a packet that was too large as the cause. Source: MQTT 5.0 §3.14.2.1.
    pub(super) const fn says_too_large(&self) -> bool {
        matches!(self, Self::Ended(Refusal { code: 0x95, .. }, _) | Self::TooLarge { .. })
    }
}

/// Opens a client for one connection; the connection itself is made by its first poll.
pub(super) fn open(version: MqttVersion, options: Options<'_>) -> (Sender, Client) {
    match version {
        MqttVersion::V5 => {
            let (sender, client) = v5::open(options);
            (Sender::V5(sender), Client::V5(Box::new(client)))
        }
        MqttVersion::V4 => {
            let (sender, client) = v4::open(options);
            (Sender::V4(sender), Client::V4(Box::new(client)))
        }
    }
}

impl Sender {
    /// Hands a message to the client.
    ///
    /// # Errors
    /// The library's text, when it takes no more.
    pub(super) fn publish(&self, topic: &str, retain: bool, payload: Payload) -> Result<(), String> {
        match self {
            Self::V5(sender) => sender.publish(topic, retain, payload),
            Self::V4(sender) => sender.publish(topic, retain, payload),
        }
    }

    /// Asks the client to end the connection in order, after what was handed to it.
    ///
    /// # Errors
    /// The library's text, when it takes no more.
    pub(super) fn disconnect(&self) -> Result<(), String> {
        match self {
            Self::V5(sender) => sender.disconnect(),
            Self::V4(sender) => sender.disconnect(),
        }
    }
}

impl Client {
    /// Waits for the next event. Not cancel-safe: a packet that is half written would be lost.
    ///
    /// # Errors
    /// See [`Failure`]; after one the client is good for [`rest`](Self::rest) only.
    pub(super) async fn poll(&mut self) -> Result<Event, Failure> {
        match self {
            Self::V5(client) => client.poll().await,
            Self::V4(client) => client.poll().await,
        }
    }

    /// Takes the events that were read together with the failure, or just before it.
    pub(super) fn rest(&mut self) -> Vec<Event> {
        match self {
            Self::V5(client) => client.rest(),
            Self::V4(client) => client.rest(),
        }
    }
}

impl Refusal {
    /// Notes a code with the library's name of it: `NotAuthorized` becomes `not authorized`.
    pub(in crate::deliver) fn new(code: u8, name: &impl Debug) -> Self {
        Self { code, name: words(name) }
    }

    /// Returns what is lost by it. Source: MQTT 5.0 §3.4.2.1.
    pub(in crate::deliver) const fn loss(&self) -> LossCause {
        match self.code {
            0x87 => LossCause::NotAuthorised,
            0x90 => LossCause::TopicInvalid,
            _ => LossCause::PayloadInvalid,
        }
    }
}

/// `not authorized (0x87)`: in words, and as the standard prints it.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02x})", self.name, self.code)
    }
}

/// Returns how the network is used.
pub(super) fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    network
}

/// Returns the transport of a TLS configuration.
pub(super) fn transport(tls: ClientConfig) -> Transport {
    Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls)))
}

/// Returns what a failure of TLS was.
pub(super) fn tls_failure(error: TlsError) -> Failure {
    match error {
        TlsError::Io(error) => Failure::Io(error),
        TlsError::TLS(error) => Failure::Tls(error),
        TlsError::DNSName(error) => Failure::Name(error.to_string()),
        other => Failure::Other(other.to_string()),
    }
}

/// `NotAuthorized` becomes `not authorized`.
pub(in crate::deliver) fn words(name: &impl Debug) -> String {
    let mut out = String::new();
    let mut after_lower = false;
    for c in format!("{name:?}").replace("QoS", "Qos").chars() {
        if c.is_ascii_uppercase() && after_lower {
            out.push(' ');
        }
        after_lower = c.is_ascii_lowercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}
