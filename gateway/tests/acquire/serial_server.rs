//! RTU frames over TCP: a serial server (DTU) that is called, and one that calls.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ganglion::site::Endpoint;
use ganglion_protocols::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::bench::{BusPlan, SOON, acquire, all_are, all_good, device, holding, ms, rtu_over_tcp};
use crate::line::{Heard, request_length, truth};

const RESPONSE_TIMEOUT: Duration = ms(500);

fn plan(endpoint: Endpoint) -> BusPlan {
    let devices =
        vec![device(1, ms(50), vec![holding(10, 4), holding(20, 8)]), device(2, ms(50), vec![holding(30, 4)])];
    BusPlan::new(rtu_over_tcp(endpoint), RESPONSE_TIMEOUT, devices)
}

/// A free port. Nobody else is told of it.
async fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

/// Answers what is asked until the other end hangs up. With a heartbeat, that is sent between answers all the time.
async fn serve(mut stream: TcpStream, heartbeat: Option<&[u8]>) {
    stream.set_nodelay(true).unwrap();
    let (mut request, mut buffer) = (Vec::new(), [0; 256]);
    let mut beat = interval(ms(20));
    loop {
        let mut length = request_length(&request) - request.len();
        length = length.min(buffer.len());
        tokio::select! {
            read = stream.read(&mut buffer[..length]) => match read {
                Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
                _ => return,
            },
            _ = beat.tick(), if request.is_empty() => {
                if let Some(bytes) = heartbeat && stream.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
        if !request.is_empty() && request.len() == request_length(&request) {
            let heard = Heard { at: Instant::now(), frame: std::mem::take(&mut request) };
            if stream.write_all(&heard.right()).await.is_err() {
                return;
            }
        }
    }
}

/// Calls until somebody is there.
async fn dial(address: SocketAddr) -> TcpStream {
    timeout(SOON, async {
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => return stream,
                Err(_) => sleep(ms(5)).await,
            }
        }
    })
    .await
    .expect("the gateway listens")
}

#[tokio::test]
async fn units_behind_a_serial_server_are_read_and_read_again_when_it_comes_back() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Endpoint::Connect { host: address.ip().to_string(), port: address.port() };
    let mut acquisition = acquire(vec![plan(endpoint)]);
    let mut server = JoinSet::new();
    let (stream, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    server.spawn(serve(stream, None));
    for device in [0, 1, 0, 1] {
        let sample = acquisition.sample_of(device, all_good).await;
        assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
    }

    drop(listener);
    server.shutdown().await;
    acquisition.sample_of(0, |sample| all_are(sample, Reason::Disconnected)).await;

    let listener = TcpListener::bind(address).await.unwrap();
    let (stream, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    server.spawn(serve(stream, None));
    let sample = acquisition.sample_of(0, all_good).await;
    assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
    acquisition.end().await;
}

#[tokio::test]
async fn a_serial_server_calls_registers_beats_drops_and_calls_again() {
    let address = free_port().await;
    let mut acquisition = acquire(vec![plan(Endpoint::Listen { address })]);
    // Nobody has called yet.
    acquisition.sample_of(0, |sample| all_are(sample, Reason::Disconnected)).await;
    for registration in [&b"DTU-13800138000\r\n"[..], &[0x01, 0x03, 0x08, 0x15], &[0xFE; 64]] {
        let mut stream = dial(address).await;
        stream.write_all(registration).await.unwrap();
        let mut called = JoinSet::new();
        called.spawn(serve(stream, Some(b"PING")));
        let mut good = 0;
        acquisition.sample_of(0, all_good).await;
        for _ in 0..30 {
            let sample = acquisition.sample().await;
            assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
            good += u32::from(all_good(&sample));
        }
        assert!(good >= 27, "{good} of 30 polls, with {registration:02X?}");
        called.shutdown().await;
        acquisition.sample_of(0, |sample| all_are(sample, Reason::Disconnected)).await;
    }
    acquisition.end().await;
}

#[tokio::test]
async fn a_serial_server_whose_network_forgot_the_old_connection_is_served_on_the_new_one() {
    let address = free_port().await;
    let mut acquisition = acquire(vec![plan(Endpoint::Listen { address })]);
    let mut called = JoinSet::new();
    called.spawn(serve(dial(address).await, None));
    acquisition.sample_of(0, all_good).await;
    // The old socket stays open, and nobody is behind it any more.
    let silent = dial(address).await;
    acquisition.sample_of(0, |sample| all_are(sample, Reason::Timeout)).await;
    called.spawn(serve(dial(address).await, None));
    let sample = acquisition.sample_of(0, all_good).await;
    assert_eq!(acquisition.wrong(&sample, |unit, _, address| truth(unit, address)), []);
    acquisition.end().await;
    drop(silent);
}

#[tokio::test]
async fn a_server_that_sends_without_end_does_not_stop_the_samples() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // A thread of its own, so that there is always more to read. It ends when the gateway hangs up.
    let flood = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while std::io::Write::write_all(&mut stream, &[0x55; 65_536]).is_ok() {}
    });
    let endpoint = Endpoint::Connect { host: address.ip().to_string(), port: address.port() };
    let mut acquisition = acquire(vec![plan(endpoint)]);
    for device in [0, 1, 0, 1] {
        acquisition.sample_of(device, |sample| sample.states.iter().all(Option::is_some)).await;
    }
    acquisition.end().await;
    flood.join().unwrap();
}
