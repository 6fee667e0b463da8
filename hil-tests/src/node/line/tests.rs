use std::fs::{self, OpenOptions};
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

const BAUD: u32 = 9600;
const SOON: Duration = Duration::from_secs(10);

struct Rig {
    folder: TempDir,
    pair: Pair,
    gateway: End,
    node: End,
    port: File,
    socket: Option<(UnixListener, UnixStream)>,
}

fn listen(path: &Path) -> UnixListener {
    // As a machine does: the last one may have left its socket there.
    drop(fs::remove_file(path));
    UnixListener::bind(path).expect("a socket")
}

fn accept(listener: UnixListener) -> (UnixListener, UnixStream) {
    let (stream, _) = listener.accept().expect("the pair connects");
    stream.set_read_timeout(Some(SOON)).expect("a time limit");
    (listener, stream)
}

fn rig() -> Rig {
    let folder = TempDir::new().expect("a folder");
    let [port, socket, trace] = ["gateway", "node", "trace.txt"].map(|name| folder.path().join(name));
    let mut plan = Plan::new(BAUD, Parity::None, 1);
    let (gateway, node) = (plan.pty("gateway", &port), plan.machine("node", &socket));
    plan.trace(&trace);
    let listener = listen(&socket);
    let pair = Pair::start(plan).expect("a pair");
    let port = OpenOptions::new().read(true).write(true).open(port).expect("a port");
    Rig { folder, pair, gateway, node, port, socket: Some(accept(listener)) }
}

impl Rig {
    fn node(&mut self) -> &mut UnixStream {
        &mut self.socket.as_mut().expect("it has power").1
    }

    fn node_hears(&mut self, count: usize) -> Vec<u8> {
        let mut heard = vec![0; count];
        self.node().read_exact(&mut heard).expect("heard");
        heard
    }
}

#[test]
fn bytes_cross_the_pair_both_ways_no_faster_than_the_line() {
    let mut rig = rig();
    let all: Vec<u8> = (0..=255).collect();
    let begun = Instant::now();
    rig.port.write_all(&all).expect("sent");
    assert_eq!(rig.node_hears(256), all);
    rig.node().write_all(&all).expect("sent");
    let mut heard = [0; 256];
    rig.port.read_exact(&mut heard).expect("heard");
    assert_eq!(heard[..], all);
    let least = 2 * 256 * Duration::from_nanos(10 * 1_000_000_000 / u64::from(BAUD));
    assert!(begun.elapsed() >= least, "{:?} < {least:?}", begun.elapsed());
    assert_eq!(rig.pair.counts().characters, 512);
}

#[test]
fn a_node_whose_power_comes_back_is_on_the_line_again() {
    let mut rig = rig();
    rig.port.write_all(&[1]).expect("sent");
    assert_eq!(rig.node_hears(1), [1]);
    rig.socket = None;
    assert!(rig.pair.wait_connected(rig.node, false, SOON));
    // Nobody is there to hear it.
    rig.port.write_all(&[2]).expect("sent");
    rig.socket = Some(accept(listen(&rig.folder.path().join("node"))));
    assert!(rig.pair.wait_connected(rig.node, true, SOON));
    rig.pair.say(rig.gateway, &[3]);
    let heard = rig.node_hears(1);
    assert!(heard == [3] || heard == [2], "{heard:?}");
}

#[test]
fn a_cut_end_hears_nothing_until_it_is_mended_and_all_of_it_is_in_the_trace() {
    let mut rig = rig();
    rig.pair.cut(rig.node);
    rig.pair.say(rig.gateway, &[1, 2]);
    let deadline = Instant::now() + SOON;
    while rig.pair.counts().characters < 2 {
        assert!(Instant::now() < deadline, "{:?}", rig.pair.counts());
        thread::yield_now();
    }
    rig.pair.mend(rig.node);
    rig.pair.say(rig.gateway, &[3]);
    assert_eq!(rig.node_hears(1), [3]);
    let Rig { pair, folder, .. } = rig;
    drop(pair);
    let trace = fs::read_to_string(folder.path().join("trace.txt")).expect("a trace");
    let words: Vec<&str> = trace.split_whitespace().filter(|word| word.len() == 2).collect();
    assert_eq!(words, ["01", "02", "03"], "{trace}");
}

#[test]
fn ends_that_talk_at_once_spoil_each_other() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("gateway");
    // Slow, so that both have begun long before a character is over.
    let mut plan = Plan::new(300, Parity::Even, 1);
    plan.pty("gateway", &path);
    let (one, other) = (plan.bench("one"), plan.bench("other"));
    let pair = Pair::start(plan).expect("a pair");
    let mut port = File::open(&path).expect("a port");
    pair.say(one, &[0x11]);
    pair.say(other, &[0x22]);
    let mut heard = [0; 2];
    port.read_exact(&mut heard).expect("heard");
    assert!(!heard.contains(&0x11) && !heard.contains(&0x22), "{heard:02X?}");
    assert_eq!((pair.counts().collisions, pair.counts().spoiled), (1, 2));
}
