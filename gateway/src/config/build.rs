//! From checked tables to a [`Site`]: what single keys cannot say, because it lies between them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::Cri;
use ganglion_protocols::modbus::UnitId;

use super::broker::broker;
use super::device::{Shelf, Wiring};
use super::device_table;
use super::directory::{Directory, Standing};
use super::keys::Table;
use super::link::{endpoint, link};
use super::nodes;
use super::report::{At, Findings, Place};
use super::site_keys::{BUFFER, EVENT_BUFFER};
use super::values::listed;
use crate::buffer::FEWEST_SEGMENTS;
use crate::site::{
    BufferSettings, Bus, Device, DeviceId, Group, NamedProperty, Point, Protocol, REACHABLE, Site, Stream, StreamId,
    Want, WhenFull,
};
use crate::vitals;

/// Class of gateways.
const GATEWAY_CLASS: u16 = 9101;

/// Highest unit id of a serial line (MODBUS over Serial Line V1.02 §2.2).
const MAX_SERIAL_UNIT: u8 = 247;

/// Builds the site of a checked site file. `None` and a site with errors in `findings` are both unusable.
pub(super) fn site(findings: &mut Findings, file: &Table, folder: &Path) -> Option<Site> {
    let path = |key: &str| file.text(key).map(|at| At { value: folder.join(at.value), place: at.place });
    let directory = path("directory").and_then(|at| Directory::read(findings, &at.value, at.place));
    let mut city = City { directory, used: BTreeMap::new() };
    let gateway = file.table("gateway").and_then(|table| gateway(findings, &mut city, table));
    let broker = file.table("broker").and_then(|table| broker(findings, table, folder, gateway));
    let table = file.table("buffer").cloned().unwrap_or_else(|| Table::empty(&BUFFER, file.place));
    let buffer = buffer_of(findings, &table);
    let events = table.table("events").cloned().unwrap_or_else(|| Table::empty(&EVENT_BUFFER, table.place));
    let event_buffer = buffer_of(findings, &events);
    let mut shelf = Shelf::new(path("templates").map(|at| at.value));
    let mut plant = Plant::default();
    let rows = path("devices_csv").map(|at| device_table::read(findings, &at.value, at.place, file));
    plant.without_table = matches!(rows, Some(None));
    let rows = rows.flatten().unwrap_or_default();
    for table in file.tables("bus") {
        let name = table.text("name").map(|name| name.value);
        let rows = rows.iter().filter(|(bus, _)| name == Some(bus)).map(|(_, row)| row);
        let devices: Vec<_> = table.tables("device").chain(rows).collect();
        plant.bus(findings, &mut city, &mut shelf, (table, &devices), folder);
    }
    city.remark(findings, file.place_of("directory"));
    if plant.incomplete {
        return None;
    }
    let (gateway, directory) = (gateway?, city.directory?);
    for state in vitals::states() {
        let domain = directory.domain(gateway.class());
        plant.event_stream(gateway, domain, vec![NamedProperty::state(state.to_owned())]);
    }
    Some(Site {
        gateway,
        directory: directory.edition,
        data_dir: path("data_dir")?.value,
        buses: plant.buses,
        devices: plant.devices,
        streams: plant.streams,
        event_streams: plant.event_streams,
        buffer: buffer?,
        event_buffer: event_buffer?,
        broker: broker?,
    })
}

/// The code directory, and which of its classes the site uses.
pub(super) struct City {
    /// `None` when it cannot be read: then nothing is looked up.
    pub(super) directory: Option<Directory>,
    used: BTreeMap<u16, Standing>,
}

impl City {
    /// Looks an identifier up; reports what may not be used.
    fn resolve(&mut self, findings: &mut Findings, at: &At<Cri>) -> Option<Cri> {
        if let Some(directory) = &self.directory {
            let class = at.value.class();
            self.used.insert(class.code(), directory.standing(class));
            if !directory.resolve(findings, at.value, at.place) {
                return None;
            }
        }
        Some(at.value)
    }

    fn remark(&self, findings: &mut Findings, at: Place) {
        let provisional = self.used.iter().filter(|(_, standing)| **standing == Standing::Provisional);
        let codes: Vec<_> = provisional.map(|(code, _)| format!("{code:04}")).collect();
        if let (Some(directory), false) = (&self.directory, codes.is_empty()) {
            let codes = listed(codes.iter().map(String::as_str));
            let message = format!("provisional in edition {} of the code directory: {codes}", directory.edition);
            findings.warning(at, message).help("identifiers of these classes hold until the city settles its own");
        }
    }
}

fn gateway(findings: &mut Findings, city: &mut City, table: &Table) -> Option<Cri> {
    let id = table.resource("id")?;
    if id.value.class().code() != GATEWAY_CLASS {
        let message =
            format!("a gateway is of class {GATEWAY_CLASS}, this identifier is of class {}", id.value.class());
        findings.error(id.place, message).help("give the gateway's own identifier, not that of what it observes");
        return None;
    }
    city.resolve(findings, &id)
}

fn buffer_of(findings: &mut Findings, table: &Table) -> Option<BufferSettings> {
    let settings = BufferSettings {
        max_bytes: table.number("max_bytes")?,
        segment_bytes: table.number("segment_bytes")?,
        commit_interval: millis(table, "commit_interval_ms")?,
        commit_bytes: table.number("commit_bytes")?,
        when_full: match table.text("when_full")?.value {
            "refuse-newest" => WhenFull::RefuseNewest,
            _ => WhenFull::EvictOldest,
        },
    };
    if settings.max_bytes / FEWEST_SEGMENTS < u64::from(settings.segment_bytes) {
        let message = format!("`max_bytes` is {}, too little for {FEWEST_SEGMENTS} segments", settings.max_bytes);
        findings
            .error(table.place_of("max_bytes"), message)
            .help(format!("`segment_bytes` is {}", settings.segment_bytes));
    }
    Some(settings)
}

pub(super) fn millis(table: &Table, key: &str) -> Option<Duration> {
    table.number(key).map(Duration::from_millis)
}

/// The buses and devices built so far.
#[derive(Default)]
pub(super) struct Plant {
    buses: Vec<Bus>,
    pub(super) devices: Vec<Device>,
    pub(super) streams: Vec<Stream>,
    event_streams: Vec<Stream>,
    /// The stream that tells whether a resource can be reached.
    reachable: BTreeMap<Cri, StreamId>,
    /// Where each device stands in the site file, by its name.
    bus_names: BTreeMap<String, Place>,
    device_names: BTreeMap<String, Place>,
    endpoints: BTreeMap<String, Place>,
    pub(super) sources: BTreeMap<Cri, Vec<Source>>,
    properties: Vec<Arc<[NamedProperty]>>,
    points: Vec<Arc<[Point]>>,
    wants: Vec<Arc<[Want]>>,
    /// A bus or device of the file is not among them.
    incomplete: bool,
    /// The table of devices could not be read: which bus lacks a device is not known.
    without_table: bool,
}

/// What one device reads of a resource.
pub(super) struct Source {
    pub(super) device: String,
    /// Where the site file names the resource.
    pub(super) place: Place,
    pub(super) properties: Arc<[NamedProperty]>,
}

impl Plant {
    /// Returns the list of properties, kept once for all that are equal.
    pub(super) fn properties(&mut self, list: Vec<NamedProperty>) -> Arc<[NamedProperty]> {
        once_for_all(&mut self.properties, list)
    }

    /// Returns the points, kept once for all that are equal.
    pub(super) fn points(&mut self, list: Vec<Point>) -> Arc<[Point]> {
        once_for_all(&mut self.points, list)
    }

    /// Returns the wants, kept once for all that are equal.
    pub(super) fn wants(&mut self, list: Vec<Want>) -> Arc<[Want]> {
        once_for_all(&mut self.wants, list)
    }

    /// Adds a stream of events.
    pub(super) fn event_stream(&mut self, resource: Cri, domain: &str, properties: Vec<NamedProperty>) -> StreamId {
        let properties = self.properties(properties);
        self.event_streams.push(Stream { resource, domain: domain.to_owned(), properties });
        StreamId(self.event_streams.len() - 1)
    }

    /// Returns the streams that tell whether the resources of a device can be reached, each once.
    pub(super) fn reachable(&mut self, groups: &[Group]) -> Vec<StreamId> {
        let streams = groups.iter().flat_map(|group| &group.streams).filter_map(|stream| self.streams.get(stream.0));
        let resources: BTreeMap<_, _> = streams.map(|stream| (stream.resource, stream.domain.clone())).collect();
        let mut reachable = Vec::new();
        for (resource, domain) in resources {
            let known = self.reachable.get(&resource).copied();
            let state = || vec![NamedProperty::state(REACHABLE.to_owned())];
            let stream = known.unwrap_or_else(|| self.event_stream(resource, &domain, state()));
            self.reachable.insert(resource, stream);
            reachable.push(stream);
        }
        reachable
    }

    fn bus(
        &mut self,
        findings: &mut Findings,
        city: &mut City,
        shelf: &mut Shelf,
        (table, listed): (&Table, &[&Table]),
        folder: &Path,
    ) {
        if let Some(name) = table.text("name") {
            once(findings, &mut self.bus_names, name.value.to_owned(), name.place, &format!("bus {:?}", name.value));
        }
        let link = link(findings, table, folder);
        if let Some((endpoint, place)) = link.as_ref().and_then(|link| endpoint(table, link)) {
            once(findings, &mut self.endpoints, endpoint.clone(), place, &endpoint);
        }
        let mut units = BTreeMap::new();
        let mut devices = Vec::new();
        if listed.is_empty() && self.without_table {
            self.incomplete = true;
        } else if listed.is_empty() && table.lacks("device") {
            findings
                .error(table.place, "[[bus]] needs a device")
                .help("say [[bus.device]] after it, or name its devices in the table of `devices_csv`");
        }
        let serial = table.text("kind").is_some_and(|kind| kind.value != "tcp");
        let protocol = nodes::protocol(findings, table, serial);
        for &device in listed {
            if let Some(name) = device.text("name") {
                let what = format!("device {:?}", name.value);
                once(findings, &mut self.device_names, name.value.to_owned(), name.place, &what);
            }
            let unit = unit(findings, device, serial);
            if let Some(unit) = unit {
                once(findings, &mut units, unit, device.place_of("unit"), &format!("unit {unit} of this bus"));
            }
            let wiring = Wiring::read(device, |at| city.resolve(findings, at));
            let built = city.directory.as_ref().and_then(|directory| {
                let template = shelf.template(findings, device)?;
                wiring.device(findings, (directory, shelf), &template, device, unit, self)
            });
            if let (Protocol::NodeLink, Some(built)) = (protocol, &built) {
                nodes::check(findings, device, built, self);
            }
            self.incomplete |= built.is_none();
            devices.extend(built.is_some().then_some(DeviceId(self.devices.len())));
            self.devices.extend(built);
        }
        let bus = || {
            Some(Bus {
                name: table.text("name")?.value.to_owned(),
                link: link?,
                protocol,
                response_timeout: millis(table, "response_timeout_ms")?,
                late_reply: millis(table, "late_reply_ms").unwrap_or_default(),
                retries: table.number("retries")?,
                dead_unit_share_percent: table.number("dead_unit_share_percent")?,
                devices,
            })
        };
        let bus = bus();
        self.incomplete |= bus.is_none();
        self.buses.extend(bus);
    }
}

/// Reports the second of two that may not be alike.
fn once<K: Ord>(findings: &mut Findings, seen: &mut BTreeMap<K, Place>, key: K, place: Place, what: &str) {
    if let Some(first) = seen.get(&key) {
        findings.error(place, format!("{what} is there twice")).other(*first, "the first is here");
    } else {
        seen.insert(key, place);
    }
}

fn unit(findings: &mut Findings, device: &Table, serial: bool) -> Option<UnitId> {
    let unit = device.number::<u8>("unit")?;
    if serial && !(1..=MAX_SERIAL_UNIT).contains(&unit) {
        let message = format!("unit {unit} cannot be on a serial line, 1 to {MAX_SERIAL_UNIT} can");
        let help = if unit == 0 { "0 is broadcast: nobody answers it" } else { "248 to 255 are reserved" };
        findings.error(device.place_of("unit"), message).help(help);
        return None;
    }
    Some(UnitId(unit))
}

fn once_for_all<T: PartialEq>(kept: &mut Vec<Arc<[T]>>, list: Vec<T>) -> Arc<[T]> {
    if let Some(same) = kept.iter().find(|same| ***same == *list) {
        return Arc::clone(same);
    }
    let list = Arc::from(list);
    kept.push(Arc::clone(&list));
    list
}
