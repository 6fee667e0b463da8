//! The arrows of `ARCHITECTURE.md` never point back.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;

use crate::shell::root;

/// A room and the packages of this workspace it may depend on.
const ROOMS: [(&str, &str, &[&str]); 5] = [
    ("protocols", "ganglion-protocols", &[]),
    ("drivers", "ganglion-drivers", &["ganglion-protocols"]),
    ("gateway", "ganglion", &["ganglion-protocols", "ganglion-drivers"]),
    ("hil-tests", "ganglion-hil", &["ganglion-protocols"]),
    ("xtask", "xtask", &[]),
];

#[test]
fn every_room_depends_only_on_the_rooms_below_it() {
    for (folder, package, allowed) in ROOMS {
        let path = root().join(folder).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).expect("every room has a manifest");
        assert!(manifest.contains(&format!("name = \"{package}\"")), "{folder} holds the package {package}");
        let wrong: Vec<_> =
            dependencies(&manifest).into_iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(wrong.is_empty(), "{folder} must not depend on {wrong:?}");
    }
}

#[test]
fn every_room_of_the_workspace_is_checked() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("members on one line");
    let named: BTreeSet<_> = members.split('"').skip(1).step_by(2).collect();
    assert_eq!(named, ROOMS.iter().map(|&(folder, ..)| folder).collect());
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
[lints]
ganglion-nothing = true
"#;
    let found: Vec<_> = dependencies(manifest).into_iter().collect();
    assert_eq!(found, ["ganglion", "ganglion-hil", "ganglion-protocols", "xtask"]);
}

/// Finds the packages of this workspace that a manifest depends on: to run, to build or to test.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let ours = |name: &str| ROOMS.iter().any(|&(_, package, _)| package == name);
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(section) = line.trim().strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies") || section.contains("dependencies.");
            found.extend(section.rsplit('.').next().filter(|name| inside && ours(name)).map(str::to_owned));
        } else if inside {
            // A key before `.` or `=`, and a `package = "…"` behind a rename.
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
            let key = words.clone().next().filter(|name| ours(name));
            let renamed = words.skip_while(|&word| word != "package").find(|name| ours(name));
            found.extend(key.into_iter().chain(renamed).map(str::to_owned));
        }
    }
    found
}
