//! Bytes that nobody would send, into both faces of a node under QEMU: no panic, no reset, and after each stretch of them the
//! first or second good frame of each face is answered. A short run always; ten million bytes where
//! `GANGLION_HIL_BYTES` says how many (`cargo xtask hil` without `--quick` does).
//!
//! The line is not paced here, or ten million bytes would take three hours: the node gets them as fast as its UART's model
//! hands them over.
//! Needs: qemu-system-arm, the firmware of both boards (`cargo xtask hil` builds it).

mod garbage;

use std::env;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use ganglion_hil::node::{Board, NodeMachine, NodeSettings, Traces, firmware};
use ganglion_hil::peers::require;
use ganglion_protocols::modbus::rtu::Frame;
use ganglion_protocols::node_link::{self, Answer, Ask};
use ganglion_protocols::node_settings::{MAX_COPY, NodeLine, NodeSettings as Settings};

use garbage::{Garbage, question, rtu};

const UNIT: u8 = 1;
const SOON: Duration = Duration::from_secs(30);
/// Bytes between two good frames.
const STRETCH: usize = 2000;
/// Longer than the silence that ends a burst at the line's rate, 1.75 ms.
const SILENCE: Duration = Duration::from_micros(2_500);
/// How long the first good frame's answer is waited for, and so the silence before the second. A machine that is late hands
/// the first over right behind the garbage, whatever silence was meant; it is not so late as to do that to the second.
const FIRST: Duration = Duration::from_millis(50);
/// For the second's answer, on a busy machine.
const SECOND: Duration = Duration::from_secs(5);

struct Rig {
    node: NodeMachine,
    bus: UnixStream,
    /// Bytes a second that the model of the UART hands over.
    rate: usize,
    token: u8,
    traces: Traces,
}

/// What came of it.
#[derive(Default, Debug)]
struct Totals {
    bytes: usize,
    pieces: usize,
    /// Good frames of the link that were answered, the first and the second.
    link: [usize; 2],
    /// The same of Modbus.
    modbus: [usize; 2],
}

impl Rig {
    fn start(test: &str, board: Board, rate: usize) -> Option<Self> {
        let firmware = require(firmware(board))?;
        let traces = Traces::begin(test).expect("a folder");
        let line = NodeLine { baud: 115_200, ..Settings::DEFAULT.line };
        let mut copy = [0; MAX_COPY];
        let used = Settings { line, ..Settings::DEFAULT }.emit(1, &mut copy).expect("it fits");
        let provisioned = Some(copy[..used].to_vec());
        let settings = NodeSettings { board, name: "node".to_owned(), firmware, provisioned };
        let mut node = require(NodeMachine::assemble(settings, traces.folder()))?;
        node.power_on().expect("the node starts");
        node.wait_for_line("boot 1", SOON).expect("the node says that it started");
        let bus = UnixStream::connect(node.bus()).expect("its port");
        bus.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
        Some(Self { node, bus, rate, token: 0, traces })
    }

    /// Sends bytes and waits until the model has handed them over and the line was silent.
    fn send(&mut self, bytes: &[u8]) {
        self.bus.write_all(bytes).expect("the node takes it");
        let micros = bytes.len() * 1_000_000 / self.rate;
        thread::sleep(SILENCE + Duration::from_micros(u64::try_from(micros).expect("a short time")));
    }

    /// Reads what the node says, until `enough` of it or its patience ends; says whether it was enough.
    fn read(&mut self, patience: Duration, enough: impl Fn(&[u8]) -> bool) -> bool {
        let (mut heard, mut lump, until) = (Vec::new(), [0; 1024], Instant::now() + patience);
        while !enough(&heard) && Instant::now() < until {
            match self.bus.read(&mut lump) {
                Ok(0) => panic!("the node is gone"),
                Ok(count) => heard.extend_from_slice(&lump[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                }
                Err(error) => panic!("{error}"),
            }
        }
        enough(&heard)
    }

    /// Lets the line be silent, as a client does before it asks, and forgets what the node said so far.
    fn drain(&mut self) {
        thread::sleep(SILENCE);
        self.bus.set_nonblocking(true).expect("a socket");
        let mut lump = [0; 4096];
        while self.bus.read(&mut lump).is_ok_and(|count| count > 0) {
            thread::sleep(SILENCE);
        }
        self.bus.set_nonblocking(false).expect("a socket");
    }

    /// Sends a good frame, and once more if that is not answered; returns which was, 0 or 1.
    fn ask(&mut self, question: &[u8], is_answer: impl Fn(&[u8]) -> bool) -> Option<usize> {
        self.drain();
        [FIRST, SECOND].into_iter().position(|patience| {
            self.send(question);
            self.read(patience, &is_answer)
        })
    }

    fn link(&mut self) -> Option<usize> {
        self.token = self.token.wrapping_add(1) & 0x7F;
        let token = self.token;
        self.ask(&question(UNIT, token, &Ask::Describe), |heard| {
            heard.split_inclusive(|byte| *byte == 0).any(|part| {
                let mut frame = [&[0], part].concat();
                node_link::open(&mut frame).is_ok_and(|(head, payload)| {
                    let hello = Answer::parse(head.version, payload);
                    head.token == token && matches!(hello, Ok(Answer::Hello(_)))
                })
            })
        })
    }

    /// Reads the number of the boot as a Modbus client does; it must be the first.
    fn modbus(&mut self) -> Option<usize> {
        self.ask(&rtu(UNIT, &[0x04, 0, 4, 0, 2]), |heard| {
            let is_boot =
                |at| Frame::parse(heard.get(at..at + 9)?).ok().filter(|frame| frame.pdu == [4, 4, 0, 0, 0, 1]);
            (0..heard.len()).any(|at| is_boot(at).is_some())
        })
    }

    fn feed(&mut self, count: usize) -> Totals {
        let (mut garbage, mut totals) = (Garbage::new(0x6A_2026), Totals::default());
        let begin = Instant::now();
        while totals.bytes < count {
            let mut stretch = 0;
            while stretch < STRETCH {
                let piece = garbage.piece();
                stretch += piece.len();
                totals.pieces += 1;
                self.send(&piece);
            }
            totals.bytes += stretch;
            let (link, modbus) = (self.link(), self.modbus());
            let (Some(link), Some(modbus)) = (link, modbus) else {
                panic!(
                    "link {link:?}, Modbus {modbus:?}: two good frames without an answer after {totals:?}\n{}",
                    self.log()
                );
            };
            totals.link[link] += 1;
            totals.modbus[modbus] += 1;
        }
        println!("{totals:?} in {:.0?}", begin.elapsed());
        totals
    }

    fn log(&self) -> String {
        fs::read_to_string(self.node.log()).expect("a log")
    }
}

/// How many bytes: `quick` of them, or the part of those asked for that this board takes.
fn bytes(quick: usize, part: usize) -> usize {
    let asked = env::var("GANGLION_HIL_BYTES").ok().and_then(|count| count.parse::<usize>().ok());
    asked.map_or(quick, |count| count / part)
}

fn proves(test: &str, board: Board, rate: usize, count: usize) {
    let Some(mut rig) = Rig::start(test, board, rate) else { return };
    let totals = rig.feed(count);
    let log = rig.log();
    let starts = log.lines().filter(|line| line.starts_with("node ")).count();
    assert_eq!(starts, 1, "it started once:\n{log}");
    assert!(!log.contains("panic"), "{log}");
    assert!(totals.bytes >= count, "{totals:?}");
    drop(rig.traces);
}

#[test]
fn garbage_leaves_a_node_of_the_lm3s6965evb_running_and_answering() {
    let test = "garbage_leaves_a_node_of_the_lm3s6965evb_running_and_answering";
    proves(test, Board::Lm3s6965evb, 30_000, bytes(200_000, 1));
}

/// Its model takes one byte for each tick of the clock.
#[test]
fn garbage_leaves_a_node_of_the_nucleo_l476rg_running_and_answering() {
    let test = "garbage_leaves_a_node_of_the_nucleo_l476rg_running_and_answering";
    proves(test, Board::NucleoL476rg, 2_000, bytes(20_000, 50));
}
