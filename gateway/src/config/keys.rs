//! Keys as data: what a section of a TOML file may hold, and the walk that checks a file against it.
//!
//! A [`Section`] is a constant. The walk and the JSON Schema ([`super::schema`]) read the same constants, so what an
//! editor accepts and what the gateway accepts cannot drift apart.

use std::collections::BTreeMap;

use ganglion_protocols::Cri;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{At, Findings, Place, nearest};
use super::values;

/// A table of a file.
#[derive(Debug)]
pub(super) struct Section {
    /// What a person calls it.
    pub(super) name: &'static str,
    /// What it is for.
    pub(super) doc: &'static str,
    /// Its keys.
    pub(super) keys: &'static [Key],
    /// The key whose word decides which further keys there are, and those keys for each word.
    pub(super) choice: Option<Choice>,
}

/// Keys that depend on a word.
#[derive(Debug)]
pub(super) struct Choice {
    /// The key that holds the word; one of the section's keys, required, of kind [`Kind::Words`].
    pub(super) key: &'static str,
    /// The further keys for each word.
    pub(super) cases: &'static [(&'static str, &'static [Key])],
}

/// One key of a section.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name; a unit is its suffix.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
    /// Whether it must be there.
    pub(super) need: Need,
    /// What it is for, in a line.
    pub(super) doc: &'static str,
}

/// Whether a key must be there.
#[derive(Debug)]
pub(super) enum Need {
    /// It must.
    Required,
    /// It need not; what its absence means is said in its `doc`.
    Optional,
    /// It need not and is then this number.
    Number(i64),
    /// It need not and is then this word.
    Word(&'static str),
    /// It need not and is then this.
    Flag(bool),
}

/// What a key holds.
#[derive(Debug)]
pub(super) enum Kind {
    /// Text of 1 to 255 bytes without control characters.
    Text,
    /// A path; a relative one starts at the file's folder.
    Path,
    /// A city resource identifier.
    Resource,
    /// One of some words.
    Words(&'static [&'static str]),
    /// A whole number within limits.
    Integer(i64, i64),
    /// Bytes within limits: a whole number, or text with `KiB`, `MiB` or `GiB`.
    Size(i64, i64),
    /// A number, kept digit by digit.
    Decimal,
    /// `true` or `false`.
    Boolean,
    /// `true`, `false` or a table.
    FlagOr(&'static Section),
    /// A list.
    List(&'static Kind),
    /// Free names, each with a value.
    Map(&'static Kind),
    /// A table.
    Table(&'static Section),
    /// An array of tables.
    Tables(&'static Section),
}

impl Kind {
    /// Says whether a cell of a table can hold it.
    pub(super) const fn fits_a_cell(&self) -> bool {
        match self {
            Self::List(of) | Self::Map(of) => of.fits_a_cell(),
            Self::FlagOr(_) | Self::Table(_) | Self::Tables(_) => false,
            _ => true,
        }
    }
}

/// A checked value.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Text(String),
    Resource(Cri),
    /// Whole numbers, sizes in bytes.
    Integer(i64),
    Decimal(String),
    Boolean(bool),
    List(Vec<At<Item>>),
    /// By name; a value that is wrong is `None`.
    Map(Vec<(At<String>, Option<At<Item>>)>),
    Table(Table),
}

/// A checked table. What was wrong is reported and missing here, so whoever builds from it looks at what is there.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Where it is: its header.
    pub(super) place: Place,
    /// The keys that apply here.
    keys: Vec<&'static Key>,
    items: BTreeMap<&'static str, At<Item>>,
    /// Keys that are there with a value that is wrong.
    wrong: Vec<&'static str>,
    /// The file has slips of syntax: what is not here may only be unreadable.
    broken: bool,
}

impl Section {
    fn cases(&self) -> impl Iterator<Item = &'static (&'static str, &'static [Key])> {
        self.choice.iter().flat_map(|choice| choice.cases)
    }
}

impl Table {
    /// Stands for a table that was left out: every key has its default.
    pub(super) fn empty(section: &'static Section, place: Place) -> Self {
        Self { place, keys: section.keys.iter().collect(), items: BTreeMap::new(), wrong: Vec::new(), broken: false }
    }

    /// Takes values that were checked elsewhere: a row of a device table.
    pub(super) fn from_cells(
        section: &'static Section,
        place: Place,
        items: BTreeMap<&'static str, At<Item>>,
        wrong: Vec<&'static str>,
    ) -> Self {
        Self { place, keys: section.keys.iter().collect(), items, wrong, broken: false }
    }

    /// Returns the value of a key, if it is there and right.
    pub(super) fn get(&self, name: &str) -> Option<&At<Item>> {
        self.items.get(name)
    }

    fn need(&self, name: &str) -> Option<&'static Need> {
        self.keys.iter().find(|key| key.name == name).map(|key| &key.need)
    }

    /// Says whether a key was left out; one that is there and wrong is reported already, and of a file with slips of syntax
    /// nobody can say.
    pub(super) fn lacks(&self, name: &str) -> bool {
        !self.broken && self.get(name).is_none() && !self.wrong.contains(&name)
    }

    /// Returns where a key's value is, or else where the table is.
    pub(super) fn place_of(&self, name: &str) -> Place {
        self.get(name).map_or(self.place, |at| at.place)
    }

    pub(super) fn text(&self, name: &str) -> Option<At<&str>> {
        let at = |value| At { value, place: self.place_of(name) };
        match (self.get(name).map(|at| &at.value), self.need(name)) {
            (Some(Item::Text(text)), _) => Some(at(text.as_str())),
            (None, Some(Need::Word(word))) => Some(at(*word)),
            _ => None,
        }
    }

    pub(super) fn integer(&self, name: &str) -> Option<At<i64>> {
        let at = |value| At { value, place: self.place_of(name) };
        match (self.get(name).map(|at| &at.value), self.need(name)) {
            (Some(Item::Integer(number)), _) => Some(at(*number)),
            (None, Some(Need::Number(number))) => Some(at(*number)),
            _ => None,
        }
    }

    /// Returns a number as the type its key's limits fit.
    pub(super) fn number<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        T::try_from(self.integer(name)?.value).ok()
    }

    pub(super) fn decimal(&self, name: &str) -> Option<At<&str>> {
        match self.get(name) {
            Some(At { value: Item::Decimal(text), place }) => Some(At { value: text, place: *place }),
            _ => None,
        }
    }

    pub(super) fn resource(&self, name: &str) -> Option<At<Cri>> {
        match self.get(name) {
            Some(At { value: Item::Resource(cri), place }) => Some(At { value: *cri, place: *place }),
            _ => None,
        }
    }

    /// Says whether a flag is set; absent is no, unless its key says otherwise.
    pub(super) fn flag(&self, name: &str) -> bool {
        match (self.get(name).map(|at| &at.value), self.need(name)) {
            (Some(Item::Boolean(flag)), _) | (None, Some(Need::Flag(flag))) => *flag,
            _ => false,
        }
    }

    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        match self.get(name) {
            Some(At { value: Item::Table(table), .. }) => Some(table),
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> &[At<Item>] {
        match self.get(name) {
            Some(At { value: Item::List(items), .. }) => items,
            _ => &[],
        }
    }

    pub(super) fn tables(&self, name: &str) -> impl Iterator<Item = &Table> {
        self.list(name).iter().filter_map(|at| match &at.value {
            Item::Table(table) => Some(table),
            _ => None,
        })
    }

    pub(super) fn map(&self, name: &str) -> &[(At<String>, Option<At<Item>>)] {
        match self.get(name) {
            Some(At { value: Item::Map(entries), .. }) => entries,
            _ => &[],
        }
    }
}

/// More slips of syntax than this are counted only: such a file is no TOML.
const MOST_SLIPS: usize = 50;

/// Parses a file's text and checks it against the section of its top level.
pub(super) fn check(findings: &mut Findings, source: usize, text: &str, section: &'static Section) -> Table {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let broken = !errors.is_empty();
    // One slip makes several follow-up errors on its line; the first says it.
    let mut places: Vec<_> =
        errors.iter().map(|error| Place::new(source, &error.span().unwrap_or(0..0))).zip(&errors).collect();
    places.dedup_by_key(|(place, _)| findings.line(*place));
    for (place, error) in places.iter().take(MOST_SLIPS) {
        findings.error(*place, format!("not TOML: {}", error.message()));
    }
    if let Some((place, _)) = places.get(MOST_SLIPS) {
        findings.error(*place, format!("not TOML: {} more lines from here on", places.len() - MOST_SLIPS));
    }
    let top = Place::new(source, &(0..0));
    findings.quiet(source, |findings| Walk { findings, source, broken }.table(section, tree.get_ref(), top))
}

struct Walk<'a> {
    findings: &'a mut Findings,
    source: usize,
    /// The text had syntax errors: what is missing may only be unreadable.
    broken: bool,
}

impl Walk<'_> {
    fn table(&mut self, section: &'static Section, tree: &DeTable<'_>, place: Place) -> Table {
        let (keys, chosen) = keys_for(section, tree);
        let mut items = BTreeMap::new();
        let mut wrong = Vec::new();
        for (name, value) in tree {
            let here = Place::new(self.source, &name.span());
            let Some(key) = keys.iter().find(|key| key.name == name.get_ref().as_ref()) else {
                self.unknown_key(section, &keys, chosen, name.get_ref(), here);
                continue;
            };
            let value_place = Place::new(self.source, &value.span());
            match self.item(key, &key.kind, value) {
                Some(value) => {
                    items.insert(key.name, At { value, place: value_place });
                }
                None => wrong.push(key.name),
            }
        }
        let sure = |key: &&&'static Key| chosen.is_some() || section.keys.iter().any(|own| own.name == key.name);
        for key in keys.iter().filter(sure).filter(|key| matches!(key.need, Need::Required) && !self.broken) {
            if !tree.contains_key(key.name) {
                let message = format!("{} needs `{}`", section.name, key.name);
                self.findings.error(place, message).help(format!("`{}`: {}", key.name, key.doc));
            }
        }
        Table { place, keys, items, wrong, broken: self.broken }
    }

    fn unknown_key(
        &mut self,
        section: &'static Section,
        keys: &[&'static Key],
        chosen: Option<&str>,
        name: &str,
        place: Place,
    ) {
        if let Some(choice) = &section.choice
            && let Some((word, _)) = section.cases().find(|(_, keys)| keys.iter().any(|key| key.name == name))
        {
            // Without a word nobody knows which keys belong here, and the missing word is reported already.
            if let Some(chosen) = chosen {
                let message = format!("`{name}` belongs to `{} = \"{word}\"`, not to \"{chosen}\"", choice.key);
                self.findings.error(place, message).help(format!("take it out, or make the {} {word}", choice.key));
            }
            return;
        }
        let message = format!("{} has no key `{name}`", section.name);
        let help = match nearest(name, keys.iter().map(|key| key.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its keys are {}", values::listed(keys.iter().map(|key| key.name))),
        };
        self.findings.error(place, message).help(help);
    }

    fn item(&mut self, key: &'static Key, kind: &'static Kind, value: &Spanned<DeValue<'_>>) -> Option<Item> {
        let place = Place::new(self.source, &value.span());
        let findings = &mut *self.findings;
        match (kind, value.get_ref()) {
            (Kind::Text | Kind::Path, DeValue::String(text)) => {
                values::text(findings, key, text, place).map(Item::Text)
            }
            (Kind::Words(words), DeValue::String(text)) => {
                values::word(findings, key, words, text, place).map(Item::Text)
            }
            (Kind::Resource, DeValue::String(text)) => values::resource(findings, text, place).map(Item::Resource),
            (Kind::Boolean, DeValue::Boolean(flag)) => Some(Item::Boolean(*flag)),
            (Kind::Integer(min, max), DeValue::Integer(number)) => {
                values::integer(findings, key, (*min, *max), number, place).map(Item::Integer)
            }
            (Kind::Size(min, max), DeValue::Integer(number)) => {
                values::integer(findings, key, (*min, *max), number, place).map(Item::Integer)
            }
            (Kind::Size(min, max), DeValue::String(text)) => {
                values::size(findings, key, (*min, *max), text, place).map(Item::Integer)
            }
            (Kind::Decimal, DeValue::Integer(number)) => Some(Item::Decimal(number.to_string())),
            (Kind::Decimal, DeValue::Float(number)) => Some(Item::Decimal(number.as_str().to_owned())),
            (Kind::List(kind), DeValue::Array(values)) => {
                Some(Item::List(values.iter().filter_map(|value| self.placed(key, kind, value)).collect()))
            }
            (Kind::Map(kind), DeValue::Table(entries)) => {
                let entries = entries.iter().map(|(name, value)| {
                    let at = Place::new(self.source, &name.span());
                    (At { value: name.get_ref().to_string(), place: at }, self.placed(key, kind, value))
                });
                Some(Item::Map(entries.collect()))
            }
            (Kind::FlagOr(_), DeValue::Boolean(flag)) => Some(Item::Boolean(*flag)),
            (Kind::Table(section) | Kind::FlagOr(section), DeValue::Table(tree)) => {
                Some(Item::Table(self.table(section, tree, place)))
            }
            (Kind::Tables(section), DeValue::Array(values)) => {
                let mut tables = Vec::new();
                for value in values {
                    let place = Place::new(self.source, &value.span());
                    match value.get_ref() {
                        DeValue::Table(tree) => {
                            tables.push(At { value: Item::Table(self.table(section, tree, place)), place });
                        }
                        other => values::wrong_type(self.findings, key, kind, other, place),
                    }
                }
                Some(Item::List(tables))
            }
            (_, other) => {
                values::wrong_type(findings, key, kind, other, place);
                None
            }
        }
    }

    fn placed(&mut self, key: &'static Key, kind: &'static Kind, value: &Spanned<DeValue<'_>>) -> Option<At<Item>> {
        let place = Place::new(self.source, &value.span());
        self.item(key, kind, value).map(|value| At { value, place })
    }
}

/// Returns the keys that apply, and the word that chose them; without a known word, those that mean one thing only.
fn keys_for(section: &'static Section, tree: &DeTable<'_>) -> (Vec<&'static Key>, Option<&'static str>) {
    let word = section.choice.as_ref().and_then(|choice| tree.get(choice.key)).and_then(|word| word.get_ref().as_str());
    let mut keys: Vec<_> = section.keys.iter().collect();
    if let Some((chosen, case)) = section.cases().find(|(case, _)| Some(*case) == word) {
        keys.extend(*case);
        return (keys, Some(chosen));
    }
    let all: Vec<_> = section.cases().flat_map(|(_, keys)| *keys).collect();
    keys.extend(all.iter().filter(|key| all.iter().filter(|other| other.name == key.name).count() == 1));
    (keys, None)
}
