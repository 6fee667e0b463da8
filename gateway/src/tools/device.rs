//! One device of the site, read once and understood as the daemon understands it.

use std::time::Duration;

use ganglion_drivers::bus::order::{Deed, Done};
use ganglion_drivers::bus::{Bus as Engine, Overview};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::UnitId;
use ganglion_protocols::{Reading, Reason};

use super::ask::{AskError, Way};
use crate::acquire::learned::Learned;
use crate::acquire::settings::{Polled, settings};
use crate::clock;
use crate::config::nearest;
use crate::normalize::observe;
use crate::pipeline::Sample;
use crate::site::{Bus, Device, DeviceId, Group, NamedProperty, Point, Site, Stream};

/// Returns the plan of a bus with what was learnt about its devices, and what each of its tasks polls.
#[must_use]
pub(crate) fn planned(site: &Site, bus: &Bus, learned: &Learned) -> (Overview, Vec<Polled>) {
    let (settings, polled) = settings(site, bus);
    let mut engine = Engine::new(Duration::ZERO, settings);
    for (unit, id) in bus.devices.iter().enumerate() {
        if let Some(device) = site.devices.get(id.0) {
            engine.restore(Duration::ZERO, unit, learned.of(device).into_iter());
        }
    }
    (engine.overview(Duration::ZERO), polled)
}

/// A device and the bus it is on.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The site.
    pub site: &'a Site,
    /// The bus.
    pub bus: &'a Bus,
    /// Its place in the site.
    pub id: DeviceId,
    /// The device.
    pub device: &'a Device,
}

/// A point of a device and what it is called.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Place of its group.
    pub group: usize,
    /// Its registers and their meaning.
    pub point: &'a Point,
    /// The stream its readings belong to.
    pub stream: &'a Stream,
    /// Name and unit.
    pub property: &'a NamedProperty,
}

/// One reading of a point.
#[derive(Clone, Debug)]
pub struct Value<'a> {
    /// Which point.
    pub named: Named<'a>,
    /// Its value, or why there is none.
    pub reading: Reading,
    /// What was read for it, its own registers only; empty without an answer.
    pub words: Vec<u16>,
    /// Where they are.
    pub at: ReadRequest,
}

/// Finds a device by name.
///
/// # Errors
/// What to tell: the names there are.
pub fn find<'a>(site: &'a Site, name: &str) -> Result<Found<'a>, String> {
    let place = site.devices.iter().position(|device| device.name == name).map(DeviceId);
    let found = place.and_then(|id| {
        let bus = site.buses.iter().find(|bus| bus.devices.contains(&id))?;
        Some(Found { site, bus, id, device: site.devices.get(id.0)? })
    });
    found.ok_or_else(|| {
        let names: Vec<&str> = site.devices.iter().map(|device| device.name.as_str()).collect();
        let near =
            nearest(name, names.iter().copied()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        format!("no device is called {name:?}{near}")
    })
}

impl<'a> Found<'a> {
    /// Returns its points that have the name, or all: `pressure`, `vehicle_count.3`, or with the resource in front,
    /// `330502-9601-000123-02/pressure`, where two resources have the property.
    ///
    /// # Errors
    /// What to tell: the names there are.
    pub fn points(&self, name: Option<&str>) -> Result<Vec<Named<'a>>, String> {
        let all: Vec<Named<'a>> =
            self.device.groups.iter().enumerate().flat_map(|(n, group)| self.of(n, group)).collect();
        let Some(name) = name else { return Ok(all) };
        let called = |named: &Named<'_>| {
            let property = &named.property.name;
            property == name
                || name
                    .split_once('/')
                    .is_some_and(|(resource, rest)| rest == property && resource == named.stream.resource.to_string())
        };
        let found: Vec<Named<'a>> = all.iter().copied().filter(called).collect();
        if found.is_empty() {
            let mut names: Vec<&str> = all.iter().map(|named| named.property.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            return Err(format!("{} has no point {name:?}; it has: {}", self.device.name, names.join(", ")));
        }
        Ok(found)
    }

    /// Returns where a point's own registers are.
    #[must_use]
    pub fn registers(&self, named: &Named<'_>) -> Option<ReadRequest> {
        own(self.device.groups.get(named.group)?, named.point)
    }

    fn of(&self, place: usize, group: &'a Group) -> impl Iterator<Item = Named<'a>> {
        let site = self.site;
        group.points.iter().filter_map(move |point| {
            let stream = site.streams.get(group.streams.get(point.part)?.0)?;
            Some(Named { group: place, point, stream, property: stream.properties.get(point.place)? })
        })
    }

    /// Reads points, in as few requests as the daemon would, and says what they mean.
    ///
    /// # Errors
    /// When a request could not even be asked; what a unit or the wire refuses is the reason of a reading.
    pub async fn read(
        &self,
        way: &mut Way,
        learned: &Learned,
        points: &[Named<'a>],
    ) -> Result<Vec<Value<'a>>, AskError> {
        let (overview, polled) = planned(self.site, self.bus, learned);
        let mut values = Vec::new();
        for (place, group) in self.device.groups.iter().enumerate() {
            let wanted: Vec<&Named<'a>> = points.iter().filter(|named| named.group == place).collect();
            if wanted.is_empty() {
                continue;
            }
            let mut sample = empty(self.id, place, group);
            let places: Vec<usize> = wanted.iter().flat_map(|named| wants_of(named.point)).collect();
            let task = polled.iter().position(|polled| polled.device == self.id && polled.group == place);
            let view = task.and_then(|task| overview.tasks.get(task));
            let requests = view.map_or(&[][..], |view| &view.requests);
            let needed = |request: &&ReadRequest| {
                places.iter().filter_map(|&want| group.wants.get(want)).any(|want| request.covers(want.read))
            };
            for &request in requests.iter().filter(needed) {
                self.fill(way, group, &mut sample, request, &places).await?;
            }
            sample.t = clock::now();
            let observations = observe(self.site, &sample);
            for named in wanted {
                let observation = observations.get(named.point.part);
                let reading = observation.and_then(|observation| observation.readings.get(named.point.place));
                if let (Some(&reading), Some(at)) = (reading, own(group, named.point)) {
                    values.push(Value { named: *named, reading, words: words(group, &sample, named.point), at });
                }
            }
        }
        Ok(values)
    }

    /// Asks one request, and each want in it on its own if the unit refuses it as a whole.
    async fn fill(
        &self,
        way: &mut Way,
        group: &Group,
        sample: &mut Sample,
        request: ReadRequest,
        places: &[usize],
    ) -> Result<(), AskError> {
        let reason = match read(way, self.device.unit, request).await? {
            Ok(items) => {
                put(group, sample, request, &items);
                return Ok(());
            }
            Err(reason) => reason,
        };
        for (place, want) in group.wants.iter().enumerate().filter(|(_, want)| request.covers(want.read)) {
            let alone = matches!(reason, Reason::Exception(_)) && want.read != request && places.contains(&place);
            let answer = if alone { read(way, self.device.unit, want.read).await? } else { Err(reason) };
            match answer {
                Ok(items) => put(group, sample, want.read, &items),
                Err(reason) => sample.states.iter_mut().skip(place).take(1).for_each(|state| *state = Some(reason)),
            }
        }
        Ok(())
    }

    /// Looks whether the right device answers. Returns what its identity register holds instead, if not.
    ///
    /// # Errors
    /// When it could not be asked, or has no answer.
    pub async fn identity(&self, way: &mut Way) -> Result<Option<Vec<u16>>, AskError> {
        let Some(identity) = &self.device.identity else { return Ok(None) };
        let Done::Items(items) = way.call(self.device.unit, Deed::Read(identity.want), false).await? else {
            return Ok(None);
        };
        let holds = identity.value_type.bits(&items, identity.word_order) == Ok(identity.equals);
        Ok((!holds).then_some(items))
    }
}

/// Reads items of a unit.
async fn read(way: &mut Way, unit: UnitId, request: ReadRequest) -> Result<Result<Vec<u16>, Reason>, AskError> {
    match way.call(unit, Deed::Read(request), false).await {
        Ok(Done::Items(items)) => Ok(Ok(items)),
        Ok(_) => Ok(Err(Reason::WrongReply)),
        Err(error) => error.reason().map(Err).ok_or(error),
    }
}

fn wants_of(point: &Point) -> impl Iterator<Item = usize> {
    [point.want].into_iter().chain(point.terms.iter().map(|term| term.want))
}

/// Returns the registers of a point itself.
fn own(group: &Group, point: &Point) -> Option<ReadRequest> {
    let want = group.wants.get(point.want)?.read;
    let first = u16::try_from(point.first).ok()?;
    Some(ReadRequest {
        table: want.table,
        address: want.address.checked_add(first)?,
        count: point.value_type.registers(),
    })
}

/// A sample in which nothing was asked for.
fn empty(device: DeviceId, place: usize, group: &Group) -> Sample {
    let words = group.wants.iter().map(|want| want.offset + usize::from(want.read.count)).max().unwrap_or(0);
    Sample {
        device,
        group: place,
        t: clock::now(),
        clock: clock::state(),
        words: vec![0; words],
        states: vec![Some(Reason::Missing); group.wants.len()],
        origin: None,
    }
}

/// Gives the items of one answer to the wants inside it.
fn put(group: &Group, sample: &mut Sample, request: ReadRequest, items: &[u16]) {
    for (want, state) in group.wants.iter().zip(&mut sample.states).filter(|(want, _)| request.covers(want.read)) {
        let count = usize::from(want.read.count);
        let first = usize::from(want.read.address - request.address);
        let from = items.get(first..first + count);
        let to = sample.words.get_mut(want.offset..want.offset + count);
        if let (Some(from), Some(to)) = (from, to) {
            to.copy_from_slice(from);
            *state = None;
        }
    }
}

fn words(group: &Group, sample: &Sample, point: &Point) -> Vec<u16> {
    let (Some(None), Some(want)) = (sample.states.get(point.want), group.wants.get(point.want)) else {
        return Vec::new();
    };
    let first = want.offset + point.first;
    sample.words.get(first..first + usize::from(point.value_type.registers())).unwrap_or_default().to_vec()
}
