//! No value but the true one: exceptions within blocks, frames with a wrong CRC, another device in the place of one; and
//! the trace that shows what was said.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ganglion::acquire::learned::Learned;
use ganglion::acquire::trace::{HEADER, Trace};
use ganglion::site::Identity;
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::{ValueType, WordOrder};

use crate::bench::{BusPlan, acquire, acquire_with, all_are, all_good, device, holding, ms, serial};
use crate::line::{Heard, Line, Said, truth};

const RESPONSE_TIMEOUT: Duration = ms(500);

fn now(bytes: Vec<u8>) -> Vec<Said> {
    vec![(Duration::ZERO, bytes)]
}

/// Another gateway put registers on wrong addresses after an exception within a range: 81 exceptions, 30,125 wrong values
/// published as good.
#[tokio::test]
async fn eighty_one_exceptions_within_blocks_shift_no_value() {
    const BLOCKS: u16 = 5;
    const LENGTH: u16 = 16;
    let (injected, healed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, heal) = (Arc::clone(&injected), Arc::clone(&healed));
    let mut random = fastrand::Rng::with_seed(81);
    let line = Line::new(Duration::MAX, move |heard| {
        if heal.load(Ordering::Relaxed) || random.u8(0..100) >= 15 {
            return now(heard.right());
        }
        counted.fetch_add(1, Ordering::Relaxed);
        now(heard.exception([2, 4, 6][random.usize(0..3)]))
    });
    // With gaps of one register that may be read along, or not.
    let block = |number: u16| (0..LENGTH).map(move |place| holding(number * (LENGTH + 1) + place, 1));
    let mut unit = device(1, ms(20), (0..BLOCKS).flat_map(block).collect());
    unit.limits.max_registers = LENGTH;
    let mut acquisition = acquire(vec![BusPlan::new(serial(&line.path), RESPONSE_TIMEOUT, vec![unit])]);
    let (mut good, mut polls) = (0, 0);
    while injected.load(Ordering::Relaxed) < 2 * 81 || polls < 50 {
        let sample = acquisition.sample().await;
        assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
        good += sample.states.iter().filter(|state| state.is_none()).count();
        polls += 1;
    }
    let wanted = polls * usize::from(BLOCKS * LENGTH);
    println!("{polls} polls, {good} of {wanted} values, {} exceptions", injected.load(Ordering::Relaxed));
    assert!(good * 10 >= wanted * 9, "{good} of {wanted} values");

    // Points that answered once are never given up.
    healed.store(true, Ordering::Relaxed);
    let sample = acquisition.sample_of(0, all_good).await;
    assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
    acquisition.end().await;
}

#[tokio::test]
async fn no_value_of_a_frame_with_a_wrong_crc_is_published() {
    let spoiled = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&spoiled);
    let mut random = fastrand::Rng::with_seed(5);
    let line = Line::new(Duration::MAX, move |heard| {
        let mut answer = heard.right();
        if random.u8(0..100) < 40 {
            counted.fetch_add(1, Ordering::Relaxed);
            // Up to three turned bits are always found by the CRC.
            let mut places: Vec<usize> = (0..answer.len() * 8).collect();
            random.shuffle(&mut places);
            for place in &places[..random.usize(1..=3)] {
                answer[place / 8] ^= 1 << (place % 8);
            }
        }
        now(answer)
    });
    let wants = (0..6).map(|place| holding(place * 30, 4 + place)).collect();
    // A frame whose head is spoiled is waited for in vain.
    let plan = BusPlan {
        dead_unit_share_percent: 100,
        ..BusPlan::new(serial(&line.path), ms(100), vec![device(1, ms(1), wants)])
    };
    let mut acquisition = acquire(vec![plan]);
    let (mut good, mut bad) = (0_u64, 0_u64);
    while good < 500 || bad < 100 {
        let sample = acquisition.sample().await;
        assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
        for state in &sample.states {
            *if state.is_none() { &mut good } else { &mut bad } += 1;
        }
    }
    acquisition.until("wrong checks are counted", |now| now.buses["bus 0"].wire.crc_errors >= 50).await;
    acquisition.end().await;
    assert!(spoiled.load(Ordering::Relaxed) >= 200);
}

fn identity(equals: u64) -> Option<Identity> {
    Some(Identity { want: holding(1, 1), value_type: ValueType::U16, word_order: WordOrder::Abcd, equals })
}

#[tokio::test]
async fn no_value_is_taken_from_another_device_until_the_right_one_answers() {
    let swapped = Arc::new(AtomicBool::new(true));
    let other = Arc::clone(&swapped);
    let line = Line::new(Duration::MAX, move |heard| {
        let right = heard.unit() == 1 || !other.load(Ordering::Relaxed);
        now(heard.registers(
            heard.unit(),
            &match (heard.address(), right) {
                // Where the type is told.
                (1, true) => vec![truth(heard.unit(), 1)],
                (1, false) => vec![0xBAD],
                (address, _) => {
                    (address..).take(usize::from(heard.count())).map(|at| truth(heard.unit(), at)).collect()
                }
            },
        ))
    });
    let unit = |id: u8| {
        let mut unit = device(id, ms(50), vec![holding(10, 4), holding(20, 4)]);
        unit.identity = identity(u64::from(truth(id, 1)));
        unit
    };
    let mut acquisition = acquire(vec![BusPlan::new(serial(&line.path), RESPONSE_TIMEOUT, vec![unit(1), unit(2)])]);
    let mut polls = [0; 2];
    while polls.iter().any(|&polls| polls < 5) {
        let sample = acquisition.sample().await;
        polls[sample.device.0] += 1;
        match sample.device.0 {
            0 => assert!(all_good(&sample), "{sample:?}"),
            _ => assert!(all_are(&sample, Reason::WrongDevice), "{sample:?}"),
        }
    }
    let shown = |wrong: bool| {
        move |now: &ganglion::monitor::Snapshot| {
            now.buses.get("bus 0").is_some_and(|bus| bus.units.get(1).is_some_and(|unit| unit.wrong_device == wrong))
        }
    };
    acquisition.until("the wrong device is shown", shown(true)).await;
    swapped.store(false, Ordering::Relaxed);
    acquisition.sample_of(1, all_good).await;
    acquisition.until("the right device is shown", shown(false)).await;
    acquisition.end().await;
}

#[tokio::test]
async fn a_trace_holds_what_was_sent_and_received_byte_by_byte() {
    let (heard_frames, said_bytes) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (hear, say) = (Arc::clone(&heard_frames), Arc::clone(&said_bytes));
    let line = Line::new(Duration::MAX, move |heard: &Heard| {
        hear.lock().unwrap().push(heard.frame.clone());
        let answer = heard.right();
        say.lock().unwrap().extend(answer.iter().copied());
        now(answer)
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let plan = BusPlan::new(serial(&line.path), RESPONSE_TIMEOUT, vec![device(1, ms(20), vec![holding(10, 4)])]);
    let mut acquisition = acquire_with(vec![plan], Learned::in_memory(), Trace::create(&path).unwrap());
    for _ in 0..10 {
        acquisition.sample_of(0, all_good).await;
    }
    acquisition.end().await;
    drop(line);

    let text = fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(HEADER));
    let (mut sent, mut received, mut last, mut opened) = (Vec::new(), Vec::new(), 0.0, 0);
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [time, "bus_0", event @ ..] = words.as_slice() else { panic!("{line:?}") };
        let time: f64 = time.parse().unwrap();
        assert!(time >= last, "{line:?} after {last}");
        last = time;
        match event {
            ["started" | "."] => {}
            ["opened"] => opened += 1,
            [">", hex] => sent.push(bytes(hex)),
            ["<", hex] => received.extend(bytes(hex)),
            _ => panic!("{line:?}"),
        }
    }
    assert_eq!(opened, 1);
    let heard = heard_frames.lock().unwrap();
    assert!(sent.len() >= 10);
    // The end may have come between a request and its answer.
    assert_eq!(sent[..heard.len().min(sent.len())], heard[..heard.len().min(sent.len())]);
    assert!(sent.len() - heard.len() <= 1, "{} sent, {} heard", sent.len(), heard.len());
    let said = said_bytes.lock().unwrap();
    assert!(received.len() >= 10 * 13);
    assert_eq!(received, said[..received.len()]);
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
