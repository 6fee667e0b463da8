//! What `[broker]` may say, and what a person is told when it is wrong.

use ganglion::config::Severity;
use ganglion::site::MqttVersion;

use super::copy::Copy;

/// The pump house with more keys of its broker.
fn with(keys: &str) -> Copy {
    let copy = Copy::new();
    copy.change(
        "pump-house.toml",
        "host = \"broker.city.example\"",
        &format!("host = \"broker.city.example\"\n{keys}"),
    );
    copy
}

#[test]
fn brokers_are_tried_in_the_order_of_the_file() {
    let brokers = |keys| with(keys).load().broker.brokers().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(brokers(""), ["broker.city.example:8883"]);
    assert_eq!(
        brokers("port = 1883\nalternatives = [\"b.example:8883\", \"10.0.0.7:18883\"]"),
        ["broker.city.example:1883", "b.example:8883", "10.0.0.7:18883"]
    );
}

#[test]
fn an_alternative_that_is_no_host_and_port_or_there_twice_is_an_error_of_its_own() {
    for text in ["b.example", "b.example:0", "b.example:65536", ":8883", "b c:8883", "[::1]:8883"] {
        let messages = with(&format!("alternatives = [\"{text}\"]")).messages(Severity::Error);
        assert_eq!(messages, [format!("{text:?} is no host and port")]);
    }
    let twice = with("alternatives = [\"b.example:1\", \"broker.city.example:8883\", \"b.example:1\"]");
    let messages = twice.messages(Severity::Error);
    assert_eq!(messages, ["broker.city.example:8883 is there twice", "b.example:1 is there twice"]);
}

#[test]
fn mqtt_is_5_unless_told_and_the_older_version_warns_that_user_properties_stay_here() {
    assert_eq!(with("").load().broker.mqtt, MqttVersion::V5);
    let older = with("mqtt = \"3.1.1\"");
    assert_eq!(older.load().broker.mqtt, MqttVersion::V4);
    let warnings = older.messages(Severity::Warning);
    assert!(warnings.iter().any(|text| text == "MQTT 3.1.1 has no user properties: they are not sent"), "{warnings:?}");
    assert_eq!(with("mqtt = \"3.1\"").messages(Severity::Error).len(), 1);
}
