//! Whether what the flash holds is what the maker signed.

use ed25519_compact::{PublicKey, Signature, sha512};
use embedded_storage::nor_flash::NorFlash;
use ganglion_protocols::node_link::ImageHeader;

use super::Layout;
use super::flash::{FlashFault, checksum, each_piece};

/// Public half of the key that images for this build are signed with: 32 bytes (RFC 8032 §5.1.5).
///
/// The build takes it from the file that `GANGLION_MAKER_KEY` names, else from `firmware/keys/dev.pub`.
pub static MAKER_KEY: [u8; 32] = *include_bytes!(concat!(env!("OUT_DIR"), "/maker.key"));

/// This build takes images signed with the development key, which everybody has.
pub const DEVELOPMENT_KEY: bool = cfg!(development_key);

/// Reads the whole body: its SHA-512, and its CRC-32 for those who come later.
pub(super) fn digest<F: NorFlash>(flash: &mut F, layout: &Layout, size: u32) -> Result<([u8; 64], u32), FlashFault> {
    let (mut digest, mut crc) = (sha512::Hash::new(), checksum());
    each_piece(flash, layout.body(), size, |piece| {
        digest.update(piece);
        crc.update(piece);
    })?;
    Ok((digest.finalize(), crc.finalize()))
}

/// Says whether the header is signed with this key.
///
/// Takes some 6 KiB of stack: the deepest call of the node.
pub(super) fn is_signed(header: &ImageHeader, key: &[u8; 32]) -> bool {
    PublicKey::new(*key).verify(header.signed_part(), &Signature::new(header.signature)).is_ok()
}
