//! The Modbus face: the register map as a server serves it.

use core::fmt::Write as _;
use core::time::Duration;

use ganglion_drivers::server::{Damage, Map, Server};
use ganglion_protocols::Cri;
use ganglion_protocols::modbus::pdu::{Bits, Words};
use ganglion_protocols::modbus::rtu::MAX_FRAME;
use ganglion_protocols::modbus::{ExceptionCode, UnitId};
use heapless::String;

use crate::board::{Copies, Memory};
use crate::registers;
use crate::state::{State, Wish};

/// Coil of the lamp by which a person finds the node.
const IDENTIFY: u16 = 0;
/// Coil that starts the node anew; it reads 0.
const RESET: u16 = 1;
/// How long the lamp blinks.
const IDENTIFIES: Duration = Duration::from_secs(60);
/// Longest name of a version or a resource.
const NAME: usize = 24;

/// The Modbus server of a node.
#[derive(Debug)]
pub(crate) struct Modbus {
    server: Server,
}

impl Modbus {
    pub(crate) fn new(unit: u8) -> Self {
        Self { server: Server::new(UnitId(unit)) }
    }

    /// Answers a burst that is no frame of the node link; returns the length of the answer.
    pub(crate) fn answer<M: Memory, C: Copies>(
        &mut self,
        state: &mut State<M, C>,
        burst: Result<&[u8], Damage>,
        now: Duration,
        out: &mut [u8; MAX_FRAME],
    ) -> Option<usize> {
        match burst {
            Ok(frame) => {
                let mut map = NodeMap::new(state, now);
                self.server.handle_frame(&mut map, frame, out).map(<[u8]>::len)
            }
            Err(damage) => {
                self.server.handle_damage(damage);
                None
            }
        }
    }
}

/// The node as registers, at one moment.
struct NodeMap<'s, M, C> {
    state: &'s mut State<M, C>,
    now: Duration,
    revision: String<NAME>,
    resource: String<NAME>,
}

impl<'s, M: Memory, C: Copies> NodeMap<'s, M, C> {
    fn new(state: &'s mut State<M, C>, now: Duration) -> Self {
        let (mut revision, mut resource) = (String::new(), String::new());
        // Both have room for the longest.
        let _fits = write!(revision, "{}", state.identity.firmware);
        if let Ok(cri) = Cri::from_bits(state.settings().cri) {
            let _fits = write!(resource, "{cri}");
        }
        Self { state, now, revision, resource }
    }

    /// Returns what the holding registers would be with these words in them.
    fn changed(
        &self,
        first: u16,
        words: Words<'_>,
    ) -> Result<ganglion_protocols::node_settings::NodeSettings, ExceptionCode> {
        let mut all = registers::holding(self.state.settings());
        for (address, word) in (first..=u16::MAX).zip(words.iter()) {
            let place = all.get_mut(usize::from(address)).filter(|_| registers::is_setting(address));
            *place.ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)? = word;
        }
        registers::settings_of(&all, self.state.settings()).map_err(|_| ExceptionCode::ILLEGAL_DATA_VALUE)
    }
}

impl<M: Memory, C: Copies> Map for NodeMap<'_, M, C> {
    fn coil(&self, address: u16) -> Result<bool, ExceptionCode> {
        match address {
            IDENTIFY => Ok(self.now < self.state.identify_until),
            RESET => Ok(false),
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
        let there = (first..=u16::MAX).zip(bits.iter()).all(|(address, _)| address <= RESET);
        if there { Ok(()) } else { Err(ExceptionCode::ILLEGAL_DATA_ADDRESS) }
    }

    fn write_coils(&mut self, first: u16, bits: Bits<'_>) -> Result<(), ExceptionCode> {
        for (address, on) in (first..=u16::MAX).zip(bits.iter()) {
            match address {
                IDENTIFY if on => self.state.identify_until = self.now.saturating_add(IDENTIFIES),
                IDENTIFY => self.state.identify_until = self.now,
                RESET if on => self.state.wish = Some(Wish::Reset),
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
            0x02 => self.revision.as_bytes(),
            0x03 => b"https://github.com/ganglion-edge/ganglion",
            0x04 => b"Ganglion sensor node",
            0x06 if !self.resource.is_empty() => self.resource.as_bytes(),
            _ => return None,
        })
    }
}
