//! The control socket and clients that mean no good.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use ganglion::acquire::Handle;
use ganglion::control;
use tempfile::TempDir;

use super::site::SOON;

/// A daemon's control socket without any bus.
fn socket() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let (ready, listening) = std::sync::mpsc::channel();
    // The runtime ends with the test.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = control::listen(&path).unwrap();
            ready.send(()).unwrap();
            control::serve(listener, Handle::default()).await;
        });
    });
    listening.recv_timeout(SOON).unwrap();
    folder
}

fn connect(folder: &Path) -> UnixStream {
    let stream = UnixStream::connect(control::socket_path(folder)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn line(stream: &UnixStream) -> String {
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).unwrap();
    text
}

const ORDER: &str = r#"{"bus":"nowhere","unit":3,"ask":{"read":{"table":"holding","address":0,"count":2}}}"#;

#[test]
fn only_the_daemons_user_may_open_it() {
    let folder = socket();
    let mode = std::fs::metadata(control::socket_path(folder.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn one_line_is_answered_by_one_line_again_and_again() {
    let folder = socket();
    let mut stream = connect(folder.path());
    for _ in 0..3 {
        stream.write_all(format!("{ORDER}\n").as_bytes()).unwrap();
        assert_eq!(
            line(&stream),
            "{\"error\":{\"kind\":\"no-bus\",\"message\":\"no bus is called \\\"nowhere\\\"\"}}\n"
        );
    }
}

#[test]
fn what_is_no_request_is_answered_with_what_is_wrong_and_hung_up_on() {
    let folder = socket();
    let cases = [
        ("nonsense\n", "expected"),
        ("{\"bus\":\"b\",\"unit\":300,\"ask\":{\"server_id\":{}}}\n", "300"),
        ("{\"bus\":\"b\",\"unit\":3,\"ask\":{\"erase\":{}}}\n", "erase"),
        ("{\"bus\":\"b\",\"unit\":3,\"ask\":{\"server_id\":{}},\"more\":1}\n", "more"),
    ];
    for (sent, told) in cases {
        let mut stream = connect(folder.path());
        stream.write_all(sent.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("bad-request") && answer.contains(told), "{sent}: {answer}");
    }
}

#[test]
fn a_line_without_end_is_cut_off() {
    let folder = socket();
    let mut stream = connect(folder.path());
    let mut sent = 0_u64;
    // The socket takes a little more than the daemon reads.
    while sent < 4 * control::LONGEST_LINE && stream.write_all(&[b'x'; 1024]).is_ok() {
        sent += 1024;
    }
    let mut answer = Vec::new();
    // It may be reset before all of the answer is read.
    drop(stream.read_to_end(&mut answer));
    let mut good = connect(folder.path());
    good.write_all(format!("{ORDER}\n").as_bytes()).unwrap();
    assert!(line(&good).contains("no-bus"));
}

#[test]
fn clients_that_say_nothing_keep_nobody_out_for_long() {
    let folder = socket();
    let silent: Vec<UnixStream> = (0..control::CLIENTS).map(|_| connect(folder.path())).collect();
    let told = line(&connect(folder.path()));
    assert!(told.contains("\"busy\""), "{told}");
    // Each is hung up on in time.
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    let mut good = connect(folder.path());
    good.write_all(format!("{ORDER}\n").as_bytes()).unwrap();
    assert!(line(&good).contains("no-bus"));
}
