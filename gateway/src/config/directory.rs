//! The code directory (编码目录): which divisions, classes and properties there are, in one edition.

use std::collections::BTreeMap;
use std::path::Path;

use ganglion_protocols::{Class, Cri, Division};

use super::csv_table::{self, Row};
use super::files;
use super::keys::{self, Key, Kind, Need, Section};
use super::report::{Findings, Place, nearest};
use super::values::listed;
use crate::site::REACHABLE;

/// Domain of a resource whose class says nothing better.
const UNRESOLVED: &str = "unresolved";

/// `status` of a division that identifiers may use.
const IN_FORCE: &str = "GB/T 2260";

/// `edition` of a class that the city has not settled yet.
const PROVISIONAL: &str = "provisional";

const EDITION_FILE: Section = Section {
    name: "the edition file",
    doc: "Edition of a code directory.",
    keys: &[Key { name: "edition", kind: Kind::Table(&EDITION), need: Need::Required, doc: "the edition" }],
    choice: None,
};

const EDITION: Section = Section {
    name: "[edition]",
    doc: "The edition.",
    keys: &[
        Key { name: "name", kind: Kind::Text, need: Need::Required, doc: "name of the edition, in every observation" },
        Key { name: "issued", kind: Kind::Text, need: Need::Optional, doc: "day of issue" },
        Key { name: "note", kind: Kind::Text, need: Need::Optional, doc: "what a reader should know" },
    ],
    choice: None,
};

/// One edition of the code directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// Name of the edition.
    pub(super) edition: String,
    divisions: BTreeMap<u32, String>,
    classes: BTreeMap<Scope, ClassEntry>,
    properties: BTreeMap<Scope, Vec<PropertyEntry>>,
}

/// What a row is about; the order puts a class before the next major.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Scope {
    /// Every class of a major: `96*`.
    Major(u16),
    /// One class: `9601`.
    Class(u16),
}

#[derive(Debug)]
struct ClassEntry {
    name: String,
    domain: String,
    edition: String,
}

/// One observable property of a class.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct PropertyEntry {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) kind: PropertyKind,
    /// Physically possible values; `None` when there is no limit at all.
    pub(super) range: Option<(f64, f64)>,
}

/// What kind of value a property has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PropertyKind {
    /// A measured number.
    Number,
    /// A whole number.
    Count,
    /// True or false.
    State,
}

/// What the directory says about a class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is named.
    Known,
    /// It is named, and the city may still change it.
    Provisional,
    /// Its major is known and its minor is not.
    UnknownMinor,
    /// Not even its major is known.
    UnknownMajor,
}

impl Directory {
    /// Reads the four files of a directory; whatever is wrong with them is reported.
    pub(super) fn read(findings: &mut Findings, folder: &Path, at: Place) -> Option<Self> {
        let errors = findings.errors();
        let mut directory = Self::default();
        if let Some((source, text)) = files::read(findings, &folder.join("edition.toml"), at) {
            let table = keys::check(findings, source, &text, &EDITION_FILE);
            if let Some(name) = table.table("edition").and_then(|edition| edition.text("name")) {
                directory.edition = name.value.to_owned();
            }
        }
        let mut rows = |file: &str, columns: &[&str]| match files::read(findings, &folder.join(file), at) {
            Some((source, text)) => csv_table::read(findings, source, &text, columns),
            None => Vec::new(),
        };
        let divisions = rows("divisions.csv", &["code", "status"]);
        let classes = rows("classes.csv", &["code", "name_en", "domain", "edition"]);
        let columns = ["class", "name", "quantity", "unit", "type", "min", "max", "grade"];
        let properties = rows("properties.csv", &columns);
        directory.take_divisions(findings, &divisions);
        directory.take_classes(findings, &classes);
        directory.take_properties(findings, &properties);
        (findings.errors() == errors).then_some(directory)
    }

    fn take_divisions(&mut self, findings: &mut Findings, rows: &[Row]) {
        for row in rows {
            let code = row.field(0).parse().ok().filter(|_| row.field(0).len() == 6);
            let Some(division) = code.and_then(|code| Division::new(code).ok()) else {
                let place = row.place(findings, 0);
                findings.error(place, format!("{:?} is no division: six digits, 110000 to 919999", row.field(0)));
                continue;
            };
            if self.divisions.insert(division.code(), row.field(1).to_owned()).is_some() {
                let place = row.place(findings, 0);
                findings.error(place, format!("division {division} is listed twice"));
            }
        }
    }

    fn take_classes(&mut self, findings: &mut Findings, rows: &[Row]) {
        for row in rows {
            let Some(scope) = scope(findings, row) else { continue };
            let domain = row.field(2);
            if !domain.bytes().all(|byte| byte.is_ascii_lowercase())
                || (domain.is_empty() && matches!(scope, Scope::Class(_)))
            {
                let place = row.place(findings, 2);
                findings
                    .error(place, format!("{domain:?} cannot be a domain"))
                    .help("a domain is a topic level: lower case letters a to z, such as `water`");
            }
            let entry = ClassEntry {
                name: row.field(1).to_owned(),
                domain: domain.to_owned(),
                edition: row.field(3).to_owned(),
            };
            if self.classes.insert(scope, entry).is_some() {
                let place = row.place(findings, 0);
                findings.error(place, format!("class {} is listed twice", row.field(0)));
            }
        }
    }

    fn take_properties(&mut self, findings: &mut Findings, rows: &[Row]) {
        for row in rows {
            let Some(scope) = scope(findings, row) else { continue };
            let Some(property) = property(findings, row) else { continue };
            if !self.classes.contains_key(&scope) {
                let place = row.place(findings, 0);
                findings.error(place, format!("class {} is not in classes.csv", row.field(0)));
            }
            let known = self.properties.entry(scope).or_default();
            if known.iter().any(|other| other.name == property.name) {
                let place = row.place(findings, 1);
                findings.error(place, format!("{} has `{}` twice", row.field(0), property.name));
            }
            known.push(property);
        }
    }

    /// Says what the directory knows of a class.
    pub(super) fn standing(&self, class: Class) -> Standing {
        match self.classes.get(&Scope::Class(class.code())) {
            Some(entry) if entry.edition == PROVISIONAL => Standing::Provisional,
            Some(_) => Standing::Known,
            None => {
                let major = class.major();
                let named = self.classes.keys().any(|scope| match *scope {
                    Scope::Major(known) => known == major,
                    Scope::Class(known) => known / 100 == major,
                });
                if named { Standing::UnknownMinor } else { Standing::UnknownMajor }
            }
        }
    }

    /// Returns the domain of a class: a topic level.
    pub(super) fn domain(&self, class: Class) -> &str {
        let entries = scopes(class).into_iter().filter_map(|scope| self.classes.get(&scope));
        entries.map(|entry| entry.domain.as_str()).find(|domain| !domain.is_empty()).unwrap_or(UNRESOLVED)
    }

    /// Returns what a person calls a class.
    pub(super) fn class_name(&self, class: Class) -> String {
        let entry = scopes(class).into_iter().find_map(|scope| self.classes.get(&scope));
        entry.map_or_else(|| format!("class {class}"), |entry| format!("class {class} ({})", entry.name))
    }

    /// Finds a property of a class by its name without channel.
    pub(super) fn property(&self, class: Class, name: &str) -> Option<&PropertyEntry> {
        self.properties_of(class).find(|property| property.name == name)
    }

    /// Returns the properties of a class, its own before those of its major.
    pub(super) fn properties_of(&self, class: Class) -> impl Iterator<Item = &PropertyEntry> {
        scopes(class).into_iter().filter_map(|scope| self.properties.get(&scope)).flatten()
    }

    /// Returns the widest range of the properties of that name and unit, whatever their class; `None` when one of them has
    /// no limit, or there is none.
    pub(super) fn widest_range(&self, name: &str, unit: &str) -> Option<(f64, f64)> {
        let like = self.properties.values().flatten().filter(|property| property.name == name && property.unit == unit);
        let ranges: Option<Vec<(f64, f64)>> = like.map(|property| property.range).collect();
        ranges?.into_iter().reduce(|(low, high), (other_low, other_high)| (low.min(other_low), high.max(other_high)))
    }

    /// Looks an identifier up; reports a division or class that may not be used and says whether it may.
    pub(super) fn resolve(&self, findings: &mut Findings, cri: Cri, at: Place) -> bool {
        let (division, class) = (cri.division(), cri.class());
        let edition = &self.edition;
        let before = findings.errors();
        match self.divisions.get(&division.code()).map(String::as_str) {
            Some(IN_FORCE) => {}
            Some(status) => {
                let message = format!("division {division} may not be used in identifiers: {status}");
                findings.error(at, message).help(self.near_division(division));
            }
            None => {
                let message = format!("division {division} is not in edition {edition} of the code directory");
                findings.error(at, message).help(self.near_division(division));
            }
        }
        match self.standing(class) {
            Standing::Known | Standing::Provisional => {}
            Standing::UnknownMinor => {
                let message = format!("class {class} has a minor that edition {edition} does not name");
                findings.warning(at, message).help(format!("it is taken; its domain is `{}`", self.domain(class)));
            }
            Standing::UnknownMajor => {
                let message = format!("class {class} has a major that edition {edition} does not name");
                findings.error(at, message).help("look the class up in classes.csv, or load the city's own edition");
            }
        }
        findings.errors() == before
    }

    fn near_division(&self, division: Division) -> String {
        let same = |code: &u32| code / 100 == division.code() / 100;
        let known: Vec<_> = self
            .divisions
            .iter()
            .filter(|(code, status)| same(code) && *status == IN_FORCE)
            .map(|(code, _)| format!("{code:06}"))
            .collect();
        if known.is_empty() {
            "look the division up in divisions.csv, or load the city's own edition".to_owned()
        } else {
            format!("divisions of the same city: {}", listed(known.iter().map(String::as_str)))
        }
    }
}

/// What may be said of a class, the most particular first.
fn scopes(class: Class) -> [Scope; 2] {
    [Scope::Class(class.code()), Scope::Major(class.major())]
}

/// Takes the first field, `9601` or `96*`.
fn scope(findings: &mut Findings, row: &Row) -> Option<Scope> {
    let text = row.field(0);
    let number = |digits: &str| digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let scope = match text.strip_suffix('*') {
        Some(major) if major.len() == 2 => number(major).filter(|major| *major != 0).map(Scope::Major),
        None if text.len() == 4 => number(text).and_then(|code| Class::new(code).ok()).map(|c| Scope::Class(c.code())),
        _ => None,
    };
    if scope.is_none() {
        let place = row.place(findings, 0);
        findings
            .error(place, format!("{text:?} is no class"))
            .help("four digits such as `9601`, or a major such as `96*`");
    }
    scope
}

fn property(findings: &mut Findings, row: &Row) -> Option<PropertyEntry> {
    let before = findings.errors();
    for (column, what) in [(2, "quantity"), (3, "unit")] {
        let text = row.field(column);
        if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
            let place = row.place(findings, column);
            findings.error(place, format!("{text:?} cannot be a {what}"));
        }
    }
    if !is_property_name(row.field(1)) {
        let place = row.place(findings, 1);
        findings
            .error(place, format!("{:?} cannot be the name of a property", row.field(1)))
            .help("lower case letters, digits and `_`, such as `total_volume`");
    }
    if row.field(1) == REACHABLE {
        let place = row.place(findings, 1);
        findings
            .error(place, format!("`{REACHABLE}` is a state of the contract's own: it says whether a device answers"));
    }
    let kind = one_of(
        findings,
        row,
        4,
        &[("number", PropertyKind::Number), ("count", PropertyKind::Count), ("state", PropertyKind::State)],
    );
    let limit = |findings: &mut Findings, column, open: f64| {
        let text = row.field(column);
        if text.is_empty() {
            return Some(open);
        }
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        if number.is_none() {
            let place = row.place(findings, column);
            findings.error(place, format!("{text:?} is no number"));
        }
        number
    };
    let min = limit(findings, 5, f64::NEG_INFINITY);
    let max = limit(findings, 6, f64::INFINITY);
    one_of(findings, row, 7, &[("general", ()), ("important", ()), ("core", ())]);
    let (min, max) = (min?, max?);
    if min > max {
        let place = row.place(findings, 5);
        findings.error(place, format!("min {min} is above max {max}"));
    }
    let open = min.is_infinite() && max.is_infinite();
    (findings.errors() == before).then_some(PropertyEntry {
        name: row.field(1).to_owned(),
        unit: row.field(3).to_owned(),
        kind: kind?,
        range: (!open).then_some((min, max)),
    })
}

fn one_of<T: Copy>(findings: &mut Findings, row: &Row, column: usize, words: &[(&str, T)]) -> Option<T> {
    let text = row.field(column);
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() {
        let names = || words.iter().map(|(word, _)| *word);
        let help = match nearest(text, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of {}", listed(names())),
        };
        let place = row.place(findings, column);
        findings.error(place, format!("{text:?} is not known here")).help(help);
    }
    found
}

/// Says whether a text can name a property: a JSON key and part of `…/pressure`.
pub(super) fn is_property_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
