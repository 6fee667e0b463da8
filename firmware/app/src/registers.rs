//! What a Modbus client reads and writes: the register map, `docs/node-registers.md`.
//!
//! Numbers of 32 and 64 bits lie high word first. Settings are holding registers; a write holds as a whole or not at all,
//! because the settings that it would make are checked first.

use core::time::Duration;

use ganglion_protocols::node_link::{FirmwarePhase, NodeReading};
use ganglion_protocols::node_settings::{
    MAX_SENSORS, NodeLine, NodeParity, NodeSettings, SensorSettings, SettingsError,
};

use crate::board::{Copies, Memory};
use crate::firmware::Firmware;
use crate::sensor::{FIRST_REGISTER, NONE, REGISTERS_EACH};
use crate::state::State;

/// Version of the register map.
const MAP_VERSION: u16 = 1;
/// The input register of the state of the node.
pub(crate) const STATUS: u16 = 1;
/// The first register of the first sensor's settings.
const SENSOR_BASE: usize = 16;
/// Registers of each sensor's settings; the last five are none.
const SENSOR_EACH: usize = 16;
const SENSOR_USED: usize = 11;
/// The four registers of the resource.
const CRI: usize = 12;
/// Settings before [`CRI`]; between them are none.
const PLAIN: usize = 9;
/// Count of holding registers.
pub(crate) const HOLDING: usize = SENSOR_BASE + SENSOR_EACH * MAX_SENSORS;

type Registers = [u16; HOLDING];

/// Says whether there is such a holding register.
pub(crate) fn is_setting(address: u16) -> bool {
    let address = usize::from(address);
    let of_sensor = address.checked_sub(SENSOR_BASE).map(|behind| behind.checked_rem(SENSOR_EACH));
    match of_sensor {
        None => !(PLAIN..CRI).contains(&address),
        Some(place) => address < HOLDING && place.is_some_and(|place| place < SENSOR_USED),
    }
}

/// Returns the holding registers. Those that are none are 0.
pub(crate) fn holding(settings: &NodeSettings) -> Registers {
    let mut registers = [0; HOLDING];
    let NodeSettings { unit, line, cri, sample_period_s, measure_period_ms, attention, .. } = *settings;
    let parity = match line.parity {
        NodeParity::None => 0,
        NodeParity::Even => 1,
        NodeParity::Odd => 2,
    };
    let plain: [u16; PLAIN] = [
        u16::from(unit),
        u16::try_from(line.baud / 100).unwrap_or(u16::MAX),
        parity,
        u16::from(line.stop_bits),
        sample_period_s,
        measure_period_ms,
        u16::from(attention),
        settings.answer_delay_ms,
        u16::from(settings.test_signal),
    ];
    put(&mut registers, 0, &plain);
    put(&mut registers, CRI, &words64(cri));
    for (place, sensor) in settings.sensors.iter().enumerate() {
        let SensorSettings { offset, gain_ppm, high, low, hysteresis, hold_s } = *sensor;
        let mut at = SENSOR_BASE.saturating_add(SENSOR_EACH.saturating_mul(place));
        for value in [offset, gain_ppm, high, low, hysteresis] {
            put(&mut registers, at, &words32(value.cast_unsigned()));
            at = at.saturating_add(2);
        }
        put(&mut registers, at, &[hold_s]);
    }
    registers
}

/// Makes settings of holding registers, if they are within their ranges; what is no register stays as it was `before`.
pub(crate) fn settings_of(registers: &Registers, before: &NodeSettings) -> Result<NodeSettings, SettingsError> {
    let word = |at: usize| registers.get(at).copied().unwrap_or_default();
    let wide = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at.saturating_add(1)));
    let flag = |at: usize| word(at) != 0;
    let byte = |at: usize| u8::try_from(word(at)).unwrap_or(u8::MAX);
    let parity = match word(2) {
        0 => NodeParity::None,
        1 => NodeParity::Even,
        2 => NodeParity::Odd,
        _ => return Err(SettingsError::Content),
    };
    let mut sensors = [SensorSettings::DEFAULT; MAX_SENSORS];
    for (place, sensor) in sensors.iter_mut().enumerate() {
        let at = SENSOR_BASE.saturating_add(SENSOR_EACH.saturating_mul(place));
        let number = |place: usize| wide(at.saturating_add(place)).cast_signed();
        *sensor = SensorSettings {
            offset: number(0),
            gain_ppm: number(2),
            high: number(4),
            low: number(6),
            hysteresis: number(8),
            hold_s: word(at.saturating_add(10)),
        };
    }
    NodeSettings {
        unit: byte(0),
        line: NodeLine { baud: u32::from(word(1)).saturating_mul(100), parity, stop_bits: byte(3) },
        serial: before.serial,
        cri: u64::from(wide(CRI)) << 32 | u64::from(wide(CRI.saturating_add(2))),
        sample_period_s: word(4),
        measure_period_ms: word(5),
        attention: flag(6),
        answer_delay_ms: word(7),
        test_signal: flag(8),
        sensors,
    }
    .checked()
}

/// Returns a setting by its first register: of one register 0..=65535, of two a signed number. The resource is none.
pub(crate) fn setting(settings: &NodeSettings, key: u16) -> Option<i32> {
    let registers = holding(settings);
    let at = usize::from(key);
    let word = *registers.get(at).filter(|_| is_setting(key) && !(CRI..SENSOR_BASE).contains(&at))?;
    match wide_at(at) {
        None => Some(i32::from(word)),
        Some(true) => {
            let low = *registers.get(at.checked_add(1)?)?;
            Some((u32::from(word) << 16 | u32::from(low)).cast_signed())
        }
        Some(false) => None,
    }
}

/// Changes a setting by its first register.
pub(crate) fn change(settings: &mut NodeSettings, key: u16, value: i32) -> Result<(), SettingsError> {
    let mut registers = holding(settings);
    let at = usize::from(key);
    setting(settings, key).ok_or(SettingsError::Content)?;
    if wide_at(at).is_some() {
        put(&mut registers, at, &words32(value.cast_unsigned()));
    } else {
        put(&mut registers, at, &[u16::try_from(value).map_err(|_| SettingsError::Content)?]);
    }
    *settings = settings_of(&registers, settings)?;
    Ok(())
}

/// Of a register of a number of two: whether it is the first of them.
fn wide_at(at: usize) -> Option<bool> {
    let place = at.checked_sub(SENSOR_BASE)?.checked_rem(SENSOR_EACH)?;
    (place < SENSOR_USED.saturating_sub(1)).then_some(place.is_multiple_of(2))
}

/// Returns an input register; `None` when there is none.
pub(crate) fn input<M: Memory, C: Copies, U: Firmware>(
    state: &State<M, C, U>,
    now: Duration,
    address: u16,
) -> Option<u16> {
    let identity = &state.identity;
    let uptime = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    let half = |value: u32, low: bool| if low { (value & 0xFFFF) as u16 } else { (value >> 16) as u16 };
    let latest = state.latest.as_ref();
    let age = || {
        let taken = latest.filter(|latest| latest.boot == state.store.boot())?;
        let since = now.saturating_sub(Duration::from_millis(taken.at_ms)).as_secs();
        Some(u32::try_from(since).unwrap_or(u32::MAX))
    };
    let serial = |place: usize| words64(identity.serial).get(place).copied();
    if let Some(behind) = address.checked_sub(FIRST_REGISTER) {
        let channel = usize::from(behind.checked_div(REGISTERS_EACH)?);
        identity.channels.get(channel)?;
        let none = NodeReading::Fault(ganglion_protocols::node_link::SensorFault::NoSample);
        let reading = latest.and_then(|latest| latest.readings.get(channel)).copied().unwrap_or(none);
        let (value, code) = match reading {
            NodeReading::Value(value) => (value, 0),
            NodeReading::Fault(fault) => (NONE, u16::from(fault.code()).saturating_add(1)),
        };
        return Some(match behind.checked_rem(REGISTERS_EACH)? {
            0 => half(value.cast_unsigned(), false),
            1 => half(value.cast_unsigned(), true),
            2 => code,
            _ => 0,
        });
    }
    Some(match address {
        0 => MAP_VERSION,
        STATUS => status(state),
        2 | 3 => half(uptime, address == 3),
        4 | 5 => half(state.store.boot(), address == 5),
        6 => identity.reset as u16,
        7 => u16::from_be_bytes([identity.firmware.major, identity.firmware.minor]),
        8 => identity.firmware.patch,
        9 => u16::try_from(identity.channels.len()).unwrap_or(u16::MAX),
        10 | 11 => half(state.store.last(), address == 11),
        12 => u16::try_from(state.store.waiting()).unwrap_or(u16::MAX),
        13 | 14 => half(state.schema().0, address == 14),
        15 => (state.faults.next().saturating_sub(1) & 0xFFFF) as u16,
        16 | 17 => half(latest.map_or(0, |latest| latest.seq), address == 17),
        18 | 19 => half(age().unwrap_or(u32::MAX), address == 19),
        20 => state.sampler.alarms(),
        21..=24 => serial(usize::from(address.saturating_sub(21)))?,
        25..=27 => {
            let (phase, next) = match state.firmware.state().phase {
                FirmwarePhase::Idle => (0, 0),
                FirmwarePhase::Receiving { next, .. } => (1, next),
                FirmwarePhase::Trial => (2, 0),
                FirmwarePhase::RolledBack => (3, 0),
            };
            if address == 25 { phase } else { half(next, address == 27) }
        }
        _ => return None,
    })
}

/// Bit 0: an alarm is on; 1: the clock was never set; 2: the store has no epoch; 3: the test signal takes the sensors'
/// place; 4: the settings were not readable; 5: a sample with which an alarm began is not acknowledged.
fn status<M: Memory, C: Copies, U: Firmware>(state: &State<M, C, U>) -> u16 {
    let bits = [
        state.sampler.alarms() != 0,
        state.store.anchor_of(state.store.boot()).is_none(),
        state.store.epoch() == 0,
        state.settings().test_signal,
        state.settings_damaged(),
        state.alarm_waits(),
    ];
    bits.iter().rev().fold(0, |all, bit| all << 1 | u16::from(*bit))
}

fn put(registers: &mut Registers, at: usize, words: &[u16]) {
    let places = registers.iter_mut().skip(at);
    places.zip(words).for_each(|(place, word)| *place = *word);
}

/// High word first.
fn words32(value: u32) -> [u16; 2] {
    [(value >> 16) as u16, (value & 0xFFFF) as u16]
}

fn words64(value: u64) -> [u16; 4] {
    let [high, low] = [(value >> 32) as u32, (value & 0xFFFF_FFFF) as u32].map(words32);
    let ([a, b], [c, d]) = (high, low);
    [a, b, c, d]
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;

    fn settings() -> NodeSettings {
        let mut settings = NodeSettings { unit: 7, cri: 3_305_029_601_000_131, ..NodeSettings::DEFAULT };
        settings.sensors[2] =
            SensorSettings { offset: -5, gain_ppm: -70_000, high: 90_000, low: -90_000, hysteresis: 70_000, hold_s: 3 };
        settings
    }

    #[test]
    fn settings_are_the_same_after_a_way_through_the_registers() {
        assert_eq!(settings_of(&holding(&settings()), &settings()), Ok(settings()));
    }

    #[test]
    fn a_setting_is_read_and_changed_by_its_first_register() {
        let mut settings = settings();
        assert_eq!(setting(&settings, 4), Some(60));
        assert_eq!(setting(&settings, 48), Some(-5));
        assert_eq!(setting(&settings, 58), Some(3));
        change(&mut settings, 48, -70_000).unwrap();
        change(&mut settings, 4, 5).unwrap();
        assert_eq!((settings.sensors[2].offset, settings.sample_period_s), (-70_000, 5));
        assert_eq!(change(&mut settings, 4, 0), Err(SettingsError::SamplePeriod(0)));
        assert_eq!(settings.sample_period_s, 5, "what is refused changes nothing");
    }

    #[test]
    fn what_is_no_setting_has_no_number() {
        let settings = settings();
        for key in [9, 11, 12, 15, 49, 59, 63, 80, u16::MAX] {
            assert_eq!(setting(&settings, key), None, "{key}");
        }
        let there: std::vec::Vec<u16> = (0..100).filter(|address| is_setting(*address)).collect();
        let expected = (0..9).chain(12..16).chain(16..27).chain(32..43).chain(48..59).chain(64..75);
        assert_eq!(there, expected.collect::<std::vec::Vec<_>>());
    }
}
