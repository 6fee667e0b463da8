//! One device of a site: its template tied to identifiers, checked against the code directory, grouped by period.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::{UnitId, ValueType};
use ganglion_protocols::{Class, Cri};

use super::alarm::{self, Own, Watched};
use super::build::{Plant, Source, millis};
use super::directory::{Directory, PropertyEntry, PropertyKind};
use super::keys::{Item, Table};
use super::number;
use super::point::{TemplatePoint, first};
use super::report::{At, Findings, Place, nearest};
use super::template::{Template, TemplateIdentity};
use super::values::listed;
use crate::site::{Alarm, Device, Group, Identity, NamedProperty, Point, Stream, StreamId, Term, Want};

/// `heartbeat_s` of a device that reports on change and does not say.
const DEFAULT_HEARTBEAT_S: u64 = 600;

/// Templates read so far. Each is read once, so what is wrong with it is said once, however many devices use it.
pub(super) struct Shelf {
    folder: Option<PathBuf>,
    templates: BTreeMap<String, Option<Rc<Template>>>,
    /// Points already found wrong for a class.
    pub(super) judged: Vec<(Place, Class)>,
}

impl Shelf {
    pub(super) const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, templates: BTreeMap::new(), judged: Vec::new() }
    }

    pub(super) fn template(&mut self, findings: &mut Findings, device: &Table) -> Option<Rc<Template>> {
        let name = device.text("template")?;
        let folder = self.folder.as_ref()?;
        let read = || Template::read(findings, folder, name.value, name.place).map(Rc::new);
        self.templates.entry(name.value.to_owned()).or_insert_with(read).clone()
    }
}

/// Which identifiers a device's points get.
pub(super) struct Wiring {
    /// For points whose template names no resource; `Some(None)` when one is named and may not be used.
    resource: Option<Option<At<Cri>>>,
    resources: BTreeMap<String, (Place, Option<At<Cri>>)>,
    unused: BTreeMap<String, Place>,
}

impl Wiring {
    /// Reads what the site file says; `resolve` reports an identifier that may not be used.
    pub(super) fn read(device: &Table, mut resolve: impl FnMut(&At<Cri>) -> Option<Cri>) -> Self {
        let mut usable = |at: At<Cri>| resolve(&at).map(|value| At { value, ..at });
        let resource = match device.resource("resource") {
            Some(at) => Some(usable(at)),
            None if device.lacks("resource") => None,
            None => Some(None),
        };
        let resources = device.map("resources").iter().map(|(name, at)| {
            let cri = at.as_ref().and_then(|at| match at.value {
                Item::Resource(value) => usable(At { value, place: at.place }),
                _ => None,
            });
            (name.value.clone(), (name.place, cri))
        });
        let resources = resources.collect();
        let unused = device.list("unused").iter().filter_map(|at| match &at.value {
            Item::Text(name) => Some((name.clone(), at.place)),
            _ => None,
        });
        Self { resource, resources, unused: unused.collect() }
    }

    /// Builds the device; what is wrong is reported, and the device is then incomplete.
    pub(super) fn device(
        &self,
        findings: &mut Findings,
        city: (&Directory, &mut Shelf),
        template: &Template,
        table: &Table,
        unit: Option<UnitId>,
        plant: &mut Plant,
    ) -> Option<Device> {
        let (directory, shelf) = city;
        self.check_names(findings, template, table);
        let mut build = Build { groups: BTreeMap::new() };
        let interval = millis(table, "poll_interval_ms");
        let identity = identity(findings, template, table);
        let heartbeat = heartbeat(findings, table);
        let alarms = Own::read(findings, table, template);
        for point in &template.points {
            let Some(at) = self.resource_of(point) else { continue };
            let class = at.value.class();
            if shelf.judged.contains(&(point.place, class)) {
                continue;
            }
            match property(findings, directory, point, class, table) {
                Some(entry) => {
                    let interval = point.interval.or(interval).unwrap_or_default();
                    let (city, what) = ((directory, class), (point, entry));
                    let watched = alarms.watched(findings, &mut shelf.judged, city, what, table);
                    build.groups.entry(interval).or_default().point(directory, point, at, entry, watched);
                }
                None => shelf.judged.push((point.place, class)),
            }
        }
        let name = table.text("name")?.value;
        build.check_sources(findings, name, plant);
        interval?;
        let (identity, heartbeat) = (identity?, heartbeat?);
        let groups = build.groups.into_iter();
        let groups: Vec<_> =
            groups.map(|(interval, group)| Group { heartbeat, ..group.finish(interval, plant) }).collect();
        let reachable = plant.reachable(&groups);
        Some(Device {
            name: name.to_owned(),
            template: table.text("template")?.value.to_owned(),
            unit: unit?,
            request_gap: millis(table, "request_gap_ms").unwrap_or(template.request_gap),
            limits: Arc::clone(&template.limits),
            identity,
            groups,
            reachable,
        })
    }

    fn resource_of(&self, point: &TemplatePoint) -> Option<&At<Cri>> {
        match &point.resource {
            None => self.resource.as_ref()?.as_ref(),
            Some(name) => self.resources.get(name)?.1.as_ref(),
        }
    }

    /// Compares the names that the template refers to with those that the site file ties to identifiers.
    fn check_names(&self, findings: &mut Findings, template: &Template, table: &Table) {
        let names = template.resources();
        let given = self.resources.iter().map(|(name, (place, _))| (name, *place));
        for (name, place) in given.chain(self.unused.iter().map(|(name, place)| (name, *place))) {
            if !names.contains(&name.as_str()) {
                let help = match nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its names are {}", listed(names.iter().copied())),
                };
                findings.error(place, format!("the template names no resource `{name}`")).help(help);
            }
        }
        for (name, place) in &self.unused {
            if let Some((other, _)) = self.resources.get(name) {
                findings.error(*place, format!("`{name}` is both unused and used")).other(*other, "it is used here");
            }
        }
        let missing: Vec<_> = names
            .iter()
            .copied()
            .filter(|name| !self.resources.contains_key(*name) && !self.unused.contains_key(*name))
            .collect();
        if !missing.is_empty() {
            let message = format!("[[bus.device]] needs an identifier for {}", listed(missing.iter().copied()));
            let help = format!(
                "the template refers to it: say `{} = \"…\"` in [bus.device.resources], or list it in `unused`",
                missing.first().copied().unwrap_or_default()
            );
            findings.error(table.place_of("template"), message).help(help);
        }
        let unnamed = template.points.iter().any(|point| point.resource.is_none());
        if unnamed && self.resource.is_none() {
            findings
                .error(table.place, "[[bus.device]] needs `resource`")
                .help("`resource`: identifier of what the device observes");
        }
        if !unnamed && self.resource.is_some() {
            findings
                .error(table.place_of("resource"), "the template has no point for `resource`")
                .help(format!("it names its resources: {}; use [bus.device.resources]", listed(names)));
        }
    }
}

/// Says how the device is recognised. `None` when that is wrong.
fn identity(findings: &mut Findings, template: &Template, device: &Table) -> Option<Option<Identity>> {
    let own = device.decimal("identity_equals");
    let Some(TemplateIdentity { want, value_type, word_order, equals }) = template.identity else {
        if let Some(own) = own {
            findings
                .error(own.place, "the template has no identity register that could equal it")
                .help("name the register in [template.identity]");
            return None;
        }
        return Some(None);
    };
    let equals = match own {
        Some(own) => number::marker(own.value, value_type).map_err(|why| findings.error(own.place, why)).ok()?,
        None => match equals {
            Some(equals) => equals,
            None => {
                if device.lacks("identity_equals") {
                    findings
                        .error(device.place, "[[bus.device]] needs `identity_equals`")
                        .help("its template names the register that tells it from others, and no value");
                }
                return None;
            }
        },
    };
    Some(Some(Identity { want, value_type, word_order, equals }))
}

/// Takes how it reports. `None` when that is wrong.
fn heartbeat(findings: &mut Findings, device: &Table) -> Option<Option<Duration>> {
    let said = device.integer("heartbeat_s");
    if device.text("report")?.value != "on-change" {
        if let Some(said) = said {
            findings
                .error(said.place, "`heartbeat_s` belongs to `report = \"on-change\"`")
                .help("without it every poll is reported; take it out, or report on change");
            return None;
        }
        return Some(None);
    }
    let seconds = if device.lacks("heartbeat_s") { Some(DEFAULT_HEARTBEAT_S) } else { device.number("heartbeat_s") };
    seconds.map(|seconds| Some(Duration::from_secs(seconds)))
}

/// Looks a point's property up, and compares type and unit.
fn property<'a>(
    findings: &mut Findings,
    directory: &'a Directory,
    point: &TemplatePoint,
    class: Class,
    device: &Table,
) -> Option<&'a PropertyEntry> {
    let user = device.place_of("template");
    let called = directory.class_name(class);
    let Some(entry) = directory.property(class, &point.property) else {
        let known: Vec<_> = directory.properties_of(class).map(|property| property.name.as_str()).collect();
        let help = match nearest(&point.property, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its properties are {}", listed(known)),
        };
        let message = format!("`{}` is no property of {called}", point.property);
        findings.error(point.place, message).other(user, "used here").help(help);
        return None;
    };
    let bit = match point.value_type {
        ValueType::Bool => true,
        ValueType::Bits(field) => field.width() == 1,
        _ => false,
    };
    let state = entry.kind == PropertyKind::State;
    if bit != state {
        let message = if state {
            format!("`{}` of {called} is a state: it needs one bit", entry.name)
        } else {
            format!("`{}` of {called} is a number: one bit cannot hold it", entry.name)
        };
        findings.error(point.place, message).other(user, "used here");
        return None;
    }
    let arithmetic = [
        (point.scale.is_some(), "scale"),
        (!point.terms.is_empty(), "further registers"),
        (point.deadband.is_some(), "deadband"),
    ];
    if let Some((_, what)) = arithmetic.iter().find(|(there, _)| state && *there) {
        let message = format!("`{}` is a state: it has no {what}", entry.name);
        findings.error(point.place, message).other(user, "used here");
        return None;
    }
    if point.unit.value != entry.unit {
        let message =
            format!("`{}` of {called} is in `{}`, the template says `{}`", entry.name, entry.unit, point.unit.value);
        findings
            .error(point.unit.place, message)
            .other(user, "used here")
            .help(format!("give `scale` so that the value comes out in `{0}`, and say `unit = \"{0}\"`", entry.unit));
        return None;
    }
    Some(entry)
}

/// A device while it is built.
struct Build {
    /// Its points by period.
    groups: BTreeMap<Duration, GroupBuild>,
}

#[derive(Default)]
struct GroupBuild {
    parts: Vec<Part>,
    points: Vec<Point>,
    /// For each point: what reads it, and what reads its terms.
    reads: Vec<(ReadRequest, Vec<ReadRequest>)>,
    /// For each point: what it is watched for.
    watched: Vec<Watched>,
}

/// What will be one stream.
struct Part {
    /// Where the site file names the resource.
    place: Place,
    resource: Cri,
    domain: String,
    properties: Vec<NamedProperty>,
}

impl GroupBuild {
    fn point(
        &mut self,
        directory: &Directory,
        point: &TemplatePoint,
        at: &At<Cri>,
        entry: &PropertyEntry,
        watched: Watched,
    ) {
        let known = self.parts.iter().position(|part| part.resource == at.value);
        let part = known.unwrap_or(self.parts.len());
        if known.is_none() {
            let domain = directory.domain(at.value.class()).to_owned();
            self.parts.push(Part { place: at.place, resource: at.value, domain, properties: Vec::new() });
        }
        let Some(owner) = self.parts.get_mut(part) else { return };
        let terms = point.terms.iter().map(|term| Term {
            role: term.role,
            want: 0,
            first: first(term.own, point.want_of(term)),
            value_type: term.value_type,
            word_order: term.word_order,
        });
        self.points.push(Point {
            part,
            place: owner.properties.len(),
            want: 0,
            first: first(point.own, point.want()),
            value_type: point.value_type,
            word_order: point.word_order,
            terms: terms.collect(),
            scale: point.scale,
            missing: point.missing,
            range: entry.range,
            deadband: point.deadband,
        });
        owner.properties.push(NamedProperty { name: point.name(), unit: entry.unit.clone() });
        self.reads.push((point.want(), point.terms.iter().map(|term| point.want_of(term)).collect()));
        self.watched.push(watched);
    }

    /// Puts the wants in order and says for each point where in them it is.
    fn finish(mut self, interval: Duration, plant: &mut Plant) -> Group {
        let mut reads: Vec<_> = self.reads.iter().flat_map(|(own, terms)| terms.iter().chain([own])).copied().collect();
        reads.sort_unstable();
        reads.dedup();
        let place = |read: &ReadRequest| reads.partition_point(|other| other < read);
        for (point, (own, terms)) in self.points.iter_mut().zip(&self.reads) {
            point.want = place(own);
            point.terms.iter_mut().zip(terms).for_each(|(term, read)| term.want = place(read));
        }
        let wants = reads.into_iter().scan(0, |next, read| {
            let offset = *next;
            *next += usize::from(read.count);
            Some(Want { read, offset })
        });
        let wants = plant.wants(wants.collect());
        let alarms = self.alarms(plant);
        let mut streams = Vec::new();
        for Part { resource, domain, properties, .. } in self.parts {
            streams.push(StreamId(plant.streams.len()));
            let properties = plant.properties(properties);
            plant.streams.push(Stream { resource, domain, properties });
        }
        Group { interval, wants, points: plant.points(self.points), streams, heartbeat: None, alarms }
    }

    /// Gives each thing watched for a stream of events.
    fn alarms(&self, plant: &mut Plant) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        for (place, (point, (conditions, hold))) in self.points.iter().zip(&self.watched).enumerate() {
            let Some(part) = self.parts.get(point.part) else { continue };
            let Some(property) = part.properties.get(point.place) else { continue };
            for &condition in conditions {
                let properties = alarm::properties(property, condition);
                let stream = plant.event_stream(part.resource, &part.domain, properties);
                alarms.push(Alarm { point: place, condition, hold: *hold, stream });
            }
        }
        alarms
    }
}

impl Build {
    /// Refuses a property of a resource that another device, or another name of this one, reads already.
    fn check_sources(&self, findings: &mut Findings, device: &str, plant: &mut Plant) {
        for part in self.groups.values().flat_map(|group| &group.parts) {
            let Part { place, resource, .. } = part;
            let properties = plant.properties(part.properties.clone());
            let sources = plant.sources.entry(*resource).or_default();
            let mut twice = Vec::new();
            let mut first = None;
            let mut names = HashSet::new();
            for property in properties.iter() {
                let here = (!names.insert(&property.name)).then(|| (device.to_owned(), *place));
                let there = || {
                    let reads = |source: &&Source| source.properties.iter().any(|other| other.name == property.name);
                    sources.iter().find(reads).map(|source| (source.device.clone(), source.place))
                };
                if let Some(source) = here.or_else(there) {
                    twice.push(property.name.as_str());
                    first.get_or_insert(source);
                }
            }
            sources.push(Source { device: device.to_owned(), place: *place, properties: Arc::clone(&properties) });
            let Some((other, first)) = first else { continue };
            twice.dedup();
            let more = twice.len().saturating_sub(3);
            let mut names = listed(twice.iter().take(3).copied());
            if more > 0 {
                names.push_str(&format!(" and {more} more"));
            }
            findings
                .error(*place, format!("{names} of {} would have two sources", resource))
                .label(format!("read from {device:?}"))
                .other(first, format!("read from {other:?} already"))
                .help("one property of one resource has one source (一数一源); check which identifier is wrong");
        }
    }
}
