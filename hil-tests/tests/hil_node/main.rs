//! A node under QEMU on an emulated RS-485 pair, asked by a client that never heard of it.
//! Needs: qemu-system-arm, mbpoll, the firmware of lm3s6965evb (`cargo xtask hil` builds it).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ganglion_hil::node::{Board, End, NodeMachine, NodeSettings, Pair, Plan, Traces, firmware};
use ganglion_hil::peers::process::Process;
use ganglion_hil::peers::{PeerError, installed, require};
use ganglion_hil::site::Parity;

/// As a node is before anybody set anything.
const BAUD: u32 = 9600;
const UNIT: &str = "1";
const SOON: Duration = Duration::from_secs(30);
/// Of the register map: input register 0.
const MAP_VERSION: u16 = 1;

struct Rig {
    node: NodeMachine,
    end: End,
    pair: Pair,
    // Dropped last: whoever writes there has ended.
    traces: Traces,
}

impl Rig {
    fn start(test: &str) -> Option<Self> {
        let board = Board::Lm3s6965evb;
        let firmware = require(firmware(board))?;
        require(installed("mbpoll", "mbpoll"))?;
        let traces = Traces::begin(test).expect("a folder");
        let settings = NodeSettings { board, name: "node".to_owned(), firmware, provisioned: None };
        let mut node = require(NodeMachine::assemble(settings, traces.folder()))?;
        let mut plan = Plan::new(BAUD, Parity::None, 1);
        plan.pty("client", &traces.file("port"));
        let end = plan.machine("node", &node.bus());
        plan.trace(&traces.file("line.txt"));
        let pair = Pair::start(plan).expect("a pair");
        node.power_on().expect("the node starts");
        assert!(pair.wait_connected(end, true, SOON), "the node is on the line");
        Some(Self { node, end, pair, traces })
    }

    /// Asks once or, where the computer was late, again; returns what the client printed last.
    fn ask(&self, arguments: &[&str], values: &[&str], expected: &str) -> Result<String, PeerError> {
        const TRIES: usize = 3;
        let line = ["-m", "rtu", "-b", "9600", "-P", "none", "-o", "2", "-1", "-0", "-a", UNIT];
        let mut command = Command::new("mbpoll");
        command.args(line).args(arguments).arg(self.traces.file("port")).args(values);
        let mut printed = String::new();
        for _ in 0..TRIES {
            let mut client = Process::start("mbpoll", &mut command, &self.traces.file("mbpoll.log"))?;
            client.wait_for_end(SOON)?;
            printed = client.printed()?;
            if printed.contains(expected) {
                break;
            }
        }
        Ok(printed)
    }

    fn expect(&self, arguments: &[&str], expected: &str) {
        self.expect_of(arguments, &[], expected);
    }

    /// Writes values, if there are any.
    fn expect_of(&self, arguments: &[&str], values: &[&str], expected: &str) {
        let printed = self.ask(arguments, values, expected).expect("the client runs");
        assert!(printed.contains(expected), "no {expected:?} in:\n{printed}\n{:?}", self.pair.counts());
    }
}

fn is_there(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

#[test]
fn mbpoll_reads_a_nodes_registers() {
    let Some(rig) = Rig::start("mbpoll_reads_a_nodes_registers") else { return };
    rig.expect(&["-t", "3", "-r", "0", "-c", "2"], &format!("[0]: \t{MAP_VERSION}\n"));
    // Its address and its hundreds of baud.
    rig.expect(&["-t", "4", "-r", "0", "-c", "2"], "[1]: \t96\n");
    assert!(is_there(&rig.traces.file("line.txt")), "the line leaves a trace");
}

#[test]
fn mbpoll_gets_the_standard_exception_for_registers_and_bits_that_are_none() {
    let test = "mbpoll_gets_the_standard_exception_for_registers_and_bits_that_are_none";
    let Some(rig) = Rig::start(test) else { return };
    for table in ["0", "1", "3", "4"] {
        rig.expect(&["-t", table, "-r", "60000", "-c", "1"], "Illegal data address");
        // The first is there, the last is not.
        rig.expect(&["-t", table, "-r", "0", "-c", "125"], "Illegal data address");
    }
    rig.expect_of(&["-t", "4", "-r", "60000"], &["1"], "Illegal data address");
}

#[test]
fn mbpoll_gets_the_standard_exception_for_a_value_that_cannot_be_and_the_old_one_stays() {
    let test = "mbpoll_gets_the_standard_exception_for_a_value_that_cannot_be_and_the_old_one_stays";
    let Some(rig) = Rig::start(test) else { return };
    rig.expect_of(&["-t", "4", "-r", "0"], &["999"], "Illegal data value");
    rig.expect(&["-t", "4", "-r", "0", "-c", "1"], &format!("[0]: \t{UNIT}\n"));
}

#[test]
fn a_node_whose_power_was_cut_answers_again_when_it_is_back() {
    let Some(mut rig) = Rig::start("a_node_whose_power_was_cut_answers_again_when_it_is_back") else { return };
    let version = format!("[0]: \t{MAP_VERSION}\n");
    rig.expect(&["-t", "3", "-r", "0", "-c", "1"], &version);
    rig.node.power_off().expect("the power goes");
    assert!(rig.pair.wait_connected(rig.end, false, SOON), "the node is off the line");
    rig.expect(&["-t", "3", "-r", "0", "-c", "1"], "timed out");
    rig.node.power_on().expect("the power comes");
    assert!(rig.pair.wait_connected(rig.end, true, SOON), "the node is on the line");
    rig.expect(&["-t", "3", "-r", "0", "-c", "1"], &version);
}
