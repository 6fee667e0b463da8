//! A node whose power can be cut, without anything but its update: bootloader, firmware, and a gateway that sends.

use ganglion_drivers::update::{Next, Sender};
use ganglion_node::update::boot::{Slot, prepare};
use ganglion_node::update::{About, Layout, Updater};
use ganglion_protocols::node_link::{BoardName, BodySize, FirmwareAsk, FirmwareState, ImageHeader, Refusal, Version};

use crate::flash::SimFlash;

pub(crate) const BOARD: &str = "simulated";
pub(crate) const OLD: Version = Version { major: 1, minor: 2, patch: 3 };
pub(crate) const NEW: Version = Version { major: 1, minor: 3, patch: 0 };
/// Secret and public half of the key that the simulated maker signs with.
const SEED: [u8; 32] = [0x5E; 32];
pub(crate) const SLOT: u32 = 1024;
const ACTIVE: u32 = 512;

/// Makes the image file of a body.
pub(crate) fn image(board: &str, version: Version, body: &[u8]) -> Vec<u8> {
    let mut header = ImageHeader {
        board: BoardName::new(board).expect("a name"),
        version,
        size: BodySize::try_from(body.len() as u32).expect("a body has bytes"),
        digest: ed25519_compact::sha512::Hash::hash(body),
        signature: [0; 64],
    };
    let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new(SEED));
    header.signature = *pair.sk.sign(header.signed_part(), None);
    [header.emit().as_slice(), body].concat()
}

fn public_key() -> &'static [u8; 32] {
    static KEY: std::sync::OnceLock<[u8; 32]> = std::sync::OnceLock::new();
    KEY.get_or_init(|| *ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new(SEED)).pk)
}

/// A body that is not all alike, and partly blank as real ones are.
pub(crate) fn body(kind: u8, length: usize) -> Vec<u8> {
    let byte = |at: usize| if at % 256 > 200 { 0xFF } else { (at as u8).wrapping_mul(31) ^ kind };
    (0..length).map(byte).collect()
}

/// What a start came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Runs {
    Old,
    New,
}

#[derive(Clone)]
pub(crate) struct Node<const WORD: usize, const PAGE: usize> {
    pub(crate) flash: SimFlash<WORD, PAGE>,
    pub(crate) layout: Layout,
    old: Vec<u8>,
    new: Vec<u8>,
    /// Versions that the two firmwares say of themselves.
    pub(crate) versions: (Version, Version),
}

impl<const WORD: usize, const PAGE: usize> Node<WORD, PAGE> {
    /// A node that runs `old`; an update is meant to bring `new`.
    pub(crate) fn new(old: Vec<u8>, new: Vec<u8>, seed: u64) -> Self {
        let layout = Layout::new(PAGE as u32, ACTIVE, SLOT).expect("whole pages");
        let mut flash = SimFlash::new(layout.end() as usize, seed);
        let mut padded = old.clone();
        padded.resize(old.len().next_multiple_of(WORD), 0xFF);
        embedded_storage::nor_flash::NorFlash::write(&mut flash, ACTIVE, &padded).expect("nothing is cut yet");
        Self { flash, layout, old, new, versions: (OLD, NEW) }
    }

    /// Starts, again and again where the power is cut meanwhile, until a firmware runs. It is a whole one.
    pub(crate) fn start(&mut self) -> (Slot, Runs) {
        loop {
            self.flash.power_on();
            let slot = prepare(&mut self.flash, &self.layout);
            if self.flash.is_dark() {
                continue;
            }
            assert_ne!(slot, Slot::Unusable);
            return (slot, self.runs());
        }
    }

    /// Says which firmware active holds; panics where it is none.
    pub(crate) fn runs(&self) -> Runs {
        let is = |body: &[u8]| self.flash.content(self.layout.active(), body.len()) == body;
        match (is(&self.old), is(&self.new)) {
            (true, false) => Runs::Old,
            (false, true) => Runs::New,
            _ => panic!("active holds a mixture"),
        }
    }

    /// What the firmware that runs does first.
    pub(crate) fn updater(&mut self, runs: Runs) -> Updater {
        let running = if runs == Runs::Old { self.versions.0 } else { self.versions.1 };
        Updater::recover(&mut self.flash, self.layout, About { board: BOARD, running, key: public_key() })
    }

    /// Sends the image until the node runs it for good or will not, whatever the power does. With `works` the new firmware
    /// manages an exchange with the gateway; else it never does, and its watchdog ends it.
    ///
    /// Returns what the sender says at the end, and what the node runs then.
    pub(crate) fn update(&mut self, image: &[u8], downgrade: bool, works: bool) -> (Next<'static>, Runs) {
        let mut sender = Sender::new(image, downgrade).expect("an image file");
        let mut starts = 0;
        'start: loop {
            starts += 1;
            assert!(starts < 20, "it starts for ever");
            let (slot, runs) = self.start();
            let mut updater = self.updater(runs);
            if self.flash.is_dark() {
                continue;
            }
            assert_eq!(updater.on_trial(), matches!(slot, Slot::Trial { .. }));
            if runs == Runs::New && updater.on_trial() && !works {
                continue;
            }
            loop {
                let ask = match sender.next() {
                    Next::Ask(ask) => ask,
                    Next::AskLater(ask) => {
                        if updater.on_trial() && updater.confirm(&mut self.flash).is_err() && self.flash.is_dark() {
                            continue 'start;
                        }
                        ask
                    }
                    Next::Done => return (Next::Done, self.start().1),
                    Next::Failed(error) => return (Next::Failed(error), self.start().1),
                };
                let handled = updater.handle(&mut self.flash, &ask);
                if self.flash.is_dark() {
                    // The answer did not come; the same is asked again.
                    continue 'start;
                }
                sender.handle(handled.map(|handled| handled.state));
                if handled.is_ok_and(|handled| handled.restart) {
                    continue 'start;
                }
            }
        }
    }

    /// Asks the firmware that runs now, which was not started anew since `updater` was made.
    pub(crate) fn ask(&mut self, updater: &mut Updater, ask: &FirmwareAsk<'_>) -> Result<FirmwareState, Refusal> {
        updater.handle(&mut self.flash, ask).map(|handled| handled.state)
    }
}
