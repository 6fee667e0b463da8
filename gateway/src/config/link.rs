//! The wire of a bus: a serial port, a Modbus TCP server, or a serial server on the network.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::build::millis;
use super::keys::Table;
use super::report::{Findings, Place};
use crate::site::{Endpoint, LineSpeed, Link, Parity, Rs485, SerialLink};

/// Takes the keys of a bus that say how it is reached.
pub(super) fn link(findings: &mut Findings, table: &Table, folder: &Path) -> Option<Link> {
    match table.text("kind")?.value {
        "tcp" => Some(Link::Tcp { host: table.text("host")?.value.to_owned(), port: table.number("port")? }),
        "rtu-over-tcp" => {
            let endpoint = tcp_endpoint(findings, table);
            Some(Link::RtuOverTcp { endpoint: endpoint?, speed: speed(table)? })
        }
        _ => serial(findings, table, folder).map(Link::Serial),
    }
}

fn serial(findings: &mut Findings, table: &Table, folder: &Path) -> Option<SerialLink> {
    let port = table.text("port")?;
    let unstable = ["/dev/ttyUSB", "/dev/ttyACM"].iter().any(|prefix| port.value.starts_with(prefix));
    if unstable {
        findings
            .warning(port.place, format!("{} may be another line after the next start", port.value))
            .help("name the port by /dev/serial/by-path/…, which stays with the socket it is plugged into");
    }
    let rs485 = table.table("rs485").map(|table| {
        Some(Rs485 {
            rts_on_send: table.flag("rts_on_send"),
            delay_before_send: millis(table, "delay_before_send_ms")?,
            delay_after_send: millis(table, "delay_after_send_ms")?,
            rx_during_tx: table.flag("rx_during_tx"),
        })
    });
    let rs485 = match rs485 {
        Some(read) => Some(read?),
        None => None,
    };
    Some(SerialLink {
        path: folder.join(port.value),
        speed: speed(table)?,
        rs485,
        low_latency: table.flag("low_latency"),
    })
}

fn speed(table: &Table) -> Option<LineSpeed> {
    let parity = match table.text("parity")?.value {
        "none" => Parity::None,
        "odd" => Parity::Odd,
        _ => Parity::Even,
    };
    Some(LineSpeed { baud: table.number("baud")?, parity, stop_bits: table.number("stop_bits")? })
}

/// Takes `host` and `port`, or `listen`, and not both.
fn tcp_endpoint(findings: &mut Findings, table: &Table) -> Option<Endpoint> {
    let ways =
        "`host` and `port` when the gateway calls the serial server, `listen` when the serial server calls the gateway";
    match (table.text("host"), table.text("listen")) {
        (Some(host), Some(listen)) => {
            findings
                .error(listen.place, "a bus has `host` or `listen`, not both")
                .other(host.place, "it is called here")
                .help(ways);
            None
        }
        (Some(host), None) => {
            if table.lacks("port") {
                findings.error(host.place, "`host` needs `port`").help("`port`: the TCP port of the serial server");
            }
            table.number("port").map(|port| Endpoint::Connect { host: host.value.to_owned(), port })
        }
        (None, Some(listen)) => {
            if table.get("port").is_some() {
                findings
                    .error(table.place_of("port"), "`port` belongs to `host`")
                    .help("`listen` holds its port: \"127.0.0.1:9000\"");
                return None;
            }
            let Some(address) = listen.value.parse::<SocketAddr>().ok().filter(|address| address.port() != 0) else {
                findings
                    .error(listen.place, format!("{:?} is no address and port to listen at", listen.value))
                    .help("such as \"127.0.0.1:9000\", or \"0.0.0.0:9000\" for every network of this machine");
                return None;
            };
            if !address.ip().is_loopback() {
                let ip = address.ip();
                let at = if ip.is_unspecified() {
                    "on every network of this machine".to_owned()
                } else {
                    format!("at {ip}")
                };
                findings.warning(listen.place, format!("this opens TCP port {} {at}", address.port())).help(
                    "whoever reaches it can answer for the units of this bus: let the firewall admit the serial \
                         server alone",
                );
            }
            Some(Endpoint::Listen { address })
        }
        (None, None) => {
            if table.lacks("host") && table.lacks("listen") {
                findings.error(table.place, "[[bus]] needs `host` or `listen`").help(ways);
            }
            None
        }
    }
}

/// Returns what two buses may not share, and where it is said.
pub(super) fn endpoint(table: &Table, link: &Link) -> Option<(String, Place)> {
    match link {
        Link::Tcp { host, port } | Link::RtuOverTcp { endpoint: Endpoint::Connect { host, port }, .. } => {
            Some((format!("{}:{port}", host.to_lowercase()), table.text("host")?.place))
        }
        Link::RtuOverTcp { endpoint: Endpoint::Listen { address }, .. } => {
            Some((format!("TCP port {} of this machine", address.port()), table.text("listen")?.place))
        }
        Link::Serial(serial) => Some((shown(&serial.path), table.text("port")?.place)),
    }
}

fn shown(path: &Path) -> String {
    PathBuf::from_iter(path.components()).display().to_string()
}
