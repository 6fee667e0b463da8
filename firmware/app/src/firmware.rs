//! New firmware, as both faces ask for it.

use embedded_storage::nor_flash::NorFlash;
use ganglion_protocols::node_link::{FirmwareAsk, FirmwarePhase, FirmwareState, Refusal, Version};

use crate::update::{Handled, Updater};

/// What a board can do about new firmware.
pub trait Firmware {
    /// Does what is asked.
    ///
    /// # Errors
    /// See [`Updater::handle`].
    fn handle(&mut self, ask: &FirmwareAsk<'_>) -> Result<Handled, Refusal>;

    /// Returns how far things are.
    fn state(&self) -> FirmwareState;

    /// Ends a trial: a gateway has asked, and was answered.
    fn confirm(&mut self);
}

/// A board whose firmware is replaced by whoever holds it in the hand only.
#[derive(Clone, Copy, Debug)]
pub struct NoUpdates {
    /// What runs.
    pub running: Version,
}

impl Firmware for NoUpdates {
    fn handle(&mut self, ask: &FirmwareAsk<'_>) -> Result<Handled, Refusal> {
        match ask {
            FirmwareAsk::State => Ok(Handled { state: self.state(), restart: false }),
            _ => Err(Refusal::Unable),
        }
    }

    fn state(&self) -> FirmwareState {
        FirmwareState { running: self.running, phase: FirmwarePhase::Idle }
    }

    fn confirm(&mut self) {}
}

/// A board with room for new firmware in its flash.
#[derive(Debug)]
pub struct Updates<F> {
    flash: F,
    updater: Updater,
}

impl<F: NorFlash> Updates<F> {
    /// Takes the flash and what was recovered from it.
    pub const fn new(flash: F, updater: Updater) -> Self {
        Self { flash, updater }
    }
}

impl<F: NorFlash> Firmware for Updates<F> {
    fn handle(&mut self, ask: &FirmwareAsk<'_>) -> Result<Handled, Refusal> {
        self.updater.handle(&mut self.flash, ask)
    }

    fn state(&self) -> FirmwareState {
        self.updater.state()
    }

    fn confirm(&mut self) {
        // A flash that does not take it leaves the trial on, and the next exchange tries again.
        let _trial_goes_on = self.updater.confirm(&mut self.flash);
    }
}
