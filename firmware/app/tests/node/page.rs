//! `docs/node-registers.md` says what the firmware does: its tables are compared with what a node answers.

use ganglion_protocols::node_link::{ResetCause, SensorFault};
use ganglion_protocols::node_settings::{MAX_SENSORS, NodeSettings};

use super::rig::{CHANNELS, Rig};

const PAGE: &str = include_str!("../../../../docs/node-registers.md");
/// Addresses that are tried: all that the page names, and some behind.
const TRIED: u16 = 100;

/// The cells of the tables below a heading, without their heads.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split("\n#").find(|section| section.trim_start_matches('#').trim_start().starts_with(heading));
    let lines = section.unwrap_or_else(|| panic!("no heading {heading}")).lines().filter(|line| line.starts_with('|'));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let rows: Vec<_> = cells.filter(|cells| cells[0].starts_with(|first: char| first.is_ascii_digit())).collect();
    assert!(!rows.is_empty(), "{heading} has a table");
    rows
}

/// First and last address of a row: `4` or `2-3`.
fn range(row: &[&str]) -> (u16, u16) {
    let (first, last) = row[0].split_once('-').unwrap_or((row[0], row[0]));
    (first.parse().unwrap(), last.parse().unwrap())
}

fn addresses(rows: &[Vec<&str>]) -> Vec<u16> {
    rows.iter().map(|row| range(row)).flat_map(|(first, last)| first..=last).collect()
}

/// The addresses at which a read of one item by this function is answered.
fn answered(function: u8) -> Vec<u16> {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    let answers = |address: &u16| {
        let [high, low] = address.to_be_bytes();
        rig.modbus(&[function, high, low, 0, 1]).unwrap()[0] == function
    };
    (0..TRIED).filter(answers).collect()
}

fn codes(heading: &str) -> Vec<(u16, &'static str)> {
    rows(heading).iter().map(|row| (row[0].parse().unwrap(), row[1])).collect()
}

/// A name of the code as words.
fn words(name: &str) -> String {
    let mut words = String::new();
    for (place, letter) in name.char_indices() {
        if letter.is_uppercase() && place > 0 {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

fn registers(value: i64, count: u16) -> Vec<u8> {
    value.to_be_bytes()[8 - 2 * usize::from(count)..].to_vec()
}

fn write(rig: &mut Rig, first: u16, count: u16, value: i64) -> bool {
    let bytes = registers(value, count);
    let [high, low] = first.to_be_bytes();
    let head = [0x10, high, low, 0, count as u8, bytes.len() as u8];
    rig.modbus(&[&head[..], &bytes].concat()).unwrap()[0] == 0x10
}

#[test]
fn the_input_registers_of_the_page_are_those_that_there_are() {
    let all = addresses(&rows("Input registers"));
    let (head, channel): (Vec<u16>, Vec<u16>) = all.iter().partition(|address| **address < 32);
    let channels = (0..CHANNELS.len() as u16).flat_map(|place| channel.iter().map(move |at| at + 4 * place));
    assert_eq!(head.into_iter().chain(channels).collect::<Vec<_>>(), answered(0x04));
}

#[test]
fn the_holding_registers_of_the_page_are_those_that_there_are() {
    let all = addresses(&rows("Holding registers"));
    let (plain, sensor): (Vec<u16>, Vec<u16>) = all.iter().partition(|address| **address < 16);
    let sensors = (0..MAX_SENSORS as u16).flat_map(|place| sensor.iter().map(move |at| at + 16 * place));
    assert_eq!(plain.into_iter().chain(sensors).collect::<Vec<_>>(), answered(0x03));
}

#[test]
fn each_holding_register_has_the_default_and_the_limits_of_the_page() {
    for row in rows("Holding registers") {
        let (first, last) = range(&row);
        let count = last - first + 1;
        let mut rig = Rig::new(NodeSettings { sample_period_s: 3600, ..NodeSettings::DEFAULT });
        let [least, most, default] = [2, 3, 4].map(|column| row[column].parse::<i64>().ok());
        if first != 4 {
            let [high, low] = first.to_be_bytes();
            let read = rig.modbus(&[0x03, high, low, 0, count as u8]).unwrap();
            assert_eq!(read[2..], registers(default.unwrap(), count), "default of {row:?}");
        }
        let (Some(least), Some(most)) = (least, most) else { continue };
        let (lowest, highest) = if count == 1 { (0, 0xFFFF) } else { (i32::MIN.into(), i32::MAX.into()) };
        for (value, expected) in [(least, true), (most, true), (least - 1, false), (most + 1, false)] {
            // A flag takes any number but 0 for on.
            let flag = most == 1;
            if (lowest..=highest).contains(&value) && !(flag && value > most) {
                // The two limits of a sensor limit each other.
                assert_eq!(write(&mut rig, first, count, value), expected, "{value} to {row:?}");
            }
            let before = NodeSettings { sample_period_s: 3600, ..NodeSettings::DEFAULT };
            rig = Rig::new(before);
        }
    }
    assert_eq!(NodeSettings::DEFAULT.sample_period_s, 60, "row 4");
}

#[test]
fn the_coils_of_the_page_are_those_that_there_are_and_each_sensor_is_a_discrete_input() {
    assert_eq!(addresses(&rows("Coils")), answered(0x01));
    assert_eq!(answered(0x02), [0, 1], "two sensors");
}

#[test]
fn the_codes_of_the_page_are_those_of_the_firmware() {
    use ResetCause::{BrownOut, Fault, Order, Pin, Power, Unknown, Update, Watchdog};
    let causes = [Power, Pin, Order, Watchdog, Fault, BrownOut, Update, Unknown];
    let causes: Vec<_> = causes.iter().map(|cause| (*cause as u16, words(&format!("{cause:?}")))).collect();
    let page: Vec<_> = codes("Why it started").iter().map(|(code, name)| (*code, (*name).to_owned())).collect();
    assert_eq!(page, causes);
    let faults = (0..=u8::MAX).map_while(SensorFault::from_code);
    let faults = faults.map(|fault| (u16::from(fault.code()) + 1, words(&format!("{fault:?}"))));
    let states: Vec<_> = [(0, "good".to_owned())].into_iter().chain(faults).collect();
    let page: Vec<_> = codes("State of a value").iter().map(|(code, name)| (*code, (*name).to_owned())).collect();
    assert_eq!(page, states);
    assert_eq!(codes("Status").len(), 6);
    assert_eq!(codes("State of the firmware").len(), 4);
    assert_eq!(codes("Exceptions").iter().map(|(code, _)| *code).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn the_status_bits_are_those_of_the_page() {
    let mut settings = NodeSettings { test_signal: true, ..NodeSettings::DEFAULT };
    let bit = |rig: &mut Rig, wanted: &str| {
        let status = codes("Status");
        let (bit, _) = status.iter().find(|(_, what)| what.contains(wanted)).unwrap();
        rig.input(1) >> bit & 1 == 1
    };
    settings.sensors[0].high = 30;
    let mut rig = Rig::new(settings);
    let early = ["alarm is on", "clock", "no name", "test signal", "not readable", "not acknowledged"];
    assert_eq!(early.map(|what| bit(&mut rig, what)), [false, true, true, true, false, false]);
    // The test signal counts tenths of a second.
    rig.pass_s(10);
    rig.acquaint(1_790_000_000_000, 5);
    assert_eq!(early.map(|what| bit(&mut rig, what)), [true, false, false, true, false, true]);
    rig.pages.0.borrow_mut()[0][20] ^= 1;
    assert!(rig.restart(ResetCause::Order));
    assert!(bit(&mut rig, "not readable"));
}

#[test]
fn the_functions_of_the_page_are_those_that_are_answered() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    let there = (1..=0x7F_u8).filter(|function| {
        let pdu: &[u8] = match *function {
            0x08 => &[0x08, 0, 0, 0, 0],
            0x2B => &[0x2B, 0x0E, 1, 0],
            _ => &[*function],
        };
        rig.modbus(pdu).unwrap() != [*function | 0x80, 1]
    });
    let line = PAGE.lines().find_map(|line| line.strip_prefix("- **Functions**: ")).unwrap();
    let (list, _) = line.split_once('.').unwrap();
    let listed = list.split(", ").map(|name| u8::from_str_radix(name.get(..2).unwrap(), 16).unwrap());
    assert_eq!(listed.collect::<Vec<_>>(), there.collect::<Vec<_>>());
}
