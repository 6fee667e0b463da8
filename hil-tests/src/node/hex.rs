//! Intel HEX, in which QEMU's loader takes what lies in a machine's flash at an address.
//!
//! Source: Intel, Hexadecimal Object File Format Specification, revision A, 1988.

/// Bytes of data in a record.
const RECORD: usize = 16;
const DATA: u8 = 0x00;
const END_OF_FILE: u8 = 0x01;
const EXTENDED_LINEAR_ADDRESS: u8 = 0x04;

/// Returns the file that holds `bytes` from `address` on.
#[must_use]
pub fn intel_hex(address: u32, bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut upper = None;
    let mut at = address;
    let mut rest = bytes;
    while !rest.is_empty() {
        let [high_a, high_b, low_a, low_b] = at.to_be_bytes();
        if upper != Some([high_a, high_b]) {
            upper = Some([high_a, high_b]);
            record(&mut text, [0, 0], EXTENDED_LINEAR_ADDRESS, &[high_a, high_b]);
        }
        // A record does not cross into the next 64 KiB.
        let room = 0x1_0000 - usize::from(u16::from_be_bytes([low_a, low_b]));
        let (data, after) = rest.split_at(rest.len().min(RECORD).min(room));
        record(&mut text, [low_a, low_b], DATA, data);
        at = at.wrapping_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        rest = after;
    }
    record(&mut text, [0, 0], END_OF_FILE, &[]);
    text
}

fn record(text: &mut String, offset: [u8; 2], kind: u8, data: &[u8]) {
    let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
    let mut bytes = vec![length, offset[0], offset[1], kind];
    bytes.extend_from_slice(data);
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes.push(sum.wrapping_neg());
    text.push(':');
    text.extend(bytes.iter().map(|byte| format!("{byte:02X}")));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_in_the_last_page_is_the_file_that_qemu_was_seen_to_take() {
        assert_eq!(intel_hex(0x080F_F800, &[3]), ":02000004080FE3\n:01F800000304\n:00000001FF\n");
    }

    #[test]
    fn records_are_short_and_none_crosses_into_the_next_64_kib() {
        let text = intel_hex(0x0000_FFF8, &[0; 30]);
        let heads: Vec<&str> = text.lines().map(|line| line.get(..9).unwrap_or(line)).collect();
        assert_eq!(heads, [":02000004", ":08FFF800", ":02000004", ":10000000", ":06001000", ":00000001"]);
    }
}
