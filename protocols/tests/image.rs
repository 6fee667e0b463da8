//! The header of an image file, byte by byte.

use ganglion_protocols::node_link::{BoardName, BodySize, ImageError, ImageHeader, Version};
use proptest::prelude::*;

fn header() -> ImageHeader {
    ImageHeader {
        board: BoardName::new("nucleo-l476rg").expect("valid"),
        version: Version { major: 1, minor: 2, patch: 0x0304 },
        size: BodySize::try_from(0x0001_0203).expect("valid"),
        digest: [0xD1; 64],
        signature: [0x51; 64],
    }
}

/// Typed from the table at the top of `image.rs`.
fn golden() -> Vec<u8> {
    let mut bytes = b"GNIM\x01\x00\xA0\x00nucleo-l476rg\x00\x00\x00\x01\x02\x04\x03\x03\x02\x01\x00".to_vec();
    bytes.extend([0xD1; 64]);
    bytes.extend([0x51; 64]);
    bytes
}

#[test]
fn a_header_has_these_bytes() {
    assert_eq!(header().emit().as_slice(), golden());
    assert_eq!(header().signed_part().as_slice(), &golden()[..ImageHeader::SIGNED_LEN]);
    assert_eq!(ImageHeader::parse(&golden()), Ok(header()));
}

#[test]
fn every_defect_of_a_header_is_told_with_its_value() {
    let with = |at: usize, byte: u8| {
        let mut bytes = golden();
        bytes[at] = byte;
        ImageHeader::parse(&bytes)
    };
    assert_eq!(with(0, b'g'), Err(ImageError::Magic(*b"gNIM")));
    assert_eq!(with(4, 2), Err(ImageError::HeaderVersion(2)));
    assert_eq!(with(6, 0xA1), Err(ImageError::HeaderLength(0xA1)));
    assert_eq!(with(8, 0x80), Err(ImageError::Board(0x80)));
    assert_eq!(with(9, b' '), Err(ImageError::Board(b' ')));
    assert_eq!(with(8, 0), Err(ImageError::Board(b'u')), "text behind the end of the name");
    assert_eq!(with(31, 1), Err(ImageError::Size(0x0101_0203)));
    let mut empty = golden();
    empty[28..32].fill(0);
    assert_eq!(ImageHeader::parse(&empty), Err(ImageError::Size(0)));
    for length in 8..ImageHeader::LEN {
        assert!(ImageHeader::parse(&golden()[..length]).is_err(), "{length} bytes");
    }
    let mut long = golden();
    long.push(0);
    assert_eq!(ImageHeader::parse(&long), Err(ImageError::Length(161)));
    assert_eq!(ImageHeader::parse(&golden()[..100]), Err(ImageError::Length(100)));
}

#[test]
fn a_file_whose_body_is_cut_is_none() {
    let mut file = golden();
    file.extend(vec![7; 0x0001_0203]);
    let (found, body) = ImageHeader::split(&file).unwrap();
    assert_eq!((found, body.len()), (header(), 0x0001_0203));
    file.pop();
    assert_eq!(ImageHeader::split(&file), Err(ImageError::Body { expected: 0x0001_0203, got: 0x0001_0202 }));
    assert_eq!(ImageHeader::split(&file[..9]), Err(ImageError::Length(9)));
}

#[test]
fn a_board_has_a_name_of_one_to_sixteen_visible_characters() {
    assert_eq!(BoardName::new("sixteen-letters!").unwrap().as_str(), "sixteen-letters!");
    assert_eq!(BoardName::new("seventeen-letters"), Err(ImageError::Board(0)));
    assert_eq!(BoardName::new(""), Err(ImageError::Board(0)));
    assert_eq!(BoardName::new("a b"), Err(ImageError::Board(b' ')));
}

proptest! {
    #[test]
    fn any_header_is_what_its_bytes_say(
        name in "[!-~]{1,16}", major: u8, minor: u8, patch: u16, size in 1..=BodySize::MAX, digest: [u8; 32], signature: [u8; 32],
    ) {
        let both = |half: [u8; 32]| { let mut whole = [0; 64]; whole[..32].copy_from_slice(&half); whole };
        let header = ImageHeader {
            board: BoardName::new(&name).unwrap(),
            version: Version { major, minor, patch },
            size: BodySize::try_from(size).unwrap(),
            digest: both(digest),
            signature: both(signature),
        };
        prop_assert_eq!(ImageHeader::parse(&header.emit()), Ok(header));
        prop_assert_eq!(header.board.as_str(), name);
    }

    #[test]
    fn bytes_that_parse_are_the_bytes_that_are_emitted(at in 0..ImageHeader::LEN, byte: u8) {
        let mut bytes = golden();
        bytes[at] = byte;
        if let Ok(header) = ImageHeader::parse(&bytes) {
            prop_assert_eq!(header.emit().to_vec(), bytes);
        }
    }
}
