//! A line that carries more than requests and their answers: an adapter that hears itself, another client, its units.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use ganglion::acquire::CallError;
use ganglion_drivers::bus::order::{Deed, Done, OrderError, Write};
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::UnitId;
use tokio::time::timeout;

use crate::bench::{BusPlan, SOON, acquire, all_good, device, holding, ms, serial};
use crate::line::{Heard, Line, Said, truth, with_crc};

const RESPONSE_TIMEOUT: Duration = ms(300);

/// Longer than the silence between frames.
const GAP: Duration = ms(4);

#[tokio::test]
async fn an_adapter_that_hears_itself_is_no_trouble_and_its_echo_confirms_no_write() {
    let (mute, value) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU16::new(0)));
    let (silent, register) = (Arc::clone(&mute), Arc::clone(&value));
    let line = Line::new(Duration::MAX, move |heard| {
        let answer = match heard.function() {
            0x06 if silent.load(Ordering::Relaxed) => vec![],
            0x06 => {
                register.store(heard.values()[0], Ordering::Relaxed);
                heard.confirmation()
            }
            _ if heard.address() == 100 => heard.registers(heard.unit(), &[register.load(Ordering::Relaxed)]),
            _ => heard.right(),
        };
        vec![(Duration::ZERO, heard.frame.clone()), (ms(1), answer)]
    });
    let devices = (1..4).map(|unit| device(unit, ms(20), vec![holding(10, 4), holding(20, 8)])).collect();
    let mut acquisition = acquire(vec![BusPlan::new(serial(&line.path), RESPONSE_TIMEOUT, devices)]);
    for _ in 0..60 {
        let sample = acquisition.sample().await;
        assert!(all_good(&sample), "{sample:?}");
        assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
    }
    acquisition.until("echoes are counted", |now| now.buses["bus 0"].wire.echoes >= 100).await;

    let handle = acquisition.handle.clone();
    let write = |value| {
        let deed = Deed::Write { write: Write::Register { address: 100, value }, verify: false };
        timeout(SOON, handle.call("bus 0", UnitId(1), deed))
    };
    assert_eq!(write(77).await.unwrap(), Ok(Done::Written));
    assert_eq!(value.load(Ordering::Relaxed), 77);
    mute.store(true, Ordering::Relaxed);
    assert_eq!(write(78).await.unwrap(), Err(CallError::Order(OrderError::Failed(Reason::Timeout))));
    acquisition.end().await;
}

/// The request of another client for `count` registers.
fn request(unit: u8, address: u16, count: u16) -> Vec<u8> {
    let [a, b] = address.to_be_bytes();
    let [c, d] = count.to_be_bytes();
    with_crc(vec![unit, 0x03, a, b, c, d])
}

/// The answer to it.
fn answer(unit: u8, address: u16, count: u16) -> Vec<u8> {
    let [a, b] = address.to_be_bytes();
    Heard { at: std::time::Instant::now(), frame: vec![unit, 0x03, a, b] }.answer(unit, count)
}

#[tokio::test]
async fn the_frames_of_another_client_and_its_units_are_stepped_over() {
    let mut random = fastrand::Rng::with_seed(7);
    let line = Line::new(Duration::MAX, move |heard| {
        let (address, count) = (random.u16(0..200), random.u16(1..30));
        let other = random.u8(4..8);
        let mut said: Vec<Said> = vec![
            (Duration::ZERO, request(other, address, count)),
            (GAP, answer(other, address, count)),
            (2 * GAP, heard.right()),
        ];
        // Afterwards too, when nobody is waited for.
        if random.bool() {
            said.push((3 * GAP, request(other, address, count)));
        }
        said
    });
    let devices = (1..4).map(|unit| device(unit, ms(50), vec![holding(10, 4), holding(20, 8)])).collect();
    let mut acquisition = acquire(vec![BusPlan::new(serial(&line.path), RESPONSE_TIMEOUT, devices)]);
    let mut good = 0;
    for _ in 0..60 {
        let sample = acquisition.sample().await;
        assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
        good += usize::from(all_good(&sample));
    }
    // Now and then a request meets a frame of the other client, and is asked again.
    assert!(good >= 57, "{good} of 60 polls");
    acquisition.until("foreign frames are counted", |now| now.buses["bus 0"].wire.foreign_frames >= 100).await;
    acquisition.end().await;
}

#[tokio::test]
async fn the_answer_to_another_clients_request_to_the_same_unit_is_not_taken() {
    let mut random = fastrand::Rng::with_seed(8);
    let line = Line::new(Duration::MAX, move |heard| {
        if random.u8(0..3) > 0 {
            return vec![(Duration::ZERO, heard.right())];
        }
        // It asks for as many other registers, between the request and its answer.
        let (unit, address, count) = (heard.unit(), 500, heard.count());
        vec![
            (Duration::ZERO, request(unit, address, count)),
            (GAP, answer(unit, address, count)),
            (2 * GAP, heard.right()),
        ]
    });
    let devices = (1..4).map(|unit| device(unit, ms(20), vec![holding(10, 4), holding(20, 8)])).collect();
    let plan = BusPlan { dead_unit_share_percent: 100, ..BusPlan::new(serial(&line.path), ms(100), devices) };
    let mut acquisition = acquire(vec![plan]);
    let mut good = 0;
    for _ in 0..150 {
        let sample = acquisition.sample().await;
        assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
        good += sample.states.iter().filter(|state| state.is_none()).count();
    }
    assert!(good >= 100, "{good} of 300 values");
    acquisition.end().await;
}
