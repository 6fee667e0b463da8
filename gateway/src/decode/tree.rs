//! Fields in the order the frame has them, as text for a person and as JSON for a program.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::{Decoded, Decoder, Fault, Form};

/// Named values in order.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Fields(Vec<(String, Node)>);

/// One value.
#[derive(Clone, PartialEq, Debug)]
pub enum Node {
    /// Known to be absent.
    Absent,
    /// A state.
    Bool(bool),
    /// A number.
    Uint(u64),
    /// A number below zero, or that may be.
    Int(i64),
    /// A number with a fraction.
    Double(f64),
    /// Text, or bytes in hexadecimal.
    Text(String),
    /// Several values.
    List(Vec<Node>),
    /// Fields of a part.
    Group(Fields),
}

impl Fields {
    /// Adds a field at the end.
    pub fn put(&mut self, name: &str, value: impl Into<Node>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Adds all fields of another part.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Returns the value of a field.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.0.iter().find(|(named, _)| named == name).map(|(_, value)| value)
    }
}

/// Writes bytes in hexadecimal, in upper case as the standards print them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Writes what was found as one JSON object; a fault is its field `error`.
pub(super) fn json(decoded: &Decoded) -> String {
    let mut fields = decoded.fields.clone();
    if let Some(Fault { at, why }) = &decoded.fault {
        let mut error = Fields::default();
        error.put("at", *at as u64);
        error.put("why", why.as_str());
        fields.put("error", Node::Group(error));
    }
    serde_json::to_string(&fields).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

/// Writes what was found for a person.
pub(super) fn text(decoder: &Decoder, bytes: &[u8], decoded: &Decoded) -> String {
    let shown = match decoder.form {
        Form::Bytes => bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" "),
        Form::Line => printable(String::from_utf8_lossy(bytes).trim_end()),
    };
    let mut out = format!("{}, {} {}s: {shown}\n", decoder.name, bytes.len(), decoder.form.unit());
    group(&decoded.fields, 1, &mut out);
    out
}

fn group(fields: &Fields, depth: usize, out: &mut String) {
    let width = fields.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &fields.0 {
        let indent = "  ".repeat(depth);
        match value {
            Node::Group(inner) => {
                out.push_str(&format!("{indent}{name}\n"));
                group(inner, depth + 1, out);
            }
            Node::List(parts) if parts.iter().any(|part| matches!(part, Node::Group(_))) => {
                for (part, number) in parts.iter().zip(1..) {
                    out.push_str(&format!("{indent}{name} {number}\n"));
                    match part {
                        Node::Group(inner) => group(inner, depth + 1, out),
                        plain => out.push_str(&format!("{indent}  {}\n", word(plain))),
                    }
                }
            }
            plain => out.push_str(&format!("{indent}{name:<width$}  {}\n", word(plain))),
        }
    }
}

fn word(node: &Node) -> String {
    match node {
        Node::Absent => "-".to_owned(),
        Node::Bool(value) => value.to_string(),
        Node::Uint(value) => value.to_string(),
        Node::Int(value) => value.to_string(),
        Node::Double(value) => value.to_string(),
        Node::Text(text) if text.is_empty() => "(empty)".to_owned(),
        Node::Text(text) => printable(text),
        Node::List(parts) => parts.iter().map(word).collect::<Vec<_>>().join(" "),
        Node::Group(_) => String::new(),
    }
}

/// Bytes of a stranger reach a terminal here: no control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '.' } else { c }).collect()
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Uint(value) => serializer.serialize_u64(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Double(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(parts) => parts.serialize(serializer),
            Self::Group(fields) => fields.serialize(serializer),
        }
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u8> for Node {
    fn from(value: u8) -> Self {
        Self::Uint(value.into())
    }
}

impl From<u16> for Node {
    fn from(value: u16) -> Self {
        Self::Uint(value.into())
    }
}

impl From<u64> for Node {
    fn from(value: u64) -> Self {
        Self::Uint(value)
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Node>> FromIterator<T> for Node {
    fn from_iter<I: IntoIterator<Item = T>>(parts: I) -> Self {
        Self::List(parts.into_iter().map(Into::into).collect())
    }
}

impl From<Fields> for Node {
    fn from(fields: Fields) -> Self {
        Self::Group(fields)
    }
}
