//! The pages for the field do what they say: every command in them is run by a test.
//! Needs: qemu-system-arm, the firmware of nucleo-l476rg (`cargo xtask hil` builds it), the programs `ganglion` and `xtask`.
//!
//! `docs/field/flashing.md` is done here as it is written, and its output compared to the letter; `UPDATE_EXPECTED=1` writes
//! what was really printed into it, and draws its picture. Nothing here has a probe: `cargo xtask flash` prints what it would
//! run, and QEMU's loader puts firmware and settings into flash.

mod cabinet;
mod page;
mod picture;
mod provision;

use std::fs;
use std::path::Path;
use std::process::Command;

use cabinet::Cabinet;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const FLASHING: &str = "flashing.md";
const PICTURE: &str = "flashing.svg";
const NODE_TOOL: &str = "hil-tests/tests/hil_node_tool/main.rs";
const NODE_UPDATE: &str = "hil-tests/tests/hil_node_tool/update.rs";

/// Commands that pages show or name; the file of the test that runs each; the words with which it does.
const RUN: [(&str, &str, &str); 16] = [
    ("ganglion node list", NODE_TOOL, r#"rig.does(&["list"])"#),
    ("ganglion node list --write FOLDER", NODE_TOOL, r#"rig.does(&["list", "--write", &folder_name])"#),
    ("ganglion node describe --unit 13", NODE_TOOL, r#"rig.on(13, &["describe"])"#),
    (
        "ganglion node adopt 330502-9601-000213-23 --unit 13",
        NODE_TOOL,
        r#"rig.on(13, &["adopt", "330502-9601-000213-23"])"#,
    ),
    ("ganglion node get --unit 13", NODE_TOOL, r#"rig.on(13, &["get"])"#),
    ("ganglion node set sample-period 5 --unit 13", NODE_TOOL, r#"rig.on(13, &["set", "sample-period", "5"])"#),
    (
        "ganglion node set sample-period 9999 --unit 13",
        NODE_TOOL,
        r#"rig.refused(13, &["set", "sample-period", "9999"])"#,
    ),
    ("ganglion node identify --unit 13", NODE_TOOL, r#"rig.on(13, &["identify"])"#),
    ("ganglion node samples --unit 13", NODE_TOOL, r#"rig.on(13, &["samples"])"#),
    ("ganglion node samples --name --unit 13", NODE_TOOL, r#"rig.on(13, &["samples", "--name"])"#),
    ("ganglion node log --unit 13", NODE_TOOL, r#"rig.on(13, &["log"])"#),
    ("ganglion node reset --unit 13", NODE_TOOL, r#"rig.on(13, &["reset"])"#),
    ("ganglion node update IMAGE --unit 13", NODE_TOOL, r#"rig.refused(13, &["update", &lm3s])"#),
    ("ganglion node update node-2.0.0.gnim --unit 5", NODE_UPDATE, r#"["node", "update", image, "--unit", "#),
    ("ganglion run --config site.toml", "hil-tests/src/gateway/host.rs", r#"["run", "--config", SITE_FILE]"#),
    (
        "ganglion status --config site.toml",
        "hil-tests/src/gateway/mod.rs",
        r#"["status", "--config", SITE_FILE, "--json"]"#,
    ),
];

/// Commands that pages name and that take minutes or another compiler: they are asked for their help only.
const HELPED: [&str; 1] = ["cargo xtask cross"];

fn docs(name: &str) -> std::path::PathBuf {
    Path::new(ROOT).join("docs/field").join(name)
}

/// Compares a file with what it should be, or writes it.
fn expect_file(name: &str, expected: &str) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(docs(name), expected).expect("written");
    }
    let there = fs::read_to_string(docs(name)).unwrap_or_default();
    assert_eq!(there, expected, "{name} is not what its commands print; UPDATE_EXPECTED=1 writes it");
}

#[test]
fn the_page_on_flashing_is_done_as_it_is_written() {
    let Some(mut cabinet) = Cabinet::open("the_page_on_flashing_is_done_as_it_is_written") else { return };
    let played = page::played(&page::read(FLASHING), |command| cabinet.types(command));
    expect_file(FLASHING, &played);
    let seen = page::blocks_with(&played, &[cabinet::LOG, "node list"]);
    expect_file(PICTURE, &picture::svg("a NUCLEO-L476RG, first light", &seen));
}

#[test]
fn every_command_of_the_pages_for_nodes_is_run_by_a_test() {
    let flashing = page::read(FLASHING);
    let here = page::typed(&flashing);
    for name in [FLASHING, "node.md"] {
        let text = page::read(name);
        let mut commands = page::named(&text);
        if name != FLASHING {
            commands.extend(page::typed(&text));
        }
        assert!(!commands.is_empty(), "{name} has commands");
        for command in commands {
            let dry = format!("{command} --dry-run");
            let known = here.contains(&command)
                || here.contains(&dry.as_str())
                || HELPED.contains(&command)
                || RUN.iter().any(|run| run.0 == command);
            assert!(known, "{name}: no test runs `{command}`");
        }
    }
    for (command, file, words) in RUN {
        let test = fs::read_to_string(Path::new(ROOT).join(file)).expect("a file of tests");
        assert!(test.contains(words), "`{command}` is said to be run by {file}, which has no {words}");
    }
}

#[test]
fn what_is_only_named_exists() {
    let Some(xtask) = cabinet::xtask() else { return };
    for command in HELPED {
        let words = command.trim_start_matches("cargo xtask ");
        let done = Command::new(&xtask).args(words.split_whitespace()).arg("--help").output();
        let done = done.expect("it runs");
        assert!(done.status.success(), "`{command} --help`: {done:?}");
    }
}
