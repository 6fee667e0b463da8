//! Three nodes on one line, the gateway and the broker, and everything that can be cut is cut in turn: the line, the power
//! of the nodes, the power of the gateway, the broker, and some of it at once. Every sample that a node took is delivered
//! once with its own time, or declared lost with the reason.
//!
//! Truth is what the nodes write to their logs, which nobody else reads.
//! The module `long` does all of it again with the gateway on an emulated 64-bit ARM Linux.
//! Needs: qemu-system-arm 10, the nodes' firmware, mosquitto (`cargo xtask hil` sets all up).

mod account;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use ganglion_hil::gateway::{Gateway, Host, PORT, SITE_FILE};
use ganglion_hil::node::{Board, NodeMachine, NodeSettings, Pair, Plan, Traces, firmware};
use ganglion_hil::peers::mosquitto::Mosquitto;
use ganglion_hil::peers::{PeerError, require};
use ganglion_hil::pki::{Pki, Validity};
use ganglion_hil::received::{Keep, Received};
use ganglion_hil::site::Parity;
use ganglion_hil::subscriber::{Subscriber, Subscription};
use ganglion_protocols::Cri;
use ganglion_protocols::node_settings::{MAX_COPY, NodeSettings as Settings};

use account::{Account, Channels, Step};

const BAUD: u32 = 9600;
/// How long it may take until everything that waited is there, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at what has come.
const LOOK: Duration = Duration::from_millis(500);
/// How far a node's clock may be from the gateway's: what the contract allows before the node is set anew.
const CLOCK: Duration = Duration::from_secs(2);

const PRESSURE: Channels = &[("pressure", -4), ("pressure_min", -4), ("pressure_max", -4), ("total_volume", -3)];
const TEMPERATURE: Channels = &[("temperature", -2), ("temperature_min", -2), ("temperature_max", -2)];

/// A node of the line: its name, board, address, resource and the template that the gateway reads it by.
struct Kind {
    name: &'static str,
    board: Board,
    unit: u8,
    resource: &'static str,
    template: &'static str,
    channels: Channels,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "inlet",
        board: Board::NucleoL476rg,
        unit: 11,
        resource: "330502-9601-000211-29",
        template: "ganglion-node-nucleo-l476rg",
        channels: PRESSURE,
    },
    Kind {
        name: "outlet",
        board: Board::NucleoL476rg,
        unit: 12,
        resource: "330502-9601-000212-26",
        template: "ganglion-node-nucleo-l476rg",
        channels: PRESSURE,
    },
    Kind {
        name: "chamber",
        board: Board::Lm3s6965evb,
        unit: 13,
        resource: "330502-9601-000213-23",
        template: "ganglion-node-lm3s6965evb",
        channels: TEMPERATURE,
    },
];

struct Bench<G> {
    nodes: Vec<NodeMachine>,
    pair: Pair,
    gateway: G,
    broker: Mosquitto,
    subscriber: Subscriber,
    began: SystemTime,
    // Dropped last: whoever writes there has ended.
    traces: Traces,
}

#[test]
fn every_sample_is_delivered_once_or_declared_lost_whatever_is_cut() {
    let name = "every_sample_is_delivered_once_or_declared_lost_whatever_is_cut";
    let Some(mut bench) = Bench::start(name, Host::new) else { return };
    bench.goes_through_everything();
}

mod long {
    use ganglion_hil::guest::{Arch, Guest};

    use super::*;

    #[test]
    fn every_sample_is_delivered_once_or_declared_lost_by_a_gateway_of_arm() {
        let name = "every_sample_is_delivered_once_or_declared_lost_by_a_gateway_of_arm";
        let gateway = |seat: &Path, folder: &Path| Guest::new(Arch::Aarch64, seat, folder);
        let Some(mut bench) = Bench::start(name, gateway) else { return };
        bench.goes_through_everything();
    }
}

impl<G: Gateway> Bench<G> {
    fn start(test: &str, gateway: impl FnOnce(&Path, &Path) -> Result<G, PeerError>) -> Option<Self> {
        let traces = Traces::begin(test).expect("a folder");
        let began = SystemTime::now();
        let seat = traces.file("seat");
        fs::create_dir_all(&seat).expect("a seat");
        let mut plan = Plan::new(BAUD, Parity::None, 1);
        plan.pty("gateway", &seat.join(PORT));
        plan.trace(&traces.file("line.txt"));
        let mut nodes = Vec::new();
        for kind in &KINDS {
            let mut node = require(assemble(kind, traces.folder()))?;
            plan.machine(kind.name, &node.bus());
            node.power_on().expect("the node starts");
            nodes.push(node);
        }
        let pair = Pair::start(plan).expect("a pair");
        let folder = seat.join("pki");
        fs::create_dir_all(&folder).expect("a folder");
        let pki = Pki::create(&folder).expect("certificates");
        pki.issue("broker", &["localhost", "host"], Validity::Now).expect("a certificate for a guest's name, too");
        let broker = require(Mosquitto::start(traces.folder(), &pki.ca, &pki.broker, &["autosave_interval 1"]))?;
        let subscription = Subscription {
            port: broker.port(),
            ca: &pki.ca,
            own: &pki.subscriber,
            client_id: "city",
            filter: "city/v1/#",
        };
        let subscriber = Subscriber::start(&subscription, Received::new(Keep::All)).expect("a subscriber");
        assert!(subscriber.wait_until_subscribed(PATIENCE), "the subscriber is there");
        let mut gateway = require(gateway(&seat, traces.folder()))?;
        furnish(&seat, gateway.broker_host(), broker.port());
        gateway.start().expect("the gateway runs");
        Some(Self { nodes, pair, gateway, broker, subscriber, began, traces })
    }

    fn goes_through_everything(&mut self) {
        self.until_all_is_told("the first samples");
        self.pair.cut_all();
        self.lasts(8);
        self.pair.mend_all();
        self.until_all_is_told("what was taken while the line was cut");

        for node in &mut self.nodes {
            node.power_off().expect("its power is cut");
        }
        self.lasts(4);
        for node in &mut self.nodes {
            node.power_on().expect("its power is back");
        }
        self.until_all_is_told("what was taken around the nodes' loss of power");

        self.gateway.cut().expect("its power is cut");
        self.lasts(8);
        self.gateway.start().expect("the gateway runs again");
        self.until_all_is_told("what was taken while the gateway had no power");

        self.broker.kill().expect("the broker is killed");
        self.lasts(8);
        self.broker.run().expect("the broker is back");
        self.until_all_is_told("what was taken while the broker was gone");

        // All of it, each in the others' outage.
        self.broker.kill().expect("the broker is killed");
        self.pair.cut_all();
        self.lasts(3);
        self.gateway.cut().expect("its power is cut");
        self.pair.mend_all();
        self.nodes[0].power_off().expect("its power is cut");
        self.nodes[2].power_off().expect("its power is cut");
        self.lasts(3);
        self.nodes[0].power_on().expect("its power is back");
        self.nodes[2].power_on().expect("its power is back");
        self.gateway.start().expect("the gateway runs again");
        self.lasts(3);
        self.broker.run().expect("the broker is back");
        self.until_all_is_told("what was taken around all of it");

        self.every_account_is_right();
    }

    /// Lets an outage last: it is its length that is tested, and nothing is waited for.
    fn lasts(&self, seconds: u64) {
        std::thread::sleep(Duration::from_secs(seconds));
    }

    fn accounts(&self) -> Vec<Account> {
        let account = |(kind, node): (&Kind, &NodeMachine)| {
            let truth = node.truth().expect("its log");
            self.subscriber.look(|view| Account::of(&truth, view.received.resource(kind.resource), kind.channels))
        };
        KINDS.iter().zip(&self.nodes).map(account).collect()
    }

    /// Waits until every sample that the nodes have taken by now, and a few more, are delivered or declared.
    fn until_all_is_told(&mut self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        let taken: Vec<usize> =
            self.nodes.iter().map(|node| node.truth().expect("its log").samples.len() + 2).collect();
        loop {
            let accounts = self.accounts();
            let told = |(account, taken): (&Account, &usize)| {
                let known = account.delivered.len() + account.declared.len();
                known >= *taken && account.open.iter().all(|open| open.place() >= *taken)
            };
            if accounts.iter().zip(&taken).all(told) {
                for (kind, account) in KINDS.iter().zip(&accounts) {
                    println!("{what}: {}: {account}", kind.name);
                }
                return;
            }
            if Instant::now() > deadline {
                let state = |((kind, account), taken): ((&Kind, &Account), &usize)| {
                    let open: Vec<_> = account.open.iter().filter(|open| open.place() < *taken).collect();
                    format!("{}: {account}; waited for {taken}, of which are open: {open:?}", kind.name)
                };
                let state: Vec<String> = KINDS.iter().zip(&accounts).zip(&taken).map(state).collect();
                panic!("{what} did not come in {PATIENCE:?}: {state:#?}\n{}", self.gateway.printed());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn every_account_is_right(&mut self) {
        for ((kind, account), node) in KINDS.iter().zip(self.accounts()).zip(&self.nodes) {
            let steps = account.steps();
            println!("{}: {account}, clock set {steps:?}", kind.name);
            assert!(account.strange.is_empty(), "{}: delivered and never taken, or twice: {account:#?}", kind.name);
            // An emulated tick is lost while this computer has no time for the emulator: a node's clock can be slow, never fast.
            let is_correction = |step: &Step| step.forward && step.by >= CLOCK;
            assert!(steps.iter().all(is_correction), "{}: a sample has not its own time: {steps:?}", kind.name);
            assert!(account.early <= CLOCK, "{}: delivered {:?} before it was taken", kind.name, account.early);
            let first = account.first.expect("something was delivered");
            assert!(first + CLOCK >= self.began, "{}: a time before the node had power: {first:?}", kind.name);
            let keeps = kind.board == Board::Lm3s6965evb;
            assert!(!keeps || account.declared.is_empty(), "{}: its memory outlives the power: {account}", kind.name);
            assert_eq!(node.truth().expect("its log").torn.len(), 0, "{}: whole lines", kind.name);
        }
        self.subscriber.look(|view| {
            assert_eq!(view.received.violations(), [], "every message keeps the contract");
            for kind in &KINDS {
                let resource = view.received.resource(kind.resource).expect("it was told");
                let last = resource.highest();
                let (missing, gaps) = (resource.missing(last), resource.gaps());
                let what = "numbers that are neither there nor declared";
                assert_eq!(
                    resource.lost(last),
                    resource.declared(last),
                    "{}: {what}: {missing:?} {gaps:#?}",
                    kind.name
                );
                assert!(resource.conflicting().is_empty(), "{}: two contents of one number", kind.name);
            }
        });
        let _kept_for_a_failure = &self.traces;
    }
}

fn assemble(kind: &Kind, folder: &Path) -> Result<NodeMachine, PeerError> {
    let cri: Cri = kind.resource.parse().expect("a resource");
    let settings = Settings {
        unit: kind.unit,
        cri: cri.to_bits(),
        serial: 0x4741_0000 + u64::from(kind.unit),
        sample_period_s: 1,
        measure_period_ms: 100,
        test_signal: true,
        ..Settings::DEFAULT
    };
    let mut copy = [0; MAX_COPY];
    let used = settings.emit(1, &mut copy).expect("it fits");
    let provisioned = Some(copy[..used].to_vec());
    let settings =
        NodeSettings { board: kind.board, name: kind.name.to_owned(), firmware: firmware(kind.board)?, provisioned };
    NodeMachine::assemble(settings, folder)
}

/// Puts into the seat what an engineer brings: the site file, the templates and the code directory.
fn furnish(seat: &Path, broker: &str, port: u16) {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    for folder in ["directory", "templates"] {
        fs::create_dir_all(seat.join(folder)).expect("a folder");
        for entry in fs::read_dir(configs.join(folder)).expect("the configuration") {
            let entry = entry.expect("a file");
            fs::copy(entry.path(), seat.join(folder).join(entry.file_name())).expect("copied");
        }
    }
    let mut site = format!(
        r#"directory = "directory"
templates = "templates"
data_dir = "data"

[gateway]
id = "330502-9101-000001-31"

[broker]
host = "{broker}"
port = {port}
ca = "pki/ca.pem"
certificate = "pki/gateway.pem"
key = "pki/gateway.key"

[[bus]]
name = "line"
kind = "serial"
protocol = "node-link"
port = "{PORT}"
baud = {BAUD}
parity = "none"
response_timeout_ms = 1000
"#
    );
    for Kind { name, unit, resource, template, .. } in &KINDS {
        site.push_str(&format!(
            r#"
[[bus.device]]
name = "{name}"
unit = {unit}
template = "{template}"
resource = "{resource}"
poll_interval_ms = 1000
"#
        ));
    }
    fs::write(seat.join(SITE_FILE), site).expect("written");
}
