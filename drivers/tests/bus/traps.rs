//! Rare meetings of two things, each played out on purpose.

use std::time::Duration;

use ganglion_drivers::bus::order::{Deed, Order, OrderError, OrderId, Write};
use ganglion_drivers::bus::{Bus, Event, IdentityCheck, LineCost, Sampled, Settings};
use ganglion_drivers::client::Framing;
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::modbus::{UnitId, ValueType, WordOrder};

use super::bench::{holding, ms, secs, settings};

fn framed(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = [&[unit], pdu].concat();
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

/// A bus and the time.
struct Stage {
    bus: Bus,
    now: Duration,
    samples: Vec<Sampled>,
    orders: Vec<(u64, Result<(), OrderError>)>,
}

impl Stage {
    fn new(settings: Settings) -> Self {
        let mut bus = Bus::new(Duration::ZERO, settings);
        bus.connected(Duration::ZERO);
        Self { bus, now: ms(400), samples: Vec::new(), orders: Vec::new() }
    }

    fn drain(&mut self) {
        while let Some(event) = self.bus.poll_event() {
            match event {
                Event::Sampled(sampled) => self.samples.push(sampled),
                Event::Ordered { id, result } => self.orders.push((id.0, result.map(drop))),
                _ => {}
            }
        }
    }

    /// The next frame sent before `until`.
    fn sent_before(&mut self, until: Duration) -> Option<Vec<u8>> {
        while self.now < until {
            let frame = self.bus.poll_transmit(self.now).map(<[u8]>::to_vec);
            self.drain();
            if frame.is_some() {
                return frame;
            }
            self.now =
                self.bus.poll_timeout().map_or(until, |at| at.max(self.now + Duration::from_micros(1))).min(until);
            self.bus.handle_timeout(self.now);
        }
        None
    }

    fn answer(&mut self, values: &[u16]) {
        self.now += ms(30);
        let count = u8::try_from(2 * values.len()).expect("few");
        let mut pdu = vec![3, count];
        pdu.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        self.bus.handle_bytes(self.now, &framed(1, &pdu));
        self.drain();
    }

    fn silence(&mut self) {
        self.now = self.bus.poll_timeout().expect("an answer is waited for").max(self.now);
        self.bus.handle_timeout(self.now);
        self.drain();
    }
}

/// One unit with an identity register at 0, a long poll every 50 s and a short one every 5 s; nothing can be joined.
fn guarded() -> Settings {
    let long = (1..=40).map(|place| holding(4 * place, 1)).collect();
    let mut settings = settings(&[1], vec![(0, secs(50), long), (0, secs(5), vec![holding(200, 1)])]);
    settings.units[0].bridge = 0;
    settings.units[0].identity =
        Some(IdentityCheck { want: holding(0, 1), value_type: ValueType::U16, word_order: WordOrder::Abcd, equals: 7 });
    settings
}

#[test]
fn a_swapped_device_that_shows_in_one_poll_gives_no_values_to_another_poll_of_the_unit() {
    let mut stage = Stage::new(guarded());
    let mut swapped = None;
    let mut long_begun = 0;
    for _ in 0..400 {
        let Some(frame) = stage.sent_before(secs(300)) else { break };
        let address = u16::from(frame[2]) << 8 | u16::from(frame[3]);
        // Each answer takes a second, so that the short poll comes between the requests of the long one.
        stage.now += ms(450);
        match address {
            0 if swapped.is_none() && stage.now > secs(55) && long_begun > 0 => {
                swapped = Some(stage.now);
                stage.answer(&[8]);
            }
            0 => stage.answer(&[if swapped.is_some() { 8 } else { 7 }]),
            200 => stage.answer(&[1]),
            _ => {
                long_begun = if address == 160 { 0 } else { long_begun + 1 };
                stage.answer(&[if swapped.is_some() { 666 } else { 1 }]);
            }
        }
    }
    assert!(swapped.is_some(), "the identity is checked while the long poll is under way");
    let wrong = stage.samples.iter().find(|sampled| sampled.words.contains(&666));
    assert_eq!(wrong, None);
}

fn tcp() -> Settings {
    let mut settings = settings(&[1], vec![(0, secs(1), vec![holding(0, 1)])]);
    settings.framing = Framing::Tcp;
    settings.line = LineCost::Tcp;
    settings
}

#[test]
fn what_falls_due_between_garbage_on_a_connection_and_its_replacement_waits_for_the_new_one() {
    let mut stage = Stage::new(tcp());
    stage.now = secs(2);
    stage.bus.handle_bytes(stage.now, b"HTTP/1.1 400 Bad Request\r\n");
    stage.bus.order(Order { id: OrderId(1), unit: UnitId(1), deed: Deed::Read(holding(0, 1)) });
    assert_eq!(stage.bus.poll_transmit(stage.now), None);
    stage.drain();
    assert_eq!((stage.samples.len(), stage.orders.len()), (0, 0), "{:?} {:?}", stage.samples, stage.orders);
    stage.bus.connected(stage.now);
    assert!(stage.bus.poll_transmit(stage.now).is_some());
}

#[test]
fn where_another_client_asks_the_same_without_end_polls_and_orders_end_all_the_same() {
    let mut stage = Stage::new(settings(&[1], vec![(0, secs(1), vec![holding(0, 1)])]));
    let deed = Deed::Write { write: Write::Registers { address: 3, values: vec![1] }, verify: false };
    stage.bus.order(Order { id: OrderId(1), unit: UnitId(1), deed });
    while stage.now < secs(120) {
        // The same twice a late reply's time, and nobody answers.
        stage.bus.handle_bytes(stage.now, &framed(1, &[3, 0, 9, 0, 1]));
        stage.bus.handle_bytes(stage.now, &framed(1, &[16, 0, 3, 0, 1, 2, 0, 9]));
        let until = stage.now + ms(150);
        while stage.sent_before(until).is_some() {
            if stage.bus.poll_timeout().is_some_and(|at| at <= until) {
                stage.silence();
            }
        }
        stage.bus.handle_timeout(stage.now);
        stage.drain();
    }
    assert!(stage.samples.len() >= 5, "{} samples in two minutes", stage.samples.len());
    assert!(stage.samples.iter().all(|sampled| sampled.states[0].is_some()));
    assert_eq!(stage.orders, [(1, Err(OrderError::Failed(Reason::Timeout)))]);
}
