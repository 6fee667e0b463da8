//! The trial of a new firmware.

use ganglion_drivers::update::Next;
use ganglion_node::update::boot::Slot;
use ganglion_protocols::node_link::{FirmwareAsk, FirmwarePhase, ImageHeader, Refusal};

use crate::node::{BOARD, NEW, Node, Runs, body, image};

/// A node that was told to install a new firmware and was not started since.
fn installed() -> (Node<8, 256>, Vec<u8>) {
    let image = image(BOARD, NEW, &body(0x3C, 901));
    let mut node = Node::new(body(0xA5, 700), body(0x3C, 901), 2);
    let mut updater = node.updater(Runs::Old);
    node.ask(&mut updater, &FirmwareAsk::Begin { header: &image[..ImageHeader::LEN], downgrade: false })
        .expect("it is taken");
    node.ask(&mut updater, &FirmwareAsk::Write { offset: 0, data: &image }).expect("it is taken");
    node.ask(&mut updater, &FirmwareAsk::Install).expect("it is taken");
    (node, image)
}

#[test]
fn a_firmware_that_does_not_confirm_itself_is_started_three_times() {
    let (mut node, _) = installed();
    for left in [2, 1, 0] {
        assert_eq!(node.start(), (Slot::Trial { left }, Runs::New));
        assert_eq!(node.updater(Runs::New).state().phase, FirmwarePhase::Trial);
    }
    assert_eq!(node.start(), (Slot::Restored, Runs::Old));
    assert_eq!(node.updater(Runs::Old).state().phase, FirmwarePhase::RolledBack);
    assert_eq!(node.start(), (Slot::Restored, Runs::Old), "and stays");
}

#[test]
fn a_firmware_that_confirms_itself_stays() {
    let (mut node, _) = installed();
    node.start();
    let mut updater = node.updater(Runs::New);
    updater.confirm(&mut node.flash).unwrap();
    assert_eq!(updater.state().phase, FirmwarePhase::Idle);
    for _ in 0..5 {
        assert_eq!(node.start(), (Slot::Usual, Runs::New));
    }
}

#[test]
fn nothing_is_received_while_an_installation_waits_or_is_on_trial() {
    let (mut node, image) = installed();
    let asks = |image: &'static [u8]| {
        [
            FirmwareAsk::Begin { header: &image[..ImageHeader::LEN], downgrade: true },
            FirmwareAsk::Write { offset: 160, data: &image[160..200] },
        ]
    };
    let asks = asks(image.leak());
    let mut updater = node.updater(Runs::Old);
    for ask in &asks {
        assert_eq!(node.ask(&mut updater, ask), Err(Refusal::Unable));
    }
    assert!(node.ask(&mut updater, &FirmwareAsk::Install).is_ok(), "its first answer may have been lost");
    node.start();
    let mut updater = node.updater(Runs::New);
    for ask in asks.iter().chain(&[FirmwareAsk::Abandon]) {
        assert_eq!(node.ask(&mut updater, ask), Err(Refusal::Unable));
    }
    let answer = updater.handle(&mut node.flash, &FirmwareAsk::Install).unwrap();
    assert_eq!((answer.state.phase, answer.restart), (FirmwarePhase::Trial, false), "it costs no start");
}

#[test]
fn an_installation_can_be_called_off_until_the_next_start() {
    let (mut node, _) = installed();
    let mut updater = node.updater(Runs::Old);
    assert_eq!(node.ask(&mut updater, &FirmwareAsk::Abandon).unwrap().phase, FirmwarePhase::Idle);
    assert_eq!(node.start(), (Slot::Usual, Runs::Old));
}

#[test]
fn updates_follow_each_other_over_many_pages_of_the_journal() {
    let bodies = [body(0xA5, 700), body(0x3C, 901)];
    let images = [image(BOARD, NEW, &bodies[0]), image(BOARD, NEW, &bodies[1])];
    let [old, new] = bodies;
    let mut node: Node<8, 256> = Node::new(old, new, 3);
    node.versions = (NEW, NEW);
    for round in 0..40 {
        let (image, runs) = if round % 2 == 0 { (&images[1], Runs::New) } else { (&images[0], Runs::Old) };
        assert_eq!(node.update(image, false, true), (Next::Done, runs), "round {round}");
    }
}
