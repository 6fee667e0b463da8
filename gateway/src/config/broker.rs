//! The city brain's broker, its alternatives, and what is shown and spoken to them.

use std::path::Path;
use std::time::Duration;

use ganglion_protocols::Cri;

use super::build::millis;
use super::files::Credentials;
use super::keys::{Item, Table};
use super::report::{At, Findings, Place};
use crate::site::{Address, BrokerSettings, MqttVersion};

/// Takes `[broker]`; the gateway's identifier stands in for a client identifier that is left out.
pub(super) fn broker(
    findings: &mut Findings,
    table: &Table,
    folder: &Path,
    gateway: Option<Cri>,
) -> Option<BrokerSettings> {
    let path = |key: &str| table.text(key).map(|at| At { value: folder.join(at.value), place: at.place });
    let credentials = Credentials { ca: path("ca"), certificate: path("certificate"), key: path("key") };
    credentials.check(findings);
    let (min, max) = (table.integer("retry_min_ms"), table.integer("retry_max_ms"));
    if let (Some(min), Some(max)) = (&min, &max)
        && min.value > max.value
    {
        let message = format!("`retry_min_ms` is {}, above `retry_max_ms`, which is {}", min.value, max.value);
        findings.error(min.place, message);
    }
    let preferred =
        table.text("host").and_then(|host| Some(Address { host: host.value.to_owned(), port: table.number("port")? }));
    let alternatives = alternatives(findings, table, preferred.as_ref());
    let client_id = table.text("client_id").map(|at| at.value.to_owned()).or_else(|| gateway.map(|id| id.to_string()));
    let mqtt = match table.text("mqtt")?.value {
        "3.1.1" => MqttVersion::V4,
        _ => MqttVersion::V5,
    };
    if mqtt == MqttVersion::V4 && table.get("user_properties").is_some() {
        findings
            .warning(table.place_of("user_properties"), "MQTT 3.1.1 has no user properties: they are not sent")
            .help("leave them out, or say `mqtt = \"5\"` if the broker speaks it");
    }
    let user_properties = table.map("user_properties").iter().filter_map(|(name, at)| match at {
        Some(At { value: Item::Text(text), .. }) => Some((name.value.clone(), text.clone())),
        _ => None,
    });
    let Address { host, port } = preferred?;
    Some(BrokerSettings {
        host,
        port,
        alternatives,
        fail_back: seconds(table, "fail_back_s")?,
        mqtt,
        ca: credentials.ca?.value,
        certificate: credentials.certificate?.value,
        key: credentials.key?.value,
        certificate_check: seconds(table, "certificate_check_s")?,
        client_id: client_id?,
        keep_alive: seconds(table, "keep_alive_s")?,
        retry: (millis(table, "retry_min_ms")?, millis(table, "retry_max_ms")?),
        max_payload: table.number("max_payload_bytes")?,
        backfill_percent: table.number("backfill_share_percent")?,
        backfill_max_per_s: table.number("backfill_max_per_s")?,
        user_properties: user_properties.collect(),
    })
}

fn seconds(table: &Table, key: &str) -> Option<Duration> {
    table.number(key).map(Duration::from_secs)
}

fn alternatives(findings: &mut Findings, table: &Table, preferred: Option<&Address>) -> Vec<Address> {
    let mut seen: Vec<(Address, Place)> =
        preferred.map(|address| (address.clone(), table.place_of("host"))).into_iter().collect();
    let mut alternatives = Vec::new();
    for at in table.list("alternatives") {
        let Item::Text(text) = &at.value else { continue };
        let Some(address) = address(text) else {
            findings
                .error(at.place, format!("{text:?} is no host and port"))
                .help("such as \"broker-2.example.city:8883\"");
            continue;
        };
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == address) {
            findings.error(at.place, format!("{address} is there twice")).other(*first, "the first is here");
            continue;
        }
        seen.push((address.clone(), at.place));
        alternatives.push(address);
    }
    alternatives
}

fn address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port != 0)?;
    let whole = !host.is_empty() && !host.contains(|c: char| c == ':' || c.is_whitespace());
    whole.then(|| Address { host: host.to_owned(), port })
}
