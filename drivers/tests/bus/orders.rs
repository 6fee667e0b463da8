//! Reads and writes on demand, as transcripts: this is sent, that is answered.

use std::time::Duration;

use ganglion_drivers::bus::order::{Deed, Done, Order, OrderError, OrderId, Write};
use ganglion_drivers::bus::{Bus, Event};
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::modbus::{ExceptionCode, UnitId};

use super::bench::{holding, ms, registers, secs, settings};

/// A bus of one unit without anything to poll, and the time.
struct Desk {
    bus: Bus,
    now: Duration,
}

fn framed(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = [&[unit], pdu].concat();
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

impl Desk {
    fn new() -> Self {
        Self::with(vec![])
    }

    fn with(tasks: Vec<(usize, Duration, Vec<ganglion_drivers::plan::ReadRequest>)>) -> Self {
        let mut bus = Bus::new(Duration::ZERO, settings(&[1], tasks));
        bus.connected(Duration::ZERO);
        Self { bus, now: secs(2) }
    }

    fn order(&mut self, id: u64, unit: u8, deed: Deed) {
        self.bus.order(Order { id: OrderId(id), unit: UnitId(unit), deed });
    }

    /// The next frame sent, within a second.
    fn sent(&mut self) -> Vec<u8> {
        let until = self.now + secs(2);
        while self.now < until {
            if let Some(frame) = self.bus.poll_transmit(self.now) {
                return frame.to_vec();
            }
            self.now = self.bus.poll_timeout().map_or(until, |at| at.max(self.now + Duration::from_micros(1)));
            self.bus.handle_timeout(self.now);
        }
        panic!("nothing is sent");
    }

    #[track_caller]
    fn expect(&mut self, unit: u8, pdu: &[u8]) {
        assert_eq!(self.sent(), framed(unit, pdu));
    }

    fn answer(&mut self, unit: u8, pdu: &[u8]) {
        self.now += ms(20);
        self.bus.handle_bytes(self.now, &framed(unit, pdu));
    }

    /// Lets the answer stay out.
    fn silence(&mut self) {
        let due = self.bus.poll_timeout().expect("an answer is waited for");
        self.now = due.max(self.now);
        self.bus.handle_timeout(self.now);
    }

    fn ended(&mut self) -> Option<(u64, Result<Done, OrderError>)> {
        while let Some(event) = self.bus.poll_event() {
            if let Event::Ordered { id, result } = event {
                return Some((id.0, result));
            }
        }
        None
    }
}

fn write(write: Write) -> Deed {
    Deed::Write { write, verify: true }
}

#[test]
fn a_register_is_written_and_read_back() {
    let mut desk = Desk::new();
    desk.order(1, 1, write(Write::Register { address: 7, value: 0x1234 }));
    desk.expect(1, &[0x06, 0, 7, 0x12, 0x34]);
    desk.answer(1, &[0x06, 0, 7, 0x12, 0x34]);
    assert_eq!(desk.ended(), None, "an answer is not enough");
    desk.expect(1, &[0x03, 0, 7, 0, 1]);
    desk.answer(1, &[0x03, 2, 0x12, 0x34]);
    assert_eq!(desk.ended(), Some((1, Ok(Done::Written))));
}

#[test]
fn a_write_that_is_confirmed_and_not_carried_out_says_what_is_there() {
    let mut desk = Desk::new();
    desk.order(1, 1, write(Write::Registers { address: 7, values: vec![1, 2] }));
    desk.expect(1, &[0x10, 0, 7, 0, 2, 4, 0, 1, 0, 2]);
    desk.answer(1, &[0x10, 0, 7, 0, 2]);
    desk.expect(1, &[0x03, 0, 7, 0, 2]);
    desk.answer(1, &[0x03, 4, 0, 1, 0, 9]);
    assert_eq!(desk.ended(), Some((1, Err(OrderError::Differs { address: 8, wrote: 2, found: 9 }))));
}

#[test]
fn every_kind_of_write_is_sent_as_the_standard_says() {
    let cases = [
        (Write::Coil { address: 3, on: true }, vec![0x05, 0, 3, 0xFF, 0], vec![0x05, 0, 3, 0xFF, 0]),
        (
            Write::Coils { address: 19, packed: vec![0xCD, 0x01], count: 10 },
            vec![0x0F, 0, 0x13, 0, 0x0A, 2, 0xCD, 0x01],
            vec![0x0F, 0, 0x13, 0, 0x0A],
        ),
        (
            Write::Mask { address: 4, and: 0xF2, or: 0x25 },
            vec![0x16, 0, 4, 0, 0xF2, 0, 0x25],
            vec![0x16, 0, 4, 0, 0xF2, 0, 0x25],
        ),
    ];
    for (kind, request, answer) in cases {
        let mut desk = Desk::new();
        desk.order(1, 1, Deed::Write { write: kind, verify: false });
        desk.expect(1, &request);
        desk.answer(1, &answer);
        assert_eq!(desk.ended(), Some((1, Ok(Done::Written))));
    }
    let mut desk = Desk::new();
    let deed = Write::ReadWrite { read: (3, 2), address: 14, values: vec![0xFF] };
    desk.order(1, 1, Deed::Write { write: deed, verify: false });
    desk.expect(1, &[0x17, 0, 3, 0, 2, 0, 14, 0, 1, 2, 0, 0xFF]);
    desk.answer(1, &[0x17, 4, 0, 5, 0, 6]);
    assert_eq!(desk.ended(), Some((1, Ok(Done::Items(vec![5, 6])))));
}

#[test]
fn a_masked_write_is_verified_by_the_bits_it_sets() {
    let mut desk = Desk::new();
    desk.order(1, 1, write(Write::Mask { address: 4, and: 0xFF00, or: 0x0025 }));
    desk.expect(1, &[0x16, 0, 4, 0xFF, 0, 0, 0x25]);
    desk.answer(1, &[0x16, 0, 4, 0xFF, 0, 0, 0x25]);
    desk.expect(1, &[0x03, 0, 4, 0, 1]);
    desk.answer(1, &[0x03, 2, 0xAB, 0x25]);
    assert_eq!(desk.ended(), Some((1, Ok(Done::Written))));
}

#[test]
fn a_write_without_an_answer_that_was_carried_out_is_written_and_otherwise_failed() {
    for (there, wanted) in [(5, Ok(Done::Written)), (4, Err(OrderError::Failed(Reason::Timeout)))] {
        let mut desk = Desk::new();
        desk.order(1, 1, write(Write::Register { address: 0, value: 5 }));
        for _ in 0..3 {
            desk.expect(1, &[0x06, 0, 0, 0, 5]);
            desk.silence();
        }
        desk.expect(1, &[0x03, 0, 0, 0, 1]);
        desk.answer(1, &[0x03, 2, 0, there]);
        assert_eq!(desk.ended(), Some((1, wanted)));
    }
}

#[test]
fn a_refused_write_says_why() {
    let mut desk = Desk::new();
    desk.order(1, 1, write(Write::Coil { address: 3, on: false }));
    desk.expect(1, &[0x05, 0, 3, 0, 0]);
    desk.answer(1, &[0x85, 0x02]);
    let refused = OrderError::Failed(Reason::Exception(ExceptionCode::ILLEGAL_DATA_ADDRESS));
    assert_eq!(desk.ended(), Some((1, Err(refused))));
}

#[test]
fn what_is_confirmed_stays_confirmed_when_it_cannot_be_read_back() {
    let mut desk = Desk::new();
    desk.order(1, 1, write(Write::Register { address: 0, value: 5 }));
    desk.expect(1, &[0x06, 0, 0, 0, 5]);
    desk.answer(1, &[0x06, 0, 0, 0, 5]);
    desk.expect(1, &[0x03, 0, 0, 0, 1]);
    desk.answer(1, &[0x83, 0x02]);
    let unread = OrderError::NotReadBack(Reason::Exception(ExceptionCode::ILLEGAL_DATA_ADDRESS));
    assert_eq!(desk.ended(), Some((1, Err(unread))));
}

#[test]
fn a_busy_unit_is_asked_again() {
    let mut desk = Desk::new();
    desk.order(1, 1, Deed::Read(holding(0, 1)));
    desk.expect(1, &[0x03, 0, 0, 0, 1]);
    desk.answer(1, &[0x83, 0x06]);
    desk.expect(1, &[0x03, 0, 0, 0, 1]);
    desk.answer(1, &[0x03, 2, 0, 7]);
    assert_eq!(desk.ended(), Some((1, Ok(Done::Items(vec![7])))));
}

#[test]
fn a_broadcast_waits_for_nobody() {
    let mut desk = Desk::new();
    desk.order(1, 0, write(Write::Register { address: 1, value: 9 }));
    desk.expect(0, &[0x06, 0, 1, 0, 9]);
    let before = desk.now;
    desk.silence();
    assert_eq!(desk.ended(), Some((1, Ok(Done::Broadcast))));
    assert!(desk.now - before <= ms(250));
    desk.order(2, 0, Deed::Read(holding(0, 1)));
    assert_eq!(desk.bus.poll_transmit(desk.now + secs(1)), None);
    assert_eq!(desk.ended(), Some((2, Err(OrderError::Impossible))));
}

#[test]
fn orders_go_before_what_is_polled_and_one_after_the_other_for_a_unit() {
    let mut desk = Desk::with(vec![(0, ms(100), registers(0..60))]);
    desk.order(1, 1, Deed::Write { write: Write::Register { address: 9, value: 1 }, verify: true });
    desk.order(2, 1, Deed::Read(holding(9, 1)));
    desk.expect(1, &[0x06, 0, 9, 0, 1]);
    desk.answer(1, &[0x06, 0, 9, 0, 1]);
    desk.expect(1, &[0x03, 0, 9, 0, 1]);
    desk.answer(1, &[0x03, 2, 0, 1]);
    assert_eq!(desk.ended(), Some((1, Ok(Done::Written))));
    desk.expect(1, &[0x03, 0, 9, 0, 1]);
    desk.answer(1, &[0x03, 2, 0, 1]);
    assert_eq!(desk.ended(), Some((2, Ok(Done::Items(vec![1])))));
    desk.expect(1, &[0x03, 0, 0, 0, 60]);
}

#[test]
fn identification_and_server_id_come_back_as_they_are() {
    let mut desk = Desk::new();
    desk.order(1, 1, Deed::Identify { level: 1, object: 0 });
    desk.expect(1, &[0x2B, 0x0E, 1, 0]);
    let answer = [0x2B, 0x0E, 1, 1, 0, 0, 2, 0, 2, b'A', b'B', 1, 1, b'C'];
    desk.answer(1, &answer);
    assert_eq!(desk.ended(), Some((1, Ok(Done::Answer(answer.to_vec())))));
    desk.order(2, 1, Deed::ServerId);
    desk.expect(1, &[0x11]);
    desk.answer(1, &[0x11, 3, 7, 0xFF, b'x']);
    assert_eq!(desk.ended(), Some((2, Ok(Done::Answer(vec![0x11, 3, 7, 0xFF, b'x'])))));
}

#[test]
fn what_no_request_can_be_is_refused_at_once() {
    let mut desk = Desk::new();
    desk.order(1, 1, Deed::Read(holding(0, 126)));
    desk.order(2, 1, write(Write::Registers { address: 0, values: vec![0; 124] }));
    desk.order(3, 1, write(Write::Coils { address: 0, packed: vec![], count: 9 }));
    assert_eq!(desk.bus.poll_transmit(desk.now), None);
    for id in 1..=3 {
        assert_eq!(desk.ended(), Some((id, Err(OrderError::Impossible))));
    }
}

#[test]
fn a_poll_that_can_be_asked_in_another_shape_waits_for_the_silence_only() {
    let mut desk = Desk::with(vec![(0, secs(100), registers(0..4))]);
    desk.now = secs(6);
    desk.expect(1, &[3, 0, 0, 0, 4]);
    desk.order(1, 2, Deed::Read(holding(0, 1)));
    // Unit 1 does not answer, and the order goes first.
    desk.expect(2, &[3, 0, 0, 0, 1]);
    desk.answer(2, &[3, 2, 0, 7]);
    let answered = desk.now;
    desk.expect(1, &[3, 0, 0, 0, 3]);
    assert!(desk.now - answered < ms(10), "{:?}", desk.now - answered);
}

#[test]
fn a_confirmed_write_that_cannot_be_read_back_is_not_said_to_have_been_refused() {
    let mut desk = Desk::new();
    desk.order(1, 1, write(Write::Register { address: 7, value: 5 }));
    desk.expect(1, &[0x06, 0, 7, 0, 5]);
    desk.answer(1, &[0x06, 0, 7, 0, 5]);
    desk.expect(1, &[0x03, 0, 7, 0, 1]);
    desk.answer(1, &[0x83, 2]);
    let refused = Reason::Exception(ExceptionCode::ILLEGAL_DATA_ADDRESS);
    assert_eq!(desk.ended(), Some((1, Err(OrderError::NotReadBack(refused)))));
}

#[test]
fn an_unanswered_write_that_cannot_be_read_back_either_is_unanswered() {
    let mut desk = Desk::new();
    desk.order(1, 1, write(Write::Register { address: 7, value: 5 }));
    for _ in 0..3 {
        desk.expect(1, &[0x06, 0, 7, 0, 5]);
        desk.silence();
    }
    desk.expect(1, &[0x03, 0, 7, 0, 1]);
    desk.answer(1, &[0x83, 2]);
    assert_eq!(desk.ended(), Some((1, Err(OrderError::Failed(Reason::Timeout)))));
}
