//! `ganglion plan`: what each bus is asked for, what it can carry, and which points are late and why.
//!
//! Predicted without a wire from the site file and what was learnt; next to it what the daemon measures, if it runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ganglion_drivers::bus::{Overview, TaskView};
use ganglion_drivers::learn::{Fact, FactKind};
use ganglion_drivers::plan::ReadRequest;
use serde_json::{Value, json};

use super::device::planned;
use super::{load_quietly, refuse, say};
use crate::acquire::learned::Learned;
use crate::acquire::settings::Polled;
use crate::site::{Bus, Device, Endpoint, Group, LineSpeed, Link, Parity, Site};
use crate::status;

/// Columns of a line; names longer than their column push the rest out.
const WIDTH: usize = 100;

/// Columns of the load bar; it is full at 100 %.
const BAR: u64 = 40;

/// What to show.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The site file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One bus only.
    #[arg(long, value_name = "NAME")]
    bus: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One bus: planned, learnt, measured.
struct View<'a> {
    site: &'a Site,
    bus: &'a Bus,
    overview: Overview,
    polled: Vec<Polled>,
    learned: &'a Learned,
    /// The bus in the daemon's status, if it runs.
    measured: Option<&'a Value>,
}

/// Plans and prints.
#[must_use]
pub fn main(options: &Options) -> ExitCode {
    let site = match load_quietly(&options.config) {
        Ok(site) => site,
        Err(code) => return code,
    };
    let buses = match &options.bus {
        None => site.buses.iter().collect(),
        Some(name) => match super::bus(&site, name) {
            Ok(bus) => vec![bus],
            Err(message) => return refuse(message),
        },
    };
    let status = status::read(&site.data_dir).ok();
    let learned = Learned::open(&site.data_dir);
    let views: Vec<View<'_>> = buses
        .into_iter()
        .map(|bus| {
            let (mut overview, polled) = planned(&site, bus, &learned);
            let measured = status.as_ref().and_then(|status| status["buses"].get(&bus.name));
            if let Some(measured) = measured {
                adopt(&mut overview, &site, &polled, measured);
            }
            View { site: &site, bus, overview, polled, learned: &learned, measured }
        })
        .collect();
    if options.json {
        let buses: BTreeMap<&str, Value> = views.iter().map(|view| (view.bus.name.as_str(), view.json())).collect();
        return say(&format!("{:#}\n", json!({ "daemon": status.is_some(), "buses": buses })));
    }
    let mut out = match status {
        Some(_) => "the daemon runs: what it measures stands beside the plan\n".to_owned(),
        None => "no daemon runs: what follows is planned, with usual turnarounds, and nothing is measured\n".to_owned(),
    };
    for view in &views {
        out.push('\n');
        out.push_str(&view.text());
    }
    say(&out)
}

/// Takes the daemon's own plan, which rests on turnarounds it has measured. A task that the daemon does not have as the
/// site file has it now keeps the plan made here.
fn adopt(overview: &mut Overview, site: &Site, polled: &[Polled], measured: &Value) {
    let time = |value: &Value| {
        let ms = value.as_f64()?;
        Duration::try_from_secs_f64(ms / 1000.0).ok()
    };
    let mut same = true;
    for (place, (task, polled)) in overview.tasks.iter_mut().zip(polled).enumerate() {
        let told = &measured["tasks"][place];
        let name = site.devices.get(polled.device.0).map(|device| device.name.as_str());
        let is_it = told["device"].as_str() == name && time(&told["interval_ms"]) == Some(task.interval);
        match (time(&told["planned_ms"]), time(&told["bus_time_ms"])) {
            (Some(effective), Some(cost)) if is_it => (task.effective, task.cost) = (effective, cost),
            _ => same = false,
        }
    }
    if let (true, Some(load)) = (same, measured["load_percent"].as_f64()) {
        overview.floor = time(&measured["stretched_to_ms"]);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share in thousandths")]
        let permille = (load * 10.0).round() as u64;
        overview.load_permille = permille;
    }
}

impl<'a> View<'a> {
    fn device(&self, place: usize) -> Option<(&'a Device, &'a Group)> {
        let polled = self.polled.get(place)?;
        let device = self.site.devices.get(polled.device.0)?;
        Some((device, device.groups.get(polled.group)?))
    }

    /// Returns the tasks with what they poll, and what the daemon says of each.
    fn tasks(&self) -> impl Iterator<Item = (&TaskView, &'a Device, &'a Group, &Value)> {
        self.overview.tasks.iter().enumerate().filter_map(|(place, task)| {
            let (device, group) = self.device(place)?;
            let measured = self.measured.map_or(&Value::Null, |bus| &bus["tasks"][place]);
            Some((task, device, group, measured))
        })
    }

    fn text(&self) -> String {
        let mut out = format!("bus {}  {}\n", self.bus.name, link(&self.bus.link));
        out.push_str(&self.load());
        out.push('\n');
        let name = self.tasks().map(|(_, device, ..)| device.name.len()).max().unwrap_or(0).max(6);
        out.push_str(&format!("  {:<name$}  unit     every      gets  measured  on line  requests\n", "device"));
        for (task, device, group, measured) in self.tasks() {
            let head = format!(
                "  {:<name$}  {:>4}  {:>8}  {:>8}  {:>8}  {:>7}  ",
                device.name,
                device.unit.0,
                millis(task.interval),
                millis(task.effective),
                measured["measured_ms"]
                    .as_f64()
                    .map_or("-".to_owned(), |ms| millis(Duration::from_secs_f64(ms / 1000.0))),
                millis(task.cost),
            );
            let indent = " ".repeat(head.chars().count());
            let mut lines = task.requests.iter().map(|&request| request_line(self.site, group, request));
            out.push_str(&fold(&head, &lines.next().unwrap_or_else(|| "none".to_owned()), &indent));
            for line in lines {
                out.push_str(&fold(&indent, &line, &indent));
            }
        }
        let late = self.late();
        if !late.is_empty() {
            out.push_str("  late or not read:\n");
            for (who, why) in late {
                out.push_str(&fold(&format!("    {who}: "), &why, "      "));
            }
        }
        let learnt: Vec<(String, String)> = self.learnt().collect();
        if !learnt.is_empty() {
            out.push_str("  learnt:\n");
            for (who, what) in learnt {
                out.push_str(&fold(&format!("    {who}: "), &what, "      "));
            }
        }
        out.push_str(&self.units());
        out
    }

    /// The bar, and what it means.
    fn load(&self) -> String {
        let permille = self.overview.load_permille;
        let filled = (permille.min(1000) * BAR).div_ceil(1000);
        let bar: String = (0..BAR).map(|place| if place < filled { '#' } else { '.' }).collect();
        let over = if permille > 1000 { "!" } else { "" };
        let mut out = format!("  load [{bar}]{over} {} % of the line's time is asked for", percent(permille));
        if let Some(measured) = self.measured {
            match (measured["connected"].as_bool(), measured["line_use_percent"].as_f64()) {
                (Some(false), _) => out.push_str("; the wire is not open"),
                (_, Some(used)) => out.push_str(&format!("; measured {used:.0} %")),
                _ => {}
            }
        }
        out.push('\n');
        let cycle: Duration = self.overview.tasks.iter().map(|task| task.cost).sum();
        let requests: usize = self.overview.tasks.iter().map(|task| task.requests.len()).sum();
        out.push_str(&format!("  everything once takes {} in {requests} requests", millis(cycle)));
        if let Some(floor) = self.overview.floor {
            out.push_str(&format!(
                "; the bus cannot carry what is asked: nothing is read faster than every {}",
                millis(floor)
            ));
        }
        out.push('\n');
        out
    }

    /// Says who is late, and why.
    fn late(&self) -> Vec<(String, String)> {
        let mut late = Vec::new();
        for (task, device, group, measured) in self.tasks() {
            let who = || format!("{} every {}", device.name, millis(task.interval));
            if task.effective > task.interval {
                let (gets, asked) = (millis(task.effective), percent(self.overview.load_permille));
                late.push((who(), format!("gets {gets}: the bus is asked for {asked} % of its time")));
            }
            if let Some(ms) = measured["measured_ms"].as_f64() {
                let planned = task.effective.as_secs_f64() * 1000.0;
                if ms > planned * 1.1 + 5.0 {
                    let missed = measured["missed"].as_u64().unwrap_or(0);
                    let measured = millis(Duration::from_secs_f64(ms / 1000.0));
                    late.push((who(), format!("measured {measured}, {missed} polls missed")));
                }
            }
            for want in &task.unreadable {
                let points = points_of(self.site, group, *want).join(", ");
                let why = format!("{points} ({}) is not asked for: the unit always refuses it", items(*want));
                late.push((device.name.clone(), why));
            }
        }
        let Some(measured) = self.measured else { return late };
        for unit in measured["units"].as_array().into_iter().flatten() {
            let name = unit["device"].as_str().unwrap_or_default().to_owned();
            if unit["silent"] == true {
                let timeouts = &unit["timeouts"];
                late.push((
                    name.clone(),
                    format!("silent: asked now and then only ({timeouts} requests without an answer)"),
                ));
            }
            if unit["wrong_device"] == true {
                late.push((
                    name,
                    "another device answers: its identity register does not match; no value is taken".to_owned(),
                ));
            }
        }
        late
    }

    /// Says what was learnt, device by device.
    fn learnt(&self) -> impl Iterator<Item = (String, String)> {
        self.bus.devices.iter().filter_map(|id| self.site.devices.get(id.0)).filter_map(|device| {
            let words = facts_in_words(device, &self.learned.of(device));
            (!words.is_empty()).then(|| (device.name.clone(), words.join("; ")))
        })
    }

    /// What the daemon counts, unit by unit.
    fn units(&self) -> String {
        let Some(measured) = self.measured else { return String::new() };
        let units: Vec<&Value> = measured["units"].as_array().into_iter().flatten().collect();
        let name = units.iter().filter_map(|unit| unit["device"].as_str()).map(str::len).max().unwrap_or(0).max(6);
        let mut out = format!(
            "  measured:\n    {:<name$}  turnaround  patience  requests  answered  timeouts  unusable  exceptions\n",
            "device"
        );
        for unit in units {
            let ms = |key: &str| format!("{} ms", unit[key].as_f64().unwrap_or_default());
            out.push_str(&format!(
                "    {:<name$}  {:>10}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>10}\n",
                unit["device"].as_str().unwrap_or_default(),
                ms("turnaround_ms"),
                ms("patience_ms"),
                unit["requests"].to_string(),
                unit["answered"].to_string(),
                unit["timeouts"].to_string(),
                unit["unusable"].to_string(),
                unit["exceptions"].to_string(),
            ));
        }
        let heard: Vec<String> = measured["wire"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, count)| count.as_u64().is_some_and(|count| count > 0))
            .map(|(what, count)| format!("{} {count}", what.replace('_', " ")))
            .collect();
        if !heard.is_empty() {
            out.push_str(&format!("    heard beside the answers: {}\n", heard.join(", ")));
        }
        out
    }

    fn json(&self) -> Value {
        let request = |group: &Group, request: &ReadRequest| {
            json!({
                "table": request.table.as_str(), "address": request.address, "count": request.count,
                "points": points_of(self.site, group, *request),
            })
        };
        let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
        let task = |(task, device, group, measured): (&TaskView, &Device, &Group, &Value)| {
            json!({
                "device": device.name, "unit": device.unit.0,
                "interval_ms": ms(task.interval), "planned_ms": ms(task.effective), "bus_time_ms": ms(task.cost),
                "requests": task.requests.iter().map(|at| request(group, at)).collect::<Vec<_>>(),
                "unreadable": task.unreadable.iter().map(|at| request(group, at)).collect::<Vec<_>>(),
                "measured_ms": measured["measured_ms"],
            })
        };
        let late = self.late().into_iter().map(|(who, why)| json!({ "what": who, "why": why }));
        json!({
            "load_percent": self.overview.load_permille as f64 / 10.0,
            "cycle_ms": ms(self.overview.tasks.iter().map(|task| task.cost).sum()),
            "cycle_requests": self.overview.tasks.iter().map(|task| task.requests.len()).sum::<usize>(),
            "stretched_to_ms": self.overview.floor.map(ms),
            "tasks": self.tasks().map(task).collect::<Vec<_>>(),
            "late": late.collect::<Vec<_>>(),
            "learnt": self.learnt().collect::<BTreeMap<_, _>>(),
            "measured": self.measured,
        })
    }
}

/// Says what is known of a device beside its template.
fn facts_in_words(device: &Device, facts: &[Fact]) -> Vec<String> {
    let mut words = Vec::new();
    let longest = |bits: bool| {
        let counts = facts.iter().filter(|fact| fact.request.table.is_bits() == bits);
        counts.filter(|fact| matches!(fact.kind, FactKind::TooLong)).map(|fact| fact.request.count).min()
    };
    for (bits, what, documented) in
        [(false, "registers", device.limits.max_registers), (true, "bits", device.limits.max_bits)]
    {
        if let Some(too_long) = longest(bits) {
            words.push(format!("a request of {too_long} {what} is too long (its template: {documented})"));
        }
    }
    let cuts: Vec<String> = facts
        .iter()
        .filter_map(|fact| match fact.kind {
            FactKind::Cut { at, .. } => Some(format!("{} {at}", fact.request.table.as_str())),
            _ => None,
        })
        .collect();
    if !cuts.is_empty() {
        words.push(format!("no request spans {}", cuts.join(", ")));
    }
    for fact in facts {
        if let FactKind::Refused { strikes: 3.. } = fact.kind {
            words.push(format!("{} is always refused, tried again in {}", items(fact.request), minutes(fact.left)));
        }
    }
    words
}

fn request_line(site: &Site, group: &Group, request: ReadRequest) -> String {
    format!("{}  {}", items(request), points_of(site, group, request).join(", "))
}

fn items(request: ReadRequest) -> String {
    let (name, first, count) = (request.table.as_str(), request.address, request.count);
    if count == 1 { format!("{name} {first}") } else { format!("{name} {first}-{} ({count})", request.end() - 1) }
}

/// Returns the names of the points that a request reads, channels of one property together.
fn points_of(site: &Site, group: &Group, request: ReadRequest) -> Vec<String> {
    let mut names: Vec<(String, usize)> = Vec::new();
    for point in group.points.iter() {
        let read = group.wants.get(point.want).is_some_and(|want| request.covers(want.read));
        let stream = group.streams.get(point.part).and_then(|stream| site.streams.get(stream.0));
        let Some(property) = stream.and_then(|stream| stream.properties.get(point.place)).filter(|_| read) else {
            continue;
        };
        let bare = property.name.split('.').next().unwrap_or_default();
        match names.iter_mut().find(|(name, _)| name == bare) {
            Some((_, count)) => *count += 1,
            None => names.push((bare.to_owned(), 1)),
        }
    }
    names.into_iter().map(|(name, count)| if count == 1 { name } else { format!("{name} x{count}") }).collect()
}

/// Says how a bus is reached.
pub(super) fn link(link: &Link) -> String {
    match link {
        Link::Tcp { host, port } => format!("tcp {host}:{port}"),
        Link::Serial(link) => format!("{} {}", link.path.display(), speed(link.speed)),
        Link::RtuOverTcp { endpoint: Endpoint::Connect { host, port }, speed } => {
            format!("rtu over tcp {host}:{port}, line {}", self::speed(*speed))
        }
        Link::RtuOverTcp { endpoint: Endpoint::Listen { address }, speed } => {
            format!("rtu over tcp, called at {address}, line {}", self::speed(*speed))
        }
    }
}

/// Writes a line's speed as people do: 9600 8E1.
pub(super) fn speed(speed: LineSpeed) -> String {
    let parity = match speed.parity {
        Parity::None => 'N',
        Parity::Even => 'E',
        Parity::Odd => 'O',
    };
    format!("{} 8{parity}{}", speed.baud, speed.stop_bits)
}

/// Milliseconds below ten seconds, else seconds.
fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 9.95 {
        format!("{ms:.1} ms")
    } else if ms < 9_999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.0} s", ms / 1000.0)
    }
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        0 => "the next poll".to_owned(),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

fn percent(permille: u64) -> String {
    if permille < 100 { format!("{}.{}", permille / 10, permille % 10) } else { ((permille + 5) / 10).to_string() }
}

/// Writes text behind a head, folded between words at the width.
fn fold(head: &str, text: &str, indent: &str) -> String {
    let mut out = String::new();
    let mut line = head.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = indent.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}
