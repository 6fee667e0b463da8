//! The settings of a sensor node, and the form in which a node keeps them and a commissioning tool writes them.
//!
//! ```text
//! copy     = "GNGS", version u8, length u16, generation u32, settings, CRC-32
//! settings = unit u8, baud u32, parity u8 (0 none, 1 even, 2 odd), stop bits u8, cri u64, serial u64,
//!            sample period s u16, measuring period ms u16, attention u8, answer delay ms u16, test signal u8, 4 x sensor
//! sensor   = offset i32, gain ppm i32, high i32, low i32, hysteresis i32, hold s u16
//! ```
//! Everything is little-endian; what is on or off is 0 or 1.
//!
//! A node has two copies and takes the whole one with the higher generation; it writes the other one. So a loss of power
//! while settings are written leaves those before. The length is that of the settings; the CRC covers everything
//! before it.

use core::fmt;

use crate::bytes::{Full, Reader, Truncated, Writer};
use crate::cri::Cri;
use crate::node_link::checksum;

/// Most sensors whose settings a node keeps.
pub const MAX_SENSORS: usize = 4;
/// Longest form of a copy.
pub const MAX_COPY: usize = 256;

const MAGIC: [u8; 4] = *b"GNGS";
const VERSION: u8 = 1;
const HEAD: usize = 11;
const CRC: usize = 4;
/// Bytes of the settings.
const CONTENT: usize = 31 + 22 * MAX_SENSORS;

/// Everything that is set on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeSettings {
    /// Address on the line, 1..=247, from the next start on.
    pub unit: u8,
    /// The line, from the next start on.
    pub line: NodeLine,
    /// [`Cri::to_bits`] of the resource it measures; 0 before it is commissioned.
    pub cri: u64,
    /// Number of the node, for chips that have none; 0 takes the chip's.
    pub serial: u64,
    /// Seconds from one sample to the next, 1..=3600.
    pub sample_period_s: u16,
    /// Milliseconds from one measurement to the next within a sample, 10..=60000.
    pub measure_period_ms: u16,
    /// The node is alone on its line and may speak unasked.
    pub attention: bool,
    /// Extra milliseconds of silence before an answer, 0..=1000, for slow transceivers.
    pub answer_delay_ms: u16,
    /// Every sensor is replaced by a signal that says when it was measured, to try a line before the sensors are there.
    pub test_signal: bool,
    /// Of each sensor, in the board's order.
    pub sensors: [SensorSettings; MAX_SENSORS],
}

/// How characters lie on the node's line: eight data bits, and two stop bits where there is no parity only if so set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeLine {
    /// Bits per second, 1200..=115200.
    pub baud: u32,
    /// Parity bit.
    pub parity: NodeParity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// Parity of a node's line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeParity {
    /// No parity bit.
    None,
    /// Even, the standard's default.
    Even,
    /// Odd.
    Odd,
}

/// Calibration and limits of one sensor. Numbers are in its units of 10^exponent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SensorSettings {
    /// Added after the gain.
    pub offset: i32,
    /// Parts per million by which a value is larger than what was measured, -500000..=500000.
    pub gain_ppm: i32,
    /// Above it an alarm begins; [`i32::MAX`] is none.
    pub high: i32,
    /// Below it an alarm begins; [`i32::MIN`] is none.
    pub low: i32,
    /// How far back within the limit the alarm is over, 0 or more.
    pub hysteresis: i32,
    /// Seconds for which a limit must be passed, or kept again, 0..=3600.
    pub hold_s: u16,
}

/// Why settings are none. The number is the value found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettingsError {
    /// There is no copy: blank memory, or something else.
    Absent,
    /// The copy is of another version.
    Version(u8),
    /// It is shorter than it says, or longer than any.
    Length(u16),
    /// Its CRC does not fit.
    Crc(u32),
    /// The bytes inside are no settings.
    Content,
    /// The address is not 1..=247.
    Unit(u8),
    /// The baud rate is not 1200..=115200.
    Baud(u32),
    /// There are not 1 or 2 stop bits.
    StopBits(u8),
    /// The resource is no identifier.
    Resource(u64),
    /// The sample period is not 1..=3600 s.
    SamplePeriod(u16),
    /// The measuring period is not 10..=60000 ms, or longer than the sample period.
    MeasurePeriod(u16),
    /// The delay is above 1000 ms.
    AnswerDelay(u16),
    /// The gain is not -500000..=500000 ppm.
    Gain(i32),
    /// The low limit is above the high one.
    Limits(i32),
    /// The hysteresis is negative.
    Hysteresis(i32),
    /// The hold time is above 3600 s.
    Hold(u16),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Absent => f.write_str("there are no settings here"),
            Self::Version(got) => write!(f, "settings of version {got}, this is {VERSION}"),
            Self::Length(got) => write!(f, "settings of {got} bytes do not fit"),
            Self::Crc(got) => write!(f, "the settings' CRC {got:08x} does not fit them"),
            Self::Content => f.write_str("the bytes are no settings"),
            Self::Unit(got) => write!(f, "address {got} is not 1 to 247"),
            Self::Baud(got) => write!(f, "{got} Bd is not 1200 to 115200"),
            Self::StopBits(got) => write!(f, "{got} stop bits are not 1 or 2"),
            Self::Resource(got) => write!(f, "{got:#x} is no resource"),
            Self::SamplePeriod(got) => write!(f, "a sample each {got} s is not each 1 to 3600 s"),
            Self::MeasurePeriod(got) => write!(f, "measuring each {got} ms is not each 10 to 60000 ms within a sample"),
            Self::AnswerDelay(got) => write!(f, "a delay of {got} ms is above 1000"),
            Self::Gain(got) => write!(f, "a gain of {got} ppm is not -500000 to 500000"),
            Self::Limits(got) => write!(f, "the low limit {got} is above the high one"),
            Self::Hysteresis(got) => write!(f, "a hysteresis of {got} is below 0"),
            Self::Hold(got) => write!(f, "a hold time of {got} s is above 3600"),
        }
    }
}

impl core::error::Error for SettingsError {}

impl NodeLine {
    /// Returns the bits of one character, 10 to 12.
    #[must_use]
    pub const fn bits_per_character(self) -> u8 {
        let parity = if matches!(self.parity, NodeParity::None) { 0_u8 } else { 1 };
        9_u8.saturating_add(parity).saturating_add(self.stop_bits)
    }
}

impl SensorSettings {
    /// As measured, without limits.
    pub const DEFAULT: Self = Self { offset: 0, gain_ppm: 0, high: i32::MAX, low: i32::MIN, hysteresis: 0, hold_s: 0 };
}

impl Default for SensorSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl NodeSettings {
    /// What a node has before anybody set anything: unit 1, 9600 Bd, no parity, a sample each minute.
    pub const DEFAULT: Self = Self {
        unit: 1,
        line: NodeLine { baud: 9600, parity: NodeParity::None, stop_bits: 1 },
        cri: 0,
        serial: 0,
        sample_period_s: 60,
        measure_period_ms: 1000,
        attention: false,
        answer_delay_ms: 0,
        test_signal: false,
        sensors: [SensorSettings::DEFAULT; MAX_SENSORS],
    };

    /// Returns the settings if every one is within its range.
    ///
    /// # Errors
    /// The first that is not: see [`SettingsError`].
    pub fn checked(self) -> Result<Self, SettingsError> {
        let period_ms = u32::from(self.sample_period_s).saturating_mul(1000);
        if !(1..=247).contains(&self.unit) {
            return Err(SettingsError::Unit(self.unit));
        }
        if !(1200..=115_200).contains(&self.line.baud) {
            return Err(SettingsError::Baud(self.line.baud));
        }
        if !(1..=2).contains(&self.line.stop_bits) {
            return Err(SettingsError::StopBits(self.line.stop_bits));
        }
        if self.cri != 0 && Cri::from_bits(self.cri).is_err() {
            return Err(SettingsError::Resource(self.cri));
        }
        if !(1..=3600).contains(&self.sample_period_s) {
            return Err(SettingsError::SamplePeriod(self.sample_period_s));
        }
        if !(10..=60_000).contains(&self.measure_period_ms) || u32::from(self.measure_period_ms) > period_ms {
            return Err(SettingsError::MeasurePeriod(self.measure_period_ms));
        }
        if self.answer_delay_ms > 1000 {
            return Err(SettingsError::AnswerDelay(self.answer_delay_ms));
        }
        self.sensors.iter().try_for_each(SensorSettings::check)?;
        Ok(self)
    }

    /// Takes a copy; returns its generation and the settings. Bytes behind it do not matter.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn parse(bytes: &[u8]) -> Result<(u32, Self), SettingsError> {
        let absent = |Truncated| SettingsError::Absent;
        let mut reader = Reader::new(bytes);
        if reader.array().map_err(absent)? != MAGIC {
            return Err(SettingsError::Absent);
        }
        let version = reader.u8().map_err(absent)?;
        if version != VERSION {
            return Err(SettingsError::Version(version));
        }
        let length = u16::from_le_bytes(reader.array().map_err(absent)?);
        let short = |Truncated| SettingsError::Length(length);
        let generation = u32::from_le_bytes(reader.array().map_err(short)?);
        let content = reader.take(usize::from(length)).map_err(short)?;
        let crc = u32::from_le_bytes(reader.array().map_err(short)?);
        let covered = bytes.get(..HEAD.saturating_add(content.len())).unwrap_or_default();
        if checksum(covered) != crc {
            return Err(SettingsError::Crc(crc));
        }
        if content.len() != CONTENT {
            return Err(SettingsError::Length(length));
        }
        let settings = Self::take(&mut Reader::new(content)).map_err(short)?;
        settings.ok_or(SettingsError::Content)?.checked().map(|settings| (generation, settings))
    }

    /// Writes a copy to `out`; returns its length.
    ///
    /// # Errors
    /// [`Full`] when `out` is too short: [`MAX_COPY`] always do.
    pub fn emit(&self, generation: u32, out: &mut [u8]) -> Result<usize, Full> {
        let (head, space) = out.split_first_chunk_mut::<HEAD>().ok_or(Full)?;
        self.put(&mut Writer::new(space))?;
        let length = CONTENT;
        let [l0, l1] = u16::try_from(length).map_err(|_| Full)?.to_le_bytes();
        let [g0, g1, g2, g3] = generation.to_le_bytes();
        let [m0, m1, m2, m3] = MAGIC;
        *head = [m0, m1, m2, m3, VERSION, l0, l1, g0, g1, g2, g3];
        let covered = HEAD.saturating_add(length);
        let crc = checksum(out.get(..covered).ok_or(Full)?).to_le_bytes();
        let behind = out.get_mut(covered..).ok_or(Full)?;
        *behind.first_chunk_mut::<CRC>().ok_or(Full)? = crc;
        Ok(covered.saturating_add(CRC))
    }
}

impl NodeSettings {
    fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.put(&[self.unit])?;
        out.put(&self.line.baud.to_le_bytes())?;
        out.put(&[self.line.parity as u8, self.line.stop_bits])?;
        out.put(&self.cri.to_le_bytes())?;
        out.put(&self.serial.to_le_bytes())?;
        out.put(&self.sample_period_s.to_le_bytes())?;
        out.put(&self.measure_period_ms.to_le_bytes())?;
        out.put(&[u8::from(self.attention)])?;
        out.put(&self.answer_delay_ms.to_le_bytes())?;
        out.put(&[u8::from(self.test_signal)])?;
        for sensor in &self.sensors {
            for number in [sensor.offset, sensor.gain_ppm, sensor.high, sensor.low, sensor.hysteresis] {
                out.put(&number.to_le_bytes())?;
            }
            out.put(&sensor.hold_s.to_le_bytes())?;
        }
        Ok(())
    }

    /// Takes the settings; `None` for a parity or a flag that is none.
    fn take(from: &mut Reader<'_>) -> Result<Option<Self>, Truncated> {
        let unit = from.u8()?;
        let baud = u32::from_le_bytes(from.array()?);
        let parity = match from.u8()? {
            0 => Some(NodeParity::None),
            1 => Some(NodeParity::Even),
            2 => Some(NodeParity::Odd),
            _ => None,
        };
        let stop_bits = from.u8()?;
        let (cri, serial) = (u64::from_le_bytes(from.array()?), u64::from_le_bytes(from.array()?));
        let sample_period_s = u16::from_le_bytes(from.array()?);
        let measure_period_ms = u16::from_le_bytes(from.array()?);
        let attention = from.u8()?;
        let answer_delay_ms = u16::from_le_bytes(from.array()?);
        let test_signal = from.u8()?;
        let mut sensors = [SensorSettings::DEFAULT; MAX_SENSORS];
        for sensor in &mut sensors {
            let mut numbers = [0; 5];
            for number in &mut numbers {
                *number = i32::from_le_bytes(from.array()?);
            }
            let [offset, gain_ppm, high, low, hysteresis] = numbers;
            let hold_s = u16::from_le_bytes(from.array()?);
            *sensor = SensorSettings { offset, gain_ppm, high, low, hysteresis, hold_s };
        }
        let flags = attention <= 1 && test_signal <= 1;
        let settings = parity.filter(|_| flags).map(|parity| Self {
            unit,
            line: NodeLine { baud, parity, stop_bits },
            cri,
            serial,
            sample_period_s,
            measure_period_ms,
            attention: attention == 1,
            answer_delay_ms,
            test_signal: test_signal == 1,
            sensors,
        });
        Ok(settings)
    }
}

impl SensorSettings {
    fn check(&self) -> Result<(), SettingsError> {
        if !(-500_000..=500_000).contains(&self.gain_ppm) {
            return Err(SettingsError::Gain(self.gain_ppm));
        }
        if self.low > self.high {
            return Err(SettingsError::Limits(self.low));
        }
        if self.hysteresis < 0 {
            return Err(SettingsError::Hysteresis(self.hysteresis));
        }
        if self.hold_s > 3600 {
            return Err(SettingsError::Hold(self.hold_s));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> NodeSettings {
        NodeSettings { unit: 3, cri: 3_305_029_601_000_131, sample_period_s: 1, ..NodeSettings::DEFAULT }
    }

    /// A copy, and zeros behind it.
    fn copy(generation: u32, settings: &NodeSettings) -> ([u8; MAX_COPY], usize) {
        let mut bytes = [0; MAX_COPY];
        let used = settings.emit(generation, &mut bytes).expect("it fits");
        (bytes, used)
    }

    #[test]
    fn settings_come_back_as_they_were_written() {
        for settings in [NodeSettings::DEFAULT, settings()] {
            assert_eq!(NodeSettings::parse(&copy(7, &settings).0), Ok((7, settings)));
        }
    }

    #[test]
    fn the_longest_copy_fits_its_place() {
        let sensor = SensorSettings {
            offset: i32::MIN,
            gain_ppm: -500_000,
            high: i32::MAX,
            low: i32::MIN,
            hysteresis: i32::MAX,
            hold_s: 3600,
        };
        let line = NodeLine { baud: 115_200, parity: NodeParity::Odd, stop_bits: 2 };
        let longest = NodeSettings {
            unit: 247,
            line,
            cri: u64::MAX,
            serial: u64::MAX,
            sample_period_s: u16::MAX,
            measure_period_ms: u16::MAX,
            attention: true,
            answer_delay_ms: u16::MAX,
            test_signal: true,
            sensors: [sensor; MAX_SENSORS],
        };
        assert!(longest.emit(u32::MAX, &mut [0; MAX_COPY]).expect("it fits") <= MAX_COPY);
    }

    #[test]
    fn blank_memory_holds_no_settings() {
        for blank in [[0x00; MAX_COPY], [0xFF; MAX_COPY]] {
            assert_eq!(NodeSettings::parse(&blank), Err(SettingsError::Absent));
        }
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let wrong = |change: fn(&mut NodeSettings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.checked().expect_err("out of range")
        };
        assert_eq!(wrong(|settings| settings.unit = 248), SettingsError::Unit(248));
        assert_eq!(wrong(|settings| settings.line.baud = 1199), SettingsError::Baud(1199));
        assert_eq!(wrong(|settings| settings.line.stop_bits = 3), SettingsError::StopBits(3));
        assert_eq!(wrong(|settings| settings.cri = 1), SettingsError::Resource(1));
        assert_eq!(wrong(|settings| settings.sample_period_s = 0), SettingsError::SamplePeriod(0));
        assert_eq!(wrong(|settings| settings.measure_period_ms = 1001), SettingsError::MeasurePeriod(1001));
        assert_eq!(wrong(|settings| settings.answer_delay_ms = 1001), SettingsError::AnswerDelay(1001));
        assert_eq!(wrong(|settings| settings.sensors[3].gain_ppm = 500_001), SettingsError::Gain(500_001));
        assert_eq!(wrong(|settings| settings.sensors[1].hysteresis = -1), SettingsError::Hysteresis(-1));
        assert_eq!(wrong(|settings| settings.sensors[1].hold_s = 3601), SettingsError::Hold(3601));
        let crossed = wrong(|settings| (settings.sensors[0].low, settings.sensors[0].high) = (5, 4));
        assert_eq!(crossed, SettingsError::Limits(5));
    }

    proptest! {
        #[test]
        fn no_changed_byte_goes_unseen(at in 0..MAX_COPY, bits in 1_u8..) {
            let (mut bytes, used) = copy(1, &settings());
            bytes[at] ^= bits;
            prop_assert_eq!(NodeSettings::parse(&bytes).is_err(), at < used);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(NodeSettings::parse(&bytes).is_err());
        }
    }
}
