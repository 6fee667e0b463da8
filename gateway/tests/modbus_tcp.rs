//! Modbus TCP against a server that sends whatever bytes a test gives it.

mod bench;
#[path = "bench/server.rs"]
mod server;

use std::time::{Duration, Instant};

use bench::{BusPlan, acquire, all_are, all_good, holding, ms, tcp};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::{ExceptionCode, Table};
use ganglion_protocols::{Reason, Timestamp};
use server::{Asked, Server, Step, truth};

/// Longer than a busy machine keeps a server from answering.
const RESPONSE_TIMEOUT: Duration = ms(400);

fn plan(server: &Server, devices: Vec<(u8, Duration, Vec<ReadRequest>)>) -> BusPlan {
    BusPlan { link: tcp(server.port()), response_timeout: RESPONSE_TIMEOUT, devices }
}

/// Answers well, except for the request at address 10.
fn faulty_at_10(
    fault: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync {
    move |asked| if asked.address() == 10 { fault(asked) } else { vec![Step::Send(asked.answer())] }
}

#[tokio::test]
async fn registers_and_bits_of_all_four_tables_are_read() {
    let server = Server::start(|asked| vec![Step::Send(asked.answer())]).await;
    let requests = [Table::Coil, Table::DiscreteInput, Table::InputRegister, Table::HoldingRegister]
        .map(|table| ReadRequest { table, address: 40, count: table.max_items() });
    let few = ReadRequest { table: Table::Coil, address: 41, count: 3 };
    let mut acquisition = acquire(vec![plan(&server, vec![(7, ms(20), [requests.as_slice(), &[few]].concat())])]);
    let before = Timestamp::from_unix_nanos(jiff::Timestamp::now().as_nanosecond().try_into().unwrap());
    let sample = acquisition.sample().await;
    assert!(sample.t > before);
    for (request, answer) in requests.iter().chain([&few]).zip(&sample.answers) {
        let want = (request.address..).take(usize::from(request.count)).map(|address| truth(7, request.table, address));
        assert!(want.eq(answer.clone().unwrap()), "{request:?}");
    }
    acquisition.end().await;
}

#[tokio::test]
async fn every_bad_answer_has_its_reason_and_the_next_request_is_answered() {
    type Fault = fn(&Asked) -> Vec<Step>;
    let faults: [(&str, Fault, Reason); 16] = [
        ("silence", |_| vec![], Reason::Timeout),
        ("half a frame", |asked| vec![Step::Send(asked.answer()[..12].to_vec())], Reason::Timeout),
        ("exception 02", |asked| vec![Step::Send(asked.exception(2))], Reason::Exception(ExceptionCode::new(2))),
        ("exception 54", |asked| vec![Step::Send(asked.exception(0x54))], Reason::Exception(ExceptionCode::new(0x54))),
        ("another transaction", |asked| vec![Step::Send(asked.answer_with(0, 0x55))], Reason::WrongReply),
        ("another unit", |asked| vec![Step::Send(asked.answer_with(6, 0x02))], Reason::WrongReply),
        ("another function", |asked| vec![Step::Send(asked.answer_with(7, 0x07))], Reason::WrongReply),
        ("another protocol", |asked| vec![Step::Send(asked.answer_with(2, 0x01))], Reason::Malformed),
        ("length 0", |asked| vec![Step::Send([&asked.bytes[..4], &[0, 0, 1]].concat())], Reason::Malformed),
        ("no PDU", |asked| vec![Step::Send([&asked.bytes[..4], &[0, 1, 1]].concat())], Reason::Malformed),
        ("byte count beyond the frame", |asked| vec![Step::Send(asked.answer_with(8, 0x7F))], Reason::Malformed),
        ("one register less", |asked| vec![Step::Send(asked.registers(3))], Reason::WrongLength),
        ("one register more", |asked| vec![Step::Send(asked.registers(5))], Reason::WrongLength),
        ("no register", |asked| vec![Step::Send(asked.registers(0))], Reason::WrongLength),
        ("end of connection", |_| vec![Step::Close], Reason::Disconnected),
        (
            "end of connection within a frame",
            |asked| vec![Step::Send(asked.answer()[..11].to_vec()), Step::Close],
            Reason::Disconnected,
        ),
    ];
    for (name, fault, reason) in faults {
        let server = Server::start(faulty_at_10(fault)).await;
        let good = holding(20, 4);
        let devices = vec![(1, ms(20), vec![good, holding(10, 4)]), (1, ms(20), vec![good, good])];
        let mut acquisition = acquire(vec![plan(&server, devices)]);
        let mut seen = [0; 2];
        while seen.iter().any(|&seen| seen < 3) {
            let sample = acquisition.sample().await;
            seen[sample.device.0] += 1;
            assert!(sample.answers[0].is_ok(), "{name}: {sample:?}");
            match sample.device.0 {
                0 => assert_eq!(sample.answers[1], Err(reason), "{name}"),
                _ => assert!(sample.answers[1].is_ok(), "{name}: {sample:?}"),
            }
        }
        let state = &acquisition.monitor.snapshot().devices["device 0"];
        assert_eq!((state.healthy, &state.last_reason), (false, &Some(reason.to_string())));
        acquisition.end().await;
    }
}

#[tokio::test]
async fn an_exception_or_a_hung_up_connection_costs_only_its_own_request() {
    for fault in [|asked: &Asked| vec![Step::Send(asked.exception(2))], |_: &Asked| vec![Step::Close]] {
        let server = Server::start(faulty_at_10(fault)).await;
        let requests = vec![holding(10, 4), holding(20, 4), holding(10, 4), holding(30, 4)];
        let mut acquisition = acquire(vec![plan(&server, vec![(1, ms(20), requests)])]);
        for _ in 0..3 {
            let good: Vec<bool> = acquisition.sample().await.answers.iter().map(Result::is_ok).collect();
            assert_eq!(good, [false, true, false, true]);
        }
        acquisition.end().await;
    }
}

#[tokio::test]
async fn a_silent_unit_costs_one_timeout_a_poll_and_its_neighbour_is_read() {
    let answer = |asked: &Asked| if asked.unit() == 2 { vec![] } else { vec![Step::Send(asked.answer())] };
    let server = Server::start(answer).await;
    let requests: Vec<ReadRequest> = (0..8).map(|number| holding(number * 10, 4)).collect();
    let devices = vec![(1, ms(100), requests.clone()), (2, ms(100), requests)];
    let mut acquisition = acquire(vec![plan(&server, devices)]);
    let mut polls = [0; 2];
    while polls.iter().any(|&polls| polls < 5) {
        let sample = acquisition.sample().await;
        polls[sample.device.0] += 1;
        match sample.device.0 {
            0 => assert!(all_good(&sample), "{sample:?}"),
            _ => assert!(all_are(&sample, Reason::Timeout), "{sample:?}"),
        }
    }
    acquisition.end().await;
    // One poll may have been under way at the end.
    assert!(server.asked(2) <= polls[1] + 1, "unit 2 was asked {} times in {} polls", server.asked(2), polls[1]);
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next_one() {
    let late = |asked: &Asked| {
        let pause = if asked.number.is_multiple_of(3) { RESPONSE_TIMEOUT + ms(50) } else { ms(0) };
        vec![Step::Pause(pause), Step::Send(asked.answer())]
    };
    let server = Server::start(late).await;
    let devices = (1..4).map(|unit| (unit, ms(1), vec![holding(u16::from(unit) * 16, 4)])).collect();
    let mut acquisition = acquire(vec![plan(&server, devices)]);
    let (mut answered, mut timeouts) = (0, 0);
    while answered < 20 || timeouts < 5 {
        let sample = acquisition.sample().await;
        let device = &acquisition.site.devices[sample.device.0];
        match &sample.answers[0] {
            Ok(items) => {
                answered += 1;
                let right = (device.requests[0].address..).take(4);
                assert!(right.map(|address| truth(device.unit.0, Table::HoldingRegister, address)).eq(items.clone()));
            }
            Err(reason) => {
                timeouts += 1;
                assert_eq!(*reason, Reason::Timeout);
            }
        }
    }
    acquisition.end().await;
}

#[tokio::test]
async fn crc_bytes_that_a_gateway_leaks_after_its_answers_do_no_harm() {
    let leaky = |asked: &Asked| {
        let tail = Step::Send(vec![0x12, 0x34]);
        vec![Step::Send(asked.answer()), Step::Pause(ms(if asked.number.is_multiple_of(2) { 5 } else { 0 })), tail]
    };
    let server = Server::start(leaky).await;
    // The tail has time to come before the next request: after it, nobody could tell it from an answer.
    let mut acquisition = acquire(vec![plan(&server, vec![(1, ms(300), vec![holding(10, 4)])])]);
    for _ in 0..8 {
        let sample = acquisition.sample().await;
        assert!(all_good(&sample), "{sample:?}");
    }
    assert_eq!(server.connections(), 1);
    acquisition.end().await;
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_reading() {
    let server = Server::start(|asked| vec![Step::Send(asked.answer()), Step::Pause(ms(5)), Step::Close]).await;
    let mut acquisition = acquire(vec![plan(&server, vec![(1, ms(300), vec![holding(10, 4)])])]);
    for _ in 0..5 {
        let sample = acquisition.sample().await;
        assert!(all_good(&sample), "{sample:?}");
    }
    assert!(server.connections() >= 5);
    acquisition.end().await;
}

#[tokio::test]
async fn while_a_server_is_away_its_devices_keep_their_pace_and_come_back_with_it() {
    let answer = |asked: &Asked| vec![Step::Send(asked.answer())];
    let (restarted, steady) = (Server::start(answer).await, Server::start(answer).await);
    let port = restarted.port();
    let devices = || vec![(1, ms(50), vec![holding(10, 4), holding(20, 4)]), (2, ms(50), vec![holding(30, 4)])];
    let mut acquisition = acquire(vec![plan(&restarted, devices()), plan(&steady, devices())]);
    acquisition.sample_of(0, all_good).await;
    acquisition.sample_of(1, all_good).await;

    drop(restarted);
    acquisition.sample_of(0, |sample| all_are(sample, Reason::Disconnected)).await;
    let (since, mut away, mut steady_polls) = (Instant::now(), 0_u32, 0_u32);
    while away < 20 || steady_polls < 20 {
        let sample = acquisition.sample().await;
        if sample.device.0 < 2 {
            assert!(all_are(&sample, Reason::Disconnected), "{sample:?}");
            away += 1;
        } else {
            assert!(all_good(&sample), "{sample:?}");
            steady_polls += 1;
        }
    }
    // Two devices every 50 ms make 20 samples in half a second, and not in an instant.
    assert!(since.elapsed() >= ms(400), "{:?}", since.elapsed());

    let _again = Server::start_on(port, answer).await;
    acquisition.sample_of(0, all_good).await;
    acquisition.sample_of(1, all_good).await;
    assert!(acquisition.monitor.snapshot().devices["device 0"].healthy);
    acquisition.end().await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_up_at_once_is_not_hammered() {
    let server = Server::start_closing().await;
    let mut acquisition = acquire(vec![plan(&server, vec![(1, ms(5), vec![holding(10, 4)])])]);
    let mut polls = 0_u64;
    while polls < 100 {
        assert!(all_are(&acquisition.sample().await, Reason::Disconnected));
        polls += 1;
    }
    assert!(server.connections() < 12, "{} connections", server.connections());
    acquisition.end().await;
}

#[tokio::test]
async fn stop_abandons_a_request_and_closes_the_stage() {
    let server = Server::start(|_| vec![]).await;
    let slow = BusPlan {
        link: tcp(server.port()),
        response_timeout: Duration::from_secs(3600),
        devices: vec![(1, ms(10), vec![holding(10, 4)])],
    };
    let nobody = BusPlan { link: tcp(server.port()), response_timeout: ms(10), devices: vec![] };
    let acquisition = acquire(vec![slow, nobody]);
    let until = Instant::now() + bench::SOON;
    while server.asked(1) == 0 {
        assert!(Instant::now() < until, "the request is sent");
        tokio::time::sleep(ms(5)).await;
    }
    acquisition.end().await;
}
