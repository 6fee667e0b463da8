//! Modbus TCP against a server that sends whatever bytes a test gives it.

mod bench;
#[path = "bench/server.rs"]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench::{BusPlan, DevicePlan, acquire, all_are, all_good, device, holding, ms, tcp};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::modbus::{ExceptionCode, Table};
use ganglion_protocols::{Reason, Timestamp};
use server::{Asked, Server, Step, truth};

/// Longer than a busy machine keeps a server from answering.
const RESPONSE_TIMEOUT: Duration = ms(400);

fn plan(server: &Server, devices: Vec<DevicePlan>) -> BusPlan {
    BusPlan::new(tcp(server.port()), RESPONSE_TIMEOUT, devices)
}

/// The true value of an item of a request.
fn true_item(unit: u8, want: ReadRequest, address: u16) -> u16 {
    truth(unit, want.table, address)
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
    let most = [Table::Coil, Table::DiscreteInput, Table::InputRegister, Table::HoldingRegister]
        .map(|table| ReadRequest { table, address: 40, count: table.max_items() });
    let few = ReadRequest { table: Table::Coil, address: 41, count: 3 };
    let wants = [most.as_slice(), &[few]].concat();
    let mut acquisition = acquire(vec![plan(&server, vec![device(7, ms(20), wants)])]);
    let before = Timestamp::from_unix_nanos(jiff::Timestamp::now().as_nanosecond().try_into().unwrap());
    let sample = acquisition.sample().await;
    assert!(sample.t > before);
    assert!(all_good(&sample), "{:?}", sample.states);
    assert_eq!(acquisition.wrong(&sample, true_item), []);
    acquisition.end().await;
}

#[tokio::test]
async fn every_bad_answer_has_its_reason_and_the_next_request_is_answered() {
    type Fault = fn(&Asked) -> Vec<Step>;
    let faults: [(&str, Fault, Reason); 16] = [
        ("silence", |_| vec![], Reason::Timeout),
        ("half a frame", |asked| vec![Step::Send(asked.answer()[..12].to_vec())], Reason::Malformed),
        ("exception 02", |asked| vec![Step::Send(asked.exception(2))], Reason::Exception(ExceptionCode::new(2))),
        ("exception 54", |asked| vec![Step::Send(asked.exception(0x54))], Reason::Exception(ExceptionCode::new(0x54))),
        // It answers a request of before.
        ("another transaction", |asked| vec![Step::Send(asked.answer_with(0, 0x55))], Reason::Timeout),
        ("another unit", |asked| vec![Step::Send(asked.answer_with(6, 0x02))], Reason::WrongReply),
        ("another function", |asked| vec![Step::Send(asked.answer_with(7, 0x07))], Reason::WrongReply),
        ("another protocol", |asked| vec![Step::Send(asked.answer_with(2, 0x01))], Reason::Malformed),
        ("length 0", |asked| vec![Step::Send([&asked.bytes[..4], &[0, 0, 1]].concat())], Reason::Malformed),
        ("no PDU", |asked| vec![Step::Send([&asked.bytes[..4], &[0, 1, 1]].concat())], Reason::Malformed),
        ("byte count beyond the frame", |asked| vec![Step::Send(asked.answer_with(8, 0x7F))], Reason::WrongLength),
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
    let mut servers = Vec::new();
    for (_, fault, _) in faults {
        servers.push(Server::start(faulty_at_10(fault)).await);
    }
    let wants = |others: &[u16]| others.iter().map(|&address| holding(address, 4)).collect();
    let devices = || vec![device(1, ms(20), wants(&[10, 20])), device(2, ms(20), wants(&[20, 30]))];
    let mut acquisition = acquire(servers.iter().map(|server| plan(server, devices())).collect());
    let mut seen = [[0; 2]; 16];
    while seen.as_flattened().iter().any(|&seen| seen < 3) {
        let sample = acquisition.sample().await;
        let (bus, healthy) = (sample.device.0 / 2, sample.device.0 % 2);
        let (name, _, reason) = faults[bus];
        seen[bus][healthy] += 1;
        match healthy {
            0 => assert_eq!(sample.states, [Some(reason), None], "{name}"),
            _ => assert!(all_good(&sample), "{name}: {sample:?}"),
        }
        assert_eq!(acquisition.wrong(&sample, true_item), [], "{name}");
    }
    let devices = acquisition.monitor.snapshot().devices;
    for (bus, (name, _, reason)) in faults.iter().enumerate() {
        let state = &devices[&format!("device {}", 2 * bus)];
        assert_eq!((state.healthy, &state.last_reason), (false, &Some(reason.to_string())), "{name}");
    }
    acquisition.end().await;
}

#[tokio::test]
async fn an_exception_or_a_hung_up_connection_costs_only_its_own_request() {
    for fault in [|asked: &Asked| vec![Step::Send(asked.exception(2))], |_: &Asked| vec![Step::Close]] {
        let server = Server::start(faulty_at_10(fault)).await;
        let wants = vec![holding(0, 4), holding(10, 4), holding(20, 4), holding(30, 4)];
        let mut acquisition = acquire(vec![plan(&server, vec![device(1, ms(20), wants)])]);
        for _ in 0..6 {
            let good: Vec<bool> = acquisition.sample().await.states.iter().map(Option::is_none).collect();
            assert_eq!(good, [true, false, true, true]);
        }
        acquisition.end().await;
    }
}

#[tokio::test]
async fn a_unit_on_whose_requests_a_gateway_hangs_up_does_not_keep_its_neighbour_from_being_read() {
    let answer = |asked: &Asked| vec![if asked.unit() == 1 { Step::Close } else { Step::Send(asked.answer()) }];
    let server = Server::start(answer).await;
    let devices = vec![device(1, ms(100), vec![holding(10, 4)]), device(2, ms(100), vec![holding(10, 4)])];
    let mut acquisition = acquire(vec![plan(&server, devices)]);
    let (mut polls, mut good) = ([0_u32; 2], 0_u32);
    while polls.iter().any(|&polls| polls < 20) {
        let sample = acquisition.sample().await;
        polls[sample.device.0] += 1;
        match sample.device.0 {
            0 => assert!(!all_good(&sample), "{sample:?}"),
            _ => good += u32::from(all_good(&sample)),
        }
    }
    acquisition.end().await;
    assert!(good >= polls[1] / 2, "{good} of {} polls", polls[1]);
}

#[tokio::test]
async fn a_silent_unit_is_asked_now_and_then_and_read_again_when_it_is_back() {
    let back = Arc::new(AtomicBool::new(false));
    let is_back = Arc::clone(&back);
    let answer = move |asked: &Asked| {
        let silent = asked.unit() == 2 && !is_back.load(Ordering::Relaxed);
        if silent { vec![] } else { vec![Step::Send(asked.answer())] }
    };
    let server = Server::start(answer).await;
    let wants: Vec<ReadRequest> = (0..8).map(|number| holding(number * 10, 4)).collect();
    let devices = vec![device(1, ms(100), wants.clone()), device(2, ms(100), wants)];
    let share = BusPlan { dead_unit_share_percent: 25, ..plan(&server, devices) };
    let mut acquisition = acquire(vec![share]);
    let (begin, mut polls) = (Instant::now(), [0_u32; 2]);
    while polls.iter().any(|&polls| polls < 40) {
        let sample = acquisition.sample().await;
        polls[sample.device.0] += 1;
        match sample.device.0 {
            0 => assert!(all_good(&sample), "{sample:?}"),
            _ => assert!(all_are(&sample, Reason::Timeout), "{sample:?}"),
        }
    }
    // Three timeouts in a row until it counts as silent; then a quarter of the time, and a probe may be under way.
    let asked = u32::try_from(server.asked(2)).unwrap();
    let allowed = 4 * RESPONSE_TIMEOUT + begin.elapsed() / 4;
    assert!(asked >= 4 && asked * RESPONSE_TIMEOUT <= allowed, "asked {asked} times in {:?}", begin.elapsed());
    assert!(acquisition.monitor.snapshot().buses["bus 0"].units[1].silent);

    back.store(true, Ordering::Relaxed);
    let sample = acquisition.sample_of(1, all_good).await;
    assert_eq!(acquisition.wrong(&sample, true_item), []);
    acquisition.end().await;
}

#[tokio::test]
async fn a_late_answer_is_known_by_its_transaction_and_costs_no_connection() {
    let late = |asked: &Asked| {
        let pause = if asked.number.is_multiple_of(3) { RESPONSE_TIMEOUT + ms(50) } else { ms(0) };
        vec![Step::Pause(pause), Step::Send(asked.answer())]
    };
    let server = Server::start(late).await;
    let devices = (1..4).map(|unit| device(unit, ms(1), vec![holding(u16::from(unit) * 16, 4)])).collect();
    // No unit is ever left alone, and nothing asked again.
    let always = BusPlan { retries: 0, dead_unit_share_percent: 100, ..plan(&server, devices) };
    let mut acquisition = acquire(vec![always]);
    let (mut answered, mut timeouts) = (0, 0);
    while answered < 20 || timeouts < 5 {
        let sample = acquisition.sample().await;
        assert_eq!(acquisition.wrong(&sample, true_item), []);
        match sample.states[0] {
            None => answered += 1,
            Some(reason) => {
                timeouts += 1;
                assert_eq!(reason, Reason::Timeout);
            }
        }
    }
    acquisition.until("late answers are counted", |now| now.buses["bus 0"].wire.late_answers >= 5).await;
    acquisition.end().await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_crc_that_a_gateway_leaks_after_its_answers_does_no_harm() {
    let leaky = |asked: &Asked| {
        let answer = asked.answer();
        let tail = crc(&answer[6..]).to_le_bytes().to_vec();
        match asked.number % 3 {
            0 => vec![Step::Send(answer), Step::Pause(ms(5)), Step::Send(tail)],
            1 => vec![Step::Send(answer), Step::Send(tail)],
            _ => vec![Step::Send([answer, tail].concat())],
        }
    };
    let server = Server::start(leaky).await;
    let mut acquisition = acquire(vec![plan(&server, vec![device(1, ms(20), vec![holding(10, 4), holding(20, 8)])])]);
    for _ in 0..20 {
        let sample = acquisition.sample().await;
        assert!(all_good(&sample), "{sample:?}");
        assert_eq!(acquisition.wrong(&sample, true_item), []);
    }
    assert_eq!(server.connections(), 1);
    acquisition.end().await;
}

#[tokio::test]
async fn other_bytes_that_a_gateway_leaks_cost_a_connection_and_no_reading() {
    let leaky =
        |asked: &Asked| vec![Step::Send(asked.answer()), Step::Pause(ms(5)), Step::Send(vec![0x12, 0x34, 0x56])];
    let server = Server::start(leaky).await;
    let mut acquisition = acquire(vec![plan(&server, vec![device(1, ms(50), vec![holding(10, 4)])])]);
    for _ in 0..8 {
        let sample = acquisition.sample().await;
        assert!(all_good(&sample), "{sample:?}");
        assert_eq!(acquisition.wrong(&sample, true_item), []);
    }
    acquisition.end().await;
    assert!(server.connections() >= 4, "{} connections", server.connections());
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_reading() {
    let server = Server::start(|asked| vec![Step::Send(asked.answer()), Step::Pause(ms(5)), Step::Close]).await;
    let mut acquisition = acquire(vec![plan(&server, vec![device(1, ms(300), vec![holding(10, 4)])])]);
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
    let devices =
        || vec![device(1, ms(50), vec![holding(10, 4), holding(20, 4)]), device(2, ms(50), vec![holding(30, 4)])];
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
    let mut acquisition = acquire(vec![plan(&server, vec![device(1, ms(5), vec![holding(10, 4)])])]);
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
    let hour = Duration::from_secs(3600);
    let slow = BusPlan::new(tcp(server.port()), hour, vec![device(1, ms(10), vec![holding(10, 4)])]);
    let nobody = BusPlan::new(tcp(server.port()), ms(10), vec![]);
    let acquisition = acquire(vec![slow, nobody]);
    let until = Instant::now() + bench::SOON;
    while server.asked(1) == 0 {
        assert!(Instant::now() < until, "the request is sent");
        tokio::time::sleep(ms(5)).await;
    }
    acquisition.end().await;
}
