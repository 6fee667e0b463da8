//! `ganglion scan`: who is on this line, at which speed, and what is it?
//!
//! A line may be in use. So it is listened to first, at every speed if anything is heard, and nothing is asked where
//! somebody else talks; between two questions the line is silent, a question is one read of one register, and when
//! another client's request is heard the scan ends. An exception is an answer; bytes that are no frame are a hint that
//! the speed is wrong, and no find. Ctrl-C ends the scan after the question under way, with what was found so far.
//!
//! | file | what it owns |
//! |---|---|
//! | `options.rs` | where, how, in which order |
//! | `probe.rs` | one question |
//! | `who.rs` | what a unit says of itself, its longest request |
//! | `naming.rs` | which template fits |
//! | `report.rs` | progress, text, TOML, JSON |

mod naming;
mod options;
mod probe;
mod report;
mod who;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ganglion_protocols::modbus::pdu::Request;
use ganglion_protocols::modbus::{ExceptionCode, Table, UnitId};

pub use self::options::Options;
use self::options::Task;
pub(in crate::tools) use self::options::{ParityArg, host_port, serial};
use self::probe::{Heard, Overheard, Prober};
use self::report::Progress;
use super::line::open;
use super::node::{self, Node};
use super::plan::speed;
use super::{load_quietly, refuse, run, say, with_causes};
use crate::acquire::settings::framing;
use crate::acquire::trace::Trace;
use crate::config::{self, Signature};
use crate::site::{Link, Site};

/// How long each speed is listened to when somebody talks.
const OVERHEAR: Duration = Duration::from_millis(1500);

/// On TCP, so many units in a row that answer are one that does not look at unit ids.
const ONE_FOR_ALL: usize = 8;

/// What a scan found.
#[derive(Clone, PartialEq, Debug, Default)]
struct Findings {
    /// How the wire was open when somebody answered, or the last one tried.
    link: Option<Link>,
    units: Vec<Unit>,
    /// What a person should know beside the units.
    remarks: Vec<String>,
    /// Nothing was asked, or not everything.
    incomplete: bool,
    /// What was asked is behind a network connection.
    network: bool,
    /// No templates were there to compare with.
    without_templates: bool,
    /// Sensor nodes, which are among the units, too.
    nodes: Vec<Node>,
}

/// A unit that answers.
#[derive(Clone, PartialEq, Debug)]
struct Unit {
    unit: u8,
    /// The question it answered.
    table: Table,
    /// How it answered, if not as asked.
    refused: Option<ExceptionCode>,
    turnaround: Option<Duration>,
    who: who::Who,
    limits: Option<who::Limits>,
    names: Vec<naming::Fit>,
    /// Its name in the site file, if it has one.
    known: Option<String>,
}

/// Why a scan stopped before its end.
enum Stopped {
    /// A person wants it.
    Asked,
    /// Another client talks.
    Foreign,
    /// The wire is lost.
    Lost(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Scans and prints.
#[must_use]
pub fn main(options: &Options) -> ExitCode {
    let site = match &options.config {
        None => None,
        Some(path) => match load_quietly(path) {
            Ok(site) => Some(site),
            Err(code) => return code,
        },
    };
    let signatures = match (&options.config, &options.templates) {
        (Some(path), _) => config::signatures_of_site(path),
        (None, Some(folder)) => config::signatures(folder, options.directory.as_deref()),
        (None, None) => Vec::new(),
    };
    let known = known_units(site.as_ref(), options);
    let numbers: Vec<u8> = known.iter().map(|(unit, _)| *unit).collect();
    let task = match options.task(&numbers) {
        Ok(task) => task,
        Err(message) => return refuse(message),
    };
    let trace = match options.watch.trace() {
        Ok(trace) => trace,
        Err(message) => return refuse(message),
    };
    let found = Findings {
        network: task.links.iter().all(|link| !matches!(link, Link::Serial(_))),
        without_templates: signatures.is_empty(),
        ..Findings::default()
    };
    run(async {
        let scan = Scan {
            task,
            signatures,
            known,
            limits: options.limits,
            nodes: options.nodes,
            trace,
            stop: Arc::default(),
            spoiled: Vec::new(),
            found,
            progress: Progress::new(),
        };
        let (found, opened) = scan.run().await;
        if let Err(error) = opened {
            let holder = if error.kind() == io::ErrorKind::ResourceBusy {
                "; a port has one owner: stop it, or ask through the daemon with `ganglion read`"
            } else {
                ""
            };
            eprintln!("{}{holder}", with_causes(&error));
            if found.units.is_empty() {
                return ExitCode::FAILURE;
            }
        }
        let told = if options.json { say(&format!("{:#}\n", found.json())) } else { say(&found.text()) };
        if found.units.is_empty() { ExitCode::FAILURE } else { told }
    })
}

/// Returns the units that a site file has on the same port.
fn known_units(site: Option<&Site>, options: &Options) -> Vec<(u8, String)> {
    let Some(site) = site else { return Vec::new() };
    let here = |link: &Link| matches!(link, Link::Serial(link) if Some(&link.path) == options.port());
    let buses = site.buses.iter().filter(|bus| here(&bus.link));
    let devices = buses.flat_map(|bus| &bus.devices).filter_map(|id| site.devices.get(id.0));
    devices.map(|device| (device.unit.0, device.name.clone())).collect()
}

struct Scan {
    task: Task,
    signatures: Vec<Signature>,
    known: Vec<(u8, String)>,
    limits: bool,
    nodes: bool,
    trace: Trace,
    stop: Arc<AtomicBool>,
    /// Units for which something came that is no answer, at the speed that is tried now.
    spoiled: Vec<u8>,
    found: Findings,
    progress: Progress,
}

impl Scan {
    /// Scans until everything is asked, or something ends it. An error says that the wire could not be opened, or why it
    /// was lost.
    async fn run(mut self) -> (Findings, io::Result<()>) {
        let stop = Arc::clone(&self.stop);
        let signals = tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if stop.swap(true, Ordering::Relaxed) {
                    // The second time it is meant.
                    std::process::exit(130);
                }
                eprintln!("\nending after the question under way");
            }
        });
        let ended = match self.look().await {
            Ok(()) => self.look_for_nodes().await,
            stopped => stopped,
        };
        signals.abort();
        self.progress.clear();
        let result = match ended {
            Ok(()) => Ok(()),
            Err(Stopped::Asked) => {
                self.found.incomplete = true;
                self.found.remarks.push("ended by Ctrl-C: not everything was asked".to_owned());
                Ok(())
            }
            Err(Stopped::Foreign) => {
                self.found.incomplete = true;
                self.found.remarks.push(
                    "another client asks on this line: the scan ended so as not to disturb it; --force goes on"
                        .to_owned(),
                );
                Ok(())
            }
            Err(Stopped::Lost(error)) => Err(error),
        };
        (self.found, result)
    }

    async fn look(&mut self) -> Result<(), Stopped> {
        if let Some(first) = self.task.links.first().cloned() {
            self.overhear(&first).await?;
        }
        if self.found.incomplete {
            return Ok(());
        }
        let (likely, rest) = (self.task.likely.clone(), self.task.rest.clone());
        let links = self.task.links.clone();
        let tries = links.len() * (likely.len() + rest.len());
        self.progress.expect(tries);
        for (units, others) in [(&likely, &rest), (&rest, &Vec::new())] {
            for link in &links {
                if units.is_empty() {
                    continue;
                }
                let mut prober = self.open(link).await?;
                self.try_units(&mut prober, link, units).await?;
                if !self.found.units.is_empty() {
                    self.found.link = Some(link.clone());
                    // What other speeds made of the line says nothing any more.
                    self.found.remarks.clear();
                    self.progress.expect(others.len() + units.len());
                    self.progress.skip(units.len());
                    self.try_units(&mut prober, link, others).await?;
                    self.late_remark(&prober);
                    self.spoiled_remark(link);
                    return self.study(&mut prober).await;
                }
                self.late_remark(&prober);
                self.spoiled_remark(link);
            }
        }
        Ok(())
    }

    /// Asks the sensor nodes who they are, at the speed at which somebody answered.
    async fn look_for_nodes(&mut self) -> Result<(), Stopped> {
        let link = self.found.link.clone().filter(|link| !matches!(link, Link::Tcp { .. }));
        let Some(link) = link.filter(|_| self.nodes && !self.found.incomplete) else { return Ok(()) };
        self.progress.say_over("asking sensor nodes who they are");
        let (nodes, remarks) = node::for_scan(&link, self.task.patience, self.trace.clone()).await?;
        self.found.nodes = nodes;
        self.found.remarks.extend(remarks);
        Ok(())
    }

    async fn open(&self, link: &Link) -> io::Result<Prober> {
        let wire = open(link).await?;
        let (framing, _) = framing(link, self.task.patience);
        Ok(Prober::new(wire, framing, self.task.patience, self.trace.clone()))
    }

    /// Listens before anything is asked. Where somebody talks, finds out how.
    async fn overhear(&mut self, first: &Link) -> Result<(), Stopped> {
        let listen = self.task.listen;
        // A server that takes one call at a time may not take the second one soon after.
        if listen.is_zero() || matches!(first, Link::Tcp { .. }) {
            return Ok(());
        }
        let mut prober = self.open(first).await?;
        self.progress.say(&format!("listening for {} ms", listen.as_millis()));
        let heard = prober.listen(listen).await?;
        drop(prober);
        if heard.bytes == 0 {
            return Ok(());
        }
        self.progress.say("somebody talks on the line; listening at each speed");
        let mut best: Option<(Link, Overheard)> = (!heard.frames.is_empty()).then(|| (first.clone(), heard));
        for link in self.task.links.clone() {
            if best.is_some() || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let heard = self.open(&link).await?.listen(OVERHEAR).await?;
            if !heard.frames.is_empty() {
                best = Some((link, heard));
            }
        }
        match best {
            Some((link, heard)) => {
                let how = match &link {
                    Link::Serial(link) => format!(" at {}", speed(link.speed)),
                    _ => String::new(),
                };
                self.found.remarks.push(format!("another client asks on this line{how}; heard among others:"));
                let frames = heard.frames.iter().take(4).map(|frame| format!("  {frame}"));
                self.found.remarks.extend(frames);
                self.found.link = Some(link);
            }
            None => self.found.remarks.push("noise on the line, or a protocol that is not Modbus RTU".to_owned()),
        }
        if !self.task.force {
            self.found.incomplete = true;
            self.found.remarks.push("nothing was asked, so as not to disturb it; --force asks".to_owned());
        }
        Ok(())
    }

    /// Asks units one after the other.
    async fn try_units(&mut self, prober: &mut Prober, link: &Link, units: &[u8]) -> Result<(), Stopped> {
        let mut in_a_row = 0;
        for &unit in units {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Stopped::Asked);
            }
            if prober.desynchronised() {
                *prober = self.open(link).await?;
            }
            self.progress.at(link, unit, self.found.units.len());
            let before = prober.counts();
            match self.try_unit(prober, unit).await? {
                Some(found) => {
                    self.progress.say(&found.line());
                    self.found.units.push(found);
                    in_a_row += 1;
                }
                None => in_a_row = 0,
            }
            if prober.counts().foreign_requests > before.foreign_requests && !self.task.force {
                return Err(Stopped::Foreign);
            }
            if matches!(link, Link::Tcp { .. }) && in_a_row >= ONE_FOR_ALL {
                let remark =
                    format!("{in_a_row} unit ids in a row answer: one device that does not look at the unit id");
                self.found.remarks.push(remark);
                break;
            }
        }
        Ok(())
    }

    /// Asks whether a unit is there: one holding register, then one input register.
    async fn try_unit(&mut self, prober: &mut Prober, unit: u8) -> Result<Option<Unit>, Stopped> {
        for table in [Table::HoldingRegister, Table::InputRegister] {
            let request = Request::Read { table, address: 0, count: 1 };
            let (heard, turnaround) = prober.ask(UnitId(unit), &request).await?;
            let refused = match heard {
                Heard::Answer(_) => None,
                // The gateway in between says that nobody is there.
                Heard::Exception(
                    ExceptionCode::GATEWAY_PATH_UNAVAILABLE | ExceptionCode::GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND,
                ) => return Ok(None),
                Heard::Exception(code) => Some(code),
                Heard::Silence => return Ok(None),
                Heard::Spoiled => {
                    self.spoiled.push(unit);
                    return Ok(None);
                }
            };
            let known = self.known.iter().find(|(known, _)| *known == unit).map(|(_, name)| name.clone());
            let found = Unit {
                unit,
                table,
                refused,
                turnaround: refused.is_none().then_some(turnaround),
                who: who::Who::default(),
                limits: None,
                names: Vec::new(),
                known,
            };
            // A device without holding registers may have input registers.
            if refused.is_none() || table == Table::InputRegister {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Tells of answers that were none; at a speed at which nobody was found they are a hint only.
    fn spoiled_remark(&mut self, link: &Link) {
        let units: Vec<String> = std::mem::take(&mut self.spoiled).iter().map(u8::to_string).collect();
        if units.is_empty() {
            return;
        }
        let (units, at) = (units.join(", "), super::plan::link(link));
        self.found.remarks.push(if self.found.units.is_empty() {
            format!("{at}: something came for units {units} that is no answer: noise, or another speed or parity")
        } else {
            format!("something came for units {units} that is no answer: noise, or two units of one number")
        });
    }

    fn late_remark(&mut self, prober: &Prober) {
        let counts = prober.counts();
        let late = counts.late_answers.saturating_add(counts.unasked_answers);
        if late > 0 {
            let patience = self.task.patience.as_millis();
            self.found.remarks.push(format!(
                "{late} answers came later than {patience} ms: --timeout-ms {} may find more",
                patience * 5
            ));
        }
        if counts.echoes > 0 {
            self.found.remarks.push("the adapter hears what it sends; the daemon copes with that".to_owned());
        }
    }

    /// Finds out what each unit is.
    async fn study(&mut self, prober: &mut Prober) -> Result<(), Stopped> {
        let mut units = std::mem::take(&mut self.found.units);
        let mut result = Ok(());
        for unit in &mut units {
            if self.stop.load(Ordering::Relaxed) {
                result = Err(Stopped::Asked);
                break;
            }
            self.progress.say_over(&format!("asking unit {} what it is", unit.unit));
            result = study(prober, unit, self.limits, &self.signatures).await.map_err(Stopped::Lost);
            if result.is_err() {
                break;
            }
        }
        self.found.units = units;
        result
    }
}

async fn study(prober: &mut Prober, unit: &mut Unit, limits: bool, signatures: &[Signature]) -> io::Result<()> {
    unit.who = who::ask(prober, UnitId(unit.unit)).await?;
    if limits && unit.refused.is_none() {
        unit.limits = Some(who::limits(prober, UnitId(unit.unit), unit.table).await?);
    }
    unit.names = naming::fits(prober, UnitId(unit.unit), signatures).await?;
    Ok(())
}
