#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

extern crate std;

use ganglion_protocols::node_link::{Ask, BoardName, BodySize};

use super::*;

const OLD: Version = Version { major: 1, minor: 0, patch: 0 };
const NEW: Version = Version { major: 1, minor: 1, patch: 0 };
const SIZE: u32 = 160 + 1000;

fn image() -> std::vec::Vec<u8> {
    let header = ImageHeader {
        board: BoardName::new("board").unwrap(),
        version: NEW,
        size: BodySize::try_from(1000).unwrap(),
        digest: [1; 64],
        signature: [2; 64],
    };
    [header.emit().as_slice(), &[7; 1000]].concat()
}

fn receiving(next: u32) -> Result<FirmwareState, Refusal> {
    Ok(FirmwareState { running: OLD, phase: FirmwarePhase::Receiving { version: NEW, next, size: SIZE } })
}

fn state(running: Version, phase: FirmwarePhase) -> Result<FirmwareState, Refusal> {
    Ok(FirmwareState { running, phase })
}

/// The offset it writes at.
fn offset(sender: &Sender<'_>) -> u32 {
    match sender.next() {
        Next::Ask(FirmwareAsk::Write { offset, data }) => {
            assert!(!data.is_empty());
            offset
        }
        other => panic!("{other:?} writes nothing"),
    }
}

fn begins(sender: &Sender<'_>) -> bool {
    matches!(sender.next(), Next::Ask(FirmwareAsk::Begin { header, downgrade: false }) if header.len() == ImageHeader::LEN)
}

#[test]
fn an_image_is_sent_from_where_the_node_says_until_it_runs_for_good() {
    let image = image();
    let mut sender = Sender::new(&image, false).unwrap();
    assert!(begins(&sender));
    sender.handle(receiving(160));
    assert_eq!(offset(&sender), 160);
    sender.handle(receiving(160 + 232));
    assert_eq!((offset(&sender), sender.progress()), (392, (392, SIZE)));
    sender.handle(receiving(SIZE));
    assert_eq!(sender.next(), Next::Ask(FirmwareAsk::Install));
    sender.handle(receiving(SIZE));
    assert_eq!(sender.next(), Next::AskLater(FirmwareAsk::State));
    sender.handle(state(NEW, FirmwarePhase::Trial));
    assert_eq!(sender.next(), Next::AskLater(FirmwareAsk::State));
    sender.handle(state(NEW, FirmwarePhase::Idle));
    assert_eq!(sender.next(), Next::Done);
}

#[test]
fn a_transfer_goes_on_where_an_earlier_one_ended_and_behind_a_reset() {
    let image = image();
    let mut sender = Sender::new(&image, false).unwrap();
    sender.handle(receiving(900));
    assert_eq!(offset(&sender), 900);
    sender.handle(Err(Refusal::Hole));
    assert!(begins(&sender));
    sender.handle(receiving(416));
    assert_eq!(offset(&sender), 416);
}

#[test]
fn a_damaged_image_is_sent_once_more_and_then_given_up() {
    let image = image();
    let mut sender = Sender::new(&image, false).unwrap();
    for _ in 0..2 {
        assert!(begins(&sender));
        sender.handle(receiving(SIZE));
        assert_eq!(sender.next(), Next::Ask(FirmwareAsk::Install));
        sender.handle(Err(Refusal::BadSignature));
    }
    assert_eq!(sender.next(), Next::Failed(UpdateError::Refused(Refusal::BadSignature)));
}

#[test]
fn an_image_that_is_refused_or_taken_back_is_told_of() {
    let image = image();
    for refusal in [Refusal::OtherBoard, Refusal::Older, Refusal::TooLarge, Refusal::BadHeader, Refusal::Unable] {
        let mut sender = Sender::new(&image, false).unwrap();
        sender.handle(Err(refusal));
        assert_eq!(sender.next(), Next::Failed(UpdateError::Refused(refusal)));
    }
    let mut sender = Sender::new(&image, false).unwrap();
    sender.handle(receiving(SIZE));
    sender.handle(receiving(SIZE));
    sender.handle(state(OLD, FirmwarePhase::RolledBack));
    assert_eq!(sender.next(), Next::Failed(UpdateError::RolledBack));
}

#[test]
fn a_node_that_never_comes_forward_ends_the_transfer() {
    let image = image();
    for answer in [receiving(160), Err(Refusal::FlashFailed), Err(Refusal::Hole), state(OLD, FirmwarePhase::Idle)] {
        let mut sender = Sender::new(&image, false).unwrap();
        sender.handle(receiving(160));
        for _ in 0..2 * PATIENCE {
            sender.handle(answer);
        }
        assert!(matches!(sender.next(), Next::Failed(_)), "{answer:?}");
    }
}

#[test]
fn every_message_of_a_transfer_fits_a_frame() {
    let mut payload = [0; MAX_PAYLOAD];
    let header = [0xFF; ImageHeader::LEN];
    let data = [0xFF; MAX_CHUNK];
    for ask in
        [FirmwareAsk::Begin { header: &header, downgrade: true }, FirmwareAsk::Write { offset: u32::MAX, data: &data }]
    {
        assert!(Ask::Firmware(ask).emit(&mut payload).is_ok());
    }
}
