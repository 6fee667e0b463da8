//! Sending new firmware to a node: given what it answered, what is asked next?
//!
//! The node is the one that knows what has arrived: a transfer goes on wherever it says, over resets of either side. The
//! caller carries the bytes, repeats what was not answered, and waits between questions while the node restarts.

use core::fmt;

use ganglion_protocols::node_link::{
    FirmwareAsk, FirmwarePhase, FirmwareState, ImageError, ImageHeader, MAX_PAYLOAD, Refusal, Version,
};

/// Sends one image to one node.
#[derive(Clone, Debug)]
pub struct Sender<'a> {
    image: &'a [u8],
    version: Version,
    size: u32,
    downgrade: bool,
    awaiting: Awaiting,
    /// The offset that the node wants next, as far as it has said.
    wanted: u32,
    /// Answers in a row that brought nothing forward.
    fruitless: u8,
    /// Whether a whole image was refused already.
    damaged: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaiting {
    /// Where the transfer begins or goes on.
    Begin,
    /// That bytes were taken.
    Write,
    /// That the image is whole and will be installed.
    Install,
    /// That it runs and has confirmed itself.
    Confirmed,
    /// Nothing any more.
    End(Result<(), UpdateError>),
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next<'a> {
    /// Ask this, and again if nothing answers.
    Ask(FirmwareAsk<'a>),
    /// The node restarts or is on trial: have a usual exchange with it, by which it confirms itself, then ask this.
    AskLater(FirmwareAsk<'a>),
    /// It runs the new firmware for good.
    Done,
    /// It will not.
    Failed(UpdateError),
}

/// Why a node does not run new firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpdateError {
    /// It refuses.
    Refused(Refusal),
    /// It started the new firmware, which did not confirm itself, and took it back.
    RolledBack,
    /// It does not come forward: so many answers were of no use.
    Stuck(u8),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::RolledBack => f.write_str("the new firmware did not confirm itself; the node runs the old one again"),
            Self::Stuck(answers) => {
                write!(f, "the node does not come forward: {answers} answers in a row were of no use")
            }
        }
    }
}

impl core::error::Error for UpdateError {}

/// Most bytes of an image in one message: what its payload leaves after tags, offset and length; whole words of flash.
pub const MAX_CHUNK: usize = (MAX_PAYLOAD - 9) & !7;

/// How many answers in a row may bring nothing forward.
const PATIENCE: u8 = 8;

impl<'a> Sender<'a> {
    /// Begins to send the image file. With `downgrade` the node may take one that is older than what it runs.
    ///
    /// # Errors
    /// [`ImageError`] when the file is none. Its digest and signature are the node's business.
    pub fn new(image: &'a [u8], downgrade: bool) -> Result<Self, ImageError> {
        let (header, _) = ImageHeader::split(image)?;
        Ok(Self {
            image,
            version: header.version,
            size: u32::try_from(image.len()).map_err(|_| ImageError::Length(image.len()))?,
            downgrade,
            awaiting: Awaiting::Begin,
            wanted: 0,
            fruitless: 0,
            damaged: false,
        })
    }

    /// Returns the version of the image.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns how many bytes of how many the node has, header included.
    #[must_use]
    pub const fn progress(&self) -> (u32, u32) {
        (self.wanted, self.size)
    }

    /// Returns what to do now. It stays the same until an answer is [handled](Self::handle).
    #[must_use]
    pub fn next(&self) -> Next<'a> {
        match self.awaiting {
            Awaiting::Begin => {
                let header = self.image.get(..ImageHeader::LEN).unwrap_or_default();
                Next::Ask(FirmwareAsk::Begin { header, downgrade: self.downgrade })
            }
            Awaiting::Write => {
                let from = usize::try_from(self.wanted).unwrap_or(usize::MAX);
                let rest = self.image.get(from..).unwrap_or_default();
                let data = rest.get(..MAX_CHUNK).unwrap_or(rest);
                Next::Ask(FirmwareAsk::Write { offset: self.wanted, data })
            }
            Awaiting::Install => Next::Ask(FirmwareAsk::Install),
            Awaiting::Confirmed => Next::AskLater(FirmwareAsk::State),
            Awaiting::End(Ok(())) => Next::Done,
            Awaiting::End(Err(error)) => Next::Failed(error),
        }
    }

    /// Takes the answer to what was asked last.
    pub fn handle(&mut self, answer: Result<FirmwareState, Refusal>) {
        match answer {
            Ok(state) => self.handle_state(state),
            Err(refusal) => self.handle_refusal(refusal),
        }
    }

    fn handle_state(&mut self, FirmwareState { running, phase }: FirmwareState) {
        let ours = match phase {
            FirmwarePhase::Receiving { version, next, size } if version == self.version && size == self.size => {
                Some(next)
            }
            _ => None,
        };
        match (self.awaiting, phase) {
            (Awaiting::Begin | Awaiting::Write, _) => match ours {
                Some(next) => self.go_on_at(next),
                None => self.again(),
            },
            // The order to install was understood: the node restarts, or has not yet.
            (Awaiting::Install, _) if ours == Some(self.size) => self.awaiting = Awaiting::Confirmed,
            (Awaiting::Install | Awaiting::Confirmed, FirmwarePhase::Trial) if running == self.version => {
                self.awaiting = Awaiting::Confirmed;
            }
            (Awaiting::Install | Awaiting::Confirmed, FirmwarePhase::Idle) if running == self.version => {
                self.awaiting = Awaiting::End(Ok(()));
            }
            (Awaiting::Install | Awaiting::Confirmed, FirmwarePhase::RolledBack) => {
                self.awaiting = Awaiting::End(Err(UpdateError::RolledBack));
            }
            (Awaiting::Confirmed, _) if ours == Some(self.size) => {
                self.awaiting = Awaiting::Install;
                self.count();
            }
            _ => self.again(),
        }
    }

    fn handle_refusal(&mut self, refusal: Refusal) {
        match (refusal, self.awaiting) {
            // What had arrived is gone: by a reset, a page that has to come anew, or somebody else.
            (Refusal::Hole | Refusal::FlashFailed, Awaiting::Write | Awaiting::Install) => self.again(),
            // So it is, too, when it was installed long since and only the answer did not come.
            (Refusal::Incomplete, Awaiting::Install) => {
                self.awaiting = Awaiting::Confirmed;
                self.count();
            }
            (Refusal::FlashFailed, Awaiting::Begin) => self.again_or(UpdateError::Refused(refusal)),
            // The line's checksum lets one damaged frame in 2^32 pass.
            (Refusal::BadSignature, Awaiting::Install) if !self.damaged => {
                self.damaged = true;
                self.again();
            }
            _ => self.awaiting = Awaiting::End(Err(UpdateError::Refused(refusal))),
        }
    }

    fn go_on_at(&mut self, next: u32) {
        if next > self.wanted {
            self.fruitless = 0;
        } else if self.awaiting == Awaiting::Write {
            self.count();
        }
        self.wanted = next;
        if !matches!(self.awaiting, Awaiting::End(_)) {
            self.awaiting = if next >= self.size { Awaiting::Install } else { Awaiting::Write };
        }
    }

    /// Asks the node anew where it stands.
    fn again(&mut self) {
        self.again_or(UpdateError::Stuck(PATIENCE));
    }

    fn again_or(&mut self, error: UpdateError) {
        self.awaiting = Awaiting::Begin;
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless >= PATIENCE {
            self.awaiting = Awaiting::End(Err(error));
        }
    }

    fn count(&mut self) {
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless >= PATIENCE {
            self.awaiting = Awaiting::End(Err(UpdateError::Stuck(PATIENCE)));
        }
    }
}

#[cfg(test)]
mod tests;
