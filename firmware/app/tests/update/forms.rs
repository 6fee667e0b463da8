//! What lies in the flash, byte by byte. A bootloader stays what it was when the node was made, so these never change.

use embedded_storage::nor_flash::NorFlash;
use ganglion_drivers::update::{Next, UpdateError};
use ganglion_protocols::node_link::{FirmwareAsk, FirmwarePhase, ImageHeader, Refusal};

use crate::node::{BOARD, NEW, Node, Runs, SLOT, body, image};

fn node() -> Node<8, 256> {
    Node::new(body(0xA5, 700), body(0x3C, 901), 1)
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes).to_le_bytes()
}

#[test]
fn everything_lies_one_behind_the_other() {
    let layout = node().layout;
    assert_eq!(layout.backup(), layout.active() + SLOT);
    assert_eq!(layout.stage(), layout.backup() + SLOT);
    assert_eq!(layout.body(), layout.stage() + 256);
    assert_eq!(layout.journal(), layout.body() + SLOT);
    assert_eq!(layout.end(), layout.journal() + 512);
}

#[test]
fn a_layout_that_cannot_be_is_none() {
    use ganglion_node::update::Layout;
    assert!(Layout::new(2048, 0x8000, 0x1_0000).is_some(), "nucleo-l476rg");
    assert!(Layout::new(1024, 0x4000, 0x1_0000).is_some(), "lm3s6965evb");
    for (page, active, slot) in [(2000, 0, 4000), (128, 0, 1024), (2048, 1024, 2048), (2048, 0, 3000), (2048, 0, 0)] {
        assert!(Layout::new(page, active, slot).is_none(), "{page} {active} {slot}");
    }
    assert!(Layout::new(256, 0, 13 * 256).is_none(), "a page has twelve marks: one for the header, eleven for pages");
    assert!(Layout::new(256, 0, 11 * 256).is_some());
}

#[test]
fn an_order_to_install_is_a_cell_of_sixteen_bytes() {
    let mut node = node();
    let new = body(0x3C, 901);
    let image = image(BOARD, NEW, &new);
    let mut updater = node.updater(Runs::Old);
    node.ask(&mut updater, &FirmwareAsk::Begin { header: &image[..ImageHeader::LEN], downgrade: false }).unwrap();
    node.ask(&mut updater, &FirmwareAsk::Write { offset: 0, data: &image }).unwrap();
    node.ask(&mut updater, &FirmwareAsk::Install).unwrap();
    // Number 1, 901 bytes, step 1, CRC of the body.
    let mut cell = vec![1, 0, 0, 0, 0x85, 0x03, 0x00, 1];
    cell.extend(crc(&new));
    cell.extend(crc(&cell));
    assert_eq!(node.flash.content(node.layout.journal(), 16), cell);
    node.start();
    let steps: Vec<u8> = (0..4).map(|cell| node.flash.content(node.layout.journal() + 16 * cell + 7, 1)[0]).collect();
    assert_eq!(steps, [1, 2, 0x80, 0x81], "install, saved, trial not started, trial started once");
}

#[test]
fn a_mark_counts_for_the_header_it_was_made_for_only() {
    let image = image(BOARD, NEW, &body(0x3C, 901));
    let header = &image[..ImageHeader::LEN];
    for (of, next) in [(header, Some(160 + 512)), (&image[1..=ImageHeader::LEN], None)] {
        let mut node = node();
        let mut mark = vec![2, 0, 0xFD, 0xFF];
        mark.extend(crc(of));
        node.flash.write(node.layout.stage(), header).unwrap();
        // Behind a place that a torn mark used up.
        node.flash.write(node.layout.stage() + 168, &mark).unwrap();
        let found = match node.updater(Runs::Old).state().phase {
            FirmwarePhase::Receiving { next, .. } => Some(next),
            _ => None,
        };
        assert_eq!(found, next);
    }
}

#[test]
fn a_journal_page_that_is_worn_out_ends_updates_and_not_the_node() {
    let bodies = [body(0xA5, 700), body(0x3C, 901)];
    let images = [image(BOARD, NEW, &bodies[0]), image(BOARD, NEW, &bodies[1])];
    let [old, new] = bodies;
    let mut node: Node<8, 256> = Node::new(old, new, 3);
    node.versions = (NEW, NEW);
    node.flash.wear(node.layout.journal() + 256..node.layout.end());
    let mut runs = Runs::Old;
    for round in 0..10 {
        let image = if runs == Runs::Old { &images[1] } else { &images[0] };
        match node.update(image, false, true) {
            (Next::Done, now) => runs = now,
            (Next::Failed(UpdateError::Refused(Refusal::FlashFailed) | UpdateError::Stuck(_)), now) => {
                assert!(round > 1);
                assert_eq!((now, node.start().1), (runs, runs));
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("the worn page was never needed");
}
