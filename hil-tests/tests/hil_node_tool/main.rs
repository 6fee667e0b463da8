//! `ganglion node` against nodes under QEMU on an emulated RS-485 pair: what a field engineer types, and what the tool says.
//! Needs: qemu-system-arm, the firmware of both boards (`cargo xtask hil` builds it); for `update.rs` what it says.

mod rig;
mod update;

use std::fs;

use ganglion_hil::node::Board;
use ganglion_protocols::node_link::{BoardName, BodySize, ImageHeader, Version};

use rig::{Rig, Seat};

const WELL: Seat = Seat { board: Board::NucleoL476rg, unit: 11, resource: Some("330502-9601-000211-29") };
const CHAMBER: Seat = Seat { board: Board::Lm3s6965evb, unit: 13, resource: None };

/// An image whose signature nobody made.
fn image(board: Board, version: Version) -> Vec<u8> {
    let header = ImageHeader {
        board: BoardName::new(board.name()).expect("a name"),
        version,
        size: BodySize::try_from(4096).expect("a size"),
        digest: [1; 64],
        signature: [2; 64],
    };
    [header.emit().as_slice(), &[0x5A; 4096]].concat()
}

#[test]
fn an_engineer_finds_sets_and_commissions_nodes() {
    let Some(mut rig) = Rig::start("an_engineer_finds_sets_and_commissions_nodes", &[WELL, CHAMBER]) else { return };
    let list = rig.does(&["list"]);
    for words in ["2 nodes", "node  11  resource 330502-9601-000211-29", "node  13  resource none yet", "power came"] {
        assert!(list.contains(words), "no {words:?} in:\n{list}");
    }

    let describe = rig.on(13, &["describe"]);
    assert!(describe.contains("temperature          -55 to 128 Cel, gauge, a sample each 1 s"), "{describe}");

    let adopt = rig.on(13, &["adopt", "330502-9601-000213-23"]);
    assert!(adopt.contains("resource none yet -> 330502-9601-000213-23"), "{adopt}");

    let unnamed = rig.refused(13, &["samples"]);
    assert!(unnamed.contains("the node's store has no epoch yet") && unnamed.contains("--name"), "{unnamed}");
    let samples = rig.on(13, &["samples", "--name"]);
    assert!(samples.contains("clock not set") && samples.contains("temperature "), "{samples}");
    assert_eq!(rig.on(13, &["samples"]).lines().next(), samples.lines().next(), "looking takes nothing away");

    assert_eq!(rig.on(13, &["set", "sample-period", "5"]), "sample-period: 1 s -> 5 s\n");
    rig.cut_and_restore(1);
    let get = rig.on(13, &["get", "sample-period"]);
    assert!(get.contains("5 s"), "it outlives the loss of power: {get}");

    let refused = rig.refused(13, &["set", "sample-period", "9999"]);
    assert!(refused.contains("sample-period is 5 s now and may be 1 to 3600 s"), "{refused}");
    let misspelt = rig.refused(13, &["set", "sampel-period", "9"]);
    assert!(misspelt.contains("is sample-period meant?"), "{misspelt}");

    let identify = rig.on(13, &["identify"]);
    assert!(identify.contains("node 13 blinks for 30 s"), "{identify}");
    let back = rig.on(13, &["reset"]);
    assert!(back.contains("node 13 is back") && back.contains("told to"), "{back}");
    rig.on(13, &["get"]);
    let log = rig.on(13, &["log"]);
    assert!(log.contains("started"), "{log}");
}

#[test]
fn what_nodes_say_of_themselves_becomes_the_templates_that_are_shipped() {
    let name = "what_nodes_say_of_themselves_becomes_the_templates_that_are_shipped";
    let Some(rig) = Rig::start(name, &[WELL, CHAMBER]) else { return };
    let folder = rig.file("catalogue");
    let folder_name = folder.display().to_string();
    let list = rig.does(&["list", "--write", &folder_name]);
    assert!(list.contains("[[bus.device]]"), "{list}");
    for board in [Board::NucleoL476rg, Board::Lm3s6965evb] {
        let file = format!("ganglion-node-{}.toml", board.name());
        let made = fs::read_to_string(folder.join(&file)).expect("a template");
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/templates/");
        assert_eq!(made, fs::read_to_string(format!("{shipped}{file}")).expect("shipped"), "{file}");
    }
    let rows = fs::read_to_string(folder.join("nodes.csv")).expect("rows");
    assert!(rows.contains("line-1,node-11,11,ganglion-node-nucleo-l476rg,330502-9601-000211-29,1000"), "{rows}");
}

#[test]
fn a_scan_names_nodes_beside_modbus_units() {
    let Some(rig) = Rig::start("a_scan_names_nodes_beside_modbus_units", &[WELL, CHAMBER]) else { return };
    let found = rig.scans(&["--units", "11,13", "--nodes"]);
    for words in [
        "unit  11  answers",
        "unit  13  answers",
        "sensor nodes among them",
        "node  13  resource none yet",
        "template = \"ganglion-node-lm3s6965evb\"",
    ] {
        assert!(found.contains(words), "no {words:?} in:\n{found}");
    }
}

#[test]
fn two_nodes_with_one_address_are_both_named() {
    let twin = Seat { board: Board::Lm3s6965evb, unit: 11, resource: None };
    let Some(rig) = Rig::start("two_nodes_with_one_address_are_both_named", &[WELL, twin]) else { return };
    let list = rig.does(&["list"]);
    assert!(list.contains("note: 2 nodes have the address 11: serials 0000000047410000, 0000000047410001"), "{list}");
}

#[test]
fn a_node_that_is_not_there_is_said_with_what_to_check() {
    let Some(rig) = Rig::start("a_node_that_is_not_there_is_said_with_what_to_check", &[CHAMBER]) else { return };
    let silent = rig.refused(77, &["describe"]);
    for words in ["node 77 does not answer: asked 3 times at", "9600 8N1", "swap them"] {
        assert!(silent.contains(words), "no {words:?} in: {silent}");
    }
}

#[test]
fn an_update_that_a_node_cannot_take_is_refused_in_its_words() {
    let Some(rig) = Rig::start("an_update_that_a_node_cannot_take_is_refused_in_its_words", &[WELL, CHAMBER]) else {
        return;
    };
    let newer = Version { major: 200, minor: 0, patch: 0 };
    for board in [Board::NucleoL476rg, Board::Lm3s6965evb] {
        fs::write(rig.file(board.name()), image(board, newer)).expect("an image");
    }
    let (nucleo, lm3s) = (rig.file("nucleo-l476rg"), rig.file("lm3s6965evb"));
    let (nucleo, lm3s) = (nucleo.display().to_string(), lm3s.display().to_string());
    let unable = rig.refused(13, &["update", &lm3s]);
    assert!(unable.contains("the node cannot do it") && unable.contains("no room for a second firmware"), "{unable}");
    let other = rig.refused(13, &["update", &nucleo]);
    assert!(other.contains("is for the board nucleo-l476rg, node 13 is a lm3s6965evb"), "{other}");
    // QEMU's model of the flash takes nothing.
    let failed = rig.refused(11, &["update", &nucleo]);
    assert!(failed.contains("flash did not take what was written"), "{failed}");
}
