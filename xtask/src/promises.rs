//! What `gateway/docs/durability.md` promises has the tests that it names.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::shell::root;

/// Where tests are.
const SOURCES: [&str; 4] = ["gateway/src", "gateway/tests", "protocols/tests", "hil-tests/tests"];

#[test]
fn every_test_that_the_durability_contract_names_exists() {
    let document = fs::read_to_string(root().join("gateway/docs/durability.md")).expect("the document is there");
    let mut tests = BTreeSet::new();
    SOURCES.iter().for_each(|folder| collect(&root().join(folder), &mut tests));
    let promises = section(&document, "## The promises");
    let rows: Vec<&str> =
        promises.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise")).collect();
    assert!(rows.len() > 15, "the table of promises is found: {rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let named: Vec<&str> = cells.last().map(|cell| quoted(cell)).unwrap_or_default();
        assert!(cells.len() == 2 && !named.is_empty(), "a promise without a test: {row}");
        let missing: Vec<&&str> = named.iter().filter(|name| **name != "model" && !tests.contains(**name)).collect();
        assert!(missing.is_empty(), "no such test: {missing:?}");
    }
    let model = section(&document, "# What the buffer promises");
    assert!(quoted(model).iter().any(|name| tests.contains(*name)), "`model` is a test, too");
}

/// Returns the text under a heading, up to the next one.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let behind = document.split_once(&format!("{heading}\n")).map(|(_, behind)| behind).unwrap_or_default();
    behind.split("\n#").next().unwrap_or_default()
}

/// Returns what stands in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Collects the names of the functions that are tests.
fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            for behind in text.split("#[test]").chain(text.split("#[tokio::test")).skip(1) {
                let name = behind.split_once("fn ").map(|(_, rest)| rest.split(['(', '<']).next().unwrap_or_default());
                names.extend(name.map(str::to_owned));
            }
            // A macro makes a test of such a one for each version of MQTT.
            for behind in text.split("fn ").skip(1) {
                let (name, rest) = behind.split_once('(').unwrap_or_default();
                if rest.trim_start().starts_with("version: MqttVersion") {
                    names.insert(name.to_owned());
                }
            }
        }
    }
}
