//! When a node speaks: not before the silence, not over anybody, and unasked only where it is alone.

use std::time::Duration;

use ganglion_protocols::node_link::{Answer, Ask, Head, Speaker, VERSION};
use ganglion_protocols::node_settings::NodeSettings;

use super::rig::{CHARACTER, PATIENCE, Rig, question, rtu};

const READ: [u8; 5] = [0x03, 0, 0, 0, 1];

fn slow() -> NodeSettings {
    NodeSettings { answer_delay_ms: 100, ..NodeSettings::DEFAULT }
}

/// Bytes at the pace of the line, with the node's loop turning between.
fn pace(rig: &mut Rig, bytes: &[u8]) {
    for byte in bytes {
        rig.pass(CHARACTER);
        rig.hears(&[*byte]);
    }
}

#[test]
fn an_answer_begins_after_three_and_a_half_characters_of_silence_and_soon_after() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    let link = rig.question(1, &Ask::Describe);
    for frame in [rtu(1, &READ), link] {
        rig.pass_s(1);
        pace(&mut rig, &frame);
        let (end, before) = (rig.now, rig.said.len());
        rig.pass(PATIENCE);
        let silence = rig.said[before].at - end;
        assert!(silence >= CHARACTER * 7 / 2, "{silence:?}");
        assert!(silence <= CHARACTER * 4, "{silence:?}");
    }
}

#[test]
fn an_answer_waits_for_as_long_as_is_set() {
    let mut rig = Rig::new(slow());
    rig.pass_s(1);
    let end = rig.now;
    assert!(rig.modbus(&READ).is_some());
    let silence = rig.said[0].at - end;
    assert!(silence >= Duration::from_millis(103) && silence < Duration::from_millis(105), "{silence:?}");
}

#[test]
fn a_frame_with_a_pause_inside_of_less_than_the_silence_is_one_frame() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    let frame = rtu(1, &READ);
    rig.hears(&frame[..4]);
    rig.pass(CHARACTER * 3);
    assert!(rig.asked(&frame[4..]).is_some());
    rig.hears(&frame[..4]);
    rig.pass(CHARACTER * 4);
    assert!(rig.asked(&frame[4..]).is_none(), "two halves are none");
}

#[test]
fn a_new_question_takes_the_place_of_an_answer_that_was_not_sent() {
    let mut rig = Rig::new(slow());
    rig.hears(&rtu(1, &READ));
    rig.pass(Duration::from_millis(50));
    let said = rig.asked(&rtu(1, &[0x06, 0, 4, 0, 30])).expect("an answer");
    assert_eq!(said.bytes[1], 0x06);
    rig.pass(PATIENCE);
    assert_eq!(rig.said.len(), 1);
}

#[test]
fn an_answer_that_comes_due_while_somebody_speaks_is_not_sent_into_that() {
    let mut rig = Rig::new(slow());
    rig.hears(&rtu(1, &READ));
    rig.pass(Duration::from_millis(80));
    // 50 characters: over the moment at which the answer was due.
    pace(&mut rig, &[0x55; 50]);
    assert_eq!(rig.said.len(), 0, "the line is taken");
}

#[test]
fn an_answer_is_dropped_when_another_unit_is_asked_before_it_is_out() {
    for link in [false, true] {
        let mut rig = Rig::new(slow());
        rig.hears(&rtu(1, &READ));
        rig.pass(Duration::from_millis(50));
        let head = Head { version: VERSION, speaker: Speaker::Gateway, unit: 2, token: 1 };
        let other = if link { question(head, &Ask::Describe) } else { rtu(2, &READ) };
        assert!(rig.asked(&other).is_none(), "unit 2 answers now");
    }
}

#[test]
fn a_node_alone_on_its_line_says_hello_after_a_start_and_when_an_alarm_begins() {
    let mut settings = NodeSettings { attention: true, ..NodeSettings::DEFAULT };
    settings.sensors[0].high = 500;
    let mut rig = Rig::new(settings);
    rig.pass_s(100);
    assert_eq!(rig.said.len(), 1, "once");
    let (head, payload) = rig.said[0].opened();
    assert_eq!((head.speaker, head.token), (Speaker::Node, 0));
    assert!(matches!(Answer::parse(head.version, &payload), Ok(Answer::Hello(_))));
    rig.sensors[0] = Ok(501);
    rig.pass_s(100);
    assert_eq!(rig.said.len(), 2);
    rig.sensors[0] = Ok(0);
    rig.pass_s(100);
    assert_eq!(rig.said.len(), 2, "the end of an alarm is no reason to speak");
}

#[test]
fn an_alarm_that_begins_while_a_question_comes_is_said_after_the_answer() {
    let mut settings = NodeSettings { attention: true, ..NodeSettings::DEFAULT };
    settings.sensors[0].high = 500;
    let mut rig = Rig::new(settings);
    rig.pass(Duration::from_millis(2_900));
    rig.sensors[0] = Ok(501);
    let frame = rtu(1, &[0x10, 0, 4, 0, 1, 2, 0, 60]);
    let half = Duration::from_millis(100) - CHARACTER * 5;
    rig.pass(half);
    pace(&mut rig, &frame);
    rig.pass(PATIENCE);
    let kinds: Vec<bool> = rig.said[1..].iter().map(|said| said.bytes[0] == 0).collect();
    assert_eq!(kinds, [false, true], "the answer, then the hello");
    assert!(rig.said[2].at >= rig.said[1].at + CHARACTER * rig.said[1].bytes.len() as u32);
}

#[test]
fn a_lamp_and_a_sample_are_looked_at_in_time_though_nobody_speaks() {
    let mut rig = Rig::new(NodeSettings { sample_period_s: 7, measure_period_ms: 333, ..NodeSettings::DEFAULT });
    rig.pass_s(7 * 500);
    let times: Vec<u64> = rig.taken.iter().map(|stored| stored.at_ms).collect();
    assert_eq!(times, (1..=500).map(|count| count * 7_000).collect::<Vec<_>>());
}
