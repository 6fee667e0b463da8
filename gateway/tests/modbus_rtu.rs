//! Modbus RTU on pseudo-terminals: what a line, its port and its units do wrong apart from late replies.

mod bench;
#[path = "bench/line.rs"]
mod line;

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::{BusPlan, acquire, all_are, all_good, holding, ms, serial};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::ExceptionCode;
use line::{Heard, Line, Said, truth};
use nix::fcntl::{Flock, FlockArg};

const LATE_REPLY: Duration = ms(40);
/// Longer than a busy machine keeps a unit from answering.
const RESPONSE_TIMEOUT: Duration = ms(500);

fn plan(path: &std::path::Path, devices: Vec<(u8, Duration, Vec<ReadRequest>)>) -> BusPlan {
    BusPlan { link: serial(path, LATE_REPLY), response_timeout: RESPONSE_TIMEOUT, devices }
}

fn line(say: impl FnMut(&Heard) -> Vec<Said> + Send + 'static) -> Line {
    Line::new(Duration::MAX, say)
}

fn right(heard: &Heard) -> Vec<Said> {
    vec![(Duration::ZERO, heard.answer(heard.unit(), heard.count()))]
}

#[tokio::test]
async fn an_exception_costs_only_its_own_request() {
    let line = line(|heard| match heard.address() {
        10 => vec![(Duration::ZERO, heard.exception(2))],
        20 => vec![(Duration::ZERO, heard.exception(0x54))],
        _ => right(heard),
    });
    let requests = vec![holding(10, 4), holding(30, 2), holding(20, 4), holding(40, 125)];
    let mut acquisition = acquire(vec![plan(&line.path, vec![(3, ms(50), requests)])]);
    for _ in 0..3 {
        let answers = acquisition.sample().await.answers;
        assert_eq!(answers[0], Err(Reason::Exception(ExceptionCode::ILLEGAL_DATA_ADDRESS)));
        assert_eq!(answers[1], Ok(vec![truth(3, 30), truth(3, 31)]));
        assert_eq!(answers[2], Err(Reason::Exception(ExceptionCode::new(0x54))));
        assert_eq!(answers[3].as_ref().map(Vec::len), Ok(125));
    }
    acquisition.end().await;
}

#[tokio::test]
async fn every_bad_answer_has_its_reason_and_the_neighbour_is_read() {
    type Fault = fn(&Heard) -> Vec<u8>;
    let faults: [(&str, Fault, Reason); 7] = [
        ("silence", |_| vec![], Reason::Timeout),
        ("half a frame", |heard| heard.answer(heard.unit(), heard.count())[..6].to_vec(), Reason::Timeout),
        ("garbage", |_| vec![0x33; 64], Reason::Malformed),
        ("another unit", |heard| heard.answer(heard.unit() + 1, heard.count()), Reason::WrongReply),
        ("one register less", |heard| heard.answer(heard.unit(), heard.count() - 1), Reason::WrongLength),
        ("one register more", |heard| heard.answer(heard.unit(), heard.count() + 1), Reason::WrongLength),
        ("no register", |heard| heard.answer(heard.unit(), 0), Reason::WrongLength),
    ];
    for (name, fault, reason) in faults {
        let asked = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&asked);
        let line = line(move |heard| {
            if heard.unit() == 1 {
                return right(heard);
            }
            *counted.lock().unwrap() += 1;
            vec![(Duration::ZERO, fault(heard))]
        });
        let requests = vec![holding(10, 4), holding(20, 4)];
        let devices = vec![(1, ms(50), requests.clone()), (2, ms(50), requests)];
        let mut acquisition = acquire(vec![plan(&line.path, devices)]);
        let mut polls = [0; 2];
        while polls.iter().any(|&polls| polls < 3) {
            let sample = acquisition.sample().await;
            polls[sample.device.0] += 1;
            match sample.device.0 {
                0 => assert!(all_good(&sample), "{name}: {sample:?}"),
                _ => assert!(all_are(&sample, reason), "{name}: {sample:?}"),
            }
        }
        acquisition.end().await;
        let per_poll = if reason == Reason::Timeout { 1 } else { 2 };
        let asked = *asked.lock().unwrap();
        // A poll may have been under way at the end.
        assert!(asked <= per_poll * (polls[1] + 1), "{name}: asked {asked} times in {} polls", polls[1]);
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
    let mut acquisition = acquire(vec![plan(&line.path, vec![(1, ms(1), vec![holding(10, 4); 8])])]);
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
    let mut acquisition = acquire(vec![plan(&path, vec![(1, ms(20), vec![holding(10, 4), holding(20, 4)])])]);
    acquisition.sample_of(0, all_good).await;

    first.unplug();
    acquisition.sample_of(0, |sample| sample.answers.contains(&Err(Reason::Disconnected))).await;
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
    let mut acquisition = acquire(vec![plan(&line.path, vec![(1, ms(20), vec![holding(10, 4)])])]);
    for _ in 0..5 {
        assert!(all_are(&acquisition.sample().await, Reason::Disconnected));
    }
    drop(held);
    acquisition.sample_of(0, all_good).await;
    // As root a port can be opened in spite of TIOCEXCL, and then the lock still says no.
    assert!(File::open(&line.path).is_err() || holder().is_err());
    acquisition.end().await;
}

#[tokio::test]
async fn on_a_line_that_never_falls_silent_nothing_is_asked_until_it_does() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let path = nix::unistd::ttyname(&pty.slave).unwrap();
    let babbling = Arc::new(AtomicBool::new(true));
    let on = Arc::clone(&babbling);
    let mut wire = File::from(pty.master);
    let babbler = std::thread::spawn(move || {
        while on.load(Ordering::Relaxed) {
            wire.write_all(b"garbage").unwrap();
            std::thread::sleep(Duration::from_micros(300));
        }
        wire
    });
    // With so long a gap that no hiccup of this machine looks like silence.
    let link = match serial(path, LATE_REPLY) {
        ganglion::site::Link::Serial(link) => {
            ganglion::site::Link::Serial(ganglion::site::SerialLink { baud: 300, ..link })
        }
        tcp @ ganglion::site::Link::Tcp { .. } => tcp,
    };
    let devices = vec![(1, ms(20), vec![holding(10, 4)])];
    let mut acquisition = acquire(vec![BusPlan { link, response_timeout: ms(200), devices }]);
    for _ in 0..3 {
        assert!(all_are(&acquisition.sample().await, Reason::Malformed));
    }
    babbling.store(false, Ordering::Relaxed);
    acquisition.sample_of(0, |sample| all_are(sample, Reason::Timeout)).await;
    acquisition.end().await;
    drop(babbler.join().unwrap());
}
