//! `ganglion read`: a device as the site means it, or bare registers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ganglion_drivers::bus::order::{Deed, Done};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::{UnitId, ValueType};
use ganglion_protocols::{Quality, Reason};
use serde_json::json;

use super::ask::{Way, reason_in_words};
use super::device::{Found, Value, find};
use super::trace::Watch;
use super::value::{OrderArg, TableArg, TypeArg, hex, json, text};
use super::{load_quietly, refuse, run, say};
use crate::acquire::learned::Learned;
use crate::site::Site;

/// What to read.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The site file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A device of the site; its points are shown as the site means them.
    #[arg(long, value_name = "NAME", required_unless_present = "bus")]
    device: Option<String>,
    /// One point of the device: a property such as pressure, or RESOURCE/PROPERTY.
    #[arg(requires = "device", conflicts_with = "bus")]
    point: Option<String>,
    /// A bus of the site, for bare registers.
    #[arg(long, value_name = "NAME", conflicts_with = "device", requires_all = ["unit", "address"])]
    bus: Option<String>,
    /// Unit id on the bus.
    #[arg(long, requires = "bus")]
    unit: Option<u8>,
    /// Table on the unit.
    #[arg(long, value_enum, default_value = "holding")]
    table: TableArg,
    /// First item, from 0 as on the wire.
    #[arg(long, requires = "bus", value_parser = super::read::address)]
    address: Option<u16>,
    /// Items; by default what one value of the type takes.
    #[arg(long, requires = "bus")]
    count: Option<u16>,
    /// Type of the values in the registers.
    #[arg(long = "type", value_enum, requires = "bus")]
    kind: Option<TypeArg>,
    /// Order of their bytes.
    #[arg(long, value_enum, default_value = "ABCD", ignore_case = true)]
    order: OrderArg,
    /// Show the registers too.
    #[arg(long)]
    raw: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    watch: Watch,
}

/// Reads an address as manuals write it: decimal, or hex with 0x.
///
/// # Errors
/// What is wrong.
pub(super) fn address(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| "an address is 0 to 65535, decimal or 0x…".to_owned())
}

/// Reads and prints.
#[must_use]
pub fn main(options: &Options) -> ExitCode {
    let site = match load_quietly(&options.config) {
        Ok(site) => site,
        Err(code) => return code,
    };
    run(async {
        match (&options.device, &options.bus) {
            (Some(device), _) => match find(&site, device) {
                Ok(found) => device_values(options, &found).await,
                Err(message) => refuse(message),
            },
            (None, Some(bus)) => bare(options, &site, bus).await,
            (None, None) => refuse("say which: --device, or --bus with --unit and --address"),
        }
    })
}

async fn device_values(options: &Options, found: &Found<'_>) -> ExitCode {
    let points = match found.points(options.point.as_deref()) {
        Ok(points) => points,
        Err(message) => return refuse(message),
    };
    let trace = match options.watch.trace() {
        Ok(trace) => trace,
        Err(message) => return refuse(message),
    };
    let mut way = match Way::find(found.site, found.bus, trace).await {
        Ok(way) => way,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    options.watch.explain(&way);
    let stranger = match found.identity(&mut way).await {
        Ok(stranger) => stranger,
        Err(error) if error.reason().is_none() => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        // The points say it too.
        Err(_) => None,
    };
    let values = match found.read(&mut way, &Learned::open(&found.site.data_dir), &points).await {
        Ok(values) => values,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(words) = &stranger {
        eprintln!(
            "another device answers at unit {}: its identity register holds {}; the daemon takes none of these values",
            found.device.unit,
            hex(words)
        );
    }
    let told = if options.json {
        let document = document(found, &way, &values, stranger.is_none());
        say(&format!("{document:#}\n"))
    } else {
        say(&table(found, &way, &values, options.raw))
    };
    let answered = values.iter().all(|value| !unanswered(value.reading.quality));
    if answered && stranger.is_none() { told } else { ExitCode::FAILURE }
}

/// Says whether there was no usable answer; a value the device itself marks as missing is one.
fn unanswered(quality: Quality) -> bool {
    !matches!(quality.reason(), None | Some(Reason::Missing | Reason::OutOfRange | Reason::NotAValue))
}

fn table(found: &Found<'_>, way: &Way, values: &[Value<'_>], raw: bool) -> String {
    let device = found.device;
    let mut out = format!(
        "{}  unit {} of bus {}, {}; {}\n",
        device.name,
        device.unit,
        found.bus.name,
        device.template,
        way.describe()
    );
    let mut resource = None;
    let column = |of: fn(&Value<'_>) -> usize| values.iter().map(of).max().unwrap_or(0);
    let (name, number) = (column(|value| value.named.property.name.len()), column(|value| shown(value).len()));
    for value in values {
        let property = value.named.property;
        if resource != Some(value.named.stream.resource) {
            resource = Some(value.named.stream.resource);
            out.push_str(&format!("{}\n", value.named.stream.resource));
        }
        let quality = match value.reading.quality {
            Quality::Good => "good".to_owned(),
            Quality::Uncertain(reason) => format!("uncertain, {}", reason_in_words(reason)),
            Quality::Bad(reason) => format!("bad, {}", reason_in_words(reason)),
        };
        let unit = if property.unit == "1" { "" } else { &property.unit };
        out.push_str(&format!("  {:<name$}  {:>number$} {unit:<8} {quality}\n", property.name, shown(value)));
        if raw {
            let ReadRequest { table, address, .. } = value.at;
            out.push_str(&format!("  {:<name$}  {} {address}: {}\n", "", table.as_str(), hex(&value.words)));
        }
    }
    out
}

fn shown(value: &Value<'_>) -> String {
    value.reading.value.map_or_else(|| "-".to_owned(), text)
}

fn document(found: &Found<'_>, way: &Way, values: &[Value<'_>], right_device: bool) -> serde_json::Value {
    let point = |value: &Value<'_>| {
        json!({
            "resource": value.named.stream.resource,
            "property": value.named.property.name,
            "unit": value.named.property.unit,
            "value": value.reading.value.map(json),
            "quality": value.reading.quality.as_str(),
            "reason": value.reading.quality.reason().map(|reason| reason.to_string()),
            "table": value.at.table.as_str(),
            "address": value.at.address,
            "registers": value.words,
        })
    };
    json!({
        "bus": found.bus.name,
        "device": found.device.name,
        "unit": found.device.unit.0,
        "template": found.device.template,
        "through_daemon": matches!(way, Way::Daemon { .. }),
        "right_device": right_device,
        "points": values.iter().map(point).collect::<Vec<_>>(),
    })
}

async fn bare(options: &Options, site: &Site, name: &str) -> ExitCode {
    let bus = match super::bus(site, name) {
        Ok(bus) => bus,
        Err(message) => return refuse(message),
    };
    let (Some(unit), Some(address)) = (options.unit, options.address) else {
        return refuse("bare registers need --unit and --address");
    };
    let kind = options.kind.map(ValueType::from);
    let count = options.count.unwrap_or_else(|| kind.map_or(1, ValueType::registers));
    let request = ReadRequest { table: options.table.into(), address, count };
    if kind.is_some() && request.table.is_bits() {
        return refuse("coils and discrete inputs have no --type: they are on or off");
    }
    if let Some(kind) = kind.filter(|kind| !count.is_multiple_of(kind.registers())) {
        return refuse(format!("{count} registers do not divide into values of {} registers", kind.registers()));
    }
    let trace = match options.watch.trace() {
        Ok(trace) => trace,
        Err(message) => return refuse(message),
    };
    let mut way = match Way::find(site, bus, trace).await {
        Ok(way) => way,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    options.watch.explain(&way);
    match way.call(UnitId(unit), Deed::Read(request), false).await {
        Ok(Done::Items(items)) if options.json => {
            let values =
                kind.map(|kind| decoded(&items, kind, options.order).map(|(_, value)| value).collect::<Vec<_>>());
            let document = json!({
                "bus": bus.name, "unit": unit, "table": request.table.as_str(), "address": address,
                "items": items, "values": values,
                "through_daemon": matches!(way, Way::Daemon { .. }),
            });
            say(&format!("{document:#}\n"))
        }
        Ok(Done::Items(items)) => {
            let head = format!("unit {unit} of bus {}; {}\n", bus.name, way.describe());
            say(&(head + &listing(request, &items, kind, options.order)))
        }
        Ok(_) => {
            eprintln!("the answer is none to a read");
            ExitCode::FAILURE
        }
        Err(error) if error.is_refusal() => refuse(error),
        Err(error) => {
            eprintln!("unit {unit} of bus {}: {error}", bus.name);
            ExitCode::FAILURE
        }
    }
}

/// Decodes one value after the other; what is none of its type is `None`.
fn decoded(
    items: &[u16],
    kind: ValueType,
    order: OrderArg,
) -> impl Iterator<Item = (&[u16], Option<serde_json::Value>)> {
    items.chunks_exact(usize::from(kind.registers())).map(move |words| {
        let value = kind.decode(words, order.into()).ok();
        (words, value.map(|raw| json(raw.value)))
    })
}

/// Lists items with their addresses: bits and plain registers several to a line, values one to a line.
pub(super) fn listing(request: ReadRequest, items: &[u16], kind: Option<ValueType>, order: OrderArg) -> String {
    let name = request.table.as_str();
    let mut out = String::new();
    let mut address = u32::from(request.address);
    let mut line = |address: u32, rest: &str| out.push_str(&format!("  {name:<8} {address:>5}  {rest}\n"));
    match kind {
        Some(kind) => {
            for words in items.chunks_exact(usize::from(kind.registers())) {
                let value = match kind.decode(words, order.into()) {
                    Ok(raw) => text(raw.value),
                    Err(error) => format!("no value: {error}"),
                };
                line(address, &format!("{:<20} {value}", hex(words)));
                address += u32::from(kind.registers());
            }
        }
        None if request.table.is_bits() => {
            for bits in items.chunks(16) {
                line(address, &bits.iter().map(|bit| if *bit == 0 { " 0" } else { " 1" }).collect::<String>());
                address += 16;
            }
        }
        None => {
            for words in items.chunks(8) {
                let numbers: Vec<String> = words.iter().map(|word| format!("{word:>5}")).collect();
                line(address, &format!("{:<40} {}", hex(words), numbers.join(" ")));
                address += 8;
            }
        }
    }
    out
}
