//! The Modbus face: values, exceptions, identification, coils, files.

use ganglion_node::Wish;
use ganglion_protocols::node_link::SensorFault;
use ganglion_protocols::node_settings::NodeSettings;

use super::rig::{CHANNELS, PATIENCE, Rig, VERSION, rtu};

/// Exception codes as the standard numbers them.
const ADDRESS: u8 = 2;
const VALUE: u8 = 3;
const FAILURE: u8 = 4;

fn settings() -> NodeSettings {
    NodeSettings { sample_period_s: 10, ..NodeSettings::DEFAULT }
}

#[test]
fn the_latest_sample_is_read_as_input_registers() {
    let mut rig = Rig::new(settings());
    rig.sensors = [Ok(-70_000), Err(SensorFault::NoAnswer)];
    assert_eq!(rig.modbus(&[0x04, 0, 32, 0, 4]).unwrap(), [0x04, 8, 0x80, 0, 0, 0, 0, 6, 0, 0], "no sample yet");
    rig.pass_s(15);
    let values = rig.modbus(&[0x04, 0, 32, 0, 12]).unwrap();
    let value = (-70_000_i32).to_be_bytes();
    let expected = [&value[..], &[0, 0, 0, 0], &value, &[0, 0, 0, 0], &[0x80, 0, 0, 0, 0, 4, 0, 0]].concat();
    assert_eq!(values[2..], expected);
    assert_eq!((rig.input(11), rig.input(17)), (1, 1));
    assert!(rig.input(19) < 10, "the age of the sample");
}

#[test]
fn the_head_of_the_input_registers_says_what_node_it_is() {
    let mut rig = Rig::new(settings());
    rig.pass_s(70_000);
    assert_eq!(rig.input(0), 1);
    assert_eq!((rig.input(2), rig.input(3)), (1, 4464), "70000 s");
    assert_eq!((rig.input(5), rig.input(6)), (1, 0), "boot and why");
    assert_eq!((rig.input(7), rig.input(8)), (u16::from(VERSION.major) << 8 | u16::from(VERSION.minor), VERSION.patch));
    assert_eq!(usize::from(rig.input(9)), CHANNELS.len());
    assert_eq!([21, 22, 23, 24].map(|address| rig.input(address)), [0x0123, 0x4567, 0x89AB, 0xCDEF]);
    // The clock was never set, and the store has no epoch.
    assert_eq!(rig.input(1), 0b110);
}

#[test]
fn what_is_not_there_gets_the_exception_of_the_standard() {
    let mut rig = Rig::new(settings());
    let refused: &[(&[u8], u8)] = &[
        (&[0x04, 0, 28, 0, 1], ADDRESS),
        (&[0x04, 0, 44, 0, 1], ADDRESS),
        (&[0x04, 0xFF, 0xFF, 0, 1], ADDRESS),
        (&[0x03, 0, 9, 0, 1], ADDRESS),
        (&[0x03, 0, 0, 0, 10], ADDRESS),
        (&[0x03, 0, 0, 0, 126], VALUE),
        (&[0x01, 0, 3, 0, 1], ADDRESS),
        (&[0x02, 0, 2, 0, 1], ADDRESS),
        (&[0x05, 0, 0, 0x12, 0], VALUE),
        (&[0x06, 0, 9, 0, 1], ADDRESS),
        (&[0x06, 0, 2, 0, 3], VALUE),
        (&[0x10, 0, 8, 0, 2, 4, 0, 1, 0, 1], ADDRESS),
        (&[0x15, 9, 6, 0, 1, 0, 0, 0, 1, 1, 2], VALUE),
        (&[0x15, 9, 6, 0, 0, 0, 5, 0, 1, 1, 2], ADDRESS),
        (&[0x15, 9, 6, 0, 1, 0, 80, 0, 1, 1, 2], FAILURE),
        (&[0x05, 0, 2, 0xFF, 0], FAILURE),
        (&[0x18, 0, 0], 1),
        (&[0x41], 1),
    ];
    for (pdu, code) in refused {
        assert_eq!(rig.modbus(pdu).unwrap(), [pdu[0] | 0x80, *code], "{pdu:02X?}");
    }
    assert_eq!(*rig.node.settings(), settings(), "nothing was changed");
}

#[test]
fn a_write_of_several_settings_holds_as_a_whole_or_not_at_all() {
    let mut rig = Rig::new(settings());
    assert_eq!(rig.modbus(&[0x10, 0, 4, 0, 2, 4, 0, 5, 0, 9]).unwrap(), [0x90, VALUE], "measuring each 9 ms");
    assert_eq!(rig.node.settings().sample_period_s, 10);
    assert_eq!(rig.modbus(&[0x10, 0, 4, 0, 2, 4, 0, 5, 0, 10]).unwrap(), [0x10, 0, 4, 0, 2]);
    assert_eq!((rig.node.settings().sample_period_s, rig.node.settings().measure_period_ms), (5, 10));
}

#[test]
fn a_sensor_in_alarm_is_a_discrete_input() {
    let mut settings = settings();
    settings.sensors[1].high = 500;
    let mut rig = Rig::new(settings);
    assert_eq!(rig.modbus(&[0x02, 0, 0, 0, 2]).unwrap(), [0x02, 1, 0b00]);
    rig.sensors[1] = Ok(501);
    rig.pass_s(2);
    assert_eq!(rig.modbus(&[0x02, 0, 0, 0, 2]).unwrap(), [0x02, 1, 0b10]);
    assert_eq!((rig.input(20), rig.input(1) & 0x21), (2, 0x21));
}

#[test]
fn a_reset_by_coil_is_wished_after_its_answer_and_by_broadcast_at_once() {
    let mut rig = Rig::new(settings());
    assert_eq!(rig.modbus(&[0x05, 0, 1, 0xFF, 0]).unwrap(), [0x05, 0, 1, 0xFF, 0]);
    assert_eq!(rig.wishes.len(), 1);
    assert!(rig.wishes[0].0 > rig.said[0].at);
    assert!(rig.asked(&rtu(0, &[0x05, 0, 1, 0xFF, 0])).is_none());
    assert!(matches!(rig.wishes[..], [_, (_, Wish::Reset)]));
}

#[test]
fn a_node_is_identified_by_name() {
    let mut rig = Rig::new(settings());
    let answer = rig.modbus(&[0x2B, 0x0E, 1, 0]).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.contains("Ganglion") && text.contains("host") && text.contains("1.2.3"), "{text}");
    assert_eq!(rig.modbus(&[0x11]).unwrap(), [0x11, 2, b'G', 0xFF]);
}

#[test]
fn only_the_own_unit_is_answered() {
    let mut rig = Rig::new(settings());
    for unit in [0, 2, 247, 255] {
        assert!(rig.asked(&rtu(unit, &[0x03, 0, 0, 0, 1])).is_none(), "{unit}");
    }
    let mut spoiled = rtu(1, &[0x03, 0, 0, 0, 1]);
    spoiled[3] ^= 1;
    assert!(rig.asked(&spoiled).is_none());
    assert!(rig.modbus(&[0x03, 0, 0, 0, 1]).is_some());
}

#[test]
fn a_client_that_asks_both_faces_in_turn_gets_each_answer_on_its_own() {
    let mut rig = Rig::new(settings());
    for _ in 0..20 {
        rig.link(&ganglion_protocols::node_link::Ask::Describe);
        assert!(rig.modbus(&[0x03, 0, 0, 0, 1]).is_some());
    }
    rig.pass(PATIENCE);
    assert_eq!(rig.said.len(), 40);
}
