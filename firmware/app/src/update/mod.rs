//! New firmware: received in pieces, verified, installed, tried, and taken back where it does not work.
//!
//! It owns the bytes of three slots and a journal in one flash ([`Layout`]), and the decision what is started. It does not
//! own the line, the watchdog or the jump.
//!
//! ```text
//! Begin, Write ... -> stage      Install: digest and signature of what the stage really holds
//! next start:         active -> backup, stage -> active, three starts on trial
//! confirmed:          that was it              not confirmed: backup -> active
//! ```
//!
//! **Invariants.** At any time active or backup holds a whole firmware, and the journal says which. Nothing is believed of
//! the flash that was not read back. What is said to have arrived has arrived.
//!
//! | file | what it owns |
//! |---|---|
//! | `updater.rs` | the answers to a gateway |
//! | `boot.rs` | what a bootloader does before it starts the firmware |
//! | `stage.rs` | what arrives, and how much of it is there for certain |
//! | `journal.rs` | how far an installation is |
//! | `signature.rs` | digest, signature, key |
//! | `flash.rs` | flash that is believed only when it is read back |
//! | `layout.rs` | where what is |

pub mod boot;
mod flash;
mod journal;
mod layout;
mod signature;
mod stage;
mod updater;

pub use flash::FlashFault;
pub use layout::Layout;
pub use signature::{DEVELOPMENT_KEY, MAKER_KEY};
pub use updater::{About, Handled, Updater};
