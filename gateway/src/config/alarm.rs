//! What is an alarm: the `alarm` of a point, or what a device says in its place.

use std::collections::BTreeMap;
use std::time::Duration;

use ganglion_drivers::alarm::Condition;
use ganglion_protocols::Class;

use super::directory::{Directory, PropertyEntry, PropertyKind};
use super::keys::{Item, Key, Kind, Need, Section, Table};
use super::number;
use super::point::TemplatePoint;
use super::report::{At, Findings, Note, Place, nearest};
use super::template::Template;
use super::values::listed;
use crate::site::NamedProperty;

/// The table of an alarm; instead of it a key may say `true` or `false`.
pub(super) const ALARM: Section = Section {
    name: "an alarm",
    doc: "What makes a value an alarm. A state needs no limit, a number one or two.",
    keys: &[
        Key {
            name: "above",
            kind: Kind::Decimal,
            need: Need::Optional,
            doc: "for a number: an alarm when it is above this, in the property's unit",
        },
        Key {
            name: "below",
            kind: Kind::Decimal,
            need: Need::Optional,
            doc: "for a number: an alarm when it is below this, in the property's unit",
        },
        Key {
            name: "hysteresis",
            kind: Kind::Decimal,
            need: Need::Optional,
            doc: "how far a number must come back from its limit to end the alarm, in the property's unit; else not at all",
        },
        Key {
            name: "for_s",
            kind: Kind::Integer(0, 86_400),
            need: Need::Number(0),
            doc: "how long it must hold to be raised, and its opposite to clear it, in seconds",
        },
    ],
    choice: None,
};

/// What a file says about one alarm.
#[derive(Clone, Debug)]
pub(super) struct Said {
    place: Place,
    /// `None` when it says that there is none.
    limits: Option<Limits>,
}

#[derive(Clone, Debug)]
struct Limits {
    above: Option<At<f64>>,
    below: Option<At<f64>>,
    hysteresis: Option<At<f64>>,
    hold: Duration,
}

/// What a point is watched for, and how long that must hold.
pub(super) type Watched = (Vec<Condition>, Duration);

impl Said {
    /// Takes the value of an `alarm`; `None` when it is wrong, which is then reported.
    pub(super) fn read(findings: &mut Findings, at: &At<Item>) -> Option<Self> {
        let table = match &at.value {
            Item::Boolean(true) => None,
            Item::Table(table) => Some(table),
            _ => return Some(Self { place: at.place, limits: None }),
        };
        let Some(table) = table else {
            let limits = Limits { above: None, below: None, hysteresis: None, hold: Duration::ZERO };
            return Some(Self { place: at.place, limits: Some(limits) });
        };
        let errors = findings.errors();
        let above = decimal(findings, table, "above", number::finite);
        let below = decimal(findings, table, "below", number::finite);
        let hysteresis = decimal(findings, table, "hysteresis", number::limit);
        if let (Some(above), Some(below)) = (&above, &below)
            && above.value <= below.value
        {
            let message = format!("`above` is {}, not above `below`, which is {}", above.value, below.value);
            findings.error(above.place, message).other(below.place, "`below` is here").help(
                "an alarm above 1.2 and below 0.1 leaves the values between them: `{ above = 1.2, below = 0.1 }`",
            );
        }
        let hold = Duration::from_secs(table.number("for_s")?);
        let limits = Limits { above, below, hysteresis, hold };
        (findings.errors() == errors).then_some(Self { place: at.place, limits: Some(limits) })
    }

    /// Compares it with the property; `None` when it does not suit, which is then reported.
    fn watched(
        &self,
        findings: &mut Findings,
        entry: &PropertyEntry,
        called: &str,
        user: Option<Place>,
    ) -> Option<Watched> {
        let Some(limits) = &self.limits else { return Some((Vec::new(), Duration::ZERO)) };
        let name = &entry.name;
        let numbers = [&limits.above, &limits.below, &limits.hysteresis];
        if entry.kind == PropertyKind::State {
            if let Some(stray) = numbers.into_iter().flatten().next() {
                let message = format!("`{name}` of {called} is a state: its alarm has no limit");
                refuse(findings, (stray.place, user), message).help("say `alarm = true`, or `alarm = { for_s = 10 }`");
                return None;
            }
            return Some((vec![Condition::On], limits.hold));
        }
        let mut conditions = Vec::new();
        let hysteresis = limits.hysteresis.as_ref().map_or(0.0, |at| at.value);
        if let Some(At { value: limit, place }) = limits.above {
            possible(findings, (place, user), (entry, called), ("above", limit, limit - hysteresis))?;
            conditions.push(Condition::Above { limit, hysteresis });
        }
        if let Some(At { value: limit, place }) = limits.below {
            possible(findings, (place, user), (entry, called), ("below", limit, limit + hysteresis))?;
            conditions.push(Condition::Below { limit, hysteresis });
        }
        if conditions.is_empty() {
            let message = format!("`{name}` of {called} is a number: its alarm needs `above` or `below`");
            refuse(findings, (self.place, user), message)
                .help(format!("such as `alarm = {{ above = 1.2 }}`, in `{}`", entry.unit));
            return None;
        }
        Some((conditions, limits.hold))
    }
}

/// Where an alarm is said, and which device uses the template that says it.
type Marks = (Place, Option<Place>);

fn refuse(findings: &mut Findings, (place, user): Marks, message: String) -> Note<'_> {
    let note = findings.error(place, message);
    match user {
        Some(user) => note.other(user, "used here"),
        None => note,
    }
}

/// Refuses a limit that no possible value passes, and one that no possible value comes back from.
fn possible(
    findings: &mut Findings,
    marks: Marks,
    (entry, called): (&PropertyEntry, &str),
    (side, limit, end): (&str, f64, f64),
) -> Option<()> {
    let Some((low, high)) = entry.range else { return Some(()) };
    let (raised, cleared) = if side == "above" { (limit < high, end >= low) } else { (limit > low, end <= high) };
    if raised && cleared {
        return Some(());
    }
    let name = &entry.name;
    let message = if raised {
        format!("the alarm of `{name}` would never be over: it ends at {end}")
    } else {
        format!("`{name}` is never {side} {limit}")
    };
    let range = match (low.is_finite(), high.is_finite()) {
        (true, true) => format!("from {low} to {high}"),
        (true, false) => format!("at least {low}"),
        _ => format!("at most {high}"),
    };
    refuse(findings, marks, message).help(format!(
        "`{name}` of {called} is {range} `{}`; a value outside is bad, and a bad value neither raises nor clears",
        entry.unit
    ));
    None
}

fn decimal(
    findings: &mut Findings,
    table: &Table,
    key: &str,
    take: fn(&str) -> Result<f64, String>,
) -> Option<At<f64>> {
    let at = table.decimal(key)?;
    match take(at.value) {
        Ok(value) => Some(At { value, place: at.place }),
        Err(why) => {
            findings.error(at.place, format!("`{key}` of an alarm: {why}"));
            None
        }
    }
}

/// What a device says in place of its template.
pub(super) struct Own {
    /// By the name of a property, with or without channel.
    said: BTreeMap<String, Option<Said>>,
}

impl Own {
    /// Reads `[bus.device.alarms]`, and compares its names with the template's points.
    pub(super) fn read(findings: &mut Findings, device: &Table, template: &Template) -> Self {
        let mut said = BTreeMap::new();
        for (name, at) in device.map("alarms") {
            let known = || template.points.iter().flat_map(|point| [point.name(), point.property.clone()]);
            if !known().any(|known| known == name.value) {
                let mut known: Vec<_> = known().collect();
                known.sort_unstable();
                known.dedup();
                let help = match nearest(&name.value, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its properties are {}", listed(known.iter().map(String::as_str))),
                };
                findings.error(name.place, format!("the template has no point `{}`", name.value)).help(help);
            }
            let own = at.as_ref().and_then(|at| Said::read(findings, at));
            said.insert(name.value.clone(), own);
        }
        Self { said }
    }

    /// Returns what a point is watched for; what is wrong with it is reported once for each class, and noted in `judged`.
    pub(super) fn watched(
        &self,
        findings: &mut Findings,
        judged: &mut Vec<(Place, Class)>,
        (directory, class): (&Directory, Class),
        (point, entry): (&TemplatePoint, &PropertyEntry),
        device: &Table,
    ) -> Watched {
        let own = self.said.get(&point.name()).or_else(|| self.said.get(&point.property));
        let (said, user) = match own {
            Some(said) => (said.as_ref(), None),
            None => (point.alarm.as_ref(), Some(device.place_of("template"))),
        };
        let Some(said) = said.filter(|said| !judged.contains(&(said.place, class))) else { return Watched::default() };
        said.watched(findings, entry, &directory.class_name(class), user).unwrap_or_else(|| {
            judged.push((said.place, class));
            Watched::default()
        })
    }
}

/// Returns the properties of the stream that tells of an alarm: the value, where there is one, and the state.
pub(super) fn properties(property: &NamedProperty, condition: Condition) -> Vec<NamedProperty> {
    let side = match condition {
        Condition::On => return vec![property.clone()],
        Condition::Above { .. } => "above",
        Condition::Below { .. } => "below",
    };
    vec![property.clone(), NamedProperty::state(format!("{}.{side}", property.name))]
}
