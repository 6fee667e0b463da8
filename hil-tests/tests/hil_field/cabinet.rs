//! What stands before an engineer with the page in hand: a board, a line, a computer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ganglion_hil::node::{Board, End, NodeMachine, NodeSettings, Pair, Plan, Traces, firmware};
use ganglion_hil::peers::{PeerError, require};
use ganglion_hil::pki::Pki;
use ganglion_hil::site::Parity;

const BAUD: u32 = 9600;
const SOON: Duration = Duration::from_secs(60);
/// The adapter on the line, as pages call it.
const ADAPTER: &str = "/dev/ttyUSB0";
/// How a page looks at the log on the board's own port. On the bench that is QEMU's standard output.
pub(crate) const LOG: &str = "stty -F /dev/ttyACM0 115200 raw -echo; cat /dev/ttyACM0";
/// So much of the log is waited for.
const SEEN: &str = "sample 0 2 ";
const CONFIGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");

pub(crate) struct Cabinet {
    node: NodeMachine,
    end: End,
    pair: Pair,
    /// `ganglion check` ran.
    checked: bool,
    // Dropped last: whoever writes there has ended.
    traces: Traces,
}

impl Cabinet {
    /// A NUCLEO-L476RG that nobody flashed, and a folder with a site file. The bench flashes by QEMU's loader.
    pub(crate) fn open(test: &str) -> Option<Self> {
        xtask()?;
        let traces = Traces::begin(test).expect("a folder");
        let mut plan = Plan::new(BAUD, Parity::None, 1);
        plan.pty("tool", &traces.file("port"));
        plan.trace(&traces.file("line.txt"));
        let board = Board::NucleoL476rg;
        let settings =
            NodeSettings { board, name: "board".to_owned(), firmware: require(firmware(board))?, provisioned: None };
        let node = require(NodeMachine::assemble(settings, traces.folder()))?;
        let end = plan.machine("board", &node.bus());
        let pair = Pair::start(plan).expect("a pair");
        for part in ["directory", "templates", "sites"] {
            copy(&Path::new(CONFIGS).join(part), &traces.file(part));
        }
        Some(Self { node, end, pair, checked: false, traces })
    }

    /// Does what a page says, and returns what is seen.
    pub(crate) fn types(&mut self, command: &str) -> String {
        if command == LOG {
            return self.first_light();
        }
        if command.starts_with("ganglion check ") {
            // The city's certificates come between the first check and the second.
            if self.checked {
                self.certificates();
            }
            self.checked = true;
        }
        let (program, words) = if let Some(words) = command.strip_prefix("ganglion ") {
            ("ganglion", words)
        } else if let Some(words) = command.strip_prefix("cargo xtask ").filter(|words| words.ends_with("--dry-run")) {
            ("xtask", words)
        } else {
            panic!("nothing on the bench does {command:?}");
        };
        let port = self.traces.file("port").display().to_string();
        let mut command = Command::new(programs().join(program));
        command.args(words.replace(ADAPTER, &port).split_whitespace()).current_dir(self.traces.folder());
        if words.contains(ADAPTER) {
            // The computer of a test may be late.
            command.args(["--timeout-ms", "1500"]);
        }
        let output = command.output().expect("it runs");
        let printed = [output.stdout, output.stderr].concat();
        let folder = format!("{}/", self.traces.folder().display());
        let target = programs().parent().expect("the build folder").display().to_string();
        let printed = String::from_utf8(printed).expect("text").replace(&port, ADAPTER).replace(&folder, "");
        printed.replace(&programs().display().to_string(), "target").replace(&target, "target")
    }

    /// Gives the flashed board power; returns its log up to the second sample.
    fn first_light(&mut self) -> String {
        self.node.provision(&self.traces.file("node-11.hex")).expect("the settings that were made before");
        self.node.power_on().expect("power");
        assert!(self.pair.wait_connected(self.end, true, SOON), "the node is on the line");
        self.node.wait_for_line(SEEN, SOON).expect("two samples");
        let log = fs::read_to_string(self.node.log()).expect("its log");
        let shown = log.lines().take_while(|line| !line.starts_with("sample 0 3 "));
        shown.flat_map(|line| [line, "\n"]).collect()
    }

    fn certificates(&self) {
        let folder = self.traces.file("sites/pki");
        fs::create_dir_all(&folder).expect("a folder");
        let made = Pki::create(&folder).expect("certificates");
        fs::rename(made.gateway.certificate, folder.join("gateway.pem")).expect("renamed");
        let key = folder.join("gateway.key");
        fs::rename(made.gateway.key, &key).expect("renamed");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("the daemon's alone");
    }
}

/// Returns the folder of the programs that were built with this one.
pub(crate) fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    own.ancestors().nth(2).expect("the folder of programs").to_owned()
}

/// Returns the program behind `cargo xtask`, which builds it and which nothing else needs.
pub(crate) fn xtask() -> Option<PathBuf> {
    let xtask = programs().join("xtask");
    let why = format!("{} is not there (`cargo build -p xtask`)", xtask.display());
    require(if xtask.is_file() { Ok(xtask) } else { Err(PeerError::Missing { peer: "xtask", why }) })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}
