//! Every target over what is known: its seeds, parts of them, and every input that ever failed.

use std::fs;
use std::path::Path;

use ganglion_fuzz::TARGETS;

#[test]
fn every_property_holds_for_every_seed_and_every_part_and_bit_of_it() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has seeds", target.name);
        for seed in seeds {
            (target.run)(&seed);
            for end in 0..seed.len() {
                (target.run)(&seed[..end]);
            }
            // Every bit of a short seed; a sample of a long one's.
            for bit in (0..seed.len() * 8).step_by(1 + seed.len() / 16) {
                let mut flipped = seed.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                (target.run)(&flipped);
            }
        }
    }
}

#[test]
fn every_property_holds_for_every_value_of_every_byte_of_a_short_seed() {
    for target in TARGETS {
        for seed in (target.seeds)().iter().filter(|seed| seed.len() <= 18).take(40) {
            for place in 0..seed.len() {
                let mut changed = seed.clone();
                for byte in 0..=255 {
                    changed[place] = byte;
                    (target.run)(&changed);
                }
            }
        }
    }
}

#[test]
fn no_input_that_ever_failed_fails_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for entry in fs::read_dir(&folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        if !path.is_dir() {
            assert_eq!(name, "README.md");
            continue;
        }
        let target = ganglion_fuzz::target(name).unwrap_or_else(|| panic!("{name} is a target"));
        for input in fs::read_dir(&path).expect("it can be read") {
            (target.run)(&fs::read(input.expect("it can be read").path()).expect("it can be read"));
        }
    }
}

#[test]
fn targets_have_names_of_their_own() {
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TARGETS.len());
}
