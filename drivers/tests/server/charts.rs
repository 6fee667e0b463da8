//! The charts of Application Protocol V1.1b3 §6: which exception, and which first when several apply.

use super::device::{BROKEN, BUSY, CHOOSY, Talk, UNIT, frame};

const FUNCTION: u8 = 1;
const ADDRESS: u8 = 2;
const VALUE: u8 = 3;
const FAILURE: u8 = 4;
const IS_BUSY: u8 = 6;

/// Returns function, words and bytes behind one another.
fn pdu(function: u8, words: &[u16], bytes: &[u8]) -> Vec<u8> {
    let mut pdu = vec![function];
    words.iter().for_each(|word| pdu.extend(word.to_be_bytes()));
    pdu.extend(bytes);
    pdu
}

#[test]
fn reads_ask_function_then_quantity_then_address() {
    for (function, most) in [(0x01, 2000), (0x02, 2000), (0x03, 125), (0x04, 125)] {
        let mut talk = Talk::new();
        // Figures 11 to 14. A quantity that is wrong outweighs an address that is.
        for quantity in [0, most + 1, 0xFFFF] {
            talk.refused(&pdu(function, &[0, quantity], &[]), VALUE);
            talk.refused(&pdu(function, &[0xFFFF, quantity], &[]), VALUE);
        }
        for (address, quantity) in [(0x200, 1), (0x1FF, 2), (0xFFFF, 1), (0xFFFF, 2), (0xFFFF, most)] {
            talk.refused(&pdu(function, &[address, quantity], &[]), ADDRESS);
        }
        for wrong in [&[][..], &[0], &[0, 0], &[0, 0, 0], &[0, 0, 0, 1, 0]] {
            talk.refused(&pdu(function, &[], wrong), VALUE);
        }
        let size = if most == 125 { 2 } else { 256 };
        assert_eq!(talk.ask(&pdu(function, &[0x1FF, 1], &[])).len(), if size == 2 { 4 } else { 3 });
        talk.device.without.push(function);
        for request in [pdu(function, &[0, 1], &[]), pdu(function, &[0, 0], &[]), vec![function]] {
            talk.refused(&request, FUNCTION);
        }
    }
}

#[test]
fn the_longest_reads_fit() {
    let mut talk = Talk::new();
    talk.device.coils = vec![true; 2000];
    let answer = talk.ask(&pdu(0x01, &[0, 2000], &[]));
    assert_eq!((answer.len(), &answer[..2], answer[251]), (252, &[0x01, 250][..], 0xFF));
    assert_eq!(talk.ask(&pdu(0x03, &[0, 125], &[])).len(), 252);
}

#[test]
fn a_single_coil_asks_value_then_address_then_does_it() {
    let mut talk = Talk::new();
    for value in [0x0001, 0x00FF, 0xFF01, 0xFFFF] {
        talk.refused(&pdu(0x05, &[0, value], &[]), VALUE);
        talk.refused(&pdu(0x05, &[0x200, value], &[]), VALUE);
    }
    talk.refused(&pdu(0x05, &[0x200, 0xFF00], &[]), ADDRESS);
    talk.refused(&pdu(0x05, &[BUSY, 0xFF00], &[]), IS_BUSY);
    talk.refused(&pdu(0x05, &[BROKEN, 0xFF00], &[]), FAILURE);
    talk.refused(&pdu(0x05, &[0], &[]), VALUE);
    for on in [true, false] {
        let request = pdu(0x05, &[7, if on { 0xFF00 } else { 0 }], &[]);
        assert_eq!(talk.ask(&request), request);
        assert_eq!(talk.device.coils[7], on);
    }
    talk.device.without.push(0x05);
    talk.refused(&pdu(0x05, &[0, 1], &[]), FUNCTION);
}

#[test]
fn a_single_register_asks_value_and_address_then_does_it() {
    let mut talk = Talk::new();
    talk.refused(&pdu(0x06, &[CHOOSY, 101], &[]), VALUE);
    talk.refused(&pdu(0x06, &[0x200, 1], &[]), ADDRESS);
    talk.refused(&pdu(0x06, &[BUSY, 1], &[]), IS_BUSY);
    talk.refused(&pdu(0x06, &[BROKEN, 1], &[]), FAILURE);
    talk.refused(&pdu(0x06, &[0, 1], &[0]), VALUE);
    let request = pdu(0x06, &[CHOOSY, 100], &[]);
    assert_eq!(talk.ask(&request), request);
    assert_eq!(talk.device.holding[usize::from(CHOOSY)], 100);
    talk.device.without.push(0x06);
    talk.refused(&[0x06], FUNCTION);
}

#[test]
fn several_coils_ask_quantity_and_byte_count_then_address_then_do_it() {
    let mut talk = Talk::new();
    for address in [0, 0x200, 0xFFFF] {
        for (quantity, bytes) in
            [(0, &[0][..]), (1969, &[1, 0]), (9, &[1, 0]), (8, &[2, 0, 0]), (8, &[1]), (8, &[1, 0, 0])]
        {
            talk.refused(&pdu(0x0F, &[address, quantity], bytes), VALUE);
        }
    }
    talk.refused(&pdu(0x0F, &[0x1FF, 2], &[1, 3]), ADDRESS);
    talk.refused(&pdu(0x0F, &[0xFFFF, 2], &[1, 3]), ADDRESS);
    talk.refused(&pdu(0x0F, &[CHOOSY - 4, 5], &[1, 0x1F]), VALUE);
    talk.refused(&pdu(0x0F, &[BUSY, 1], &[1, 0]), IS_BUSY);
    talk.refused(&pdu(0x0F, &[BROKEN, 1], &[1, 0]), FAILURE);
    talk.refused(&pdu(0x0F, &[0], &[0]), VALUE);
    // The padding means nothing.
    assert_eq!(talk.ask(&pdu(0x0F, &[8, 3], &[1, 0xFD])), pdu(0x0F, &[8, 3], &[]));
    assert_eq!(talk.device.coils[8..11], [true, false, true]);
    talk.device.without.push(0x0F);
    talk.refused(&pdu(0x0F, &[0, 0], &[]), FUNCTION);
}

#[test]
fn several_registers_ask_quantity_and_byte_count_then_address_then_do_it() {
    let mut talk = Talk::new();
    for address in [0, 0x200, 0xFFFF] {
        for (quantity, bytes) in
            [(0, &[0][..]), (124, &[2, 0, 0]), (2, &[2, 0, 0]), (2, &[4, 0, 0]), (2, &[3, 0, 0, 0])]
        {
            talk.refused(&pdu(0x10, &[address, quantity], bytes), VALUE);
        }
    }
    talk.refused(&pdu(0x10, &[0x1FF, 2], &[4, 0, 0, 0, 0]), ADDRESS);
    talk.refused(&pdu(0x10, &[0xFFFF, 2], &[4, 0, 0, 0, 0]), ADDRESS);
    // The first register would take its value; nothing is written.
    talk.refused(&pdu(0x10, &[CHOOSY - 1, 2], &[4, 0, 1, 0, 101]), VALUE);
    talk.refused(&pdu(0x10, &[BUSY, 1], &[2, 0, 1]), IS_BUSY);
    talk.refused(&pdu(0x10, &[BROKEN, 1], &[2, 0, 1]), FAILURE);
    assert_eq!(talk.ask(&pdu(0x10, &[4, 2], &[4, 0, 1, 2, 3])), pdu(0x10, &[4, 2], &[]));
    assert_eq!(talk.device.holding[4..6], [0x0001, 0x0203]);
    let most = pdu(0x10, &[0x100, 123], &[&[246][..], &[9; 246]].concat());
    assert_eq!(talk.ask(&most), pdu(0x10, &[0x100, 123], &[]));
    talk.device.without.push(0x10);
    talk.refused(&pdu(0x10, &[0, 0], &[]), FUNCTION);
}

#[test]
fn a_mask_asks_address_then_masks_then_does_it() {
    let mut talk = Talk::new();
    talk.refused(&pdu(0x16, &[0x200, 0, 0xFFFF], &[]), ADDRESS);
    talk.refused(&pdu(0x16, &[CHOOSY, 0, 101], &[]), VALUE);
    talk.refused(&pdu(0x16, &[BUSY, 0, 1], &[]), IS_BUSY);
    talk.refused(&pdu(0x16, &[BROKEN, 0, 1], &[]), FAILURE);
    talk.refused(&pdu(0x16, &[4, 0], &[]), VALUE);
    // §6.16: 0x12 with and-mask F2 and or-mask 25 becomes 0x17.
    talk.device.holding[4] = 0x12;
    let request = pdu(0x16, &[4, 0xF2, 0x25], &[]);
    assert_eq!(talk.ask(&request), request);
    assert_eq!(talk.device.holding[4], 0x17);
    talk.device.without.push(0x16);
    talk.refused(&[0x16], FUNCTION);
}

#[test]
fn a_read_with_a_write_asks_quantities_then_both_addresses_then_writes_before_it_reads() {
    let mut talk = Talk::new();
    for address in [0, 0x200, 0xFFFF] {
        for (read, written) in [(0, 1), (126, 1), (1, 0), (1, 122), (1, 2), (2, 2)] {
            talk.refused(&pdu(0x17, &[address, read, address, written], &[2, 0, 1]), VALUE);
        }
    }
    talk.refused(&pdu(0x17, &[0xFFFF, 2, 0, 122], &[&[244][..], &[0; 240]].concat()), VALUE);
    talk.refused(&pdu(0x17, &[0x200, 1, 0, 1], &[2, 0, 1]), ADDRESS);
    talk.refused(&pdu(0x17, &[0xFFFF, 2, 0, 1], &[2, 0, 1]), ADDRESS);
    talk.refused(&pdu(0x17, &[0, 1, 0x200, 1], &[2, 0, 1]), ADDRESS);
    talk.refused(&pdu(0x17, &[0, 1, 0xFFFF, 2], &[4, 0, 1, 0, 1]), ADDRESS);
    talk.refused(&pdu(0x17, &[0, 1, BUSY, 1], &[2, 0, 1]), IS_BUSY);
    talk.refused(&pdu(0x17, &[0, 1, BROKEN, 1], &[2, 0, 1]), FAILURE);
    talk.device.holding[9] = 7;
    assert_eq!(talk.ask(&pdu(0x17, &[8, 2, 8, 1], &[2, 0xAB, 0xCD])), [0x17, 4, 0xAB, 0xCD, 0, 7]);
    talk.device.without.push(0x17);
    talk.refused(&[0x17], FUNCTION);
}

#[test]
fn a_file_read_asks_byte_count_then_each_group() {
    let mut talk = Talk::new();
    let group = |reference, words: [u16; 3]| pdu(reference, &words, &[]);
    let ask = |groups: &[Vec<u8>]| {
        let groups = groups.concat();
        pdu(0x14, &[], &[&[u8::try_from(groups.len()).unwrap()][..], &groups].concat())
    };
    let good = group(6, [1, 3, 2]);
    // Figure 24; the byte count outweighs a group that is wrong.
    talk.refused(&[0x14, 0], VALUE);
    talk.refused(&[0x14, 6, 5, 0, 0, 0, 0, 0], VALUE);
    talk.refused(&[&[0x14, 8][..], &group(5, [0, 0, 1]), &[0]].concat(), VALUE);
    talk.refused(&ask(&vec![good.clone(); 35])[..240], VALUE);
    for wrong in [
        group(5, [1, 0, 1]),
        group(6, [0, 0, 1]),
        group(6, [3, 0, 1]),
        group(6, [1, 10_000, 1]),
        group(6, [1, 9_999, 2]),
        group(6, [0xFFFF, 0, 1]),
    ] {
        talk.refused(&ask(std::slice::from_ref(&wrong)), ADDRESS);
        talk.refused(&ask(&[good.clone(), wrong]), ADDRESS);
    }
    // The chart is silent about an answer that does not fit; it is a quantity.
    talk.refused(&ask(&[group(6, [1, 0, 0])]), VALUE);
    talk.refused(&ask(&[group(6, [1, 0, 122])]), VALUE);
    talk.refused(&ask(&[group(6, [1, 0, 60]), group(6, [1, 0, 61])]), VALUE);
    assert_eq!(talk.ask(&ask(&[group(6, [1, 0, 121])])).len(), 2 + 244);
    let answer = talk.ask(&ask(&[good, group(6, [2, 9_999, 1])]));
    let (first, last) = (&talk.device.files[6..10], &talk.device.files[39_998..]);
    assert_eq!(answer, [&[0x14, 10, 5, 6][..], first, &[3, 6], last].concat());
    talk.device.without.push(0x14);
    talk.refused(&[0x14], FUNCTION);
}

#[test]
fn a_file_write_asks_byte_count_then_each_group_then_writes_them_all() {
    let mut talk = Talk::new();
    let group = |reference, words: [u16; 3], data: &[u8]| pdu(reference, &words, data);
    let ask = |groups: &[Vec<u8>]| {
        let groups = groups.concat();
        pdu(0x15, &[], &[&[u8::try_from(groups.len()).unwrap()][..], &groups].concat())
    };
    let good = group(6, [1, 3, 1], &[0xAA, 0xBB]);
    talk.refused(&[0x15, 0], VALUE);
    talk.refused(&ask(&[group(6, [1, 0, 1], &[])]), VALUE);
    talk.refused(&ask(std::slice::from_ref(&good))[..8], VALUE);
    for wrong in [
        group(5, [1, 0, 1], &[0, 0]),
        group(6, [0, 0, 1], &[0, 0]),
        group(6, [3, 0, 1], &[0, 0]),
        group(6, [1, 10_000, 1], &[0, 0]),
        group(6, [1, 9_999, 2], &[0, 0, 0, 0]),
    ] {
        talk.refused(&ask(std::slice::from_ref(&wrong)), ADDRESS);
        talk.refused(&ask(&[good.clone(), wrong]), ADDRESS);
    }
    let request = ask(&[good, group(6, [2, 9_999, 1], &[0xCC, 0xDD])]);
    assert_eq!(talk.ask(&request), request);
    assert_eq!((&talk.device.files[6..8], &talk.device.files[39_998..]), (&[0xAA, 0xBB][..], &[0xCC, 0xDD][..]));
    talk.device.without.push(0x15);
    talk.refused(&[0x15], FUNCTION);
}

#[test]
fn functions_that_the_server_has_not_are_refused_whatever_follows() {
    let mut talk = Talk::new();
    for function in 1..0x80 {
        if matches!(function, 0x01..=0x08 | 0x0B | 0x0C | 0x0F..=0x11 | 0x14..=0x17 | 0x2B) {
            continue;
        }
        talk.refused(&[function], FUNCTION);
        talk.refused(&[function, 0, 0, 0, 1], FUNCTION);
    }
    // The encapsulated type belongs to the function.
    talk.refused(&[0x2B, 0x0D, 1, 2], FUNCTION);
}

#[test]
fn what_is_no_request_to_this_unit_is_not_answered_and_changes_nothing() {
    let mut talk = Talk::new();
    let before = talk.device.clone();
    let write = pdu(0x06, &[4, 0xBEEF], &[]);
    for function in std::iter::once(0).chain(0x80..=0xFF) {
        assert_eq!(talk.send(UNIT.0, &[function, 0, 0, 0, 1]), None, "an echo of an exception is no request");
    }
    assert_eq!(talk.send(18, &write), None);
    for damaged in 0..64 {
        let mut frame = frame(UNIT.0, &write);
        frame[damaged / 8] ^= 1 << (damaged % 8);
        assert_eq!(talk.frame(&frame), None);
    }
    for end in 0..8 {
        assert_eq!(talk.frame(&frame(UNIT.0, &write)[..end]), None);
    }
    assert!(talk.device == before);
}

#[test]
fn a_broadcast_write_is_done_and_not_answered_and_a_broadcast_read_is_not_even_done() {
    let mut talk = Talk::new();
    assert_eq!(talk.send(0, &pdu(0x06, &[4, 0xBEEF], &[])), None);
    assert_eq!(talk.device.holding[4], 0xBEEF);
    assert_eq!(talk.send(0, &pdu(0x10, &[5, 1], &[2, 0xCA, 0xFE])), None);
    assert_eq!(talk.device.holding[5], 0xCAFE);
    assert_eq!(talk.send(0, &pdu(0x05, &[4, 0xFF00], &[])), None);
    assert_eq!(talk.send(0, &pdu(0x0F, &[5, 1], &[1, 1])), None);
    assert_eq!(talk.device.coils[4..6], [true, true]);
    let before = talk.device.clone();
    for request in [
        pdu(0x03, &[0, 1], &[]),
        pdu(0x17, &[0, 1, 4, 1], &[2, 0, 0]),
        pdu(0x08, &[4, 0], &[]),
        pdu(0x06, &[0x200, 0], &[]),
    ] {
        assert_eq!(talk.send(0, &request), None);
    }
    assert!(talk.device == before && !talk.server.listens_only());
}
