//! The Modbus face: the register map as a server serves it.

use core::time::Duration;

use ganglion_drivers::server::{Damage, Map, Server, file_offset};
use ganglion_protocols::Cri;
use ganglion_protocols::modbus::pdu::{Bits, Words};
use ganglion_protocols::modbus::rtu::MAX_FRAME;
use ganglion_protocols::modbus::{ExceptionCode, UnitId};
use ganglion_protocols::node_link::{FirmwareAsk, ImageHeader, Refusal};
use ganglion_protocols::node_settings::NodeSettings;

use crate::board::{Copies, Memory};
use crate::firmware::Firmware;
use crate::registers;
use crate::state::{State, Wish};
use crate::text::Text;

/// Coil of the lamp by which a person finds the node.
const IDENTIFY: u16 = 0;
/// Coil that starts the node anew; it reads 0.
const RESET: u16 = 1;
/// Coil that installs the firmware that was written as files; it reads 0.
const INSTALL: u16 = 2;
/// How long the lamp blinks.
const IDENTIFIES: Duration = Duration::from_secs(60);
/// Longest name of a version or a resource.
const NAME: usize = 24;

/// The Modbus server of a node.
#[derive(Debug)]
pub(crate) struct Modbus {
    server: Server,
    /// A request was answered since the start: with the next one it is known that the answer was taken.
    answered: bool,
}

impl Modbus {
    pub(crate) fn new(unit: u8) -> Self {
        Self { server: Server::new(UnitId(unit)), answered: false }
    }

    /// Answers a burst that is no frame of the node link; returns the length of the answer.
    pub(crate) fn answer<M: Memory, C: Copies, U: Firmware>(
        &mut self,
        state: &mut State<M, C, U>,
        burst: Result<&[u8], Damage>,
        now: Duration,
        out: &mut [u8; MAX_FRAME],
    ) -> Option<usize> {
        match burst {
            Ok(frame) => {
                let mut map = NodeMap::new(state, now);
                let used = self.server.handle_frame(&mut map, frame, out).map(<[u8]>::len)?;
                if self.answered {
                    state.firmware.confirm();
                }
                self.answered = true;
                Some(used)
            }
            Err(damage) => {
                self.server.handle_damage(damage);
                None
            }
        }
    }
}

/// The node as registers, at one moment.
struct NodeMap<'s, M, C, U> {
    state: &'s mut State<M, C, U>,
    now: Duration,
    revision: Text<NAME>,
    resource: Text<NAME>,
}

impl<'s, M: Memory, C: Copies, U: Firmware> NodeMap<'s, M, C, U> {
    fn new(state: &'s mut State<M, C, U>, now: Duration) -> Self {
        let (mut revision, mut resource) = (Text::new(), Text::new());
        revision.version(state.identity.firmware);
        if let Ok(cri) = Cri::from_bits(state.settings().cri) {
            resource.resource(cri);
        }
        Self { state, now, revision, resource }
    }

    fn update(&mut self, ask: &FirmwareAsk<'_>) -> Result<(), ExceptionCode> {
        self.state.update(ask, self.now).map(|_| ()).map_err(|refusal| match refusal {
            Refusal::Hole | Refusal::TooLarge => ExceptionCode::ILLEGAL_DATA_ADDRESS,
            Refusal::FlashFailed | Refusal::Unable => ExceptionCode::SERVER_DEVICE_FAILURE,
            _ => ExceptionCode::ILLEGAL_DATA_VALUE,
        })
    }

    /// Returns what the holding registers would be with these words in them.
    fn changed(&self, first: u16, words: Words<'_>) -> Result<NodeSettings, ExceptionCode> {
        let mut all = registers::holding(self.state.settings());
        for (address, word) in (first..=u16::MAX).zip(words.iter()) {
            let place = all.get_mut(usize::from(address)).filter(|_| registers::is_setting(address));
            *place.ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)? = word;
        }
        registers::settings_of(&all, self.state.settings()).map_err(|_| ExceptionCode::ILLEGAL_DATA_VALUE)
    }
}

impl<M: Memory, C: Copies, U: Firmware> Map for NodeMap<'_, M, C, U> {
    fn coil(&self, address: u16) -> Result<bool, ExceptionCode> {
        match address {
            IDENTIFY => Ok(self.now < self.state.identify_until),
            RESET | INSTALL => Ok(false),
            _ => Err(ExceptionCode::ILLEGAL_DATA_ADDRESS),
        }
    }

    /// One for each sensor: it is in alarm.
    fn discrete_input(&self, address: u16) -> Result<bool, ExceptionCode> {
        let there = usize::from(address) < self.state.identity.sensors.len();
        let bit = self.state.sampler.alarms().checked_shr(u32::from(address)).filter(|_| there);
        bit.map(|bit| bit & 1 == 1).ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)
    }

    fn holding_register(&self, address: u16) -> Result<u16, ExceptionCode> {
        let all = registers::holding(self.state.settings());
        let there = all.get(usize::from(address)).filter(|_| registers::is_setting(address));
        there.copied().ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)
    }

    fn input_register(&self, address: u16) -> Result<u16, ExceptionCode> {
        registers::input(self.state, self.now, address).ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)
    }

    fn check_coils(&self, first: u16, bits: Bits<'_>) -> Result<(), ExceptionCode> {
        let there = (first..=u16::MAX).zip(bits.iter()).all(|(address, _)| address <= INSTALL);
        if there { Ok(()) } else { Err(ExceptionCode::ILLEGAL_DATA_ADDRESS) }
    }

    fn write_coils(&mut self, first: u16, bits: Bits<'_>) -> Result<(), ExceptionCode> {
        for (address, on) in (first..=u16::MAX).zip(bits.iter()) {
            match address {
                IDENTIFY if on => self.state.identify_until = self.now.saturating_add(IDENTIFIES),
                IDENTIFY => self.state.identify_until = self.now,
                RESET if on => self.state.wish = Some(Wish::Reset),
                INSTALL if on => self.update(&FirmwareAsk::Install)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_registers(&self, first: u16, words: Words<'_>) -> Result<(), ExceptionCode> {
        self.changed(first, words).map(|_| ())
    }

    fn write_registers(&mut self, first: u16, words: Words<'_>) -> Result<(), ExceptionCode> {
        let settings = self.changed(first, words)?;
        self.state.set(settings, self.now).map_err(|_| ExceptionCode::SERVER_DEVICE_FAILURE)
    }

    /// The files are an image: its header as one record, or the bytes behind it.
    fn check_file(&self, file: u16, record: u16, words: Words<'_>) -> Result<(), ExceptionCode> {
        let offset = file_offset(file, record).ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)?;
        if offset == 0 && words.as_bytes().len() < ImageHeader::LEN {
            return Err(ExceptionCode::ILLEGAL_DATA_VALUE);
        }
        Ok(())
    }

    fn write_file(&mut self, file: u16, record: u16, words: Words<'_>) -> Result<(), ExceptionCode> {
        let offset = file_offset(file, record).ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)?;
        let bytes = words.as_bytes();
        if let Some(header) = bytes.get(..ImageHeader::LEN).filter(|_| offset == 0) {
            self.update(&FirmwareAsk::Begin { header, downgrade: false })?;
        }
        self.update(&FirmwareAsk::Write { offset, data: bytes })
    }

    /// The low bits of the status register.
    fn exception_status(&self) -> u8 {
        registers::input(self.state, self.now, registers::STATUS).unwrap_or_default().to_le_bytes()[0]
    }

    fn server_id(&self) -> &[u8] {
        &[b'G', 0xFF]
    }

    fn identification(&self, object: u8) -> Option<&[u8]> {
        Some(match object {
            0x00 => b"Ganglion",
            0x01 | 0x05 => self.state.identity.board.as_bytes(),
            0x02 => self.revision.as_str().as_bytes(),
            0x03 => b"https://github.com/ganglion-edge/ganglion",
            0x04 => b"Ganglion sensor node",
            0x06 if !self.resource.as_str().is_empty() => self.resource.as_str().as_bytes(),
            _ => return None,
        })
    }
}
