//! City resource identifiers, as text and as a number.

use ganglion_protocols::Cri;

/// An identifier that is read is written with the same digits, and its number is read as the same identifier.
pub(crate) fn run(bytes: &[u8]) {
    if let Some(number) = bytes.first_chunk::<8>()
        && let Ok(cri) = Cri::from_bits(u64::from_le_bytes(*number))
    {
        assert_eq!(cri.to_bits(), u64::from_le_bytes(*number));
        whole(cri);
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    match text.parse::<Cri>() {
        Ok(cri) => {
            let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
            assert_eq!(digits(&cri.to_string()), digits(text));
            whole(cri);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match Cri::from_part_code(text) {
        Ok(cri) => whole(cri),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn whole(cri: Cri) {
    assert_eq!(cri.to_string().parse(), Ok(cri));
    assert_eq!(Cri::from_bits(cri.to_bits()), Ok(cri));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = ["330502-0103-000123-33", "330502010300012333", "330502-9101-000001-31", "3305020103000123"];
    let cri: Cri = "330502-0103-000123-33".parse().expect("an identifier");
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    seeds.push(cri.to_bits().to_le_bytes().to_vec());
    seeds
}
