use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use tempfile::TempDir;

use super::super::pdu::crc;
use super::super::unit::Model;
use super::*;

fn line(folder: &TempDir, baud: u32, parity: Parity) -> Line {
    let settings = LineSettings::new(&folder.path().join("port"), baud, parity, 1);
    Line::start(settings, vec![Unit::new(1, Model::Bench { registers: 100 }, 3)]).expect("a line")
}

fn open(line: &Line) -> File {
    OpenOptions::new().read(true).write(true).open(line.path()).expect("the port is there")
}

fn ask(port: &mut File, count: u8) -> Vec<u8> {
    let mut frame = vec![1, 3, 0, 0, 0, count];
    frame.extend(crc(&frame).to_le_bytes());
    port.write_all(&frame).expect("sent");
    let mut reply = vec![0; 5 + 2 * usize::from(count)];
    port.read_exact(&mut reply).expect("an answer");
    reply
}

#[test]
fn characters_are_as_long_as_their_bits() {
    let character =
        |baud, parity, stop_bits| LineSettings::new(Path::new("x"), baud, parity, stop_bits).character().as_nanos();
    assert_eq!(character(9600, Parity::None, 1), 10 * 1_000_000_000 / 9600);
    assert_eq!(character(9600, Parity::Even, 1), 11 * 1_000_000_000 / 9600);
    assert_eq!(character(19_200, Parity::None, 2), 11 * 1_000_000_000 / 19_200);
}

#[test]
fn a_client_on_the_port_gets_answers_no_faster_than_the_line() {
    let folder = TempDir::new().expect("a temporary folder");
    let line = line(&folder, 9600, Parity::Even);
    let mut port = open(&line);
    let start = Instant::now();
    for _ in 0..3 {
        let reply = ask(&mut port, 20);
        assert_eq!((reply[..3].to_vec(), crc(&reply)), (vec![1, 3, 40], 0));
    }
    // 8 characters, 3.5 of silence, 2 ms, 45 characters, of 1.146 ms each.
    let least = Duration::from_micros(3 * (565 * 11_000_000 / 96_000 + 2000) - 100);
    let took = start.elapsed();
    assert!(took >= least, "{took:?} < {least:?}");
    let LineCounts { requests, heard, sent, good, good_time, .. } = line.counts();
    assert_eq!((requests, heard, sent, good), (3, 24, 135, 3));
    // 8 characters, 3.5 of silence, 2 ms, 45 characters, 3.5 of silence.
    assert_eq!(good_time.as_millis(), 3 * (60 * 11_000 + 2 * 9600) / 9600);
}

#[test]
fn a_fast_line_is_no_faster_than_its_characters_over_many_exchanges() {
    let folder = TempDir::new().expect("a temporary folder");
    let line = line(&folder, 115_200, Parity::None);
    let mut port = open(&line);
    let start = Instant::now();
    for _ in 0..20 {
        ask(&mut port, 60);
    }
    // 8 characters, 1.75 ms, 2 ms, 125 characters of 86.8 us.
    let least = Duration::from_nanos(20 * (133 * 86_805 + 3_750_000));
    let took = start.elapsed();
    println!("{took:?}, at least {least:?}");
    assert!(took >= least, "{took:?} < {least:?}");
    assert_eq!(line.counts().good, 20);
}

#[test]
fn a_pulled_plug_takes_the_port_away_and_brings_another_one_to_the_same_path() {
    let folder = TempDir::new().expect("a temporary folder");
    let line = line(&folder, 115_200, Parity::None);
    let mut port = open(&line);
    ask(&mut port, 2);
    line.unplug().expect("it is in");
    assert!(!line.path().exists());
    assert!(matches!(port.read(&mut [0; 1]), Ok(0) | Err(_)));
    line.plug().expect("it is out");
    ask(&mut open(&line), 2);
    let path = line.path().to_owned();
    drop(line);
    assert!(!path.is_symlink());
}
