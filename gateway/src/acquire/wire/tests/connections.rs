use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::site::{Endpoint, Link};

/// The lines logged at INFO and above on this thread while it lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn keep() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let to = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).without_time().with_target(false);
        (log, tracing::subscriber::set_default(to.finish()))
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(|line| line.trim().to_owned()).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

async fn next(connection: &mut Connection) -> Event {
    within("the next event", connection.next(&mut [0; 64])).await
}

/// A server, and a connection to it.
async fn serve() -> (TcpListener, Connection) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Link::Tcp { host: "127.0.0.1".to_owned(), port: server.local_addr().unwrap().port() };
    (server, Connection::new("line", &link))
}

/// A connection to a peer that is never there, and how often it was tried.
fn vain(error: &'static str) -> (Connection, Arc<AtomicU32>) {
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let open = move || -> Attempt {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Err(io::Error::other(error)) })
    };
    (Connection::opened_by("line", open), tries)
}

#[tokio::test]
async fn a_connection_opens_carries_bytes_and_is_replaced_at_once_when_it_ends() {
    let (server, mut connection) = serve().await;
    assert_eq!(connection.standing(), Standing::Soon);
    assert_eq!(connection.write(b"?").await.unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(next(&mut connection).await, Event::Opened);
    assert_eq!(connection.standing(), Standing::Open);
    let (mut peer, _) = server.accept().await.unwrap();
    connection.write(b"?").await.unwrap();
    peer.write_all(b"answer").await.unwrap();
    assert_eq!(next(&mut connection).await, Event::Received(6));
    connection.answered();
    drop(peer);
    assert_eq!(next(&mut connection).await, Event::Lost);
    assert_eq!(connection.standing(), Standing::Soon);
    assert!(connection.wire().is_none(), "what is gone is closed");
    assert_eq!(next(&mut connection).await, Event::Opened);
}

#[tokio::test]
async fn a_task_can_own_a_connection() {
    let (_server, mut connection) = serve().await;
    let task = tokio::spawn(async move {
        let event = next(&mut connection).await;
        connection.write(b"?").await.unwrap();
        event
    });
    assert_eq!(task.await.unwrap(), Event::Opened);
}

#[tokio::test]
async fn a_peer_that_hangs_up_without_an_answer_is_forgiven_once() {
    let (server, mut connection) = serve().await;
    for after in [Event::Lost, Event::Down, Event::Down] {
        assert_eq!(next(&mut connection).await, Event::Opened);
        drop(server.accept().await.unwrap());
        assert_eq!(next(&mut connection).await, after);
    }
    assert_eq!(connection.standing(), Standing::Down);
}

#[tokio::test]
async fn a_wire_that_is_given_up_is_replaced_and_counts_as_no_failure() {
    let (server, mut connection) = serve().await;
    for _ in 0..5 {
        assert_eq!(next(&mut connection).await, Event::Opened);
        let (mut peer, _) = server.accept().await.unwrap();
        peer.write_all(b"nonsense").await.unwrap();
        assert_eq!(next(&mut connection).await, Event::Received(8));
        connection.renew();
        assert_eq!(connection.standing(), Standing::Soon);
    }
}

#[tokio::test]
async fn no_event_is_lost_when_waiting_for_it_is_dropped() {
    let (server, mut connection) = serve().await;
    let (accepted, events) = tokio::join!(server.accept(), async {
        let (mut events, mut buf) = (Vec::new(), [0; 64]);
        while events.is_empty() {
            tokio::select! {
                biased;
                event = connection.next(&mut buf) => events.push(event),
                () = tokio::task::yield_now() => {}
            }
        }
        events
    });
    assert_eq!(events, [Event::Opened]);
    drop(accepted.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_vain_attempts_is_paced_told_once_and_spoils_no_request_but_the_first() {
    let (log, _keep) = Log::keep();
    let (mut connection, tries) = vain("nobody there");
    assert_eq!(next(&mut connection).await, Event::Down);
    let hour = tokio::time::timeout(Duration::from_secs(3600), connection.next(&mut [0; 8])).await;
    assert!(hour.is_err(), "nothing changed");
    assert_eq!(connection.standing(), Standing::Down);
    let tries = tries.load(Ordering::Relaxed);
    // Pauses of 2.5 to 5 s, the first ones shorter.
    assert!((720..=1450).contains(&tries), "{tries} attempts");
    assert_eq!(log.lines(), [r#"WARN no connection bus="line" error="nobody there""#]);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_a_second_for_an_attempt_that_hangs() {
    let mut connection = Connection::opened_by("line", || Box::pin(pending()));
    let start = Instant::now();
    assert_eq!(connection.next(&mut [0; 8]).await, Event::Down);
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    assert_eq!(connection.standing(), Standing::Down);
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_hangs_is_told_and_waited_for() {
    let (log, _keep) = Log::keep();
    let opening = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        "open"
    };
    assert_eq!(told_if_slow("/dev/ttyUSB0", opening).await, "open");
    assert_eq!(log.lines(), [r#"WARN the port does not open for 5 s, its adapter hangs port="/dev/ttyUSB0""#]);
}

#[tokio::test]
async fn a_connection_that_comes_back_is_told_when_it_answers() {
    let (log, _keep) = Log::keep();
    let (server, _) = serve().await;
    let port = server.local_addr().unwrap().port();
    let first = AtomicU32::new(0);
    let mut connection = Connection::opened_by("line", move || {
        let first = first.fetch_add(1, Ordering::Relaxed) == 0;
        Box::pin(
            async move { if first { Err(io::Error::other("not yet")) } else { Wire::call("127.0.0.1", port).await } },
        )
    });
    assert_eq!(next(&mut connection).await, Event::Down);
    assert_eq!(next(&mut connection).await, Event::Opened);
    assert_eq!(log.lines().len(), 1, "it may yet fail: {:?}", log.lines());
    connection.answered();
    connection.answered();
    assert_eq!(log.lines()[1..], [r#"INFO the connection is back bus="line""#]);
}

#[tokio::test]
async fn a_new_caller_takes_the_place_of_the_old_one() {
    let (log, _keep) = Log::keep();
    let listener = Arc::new(Listener::new("127.0.0.1:0".parse().unwrap()));
    let mut connection = Connection::waiting_at("line", Arc::clone(&listener));
    assert_eq!(next(&mut connection).await, Event::Down, "nobody has called");
    let address = listener.open().unwrap();

    let mut old = TcpStream::connect(address).await.unwrap();
    assert_eq!(next(&mut connection).await, Event::Opened);
    old.write_all(b"registration").await.unwrap();
    assert_eq!(next(&mut connection).await, Event::Received(12));
    connection.answered();

    let mut new = TcpStream::connect(address).await.unwrap();
    assert_eq!(next(&mut connection).await, Event::Opened);
    new.write_all(b"hello").await.unwrap();
    assert_eq!(next(&mut connection).await, Event::Received(5));
    let end = within("the end of the old one", tokio::io::AsyncReadExt::read(&mut old, &mut [0; 8])).await;
    assert_eq!(end.unwrap(), 0, "the old socket is closed");

    // The port outlives the loss of its caller.
    connection.answered();
    drop(new);
    assert_eq!(next(&mut connection).await, Event::Lost);
    let _third = TcpStream::connect(address).await.unwrap();
    assert_eq!(next(&mut connection).await, Event::Opened);
    let lines = log.lines();
    assert_eq!(lines[0], r#"WARN no connection bus="line" error="127.0.0.1:0: nobody has called yet""#);
    assert!(lines[1].starts_with(r#"INFO a peer called bus="line" peer="127.0.0.1:"#), "{lines:?}");
    assert_eq!(lines[2], r#"INFO the connection is back bus="line""#);
    assert_eq!(lines.len(), 3, "the same caller is told once: {lines:?}");
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_tried_again_until_it_is_free() {
    let (log, _keep) = Log::keep();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let speed = LineSpeed { baud: 9_600, parity: Parity::None, stop_bits: 1 };
    let mut connection = Connection::new("line", &Link::RtuOverTcp { endpoint: Endpoint::Listen { address }, speed });
    assert_eq!(next(&mut connection).await, Event::Down);
    let error = format!("{address}: cannot be listened at: Address already in use (os error 98)");
    assert_eq!(log.lines(), [format!(r#"WARN no connection bus="line" error="{error}""#)]);
    drop(taken);
    let call = async {
        loop {
            match TcpStream::connect(address).await {
                Ok(caller) => return caller,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let (event, _caller) = tokio::join!(next(&mut connection), within("the call", call));
    assert_eq!(event, Event::Opened);
}

#[tokio::test]
async fn a_port_that_is_pulled_out_and_put_back_is_found_again_and_told_once() {
    let (log, _keep) = Log::keep();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("usb-adapter");
    let first = Pty::new();
    std::os::unix::fs::symlink(&first.path, &path).unwrap();
    let mut connection = Connection::new("line", &Link::Serial(link(&path)));
    assert_eq!(next(&mut connection).await, Event::Opened);
    connection.answered();
    std::fs::remove_file(&path).unwrap();
    drop(first);
    assert_eq!(next(&mut connection).await, Event::Lost);
    assert_eq!(next(&mut connection).await, Event::Down);
    let mut second = Pty::new();
    std::os::unix::fs::symlink(&second.path, &path).unwrap();
    assert_eq!(next(&mut connection).await, Event::Opened);
    second.say(b"!");
    assert_eq!(next(&mut connection).await, Event::Received(1));
    connection.answered();
    let path = path.display();
    let facts = "facts=line as asked, low latency not asked, rs485 not asked";
    let expected = [
        format!(r#"INFO the port is open bus="line" port="{path}" {facts}"#),
        format!(r#"WARN no connection bus="line" error="{path}: No such file or directory (os error 2)""#),
        r#"INFO the connection is back bus="line""#.to_owned(),
    ];
    assert_eq!(log.lines(), expected);
}

#[tokio::test]
async fn wishes_a_port_does_not_grant_are_told_once_with_their_values() {
    let (log, _keep) = Log::keep();
    let pty = Pty::new();
    let delay = Duration::ZERO;
    let rs485 = crate::site::Rs485 {
        rts_on_send: true,
        delay_before_send: delay,
        delay_after_send: delay,
        rx_during_tx: false,
    };
    let mut connection = Connection::new("line", &Link::Serial(SerialLink { rs485: Some(rs485), ..pty.link() }));
    for _ in 0..3 {
        assert_eq!(next(&mut connection).await, Event::Opened);
        connection.renew();
    }
    let warnings: Vec<String> = log.lines().into_iter().filter(|line| line.starts_with("WARN")).collect();
    let path = pty.path.display();
    let text = "rs485 is not as asked: Inappropriate ioctl for device (os error 25)";
    assert_eq!(warnings, [format!(r#"WARN {text} bus="line" port="{path}""#)]);
}
