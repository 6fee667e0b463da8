//! Nodes on a pair, and the tool as a person starts it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use ganglion_hil::node::{Board, End, NodeMachine, NodeSettings, Pair, Plan, Traces, firmware};
use ganglion_hil::peers::require;
use ganglion_hil::site::Parity;
use ganglion_protocols::Cri;
use ganglion_protocols::node_settings::{MAX_COPY, NodeSettings as Settings};

const BAUD: u32 = 9600;
const SOON: Duration = Duration::from_secs(30);
/// What a node logs when its line is open.
const LISTENS: &str = " boot ";
/// Serial number of the first node, for the boards that have none.
const SERIAL: u64 = 0x4741_0000;

/// A node of the line.
#[derive(Clone, Copy)]
pub(crate) struct Seat {
    pub(crate) board: Board,
    pub(crate) unit: u8,
    pub(crate) resource: Option<&'static str>,
}

pub(crate) struct Rig {
    nodes: Vec<(NodeMachine, End)>,
    pair: Pair,
    // Dropped last: whoever writes there has ended.
    traces: Traces,
}

impl Rig {
    pub(crate) fn start(test: &str, seats: &[Seat]) -> Option<Self> {
        let traces = Traces::begin(test).expect("a folder");
        let mut plan = Plan::new(BAUD, Parity::None, 1);
        plan.pty("tool", &traces.file("port"));
        plan.trace(&traces.file("line.txt"));
        let mut nodes = Vec::new();
        for (seat, place) in seats.iter().zip(0_u64..) {
            let settings = NodeSettings {
                board: seat.board,
                name: format!("node-{place}"),
                firmware: require(firmware(seat.board))?,
                provisioned: Some(provisioned(*seat, SERIAL + place)),
            };
            let mut node = require(NodeMachine::assemble(settings, traces.folder()))?;
            let end = plan.machine(&format!("node-{place}"), &node.bus());
            node.power_on().expect("the node starts");
            nodes.push((node, end));
        }
        let pair = Pair::start(plan).expect("a pair");
        for (node, end) in &mut nodes {
            assert!(pair.wait_connected(*end, true, SOON), "the node is on the line");
            node.wait_for_line(LISTENS, SOON).expect("it listens");
        }
        Some(Self { nodes, pair, traces })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.traces.file(name)
    }

    /// Cuts a node's power and gives it back.
    pub(crate) fn cut_and_restore(&mut self, place: usize) {
        let (node, end) = &mut self.nodes[place];
        node.power_off().expect("its power goes");
        assert!(self.pair.wait_connected(*end, false, SOON), "the node is off the line");
        node.power_on().expect("its power comes");
        assert!(self.pair.wait_connected(*end, true, SOON), "the node is on the line");
        node.wait_for_line(LISTENS, SOON).expect("it listens");
    }

    /// Has the tool do something; returns what it printed.
    pub(crate) fn does(&self, words: &[&str]) -> String {
        let output = self.runs(words);
        assert!(output.status.success(), "{words:?}: {output:?}\n{:?}", self.pair.counts());
        String::from_utf8(output.stdout).expect("text")
    }

    /// Has the tool do something with one node.
    pub(crate) fn on(&self, unit: u8, words: &[&str]) -> String {
        self.does(&[words, &["--unit", &unit.to_string()]].concat())
    }

    /// Has the tool do something that ends in a refusal; returns what it said.
    pub(crate) fn refused(&self, unit: u8, words: &[&str]) -> String {
        let output = self.runs(&[words, &["--unit", &unit.to_string()]].concat());
        assert!(!output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// Scans the line for Modbus units; returns what was printed.
    pub(crate) fn scans(&self, words: &[&str]) -> String {
        let mut command = Command::new(tool());
        command.args(["scan", "--baud", "9600", "--parity", "none", "--timeout-ms", "1500", "--listen-ms", "0"]);
        let output = command.args(words).arg("--port").arg(self.traces.file("port")).output().expect("the tool runs");
        assert!(output.status.success(), "{words:?}: {output:?}\n{:?}", self.pair.counts());
        String::from_utf8(output.stdout).expect("text")
    }

    fn runs(&self, words: &[&str]) -> Output {
        // The computer of a test may be late.
        let line = ["--baud", "9600", "--timeout-ms", "1500", "--port"];
        let mut command = Command::new(tool());
        command.arg("node").args(words).args(line).arg(self.traces.file("port"));
        let output = command.output().expect("the tool runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        println!("$ ganglion node {}\n{}{}", words.join(" "), text(&output.stdout), text(&output.stderr));
        output
    }
}

/// Returns the folder of the programs that were built with this one.
pub(crate) fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    own.ancestors().nth(2).expect("the folder of programs").to_owned()
}

/// Returns the tool.
pub(crate) fn tool() -> PathBuf {
    programs().join("ganglion")
}

fn provisioned(seat: Seat, serial: u64) -> Vec<u8> {
    let cri = seat.resource.map_or(0, |resource| resource.parse::<Cri>().expect("a resource").to_bits());
    let settings = Settings {
        unit: seat.unit,
        cri,
        serial,
        sample_period_s: 1,
        measure_period_ms: 100,
        test_signal: true,
        ..Settings::DEFAULT
    };
    let mut copy = [0; MAX_COPY];
    let used = settings.emit(1, &mut copy).expect("it fits");
    copy[..used].to_vec()
}
