//! The node's side of a transfer: from the header to the order that the next start installs it.

use embedded_storage::nor_flash::NorFlash;
use ganglion_protocols::node_link::{FirmwareAsk, FirmwarePhase, FirmwareState, ImageHeader, Refusal, Version};

use super::Layout;
use super::flash::FlashFault;
use super::journal::{Entry, Journal, Step};
use super::signature::{digest, is_signed};
use super::stage::{Stage, WriteError};

/// What the firmware that runs knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Name of the board.
    pub board: &'static str,
    /// Its version.
    pub running: Version,
    /// Images are signed with the secret half of this key: see [`MAKER_KEY`](super::MAKER_KEY).
    pub key: &'static [u8; 32],
}

/// What became of a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handled {
    /// The answer.
    pub state: FirmwareState,
    /// Start anew once the answer is out: the bootloader has something to do.
    pub restart: bool,
}

/// Receives an image, checks it, and has it installed.
///
/// It holds nothing that is not in the flash, but for less than a page of the body. The flash is lent to every call, because
/// a board keeps other things in it, too.
#[derive(Debug)]
pub struct Updater {
    about: About,
    layout: Layout,
    journal: Journal,
    stage: Option<Stage>,
}

impl Updater {
    /// Looks what the flash holds of an update.
    pub fn recover<F: NorFlash>(flash: &mut F, layout: Layout, about: About) -> Self {
        let journal = Journal::read(flash, &layout);
        Self { about, layout, journal, stage: Stage::recover(flash, &layout) }
    }

    /// Returns how far things are.
    #[must_use]
    pub fn state(&self) -> FirmwareState {
        let phase = match (&self.stage, self.journal.entry.step) {
            (_, Step::Trial(_) | Step::Saved) => FirmwarePhase::Trial,
            (Some(stage), _) => FirmwarePhase::Receiving {
                version: stage.version,
                next: HEADER_SIZE.saturating_add(stage.next()),
                size: HEADER_SIZE.saturating_add(stage.size),
            },
            (None, Step::RolledBack | Step::Reverting) => FirmwarePhase::RolledBack,
            (None, Step::Idle | Step::Install) => FirmwarePhase::Idle,
        };
        FirmwareState { running: self.about.running, phase }
    }

    /// What runs is on trial: [`confirm`](Self::confirm) it once a whole exchange with the gateway has succeeded.
    #[must_use]
    pub fn on_trial(&self) -> bool {
        matches!(self.journal.entry.step, Step::Trial(_) | Step::Saved)
    }

    /// Ends the trial: what runs is kept. Does nothing where there is none.
    ///
    /// # Errors
    /// [`FlashFault`]: the trial goes on, confirm again.
    pub fn confirm<F: NorFlash>(&mut self, flash: &mut F) -> Result<(), FlashFault> {
        if self.on_trial() { self.note(flash, Step::Idle, 0, 0) } else { Ok(()) }
    }

    /// Does what is asked. `Install` reads the whole body and verifies a signature: some 6 million instructions for 64 KiB,
    /// and 6 KiB of stack.
    ///
    /// # Errors
    /// [`Refusal`]: `BadHeader`, `OtherBoard`, `TooLarge`, `Older` of a header; `Hole`, `TooLarge` of bytes, and `Hole` also
    /// where nothing was begun; `Incomplete`, `BadSignature` of an installation, and what had arrived is then forgotten,
    /// because nobody knows which byte is wrong; `FlashFailed` always; `Unable` of `Begin` and `Write` while an installation
    /// waits for the next start or is on trial, and of `Abandon` during the trial. `Install` is answered then as it was the
    /// first time.
    pub fn handle<F: NorFlash>(&mut self, flash: &mut F, ask: &FirmwareAsk<'_>) -> Result<Handled, Refusal> {
        let mut restart = false;
        match *ask {
            FirmwareAsk::State => {}
            FirmwareAsk::Begin { header, downgrade } => self.begin(flash, header, downgrade)?,
            FirmwareAsk::Write { offset, data } => self.write(flash, offset, data)?,
            FirmwareAsk::Install => restart = self.install(flash)?,
            FirmwareAsk::Abandon => self.abandon(flash)?,
        }
        Ok(Handled { state: self.state(), restart })
    }

    fn begin<F: NorFlash>(&mut self, flash: &mut F, header: &[u8], downgrade: bool) -> Result<(), Refusal> {
        let header = ImageHeader::parse(header).map_err(|_| Refusal::BadHeader)?;
        if header.board.as_str() != self.about.board {
            return Err(Refusal::OtherBoard);
        }
        if header.size.get() > self.layout.slot() {
            return Err(Refusal::TooLarge);
        }
        if header.version < self.about.running && !downgrade {
            return Err(Refusal::Older);
        }
        self.free_to_change()?;
        if self.stage.is_some() && Stage::has(flash, &self.layout, &header) {
            return Ok(());
        }
        self.stage = None;
        self.stage = Some(Stage::begin(flash, &self.layout, &header).map_err(|_| Refusal::FlashFailed)?);
        Ok(())
    }

    fn write<F: NorFlash>(&mut self, flash: &mut F, offset: u32, data: &[u8]) -> Result<(), Refusal> {
        self.free_to_change()?;
        let stage = self.stage.as_mut().ok_or(Refusal::Hole)?;
        // The header came with `Begin`.
        let of_header = usize::try_from(HEADER_SIZE.saturating_sub(offset)).unwrap_or(usize::MAX);
        let body = data.get(of_header.min(data.len())..).unwrap_or_default();
        let at = offset.saturating_sub(HEADER_SIZE);
        stage.write(flash, &self.layout, at, body).map_err(|error| match error {
            WriteError::Hole => Refusal::Hole,
            WriteError::TooLong => Refusal::TooLarge,
            WriteError::Flash => Refusal::FlashFailed,
        })
    }

    /// Returns whether the next start has something to do.
    fn install<F: NorFlash>(&mut self, flash: &mut F) -> Result<bool, Refusal> {
        if self.free_to_change().is_err() {
            // The answer to the first order was lost, or the power went before it was given.
            return Ok(!self.on_trial());
        }
        let stage = self.stage.filter(|stage| stage.next() == stage.size).ok_or(Refusal::Incomplete)?;
        let (found, crc) = digest(flash, &self.layout, stage.size).map_err(|_| Refusal::FlashFailed)?;
        let header = stage.header(flash, &self.layout);
        if !header.is_some_and(|header| header.digest == found && is_signed(&header, self.about.key)) {
            self.forget(flash)?;
            return Err(Refusal::BadSignature);
        }
        self.note(flash, Step::Install, stage.size, crc).map_err(|_| Refusal::FlashFailed)?;
        Ok(true)
    }

    fn abandon<F: NorFlash>(&mut self, flash: &mut F) -> Result<(), Refusal> {
        if self.on_trial() {
            return Err(Refusal::Unable);
        }
        if self.journal.entry.step != Step::Idle {
            self.note(flash, Step::Idle, 0, 0).map_err(|_| Refusal::FlashFailed)?;
        }
        self.forget(flash)
    }

    /// The stage is the bootloader's between the order to install and the end of the trial.
    fn free_to_change(&self) -> Result<(), Refusal> {
        match self.journal.entry.step {
            Step::Idle | Step::RolledBack | Step::Reverting => Ok(()),
            Step::Install | Step::Saved | Step::Trial(_) => Err(Refusal::Unable),
        }
    }

    fn forget<F: NorFlash>(&mut self, flash: &mut F) -> Result<(), Refusal> {
        self.stage = None;
        Stage::discard(flash, &self.layout).map_err(|_| Refusal::FlashFailed)
    }

    fn note<F: NorFlash>(&mut self, flash: &mut F, step: Step, size: u32, crc: u32) -> Result<(), FlashFault> {
        self.journal.append(flash, &self.layout, Entry { step, size, crc })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "160")]
const HEADER_SIZE: u32 = ImageHeader::LEN as u32;
