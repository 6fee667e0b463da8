//! JSON Schema of the files, for editors: written from the same constants that the walk checks against.

use serde_json::{Map, Value, json};

use super::keys::{Choice, Key, Kind, Need, Section};

/// An identifier as a person types it; the check digits are beyond a pattern.
const RESOURCE: &str = "^(cri:)?[ -]*([0-9][ -]*){18}$";

/// Writes the schema of a file whose top level is `section`.
pub(super) fn of(section: &Section) -> Value {
    let mut schema = object(section);
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!(section.name));
    Value::Object(schema)
}

fn object(section: &Section) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("description".to_owned(), json!(section.doc));
    keys(&mut schema, section.keys);
    match &section.choice {
        None => {
            schema.insert("additionalProperties".to_owned(), json!(false));
        }
        Some(Choice { key, cases }) => {
            let cases = cases.iter().map(|(word, own)| {
                let mut then = Map::new();
                keys(&mut then, own);
                json!({"if": {"properties": {*key: {"const": word}}}, "then": then})
            });
            schema.insert("allOf".to_owned(), cases.collect());
            schema.insert("unevaluatedProperties".to_owned(), json!(false));
        }
    }
    schema
}

fn keys(schema: &mut Map<String, Value>, keys: &[Key]) {
    let properties: Map<_, _> = keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    schema.insert("properties".to_owned(), Value::Object(properties));
    let required = keys.iter().filter(|key| matches!(key.need, Need::Required)).map(|key| key.name);
    schema.insert("required".to_owned(), required.collect());
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), json!(key.doc));
        match key.need {
            Need::Number(number) => schema.insert("default".to_owned(), json!(number)),
            Need::Word(word) => schema.insert("default".to_owned(), json!(word)),
            Need::Flag(flag) => schema.insert("default".to_owned(), json!(flag)),
            Need::Required | Need::Optional => None,
        };
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Path => json!({"type": "string", "minLength": 1, "maxLength": 255}),
        Kind::Resource => json!({"type": "string", "pattern": RESOURCE}),
        Kind::Words(words) => json!({"enum": words}),
        Kind::Integer(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Size(min, max) => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max},
            {"type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)?$"},
        ]}),
        Kind::Decimal => json!({"type": "number"}),
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::FlagOr(section) => json!({"anyOf": [{"type": "boolean"}, object(section)]}),
        Kind::List(of) => json!({"type": "array", "items": self::kind(of)}),
        Kind::Map(of) => json!({"type": "object", "additionalProperties": self::kind(of)}),
        Kind::Table(section) => Value::Object(object(section)),
        Kind::Tables(section) => json!({"type": "array", "items": object(section)}),
    }
}
