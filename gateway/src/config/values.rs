//! Single values: whether a text, a word, a number or an identifier is what its key asks for.

use std::ops::Range;

use ganglion_protocols::{Cri, CriError};
use toml::de::{DeInteger, DeValue};

use super::keys::{Item, Key, Kind};
use super::report::{At, Findings, Place, nearest};

/// Longest text of one value, in bytes: what the record format holds.
const MAX_TEXT: usize = 255;

/// Joins words for a sentence: `` `a`, `b` and `c` ``.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => "none".to_owned(),
    }
}

pub(super) fn wrong_type(findings: &mut Findings, key: &Key, kind: &Kind, got: &DeValue<'_>, place: Place) {
    let each = if std::ptr::eq(kind, &raw const key.kind) { "" } else { "each value in " };
    let message = format!("{each}`{}` is {}, not {}", key.name, wanted(kind), article(got.type_str()));
    findings.error(place, message).help(format!("`{}`: {}", key.name, key.doc));
}

fn article(word: &str) -> String {
    let an = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {word}", if an { "an" } else { "a" })
}

fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Text => "a string".to_owned(),
        Kind::Path => "a path in quotes".to_owned(),
        Kind::Resource => "an identifier in quotes".to_owned(),
        Kind::Words(words) => format!("one of {}", listed(words.iter().copied())),
        Kind::Integer(min, max) => format!("an integer from {min} to {max}"),
        Kind::Size(..) => "a size, such as 4194304 or \"4 MiB\"".to_owned(),
        Kind::Decimal => "a number".to_owned(),
        Kind::Boolean => "true or false".to_owned(),
        Kind::FlagOr(_) => "true, false or a table".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) | Kind::Table(_) => "a table".to_owned(),
        Kind::Tables(_) => "an array of tables, each under [[…]]".to_owned(),
    }
}

pub(super) fn text(findings: &mut Findings, key: &Key, text: &str, place: Place) -> Option<String> {
    let wrong = if text.trim().is_empty() {
        "is empty".to_owned()
    } else if text.len() > MAX_TEXT {
        format!("is {} bytes long, at most {MAX_TEXT} are allowed", text.len())
    } else if text.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else {
        return Some(text.to_owned());
    };
    findings.error(place, format!("`{}` {wrong}", key.name)).help(format!("`{}`: {}", key.name, key.doc));
    None
}

pub(super) fn word(findings: &mut Findings, key: &Key, words: &[&str], got: &str, place: Place) -> Option<String> {
    if words.contains(&got) {
        return Some(got.to_owned());
    }
    let help = match nearest(got, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("`{}` is one of {}", key.name, listed(words.iter().copied())),
    };
    findings.error(place, format!("`{}` cannot be {got:?}", key.name)).help(help);
    None
}

/// Takes a cell of a table as the value of its key; a list has `;` between its values, a map `name=value` between them.
pub(super) fn cell(findings: &mut Findings, key: &Key, kind: &Kind, cell: &str, place: Place) -> Option<Item> {
    let refuse = |findings: &mut Findings| {
        let message = format!("`{}` cannot be {cell:?}, it is {}", key.name, wanted(kind));
        findings.error(place, message).help(format!("`{}`: {}", key.name, key.doc));
        None
    };
    match kind {
        Kind::Text | Kind::Path => text(findings, key, cell, place).map(Item::Text),
        Kind::Words(words) => word(findings, key, words, cell, place).map(Item::Text),
        Kind::Resource => resource(findings, cell, place).map(Item::Resource),
        Kind::Integer(min, max) | Kind::Size(min, max) => match cell.parse() {
            Ok(number) => within(findings, key, (*min, *max), Some(number), cell, place).map(Item::Integer),
            Err(_) => refuse(findings),
        },
        Kind::Decimal => {
            let hex = cell.strip_prefix("0x").is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok());
            let decimal = cell.parse::<f64>().is_ok_and(f64::is_finite);
            if hex || decimal { Some(Item::Decimal(cell.to_owned())) } else { refuse(findings) }
        }
        Kind::Boolean => match cell {
            "true" => Some(Item::Boolean(true)),
            "false" => Some(Item::Boolean(false)),
            _ => refuse(findings),
        },
        Kind::List(of) => {
            let values = parts(findings, cell, place);
            let values = values
                .into_iter()
                .map(|(part, place)| self::cell(findings, key, of, part, place).map(|value| At { value, place }));
            Some(Item::List(values.collect::<Option<_>>()?))
        }
        Kind::Map(of) => {
            let mut entries: Vec<(At<String>, Option<At<Item>>)> = Vec::new();
            for (part, place) in parts(findings, cell, place) {
                let (name, value) =
                    part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value.trim())));
                let name = name.trim();
                let named = |value| (At { value: name.to_owned(), place }, value);
                if entries.iter().any(|(other, _)| other.value == name) {
                    findings.error(place, format!("{name:?} is there twice in `{}`", key.name));
                    continue;
                }
                let Some(value) = value else {
                    findings
                        .error(place, format!("{name:?} in `{}` has no `=`", key.name))
                        .help(format!("`{}`: {}; in a table `name=value`, with `;` between them", key.name, key.doc));
                    entries.push(named(None));
                    continue;
                };
                let at = findings.text(place).find(value).map_or(place, |at| place.part(at..at + value.len()));
                let value = self::cell(findings, key, of, value, at).map(|value| At { value, place: at });
                entries.push(named(value));
            }
            Some(Item::Map(entries))
        }
        Kind::FlagOr(_) | Kind::Table(_) | Kind::Tables(_) => refuse(findings),
    }
}

/// Splits a cell at each `;` and says where the parts are; blanks around them do not count, and empty parts neither.
fn parts<'a>(findings: &Findings, cell: &'a str, place: Place) -> Vec<(&'a str, Place)> {
    let base = findings.text(place).find(cell);
    let mut start = 0;
    let mut parts = Vec::new();
    for piece in cell.split(';') {
        let part = piece.trim();
        let at = start + piece.len() - piece.trim_start().len();
        if !part.is_empty() {
            let place = base.map_or(place, |base| place.part(base + at..base + at + part.len()));
            parts.push((part, place));
        }
        start += piece.len() + 1;
    }
    parts
}

pub(super) fn integer(
    findings: &mut Findings,
    key: &Key,
    limits: (i64, i64),
    number: &DeInteger<'_>,
    place: Place,
) -> Option<i64> {
    let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
    within(findings, key, limits, value, &number.to_string(), place)
}

/// Takes `4 MiB`, `1GiB` or a bare number of bytes.
pub(super) fn size(findings: &mut Findings, key: &Key, limits: (i64, i64), text: &str, place: Place) -> Option<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1_i64 << 30),
        _ => None,
    };
    let (Some(factor), Ok(number)) = (factor, number.parse::<i64>()) else {
        findings
            .error(place, format!("`{}` cannot be {text:?}", key.name))
            .help("a whole number with `B`, `KiB`, `MiB` or `GiB`, such as \"512 MiB\"");
        return None;
    };
    within(findings, key, limits, number.checked_mul(factor), text, place)
}

fn within(
    findings: &mut Findings,
    key: &Key,
    (min, max): (i64, i64),
    value: Option<i64>,
    shown: &str,
    place: Place,
) -> Option<i64> {
    let value = value.filter(|value| (min..=max).contains(value));
    if value.is_none() {
        let message = format!("`{}` is {shown}, outside {min} to {max}", key.name);
        findings.error(place, message).help(format!("`{}`: {}", key.name, key.doc));
    }
    value
}

/// Takes an identifier, and underlines the part of it that is wrong.
pub(super) fn resource(findings: &mut Findings, text: &str, place: Place) -> Option<Cri> {
    let error = match text.parse() {
        Ok(cri) => return Some(cri),
        Err(error) => error,
    };
    // Inside the quotes, if there are any; escapes make the raw text differ from the value.
    let within = findings.text(place).find(text);
    let part = |span: Range<usize>| within.map_or(place, |at| place.part(at + span.start..at + span.end));
    if let Some(rounded) = rounded(text) {
        findings.error(place, format!("not an identifier: {rounded}")).help(
            "a spreadsheet keeps fifteen digits of a number: make the column text, or write identifiers with hyphens, \
             and copy this one again from the city's registry",
        );
        return None;
    }
    let start = text.len() - text.strip_prefix("cri:").unwrap_or(text).len();
    let copy = "copy the identifier again from the city's registry or the label; it is never repaired here";
    let (at, message, help) = match error {
        CriError::Character { got, at } => (start + at..start + at + got.len_utf8(), error.to_string(), copy),
        CriError::Length { digits: 16, .. } => (
            0..text.len(),
            "16 digits: a bare part code, without its two check digits".to_owned(),
            "a bare part code is taken where a code table is imported, not here; copy the whole identifier, such as \
             `330502-0103-000123-33`, from the city's registry",
        ),
        CriError::Division { .. } => (digit_span(text, start, 0..6), error.to_string(), copy),
        CriError::Class { .. } => (digit_span(text, start, 6..10), error.to_string(), copy),
        CriError::CheckDigits { .. } => (digit_span(text, start, 16..18), error.to_string(), copy),
        _ => (0..text.len(), error.to_string(), "an identifier has 18 digits, such as `330502-0103-000123-33`"),
    };
    findings.error(part(at), format!("not an identifier: {message}")).help(help);
    None
}

/// Says what is left of an identifier that a spreadsheet took for a number.
fn rounded(text: &str) -> Option<&'static str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((mantissa, power)) = text.split_once(['E', 'e'])
        && digits(power.trim_start_matches('+'))
        && digits(&mantissa.replacen(['.', ','], "", 1))
    {
        return Some("a number that a spreadsheet has rounded");
    }
    // No identifier ends so: its check digits are 02 to 98.
    (text.len() == 18 && digits(text) && text.ends_with("000")).then_some("a spreadsheet made its last three digits 0")
}

/// Finds the bytes that hold some of the digits of `text`.
fn digit_span(text: &str, start: usize, digits: Range<usize>) -> Range<usize> {
    let places: Vec<_> =
        text.char_indices().filter(|(at, c)| *at >= start && c.is_ascii_digit()).map(|(at, _)| at).collect();
    match (places.get(digits.start), places.get(digits.end.saturating_sub(1))) {
        (Some(first), Some(last)) => *first..last + 1,
        _ => 0..text.len(),
    }
}
