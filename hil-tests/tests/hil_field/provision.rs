//! The files of `ganglion node provision` are those the bench itself makes, and boards start with them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ganglion_hil::node::hex::intel_hex;
use ganglion_hil::node::{Board, NodeMachine, NodeSettings, Traces, firmware};
use ganglion_hil::peers::require;
use ganglion_protocols::Cri;
use ganglion_protocols::node_settings::{MAX_COPY, NodeSettings as Settings};

use crate::cabinet::programs;

const SOON: Duration = Duration::from_secs(60);
const RESOURCE: &str = "330502-9601-000213-23";

fn provision(board: Board, file: &Path) {
    let mut tool = Command::new(programs().join("ganglion"));
    tool.args(["node", "provision", "--board", board.name(), "--unit", "13", "--resource", RESOURCE]);
    let done = tool.args(["--serial", "4741000d", "-o"]).arg(file).output().expect("the tool runs");
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_hex_file_is_what_the_bench_gives_to_a_board_in_both_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.hex");
    provision(Board::NucleoL476rg, &file);
    let cri = RESOURCE.parse::<Cri>().expect("a resource").to_bits();
    let settings = Settings { unit: 13, cri, serial: 0x4741_000D, ..Settings::DEFAULT };
    let mut copy = [0; MAX_COPY];
    let used = settings.emit(1, &mut copy).expect("it fits");
    let (first, second) = (intel_hex(0x080F_F000, &copy[..used]), intel_hex(0x080F_F800, &copy[..used]));
    // Without the end of the first file, and without what the second says again of the addresses' upper half.
    let first = first.lines().rev().skip(1).collect::<Vec<_>>();
    let expected: Vec<&str> = first.into_iter().rev().chain(second.lines().skip(1)).collect();
    assert_eq!(fs::read_to_string(file).expect("a file").lines().collect::<Vec<_>>(), expected);
}

#[test]
fn both_boards_start_with_the_settings_that_the_tool_wrote() {
    let test = "both_boards_start_with_the_settings_that_the_tool_wrote";
    for board in [Board::NucleoL476rg, Board::Lm3s6965evb] {
        let Some(firmware) = require(firmware(board)) else { return };
        let traces = Traces::begin(test).expect("a folder");
        let settings = NodeSettings { board, name: "node".to_owned(), firmware, provisioned: None };
        let Some(mut node) = require(NodeMachine::assemble(settings, traces.folder())) else { return };
        let file = traces.file("settings");
        provision(board, &file);
        node.provision(&file).expect("its memory is filled");
        node.power_on().expect("power");
        let line = node.wait_for_line(" boot ", SOON).expect("it starts");
        assert!(line.contains(&format!("node {} ", board.name())) && line.contains(" unit 13 "), "{line}");
    }
}
