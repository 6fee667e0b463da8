//! What a scan tells: while it runs, and at its end.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::naming::{Fit, Sure};
use super::{Findings, Unit};
use crate::site::{Endpoint, Link, Parity};
use crate::tools::node::Node;
use crate::tools::plan::{link, speed};

/// Time between two lines of progress where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Columns of the progress bar.
const BAR: usize = 24;

/// How far a scan is: a bar on a terminal, a line now and then elsewhere. On standard error.
pub(super) struct Progress {
    bar: bool,
    start: Instant,
    told: Instant,
    done: usize,
    all: usize,
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { bar: io::stderr().is_terminal(), start: now, told: now, done: 0, all: 0, shown: false }
    }

    /// Says how many questions there may be from now on.
    pub(super) fn expect(&mut self, all: usize) {
        (self.start, self.done, self.all) = (Instant::now(), 0, all);
    }

    /// Counts questions as done that were asked before.
    pub(super) fn skip(&mut self, done: usize) {
        self.done += done;
    }

    /// Shows that a unit is asked now.
    pub(super) fn at(&mut self, link: &Link, unit: u8, found: usize) {
        let left = match self.done {
            0 => String::new(),
            done => {
                let each = self.start.elapsed().as_secs_f64() / done as f64;
                format!(", at most {} left", time(each * self.all.saturating_sub(done) as f64))
            }
        };
        self.done += 1;
        let how = match link {
            Link::Serial(link) => format!("{}, ", speed(link.speed)),
            _ => String::new(),
        };
        let text = format!("{how}unit {unit}, found {found}{left}");
        if self.bar {
            let filled = (self.done * BAR).checked_div(self.all).unwrap_or(0).min(BAR);
            eprint!("\r\x1b[K[{}{}] {text}", "#".repeat(filled), ".".repeat(BAR - filled));
            io::stderr().flush().ok();
            self.shown = true;
        } else if self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            eprintln!("{text}");
        }
    }

    /// Tells something that stays.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        eprintln!("{text}");
    }

    /// Tells something that the next thing may take the place of.
    pub(super) fn say_over(&mut self, text: &str) {
        if self.bar {
            eprint!("\r\x1b[K{text}");
            io::stderr().flush().ok();
            self.shown = true;
        } else {
            eprintln!("{text}");
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}

fn time(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

impl Unit {
    /// Says that it is there.
    pub(super) fn line(&self) -> String {
        let how = match (self.refused, self.turnaround) {
            (Some(code), _) => {
                format!("refuses reads at 0 with exception {:02X}, {}", code.code(), code.name().unwrap_or("its own"))
            }
            (None, Some(took)) => {
                let name = self.table.as_str();
                format!("answers for {name} registers, after {:.1} ms", took.as_secs_f64() * 1000.0)
            }
            (None, None) => "answers".to_owned(),
        };
        let known = self.known.as_ref().map(|name| format!("; {name} in the site file")).unwrap_or_default();
        format!("unit {:>3}  {how}{known}", self.unit)
    }

    fn text(&self) -> String {
        let mut out = self.line() + "\n";
        for (name, value) in &self.who.objects {
            out.push_str(&format!("          {name}: {value}\n"));
        }
        if let Some(id) = &self.who.server_id {
            out.push_str(&format!("          server id: {id}\n"));
        }
        if let Some(limits) = &self.limits {
            let name = limits.table.as_str();
            out.push_str(&format!("          answers at most {} {name} registers at once, from 0\n", limits.registers));
        }
        for Fit { template, sure, points: (fitting, all), telling, .. } in &self.names {
            let why = match sure {
                Sure::Certain => "its identity register says so".to_owned(),
                _ => format!("{fitting} of {all} points answer with possible values, {telling} of them not zero"),
            };
            out.push_str(&format!("          {}: {template} ({why})\n", sure.word()));
        }
        out
    }

    fn json(&self) -> Value {
        let name = |fit: &Fit| {
            json!({
                "template": fit.template, "sure": fit.sure.word(), "points": fit.points.1,
                "possible": fit.points.0, "telling": fit.telling,
            })
        };
        json!({
            "unit": self.unit,
            "table": self.table.as_str(),
            "exception": self.refused.map(|code| code.code()),
            "turnaround_ms": self.turnaround.map(|took| took.as_secs_f64() * 1000.0),
            "identification": self.who.objects.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "server_id": self.who.server_id,
            "max_registers": self.limits.map(|limits| limits.registers),
            "templates": self.names.iter().map(name).collect::<Vec<_>>(),
            "device": self.known,
        })
    }
}

impl Findings {
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        match (&self.link, self.units.len()) {
            (Some(at), 1) => out.push_str(&format!("{}: one unit\n", link(at))),
            (Some(at), 2..) => out.push_str(&format!("{}: {} units\n", link(at), self.units.len())),
            (Some(at), 0) => out.push_str(&format!("{}: nobody was asked\n", link(at))),
            (None, _) if self.incomplete => out.push_str("nothing found so far\n"),
            (None, _) => out.push_str("nobody answers\n"),
        }
        self.units.iter().for_each(|unit| out.push_str(&unit.text()));
        if !self.nodes.is_empty() {
            out.push_str("sensor nodes among them, by the node link:\n");
            self.nodes.iter().for_each(|node| out.push_str(&node.text()));
        }
        self.remarks.iter().for_each(|remark| out.push_str(&format!("note: {remark}\n")));
        if self.units.is_empty() && !self.incomplete {
            out.push_str(match self.network {
                true => "note: the server takes calls, but none of these units answers: other --units, --timeout-ms 5000, or --rtu-over-tcp if it is a serial server in transparent mode\n",
                false => "note: check A and B (swap them), ground, termination and the supply; then --timeout-ms 1000, other --baud\n",
            });
        }
        if let (Some(at), false) = (&self.link, self.units.is_empty()) {
            out.push('\n');
            out.push_str(&self.toml(at));
        }
        out
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "link": self.link.as_ref().map(link),
            "units": self.units.iter().map(Unit::json).collect::<Vec<_>>(),
            "nodes": self.nodes.iter().map(Node::json).collect::<Vec<_>>(),
            "remarks": self.remarks,
            "complete": !self.incomplete,
        })
    }

    /// Writes the bus for a site file.
    fn toml(&self, at: &Link) -> String {
        let mut out = "# for the site file\n[[bus]]\nname = \"line-1\"\n".to_owned();
        match at {
            Link::Serial(link) => {
                let parity = match link.speed.parity {
                    Parity::None => "none",
                    Parity::Even => "even",
                    Parity::Odd => "odd",
                };
                // Text of JSON is text of TOML.
                let path = Value::from(link.path.to_string_lossy().into_owned());
                out.push_str(&format!(
                    "kind = \"serial\"\nport = {path}\nbaud = {}\nparity = \"{parity}\"\n",
                    link.speed.baud
                ));
            }
            Link::Tcp { host, port } => out.push_str(&format!("kind = \"tcp\"\nhost = {host:?}\nport = {port}\n")),
            Link::RtuOverTcp { endpoint: Endpoint::Connect { host, port }, .. } => {
                out.push_str(&format!("kind = \"rtu-over-tcp\"\nhost = {host:?}\nport = {port}\n"));
            }
            Link::RtuOverTcp { endpoint: Endpoint::Listen { .. }, .. } => {}
        }
        for unit in &self.units {
            let name = unit.known.clone().unwrap_or_else(|| format!("unit-{}", unit.unit));
            let name = Value::from(name);
            out.push_str(&format!("\n[[bus.device]]\nname = {name}\nunit = {}\n", unit.unit));
            let node = self.nodes.iter().find(|node| node.unit == unit.unit);
            match (node, unit.names.first()) {
                (Some(node), _) => out.push_str(&node.site_lines()),
                (None, Some(fit)) => {
                    let doubt =
                        if fit.sure == Sure::Certain { "" } else { "  # a guess, compare a value with the display" };
                    out.push_str(&format!("template = \"{}\"{doubt}\n", fit.template));
                    if fit.resources.is_empty() {
                        out.push_str("resource = \"\"  # identifier of what it observes\n");
                    }
                }
                (None, None) if self.without_templates => {
                    out.push_str("template = \"\"  # --config or --templates says which may fit\nresource = \"\"\n");
                }
                (None, None) => out.push_str("template = \"\"  # no template fits\nresource = \"\"\n"),
            }
            out.push_str("poll_interval_ms = 5000\n");
            if let Some(fit) = unit.names.first().filter(|fit| node.is_none() && !fit.resources.is_empty()) {
                out.push_str("[bus.device.resources]\n");
                fit.resources.iter().for_each(|resource| out.push_str(&format!("{resource} = \"\"\n")));
            }
        }
        out
    }
}
