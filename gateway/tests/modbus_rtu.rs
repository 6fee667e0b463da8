//! Modbus RTU on pseudo-terminals: what a line, its port and its units do wrong apart from late replies.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up fails its test")]

mod bench;
#[path = "bench/line.rs"]
mod line;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::{BusPlan, DevicePlan, SOON, acquire, all_are, all_good, device, holding, ms, serial};
use ganglion::site::{LineSpeed, Link, SerialLink};
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::ExceptionCode;
use line::{Heard, Line, Said, truth};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::termios;

/// Longer than a busy machine keeps a unit from answering.
const RESPONSE_TIMEOUT: Duration = ms(500);

fn plan(path: &std::path::Path, devices: Vec<DevicePlan>) -> BusPlan {
    BusPlan::new(serial(path), RESPONSE_TIMEOUT, devices)
}

fn line(say: impl FnMut(&Heard) -> Vec<Said> + Send + 'static) -> Line {
    Line::new(Duration::MAX, say)
}

fn right(heard: &Heard) -> Vec<Said> {
    vec![(Duration::ZERO, heard.right())]
}

#[tokio::test]
async fn an_exception_costs_only_its_own_request() {
    let line = line(|heard| match heard.address() {
        10 => vec![(Duration::ZERO, heard.exception(2))],
        20 => vec![(Duration::ZERO, heard.exception(0x54))],
        _ => right(heard),
    });
    let wants = vec![holding(10, 4), holding(20, 4), holding(30, 2), holding(40, 125)];
    let mut acquisition = acquire(vec![plan(&line.path, vec![device(3, ms(50), wants)])]);
    for _ in 0..6 {
        let sample = acquisition.sample().await;
        let exception = |code| Some(Reason::Exception(ExceptionCode::new(code)));
        assert_eq!(sample.states, [exception(2), exception(0x54), None, None]);
        assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
    }
    acquisition.end().await;
}

#[tokio::test]
async fn every_bad_answer_has_its_reason_and_the_neighbour_is_read() {
    type Fault = fn(&Heard) -> Vec<u8>;
    let faults: [(&str, Fault, Reason); 7] = [
        ("silence", |_| vec![], Reason::Timeout),
        ("half a frame", |heard| heard.right()[..6].to_vec(), Reason::Malformed),
        ("garbage", |_| vec![0x33; 64], Reason::Malformed),
        ("its neighbour's name", |heard| heard.answer(heard.unit() - 1, heard.count()), Reason::WrongReply),
        ("one register less", |heard| heard.answer(heard.unit(), heard.count() - 1), Reason::WrongLength),
        ("one register more", |heard| heard.answer(heard.unit(), heard.count() + 1), Reason::WrongLength),
        // No answer of the standard has no data.
        ("no register", |heard| heard.answer(heard.unit(), 0), Reason::Malformed),
    ];
    let asked = Arc::new(Mutex::new([0_u32; 7]));
    let lines: Vec<Line> = faults
        .iter()
        .enumerate()
        .map(|(bus, &(_, fault, _))| {
            let counted = Arc::clone(&asked);
            line(move |heard| {
                if heard.unit() == 1 {
                    return right(heard);
                }
                counted.lock().unwrap()[bus] += 1;
                vec![(Duration::ZERO, fault(heard))]
            })
        })
        .collect();
    let wants = || vec![holding(10, 4), holding(20, 4)];
    let devices = || vec![device(1, ms(50), wants()), device(2, ms(50), wants())];
    let mut acquisition = acquire(lines.iter().map(|line| plan(&line.path, devices())).collect());
    let mut polls = [[0_u32; 2]; 7];
    while polls.as_flattened().iter().any(|&polls| polls < 3) {
        let sample = acquisition.sample().await;
        let (bus, faulty) = (sample.device.0 / 2, sample.device.0 % 2);
        let (name, _, reason) = faults[bus];
        polls[bus][faulty] += 1;
        match faulty {
            0 => assert!(all_good(&sample), "{name}: {sample:?}"),
            _ => assert!(all_are(&sample, reason), "{name}: {sample:?}"),
        }
    }
    acquisition.end().await;
    for (bus, asked) in asked.lock().unwrap().iter().enumerate() {
        let (name, _, reason) = faults[bus];
        // Two requests, each asked again once, and a poll may have been under way at the end. A silent unit is left
        // alone after two timeouts in a row, for it never answered, and may have been probed.
        let most = if reason == Reason::Timeout { 4 } else { 4 * (polls[bus][1] + 1) };
        assert!((2..=most).contains(asked), "{name}: asked {asked} times in {} polls", polls[bus][1]);
    }
}

#[tokio::test]
async fn the_line_is_silent_between_an_answer_and_the_next_request() {
    let gaps = Arc::new(Mutex::new(Vec::new()));
    let measured = Arc::clone(&gaps);
    let mut said: Option<Instant> = None;
    let line = line(move |heard| {
        measured.lock().unwrap().extend(said.map(|said| heard.at - said));
        // Taken just before the answer is written.
        let answer = right(heard);
        said = Some(Instant::now());
        answer
    });
    let wants = (0..8).map(|place| holding(place * 10, 4)).collect();
    let mut acquisition = acquire(vec![plan(&line.path, vec![device(1, ms(1), wants)])]);
    while gaps.lock().unwrap().len() < 200 {
        assert!(all_good(&acquisition.sample().await));
    }
    acquisition.end().await;
    let shortest = gaps.lock().unwrap().iter().min().copied().unwrap();
    assert!(shortest >= Duration::from_micros(1_750), "{shortest:?}");
}

#[tokio::test]
async fn a_pulled_adapter_is_found_again_at_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapter");
    let first = line(right);
    std::os::unix::fs::symlink(&first.path, &path).unwrap();
    let mut acquisition = acquire(vec![plan(&path, vec![device(1, ms(20), vec![holding(10, 4), holding(20, 4)])])]);
    acquisition.sample_of(0, all_good).await;

    first.unplug();
    acquisition.sample_of(0, |sample| sample.states.contains(&Some(Reason::Disconnected))).await;
    for _ in 0..20 {
        assert!(all_are(&acquisition.sample().await, Reason::Disconnected));
    }
    assert!(!acquisition.monitor.snapshot().devices["device 0"].healthy);

    let second = line(right);
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&second.path, &path).unwrap();
    acquisition.sample_of(0, all_good).await;
    acquisition.end().await;
}

#[tokio::test]
async fn a_port_that_another_process_holds_is_waited_for_and_then_held() {
    let line = line(right);
    let holder = || Flock::lock(File::open(&line.path).unwrap(), FlockArg::LockExclusiveNonblock);
    let held = holder().unwrap();
    let mut acquisition = acquire(vec![plan(&line.path, vec![device(1, ms(20), vec![holding(10, 4)])])]);
    for _ in 0..5 {
        assert!(all_are(&acquisition.sample().await, Reason::Disconnected));
    }
    drop(held);
    acquisition.sample_of(0, all_good).await;
    // As root a port can be opened in spite of TIOCEXCL, and then the lock still says no.
    assert!(File::open(&line.path).is_err() || holder().is_err());
    acquisition.end().await;
}

/// Makes noise on a pseudo-terminal from its other end until told to stop.
struct Babbler {
    path: std::path::PathBuf,
    on: Arc<AtomicBool>,
    wire: File,
    _kept_open: std::os::fd::OwnedFd,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Babbler {
    fn start() -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let path = nix::unistd::ttyname(&pty.slave).unwrap();
        // Else the terminal itself would echo what is said before the port is opened.
        let mut raw = termios::tcgetattr(&pty.slave).unwrap();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&pty.slave, termios::SetArg::TCSANOW, &raw).unwrap();
        let (on, wire) = (Arc::new(AtomicBool::new(true)), File::from(pty.master));
        let (babbling, mut mouth) = (Arc::clone(&on), wire.try_clone().unwrap());
        let thread = std::thread::spawn(move || {
            while babbling.load(Ordering::Relaxed) {
                // What nobody takes for a while is lost, as on a line.
                drop(mouth.write_all(b"garbage"));
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        Self { path, on, wire, _kept_open: pty.slave, thread: Some(thread) }
    }

    fn stop(&mut self) {
        self.on.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Says whether something has been sent to it.
    fn is_asked(&self) -> bool {
        let mut arrived = [PollFd::new(self.wire.as_fd(), PollFlags::POLLIN)];
        poll(&mut arrived, 0_u8).unwrap() > 0 && arrived[0].any() == Some(true)
    }
}

#[tokio::test]
async fn on_a_line_that_does_not_fall_silent_nothing_is_asked_until_it_does() {
    let mut babbler = Babbler::start();
    // With so long a gap that no hiccup of this machine looks like silence.
    let link = match serial(&babbler.path) {
        Link::Serial(link) => Link::Serial(SerialLink { speed: LineSpeed { baud: 300, ..link.speed }, ..link }),
        other => other,
    };
    let devices = vec![device(1, ms(20), vec![holding(10, 4)])];
    let mut acquisition = acquire(vec![BusPlan::new(link, ms(200), devices)]);
    let wanted = acquisition.monitor.clone();
    let until = Instant::now() + SOON;
    while wanted.snapshot().buses.get("bus 0").is_none_or(|bus| bus.wire.noise_bytes < 2_000) {
        assert!(Instant::now() < until, "the noise is heard");
        assert!(!babbler.is_asked(), "nothing is asked into the noise");
        tokio::time::sleep(ms(5)).await;
    }
    babbler.stop();
    while !babbler.is_asked() {
        assert!(Instant::now() < until, "it is asked when the line is silent");
        tokio::time::sleep(ms(5)).await;
    }
    let mut request = [0; 8];
    babbler.wire.read_exact(&mut request).unwrap();
    babbler.wire.write_all(&Heard { at: Instant::now(), frame: request.to_vec() }.right()).unwrap();
    acquisition.sample_of(0, all_good).await;
    acquisition.end().await;
}

#[tokio::test]
async fn a_line_that_never_falls_silent_makes_samples_that_say_so() {
    let mut babbler = Babbler::start();
    let mut acquisition = acquire(vec![plan(&babbler.path, vec![device(1, ms(20), vec![holding(10, 4)])])]);
    for _ in 0..3 {
        assert!(all_are(&acquisition.sample().await, Reason::Malformed));
    }
    babbler.stop();
    acquisition.end().await;
}
