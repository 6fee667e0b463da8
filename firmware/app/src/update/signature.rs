//! Whether what the flash holds is what the maker signed.
//!
//! Neither function is inlined: the frame of one would lie under the other's, and under everything an `Updater` does.

use embedded_storage::nor_flash::NorFlash;
use ganglion_protocols::node_link::ImageHeader;
use salty::{PublicKey, Sha512, Signature};

use super::Layout;
use super::flash::{FlashFault, checksum, each_piece};

/// Public half of the key that images for this build are signed with: 32 bytes (RFC 8032 §5.1.5).
///
/// The build takes it from the file that `GANGLION_MAKER_KEY` names, else from `firmware/keys/dev.pub`.
pub static MAKER_KEY: [u8; 32] = *include_bytes!(concat!(env!("OUT_DIR"), "/maker.key"));

/// This build takes images signed with the development key, which everybody has.
pub const DEVELOPMENT_KEY: bool = cfg!(development_key);

/// Reads the whole body: its SHA-512, and its CRC-32 for those who come later.
#[inline(never)]
pub(super) fn digest<F: NorFlash>(flash: &mut F, layout: &Layout, size: u32) -> Result<([u8; 64], u32), FlashFault> {
    let (mut digest, mut crc) = (Sha512::new(), checksum());
    each_piece(flash, layout.body(), size, |piece| {
        digest.update(piece);
        crc.update(piece);
    })?;
    Ok((digest.finalize(), crc.finalize()))
}

/// Says whether the header is signed with this key.
///
/// Takes 2.6 KiB of stack on a Cortex-M4: the deepest call of the node.
#[inline(never)]
pub(super) fn is_signed(header: &ImageHeader, key: &[u8; 32]) -> bool {
    let signature = Signature::from(&header.signature);
    PublicKey::try_from(key).is_ok_and(|key| key.verify(&header.signed_part(), &signature).is_ok())
}
