//! Which slot a node answers [`Ask::Who`](super::Ask::Who) in.

use super::frame::checksum_of;

/// Returns the slot, 0 to `slots - 1`: CRC-32 over the serial number (u64 LE) and the salt (u16 LE), modulo the count. No
/// slots count as one.
#[must_use]
pub fn slot(serial: u64, salt: u16, slots: u8) -> u8 {
    let hash = checksum_of([serial.to_le_bytes().as_slice(), salt.to_le_bytes().as_slice()]);
    let slot = hash.checked_rem(u32::from(slots)).unwrap_or_default();
    u8::try_from(slot).unwrap_or_default()
}
