//! From the channels of a node to the words of its device's points: as if its input registers had been read.

use ganglion_drivers::node::ChannelInfo;
use ganglion_protocols::Reason;
use ganglion_protocols::node_link::{NodeReading, SensorFault};

use crate::site::Want;

/// What a Modbus client reads of a channel without a value.
const NONE: i32 = i32::MIN;

/// Where each channel's value goes.
pub(super) struct Layout {
    /// Words of a sample.
    words: usize,
    wants: Vec<Place>,
    unfilled: Vec<u16>,
}

/// The words of one want.
struct Place {
    offset: usize,
    /// Of each: the channel, and which of its registers.
    words: Vec<Option<(usize, u16)>>,
}

/// Registers of a channel: the value's high and low word, its state.
const REGISTERS: u16 = 3;

impl Layout {
    /// Ties wants to the channels that a node has.
    pub(super) fn new(wants: &[Want], channels: &[ChannelInfo]) -> Self {
        let mut unfilled = Vec::new();
        let mut words = 0;
        let place = |want: &Want| {
            let addresses = want.read.address..want.read.address.saturating_add(want.read.count);
            words = words.max(want.offset + usize::from(want.read.count));
            let word = |address: u16| {
                let found = channels.iter().enumerate().find_map(|(channel, info)| {
                    let register = address.checked_sub(info.register)?;
                    (register < REGISTERS).then_some((channel, register))
                });
                if found.is_none() {
                    unfilled.push(address);
                }
                found
            };
            Place { offset: want.offset, words: addresses.map(word).collect() }
        };
        let wants = wants.iter().map(place).collect();
        Self { words, wants, unfilled }
    }

    /// Returns the registers that are wanted and that no channel has.
    pub(super) fn unfilled(&self) -> impl Iterator<Item = u16> + '_ {
        self.unfilled.iter().copied()
    }

    /// Returns the words of all wants, and why some have none.
    pub(super) fn fill(&self, readings: &[NodeReading]) -> (Vec<u16>, Vec<Option<Reason>>) {
        let mut words = vec![0; self.words];
        let mut states = Vec::with_capacity(self.wants.len());
        for Place { offset, words: of_want } in &self.wants {
            let mut state = None;
            for (place, word) in words.iter_mut().skip(*offset).zip(of_want) {
                let reading = word.and_then(|(channel, register)| Some((*readings.get(channel)?, register)));
                let Some((reading, register)) = reading else {
                    state = Some(Reason::Missing);
                    continue;
                };
                let (value, fault) = match reading {
                    NodeReading::Value(value) => (value, None),
                    NodeReading::Fault(fault) => (NONE, Some(fault)),
                };
                let [high, low] = [(value >> 16) as u16, (value & 0xFFFF) as u16];
                *place = match register {
                    0 => high,
                    1 => low,
                    _ => fault.map_or(0, |fault| u16::from(fault.code()) + 1),
                };
                if register < 2 {
                    state = state.or(fault.map(reason));
                }
            }
            states.push(state);
        }
        (words, states)
    }
}

fn reason(fault: SensorFault) -> Reason {
    match fault {
        SensorFault::BrokenWire => Reason::BrokenWire,
        SensorFault::OverRange => Reason::SensorOverRange,
        SensorFault::UnderRange => Reason::SensorUnderRange,
        SensorFault::NoAnswer => Reason::SensorSilent,
        SensorFault::BadAnswer => Reason::SensorGarbled,
        SensorFault::NoSample => Reason::Missing,
    }
}

#[cfg(test)]
mod tests {
    use ganglion_drivers::plan::ReadRequest;
    use ganglion_protocols::modbus::Table;
    use ganglion_protocols::node_link::ChannelKind;

    use super::*;

    fn channel(register: u16) -> ChannelInfo {
        ChannelInfo {
            property: "pressure".to_owned(),
            unit: "MPa".to_owned(),
            exponent: -4,
            register,
            kind: ChannelKind::Gauge,
            low: 0,
            high: 16_000,
            period_s: 1,
        }
    }

    fn want(address: u16, count: u16, offset: usize) -> Want {
        Want { read: ReadRequest { table: Table::InputRegister, address, count }, offset }
    }

    #[test]
    fn values_lie_where_a_modbus_client_would_read_them() {
        let layout = Layout::new(&[want(36, 2, 0), want(32, 2, 2)], &[channel(32), channel(36)]);
        assert_eq!(layout.unfilled().count(), 0);
        let (words, states) = layout.fill(&[NodeReading::Value(-2), NodeReading::Value(0x0001_0002)]);
        assert_eq!((words, states), (vec![1, 2, 0xFFFF, 0xFFFE], vec![None, None]));
    }

    #[test]
    fn a_sensor_that_fails_says_why_and_spoils_no_other() {
        let layout = Layout::new(&[want(32, 2, 0), want(34, 1, 2), want(36, 2, 3)], &[channel(32), channel(36)]);
        let readings = [NodeReading::Fault(SensorFault::BrokenWire), NodeReading::Value(5)];
        let (words, states) = layout.fill(&readings);
        assert_eq!(words, [0x8000, 0, 1, 0, 5]);
        assert_eq!(states, [Some(Reason::BrokenWire), None, None]);
    }

    #[test]
    fn a_register_that_no_channel_has_is_named_and_missing() {
        let layout = Layout::new(&[want(40, 2, 0)], &[channel(32)]);
        assert_eq!(layout.unfilled().collect::<Vec<_>>(), [40, 41]);
        assert_eq!(layout.fill(&[NodeReading::Value(1)]).1, [Some(Reason::Missing)]);
    }
}
