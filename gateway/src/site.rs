//! A validated site: what is polled, what it means, and where it goes. Only [`config`](crate::config) makes one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ganglion_drivers::plan::ReadRequest;
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
    /// Limits of the buffer.
    pub buffer: BufferSettings,
    /// The city brain's broker.
    pub broker: BrokerSettings,
}

/// Place of a device in [`Site::devices`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId(pub usize);

/// Place of a stream in [`Site::streams`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub usize);

/// One wire: a serial line or a TCP endpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct Bus {
    /// Name from the site file, unique.
    pub name: String,
    /// How it is reached.
    pub link: Link,
    /// How long a unit may take from the end of a request to the end of its answer.
    pub response_timeout: Duration,
    /// The devices on it.
    pub devices: Vec<DeviceId>,
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
}

/// A serial port and its line.
#[derive(Clone, PartialEq, Debug)]
pub struct SerialLink {
    /// The port, by a stable path such as `/dev/serial/by-path/…`.
    pub path: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// Parity bit.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// How long after a timeout an answer may still arrive: the line is listened to and nothing is asked meanwhile.
    pub late_reply: Duration,
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

/// One Modbus server on a bus.
#[derive(Clone, PartialEq, Debug)]
pub struct Device {
    /// Name from the site file, unique in the site.
    pub name: String,
    /// Its address on the bus.
    pub unit: UnitId,
    /// Time from one poll to the next.
    pub poll_interval: Duration,
    /// What one poll asks, in order.
    pub requests: Vec<ReadRequest>,
    /// What the answers hold; the same allocation for devices of one kind.
    pub points: Arc<[Point]>,
    /// The streams its points belong to, each once.
    pub streams: Vec<StreamId>,
}

/// One configured value of a device: where it is in the answers and what it means.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// The stream its readings belong to, a place in [`Device::streams`].
    pub part: usize,
    /// Its place among the stream's properties.
    pub place: usize,
    /// The request that reads it, a place in [`Device::requests`].
    pub request: usize,
    /// Its first item in that request's answer, from 0.
    pub offset: usize,
    /// What its registers hold.
    pub value_type: ValueType,
    /// How its bytes lie over the registers.
    pub word_order: WordOrder,
    /// From the device's number to the property's unit; `None` leaves the number as it is.
    pub scale: Option<Scale>,
    /// The device's marker for "no value", compared with the raw bits.
    pub missing: Option<u64>,
    /// Physically possible values, in the property's unit; a value outside is bad, out of range.
    pub range: Option<(f64, f64)>,
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

/// Limits of the buffer.
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
}

/// The city brain's broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerSettings {
    /// Host name; the broker's certificate must name it.
    pub host: String,
    /// Port, 8883 by custom.
    pub port: u16,
    /// Certificates of the authorities that may sign the broker's certificate, PEM.
    pub ca: PathBuf,
    /// The gateway's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// MQTT client identifier.
    pub client_id: String,
    /// Longest silence before a ping, at least 5 s.
    pub keep_alive: Duration,
    /// First and longest pause between two tries to connect.
    pub retry: (Duration, Duration),
    /// Longest payload of one message, in bytes.
    pub max_payload: usize,
    /// User properties sent with every message, by name.
    pub user_properties: BTreeMap<String, String>,
}
