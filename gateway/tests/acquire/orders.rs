//! Reads and writes on demand through a running bus, beside its polls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ganglion::acquire::CallError;
use ganglion_drivers::bus::order::{Deed, Done, OrderError, Write};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::{ExceptionCode, Table, UnitId};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::bench::{Acquisition, BusPlan, SOON, acquire, all_good, device, holding, ms, serial, tcp};
use crate::line::{Heard, Line, Said};
use crate::server::{Asked, Server, Step};

const RESPONSE_TIMEOUT: Duration = ms(500);

const UNIT: UnitId = UnitId(1);

/// Registers that can be written; above 99 there are none, and 50 keeps its value whatever is written.
type Registers = Arc<Mutex<BTreeMap<u16, u16>>>;

const STUBBORN: u16 = 50;

fn exists(address: u16, count: u16) -> bool {
    address + count <= 100
}

fn keep(registers: &Registers, address: u16, values: &[u16]) {
    let written = (address..).zip(values.iter().copied()).filter(|(address, _)| *address != STUBBORN);
    registers.lock().unwrap().extend(written);
}

fn held(registers: &Registers, address: u16, count: u16) -> Vec<u16> {
    let registers = registers.lock().unwrap();
    (address..address + count).map(|address| registers.get(&address).copied().unwrap_or(0)).collect()
}

fn line(registers: Registers) -> Line {
    let answer = move |heard: &Heard| -> Vec<Said> {
        if heard.unit() != UNIT.0 {
            return vec![];
        }
        let said = match heard.function() {
            0x03 if exists(heard.address(), heard.count()) => {
                heard.registers(heard.unit(), &held(&registers, heard.address(), heard.count()))
            }
            0x06 | 0x10 if exists(heard.address(), 1) => {
                keep(&registers, heard.address(), &heard.values());
                heard.confirmation()
            }
            0x03 | 0x06 | 0x10 => heard.exception(2),
            _ => heard.exception(1),
        };
        vec![(Duration::ZERO, said)]
    };
    Line::new(Duration::MAX, answer)
}

async fn server(registers: Registers) -> Server {
    Server::start(move |asked: &Asked| {
        if asked.unit() != UNIT.0 {
            return vec![];
        }
        let answer = match asked.function() {
            0x03 if exists(asked.address(), asked.count()) => {
                asked.values(&held(&registers, asked.address(), asked.count()))
            }
            0x06 if exists(asked.address(), 1) => {
                keep(&registers, asked.address(), &[asked.value()]);
                asked.bytes.clone()
            }
            0x03 | 0x06 => asked.exception(2),
            _ => asked.exception(1),
        };
        vec![Step::Send(answer)]
    })
    .await
}

async fn call(acquisition: &Acquisition, unit: UnitId, deed: Deed) -> Result<Done, CallError> {
    timeout(SOON, acquisition.handle.call("bus 0", unit, deed)).await.expect("an order ends")
}

fn register(address: u16, value: u16) -> Deed {
    Deed::Write { write: Write::Register { address, value }, verify: true }
}

fn failed(reason: Reason) -> Result<Done, CallError> {
    Err(CallError::Order(OrderError::Failed(reason)))
}

/// What holds over a serial line and over TCP alike.
async fn orders_are_carried_out_beside_the_polls(plan: BusPlan, registers: &Registers) {
    keep(registers, 10, &[7, 8, 9]);
    let mut acquisition = acquire(vec![plan]);
    acquisition.sample_of(0, all_good).await;

    let read = call(&acquisition, UNIT, Deed::Read(holding(10, 3))).await;
    assert_eq!(read, Ok(Done::Items(vec![7, 8, 9])));
    assert_eq!(call(&acquisition, UNIT, register(11, 4711)).await, Ok(Done::Written));
    assert_eq!(held(registers, 11, 1), [4711]);
    let polled = |words: &[u16]| words == [7, 4711, 9];
    acquisition.sample_of(0, |sample| all_good(sample) && polled(&sample.words)).await;

    let differs = OrderError::Differs { address: STUBBORN, wrote: 5, found: 0 };
    assert_eq!(call(&acquisition, UNIT, register(STUBBORN, 5)).await, Err(CallError::Order(differs)));
    let refused = Reason::Exception(ExceptionCode::ILLEGAL_DATA_ADDRESS);
    assert_eq!(call(&acquisition, UNIT, register(200, 1)).await, failed(refused));
    assert_eq!(call(&acquisition, UNIT, Deed::Read(holding(99, 2))).await, failed(refused));
    let function = Reason::Exception(ExceptionCode::ILLEGAL_FUNCTION);
    assert_eq!(call(&acquisition, UNIT, Deed::ServerId).await, failed(function));
    // A unit that is not polled, and not there.
    assert_eq!(call(&acquisition, UnitId(9), Deed::Read(holding(0, 1))).await, failed(Reason::Timeout));

    let impossible = Err(CallError::Order(OrderError::Impossible));
    let too_many = ReadRequest { table: Table::HoldingRegister, address: 0, count: 126 };
    assert_eq!(call(&acquisition, UNIT, Deed::Read(too_many)).await, impossible);
    let nobody = acquisition.handle.call("bus 7", UNIT, Deed::ServerId).await;
    assert_eq!(nobody, Err(CallError::NoBus("bus 7".to_owned())));

    acquisition.sample_of(0, all_good).await;
    let handle = acquisition.handle.clone();
    acquisition.end().await;
    let late = handle.call("bus 0", UNIT, Deed::ServerId).await;
    assert_eq!(late, Err(CallError::Stopped("bus 0".to_owned())));
}

#[tokio::test]
async fn orders_are_carried_out_beside_the_polls_of_a_serial_line() {
    let registers = Registers::default();
    let line = line(Arc::clone(&registers));
    let devices = vec![device(UNIT.0, ms(50), vec![holding(10, 3)])];
    let plan = BusPlan::new(serial(&line.path), RESPONSE_TIMEOUT, devices);
    orders_are_carried_out_beside_the_polls(plan, &registers).await;
}

#[tokio::test]
async fn orders_are_carried_out_beside_the_polls_of_a_tcp_server() {
    let registers = Registers::default();
    let server = server(Arc::clone(&registers)).await;
    let devices = vec![device(UNIT.0, ms(50), vec![holding(10, 3)])];
    let plan = BusPlan::new(tcp(server.port()), RESPONSE_TIMEOUT, devices);
    orders_are_carried_out_beside_the_polls(plan, &registers).await;
}

#[tokio::test]
async fn several_registers_are_written_by_one_request_and_nobody_answers_a_broadcast() {
    let registers = Registers::default();
    let line = line(Arc::clone(&registers));
    let plan = BusPlan::new(serial(&line.path), RESPONSE_TIMEOUT, vec![device(UNIT.0, ms(50), vec![holding(10, 3)])]);
    let mut acquisition = acquire(vec![plan]);
    acquisition.sample_of(0, all_good).await;
    let write =
        |values: &[u16]| Deed::Write { write: Write::Registers { address: 20, values: values.to_vec() }, verify: true };
    assert_eq!(call(&acquisition, UNIT, write(&[1, 2, 3])).await, Ok(Done::Written));
    assert_eq!(held(&registers, 20, 3), [1, 2, 3]);
    assert_eq!(call(&acquisition, UnitId(0), write(&[4])).await, Ok(Done::Broadcast));
    let read_everybody = call(&acquisition, UnitId(0), Deed::Read(holding(0, 1))).await;
    assert_eq!(read_everybody, Err(CallError::Order(OrderError::Impossible)));
    acquisition.sample_of(0, all_good).await;
    acquisition.end().await;
}

#[tokio::test]
async fn an_order_fails_at_once_where_there_is_no_wire() {
    let nowhere =
        BusPlan::new(serial("/nonexistent/port"), RESPONSE_TIMEOUT, vec![device(1, ms(50), vec![holding(0, 1)])]);
    let mut acquisition = acquire(vec![nowhere]);
    acquisition.sample().await;
    assert_eq!(call(&acquisition, UNIT, register(1, 1)).await, failed(Reason::Disconnected));
    acquisition.end().await;
}

#[tokio::test]
async fn a_server_that_hangs_up_on_an_order_fails_it_and_its_polls_go_on() {
    let server = Server::start(|asked: &Asked| match asked.function() {
        0x06 => vec![Step::Close],
        _ => vec![Step::Send(asked.answer())],
    })
    .await;
    let plan = BusPlan::new(tcp(server.port()), RESPONSE_TIMEOUT, vec![device(1, ms(50), vec![holding(10, 3)])]);
    let mut acquisition = acquire(vec![plan]);
    acquisition.sample_of(0, all_good).await;
    let write = Deed::Write { write: Write::Register { address: 1, value: 2 }, verify: false };
    assert_eq!(call(&acquisition, UNIT, write).await, failed(Reason::Disconnected));
    acquisition.sample_of(0, all_good).await;
    acquisition.end().await;
}

#[tokio::test]
async fn a_bus_takes_so_many_orders_and_refuses_more() {
    let line = line(Registers::default());
    let plan = BusPlan::new(serial(&line.path), RESPONSE_TIMEOUT, vec![device(UNIT.0, ms(50), vec![holding(10, 3)])]);
    let mut acquisition = acquire(vec![plan]);
    acquisition.sample_of(0, all_good).await;
    let mut calls = JoinSet::new();
    let refused = async {
        loop {
            let handle = acquisition.handle.clone();
            // Nobody has this unit id, so each order takes long.
            calls.spawn(async move { handle.call("bus 0", UnitId(9), Deed::Read(holding(0, 1))).await });
            // The bus takes up what it takes.
            sleep(ms(1)).await;
            while let Some(ended) = calls.try_join_next() {
                if let Err(CallError::Full(bus)) = ended.expect("a call ends") {
                    return bus;
                }
            }
        }
    };
    assert_eq!(timeout(SOON, refused).await.expect("orders do not pile up without end"), "bus 0");
    acquisition.end().await;
}
