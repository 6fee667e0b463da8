//! Modbus RTU: the frame on a serial line.
//!
//! Source: MODBUS over Serial Line V1.02 §2.5.1.

/// Longest frame: unit, 253 bytes of PDU, CRC.
pub const MAX_FRAME: usize = 256;

/// CRC-16 of the bytes before it; on the wire its low byte comes first.
///
/// Source: MODBUS over Serial Line V1.02 §6.2.2.
#[must_use]
pub fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::crc;

    #[test]
    fn the_crc_of_the_standards_example_is_right() {
        assert_eq!(crc(&[0x02, 0x07]), 0x1241);
    }
}
