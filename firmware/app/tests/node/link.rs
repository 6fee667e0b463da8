//! The node link: who is asked, who answers, and what.

use std::time::Duration;

use ganglion_protocols::node_link::{
    Answer, Ask, FirmwareAsk, Head, Refusal, ResetCause, Speaker, VERSION as LINK, slot,
};
use ganglion_protocols::node_settings::NodeSettings;

use super::rig::{CHANNELS, PATIENCE, Rig, SERIAL, VERSION, question};

const WHO: Ask<'static> = Ask::Who { salt: 7, slots: 16, slot_ms: 60, all: false };

#[test]
fn a_node_says_who_it_is() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    let heard = rig.link(&Ask::Describe);
    let Answer::Hello(hello) = heard.answer() else { panic!("{:?}", heard.answer()) };
    assert_eq!((hello.serial, hello.board, hello.firmware), (SERIAL, "host", VERSION));
    assert_eq!((usize::from(hello.channels), hello.epoch, hello.boot), (CHANNELS.len(), 0, 1));
    assert_eq!((hello.cri, hello.reset, hello.persistent), (0, ResetCause::Power, false));
}

#[test]
fn a_node_describes_each_of_its_channels_and_no_other() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    for index in 0..CHANNELS.len() as u8 {
        let heard = rig.link(&Ask::Channel { index });
        let Answer::Channel(channel) = heard.answer() else { panic!("{:?}", heard.answer()) };
        assert_eq!((channel.index, channel.property, channel.unit), (index, "pressure", "kPa"));
        assert_eq!((channel.register, channel.period_s), (32 + 4 * u16::from(index), 60));
    }
    let heard = rig.link(&Ask::Channel { index: CHANNELS.len() as u8 });
    assert_eq!(heard.answer(), Answer::Refused(Refusal::NoChannel));
}

#[test]
fn an_unknown_version_is_answered_in_version_0_and_not_guessed() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    let head = Head { version: 9, speaker: Speaker::Gateway, unit: 1, token: 77 };
    let (head, payload) = rig.asked(&question(head, &Ask::Describe)).expect("an answer").opened();
    assert_eq!(head, Head { version: 0, speaker: Speaker::Node, unit: 1, token: 77 });
    assert_eq!(payload, [0, LINK, LINK]);
}

#[test]
fn only_the_own_unit_is_answered_and_no_other_node() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    assert!(rig.link_to(2, &Ask::Describe).is_none());
    assert!(rig.link_to(0, &Ask::Describe).is_none(), "a question to everybody has no answer");
    for (version, speaker, unit) in [(LINK, Speaker::Node, 1), (9, Speaker::Gateway, 0), (9, Speaker::Gateway, 2)] {
        let head = Head { version, speaker, unit, token: 1 };
        assert!(rig.asked(&question(head, &Ask::Describe)).is_none(), "{head:?}");
    }
    assert!(rig.link_to(1, &Ask::Describe).is_some());
}

#[test]
fn a_payload_that_is_no_message_is_refused() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    let mut frame = [0; 256];
    for (payload, unit, expected) in [(&[0xFF][..], 1, true), (&[], 1, true), (&[1, 0], 1, true), (&[0xFF], 0, false)] {
        let head = Head { version: LINK, speaker: Speaker::Gateway, unit, token: 5 };
        let used = ganglion_protocols::node_link::seal(head, payload, &mut frame).unwrap();
        let said = rig.asked(&frame[..used]).map(|said| said.opened());
        assert_eq!(said.is_some(), expected, "{payload:?}");
        if let Some((head, payload)) = said {
            assert_eq!(Answer::parse(head.version, &payload), Ok(Answer::Refused(Refusal::NotAMessage)));
        }
    }
}

#[test]
fn a_node_that_nobody_knows_answers_the_question_who_is_there_in_its_slot() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    rig.pass_s(1);
    let asked = rig.now;
    let heard = rig.link_to(0, &WHO).expect("an answer");
    assert!(matches!(heard.answer(), Answer::Hello(_)));
    let wait = Duration::from_millis(60) * u32::from(slot(SERIAL, 7, 16));
    let at = rig.said[0].at - asked;
    assert!(at >= wait && at < wait + Duration::from_millis(10), "{at:?}, its slot is at {wait:?}");
}

#[test]
fn a_node_that_was_asked_by_its_address_keeps_silent_unless_all_are_meant() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    rig.link(&Ask::Describe);
    assert!(rig.link_to(0, &WHO).is_none());
    let all = Ask::Who { salt: 7, slots: 4, slot_ms: 60, all: true };
    assert!(rig.link_to(0, &all).is_some());
    rig.restart(ResetCause::Order);
    assert!(rig.link_to(0, &WHO).is_some(), "a new start, a new acquaintance");
}

#[test]
fn a_slot_is_kept_while_other_nodes_speak_in_theirs() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    // A salt with which others have slots before this one.
    let salt = (0..).find(|salt| slot(SERIAL, *salt, 16) > 4).unwrap();
    let frame = rig.question(0, &Ask::Who { salt, slots: 16, slot_ms: 60, all: false });
    rig.hears(&frame);
    rig.pass(Duration::from_millis(20));
    let other = Head { version: LINK, speaker: Speaker::Node, unit: 2, token: rig.token() };
    rig.hears(&question(other, &Ask::Describe));
    rig.pass(PATIENCE);
    assert_eq!(rig.said.len(), 1);
}

#[test]
fn a_shared_line_is_never_spoken_on_unasked() {
    let mut rig = Rig::new(NodeSettings { sample_period_s: 1, ..NodeSettings::DEFAULT });
    rig.pass_s(3600);
    assert_eq!((rig.taken.len(), rig.said.len()), (3600, 0));
}

#[test]
fn firmware_is_refused_where_there_is_no_room_for_it() {
    let mut rig = Rig::new(NodeSettings::DEFAULT);
    let heard = rig.link(&Ask::Firmware(FirmwareAsk::State));
    assert!(matches!(heard.answer(), Answer::Firmware(state) if state.running == VERSION));
    for ask in [
        FirmwareAsk::Begin { header: &[0; 160], downgrade: false },
        FirmwareAsk::Write { offset: 160, data: &[1, 2] },
        FirmwareAsk::Install,
        FirmwareAsk::Abandon,
    ] {
        assert_eq!(rig.link(&Ask::Firmware(ask)).answer(), Answer::Refused(Refusal::Unable), "{ask:?}");
    }
}
