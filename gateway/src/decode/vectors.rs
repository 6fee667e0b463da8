//! Runs files of published frames through the decoders and says of each whether it passed.
//!
//! A file is a JSON array. Of each vector `id`, `protocol`, `hex` or `ascii` and `decoded` are read. Every field of
//! `decoded` is compared except the few a decoder names as descriptive; a field the decoder does not know is a failure,
//! never passed over. A vector marked `invalid`, or `semantic: "invalid"`, passes when the decoder finds it wrong.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{DECODERS, Decoder, Failure, Hints, input};

/// Runs the files; returns whether every vector passed.
pub(super) fn run(files: &[PathBuf], out: &mut impl Write) -> Result<bool, Failure> {
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for path in files {
        for vector in &read(path).map_err(|why| Failure::Nothing(format!("{}: {why}", path.display())))? {
            let id = vector.get("id").and_then(Value::as_str).unwrap_or("(no id)");
            match judge(vector) {
                Ok(()) => {
                    passed += 1;
                    writeln!(out, "passed {id}")?;
                }
                Err(why) => {
                    failed += 1;
                    writeln!(out, "failed {id}: {why}")?;
                }
            }
        }
    }
    writeln!(out, "total: {passed} passed, {failed} failed")?;
    Ok(failed == 0)
}

fn read(path: &Path) -> Result<Vec<Value>, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    match serde_json::from_slice(&text).map_err(|error| format!("no json: {error}"))? {
        Value::Array(vectors) if vectors.is_empty() => Err("no vectors in it".to_owned()),
        Value::Array(vectors) => Ok(vectors),
        _ => Err("an array of vectors is expected".to_owned()),
    }
}

/// Says why a vector did not pass.
fn judge(vector: &Value) -> Result<(), String> {
    let text = |key: &str| vector.get(key).and_then(Value::as_str);
    let protocol = text("protocol").ok_or("no protocol")?;
    let decoder = DECODERS.iter().find(|decoder| decoder.name.replace('-', "_") == protocol);
    let decoder = decoder.ok_or_else(|| format!("unknown protocol {protocol:?}"))?;
    let bytes = match (text("hex"), text("ascii")) {
        (Some(hex), _) => input::hex(hex).map_err(|fault| format!("hex, byte {}: {}", fault.at, fault.why))?,
        (None, Some(text)) => text.as_bytes().to_vec(),
        (None, None) => return Err("neither hex nor ascii".to_owned()),
    };
    let nothing = Map::new();
    let expected = vector.get("decoded").and_then(Value::as_object).unwrap_or(&nothing);
    let decoded = (decoder.decode)(&bytes, &hints(expected));
    let must_be_wrong = vector.get("invalid") == Some(&Value::Bool(true)) || text("semantic") == Some("invalid");
    match decoded.fault {
        Some(_) if must_be_wrong => Ok(()),
        None if must_be_wrong => {
            Err(format!("it is wrong ({}), and was taken", text("reason").unwrap_or("no reason given")))
        }
        // A contradiction inside a frame may be part of what a vector expects to be found.
        Some(fault) if expected.get("consistent") != Some(&Value::Bool(false)) => {
            Err(format!("refused: {} {}: {}", decoder.form.unit(), fault.at, fault.why))
        }
        _ if expected.is_empty() => Err("nothing in it to compare".to_owned()),
        _ => {
            let got = serde_json::to_value(&decoded.fields).map_err(|error| error.to_string())?;
            object(decoder, expected, &got, "")
        }
    }
}

/// What a vector says that its frame does not: types and orders of values, and views it wants.
fn hints(expected: &Map<String, Value>) -> Hints {
    let text = |key: &str| expected.get(key).and_then(Value::as_str).map(str::to_owned);
    let views = |name: &&String| name.starts_with("values_as_") || name.starts_with("bits_");
    let wanted: Vec<String> = expected.keys().filter(views).cloned().collect();
    // A word order is only said in front of the values it is meant for.
    let of_view = wanted.iter().find_map(|name| name.strip_prefix("values_as_")).map(str::to_owned);
    let word_order = text("word_order");
    let value_type = text("type").or_else(|| of_view.filter(|_| word_order.is_some()));
    Hints { value_type, order: text("order").or(word_order), wanted }
}

fn object(decoder: &Decoder, expected: &Map<String, Value>, got: &Value, path: &str) -> Result<(), String> {
    for (name, value) in expected.iter().filter(|(name, _)| !decoder.descriptive.contains(&name.as_str())) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let mut ours = decoder.synonyms.iter().filter(|(theirs, _)| theirs == name).map(|(_, ours)| *ours);
        match got.get(name).or_else(|| ours.find_map(|ours| got.get(ours))) {
            Some(found) => compare(decoder, value, found, &path)?,
            None => return Err(format!("{path}: expected {value}, got nothing")),
        }
    }
    Ok(())
}

fn compare(decoder: &Decoder, expected: &Value, got: &Value, path: &str) -> Result<(), String> {
    let same = match (expected, got) {
        (Value::Object(fields), Value::Object(_)) => return object(decoder, fields, got, path),
        (Value::Array(expected), Value::Array(got)) if same_length(decoder, expected, got, path) => {
            for (number, (expected, got)) in expected.iter().zip(got).enumerate() {
                compare(decoder, expected, got, &format!("{path}[{number}]"))?;
            }
            true
        }
        (Value::Number(expected), Value::Number(got)) => number(expected, got),
        _ => expected == got,
    };
    if same { Ok(()) } else { Err(format!("{path}: expected {expected}, got {got}")) }
}

fn same_length(decoder: &Decoder, expected: &[Value], got: &[Value], path: &str) -> bool {
    let padded = decoder.padded.iter().any(|name| path.rsplit('.').next() == Some(name));
    match got.get(expected.len()..) {
        Some([]) => true,
        Some(padding) => padded && padding.len() < 8 && padding.iter().all(|bit| *bit == 0),
        None => false,
    }
}

/// Compares numbers: whole ones exactly, others to the six digits that vectors print.
fn number(expected: &serde_json::Number, got: &serde_json::Number) -> bool {
    if let (Some(expected), Some(got)) = (expected.as_i128(), got.as_i128()) {
        return expected == got;
    }
    match (expected.as_f64(), got.as_f64()) {
        (Some(expected), Some(got)) => (expected - got).abs() <= 1e-6 * expected.abs().max(1.0),
        _ => false,
    }
}
