//! Samples: named, fetched, acknowledged, declared lost.

use ganglion_protocols::node_link::{
    Ack, Answer, Ask, Batch, Lost, NodeLossCause, NodeReading, Refusal, ResetCause, Samples, SensorFault,
};
use ganglion_protocols::node_settings::NodeSettings;

use super::rig::{CHANNELS, Heard, Rig};

const EPOCH: u32 = 0xE00C;
const UTC: u64 = 1_790_000_000_000;

fn settings() -> NodeSettings {
    NodeSettings { sample_period_s: 10, ..NodeSettings::DEFAULT }
}

fn fetch(rig: &mut Rig, ack: Option<u32>, most: u8) -> Heard {
    rig.link(&Ask::Fetch { ack: ack.map(|seq| Ack { epoch: EPOCH, seq }), most })
}

fn batch(heard: &Heard) -> Batch<'_> {
    match heard.answer() {
        Answer::Batch(batch) => batch,
        other => panic!("{other:?}"),
    }
}

/// Numbers and uptimes of a batch.
fn numbers(batch: &Batch<'_>) -> Vec<(u32, u64)> {
    let samples = Samples::new(batch.samples, CHANNELS.len() as u8, batch.base_ms);
    (batch.first..).zip(samples.map(|sample| sample.expect("a sample").at_ms)).collect()
}

/// Takes everything, acknowledging batch by batch; returns numbers and losses.
fn everything(rig: &mut Rig) -> (Vec<u32>, Vec<Lost>) {
    let (mut got, mut lost, mut ack) = (Vec::new(), Vec::new(), None);
    for _ in 0..1000 {
        let heard = fetch(rig, ack, 255);
        let batch = batch(&heard);
        let numbers = numbers(&batch);
        lost.extend(batch.lost);
        got.extend(numbers.iter().map(|(seq, _)| *seq));
        if numbers.is_empty() && batch.lost.is_none() && batch.waiting == 0 {
            return (got, lost);
        }
        ack = numbers.last().map(|(seq, _)| *seq).or(batch.lost.map(|lost| lost.last));
    }
    panic!("there is no end: {got:?} {lost:?}");
}

#[test]
fn a_store_without_a_name_keeps_its_samples_and_hands_none_out() {
    let mut rig = Rig::new(settings());
    rig.pass_s(35);
    assert_eq!(fetch(&mut rig, None, 5).answer(), Answer::Refused(Refusal::Unnamed));
    let nameless = Ask::Time { utc_ms: Some(UTC), error_ms: 1, epoch: 0 };
    assert_eq!(rig.link(&nameless).answer(), Answer::Refused(Refusal::Unnamed));
    rig.acquaint(UTC, EPOCH);
    assert_eq!(batch(&fetch(&mut rig, None, 5)).first, 1);
    assert_eq!(rig.node.epoch(), EPOCH);
}

#[test]
fn a_store_keeps_the_name_that_it_was_given_first() {
    let mut rig = Rig::new(settings());
    rig.acquaint(UTC, EPOCH);
    let heard = rig.link(&Ask::Time { utc_ms: Some(UTC), error_ms: 1, epoch: 77 });
    assert!(matches!(heard.answer(), Answer::Time { epoch: EPOCH, boot: 1, .. }), "{:?}", heard.answer());
}

#[test]
fn time_for_everybody_is_taken_and_not_answered() {
    let mut rig = Rig::new(settings());
    rig.pass_s(100);
    assert!(rig.link_to(0, &Ask::Time { utc_ms: Some(UTC), error_ms: 1, epoch: EPOCH }).is_none());
    let heard = fetch(&mut rig, None, 1);
    let anchor = batch(&heard).anchor_ms.expect("it has the time");
    assert_eq!(anchor, UTC - 100_000);
}

#[test]
fn a_sample_keeps_its_time_when_the_clock_is_set_again_within_its_error() {
    let mut rig = Rig::new(settings());
    rig.acquaint(UTC, EPOCH);
    rig.pass_s(25);
    let first = batch(&fetch(&mut rig, None, 1)).anchor_ms;
    rig.acquaint(UTC + 25_000 + 1_900, EPOCH);
    assert_eq!(batch(&fetch(&mut rig, None, 1)).anchor_ms, first);
    rig.acquaint(UTC + 90_000, EPOCH);
    assert_ne!(batch(&fetch(&mut rig, None, 1)).anchor_ms, first, "a clock that was a minute wrong is set");
}

#[test]
fn samples_are_sent_again_until_they_are_acknowledged_and_then_no_more() {
    let mut rig = Rig::new(settings());
    rig.acquaint(UTC, EPOCH);
    rig.pass_s(100);
    let first = numbers(&batch(&fetch(&mut rig, None, 4)));
    assert_eq!(first.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(first.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [10_000, 20_000, 30_000, 40_000]);
    assert_eq!(numbers(&batch(&fetch(&mut rig, None, 4))), first);
    let heard = fetch(&mut rig, Some(3), 4);
    assert_eq!((batch(&heard).first, batch(&heard).lost), (4, None));
    assert!(batch(&heard).waiting >= 2);
    assert_eq!(batch(&fetch(&mut rig, Some(2), 4)).first, 4, "an old acknowledgement takes nothing back");
}

#[test]
fn an_acknowledgement_of_what_was_never_taken_is_refused_and_one_of_another_life_ignored() {
    let mut rig = Rig::new(settings());
    rig.acquaint(UTC, EPOCH);
    rig.pass_s(25);
    assert_eq!(fetch(&mut rig, Some(99), 4).answer(), Answer::Refused(Refusal::BadAck));
    let other = Ask::Fetch { ack: Some(Ack { epoch: EPOCH + 1, seq: 2 }), most: 4 };
    assert_eq!(batch(&rig.link(&other)).first, 1);
}

#[test]
fn a_batch_holds_samples_of_one_boot_and_its_clock() {
    let mut rig = Rig::new(settings());
    rig.acquaint(UTC, EPOCH);
    rig.pass_s(25);
    assert!(rig.restart(ResetCause::Watchdog));
    rig.acquaint(UTC + 60_000, EPOCH);
    rig.pass_s(25);
    let heard = fetch(&mut rig, None, 255);
    let first = batch(&heard);
    assert_eq!((first.boot, numbers(&first).len(), first.now.0), (1, 2, 2));
    let heard = fetch(&mut rig, Some(2), 255);
    let second = batch(&heard);
    assert_eq!((second.boot, second.first, numbers(&second).len()), (2, 3, 2));
    assert!(first.anchor_ms < second.anchor_ms);
}

#[test]
fn a_store_that_is_full_declares_what_gave_way() {
    let mut rig = Rig::new(settings());
    rig.acquaint(UTC, EPOCH);
    rig.pass_s(3600);
    let (got, lost) = everything(&mut rig);
    let [full] = lost.as_slice() else { panic!("{lost:?}") };
    assert_eq!((full.first, full.cause), (1, NodeLossCause::Full));
    assert_eq!(got, (full.last + 1..=rig.taken.last().unwrap().seq).collect::<Vec<_>>());
}

#[test]
fn samples_of_a_boot_that_never_had_the_time_are_declared_undated() {
    let mut rig = Rig::new(settings());
    rig.pass_s(25);
    assert!(rig.restart(ResetCause::Watchdog));
    rig.acquaint(UTC, EPOCH);
    rig.pass_s(25);
    let (got, lost) = everything(&mut rig);
    assert_eq!(lost, [Lost { first: 1, last: 2, cause: NodeLossCause::Undated }]);
    assert_eq!(got[..2], [3, 4]);
}

#[test]
fn a_sample_that_the_memory_spoiled_is_declared_damaged() {
    let mut rig = Rig::new(settings());
    rig.acquaint(UTC, EPOCH);
    rig.pass_s(55);
    // Of the third sample: where its number lies.
    let marks = 3_u32.to_le_bytes();
    let ram = rig.chip.0.borrow().bytes.clone();
    let place = (540..ram.len() - 8).find(|at| ram[*at..*at + 8] == [marks, 1_u32.to_le_bytes()].concat()).unwrap();
    rig.chip.0.borrow_mut().bytes[place + 9] ^= 0x10;
    let (got, lost) = everything(&mut rig);
    assert_eq!(lost, [Lost { first: 3, last: 3, cause: NodeLossCause::Damaged }]);
    assert_eq!(got[..4], [1, 2, 4, 5]);
}

#[test]
fn power_lost_with_the_memory_begins_a_new_life_without_a_name() {
    let mut rig = Rig::new(settings());
    rig.acquaint(UTC, EPOCH);
    rig.pass_s(55);
    assert!(rig.restart(ResetCause::Power));
    assert_eq!((rig.node.epoch(), rig.node.boot()), (0, 1));
    rig.pass_s(15);
    assert_eq!(fetch(&mut rig, Some(5), 4).answer(), Answer::Refused(Refusal::Unnamed));
    rig.acquaint(UTC, 9);
    assert_eq!(batch(&fetch(&mut rig, Some(1), 4)).first, 1, "an acknowledgement of the life before");
}

#[test]
fn an_alarm_is_sampled_at_once_and_said_with_each_batch_until_it_is_acknowledged() {
    let mut settings = settings();
    settings.sensors[0].high = 500;
    let mut rig = Rig::new(settings);
    rig.acquaint(UTC, EPOCH);
    rig.pass_s(12);
    assert!(!batch(&fetch(&mut rig, None, 9)).alarm);
    rig.sensors[0] = Ok(501);
    rig.pass_s(2);
    let early = rig.taken.last().unwrap().clone();
    assert!(early.seq == 2 && early.at_ms < 16_000, "{early:?}");
    assert!(batch(&fetch(&mut rig, Some(1), 9)).alarm);
    assert!(!batch(&fetch(&mut rig, Some(2), 9)).alarm);
}

#[test]
fn an_alarm_that_is_over_is_said_until_its_sample_is_acknowledged() {
    let mut settings = settings();
    settings.sensors[0].high = 500;
    let mut rig = Rig::new(settings);
    rig.acquaint(UTC, EPOCH);
    rig.sensors[0] = Ok(501);
    rig.pass_s(2);
    rig.sensors[0] = Ok(1);
    rig.pass_s(20);
    assert!(batch(&fetch(&mut rig, None, 9)).alarm);
    let (got, _) = everything(&mut rig);
    assert!(!batch(&fetch(&mut rig, got.last().copied(), 9)).alarm);
}

#[test]
fn a_sensor_that_fails_is_sampled_as_its_fault() {
    let mut rig = Rig::new(settings());
    rig.acquaint(UTC, EPOCH);
    rig.sensors[0] = Err(SensorFault::BrokenWire);
    rig.pass_s(15);
    let heard = fetch(&mut rig, None, 1);
    let batch = batch(&heard);
    let sample = Samples::new(batch.samples, CHANNELS.len() as u8, batch.base_ms).next().unwrap().unwrap();
    let readings: Vec<NodeReading> = sample.readings().collect();
    assert_eq!(readings[0], NodeReading::Fault(SensorFault::BrokenWire));
    assert_eq!(readings[2], NodeReading::Value(1));
}
