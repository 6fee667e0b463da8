//! Images that must not be installed, and flash that cannot take one.

use ganglion_drivers::update::{MAX_CHUNK, Next, UpdateError};
use ganglion_node::update::Updater;
use ganglion_protocols::node_link::{FirmwareAsk, FirmwarePhase, ImageHeader, Refusal, Version};

use crate::flash::SimFlash;
use crate::node::{BOARD, NEW, Node, OLD, Runs, SLOT, body, image};

const OLDER: Version = Version { major: 1, minor: 2, patch: 2 };

fn node() -> (Node<8, 256>, Updater) {
    let mut node = Node::new(body(0xA5, 700), body(0x3C, 901), 1);
    let updater = node.updater(Runs::Old);
    (node, updater)
}

fn begin(image: &[u8]) -> FirmwareAsk<'_> {
    FirmwareAsk::Begin { header: &image[..ImageHeader::LEN], downgrade: false }
}

fn send(node: &mut Node<8, 256>, updater: &mut Updater, image: &[u8]) {
    node.ask(updater, &begin(image)).expect("it is taken");
    for (index, data) in image.chunks(MAX_CHUNK).enumerate() {
        let offset = (index * MAX_CHUNK) as u32;
        node.ask(updater, &FirmwareAsk::Write { offset, data }).expect("it is taken");
    }
}

#[test]
fn a_header_is_refused_for_what_is_wrong_with_it() {
    let (mut node, mut updater) = node();
    let body = body(0x3C, 901);
    let mut refused = |image: &[u8]| node.ask(&mut updater, &begin(image));
    assert_eq!(refused(&image("another", NEW, &body)), Err(Refusal::OtherBoard));
    assert_eq!(refused(&image(BOARD, OLDER, &body)), Err(Refusal::Older));
    assert_eq!(refused(&image(BOARD, NEW, &vec![1; SLOT as usize + 1])), Err(Refusal::TooLarge));
    assert_eq!(refused(&[0; ImageHeader::LEN]), Err(Refusal::BadHeader));
    assert!(refused(&image(BOARD, OLD, &body)).is_ok(), "the same version may be sent again");
}

#[test]
fn an_older_version_is_taken_with_the_flag_only() {
    let (old, older) = (body(0xA5, 700), body(0x3C, 901));
    let image = image(BOARD, OLDER, &older);
    let mut node: Node<8, 256> = Node::new(old, older, 1);
    node.versions = (OLD, OLDER);
    let refused = Next::Failed(UpdateError::Refused(Refusal::Older));
    assert_eq!(node.update(&image, false, true), (refused, Runs::Old));
    assert_eq!(node.update(&image, true, true), (Next::Done, Runs::New));
}

#[test]
fn an_image_that_is_not_as_it_was_signed_is_never_installed() {
    let good = image(BOARD, NEW, &body(0x3C, 901));
    // A byte of the digest, of the signature, of the version and of the body.
    for at in [40, 100, 26, ImageHeader::LEN + 400, good.len() - 1] {
        let mut image = good.clone();
        image[at] ^= 0x01;
        let (mut node, mut updater) = node();
        send(&mut node, &mut updater, &image);
        assert_eq!(node.ask(&mut updater, &FirmwareAsk::Install), Err(Refusal::BadSignature), "byte {at}");
        assert_eq!(updater.state().phase, FirmwarePhase::Idle);
        assert_eq!(node.start().1, Runs::Old);
        // The transfer begins anew, and the good one is taken.
        assert_eq!(node.update(&good, false, true), (Next::Done, Runs::New), "byte {at}");
    }
}

#[test]
fn a_body_that_rots_before_it_is_installed_is_not_installed() {
    let image = image(BOARD, NEW, &body(0x3C, 901));
    let (mut node, mut updater) = node();
    send(&mut node, &mut updater, &image);
    node.ask(&mut updater, &FirmwareAsk::Install).unwrap();
    node.flash.rot(node.layout.body() + 300);
    assert_eq!(node.start().1, Runs::Old);
    assert_eq!(node.updater(Runs::Old).state().phase, FirmwarePhase::RolledBack);
}

#[test]
fn a_hole_is_refused_and_bytes_that_are_there_are_no_harm() {
    let image = image(BOARD, NEW, &body(0x3C, 901));
    let (mut node, mut updater) = node();
    let write = |offset: usize, length: usize| FirmwareAsk::Write {
        offset: offset as u32,
        data: &image[offset..offset + length],
    };
    assert_eq!(node.ask(&mut updater, &write(160, 10)), Err(Refusal::Hole), "nothing was begun");
    node.ask(&mut updater, &begin(&image)).unwrap();
    let mut next = |ask| node.ask(&mut updater, &ask).map(|state| state.phase);
    let at = |next| Ok(FirmwarePhase::Receiving { version: NEW, next, size: image.len() as u32 });
    assert_eq!(next(write(0, 100)), at(160), "the header is there");
    assert_eq!(next(write(100, 63)), at(163));
    assert_eq!(next(write(164, 10)), Err(Refusal::Hole));
    assert_eq!(next(write(150, 50)), at(200));
    assert_eq!(next(write(165, 7)), at(200));
    assert_eq!(next(FirmwareAsk::Install), Err(Refusal::Incomplete));
    let beyond = FirmwareAsk::Write { offset: 200, data: &vec![0; image.len() - 199] };
    assert_eq!(next(beyond), Err(Refusal::TooLarge));
    assert_eq!(next(FirmwareAsk::Write { offset: u32::MAX, data: &[1, 2] }), Err(Refusal::TooLarge));
    assert_eq!(next(FirmwareAsk::Abandon), Ok(FirmwarePhase::Idle));
}

#[test]
fn a_transfer_goes_on_after_a_reset_where_the_last_whole_page_ended() {
    let image = image(BOARD, NEW, &body(0x3C, 901));
    let (mut node, mut updater) = node();
    node.ask(&mut updater, &begin(&image)).unwrap();
    node.ask(&mut updater, &FirmwareAsk::Write { offset: 160, data: &image[160..160 + 600] }).unwrap();
    let mut updater = node.updater(Runs::Old);
    let size = image.len() as u32;
    let there = FirmwarePhase::Receiving { version: NEW, next: 160 + 512, size };
    assert_eq!(updater.state().phase, there);
    assert_eq!(node.ask(&mut updater, &begin(&image)).unwrap().phase, there, "the same image goes on");
    let other = crate::node::image(BOARD, NEW, &body(0x11, 901));
    let anew = FirmwarePhase::Receiving { version: NEW, next: 160, size };
    assert_eq!(node.ask(&mut updater, &begin(&other)).unwrap().phase, anew, "another one begins");
    assert_eq!(node.ask(&mut updater, &begin(&image)).unwrap().phase, anew);
}

#[test]
fn a_flash_that_takes_nothing_and_does_not_say_so_is_found_out_at_once() {
    let image = image(BOARD, NEW, &body(0x3C, 901));
    let (mut node, _) = node();
    node.flash = SimFlash::that_takes_nothing(node.layout.end() as usize);
    let mut updater = node.updater(Runs::Old);
    assert_eq!(updater.state().phase, FirmwarePhase::Idle);
    assert_eq!(node.ask(&mut updater, &begin(&image)), Err(Refusal::FlashFailed));
    let slot = ganglion_node::update::boot::prepare(&mut node.flash, &node.layout);
    assert_eq!(slot, ganglion_node::update::boot::Slot::Usual);
}
