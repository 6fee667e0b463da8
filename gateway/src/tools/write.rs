//! `ganglion write`: registers, coils, or a point of a device; read back unless told otherwise.

use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ganglion_drivers::bus::order::{Deed, Done, Write};
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::{Table, UnitId, ValueType, WordOrder};

use super::ask::{AskError, Way};
use super::device::{Found, find};
use super::line::LineError;
use super::read::address;
use super::trace::Watch;
use super::value::{OrderArg, TableArg, TypeArg, encode, hex, switch, type_name};
use super::{load_quietly, refuse, run, say};
use crate::site::{Bus, Scale, Site};

/// What to write, and where.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The site file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A device of the site.
    #[arg(long, value_name = "NAME", required_unless_present = "bus")]
    device: Option<String>,
    /// One point of the device; its value is in the property's unit.
    #[arg(requires = "device", conflicts_with_all = ["bus", "address"])]
    point: Option<String>,
    /// A bus of the site.
    #[arg(long, value_name = "NAME", conflicts_with = "device", requires_all = ["unit", "address"])]
    bus: Option<String>,
    /// Unit id on the bus; 0 is everybody and needs --broadcast.
    #[arg(long, requires = "bus")]
    unit: Option<u8>,
    /// Table on the unit: holding or coil.
    #[arg(long, value_enum, default_value = "holding")]
    table: TableArg,
    /// First address, from 0 as on the wire.
    #[arg(long, value_parser = address)]
    address: Option<u16>,
    /// One or more values, side by side: numbers, or on and off for coils.
    #[arg(long = "value", value_name = "VALUE", required = true, num_args = 1.., allow_negative_numbers = true)]
    values: Vec<String>,
    /// Type of the values.
    #[arg(long = "type", value_enum, default_value = "u16", conflicts_with = "point")]
    kind: TypeArg,
    /// Order of their bytes.
    #[arg(long, value_enum, default_value = "ABCD", ignore_case = true, conflicts_with = "point")]
    order: OrderArg,
    /// Write even one register or coil with the function for several (0x10, 0x0F).
    #[arg(long)]
    multiple: bool,
    /// Do not read back what was written.
    #[arg(long)]
    no_verify: bool,
    /// Unit 0 is meant: every unit of the line obeys, and none answers.
    #[arg(long)]
    broadcast: bool,
    /// Do not ask for confirmation on a terminal.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    watch: Watch,
}

/// A write that only has to be sent.
struct Plan<'a> {
    bus: &'a Bus,
    /// The device that is meant, if one was named.
    device: Option<Found<'a>>,
    unit: UnitId,
    write: Write,
    /// What it does, for people.
    what: String,
}

/// Writes and says what came of it.
#[must_use]
pub fn main(options: &Options) -> ExitCode {
    let site = match load_quietly(&options.config) {
        Ok(site) => site,
        Err(code) => return code,
    };
    let plan = match plan(options, &site) {
        Ok(plan) => plan,
        Err(message) => return refuse(message),
    };
    if plan.unit.0 == 0 && !options.broadcast {
        return refuse("unit 0 is every unit of the line: say --broadcast to mean it");
    }
    if io::stdin().is_terminal() && !options.yes && !confirmed(&plan) {
        return refuse("nothing was written");
    }
    run(carry_out(options, &site, plan))
}

fn confirmed(plan: &Plan<'_>) -> bool {
    let who = if plan.unit.0 == 0 { "EVERY unit".to_owned() } else { format!("unit {}", plan.unit) };
    eprint!("{} to {who} of bus {}? [y/N] ", plan.what, plan.bus.name);
    let mut answer = String::new();
    io::stderr().flush().is_ok()
        && io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn plan<'a>(options: &Options, site: &'a Site) -> Result<Plan<'a>, String> {
    let mut unit_name = None;
    let mut meant_device = None;
    let (bus, unit, table, address, kind, order, scale) = match (&options.device, &options.bus) {
        (Some(device), _) => {
            let found = find(site, device)?;
            meant_device = Some(found);
            match &options.point {
                None => {
                    let address = options.address.ok_or("say what: a point of the device, or --address")?;
                    let (kind, order) = (options.kind.into(), options.order.into());
                    (found.bus, found.device.unit, options.table.into(), address, kind, order, None)
                }
                Some(name) => {
                    let points = found.points(Some(name))?;
                    let [named] = points.as_slice() else {
                        return Err(format!("{name:?} is a point of {} resources: say RESOURCE/{name}", points.len()));
                    };
                    let point = named.point;
                    if !point.terms.is_empty() || matches!(point.value_type, ValueType::Bits(_)) {
                        return Err(format!(
                            "{name:?} is made of parts of registers: write the registers by --address"
                        ));
                    }
                    unit_name = Some(named.property.unit.clone());
                    let at = found.registers(named).ok_or("the point has no registers")?;
                    (
                        found.bus,
                        found.device.unit,
                        at.table,
                        at.address,
                        point.value_type,
                        point.word_order,
                        point.scale,
                    )
                }
            }
        }
        (None, Some(name)) => {
            let (unit, address) = options.unit.zip(options.address).ok_or("say where: --unit and --address")?;
            let (kind, order) = (options.kind.into(), options.order.into());
            (super::bus(site, name)?, UnitId(unit), options.table.into(), address, kind, order, None)
        }
        (None, None) => return Err("say where: --device, or --bus with --unit and --address".to_owned()),
    };
    let one = |values: usize| values == 1 && !options.multiple;
    let (write, shown) = match table {
        Table::Coil => {
            let on = |text: &String| switch(text).ok_or_else(|| format!("{text:?} is neither on nor off"));
            let states = options.values.iter().map(on).collect::<Result<Vec<bool>, String>>()?;
            let shown = states.iter().map(|&on| if on { "on" } else { "off" }).collect::<Vec<_>>().join(" ");
            (coils(address, &states, one(states.len()))?, shown)
        }
        Table::HoldingRegister => {
            let words = registers(&options.values, kind, order, scale)?;
            let meant = options.values.join(" ");
            let shown = match &unit_name {
                Some(unit) => format!("{} ({meant} {unit})", hex(&words)),
                None => format!("{} ({} {meant})", hex(&words), type_name(kind)),
            };
            match words.as_slice() {
                [value] if one(words.len()) => (Write::Register { address, value: *value }, shown),
                _ => (Write::Registers { address, values: words }, shown),
            }
        }
        Table::DiscreteInput | Table::InputRegister => {
            return Err(format!("the {} table can only be read", table.as_str()));
        }
    };
    let what = format!("write {} {address}: {shown}", table.as_str());
    Ok(Plan { bus, device: meant_device, unit, write, what })
}

fn coils(address: u16, states: &[bool], one: bool) -> Result<Write, String> {
    match states {
        [on] if one => Ok(Write::Coil { address, on: *on }),
        _ => Write::coils(address, states).ok_or_else(|| format!("{} coils do not fit one request", states.len())),
    }
}

fn registers(values: &[String], kind: ValueType, order: WordOrder, scale: Option<Scale>) -> Result<Vec<u16>, String> {
    let mut words = Vec::new();
    for value in values {
        match scale {
            None => words.extend(encode(value, kind, order)?),
            Some(scale) => {
                let number: f64 = value.parse().map_err(|_| format!("{value:?} is no number"))?;
                let bare = (number - scale.offset) * scale.divide / scale.multiply;
                let whole = !matches!(kind, ValueType::F32 | ValueType::F64);
                let rounded = if whole { bare.round() } else { bare };
                words.extend(encode(&rounded.to_string(), kind, order)?);
            }
        }
    }
    Ok(words)
}

async fn carry_out(options: &Options, site: &Site, plan: Plan<'_>) -> ExitCode {
    let Plan { bus, device, unit, write, what } = plan;
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
    let place = format!("unit {unit} of bus {}", bus.name);
    if let Some(found) = device
        && let Err(why) = right_device(&found, &mut way).await
    {
        eprintln!("{place}: nothing was written: {why}");
        return ExitCode::FAILURE;
    }
    let verify = !options.no_verify;
    let outcome = way.call(unit, Deed::Write { write, verify }, options.broadcast).await;
    match outcome {
        Ok(Done::Broadcast) => say(&format!("{place}: {what}; sent to every unit, and none answers\n")),
        Ok(_) if verify => say(&format!("{place}: {what}; confirmed and read back\n")),
        Ok(_) => say(&format!("{place}: {what}; confirmed, not read back\n")),
        Err(error) if error.is_refusal() => refuse(error),
        Err(error) => {
            let doubt = if may_be_written(&error) { "; whether it was carried out is not known" } else { "" };
            eprintln!("{place}: {what}: {error}{doubt}");
            ExitCode::FAILURE
        }
    }
}

/// Makes sure that a device that was named is the one at its unit id: a swapped cable must not have another one written to.
async fn right_device(found: &Found<'_>, way: &mut Way) -> Result<(), String> {
    match found.identity(way).await {
        Ok(None) => Ok(()),
        Ok(Some(words)) => Err(format!(
            "another device answers there, the identity register of {} holds {}; --bus and --unit write to it all the same",
            found.device.name,
            hex(&words)
        )),
        Err(error) => Err(format!("the identity register of {}: {error}", found.device.name)),
    }
}

/// A unit that does not answer may have obeyed all the same, one on which the wire was lost too.
fn may_be_written(error: &AskError) -> bool {
    match error.reason() {
        Some(reason) => !matches!(reason, Reason::Exception(_)),
        None => matches!(error, AskError::Line(LineError::Lost(_)) | AskError::Client(_)),
    }
}
