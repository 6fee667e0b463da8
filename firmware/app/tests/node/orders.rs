//! Orders: once each, over either face, and what only the board can do after the answer has gone.

use ganglion_node::Wish;
use ganglion_protocols::node_link::{Answer, Ask, Command, Done, Refusal, ResetCause, SensorFault};
use ganglion_protocols::node_settings::NodeSettings;

use super::rig::{CHARACTER, Rig};

const CRI: u64 = 3_305_029_601_000_131;

fn order(rig: &mut Rig, id: u32, command: Command) -> Done {
    let heard = rig.link(&Ask::Do { id, command });
    match heard.answer() {
        Answer::Done { id: got, outcome } if got == id => outcome,
        other => panic!("{other:?}"),
    }
}

fn log(rig: &mut Rig, from: u32) -> (u32, u32, String) {
    let heard = rig.link(&Ask::Log { from });
    match heard.answer() {
        Answer::Log { from, next, text } => (from, next, text.to_owned()),
        other => panic!("{other:?}"),
    }
}

/// Reads the log to its end.
fn whole_log(rig: &mut Rig) -> Vec<String> {
    let (mut lines, mut at) = (Vec::new(), 0);
    for _ in 0..20 {
        let (_, next, text) = log(rig, at);
        if text.is_empty() {
            return lines;
        }
        assert!(next > at);
        at = next;
        lines.extend(text.lines().map(str::to_owned));
    }
    panic!("no end of {lines:?}");
}

#[test]
fn an_order_with_the_number_of_the_one_before_is_answered_and_not_carried_out_again() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    assert_eq!(order(&mut rig, 1, Command::Set { key: 4, value: 30 }), Done::Yes);
    assert_eq!(order(&mut rig, 1, Command::Set { key: 4, value: 31 }), Done::Yes);
    assert_eq!(rig.node.settings().sample_period_s, 30);
    assert_eq!(order(&mut rig, 2, Command::Reset), Done::Yes);
    assert_eq!(order(&mut rig, 2, Command::Reset), Done::Yes);
    assert_eq!(rig.wishes.len(), 1);
}

#[test]
fn a_reset_is_wished_when_the_answer_to_it_is_out() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    rig.pass_s(1);
    assert_eq!(order(&mut rig, 1, Command::Reset), Done::Yes);
    let said = rig.said.last().unwrap();
    let [(at, Wish::Reset)] = rig.wishes.as_slice() else { panic!("{:?}", rig.wishes) };
    assert!(*at >= said.at + CHARACTER * said.bytes.len() as u32, "{at:?} {said:?}");
}

#[test]
fn settings_are_changed_over_the_link_and_read_over_modbus_and_the_other_way() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    assert_eq!(order(&mut rig, 1, Command::Set { key: 20, value: 70_000 }), Done::Yes);
    assert_eq!(rig.modbus(&[0x03, 0, 20, 0, 2]).unwrap(), [0x03, 4, 0, 1, 0x11, 0x70]);
    assert_eq!(rig.modbus(&[0x06, 0, 4, 0, 12]).unwrap(), [0x06, 0, 4, 0, 12]);
    assert_eq!(order(&mut rig, 2, Command::Get { key: 4 }), Done::Value(12));
    assert_eq!(order(&mut rig, 3, Command::Get { key: 9 }), Done::No(Refusal::BadSetting));
    assert_eq!(order(&mut rig, 4, Command::Set { key: 4, value: 0 }), Done::No(Refusal::BadSetting));
    assert_eq!(rig.modbus(&[0x06, 0, 4, 0, 0]).unwrap(), [0x86, 3]);
    let before = *rig.node.settings();
    assert!(rig.restart(ResetCause::Power));
    assert_eq!(*rig.node.settings(), before, "they outlive the power");
}

#[test]
fn an_address_holds_from_the_next_start_on() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    assert_eq!(order(&mut rig, 1, Command::Set { key: 0, value: 9 }), Done::Yes);
    assert!(rig.link_to(1, &Ask::Describe).is_some());
    assert!(rig.link_to(9, &Ask::Describe).is_none());
    assert!(rig.restart(ResetCause::Order));
    assert!(rig.link_to(1, &Ask::Describe).is_none());
    assert!(rig.link_to(9, &Ask::Describe).is_some());
}

#[test]
fn a_node_is_adopted_by_a_valid_resource_only() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    assert_eq!(order(&mut rig, 1, Command::Adopt { cri: 1 }), Done::No(Refusal::BadSetting));
    assert_eq!(order(&mut rig, 2, Command::Adopt { cri: CRI }), Done::Yes);
    let heard = rig.link(&Ask::Describe);
    assert!(matches!(heard.answer(), Answer::Hello(hello) if hello.cri == CRI));
}

#[test]
fn the_lamp_blinks_for_as_long_as_it_was_ordered_to() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    assert_eq!(order(&mut rig, 1, Command::Identify { seconds: 30 }), Done::Yes);
    rig.pass_s(28);
    assert!(rig.node.identifies(rig.now));
    rig.pass_s(2);
    assert!(!rig.node.identifies(rig.now));
    assert!(rig.modbus(&[0x05, 0, 0, 0xFF, 0]).is_some());
    assert!(rig.node.identifies(rig.now));
    assert!(rig.modbus(&[0x05, 0, 0, 0, 0]).is_some());
    assert!(!rig.node.identifies(rig.now));
}

#[test]
fn the_fault_log_tells_the_starts_and_is_read_in_parts() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    for _ in 0..5 {
        assert!(rig.restart(ResetCause::Watchdog));
    }
    let lines = whole_log(&mut rig);
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[5].starts_with("6 boot 6 +0 s started"), "{lines:?}");
    assert_eq!(rig.input(15), 6);
    let next = log(&mut rig, 7);
    assert_eq!(next, (7, 7, String::new()));
    assert_eq!(order(&mut rig, 1, Command::ClearLog), Done::Yes);
    assert_eq!(whole_log(&mut rig).len(), 1, "the latest entry keeps the numbers");
}

#[test]
fn a_sensor_that_goes_on_failing_is_noted_once_each_time_it_begins_to() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    rig.sensors[0] = Err(SensorFault::BrokenWire);
    rig.pass_s(60);
    rig.link(&Ask::Describe);
    rig.pass_s(60);
    let failed = |rig: &mut Rig| whole_log(rig).iter().filter(|line| line.contains("sensor")).count();
    assert_eq!(failed(&mut rig), 1);
    rig.sensors[0] = Ok(5);
    rig.pass_s(5);
    rig.sensors[0] = Err(SensorFault::NoAnswer);
    rig.pass_s(60);
    assert_eq!(failed(&mut rig), 2);
}
