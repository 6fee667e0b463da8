//! The keys of a site file.

use super::alarm::ALARM;
use super::keys::{Choice, Key, Kind, Need, Section};

const MIB: i64 = 1 << 20;

/// The top level of a site file.
pub(super) const SITE: Section = Section {
    name: "the site file",
    doc: "A Ganglion site: what one gateway polls, what it means, and where it goes.",
    keys: &[
        Key { name: "directory", kind: Kind::Path, need: Need::Required, doc: "folder of the code directory" },
        Key { name: "templates", kind: Kind::Path, need: Need::Required, doc: "folder of the device templates" },
        Key {
            name: "devices_csv",
            kind: Kind::Path,
            need: Need::Optional,
            doc: "a table of devices, a row each: many like devices without a [[bus.device]] for each of them",
        },
        Key {
            name: "data_dir",
            kind: Kind::Path,
            need: Need::Required,
            doc: "folder of the buffer, its lock and the status socket",
        },
        Key { name: "gateway", kind: Kind::Table(&GATEWAY), need: Need::Required, doc: "the gateway itself" },
        Key { name: "broker", kind: Kind::Table(&BROKER), need: Need::Required, doc: "the city brain's broker" },
        Key {
            name: "buffer",
            kind: Kind::Table(&BUFFER),
            need: Need::Optional,
            doc: "limits of the buffer; the defaults suit an 8 GB card",
        },
        Key { name: "bus", kind: Kind::Tables(&BUS), need: Need::Required, doc: "each serial line or TCP endpoint" },
    ],
    choice: None,
};

const GATEWAY: Section = Section {
    name: "[gateway]",
    doc: "The gateway itself.",
    keys: &[Key {
        name: "id",
        kind: Kind::Resource,
        need: Need::Required,
        doc: "the gateway's own identifier, of class 9101",
    }],
    choice: None,
};

const BROKER: Section = Section {
    name: "[broker]",
    doc: "The city brain's broker: MQTT over mutual TLS.",
    keys: &[
        Key {
            name: "host",
            kind: Kind::Text,
            need: Need::Required,
            doc: "host name or address; the broker's certificate must name it",
        },
        Key { name: "port", kind: Kind::Integer(1, 65_535), need: Need::Number(8883), doc: "TCP port" },
        Key {
            name: "alternatives",
            kind: Kind::List(&Kind::Text),
            need: Need::Optional,
            doc: "further brokers, \"host:port\" each, tried in this order while the one of `host` cannot be reached; the \
                  same authority, certificate and settings hold for them",
        },
        Key {
            name: "fail_back_s",
            kind: Kind::Integer(10, 86_400),
            need: Need::Number(600),
            doc: "while an alternative is connected: how often it is tried whether the broker of `host` answers again, in \
                  seconds",
        },
        Key {
            name: "mqtt",
            kind: Kind::Words(&["5", "3.1.1"]),
            need: Need::Word("5"),
            doc: "version of MQTT; \"3.1.1\" for a broker that does not speak 5: it has no user properties and cannot say \
                  that it refused a message",
        },
        Key {
            name: "ca",
            kind: Kind::Path,
            need: Need::Required,
            doc: "PEM file of the authorities that may sign the broker's certificate",
        },
        Key {
            name: "certificate",
            kind: Kind::Path,
            need: Need::Required,
            doc: "PEM file of the gateway's certificate chain, its own first",
        },
        Key { name: "key", kind: Kind::Path, need: Need::Required, doc: "PEM file of the gateway's private key" },
        Key {
            name: "certificate_check_s",
            kind: Kind::Integer(1, 86_400),
            need: Need::Number(60),
            doc: "how often it is looked whether these files have changed, in seconds; new ones that can be used are, within \
                  as long again, without a restart",
        },
        Key {
            name: "client_id",
            kind: Kind::Text,
            need: Need::Optional,
            doc: "MQTT client identifier; without it the gateway's identifier",
        },
        Key {
            name: "keep_alive_s",
            kind: Kind::Integer(5, 65_535),
            need: Need::Number(30),
            doc: "longest silence before a ping, in seconds; below the time after which the network forgets a silent \
                  connection (mobile networks: some from 60 s on, many from 300 s on), else each silence ends in a loss, \
                  noticed one and a half of these later",
        },
        Key {
            name: "retry_min_ms",
            kind: Kind::Integer(10, 3_600_000),
            need: Need::Number(500),
            doc: "first pause between two tries to connect, in milliseconds",
        },
        Key {
            name: "retry_max_ms",
            kind: Kind::Integer(10, 3_600_000),
            need: Need::Number(60_000),
            doc: "longest pause between two tries to connect, in milliseconds",
        },
        Key {
            name: "backfill_max_per_s",
            kind: Kind::Integer(0, 10_000_000),
            need: Need::Number(0),
            doc: "most observations of history sent in a second, 0 for no bound: what a broker takes from a whole city after an outage, its consumers may not",
        },
        Key {
            name: "backfill_share_percent",
            kind: Kind::Integer(1, 100),
            need: Need::Number(50),
            doc: "most of the link that history takes after an outage while anything newer waits, in percent; it always gets a twentieth",
        },
        Key {
            name: "max_payload_bytes",
            kind: Kind::Integer(1024, 16 * MIB),
            need: Need::Number(65_536),
            doc: "longest payload of one message, in bytes; the broker may allow less",
        },
        Key {
            name: "user_properties",
            kind: Kind::Map(&Kind::Text),
            need: Need::Optional,
            doc: "user properties sent with every message, by name",
        },
    ],
    choice: None,
};

/// Limits of the buffer; every key has a default.
pub(super) const BUFFER: Section = Section {
    name: "[buffer]",
    doc: "Limits of the log of telemetry on disk.",
    keys: &[
        Key {
            name: "max_bytes",
            kind: Kind::Size(MIB, 1 << 50),
            need: Need::Number(1024 * MIB),
            doc: "most bytes on disk, at least three segments",
        },
        Key {
            name: "segment_bytes",
            kind: Kind::Size(65_536, 1024 * MIB),
            need: Need::Number(4 * MIB),
            doc: "size of one segment, in bytes",
        },
        Key {
            name: "commit_interval_ms",
            kind: Kind::Integer(1, 60_000),
            need: Need::Number(200),
            doc: "longest time an accepted observation waits for fsync: what a power cut may cost, in milliseconds",
        },
        COMMIT_BYTES,
        WHEN_FULL,
        Key {
            name: "events",
            kind: Kind::Table(&EVENT_BUFFER),
            need: Need::Optional,
            doc: "limits of the log of events",
        },
    ],
    choice: None,
};

/// Limits of the log of events; every key has a default.
pub(super) const EVENT_BUFFER: Section = Section {
    name: "[buffer.events]",
    doc: "Limits of the log of events on disk, which has a quota of its own so that telemetry never crowds an alarm out.",
    keys: &[
        Key {
            name: "max_bytes",
            kind: Kind::Size(MIB, 1 << 50),
            need: Need::Number(16 * MIB),
            doc: "most bytes on disk, at least three segments",
        },
        Key {
            name: "segment_bytes",
            kind: Kind::Size(65_536, 1024 * MIB),
            need: Need::Number(MIB),
            doc: "size of one segment, in bytes",
        },
        Key {
            name: "commit_interval_ms",
            kind: Kind::Integer(0, 60_000),
            need: Need::Number(0),
            doc: "longest time an accepted event waits for fsync, in milliseconds; with 0 each is durable at once",
        },
        COMMIT_BYTES,
        WHEN_FULL,
    ],
    choice: None,
};

const COMMIT_BYTES: Key = Key {
    name: "commit_bytes",
    kind: Kind::Size(1024, 64 * MIB),
    need: Need::Number(65_536),
    doc: "bytes that make a commit happen at once",
};

const WHEN_FULL: Key = Key {
    name: "when_full",
    kind: Kind::Words(&["evict-oldest", "refuse-newest"]),
    need: Need::Word("evict-oldest"),
    doc: "what goes when `max_bytes` are spent: the oldest segment, or what comes until something is delivered; what is lost is declared on the gap topic either way",
};

const BUS: Section = Section {
    name: "[[bus]]",
    doc: "One serial line or TCP endpoint, polled by one task.",
    keys: &[
        Key { name: "name", kind: Kind::Text, need: Need::Required, doc: "name of the bus, unique" },
        Key {
            name: "kind",
            kind: Kind::Words(&["serial", "tcp", "rtu-over-tcp"]),
            need: Need::Required,
            doc: "\"serial\" for Modbus RTU, \"tcp\" for Modbus TCP, \"rtu-over-tcp\" for RTU through a serial server (DTU)",
        },
        Key {
            name: "protocol",
            kind: Kind::Words(&["modbus", "node-link"]),
            need: Need::Word("modbus"),
            doc: "what the devices of the bus speak: \"node-link\" on a serial line with sensor nodes only, whose samples are \
                  then taken with their own times and none is lost; a node on any other line is a Modbus server, too",
        },
        Key {
            name: "response_timeout_ms",
            kind: Kind::Integer(10, 60_000),
            need: Need::Number(1000),
            doc: "how long a unit may take from the end of a request to the first byte of its answer, in milliseconds",
        },
        Key {
            name: "retries",
            kind: Kind::Integer(0, 10),
            need: Need::Number(2),
            doc: "how often a request without a good answer is asked again within its poll",
        },
        Key {
            name: "dead_unit_share_percent",
            kind: Kind::Integer(1, 100),
            need: Need::Number(5),
            doc: "most of the bus time that units which do not answer may cost, in percent",
        },
        Key {
            name: "device",
            kind: Kind::Tables(&DEVICE),
            need: Need::Optional,
            doc: "each Modbus server on the bus, unless `devices_csv` lists them",
        },
    ],
    choice: Some(Choice { key: "kind", cases: &[("serial", SERIAL), ("tcp", TCP), ("rtu-over-tcp", RTU_OVER_TCP)] }),
};

const SERIAL: &[Key] = &[
    Key {
        name: "port",
        kind: Kind::Path,
        need: Need::Required,
        doc: "the serial port by a path that stays, such as \"/dev/serial/by-path/…\"",
    },
    BAUD,
    PARITY,
    STOP_BITS,
    Key { name: "late_reply_ms", kind: Kind::Integer(0, 60_000), need: Need::Number(1000), doc: LATE_REPLY },
    Key {
        name: "low_latency",
        kind: Kind::Boolean,
        need: Need::Flag(true),
        doc: "asks the driver to hand bytes over at once: USB adapters else collect them for up to 16 ms",
    },
    Key {
        name: "rs485",
        kind: Kind::Table(&RS485),
        need: Need::Optional,
        doc: "direction control by the kernel, for a port whose RTS switches the transceiver; adapters that switch by \
              themselves need none",
    },
];

const BAUD: Key = Key {
    name: "baud",
    kind: Kind::Integer(300, 4_000_000),
    need: Need::Number(9600),
    doc: "bits per second, as set on every unit of the line",
};

const PARITY: Key = Key {
    name: "parity",
    kind: Kind::Words(&["none", "even", "odd"]),
    need: Need::Word("even"),
    doc: "parity bit, as set on every unit of the line",
};

const STOP_BITS: Key = Key { name: "stop_bits", kind: Kind::Integer(1, 2), need: Need::Number(1), doc: "stop bits" };

const LATE_REPLY: &str = "how long after a request was given up its answer may still arrive, in milliseconds";

const RS485: Section = Section {
    name: "`rs485`",
    doc: "Direction control of the RS-485 transceiver by the kernel.",
    keys: &[
        Key {
            name: "rts_on_send",
            kind: Kind::Boolean,
            need: Need::Flag(true),
            doc: "level of RTS while sending; the other while receiving",
        },
        Key {
            name: "delay_before_send_ms",
            kind: Kind::Integer(0, 100),
            need: Need::Number(0),
            doc: "from RTS to the first bit, in milliseconds",
        },
        Key {
            name: "delay_after_send_ms",
            kind: Kind::Integer(0, 100),
            need: Need::Number(0),
            doc: "from the last bit to RTS, in milliseconds",
        },
        Key {
            name: "rx_during_tx",
            kind: Kind::Boolean,
            need: Need::Flag(false),
            doc: "whether the port hears itself while it sends",
        },
    ],
    choice: None,
};

/// The line behind the serial server is set there; it is said here so that times on it can be computed.
const RTU_OVER_TCP: &[Key] = &[
    Key {
        name: "host",
        kind: Kind::Text,
        need: Need::Optional,
        doc: "host name or address of the serial server, when the gateway calls it",
    },
    Key { name: "port", kind: Kind::Integer(1, 65_535), need: Need::Optional, doc: "with `host`: its TCP port" },
    Key {
        name: "listen",
        kind: Kind::Text,
        need: Need::Optional,
        doc: "address and port to wait at, when the serial server calls the gateway: \"127.0.0.1:9000\"",
    },
    BAUD,
    PARITY,
    STOP_BITS,
    Key { name: "late_reply_ms", kind: Kind::Integer(0, 60_000), need: Need::Number(3000), doc: LATE_REPLY },
];

const TCP: &[Key] = &[
    Key { name: "host", kind: Kind::Text, need: Need::Required, doc: "host name or address" },
    Key { name: "port", kind: Kind::Integer(1, 65_535), need: Need::Number(502), doc: "TCP port" },
];

/// A device; a row of `devices_csv` has the same keys for columns, but for `alarms`.
pub(super) const DEVICE: Section = Section {
    name: "[[bus.device]]",
    doc: "One Modbus server on the bus.",
    keys: &[
        Key { name: "name", kind: Kind::Text, need: Need::Required, doc: "name of the device, unique in the site" },
        Key {
            name: "unit",
            kind: Kind::Integer(0, 255),
            need: Need::Required,
            doc: "its unit id, unique on the bus: 1 to 247 on a serial line, 0 to 255 on TCP",
        },
        Key {
            name: "template",
            kind: Kind::Text,
            need: Need::Required,
            doc: "name of its template: the file's name without `.toml`",
        },
        Key {
            name: "resource",
            kind: Kind::Resource,
            need: Need::Optional,
            doc: "identifier of what it observes, for the points whose template names no resource",
        },
        Key {
            name: "resources",
            kind: Kind::Map(&Kind::Resource),
            need: Need::Optional,
            doc: "identifiers of what it observes, by the names its template refers to",
        },
        Key {
            name: "unused",
            kind: Kind::List(&Kind::Text),
            need: Need::Optional,
            doc: "names its template refers to that are not connected here; their points are not read",
        },
        Key {
            name: "poll_interval_ms",
            kind: Kind::Integer(10, 86_400_000),
            need: Need::Required,
            doc: "time from one poll to the next, in milliseconds, for the points whose template says none",
        },
        Key {
            name: "report",
            kind: Kind::Words(&["always", "on-change"]),
            need: Need::Word("always"),
            doc: "\"always\" reports every poll; \"on-change\" what moved by more than its deadband, and everything each \
                  `heartbeat_s`",
        },
        Key {
            name: "heartbeat_s",
            kind: Kind::Integer(1, 86_400),
            need: Need::Optional,
            doc: "with `report = \"on-change\"`: longest time without a report, in seconds; 600 unless said",
        },
        Key {
            name: "request_gap_ms",
            kind: Kind::Integer(0, 10_000),
            need: Need::Optional,
            doc: "silence it needs between its answer and the next request to it, in milliseconds; else the template's",
        },
        Key {
            name: "identity_equals",
            kind: Kind::Decimal,
            need: Need::Optional,
            doc: "what the template's identity register holds in this device, such as its serial number; else the \
                  template's",
        },
        Key {
            name: "alarms",
            kind: Kind::Map(&Kind::FlagOr(&ALARM)),
            need: Need::Optional,
            doc: "alarms by property, each in place of the template's `alarm`: `pressure = { above = 0.8 }`, or `false` for \
                  none",
        },
    ],
    choice: None,
};
