//! Power cuts and lost writes, at every operation of a whole update.

use ganglion_drivers::update::Next;

use crate::node::{BOARD, NEW, Node, Runs, body, image};

/// As STM32L4: double words. Pages are smaller so that every operation can be tried.
type DoubleWords = Node<8, 256>;
/// As LM3S6965: words.
type Words = Node<4, 256>;

/// Bodies whose lengths are no multiple of anything, the new one longer or shorter than the old one.
fn nodes<const WORD: usize>(seed: u64) -> (Node<WORD, 256>, Vec<u8>) {
    let (old, new) = (body(0xA5, 700), body(0x3C, if seed.is_multiple_of(2) { 901 } else { 515 }));
    let image = image(BOARD, NEW, &new);
    (Node::new(old, new, seed), image)
}

/// How many operations the update has when nothing happens.
fn operations<const WORD: usize>(seed: u64) -> u64 {
    let (mut node, image) = nodes::<WORD>(seed);
    let before = node.flash.operations();
    assert_eq!(node.update(&image, false, true), (Next::Done, Runs::New));
    node.flash.operations() - before
}

fn cut_everywhere<const WORD: usize>(seed: u64) {
    let operations = operations::<WORD>(seed);
    assert!(operations > 300, "{operations} operations");
    for cut in 0..operations {
        let (mut node, image) = nodes::<WORD>(seed ^ cut << 8);
        node.flash.cut_at(cut);
        assert_eq!(node.update(&image, false, true), (Next::Done, Runs::New), "cut at {cut}");
    }
}

#[test]
fn an_update_cut_at_any_operation_ends_in_the_new_firmware() {
    for seed in 0..2 {
        cut_everywhere::<8>(seed);
        cut_everywhere::<4>(seed);
    }
}

#[test]
fn a_firmware_that_never_works_is_taken_back_whatever_the_power_does() {
    let (mut node, image) = nodes::<8>(0);
    let before = node.flash.operations();
    let (next, runs) = node.update(&image, false, false);
    assert!(matches!(next, Next::Failed(_)) && runs == Runs::Old, "{next:?}");
    let operations = node.flash.operations() - before;
    for cut in 0..operations {
        let (mut node, image): (DoubleWords, _) = nodes(cut << 8);
        node.flash.cut_at(cut);
        let (next, runs) = node.update(&image, false, false);
        assert!(matches!(next, Next::Failed(_)) && runs == Runs::Old, "cut at {cut}: {next:?}");
    }
}

#[test]
fn an_update_cut_again_and_again_ends_in_the_new_firmware() {
    let mut random = fastrand::Rng::with_seed(6);
    for round in 0..300 {
        let (mut node, image) = nodes::<8>(round << 8);
        // Each cut comes while the one before is being mended.
        let mut cuts: Vec<u64> = (0..6).map(|_| random.u64(1..300)).collect();
        let mut ended = false;
        while let Some(cut) = cuts.pop() {
            node.flash.cut_at(cut);
            ended = node.update(&image, false, true) == (Next::Done, Runs::New);
            assert!(ended, "round {round}");
        }
        assert!(ended);
    }
}

#[test]
fn a_write_that_the_flash_leaves_out_once_is_noticed_and_mended() {
    for drop in 0..operations::<4>(0) {
        let (mut node, image): (Words, _) = nodes(0);
        node.flash.drop_at(drop);
        assert_eq!(node.update(&image, false, true), (Next::Done, Runs::New), "left out: {drop}");
    }
}
