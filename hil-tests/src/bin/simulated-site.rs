//! Runs a simulated site until it is told to quit or its standard input ends.
//!
//! When everything listens it prints one JSON line `{"lines":[…],"ports":[…]}`. Then it takes commands, one a line, and
//! answers each with one line:
//!
//! | command | what it does |
//! |---|---|
//! | `fault <bus> <unit> <fault> <share>` | lets a fault happen to that share of the unit's answers |
//! | `late <bus> <unit> <ms>` | how late a late answer is |
//! | `clear` | ends all faults; defects and bit errors stay |
//! | `dead <bus> <unit> <yes or no>` | lets the unit answer nothing, or answer again |
//! | `hole <bus> <unit> <first> <last>` | takes holding registers away: exception 0x02 |
//! | `longest <bus> <unit> <registers> <code>` | refuses longer reads with that exception; code 0 is silence |
//! | `noise <line> <share>` | flips that share of the bits of a line |
//! | `unplug <bus>`, `plug <bus>` | takes a bus away, brings it back |
//! | `counts` | what happened so far, as JSON |
//! | `quit` | ends |
//!
//! Buses are numbered from 0: first the lines, then the TCP endpoints, in the order of the command line.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ganglion_hil::site::{Endpoint, Host, Line, LineSettings, Refusal, Table, Unit};

/// Modbus servers whose values follow a day.
#[derive(Parser)]
#[command(after_help = "\
Models: pressure-transmitter, ultrasonic-flow-meter, water-level-gauge, loop-detector-controller, or
  bench-1000 and named-1000 for units of 1000 registers.

Commands on standard input, one a line; it ends with its standard input:
  fault BUS UNIT FAULT SHARE   that share of the answers is: drop, late, flip, garbage, echo, wrong-unit,
                               wrong-length, truncated, exception, wrong-transaction
  late BUS UNIT MS             how late a late answer is
  clear                        ends all faults
  dead BUS UNIT yes|no         the unit answers nothing, or answers again
  hole BUS UNIT FIRST LAST     takes holding registers away
  longest BUS UNIT REGISTERS CODE   refuses longer reads with that exception; 0 is silence
  noise LINE SHARE             flips that share of the bits of a line
  unplug BUS, plug BUS         takes a bus away, brings it back
  counts                       what happened so far, as JSON
  quit
Buses are numbered from 0: first the lines, then the TCP endpoints.

A line is a pseudo-terminal: it answers at whatever speed and parity it is opened.")]
struct Options {
    /// A serial line: PATH,BAUD,PARITY,STOP,UNIT:MODEL,… such as /tmp/line,9600,E,1,1:pressure-transmitter
    #[arg(long = "line", value_name = "LINE")]
    lines: Vec<String>,
    /// A TCP endpoint on 127.0.0.1: PORT,UNIT:MODEL,… such as 1502,1:bench-1000; port 0 takes a free one
    #[arg(long = "tcp", value_name = "ENDPOINT")]
    endpoints: Vec<String>,
    /// Which course the values take, and which faults happen
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

struct Site {
    host: Host,
    lines: Vec<Line>,
    endpoints: Vec<Endpoint>,
    /// The units of each bus.
    units: Vec<Vec<Arc<Unit>>>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulated-site: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let site = Site::start(options)?;
    let mut out = io::stdout().lock();
    let paths: Vec<_> = site.lines.iter().map(|line| line.path().to_string_lossy()).collect();
    let ports: Vec<_> = site.endpoints.iter().map(Endpoint::port).collect();
    writeln!(out, "{}", serde_json::json!({"lines": paths, "ports": ports}))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => {}
            ["quit"] => break,
            words => match site.command(words) {
                Ok(answer) => writeln!(out, "{answer}")?,
                Err(error) => writeln!(out, "error: {error}")?,
            },
        }
    }
    Ok(())
}

impl Site {
    fn start(options: &Options) -> Result<Self, Box<dyn Error>> {
        let mut site = Self { host: Host::start()?, lines: Vec::new(), endpoints: Vec::new(), units: Vec::new() };
        for text in &options.lines {
            let parts: Vec<&str> = text.split(',').collect();
            let [path, baud, parity, stop_bits, units @ ..] = parts.as_slice() else {
                return Err(format!("--line {text}: PATH,BAUD,PARITY,STOP,UNIT:MODEL is needed").into());
            };
            let settings = LineSettings::new(Path::new(path), baud.parse()?, parity.parse()?, stop_bits.parse()?);
            let units = make_units(units, options.seed)?;
            site.lines.push(Line::start(settings, units.clone())?);
            site.units.push(units);
        }
        for text in &options.endpoints {
            let parts: Vec<&str> = text.split(',').collect();
            let [port, units @ ..] = parts.as_slice() else {
                return Err(format!("--tcp {text}: PORT,UNIT:MODEL is needed").into());
            };
            let units = make_units(units, options.seed)?;
            site.endpoints.push(site.host.listen(port.parse()?, units.clone())?);
            site.units.push(units);
        }
        Ok(site)
    }

    fn command(&self, words: &[&str]) -> Result<String, Box<dyn Error>> {
        match *words {
            ["fault", bus, unit, fault, share] => self.unit(bus, unit)?.faults.set(fault.parse()?, share.parse()?),
            ["late", bus, unit, ms] => self.unit(bus, unit)?.faults.set_late(Duration::from_millis(ms.parse()?)),
            ["dead", bus, unit, "yes"] => self.unit(bus, unit)?.defects.set_dead(true),
            ["dead", bus, unit, "no"] => self.unit(bus, unit)?.defects.set_dead(false),
            ["hole", bus, unit, first, last] => {
                self.unit(bus, unit)?.defects.add_hole(Table::Holding, first.parse()?..=last.parse()?);
            }
            ["longest", bus, unit, registers, code] => {
                let refusal = match code.parse()? {
                    0 => Refusal::Silence,
                    code => Refusal::Exception(code),
                };
                self.unit(bus, unit)?.defects.set_longest(registers.parse()?, refusal);
            }
            ["noise", line, share] => {
                self.lines.get(line.parse::<usize>()?).ok_or("no such line")?.noise().set(share.parse()?);
            }
            ["clear"] => self.units.iter().flatten().for_each(|unit| unit.faults.clear()),
            ["unplug", bus] => self.plug(bus, false)?,
            ["plug", bus] => self.plug(bus, true)?,
            ["counts"] => return Ok(self.counts().to_string()),
            _ => return Err("no such command".into()),
        }
        Ok("ok".to_owned())
    }

    fn unit(&self, bus: &str, unit: &str) -> Result<&Unit, Box<dyn Error>> {
        let id: u8 = unit.parse()?;
        let units = self.units.get(bus.parse::<usize>()?).ok_or("no such bus")?;
        Ok(units.iter().find(|unit| unit.id == id).ok_or("no such unit")?)
    }

    fn plug(&self, bus: &str, plugged: bool) -> Result<(), Box<dyn Error>> {
        let bus: usize = bus.parse()?;
        match (self.lines.get(bus), bus.checked_sub(self.lines.len()).and_then(|place| self.endpoints.get(place))) {
            (Some(line), _) if plugged => line.plug()?,
            (Some(line), _) => line.unplug()?,
            (None, Some(endpoint)) if plugged => endpoint.plug()?,
            (None, Some(endpoint)) => endpoint.unplug(),
            (None, None) => return Err("no such bus".into()),
        }
        Ok(())
    }

    fn counts(&self) -> serde_json::Value {
        let faults = |unit: &Unit| -> serde_json::Map<String, serde_json::Value> {
            unit.faults.counts().into_iter().map(|(fault, count)| (fault.to_string(), count.into())).collect()
        };
        let lines = self.lines.iter().map(|line| {
            let counts = line.counts();
            serde_json::json!({
                "requests": counts.requests, "strangers": counts.strangers, "malformed": counts.malformed,
                "collisions": counts.collisions, "heard": counts.heard, "sent": counts.sent,
                "hit_bits": counts.hit_bits, "hasty": counts.hasty,
                "good": counts.good, "good_time_s": counts.good_time.as_secs_f64(),
            })
        });
        let endpoints = self.endpoints.iter().map(|endpoint| serde_json::json!({"requests": endpoint.requests()}));
        let buses = lines.chain(endpoints).zip(&self.units).map(|(mut bus, units)| {
            let faults: serde_json::Map<_, _> =
                units.iter().map(|unit| (unit.id.to_string(), faults(unit).into())).collect();
            bus["faults"] = faults.into();
            bus
        });
        buses.collect()
    }
}

fn make_units(texts: &[&str], seed: u64) -> Result<Vec<Arc<Unit>>, Box<dyn Error>> {
    let unit = |text: &&str| {
        let (id, model) = text.split_once(':').ok_or_else(|| format!("{text:?} is not UNIT:MODEL"))?;
        Ok(Unit::new(id.parse()?, model.parse()?, seed))
    };
    texts.iter().map(unit).collect()
}
