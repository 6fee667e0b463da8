//! The daemon is not alone on its line, or hears itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ganglion_hil::site::{Unit, crc};

use crate::rig::{MODEL, Rig};

/// Registers of the daemon's own requests.
const REGISTERS: u16 = 20;

fn framed(body: &[u8]) -> Vec<u8> {
    [body, &crc(body).to_le_bytes()].concat()
}

/// Another client's requests and the answers to them: of units that are none of ours with as many registers as the daemon
/// reads, and of ours with others. As many registers of ours would be the daemon's own answer to everybody's eyes.
fn foreign_frames() -> Vec<Vec<u8>> {
    let answer = |unit: u8, registers: u8| {
        framed(&[&[unit, 0x03, 2 * registers], [0xDE; 250].split_at(2 * usize::from(registers)).0].concat())
    };
    vec![
        framed(&[77, 0x03, 0, 0, 0, 20]),
        answer(77, 20),
        framed(&[1, 0x03, 0, 40, 0, 3]),
        answer(1, 3),
        answer(2, 19),
        framed(&[0, 0x06, 0, 1, 0, 2]),
        framed(&[2, 0x83, 0x02])[..4].to_vec(),
    ]
}

/// Says that it is enough when it is dropped, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn frames_of_others_on_a_shared_line_are_never_taken_for_answers() {
    let mut rig = Rig::new(0..REGISTERS);
    let units = [1, 2].map(|id| Unit::new(id, MODEL, 5));
    let settings = rig.settings("line", 19_200);
    let (line, streams) = rig.add_line(&settings, &units, 200);
    let Some(running) = rig.start() else { return };
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(9);
            for frame in foreign_frames().iter().cycle() {
                if enough.load(Ordering::Relaxed) {
                    return;
                }
                line.say(frame).expect("the line is there");
                // At any moment of the daemon's own exchanges.
                thread::sleep(Duration::from_millis(random.u64(150..400)));
            }
        });
        let _ends = Ends(&enough);
        rig.expect_good(&streams, 30);
    });
    assert!(line.counts().collisions > 0, "somebody talked at the same time: {:?}", line.counts());
    let last_seq = running.stop();
    rig.expect_everything_and_nothing_false(&streams, &last_seq);
}

#[test]
fn an_adapter_that_hears_itself_is_no_trouble() {
    let mut rig = Rig::new(0..REGISTERS);
    let units = [1, 2].map(|id| Unit::new(id, MODEL, 5));
    let mut settings = rig.settings("line", 19_200);
    settings.echo = true;
    let (_line, streams) = rig.add_line(&settings, &units, 200);
    let Some(running) = rig.start() else { return };
    rig.expect_good(&streams, 20);
    let last_seq = running.stop();
    rig.expect_everything_and_nothing_false(&streams, &last_seq);
    for stream in &streams {
        assert!(rig.reasons(stream).is_empty(), "{:?}", rig.reasons(stream));
    }
}
