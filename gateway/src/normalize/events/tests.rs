use std::sync::Arc;

use ganglion_drivers::alarm::Condition;
use ganglion_protocols::modbus::ValueType;
use tokio::sync::mpsc;

use super::super::tests::{cri, point, sample, site};
use super::super::{observe, run};
use super::*;
use crate::monitor::Monitor;
use crate::pipeline::{Acquired, Offered};
use crate::site::{Alarm as Watch, NamedProperty, REACHABLE, Scale, Stream, StreamId};

const ABOVE: StreamId = StreamId(0);
const OPEN: StreamId = StreamId(1);
const AWAY: StreamId = StreamId(2);

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A device that reads a pressure in kPa, watched above 1 MPa, and a cover; and one more device of the same resource.
fn watched() -> Site {
    let scale = Some(Scale { multiply: 1.0, divide: 1000.0, offset: 0.0 });
    let pressure = crate::site::Point { scale, ..point(0, 0, ValueType::U16) };
    let mut cover = point(1, 0, ValueType::Bool);
    cover.place = 1;
    let mut site = site(vec![pressure, cover], 1);
    let state = |name: &str| NamedProperty::state(name.to_owned());
    let value = NamedProperty { name: "pressure".to_owned(), unit: "MPa".to_owned() };
    let stream = |properties: Vec<NamedProperty>| Stream {
        resource: cri(0),
        domain: "water".to_owned(),
        properties: properties.into(),
    };
    site.event_streams = vec![
        stream(vec![value, state("pressure.above")]),
        stream(vec![state("cover_open")]),
        stream(vec![state(REACHABLE)]),
    ];
    let device = &mut site.devices[0];
    device.groups[0].alarms = vec![
        Watch {
            point: 0,
            condition: Condition::Above { limit: 1.0, hysteresis: 0.1 },
            hold: Duration::ZERO,
            stream: ABOVE,
        },
        Watch { point: 1, condition: Condition::On, hold: Duration::ZERO, stream: OPEN },
    ];
    device.reachable = vec![AWAY];
    site.devices.push(site.devices[0].clone());
    site
}

fn polled(pressure: u16, cover: u16) -> Sample {
    sample(vec![Ok(vec![pressure, 0, 0, 0]), Ok(vec![cover, 0, 0, 0])])
}

fn silent(reason: Reason) -> Sample {
    sample(vec![Err(reason), Err(reason)])
}

/// Plays samples, each with its second, and returns the second, stream and readings of each event.
fn play(site: &Site, samples: impl IntoIterator<Item = (u64, Sample)>) -> Vec<(u64, StreamId, Vec<Reading>)> {
    let mut events = Events::new(site);
    let mut seen = Vec::new();
    for (now, sample) in samples {
        let made = events.observe(site, s(now), &sample, &observe(site, &sample));
        seen.extend(made.into_iter().map(|event| (now, event.stream, event.readings)));
    }
    seen
}

fn good(value: Value) -> Reading {
    Reading { value: Some(value), quality: Quality::Good }
}

#[test]
fn an_alarm_shows_its_value_and_its_state_and_a_state_shows_itself() {
    let samples = [polled(990, 0), polled(1001, 0), polled(950, 1), polled(900, 1), polled(900, 0)];
    let seen = play(&watched(), (0..).zip(samples));
    let expected = [
        (1, ABOVE, vec![good(Value::Double(1.001)), state(true, Quality::Good)]),
        (2, OPEN, vec![state(true, Quality::Good)]),
        (3, ABOVE, vec![good(Value::Double(0.9)), state(false, Quality::Good)]),
        (4, OPEN, vec![state(false, Quality::Good)]),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_start_in_order_says_nothing_and_one_in_alarm_says_so_at_once() {
    assert_eq!(play(&watched(), [(0, polled(500, 0))]), []);
    let streams: Vec<_> = play(&watched(), [(0, polled(2000, 1))]).into_iter().map(|(_, stream, _)| stream).collect();
    assert_eq!(streams, [ABOVE, OPEN]);
}

#[test]
fn an_alarm_stands_while_its_device_is_silent() {
    let samples = [(0, polled(2000, 0)), (1, silent(Reason::Timeout)), (2, polled(2000, 0)), (3, polled(500, 0))];
    let states: Vec<_> = play(&watched(), samples).into_iter().map(|(now, stream, _)| (now, stream)).collect();
    assert_eq!(states, [(0, ABOVE), (3, ABOVE)]);
}

#[test]
fn a_device_that_misses_three_polls_cannot_be_reached_until_it_answers_and_it_is_said_once_each() {
    let silent = || silent(Reason::Timeout);
    let samples =
        [polled(1, 0), silent(), silent(), polled(1, 0), silent(), silent(), silent(), silent(), polled(1, 0)];
    let expected = [
        (6, AWAY, vec![state(false, Quality::Uncertain(Reason::Timeout))]),
        (8, AWAY, vec![state(true, Quality::Good)]),
    ];
    assert_eq!(play(&watched(), (0..).zip(samples)), expected);
}

#[test]
fn a_device_that_is_never_there_is_said_to_be_away_with_the_last_reason() {
    let samples = [Reason::Disconnected, Reason::Disconnected, Reason::Timeout, Reason::Timeout].map(silent);
    let expected = [(2, AWAY, vec![state(false, Quality::Uncertain(Reason::Timeout))])];
    assert_eq!(play(&watched(), (0..).zip(samples)), expected);
}

#[test]
fn polls_that_follow_each_other_quickly_wait_for_a_connection() {
    let mut events = Events::new(&watched());
    let mut at = |ms| {
        let sample = silent(Reason::Disconnected);
        events.observe(&watched(), Duration::from_millis(ms), &sample, &observe(&watched(), &sample)).len()
    };
    assert_eq!((0..20).map(|poll| at(100 * poll)).sum::<usize>(), 0);
    assert_eq!(at(2000), 1);
}

#[test]
fn another_device_in_its_place_is_not_reached_and_one_that_refuses_or_answers_in_part_is() {
    let last = |states: [Option<Reason>; 2]| {
        let mut sample = polled(1, 0);
        sample.states = states.to_vec();
        play(&watched(), (0..5).map(|now| (now, sample.clone()))).len()
    };
    let exception = |code| Some(Reason::Exception(code));
    assert_eq!(last([Some(Reason::WrongDevice); 2]), 1);
    assert_eq!(last([exception(ExceptionCode::GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND); 2]), 1);
    assert_eq!(last([exception(ExceptionCode::SERVER_DEVICE_BUSY); 2]), 0);
    assert_eq!(last([Some(Reason::Timeout), None]), 0);
}

#[test]
fn a_resource_is_reached_when_all_its_devices_are() {
    let mut samples = Vec::new();
    for now in 0..20 {
        for (device, away) in [(0, 2..12), (1, 6..9)] {
            let sample = if away.contains(&now) { silent(Reason::Timeout) } else { polled(1, 0) };
            samples.push((now, Sample { device: crate::site::DeviceId(device), ..sample }));
        }
    }
    let seen: Vec<_> =
        play(&watched(), samples).into_iter().map(|(now, _, readings)| (now, readings[0].value)).collect();
    assert_eq!(seen, [(4, Some(Value::Bool(false))), (12, Some(Value::Bool(true)))]);
}

#[test]
fn a_sample_of_no_device_of_the_site_makes_no_event() {
    let mut stray = polled(2000, 1);
    stray.device = crate::site::DeviceId(7);
    assert_eq!(play(&watched(), [(0, stray)]), []);
    let mut stray = polled(2000, 1);
    stray.group = 7;
    assert_eq!(play(&watched(), [(0, stray)]), []);
}

#[tokio::test]
async fn samples_go_in_and_events_come_out_beside_observations_and_are_counted() {
    let site = Arc::new(watched());
    let monitor = Arc::new(Monitor::new(&site));
    let (samples, received) = mpsc::channel(8);
    let (observations, mut observed) = mpsc::channel(8);
    let (events, mut told) = mpsc::channel(8);
    for sample in [polled(500, 0), polled(2000, 1), polled(2000, 0)] {
        samples.send(Acquired::Sample(sample)).await.unwrap();
    }
    drop(samples);
    run(Arc::clone(&site), Arc::clone(&monitor), received, observations, events).await;
    let mut streams = Vec::new();
    while let Some(event) = told.recv().await {
        let Offered::Observation(event) = event else { panic!("no loss is an event: {event:?}") };
        streams.push(event.stream);
    }
    assert_eq!(streams, [ABOVE, OPEN, OPEN]);
    let mut count = 0;
    while observed.recv().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
    let snapshot = monitor.snapshot();
    assert_eq!((snapshot.event_resources[&cri(0)].sampled, snapshot.resources[&cri(0)].sampled), (3, 3));
    let standing: Vec<_> = snapshot.standing[&cri(0)].keys().collect();
    assert_eq!(standing, ["pressure.above"], "the cover is closed again");
}
