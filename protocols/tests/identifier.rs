//! City resource identifiers, from outside.

use std::collections::HashSet;

use ganglion_protocols::{Class, Cri, CriError, Division, Serial};
use proptest::prelude::*;

/// Text and sixteen digits, check digits by ISO/IEC 7064 MOD 97-10 worked out apart from this crate.
const EXAMPLES: [(&str, u64); 6] = [
    ("330502-0103-000123-33", 3_305_020_103_000_123),
    ("620602-9101-000007-05", 6_206_029_101_000_007),
    ("330902-0310-000004-95", 3_309_020_310_000_004),
    ("330502-9101-000001-31", 3_305_029_101_000_001),
    ("110000-0101-000000-62", 1_100_000_101_000_000),
    ("919999-9999-999999-23", 9_199_999_999_999_999),
];

fn parse(text: &str) -> Result<Cri, CriError> {
    text.parse()
}

prop_compose! {
    fn any_cri()(
        division in 110_000_u32..=919_999,
        major in 1_u16..=99,
        minor in 1_u16..=99,
        serial in 0_u32..=999_999,
    ) -> Cri {
        Cri::new(
            Division::new(division).expect("in range"),
            Class::new(major * 100 + minor).expect("in range"),
            Serial::new(serial).expect("in range"),
        )
    }
}

#[test]
fn the_examples_have_their_text_and_their_digits() {
    for (text, digits) in EXAMPLES {
        let cri = parse(text).expect(text);
        assert_eq!(cri.to_bits(), digits);
        assert_eq!(cri.to_string(), text);
        assert_eq!(format!("{cri:?}"), text);
        assert_eq!(serde_json::to_value(cri).expect("a text"), text);
        assert_eq!(Cri::from_bits(digits), Ok(cri));
    }
}

#[test]
fn the_parts_of_an_identifier_are_its_digits() {
    let cri = parse("620602-9101-000007-05").expect("valid");
    assert_eq!(cri.division().code(), 620_602);
    assert_eq!((cri.class().code(), cri.class().major()), (9101, 91));
    assert_eq!(cri.serial().number(), 7);
    assert_eq!(cri.check_digits(), 5);
}

#[test]
fn hyphens_spaces_and_the_uri_form_are_accepted_and_the_output_is_canonical() {
    for text in [
        "620602910100000705",
        "620602 9101 000007 05",
        " 62-06-02-91-01-00-00-07-05 ",
        "cri:620602-9101-000007-05",
        "cri:620602910100000705",
    ] {
        assert_eq!(parse(text).expect(text).to_string(), "620602-9101-000007-05");
    }
}

#[test]
fn an_error_names_the_part_that_is_wrong() {
    for (text, error, message) in [
        ("", CriError::Length { digits: 0, expected: 18 }, "0 digits, 18 are needed"),
        ("620602-9101-000007", CriError::Length { digits: 16, expected: 18 }, "16 digits, 18 are needed"),
        ("620602-9101-000007-051", CriError::Length { digits: 19, expected: 18 }, "more than 18 digits"),
        (
            "620602-9101-00000x-05",
            CriError::Character { got: 'x', at: 17 },
            "character 'x' at 17 is not a digit, a hyphen or a space",
        ),
        (
            "620602–9101-000007-05",
            CriError::Character { got: '–', at: 6 },
            "character '–' at 6 is not a digit, a hyphen or a space",
        ),
        (
            "CRI:620602-9101-000007-05",
            CriError::Character { got: 'C', at: 0 },
            "character 'C' at 0 is not a digit, a hyphen or a space",
        ),
        (
            "６20602-9101-000007-05",
            CriError::Character { got: '６', at: 0 },
            "character '６' at 0 is not a digit, a hyphen or a space",
        ),
        (
            "090602-9101-000007-05",
            CriError::Division { got: 90_602 },
            "division 090602 is outside 110000..=919999 (GB/T 2260)",
        ),
        (
            "920602-9101-000007-05",
            CriError::Division { got: 920_602 },
            "division 920602 is outside 110000..=919999 (GB/T 2260)",
        ),
        ("620602-0001-000007-05", CriError::Class { got: 1 }, "class 0001 has a major or minor of 00"),
        ("620602-9100-000007-05", CriError::Class { got: 9100 }, "class 9100 has a major or minor of 00"),
        (
            "620602-9101-000007-06",
            CriError::CheckDigits { got: 6, code: 6_206_029_101_000_007 },
            "check digits 06 do not belong to 6206029101000007: at least one digit is wrong",
        ),
    ] {
        assert_eq!(parse(text), Err(error), "{text}");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn check_digits_that_differ_by_97_are_refused_too() {
    // 02 and 99 leave the same remainder modulo 97; only 02..=98 are check digits.
    let with_02 = (0..1_000_000)
        .map(|serial| Cri::from_bits(6_206_029_101_000_000 + serial).expect("valid"))
        .find(|cri| cri.check_digits() == 2)
        .expect("one of 97 has it");
    let twin = format!("{:016}99", with_02.to_bits());
    assert_eq!(parse(&twin), Err(CriError::CheckDigits { got: 99, code: with_02.to_bits() }));
}

#[test]
fn parts_hold_only_what_they_can() {
    assert_eq!(Division::new(109_999), Err(CriError::Division { got: 109_999 }));
    assert_eq!(Division::new(920_000), Err(CriError::Division { got: 920_000 }));
    assert_eq!(Class::new(99), Err(CriError::Class { got: 99 }));
    assert_eq!(Class::new(100), Err(CriError::Class { got: 100 }));
    assert_eq!(Class::new(10_001), Err(CriError::Class { got: 10_001 }));
    assert_eq!(Serial::new(1_000_000), Err(CriError::Serial { got: 1_000_000 }));
    assert_eq!(CriError::Serial { got: 1_000_000 }.to_string(), "serial 1000000 is above 999999");
}

#[test]
fn a_number_beyond_sixteen_digits_or_in_another_namespace_is_refused() {
    assert_eq!(Cri::from_bits(10_000_000_000_000_000), Err(CriError::Code { got: 10_000_000_000_000_000 }));
    assert_eq!(Cri::from_bits((1 << 54) - 1), Err(CriError::Code { got: (1 << 54) - 1 }));
    assert_eq!(Cri::from_bits(1 << 54), Err(CriError::Namespace { got: 1 }));
    assert_eq!(Cri::from_bits(u64::MAX), Err(CriError::Namespace { got: 1023 }));
    assert_eq!(Cri::from_bits(0), Err(CriError::Division { got: 0 }));
    assert_eq!(CriError::Namespace { got: 1 }.to_string(), "namespace 1 is not assigned, only 0 is");
    assert_eq!(CriError::Code { got: 12 }.to_string(), "12 has more than 16 digits");
}

#[test]
fn published_part_codes_are_taken_and_codes_of_other_schemes_are_not() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("vectors/identifier.json")).expect("the vectors are JSON");
    let (mut taken, mut refused) = (0, 0);
    for vector in vectors.as_array().expect("an array") {
        let text = vector["ascii"].as_str().expect("a text");
        let outcome = Cri::from_part_code(text);
        let decoded = &vector["decoded"];
        if decoded["scheme"] == "GB/T 30428.2 part code" {
            let cri = outcome.expect(text);
            let digits = ["division", "major", "minor", "serial"].map(|part| decoded[part].as_str().expect("digits"));
            assert_eq!(digits.concat(), format!("{}{}{}", cri.division(), cri.class(), cri.serial()));
            // With check digits it is an identifier; without, a person's text is not.
            assert_eq!(parse(&cri.to_string()), Ok(cri));
            assert_eq!(parse(text), Err(CriError::Length { digits: 16, expected: 18 }));
            taken += 1;
        } else {
            assert!(outcome.is_err(), "{text} is no part code, yet {outcome:?}");
            refused += 1;
        }
    }
    assert!(taken >= 1 && refused >= 4, "{taken} taken, {refused} refused");
}

proptest! {
    #[test]
    fn text_and_number_lead_back_to_the_identifier(cri in any_cri()) {
        let text = cri.to_string();
        prop_assert_eq!(text.len(), Cri::TEXT_LEN);
        prop_assert_eq!(parse(&text), Ok(cri));
        prop_assert_eq!(parse(&text.replace('-', "")), Ok(cri));
        prop_assert_eq!(parse(&format!("cri:{text}")), Ok(cri));
        prop_assert_eq!(Cri::from_bits(cri.to_bits()), Ok(cri));
        prop_assert_eq!(Cri::from_part_code(&format!("{:016}", cri.to_bits())), Ok(cri));
        prop_assert_eq!(Cri::new(cri.division(), cri.class(), cri.serial()), cri);
    }

    #[test]
    fn eighteen_digits_leave_remainder_1_modulo_97(cri in any_cri()) {
        let all: u64 = cri.to_string().replace('-', "").parse().expect("eighteen digits");
        prop_assert_eq!(all % 97, 1);
    }

    #[test]
    fn every_wrong_digit_is_refused(cri in any_cri()) {
        let digits = cri.to_string().replace('-', "").into_bytes();
        for place in 0..digits.len() {
            for digit in (b'0'..=b'9').filter(|digit| *digit != digits[place]) {
                let mut wrong = digits.clone();
                wrong[place] = digit;
                let wrong = String::from_utf8(wrong).expect("digits");
                prop_assert!(parse(&wrong).is_err(), "{} is taken for {}", wrong, cri);
            }
        }
    }

    #[test]
    fn every_swap_of_two_neighbours_is_refused(cri in any_cri()) {
        let digits = cri.to_string().replace('-', "").into_bytes();
        for place in 1..digits.len() {
            let mut wrong = digits.clone();
            wrong.swap(place - 1, place);
            if wrong != digits {
                let wrong = String::from_utf8(wrong).expect("digits");
                prop_assert!(parse(&wrong).is_err(), "{} is taken for {}", wrong, cri);
            }
        }
    }

    #[test]
    fn identifiers_are_ordered_by_place_class_and_serial(a in any_cri(), b in any_cri()) {
        let parts = |cri: Cri| (cri.division(), cri.class(), cri.serial());
        prop_assert_eq!(a.cmp(&b), parts(a).cmp(&parts(b)));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(HashSet::from([a, b]).len(), if a == b { 1 } else { 2 });
    }

    #[test]
    fn any_text_is_an_identifier_or_an_error(text in "(cri:)?[0-9 -]{0,24}|\\PC{0,30}") {
        if let Ok(cri) = parse(&text) {
            prop_assert_eq!(parse(&cri.to_string()), Ok(cri));
        }
    }

    #[test]
    fn any_number_is_an_identifier_or_an_error(bits in prop_oneof![any::<u64>(), 0..10_000_000_000_000_000_u64]) {
        if let Ok(cri) = Cri::from_bits(bits) {
            prop_assert_eq!(cri.to_bits(), bits);
            prop_assert_eq!(parse(&cri.to_string()), Ok(cri));
        }
    }
}
