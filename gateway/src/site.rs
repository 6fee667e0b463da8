//! A validated site: what is polled, what it means, and where it goes. Only [`config`](crate::config) makes one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ganglion_drivers::alarm::Condition;
use ganglion_drivers::plan::{Limits, ReadRequest};
use ganglion_drivers::report::Deadband;
use ganglion_protocols::Cri;
use ganglion_protocols::modbus::{UnitId, ValueType, WordOrder};

/// Everything one daemon serves.
#[derive(Clone, PartialEq, Debug)]
pub struct Site {
    /// The gateway's own identifier.
    pub gateway: Cri,
    /// Edition of the code directory that names classes and properties.
    pub directory: String,
    /// Where the buffer, its lock and the status socket live.
    pub data_dir: PathBuf,
    /// The buses, each polled by one task.
    pub buses: Vec<Bus>,
    /// Every device of every bus; a [`DeviceId`] is a place in this list.
    pub devices: Vec<Device>,
    /// Every stream of observations; a [`StreamId`] is a place in this list.
    pub streams: Vec<Stream>,
    /// Every stream of events, each of one alarm: its last property is the state that was raised or cleared, and before it
    /// stands the value that did it, if there is one. The [`StreamId`] of an event is a place in this list, not in that of
    /// the observations.
    pub event_streams: Vec<Stream>,
    /// Limits of the log of telemetry.
    pub buffer: BufferSettings,
    /// Limits of the log of events.
    pub event_buffer: BufferSettings,
    /// The city brain's broker.
    pub broker: BrokerSettings,
}

impl Site {
    /// Finds the stream of events of a resource that tells of a state.
    #[must_use]
    pub fn event_stream(&self, resource: Cri, state: &str) -> Option<StreamId> {
        let tells = |stream: &Stream| stream.properties.last().is_some_and(|last| last.name == state);
        self.event_streams.iter().position(|stream| stream.resource == resource && tells(stream)).map(StreamId)
    }
}

/// The state of every resource that says whether the devices that read it answer.
pub const REACHABLE: &str = "reachable";

/// The state of the gateway that is true from its start to its end in order.
pub const RUNNING: &str = "running";

/// Place of a device in [`Site::devices`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId(pub usize);

/// Place of a stream in [`Site::streams`], or among the events in [`Site::event_streams`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub usize);

/// One wire: a serial line or an endpoint on the network.
#[derive(Clone, PartialEq, Debug)]
pub struct Bus {
    /// Name from the site file, unique.
    pub name: String,
    /// How it is reached.
    pub link: Link,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// How long a unit may take from the end of a request to the first byte of its answer.
    pub response_timeout: Duration,
    /// How long after a request was given up its answer may still arrive; zero on Modbus TCP, where transactions tell.
    pub late_reply: Duration,
    /// How often a request without a good answer is asked again within its poll.
    pub retries: u8,
    /// Most of the bus time that units which do not answer may cost, in percent, 1 to 100.
    pub dead_unit_share_percent: u8,
    /// The devices on it.
    pub devices: Vec<DeviceId>,
}

/// What is spoken on a bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Modbus: registers are polled.
    Modbus,
    /// The node link: sensor nodes give the samples that they have kept. Each device has one group.
    NodeLink,
}

/// How a bus is reached.
#[derive(Clone, PartialEq, Debug)]
pub enum Link {
    /// Modbus TCP.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port, 502 by the standard.
        port: u16,
    },
    /// Modbus RTU on a serial port.
    Serial(SerialLink),
    /// Modbus RTU frames through a serial server (DTU) on the network.
    RtuOverTcp {
        /// Who calls whom.
        endpoint: Endpoint,
        /// The line behind the serial server, which the gateway cannot set.
        speed: LineSpeed,
    },
}

/// Who opens the TCP connection to a serial server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// The gateway calls the serial server.
    Connect {
        /// Host name or address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// The serial server calls the gateway, which waits here: the only way to one behind a mobile network.
    Listen {
        /// Address and port to wait at.
        address: SocketAddr,
    },
}

/// A serial port and its line.
#[derive(Clone, PartialEq, Debug)]
pub struct SerialLink {
    /// The port, by a stable path such as `/dev/serial/by-path/…`.
    pub path: PathBuf,
    /// The line.
    pub speed: LineSpeed,
    /// Direction control by the kernel; `None` leaves the port as it is, for adapters that switch by themselves.
    pub rs485: Option<Rs485>,
    /// Whether the driver is asked to hand bytes over at once: USB adapters else collect them for up to 16 ms.
    pub low_latency: bool,
}

/// How characters lie on a serial line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineSpeed {
    /// Bits per second.
    pub baud: u32,
    /// Parity bit.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
}

impl LineSpeed {
    /// Returns the bits of one character, 10 to 12: start bit, eight data bits, parity bit if any, stop bits.
    #[must_use]
    pub fn bits_per_character(self) -> u8 {
        let parity = u8::from(self.parity != Parity::None);
        9_u8.saturating_add(parity).saturating_add(self.stop_bits)
    }
}

/// Parity of a serial line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Even parity, the standard's default.
    Even,
    /// Odd parity.
    Odd,
}

/// Direction control of an RS-485 transceiver by the kernel (`TIOCSRS485`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rs485 {
    /// Level of RTS while sending; the other while receiving.
    pub rts_on_send: bool,
    /// From RTS to the first bit, whole milliseconds.
    pub delay_before_send: Duration,
    /// From the last bit to RTS, whole milliseconds.
    pub delay_after_send: Duration,
    /// Whether the port hears itself while it sends.
    pub rx_during_tx: bool,
}

/// One Modbus server on a bus.
#[derive(Clone, PartialEq, Debug)]
pub struct Device {
    /// Name from the site file, unique in the site.
    pub name: String,
    /// Name of its template.
    pub template: String,
    /// Its address on the bus.
    pub unit: UnitId,
    /// Silence it needs between the end of its answer and the next request to it.
    pub request_gap: Duration,
    /// What one request to it may be; the same allocation for devices of one template.
    pub limits: Arc<DeviceLimits>,
    /// How it is recognised before its values are believed.
    pub identity: Option<Identity>,
    /// Its points by period, the shortest first; never empty.
    pub groups: Vec<Group>,
    /// The streams of events that tell whether its resources can be reached, each resource once. Devices that read
    /// different properties of one resource share its stream.
    pub reachable: Vec<StreamId>,
}

/// What one request to a device may be, in the words of [`Limits`](ganglion_drivers::plan::Limits).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceLimits {
    /// Most registers of one request, 1 to 125.
    pub max_registers: u16,
    /// Most coils or discrete inputs of one request, 1 to 2000.
    pub max_bits: u16,
    /// Most unwanted items between two wants that may be read along.
    pub bridge: u16,
    /// Items that must never be asked for.
    pub forbidden: Vec<ReadRequest>,
}

impl DeviceLimits {
    /// Returns them in the form that plans are made from.
    #[must_use]
    pub fn as_limits(&self) -> Limits<'_> {
        Limits {
            max_registers: self.max_registers,
            max_bits: self.max_bits,
            bridge: self.bridge,
            forbidden: &self.forbidden,
            ..Limits::STANDARD
        }
    }
}

/// A register that tells devices apart: with another value in it, another device answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Where it is.
    pub want: ReadRequest,
    /// What its registers hold.
    pub value_type: ValueType,
    /// How its bytes lie over the registers.
    pub word_order: WordOrder,
    /// The bits it must hold, as [`ValueType::bits`] returns them.
    pub equals: u64,
}

/// Points of one device that are read together, at one period. A resource read at two periods has a stream in each group.
#[derive(Clone, PartialEq, Debug)]
pub struct Group {
    /// Time from one poll to the next.
    pub interval: Duration,
    /// What has to be read, each want once, sorted; the same allocation for devices of one kind.
    pub wants: Arc<[Want]>,
    /// What the items mean; the same allocation for devices of one kind.
    pub points: Arc<[Point]>,
    /// The streams its points belong to, each once.
    pub streams: Vec<StreamId>,
    /// With it only changes are reported, and everything after this long without a report; `None` reports every poll.
    pub heartbeat: Option<Duration>,
    /// What of its points is watched for alarms.
    pub alarms: Vec<Alarm>,
}

/// One thing that a point is watched for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Alarm {
    /// The point, a place in [`Group::points`].
    pub point: usize,
    /// What makes it an alarm.
    pub condition: Condition,
    /// How long that must hold to raise it, and its opposite to clear it.
    pub hold: Duration,
    /// The stream of events it is told on, a place in [`Site::event_streams`].
    pub stream: StreamId,
}

/// Items that one request must read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// Where they are.
    pub read: ReadRequest,
    /// Place of the first of them in [`Sample::words`](crate::pipeline::Sample::words).
    pub offset: usize,
}

/// One configured value of a device: where it is in the answers and what it means.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// The stream its readings belong to, a place in [`Group::streams`].
    pub part: usize,
    /// Its place among the stream's properties.
    pub place: usize,
    /// The want that reads it, a place in [`Group::wants`].
    pub want: usize,
    /// Its first item among those of the want, from 0; not 0 only where a term is read with it from a lower address.
    pub first: usize,
    /// What its registers hold.
    pub value_type: ValueType,
    /// How its bytes lie over the registers.
    pub word_order: WordOrder,
    /// Other registers that its value is made of.
    pub terms: Vec<Term>,
    /// From the device's number to the property's unit; `None` leaves the number as it is.
    pub scale: Option<Scale>,
    /// The device's marker for "no value", compared with the raw bits.
    pub missing: Option<u64>,
    /// Physically possible values, in the property's unit; a value outside is bad, out of range.
    pub range: Option<(f64, f64)>,
    /// How far the value must move to be reported; `None` reports any change. Without a heartbeat it says nothing.
    pub deadband: Option<Deadband>,
}

/// A register that another value depends on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Term {
    /// What it does to the value.
    pub role: Role,
    /// The want that reads it, a place in [`Group::wants`]; the value's own where both must be of one instant.
    pub want: usize,
    /// Its first item among those of the want, from 0.
    pub first: usize,
    /// What its registers hold.
    pub value_type: ValueType,
    /// How its bytes lie over the registers.
    pub word_order: WordOrder,
}

/// What a [`Term`] does: the value is `(number + parts) * factors * 10^(exponents - decimals)`, and then scaled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It is added: the decimal fraction of a counter.
    Part,
    /// It multiplies: a transformer ratio.
    Factor,
    /// It is a power of ten that multiplies.
    Exponent,
    /// It is a power of ten that divides: a count of decimal places.
    Decimals,
}

/// `number * multiply / divide + offset`. A decimal scale such as 0.001 is kept as a division by 1000, which is exact
/// where a multiplication is not: 412 becomes 0.412 and not 0.41200000000000003.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scale {
    /// Factor.
    pub multiply: f64,
    /// Divisor, not 0.
    pub divide: f64,
    /// Added last.
    pub offset: f64,
}

/// The observations of one resource by one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stream {
    /// The resource.
    pub resource: Cri,
    /// Domain of its class.
    pub domain: String,
    /// The properties, in the order of the readings; the same allocation for equal lists.
    pub properties: Arc<[NamedProperty]>,
}

/// Name and unit of a property, as in [`ganglion_protocols::Property`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedProperty {
    /// Name with an optional channel.
    pub name: String,
    /// UCUM unit.
    pub unit: String,
}

impl NamedProperty {
    /// Makes the property of a state: true or false.
    #[must_use]
    pub fn state(name: String) -> Self {
        Self { name, unit: "1".to_owned() }
    }
}

/// Limits of one log of the buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BufferSettings {
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// Size of one segment.
    pub segment_bytes: u32,
    /// Longest time an accepted observation waits for fsync.
    pub commit_interval: Duration,
    /// Bytes that make a commit happen at once.
    pub commit_bytes: u32,
    /// What goes when `max_bytes` are spent.
    pub when_full: WhenFull,
}

/// What goes when a log's bytes are spent; declared either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// The oldest segment.
    EvictOldest,
    /// What comes, until something is delivered.
    RefuseNewest,
}

/// The city brain's broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerSettings {
    /// Host name; the broker's certificate must name it.
    pub host: String,
    /// Port, 8883 by custom.
    pub port: u16,
    /// Tried in this order when it cannot be reached; everything else holds for them, too.
    pub alternatives: Vec<Address>,
    /// How often it is tried whether it answers again, while an alternative is connected.
    pub fail_back: Duration,
    /// What is spoken with it.
    pub mqtt: MqttVersion,
    /// Certificates of the authorities that may sign the broker's certificate, PEM.
    pub ca: PathBuf,
    /// The gateway's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// How often it is looked whether these files have changed.
    pub certificate_check: Duration,
    /// MQTT client identifier.
    pub client_id: String,
    /// Longest silence before a ping, at least 5 s.
    pub keep_alive: Duration,
    /// First and longest pause between two tries to connect.
    pub retry: (Duration, Duration),
    /// Longest payload of one message, in bytes.
    pub max_payload: usize,
    /// Most of the bytes in flight that backfill may take while anything else waits, in percent, 1 to 100.
    pub backfill_percent: u8,
    /// Most observations of backfill a second, 0 for no bound.
    pub backfill_max_per_s: u32,
    /// User properties sent with every message, by name.
    pub user_properties: BTreeMap<String, String>,
}

impl BrokerSettings {
    /// Returns the brokers in the order of preference, at least one.
    #[must_use]
    pub fn brokers(&self) -> Vec<Address> {
        let preferred = Address { host: self.host.clone(), port: self.port };
        std::iter::once(preferred).chain(self.alternatives.iter().cloned()).collect()
    }
}

/// Where a broker listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Host name or address; its certificate must name it.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A version of MQTT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MqttVersion {
    /// MQTT 5.0.
    #[default]
    V5,
    /// MQTT 3.1.1, whose protocol level is 4: no properties, and no refusal but the end of the connection.
    V4,
}
