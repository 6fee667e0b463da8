//! The arrows of `ARCHITECTURE.md` never point back.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;

use crate::shell::root;

/// A room and what it may depend on.
struct Room {
    folder: &'static str,
    package: &'static str,
    /// Packages of this workspace it may be built on.
    below: &'static [&'static str],
    /// Packages of this workspace that its tests may use besides.
    tested: &'static [&'static str],
}

const ROOMS: [Room; 7] = [
    Room { folder: "protocols", package: "ganglion-protocols", below: &[], tested: &[] },
    // Its own tests turn on its features.
    Room {
        folder: "drivers",
        package: "ganglion-drivers",
        below: &["ganglion-protocols"],
        tested: &["ganglion-drivers"],
    },
    Room {
        folder: "firmware/app",
        package: "ganglion-node",
        below: &["ganglion-protocols", "ganglion-drivers"],
        tested: &[],
    },
    Room { folder: "gateway", package: "ganglion", below: &["ganglion-protocols", "ganglion-drivers"], tested: &[] },
    Room {
        folder: "fuzz",
        package: "ganglion-fuzz",
        below: &["ganglion-protocols", "ganglion-drivers", "ganglion-node"],
        tested: &[],
    },
    // Public interfaces only. The library is one: a test may drive one stage of it against a real peer. The simulated
    // site, the subscriber's check and the demo stay outside, or they would believe what they are there to check.
    Room { folder: "hil-tests", package: "ganglion-hil", below: &["ganglion-protocols"], tested: &["ganglion"] },
    Room { folder: "xtask", package: "xtask", below: &["ganglion-protocols"], tested: &[] },
];

#[test]
fn every_room_depends_only_on_the_rooms_below_it() {
    for Room { folder, package, below, tested } in ROOMS {
        let path = root().join(folder).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).expect("every room has a manifest");
        assert!(manifest.contains(&format!("name = \"{package}\"")), "{folder} holds the package {package}");
        let allowed = |found: &Found| {
            let name = found.package.as_str();
            below.contains(&name) || found.only_tests && tested.contains(&name)
        };
        let wrong: Vec<_> = dependencies(&manifest).into_iter().filter(|found| !allowed(found)).collect();
        assert!(wrong.is_empty(), "{folder} must not depend on {wrong:?}");
    }
}

#[test]
fn every_room_of_the_workspace_is_checked() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("members on one line");
    let named: BTreeSet<_> = members.split('"').skip(1).step_by(2).collect();
    assert_eq!(named, ROOMS.iter().map(|room| room.folder).collect());
}

#[test]
fn a_dependency_is_found_in_every_way_to_write_it() {
    let manifest = r#"
[package]
name = "ganglion-drivers"
[dependencies]
ganglion-protocols.workspace = true
serde = { version = "1" }
[target.'cfg(unix)'.dependencies]
ganglion = { path = "../gateway" }
renamed = { package = "ganglion-hil", path = "../hil-tests" }
[dev-dependencies.xtask]
path = "../xtask"
[target.'cfg(unix)'.dev-dependencies]
ganglion.workspace = true
[build-dependencies]
ganglion-drivers.workspace = true
[lints]
ganglion-nothing = true
"#;
    let found: Vec<_> = dependencies(manifest).into_iter().map(|found| (found.package, found.only_tests)).collect();
    let expected = [
        ("ganglion", false),
        ("ganglion", true),
        ("ganglion-drivers", false),
        ("ganglion-hil", false),
        ("ganglion-protocols", false),
        ("xtask", true),
    ];
    assert_eq!(found, expected.map(|(package, only_tests)| (package.to_owned(), only_tests)));
}

/// A package of this workspace that a manifest names.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Found {
    package: String,
    /// Whether it stands among the dev-dependencies.
    only_tests: bool,
}

/// Finds the packages of this workspace that a manifest depends on: to run, to build or to test.
fn dependencies(manifest: &str) -> BTreeSet<Found> {
    let ours = |name: &&str| ROOMS.iter().any(|room| room.package == *name);
    let mut found = BTreeSet::new();
    let (mut inside, mut only_tests) = (false, false);
    for line in manifest.lines() {
        let names = if let Some(section) = line.trim().strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies") || section.contains("dependencies.");
            only_tests = section.contains("dev-dependencies");
            [section.rsplit('.').next(), None]
        } else {
            // A key before `.` or `=`, and a `package = "…"` behind a rename.
            let mut words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
            [words.clone().next(), words.find(|&word| word == "package").and_then(|_| words.find(ours))]
        };
        let names = names.into_iter().flatten().filter(ours).filter(|_| inside);
        found.extend(names.map(|package| Found { package: package.to_owned(), only_tests }));
    }
    found
}
