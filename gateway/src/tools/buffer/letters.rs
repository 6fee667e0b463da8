//! `ganglion buffer letters`: the messages that the broker refused for good, kept in `dead-letter/` for a person.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{Place, counted};
use crate::deliver::dead_letter::{KeptLetter, read_all};
use crate::tools::{refuse, say};

/// Longest text that a compressed letter is taken to hold; deliver makes none as long.
const LONGEST_TEXT: usize = 16 * 1024 * 1024;

/// Whose letters.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object a line, with what each message held.
    #[arg(long)]
    json: bool,
}

/// Reads and prints.
pub(super) fn main(options: &Options) -> ExitCode {
    let data_dir = match options.place.data_dir() {
        Ok((data_dir, _)) => data_dir,
        Err(code) => return code,
    };
    let unreadable = |error| refuse(format!("cannot read the dead letters of {}: {error}", data_dir.display()));
    let (letters, damaged) = match std::fs::read_dir(&data_dir).and_then(|_| read_all(&data_dir)) {
        Ok(read) => read,
        Err(error) => return unreadable(error),
    };
    if damaged > 0 {
        eprintln!("{} no letter: torn by a crash or a full disk", is_or_are(damaged));
    }
    if options.json {
        return say(&letters.iter().map(|letter| format!("{}\n", as_json(letter))).collect::<String>());
    }
    let mut out: String = letters.iter().map(as_text).collect();
    out.push_str(&format!("{}\n", counted(letters.len() as u64, "dead letter")));
    say(&out)
}

fn is_or_are(lines: u64) -> String {
    format!("{} {}", counted(lines, "line"), if lines == 1 { "is" } else { "are" })
}

fn as_json(letter: &KeptLetter) -> Value {
    let KeptLetter { t, topic, reason, payload } = letter;
    let held = match text_of(payload) {
        Some(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        None => Value::String(payload.iter().map(|byte| format!("{byte:02x}")).collect()),
    };
    json!({ "t": t, "topic": topic, "reason": reason, "payload": held })
}

fn as_text(letter: &KeptLetter) -> String {
    let KeptLetter { t, topic, reason, payload } = letter;
    let mut out = format!("{t}  {topic}\n  refused  {reason}\n");
    let text = text_of(payload).unwrap_or_default();
    let held = serde_json::from_str(&text).map(|envelope| numbers(&envelope)).unwrap_or_default();
    if payload.is_empty() {
        out.push_str("  held     never made into a message; see its loss on the topic `gap`\n");
    } else if held.is_empty() {
        out.push_str(&format!("  held     {}\n", counted(payload.len() as u64, "byte")));
    }
    for (resource, (count, first, last)) in held {
        out.push_str(&format!("  held     {resource}  seq {first} to {last}, {}\n", counted(count, "observation")));
    }
    out
}

/// Returns how many observations of which numbers an envelope holds, by resource.
fn numbers(envelope: &Value) -> BTreeMap<String, (u64, u64, u64)> {
    let mut found = BTreeMap::new();
    for observation in envelope["obs"].as_array().into_iter().flatten() {
        let (Some(id), Some(seq)) = (observation["id"].as_str(), observation["seq"].as_u64()) else { continue };
        let (count, first, last) = found.entry(id.to_owned()).or_insert((0, seq, seq));
        (*count, *first, *last) = (*count + 1, seq.min(*first), seq.max(*last));
    }
    found
}

/// Returns the text of a payload, compressed or not.
fn text_of(payload: &[u8]) -> Option<String> {
    let plain = zstd::bulk::decompress(payload, LONGEST_TEXT).ok();
    String::from_utf8(plain.unwrap_or_else(|| payload.to_vec())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(payload: &[u8]) -> KeptLetter {
        let (t, topic, reason) = ("2026-11-22T06:53:55.123Z", "city/v1/620602/water/9601/000007/obs", "not authorised");
        KeptLetter { t: t.to_owned(), topic: topic.to_owned(), reason: reason.to_owned(), payload: payload.to_vec() }
    }

    const ENVELOPE: &str = r#"{"v":1,"obs":[{"id":"a","seq":41},{"id":"b","seq":7},{"id":"a","seq":43}]}"#;

    #[test]
    fn a_person_sees_when_where_why_and_which_numbers() {
        let expected = "2026-11-22T06:53:55.123Z  city/v1/620602/water/9601/000007/obs\n  refused  not authorised\n  held     a  seq 41 to 43, 2 observations\n  held     b  seq 7 to 7, 1 observation\n";
        assert_eq!(as_text(&letter(ENVELOPE.as_bytes())), expected);
        let compressed = zstd::bulk::compress(ENVELOPE.as_bytes(), 1).unwrap();
        assert_eq!(as_text(&letter(&compressed)), expected);
    }

    #[test]
    fn what_is_no_envelope_is_told_by_its_length_and_in_json_as_it_was() {
        assert!(as_text(&letter(b"\xff\xfe")).ends_with("  held     2 bytes\n"));
        assert_eq!(as_json(&letter(b"\xff\xfe"))["payload"], "fffe");
        assert_eq!(as_json(&letter(b"words"))["payload"], "words");
        assert_eq!(as_json(&letter(ENVELOPE.as_bytes()))["payload"]["obs"][1]["seq"], 7);
        assert!(as_text(&letter(b"")).contains("never made into a message"));
    }
}
