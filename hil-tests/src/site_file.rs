//! Site files for tests, benches and the demo: what the daemon is told about the simulated site.
//!
//! One place that knows the keys, so that a change of the configuration is a change here.

use std::path::{Path, PathBuf};

use crate::pki::{Pair, Pki};
use crate::site::{LineSettings, Model, Parity};

/// Division, class and serial of the gateway in these files.
const GATEWAY: (u32, u16, u32) = (330_502, 9101, 1);

/// A site file in the making.
#[derive(Clone, Debug)]
pub struct SiteFile {
    /// Folder of the code directory.
    pub directory: PathBuf,
    /// Folder of the device templates.
    pub templates: PathBuf,
    /// Where the daemon keeps its buffer and its status socket.
    pub data_dir: PathBuf,
    /// The broker.
    pub broker: BrokerEntry,
    /// Further lines of the `[buffer]` section, such as `max_bytes = 65536`.
    pub buffer: Vec<String>,
    /// The buses.
    pub buses: Vec<BusEntry>,
}

/// The broker as the daemon reaches it.
#[derive(Clone, Debug)]
pub struct BrokerEntry {
    /// Host name, which the broker's certificate names.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The authority of the broker's certificate.
    pub ca: PathBuf,
    /// The daemon's own certificate.
    pub own: Pair,
}

/// One bus with its devices.
#[derive(Clone, Debug)]
pub struct BusEntry {
    /// Name, unique in the file.
    pub name: String,
    /// How it is reached.
    pub link: LinkEntry,
    /// How long the daemon waits for an answer, in milliseconds.
    pub response_timeout_ms: u32,
    /// Further lines of the `[[bus]]` section, such as `retries = 0`.
    pub settings: Vec<String>,
    /// The devices.
    pub devices: Vec<DeviceEntry>,
}

/// How a bus is reached.
#[derive(Clone, Debug)]
pub enum LinkEntry {
    /// A serial port.
    Serial {
        /// Path and speed.
        line: LineSettings,
        /// How long after a timeout an answer may still come, in milliseconds.
        late_reply_ms: u32,
    },
    /// Modbus TCP on 127.0.0.1.
    Tcp {
        /// Port.
        port: u16,
    },
    /// Modbus RTU through a serial server on 127.0.0.1.
    RtuOverTcp {
        /// Who calls whom.
        endpoint: EndpointEntry,
        /// Speed of the line behind it; its path is the serial server's own matter.
        line: LineSettings,
        /// How long after a timeout an answer may still come, in milliseconds.
        late_reply_ms: u32,
    },
}

/// Who calls whom at a serial server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndpointEntry {
    /// The daemon calls this port.
    Connect(u16),
    /// The daemon listens on this port.
    Listen(u16),
}

/// One device.
#[derive(Clone, Debug)]
pub struct DeviceEntry {
    /// Name, unique in the file.
    pub name: String,
    /// Its unit id.
    pub unit: u8,
    /// What it is, which is also its template.
    pub model: Model,
    /// What it observes, by the part's name in the template; a device with one resource has one part with an empty name.
    pub resources: Vec<(String, String)>,
    /// Time from poll to poll, in milliseconds.
    pub poll_interval_ms: u32,
}

impl SiteFile {
    /// Starts with a broker on `localhost` and no bus; `configs` holds `directory` and `templates`.
    #[must_use]
    pub fn new(configs: &Path, data_dir: &Path, broker_port: u16, pki: &Pki) -> Self {
        Self {
            directory: configs.join("directory"),
            templates: configs.join("templates"),
            data_dir: data_dir.to_owned(),
            broker: BrokerEntry {
                host: "localhost".to_owned(),
                port: broker_port,
                ca: pki.ca.clone(),
                own: pki.gateway.clone(),
            },
            buffer: Vec::new(),
            buses: Vec::new(),
        }
    }

    /// Returns the file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let path = |path: &Path| quoted(&path.to_string_lossy());
        line(&mut out, "directory", &path(&self.directory));
        line(&mut out, "templates", &path(&self.templates));
        line(&mut out, "data_dir", &path(&self.data_dir));
        out.push_str("\n[gateway]\n");
        line(&mut out, "id", &quoted(&resource(GATEWAY.0, GATEWAY.1, GATEWAY.2)));
        out.push_str("\n[broker]\n");
        line(&mut out, "host", &quoted(&self.broker.host));
        line(&mut out, "port", &self.broker.port.to_string());
        line(&mut out, "ca", &path(&self.broker.ca));
        line(&mut out, "certificate", &path(&self.broker.own.certificate));
        line(&mut out, "key", &path(&self.broker.own.key));
        if !self.buffer.is_empty() {
            out.push_str("\n[buffer]\n");
            out.extend(self.buffer.iter().map(|setting| format!("{setting}\n")));
        }
        for bus in &self.buses {
            bus.write(&mut out);
        }
        out
    }
}

impl BusEntry {
    fn write(&self, out: &mut String) {
        out.push_str("\n[[bus]]\n");
        line(out, "name", &quoted(&self.name));
        match &self.link {
            LinkEntry::Serial { line: settings, late_reply_ms } => {
                line(out, "kind", "\"serial\"");
                line(out, "port", &quoted(&settings.path.to_string_lossy()));
                write_speed(out, settings, *late_reply_ms);
            }
            LinkEntry::RtuOverTcp { endpoint, line: settings, late_reply_ms } => {
                line(out, "kind", "\"rtu-over-tcp\"");
                match endpoint {
                    EndpointEntry::Connect(port) => {
                        line(out, "host", "\"127.0.0.1\"");
                        line(out, "port", &port.to_string());
                    }
                    EndpointEntry::Listen(port) => line(out, "listen", &quoted(&format!("127.0.0.1:{port}"))),
                }
                write_speed(out, settings, *late_reply_ms);
            }
            LinkEntry::Tcp { port } => {
                line(out, "kind", "\"tcp\"");
                line(out, "host", "\"127.0.0.1\"");
                line(out, "port", &port.to_string());
            }
        }
        line(out, "response_timeout_ms", &self.response_timeout_ms.to_string());
        out.extend(self.settings.iter().map(|setting| format!("{setting}\n")));
        for device in &self.devices {
            out.push_str("\n[[bus.device]]\n");
            line(out, "name", &quoted(&device.name));
            line(out, "unit", &device.unit.to_string());
            line(out, "template", &quoted(&device.model.to_string()));
            line(out, "poll_interval_ms", &device.poll_interval_ms.to_string());
            for (_, resource) in device.resources.iter().filter(|(part, _)| part.is_empty()) {
                line(out, "resource", &quoted(resource));
            }
            if device.resources.iter().any(|(part, _)| !part.is_empty()) {
                out.push_str("\n[bus.device.resources]\n");
            }
            for (part, resource) in device.resources.iter().filter(|(part, _)| !part.is_empty()) {
                line(out, part, &quoted(resource));
            }
        }
    }
}

fn write_speed(out: &mut String, settings: &LineSettings, late_reply_ms: u32) {
    let parity = match settings.parity {
        Parity::None => "none",
        Parity::Even => "even",
        Parity::Odd => "odd",
    };
    line(out, "baud", &settings.baud.to_string());
    line(out, "parity", &quoted(parity));
    line(out, "stop_bits", &settings.stop_bits.to_string());
    line(out, "late_reply_ms", &late_reply_ms.to_string());
}

/// Returns a template of the registers of a unit of [`Model::Named`]: one point for each address, with `vehicle_count.n`
/// as the property of address n - 1. `quirks` are further lines of its `[template]` section.
#[must_use]
pub fn named_template(model: Model, addresses: impl IntoIterator<Item = u16>, quirks: &[&str]) -> String {
    let mut out = String::from("[template]\n");
    line(&mut out, "name", &quoted(&model.to_string()));
    line(&mut out, "maker", "\"simulated\"");
    line(&mut out, "document", "\"hil-tests/src/site/unit.rs\"");
    out.extend(quirks.iter().map(|quirk| format!("{quirk}\n")));
    for address in addresses {
        out.push_str("\n[[point]]\n");
        line(&mut out, "property", &quoted(&named_property(address)));
        line(&mut out, "table", "\"holding\"");
        line(&mut out, "address", &address.to_string());
        line(&mut out, "type", "\"u16\"");
        line(&mut out, "unit", "\"1\"");
    }
    out
}

/// Returns the property of a register in [`named_template`].
#[must_use]
pub fn named_property(address: u16) -> String {
    format!("vehicle_count.{}", u32::from(address) + 1)
}

/// Returns the register that a property of [`named_template`] stands for.
#[must_use]
pub fn named_address(property: &str) -> Option<u16> {
    property.strip_prefix("vehicle_count.")?.parse::<u16>().ok()?.checked_sub(1)
}

/// Returns the city resource identifier of division, class and serial, with its check digits: all eighteen digits as one
/// number leave remainder 1 modulo 97 (ISO/IEC 7064 MOD 97-10).
#[must_use]
pub fn resource(division: u32, class: u16, serial: u32) -> String {
    let body = (u64::from(division) * 10_000 + u64::from(class)) * 1_000_000 + u64::from(serial);
    let check = 98 - body % 97 * 100 % 97;
    format!("{division:06}-{class:04}-{serial:06}-{check:02}")
}

fn line(out: &mut String, key: &str, value: &str) {
    out.push_str(&format!("{key} = {value}\n"));
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn identifiers_carry_the_check_digits_of_the_known_ones() {
        assert_eq!(resource(330_502, 103, 123), "330502-0103-000123-33");
        assert_eq!(resource(620_602, 9101, 7), "620602-9101-000007-05");
        assert_eq!(resource(330_902, 310, 4), "330902-0310-000004-95");
    }

    #[test]
    fn the_property_of_a_named_register_says_its_address() {
        let text = named_template(Model::Named { registers: 9 }, [3, 65_534], &["max_registers = 16"]);
        assert!(text.contains("name = \"named-9\"") && text.contains("max_registers = 16\n\n[[point]]\n"), "{text}");
        assert!(text.contains("property = \"vehicle_count.4\"\ntable = \"holding\"\naddress = 3\n"), "{text}");
        assert_eq!(
            [named_address(&named_property(3)), named_address(&named_property(65_534))],
            [Some(3), Some(65_534)]
        );
        assert_eq!([named_address("vehicle_count.0"), named_address("speed.1")], [None, None]);
    }

    #[test]
    fn a_file_holds_every_section_once_and_every_bus_and_device() {
        let folder = TempDir::new().expect("a temporary folder");
        let pki = Pki::create(folder.path()).expect("certificates");
        let mut file = SiteFile::new(Path::new("configs"), Path::new("data"), 8883, &pki);
        file.buffer.push("max_bytes = 65536".to_owned());
        let device = |name: &str| DeviceEntry {
            name: name.to_owned(),
            unit: 1,
            model: Model::FlowMeter,
            resources: vec![(String::new(), resource(330_502, 9305, 1)), ("lane1".to_owned(), "x".to_owned())],
            poll_interval_ms: 1000,
        };
        for (name, link) in [
            ("a\"b", LinkEntry::Tcp { port: 1502 }),
            (
                "line",
                LinkEntry::Serial {
                    line: LineSettings::new(Path::new("/dev/x"), 9600, Parity::Even, 1),
                    late_reply_ms: 100,
                },
            ),
            (
                "dtu",
                LinkEntry::RtuOverTcp {
                    endpoint: EndpointEntry::Listen(4001),
                    line: LineSettings::new(Path::new(""), 9600, Parity::Even, 1),
                    late_reply_ms: 100,
                },
            ),
        ] {
            let (name, devices) = (name.to_owned(), vec![device(name), device("other")]);
            let settings = vec!["retries = 0".to_owned()];
            file.buses.push(BusEntry { name, link, response_timeout_ms: 500, settings, devices });
        }
        let text = file.to_toml();
        let count = |what: &str| text.lines().filter(|line| *line == what).count();
        assert_eq!([count("[gateway]"), count("[broker]"), count("[buffer]")], [1, 1, 1]);
        assert_eq!([count("[[bus]]"), count("[[bus.device]]")], [3, 6]);
        assert_eq!([count("kind = \"serial\""), count("parity = \"even\""), count("port = 1502")], [1, 2, 1]);
        assert_eq!([count("listen = \"127.0.0.1:4001\""), count("retries = 0")], [1, 3]);
        assert_eq!([count("[bus.device.resources]"), count("lane1 = \"x\"")], [6, 6]);
        assert_eq!(count("name = \"a\\\"b\""), 2);
        assert_eq!(
            [count("template = \"ultrasonic-flow-meter\""), count("id = \"330502-9101-000001-31\"")],
            [6, 1],
            "{text}"
        );
    }
}
