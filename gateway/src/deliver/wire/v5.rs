//! The client of MQTT 5.

use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, LastWill, LastWillProperties, PubAckReason, PublishProperties,
};
use rumqttc::v5::mqttbytes::{Error as PacketError, QoS};
use rumqttc::v5::{self, AsyncClient, ConnectionError, EventLoop, Incoming, MqttOptions, StateError};

use crate::deliver::message::Payload;

use super::client::{
    Answer, CONNECT_TIMEOUT, CONTENT_TYPE, Event, Failure, LARGEST_INCOMING, LARGEST_PACKET, Options, PACKET_IDS,
    Refusal, Terms, network, tls_failure, transport,
};

/// User property of a compressed payload.
const ENCODING: (&str, &str) = ("content-encoding", "zstd");

/// Sends messages with their properties.
#[derive(Debug)]
pub(super) struct Sender {
    client: AsyncClient,
    properties: PublishProperties,
}

/// Owns the connection.
pub(super) struct Client {
    eventloop: EventLoop,
    keep_alive: Duration,
}

/// Opens a client that has not connected yet.
pub(super) fn open(options: Options<'_>) -> (Sender, Client) {
    let user_properties = options.user_properties.to_vec();
    let will = LastWill::new(
        options.will_topic,
        options.will,
        QoS::AtLeastOnce,
        true,
        Some(LastWillProperties {
            delay_interval: None,
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: Some(CONTENT_TYPE.to_owned()),
            response_topic: None,
            correlation_data: None,
            user_properties: user_properties.clone(),
        }),
    );
    let mut mqtt = MqttOptions::new(options.client_id, options.host, options.port);
    mqtt.set_transport(transport(options.tls))
        .set_keep_alive(options.keep_alive)
        .set_clean_start(true)
        .set_connection_timeout(CONNECT_TIMEOUT.as_secs())
        .set_max_packet_size(Some(LARGEST_INCOMING))
        .set_outgoing_inflight_upper_limit(PACKET_IDS)
        .set_network_options(network())
        .set_last_will(will);
    let properties = PublishProperties {
        content_type: Some(CONTENT_TYPE.to_owned()),
        user_properties,
        ..PublishProperties::default()
    };
    let (client, eventloop) = AsyncClient::new(mqtt, usize::from(PACKET_IDS));
    (Sender { client, properties }, Client { eventloop, keep_alive: options.keep_alive })
}

/// Returns the bytes that the properties of a message take, at most.
pub(super) fn properties_len(user_properties: &[(String, String)]) -> usize {
    // MQTT 5.0 §2.2.2.2: an identifier of one byte, then strings of a length of two bytes and the text.
    let user: usize = user_properties.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
    3 + CONTENT_TYPE.len() + 5 + ENCODING.0.len() + ENCODING.1.len() + user
}

impl Sender {
    pub(super) fn publish(&self, topic: &str, retain: bool, payload: Payload) -> Result<(), String> {
        let mut properties = self.properties.clone();
        if payload.compressed {
            let (name, value) = ENCODING;
            properties.user_properties.push((name.to_owned(), value.to_owned()));
        }
        let sent = self.client.try_publish_with_properties(topic, QoS::AtLeastOnce, retain, payload.bytes, properties);
        sent.map_err(|error| error.to_string())
    }

    pub(super) fn disconnect(&self) -> Result<(), String> {
        self.client.try_disconnect().map_err(|error| error.to_string())
    }
}

impl Client {
    pub(super) async fn poll(&mut self) -> Result<Event, Failure> {
        let event = event(&self.eventloop.poll().await.map_err(failure)?);
        let Event::Connected(terms) = event else { return Ok(event) };
        // A broker that switches keep-alive off says 0, which the client takes for "ping without a pause".
        if self.eventloop.options.keep_alive().is_zero() {
            self.eventloop.options.set_keep_alive(self.keep_alive);
        }
        Ok(Event::Connected(Terms { keep_alive: self.eventloop.options.keep_alive(), ..terms }))
    }

    pub(super) fn rest(&mut self) -> Vec<Event> {
        self.eventloop.state.events.drain(..).map(|own| event(&own)).collect()
    }
}

fn event(event: &v5::Event) -> Event {
    match event {
        v5::Event::Incoming(Incoming::ConnAck(connack)) => Event::Connected(terms(connack)),
        v5::Event::Incoming(Incoming::PubAck(ack)) => Event::Acked(ack.pkid, answer(ack.reason)),
        v5::Event::Outgoing(Outgoing::Publish(id)) => Event::Sent(*id),
        v5::Event::Outgoing(Outgoing::AwaitAck(id)) => Event::Collided(*id),
        v5::Event::Outgoing(Outgoing::Disconnect) => Event::Goodbye,
        v5::Event::Outgoing(Outgoing::PingReq) => Event::Pinged,
        v5::Event::Incoming(_) => Event::Heard,
        _ => Event::Other,
    }
}

fn terms(connack: &ConnAck) -> Terms {
    let properties = connack.properties.as_ref();
    Terms {
        qos_1: properties.is_none_or(|p| p.max_qos != Some(0)),
        receive_max: properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX),
        packet_max: properties.and_then(|p| p.max_packet_size).unwrap_or(LARGEST_PACKET).min(LARGEST_PACKET),
        keep_alive: Duration::ZERO,
    }
}

/// Source: MQTT 5.0 §3.4.2.1.
fn answer(reason: PubAckReason) -> Answer {
    let refusal = || Refusal::new(puback_code(reason), &reason);
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Answer::Taken,
        PubAckReason::NotAuthorized | PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid => {
            Answer::Never(refusal())
        }
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded => Answer::NotNow(refusal()),
    }
}

fn failure(error: ConnectionError) -> Failure {
    match error {
        ConnectionError::Timeout(_) => Failure::Late,
        ConnectionError::Io(error) => Failure::Io(error),
        ConnectionError::Tls(error) => tls_failure(error),
        ConnectionError::ConnectionRefused(code) => Failure::Refused(Refusal::new(connect_code(code), &code)),
        ConnectionError::MqttState(error) => state_failure(error),
        other => Failure::Other(other.to_string()),
    }
}

fn state_failure(error: StateError) -> Failure {
    match error {
        StateError::Io(error) | StateError::Deserialization(PacketError::Io(error)) => Failure::Io(error),
        StateError::ConnectionAborted => Failure::EndOfStream,
        StateError::AwaitPingResp => Failure::NoPong,
        StateError::ServerDisconnect { reason_code, reason_string } => {
            Failure::Ended(Refusal::new(reason_code as u8, &reason_code), reason_string)
        }
        StateError::OutgoingPacketTooLarge { pkt_size, max } => {
            Failure::TooLarge { bytes: pkt_size.into(), limit: max.into() }
        }
        other => Failure::Protocol { standard: "MQTT 5", detail: other.to_string() },
    }
}

/// Source: MQTT 5.0 §3.2.2.2.
fn connect_code(code: ConnectReturnCode) -> u8 {
    use ConnectReturnCode as Code;
    match code {
        Code::Success => 0x00,
        Code::UnspecifiedError => 0x80,
        Code::MalformedPacket => 0x81,
        Code::ProtocolError => 0x82,
        Code::ImplementationSpecificError => 0x83,
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => 0x84,
        Code::ClientIdentifierNotValid | Code::BadClientId => 0x85,
        Code::BadUserNamePassword => 0x86,
        Code::NotAuthorized => 0x87,
        Code::ServerUnavailable | Code::ServiceUnavailable => 0x88,
        Code::ServerBusy => 0x89,
        Code::Banned => 0x8a,
        Code::BadAuthenticationMethod => 0x8c,
        Code::TopicNameInvalid => 0x90,
        Code::PacketTooLarge => 0x95,
        Code::QuotaExceeded => 0x97,
        Code::PayloadFormatInvalid => 0x99,
        Code::RetainNotSupported => 0x9a,
        Code::QoSNotSupported => 0x9b,
        Code::UseAnotherServer => 0x9c,
        Code::ServerMoved => 0x9d,
        Code::ConnectionRateExceeded => 0x9f,
    }
}

/// Source: MQTT 5.0 §3.4.2.1.
fn puback_code(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0x00,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode;
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn every_reason_of_puback_is_taken_asked_again_or_given_up() {
        let cases = [
            (PubAckReason::Success, "taken"),
            (PubAckReason::NoMatchingSubscribers, "taken"),
            (PubAckReason::UnspecifiedError, "not now: unspecified error (0x80)"),
            (PubAckReason::ImplementationSpecificError, "not now: implementation specific error (0x83)"),
            (PubAckReason::NotAuthorized, "never: not authorized (0x87)"),
            (PubAckReason::TopicNameInvalid, "never: topic name invalid (0x90)"),
            (PubAckReason::PacketIdentifierInUse, "not now: packet identifier in use (0x91)"),
            (PubAckReason::QuotaExceeded, "not now: quota exceeded (0x97)"),
            (PubAckReason::PayloadFormatInvalid, "never: payload format invalid (0x99)"),
        ];
        for (reason, expected) in cases {
            let text = match answer(reason) {
                Answer::Taken => "taken".to_owned(),
                Answer::NotNow(refusal) => format!("not now: {refusal}"),
                Answer::Never(refusal) => format!("never: {refusal}"),
            };
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn what_refuses_or_ends_a_connection_keeps_its_code() {
        for (code, expected) in [
            (ConnectReturnCode::NotAuthorized, "not authorized (0x87)"),
            (ConnectReturnCode::QoSNotSupported, "qos not supported (0x9b)"),
        ] {
            let Failure::Refused(refusal) = failure(ConnectionError::ConnectionRefused(code)) else {
                panic!("{code:?}")
            };
            assert_eq!(refusal.to_string(), expected);
        }
        let ended = StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            reason_string: Some("another one came".to_owned()),
        };
        let Failure::Ended(refusal, text) = failure(ConnectionError::MqttState(ended)) else { panic!("ended") };
        assert_eq!(
            (refusal.to_string(), text.as_deref()),
            ("session taken over (0x8e)".to_owned(), Some("another one came"))
        );
    }

    #[test]
    fn an_alert_that_arrives_instead_of_connack_is_found_too() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let error = io::Error::new(io::ErrorKind::InvalidData, alert);
        let error = ConnectionError::MqttState(StateError::Deserialization(PacketError::Io(error)));
        assert!(matches!(failure(error), Failure::Io(_)));
    }
}
