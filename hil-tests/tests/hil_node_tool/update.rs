//! New firmware for a node on this computer, whose flash is a file: QEMU models none that can be programmed.
//! Needs: the example `host-node` (`cargo build -p ganglion-node --example host-node`).

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ganglion_hil::node::{End, Pair, Plan, Traces};
use ganglion_hil::peers::process::Process;
use ganglion_hil::peers::{PeerError, require};
use ganglion_hil::site::Parity;
use ganglion_protocols::node_settings::{MAX_COPY, NodeLine, NodeSettings};
use nix::sys::signal::Signal;

use crate::rig::{programs, tool};

const BAUD: u32 = 115_200;
const UNIT: u8 = 5;
/// For an update to end on a busy machine, where most of its time goes into waiting for answers that are late.
const SOON: Duration = Duration::from_secs(240);
const GLANCE: Duration = Duration::from_millis(10);
/// Where in the node's flash the body of what arrives is, behind two slots and a page.
const STAGE: u64 = 2 * 32 * 1024 + 2048;
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../firmware/keys/dev.key");

struct Rig {
    program: PathBuf,
    node: Option<Process>,
    starts: u32,
    end: End,
    pair: Pair,
    /// Its socket: the path of one has at most 107 bytes, and the folder of a test may be deeper.
    sockets: tempfile::TempDir,
    // Dropped last: whoever writes there has ended.
    traces: Traces,
}

impl Rig {
    fn start(test: &str) -> Option<Self> {
        let program = programs().join("examples/host-node");
        let there = if program.is_file() {
            Ok(())
        } else {
            let why =
                format!("{} is not there (`cargo build -p ganglion-node --example host-node`)", program.display());
            Err(PeerError::Missing { peer: "host-node", why })
        };
        require(there)?;
        let traces = Traces::begin(test).expect("a folder");
        let mut plan = Plan::new(BAUD, Parity::None, 1);
        plan.pty("tool", &traces.file("port"));
        let sockets = tempfile::tempdir().expect("a folder");
        let end = plan.machine("node", &sockets.path().join("bus"));
        plan.trace(&traces.file("line.txt"));
        let pair = Pair::start(plan).expect("a pair");
        let mut rig = Self { program, node: None, starts: 0, end, pair, sockets, traces };
        rig.has(&["factory", &rig.path("node"), "1.0.0"]);
        let line = NodeLine { baud: BAUD, ..NodeSettings::DEFAULT.line };
        let settings = NodeSettings { unit: UNIT, line, ..NodeSettings::DEFAULT };
        let mut copy = [0; MAX_COPY];
        settings.emit(1, &mut copy).expect("it fits");
        fs::write(rig.traces.file("node").join("settings"), copy).expect("provisioned");
        rig.power_on();
        Some(rig)
    }

    fn path(&self, name: &str) -> String {
        self.traces.file(name).display().to_string()
    }

    /// Has the node's program do something beside running.
    fn has(&self, words: &[&str]) {
        let done = Command::new(&self.program).args(words).status().expect("it runs");
        assert!(done.success(), "{words:?}");
    }

    fn image(&self, version: &str, kind: &str, key: &Path) -> String {
        let file = self.path(version);
        self.has(&["image", version, kind, &key.display().to_string(), &file]);
        file
    }

    fn power_on(&mut self) {
        let (folder, bus) = (self.path("node"), self.sockets.path().join("bus"));
        let mut command = Command::new(&self.program);
        command.args(["run", &folder]).arg(bus);
        self.starts += 1;
        let log = self.traces.file(&format!("node-{}.log", self.starts));
        self.node = Some(Process::start("host-node", &mut command, &log).expect("power"));
        assert!(self.pair.wait_connected(self.end, true, SOON), "the node is on the line");
    }

    fn cut_power(&mut self) {
        self.node.take().expect("power").kill().expect("it goes");
        assert!(self.pair.wait_connected(self.end, false, SOON), "the node is off the line");
    }

    fn update(&self, image: &str, log: &str) -> Process {
        let mut command = Command::new(tool());
        command.args(["node", "update", image, "--unit", &UNIT.to_string(), "--baud", &BAUD.to_string()]);
        command.args(["--timeout-ms", "1000", "--port"]).arg(self.traces.file("port"));
        Process::start("ganglion", &mut command, &self.traces.file(log)).expect("the tool runs")
    }

    /// Runs an update to its end; returns whether it was one, and what was printed.
    fn updates(&self, image: &str, log: &str) -> (bool, String) {
        let mut tool = self.update(image, log);
        let ended = tool.wait_for_end(SOON).expect("it ends");
        let printed = tool.printed().expect("text");
        println!("{printed}");
        (ended.success(), printed)
    }

    /// Waits until this byte of a body lies in the node's flash.
    fn wait_until_arrived(&self, at: u64) {
        let flash = File::open(self.traces.file("node").join("flash")).expect("its flash");
        let deadline = Instant::now() + SOON;
        let mut bytes = [0xFF; 16];
        while bytes == [0xFF; 16] {
            assert!(Instant::now() < deadline, "byte {at} did not arrive");
            std::thread::sleep(GLANCE);
            flash.read_exact_at(&mut bytes, STAGE + at).expect("its flash");
        }
    }
}

#[test]
fn an_update_whose_node_loses_power_in_the_middle_goes_on_there_and_ends_in_the_new_firmware() {
    let name = "an_update_whose_node_loses_power_in_the_middle_goes_on_there_and_ends_in_the_new_firmware";
    let Some(mut rig) = Rig::start(name) else { return };
    let image = rig.image("2.0.0", "good", Path::new(KEY));
    let mut tool = rig.update(&image, "first.log");
    rig.wait_until_arrived(8_192);
    rig.cut_power();
    tool.signal(Signal::SIGINT).expect("Ctrl-C");
    let ended = tool.wait_for_end(SOON).expect("it ends");
    let printed = tool.printed().expect("text");
    println!("{printed}");
    assert!(!ended.success() && printed.contains("the same command goes on there"), "{printed}");

    rig.power_on();
    let (done, printed) = rig.updates(&image, "second.log");
    assert!(done && printed.contains("node 5 runs 2.0.0, confirmed"), "{printed}");
    assert!(printed.contains("1.0.0 -> 2.0.0, goes on at ") && !printed.contains("goes on at 160 of"), "{printed}");

    rig.cut_power();
    rig.power_on();
    let (done, printed) = rig.updates(&image, "third.log");
    assert!(done && printed.contains("node 5 runs 2.0.0 already"), "it is kept: {printed}");
    let older = rig.image("1.5.0", "good", Path::new(KEY));
    let (done, printed) = rig.updates(&older, "older.log");
    assert!(!done && printed.contains("--downgrade installs it all the same"), "{printed}");
}

#[test]
fn firmware_signed_with_another_key_is_refused() {
    let Some(rig) = Rig::start("firmware_signed_with_another_key_is_refused") else { return };
    let key = rig.traces.file("other.key");
    fs::write(&key, "01".repeat(32)).expect("a key");
    let (done, printed) = rig.updates(&rig.image("2.0.0", "good", &key), "tool.log");
    assert!(!done && printed.contains("the signature or the digest of the image is wrong"), "{printed}");
    assert!(printed.contains("signed with another key than the node's firmware trusts"), "{printed}");
}

#[test]
fn firmware_that_dies_is_taken_back_and_the_engineer_is_told() {
    let Some(rig) = Rig::start("firmware_that_dies_is_taken_back_and_the_engineer_is_told") else { return };
    let (done, printed) = rig.updates(&rig.image("2.0.0", "dies", Path::new(KEY)), "tool.log");
    assert!(!done && printed.contains("the node runs the old one again"), "{printed}");
}
