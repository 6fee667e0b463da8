//! What makes an alarm, and the streams of events that come of it.

use std::sync::Arc;
use std::time::Duration;

use ganglion::config::Severity;
use ganglion::monitor::{LogName, Monitor};
use ganglion::pipeline::Offered;
use ganglion::site::{Device, Site, StreamId};
use ganglion::vitals;
use ganglion_drivers::alarm::Condition;
use ganglion_protocols::Value;
use tokio::sync::{mpsc, watch};

use super::copy::Copy;

const COVER: &str = "[[point]]\nproperty = \"cover_open\"\ntable = \"coil\"\naddress = 0\n";

/// A pump house whose transmitter reads a pressure and a cover, with what their template and the device say of alarms.
fn transmitter(pressure: &str, cover: &str, device: &str) -> Copy {
    let copy = Copy::new();
    let point =
        "[[point]]\nproperty = \"pressure\"\ntable = \"holding\"\naddress = 0\ntype = \"u16\"\nunit = \"MPa\"\n";
    let text = format!("[template]\nname = \"pressure-transmitter\"\n{point}{pressure}\n{COVER}{cover}\n");
    copy.write("../templates/pressure-transmitter.toml", &text);
    let line = "pressure = { below = 0.2, above = 0.8, hysteresis = 0.02, for_s = 5 }\n";
    copy.change("pump-house.toml", line, device);
    copy
}

fn shown(site: &Site, stream: StreamId) -> (String, Vec<(&str, &str)>) {
    let stream = &site.event_streams[stream.0];
    let properties = stream.properties.iter().map(|property| (property.name.as_str(), property.unit.as_str()));
    (stream.resource.to_string(), properties.collect())
}

fn conditions(device: &Device) -> Vec<(usize, Condition, u64)> {
    let alarms = device.groups.iter().flat_map(|group| &group.alarms);
    alarms.map(|alarm| (alarm.point, alarm.condition, alarm.hold.as_secs())).collect()
}

#[test]
fn a_number_has_limits_a_state_has_none_and_each_alarm_is_a_stream_of_its_resource() {
    let site =
        transmitter("alarm = { below = 0.1, above = 1.2, hysteresis = 0.05, for_s = 10 }", "alarm = true", "").load();
    let device = &site.devices[0];
    let (above, below) =
        (Condition::Above { limit: 1.2, hysteresis: 0.05 }, Condition::Below { limit: 0.1, hysteresis: 0.05 });
    assert_eq!(conditions(device), [(0, above, 10), (0, below, 10), (1, Condition::On, 0)]);
    let own = "330502-9601-000123-02".to_owned();
    let streams: Vec<_> = device.groups[0].alarms.iter().map(|alarm| shown(&site, alarm.stream)).collect();
    assert_eq!(
        streams,
        [
            (own.clone(), vec![("pressure", "MPa"), ("pressure.above", "1")]),
            (own.clone(), vec![("pressure", "MPa"), ("pressure.below", "1")]),
            (own.clone(), vec![("cover_open", "1")]),
        ]
    );
    assert_eq!(
        device.reachable.iter().map(|stream| shown(&site, *stream)).collect::<Vec<_>>(),
        [(own, vec![("reachable", "1")])]
    );
    assert_eq!(site.event_streams[0].domain, "water");
}

#[test]
fn a_device_says_otherwise_by_property_in_whole_or_that_there_is_no_alarm() {
    let template = "alarm = { above = 1.2, hysteresis = 0.05, for_s = 10 }";
    let of = |device| conditions(&transmitter(template, "alarm = { for_s = 3 }", device).load().devices[0]);
    let state = (1, Condition::On, 3);
    assert_eq!(of("pressure = { above = 0.8 }"), [(0, Condition::Above { limit: 0.8, hysteresis: 0.0 }, 0), state]);
    assert_eq!(of("pressure = false\ncover_open = false"), []);
    assert_eq!(
        of("cover_open = true"),
        [(0, Condition::Above { limit: 1.2, hysteresis: 0.05 }, 10), (1, Condition::On, 0)]
    );
}

#[test]
fn a_channel_has_the_alarm_of_its_property_unless_it_has_its_own() {
    let copy = transmitter("channels = 2", "", "pressure = { above = 1 }\n\"pressure.2\" = { above = 2 }");
    let site = copy.load();
    let limit = |limit| Condition::Above { limit, hysteresis: 0.0 };
    assert_eq!(conditions(&site.devices[0]), [(0, limit(1.0), 0), (1, limit(2.0), 0)]);
    let second = site.devices[0].groups[0].alarms[1].stream;
    assert_eq!(shown(&site, second).1, [("pressure.2", "MPa"), ("pressure.2.above", "1")]);
}

#[test]
fn the_gateway_has_streams_for_its_own_states() {
    let site = Copy::new().load();
    for state in ["running", "disk_refuses", "data_lost", "broker_refuses"] {
        let stream = site.event_stream(site.gateway, state).expect(state);
        assert_eq!(site.event_streams[stream.0].domain, "gateway");
    }
    assert_eq!(site.event_stream(site.gateway, "reachable"), None);
}

#[tokio::test]
async fn the_gateway_tells_that_it_runs_what_troubles_it_and_that_it_ends() {
    let site = Arc::new(Copy::new().load());
    let monitor = Arc::new(Monitor::new(&site));
    let (events, mut told) = mpsc::channel(4);
    let (stop, stopping) = watch::channel(false);
    monitor.store_of(LogName::Telemetry, |store| store.trouble = Some("disk full".to_owned()));
    let task = tokio::spawn(vitals::run(Arc::clone(&site), Arc::clone(&monitor), events, stopping));
    let mut next = async || {
        let Some(Offered::Observation(event)) = told.recv().await else { panic!("no event") };
        (shown(&site, event.stream).1[0].0.to_owned(), event.readings[0].value)
    };
    assert_eq!(next().await, ("running".to_owned(), Some(Value::Bool(true))));
    assert_eq!(next().await, ("disk_refuses".to_owned(), Some(Value::Bool(true))));
    let standing = monitor.snapshot().standing;
    assert_eq!(standing[&site.gateway].keys().collect::<Vec<_>>(), ["disk_refuses"], "that it runs is no alarm");
    stop.send_replace(true);
    assert_eq!(next().await, ("running".to_owned(), Some(Value::Bool(false))));
    task.await.expect("it ended");
}

#[test]
fn resources_of_one_device_are_reached_together_and_each_has_its_stream() {
    let site = Copy::new().load();
    let loops = site.devices.last().expect("the controller");
    assert_eq!((loops.groups[0].streams.len(), loops.reachable.len()), (3, 3));
    let resources = loops.reachable.iter().map(|stream| site.event_streams[stream.0].resource);
    assert_eq!(resources.map(|cri| cri.serial().number()).collect::<Vec<_>>(), [211, 212, 213]);
}

#[test]
fn the_pump_house_watches_its_pressure_its_battery_and_its_water() {
    let site = Copy::new().load();
    let count = |place: usize| conditions(&site.devices[place]).len();
    assert_eq!((count(0), count(1), count(2)), (3, 0, 1));
    let pressure = site.devices[0].groups[0].alarms[0];
    assert_eq!(pressure.condition, Condition::Above { limit: 0.8, hysteresis: 0.02 });
    assert_eq!(pressure.hold, Duration::from_secs(5));
}

#[test]
fn what_cannot_be_an_alarm_is_an_error_that_says_why() {
    for (pressure, message) in [
        ("alarm = { above = 0.1, below = 0.1 }", "`above` is 0.1, not above `below`, which is 0.1"),
        ("alarm = { above = 1, hysteresis = -0.1 }", "`hysteresis` of an alarm: -0.1 is below 0"),
        ("alarm = { above = nan }", "`above` of an alarm: nan is not finite"),
        ("alarm = { above = 10 }", "`pressure` is never above 10"),
        ("alarm = { below = -0.1 }", "`pressure` is never below -0.1"),
        ("alarm = { above = 1, hysteresis = 2 }", "the alarm of `pressure` would never be over: it ends at -1"),
        ("alarm = { above = 1, for_s = -1 }", "`for_s` is -1, outside 0 to 86400"),
        ("alarm = { over = 1 }", "an alarm has no key `over`"),
        ("alarm = 1.2", "`alarm` is true, false or a table, not a float"),
    ] {
        let errors = transmitter(pressure, "", "").messages(Severity::Error);
        assert_eq!(errors.first().map(String::as_str), Some(message), "{pressure}");
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
}

#[test]
fn an_alarm_that_does_not_suit_its_property_is_reported_once_where_it_is_said() {
    let copy = transmitter("channels = 3\nalarm = true", "", "");
    let messages = copy.messages(Severity::Error);
    assert!(
        messages.len() == 1 && messages[0].ends_with("is a number: its alarm needs `above` or `below`"),
        "{messages:?}"
    );
    let copy = transmitter("channels = 3", "", "pressure = { for_s = 1 }");
    assert_eq!(copy.messages(Severity::Error).len(), 1);
    let copy = transmitter("", "alarm = { above = 1 }", "");
    let messages = copy.messages(Severity::Error);
    assert!(messages.len() == 1 && messages[0].ends_with("is a state: its alarm has no limit"), "{messages:?}");
    let copy = transmitter("", "", "presure = { above = 1 }");
    assert_eq!(copy.messages(Severity::Error), ["the template has no point `presure`"]);
}

#[test]
fn a_directory_cannot_take_the_contract_s_own_state() {
    let copy = Copy::new();
    copy.change("../directory/properties.csv", "96*,cover_open,", "96*,reachable,");
    assert_eq!(copy.messages(Severity::Error).len(), 1);
}
