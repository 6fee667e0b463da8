//! What a device refuses is learnt, kept over restarts, and never believed of another device.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ganglion::acquire::learned::{self, Learned};
use ganglion::acquire::trace::Trace;
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::Table;

use crate::bench::{BusPlan, DevicePlan, acquire_with, all_good, device, holding, ms, tcp};
use crate::server::{Asked, Server, Step, truth};

const LONGEST: u16 = 16;
const HOLE: std::ops::Range<u16> = 21..24;

/// A device that takes at most sixteen registers at once and has none where the hole is.
struct Picky {
    server: Server,
    refused: Arc<AtomicU32>,
}

impl Picky {
    async fn start() -> Self {
        let refused = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&refused);
        let answer = move |asked: &Asked| {
            let end = asked.address() + asked.count();
            let hole = asked.address() < HOLE.end && HOLE.start < end;
            let exception = if asked.count() > LONGEST { Some(3) } else { hole.then_some(2) };
            counted.fetch_add(u32::from(exception.is_some()), Ordering::Relaxed);
            vec![Step::Send(exception.map_or_else(|| asked.answer(), |code| asked.exception(code)))]
        };
        Self { server: Server::start(answer).await, refused }
    }

    fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    fn plan(&self) -> BusPlan {
        BusPlan::new(tcp(self.server.port()), ms(1000), vec![wanted()])
    }

    /// Polls until nothing was refused for ten polls; every value is right. Returns how often it was refused.
    async fn poll(&self, learned: Learned) -> u32 {
        let before = self.refused();
        let mut acquisition = acquire_with(vec![self.plan()], learned, Trace::default());
        let (mut quiet, mut polls, mut last) = (0, 0, before);
        while quiet < 10 {
            let sample = acquisition.sample().await;
            assert!(all_good(&sample), "{:?}", sample.states);
            assert_eq!(acquisition.wrong(&sample, |unit, want, address| truth(unit, want.table, address)), []);
            quiet = if self.refused() == last { quiet + 1 } else { 0 };
            last = self.refused();
            polls += 1;
            assert!(polls < 200, "refused {} times and no end", last - before);
        }
        acquisition.end().await;
        self.refused() - before
    }
}

/// Every register but the hole, which may be read along as far as anybody knows.
fn wanted() -> DevicePlan {
    let there = (0..60).filter(|address| !HOLE.contains(address));
    let mut device = device(1, ms(20), there.map(|address| holding(address, 1)).collect());
    device.limits.bridge = 8;
    device
}

async fn learnt(picky: &Picky, folder: &Path) -> String {
    assert!(picky.poll(Learned::open(folder)).await > 0, "there is something to learn");
    fs::read_to_string(learned::path(folder)).unwrap()
}

#[tokio::test]
async fn what_was_learnt_is_written_and_a_second_start_asks_nothing_in_vain() {
    let (picky, folder) = (Picky::start().await, tempfile::tempdir().unwrap());
    let text = learnt(&picky, folder.path()).await;
    assert!(text.contains("\"too-long\"") && text.contains("\"cut\""), "{text}");
    assert_eq!(picky.poll(Learned::open(folder.path())).await, 0);
}

#[tokio::test]
async fn what_was_learnt_about_another_device_is_not_believed() {
    let (picky, folder) = (Picky::start().await, tempfile::tempdir().unwrap());
    let text = learnt(&picky, folder.path()).await;
    for (own, other) in [("\"test\"", "\"another\""), ("\"unit\": 1", "\"unit\": 2"), ("\"device 0\"", "\"device 9\"")]
    {
        let alien = text.replace(own, other);
        assert_ne!(alien, text, "{own}");
        fs::write(learned::path(folder.path()), alien).unwrap();
        assert!(picky.poll(Learned::open(folder.path())).await > 0, "{other} is not the same device");
        let again = fs::read_to_string(learned::path(folder.path())).unwrap();
        assert!(again.contains("\"test\"") && again.contains("\"device 0\""), "{again}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_forgotten_and_everything_works() {
    let (picky, folder) = (Picky::start().await, tempfile::tempdir().unwrap());
    let text = learnt(&picky, folder.path()).await;
    let path = learned::path(folder.path());
    let half = &text[..text.len() / 2];
    let version = text.replace("\"version\": 1", "\"version\": 99");
    let fact = |kind: &str| {
        let fact = format!(
            r#"{{{kind},"table":"holding","address":0,"count":60,"left_s":18446744073709551615,"confirmations":255}}"#
        );
        format!(r#"{{"version":1,"devices":{{"device 0":{{"template":"test","unit":1,"facts":[{fact}]}}}}}}"#)
    };
    let nonsense = [
        fact(r#""fact":"cut","at":0,"gap":true"#),
        fact(r#""fact":"cut","at":60,"gap":false"#),
        fact(r#""fact":"opinion""#),
        fact(r#""fact":"too-long""#).replace("\"count\":60", "\"count\":0"),
        fact(r#""fact":"answered""#).replace("\"address\":0", "\"address\":65535"),
        fact(r#""fact":"refused","strikes":255"#).replace("\"holding\"", "\"drum\""),
    ];
    let texts = ["", "\0\u{1}\u{2}", "[]", "{}", "null", half, &version];
    for text in texts.into_iter().chain(nonsense.iter().map(String::as_str)) {
        fs::write(&path, text).unwrap();
        assert!(picky.poll(Learned::open(folder.path())).await > 0, "{text:?} teaches nothing");
        assert!(fs::read_to_string(&path).unwrap().contains("\"too-long\""), "{text:?}");
    }
}

#[tokio::test]
async fn a_device_that_takes_less_at_once_than_the_one_before_is_learnt_all_the_same() {
    let (picky, folder) = (Picky::start().await, tempfile::tempdir().unwrap());
    let fact = |kind: &str| {
        format!(r#"{{"fact":"{kind}","table":"holding","address":0,"count":60,"left_s":0,"confirmations":0}}"#)
    };
    let facts = [fact("longest"), fact("answered")].join(",");
    let text = format!(r#"{{"version":1,"devices":{{"device 0":{{"template":"test","unit":1,"facts":[{facts}]}}}}}}"#);
    fs::write(learned::path(folder.path()), text).unwrap();
    assert!(picky.poll(Learned::open(folder.path())).await > 0);
    assert_eq!(picky.poll(Learned::open(folder.path())).await, 0);
}

#[tokio::test]
async fn where_nothing_can_be_written_everything_works() {
    let (picky, folder) = (Picky::start().await, tempfile::tempdir().unwrap());
    assert!(picky.poll(Learned::open(&folder.path().join("missing"))).await > 0);
    // A folder where the file should be.
    fs::create_dir(learned::path(folder.path())).unwrap();
    assert!(picky.poll(Learned::open(folder.path())).await > 0);
}

#[tokio::test]
async fn a_point_that_is_not_there_is_asked_three_times_and_costs_nothing_after_a_restart() {
    let (picky, folder) = (Picky::start().await, tempfile::tempdir().unwrap());
    let hole = ReadRequest { table: Table::HoldingRegister, address: HOLE.start, count: 1 };
    let plan = || {
        let wants = vec![holding(10, 1), holding(11, 1), hole, holding(30, 1)];
        BusPlan { retries: 0, ..BusPlan::new(tcp(picky.server.port()), ms(1000), vec![device(1, ms(20), wants)]) }
    };
    for most in [4, 0] {
        let before = picky.refused();
        let mut acquisition = acquire_with(vec![plan()], Learned::open(folder.path()), Trace::default());
        for _ in 0..15 {
            let sample = acquisition.sample().await;
            let good: Vec<bool> = sample.states.iter().map(Option::is_none).collect();
            assert_eq!(good, [true, true, false, true]);
        }
        acquisition
            .until("it is known", |now| {
                let unreadable =
                    |task: &ganglion::monitor::TaskState| task.unreadable.iter().any(|want| want.address == HOLE.start);
                now.buses["bus 0"].tasks.iter().any(unreadable)
            })
            .await;
        acquisition.end().await;
        assert!(picky.refused() - before <= most, "refused {} times", picky.refused() - before);
    }
}
