//! The client of MQTT 3.1.1, whose protocol level is 4, for brokers that do not speak MQTT 5.
//!
//! The standard gives the broker one way to refuse a message: to close the connection (MQTT 3.1.1 §3.3.5). It may also
//! acknowledge what it throws away; nobody can see that here.

use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, QoS,
    StateError,
};

use super::SLOWEST_PUBACK;
use crate::deliver::message::Payload;

use super::client::{
    Answer, Event, Failure, LARGEST_INCOMING, LARGEST_PACKET, Options, PACKET_IDS, Refusal, Terms, network,
    tls_failure, transport,
};

/// Sends messages.
#[derive(Debug)]
pub(super) struct Sender {
    client: AsyncClient,
}

/// Owns the connection.
pub(super) struct Client {
    eventloop: EventLoop,
}

/// Opens a client that has not connected yet.
pub(super) fn open(options: Options<'_>) -> (Sender, Client) {
    let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut mqtt = MqttOptions::new(options.client_id, options.host, options.port);
    mqtt.set_transport(transport(options.tls))
        .set_keep_alive(options.keep_alive)
        .set_clean_session(true)
        // The default is 10 KiB both ways, and one byte more ends the connection.
        .set_max_packet_size(size(LARGEST_INCOMING), size(LARGEST_PACKET))
        .set_inflight(PACKET_IDS)
        .set_last_will(LastWill::new(options.will_topic, options.will, QoS::AtLeastOnce, true));
    let (client, mut eventloop) = AsyncClient::new(mqtt, usize::from(PACKET_IDS));
    eventloop.set_network_options(network());
    (Sender { client }, Client { eventloop })
}

impl Sender {
    pub(super) fn publish(&self, topic: &str, retain: bool, payload: Payload) -> Result<(), String> {
        let sent = self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload.bytes);
        sent.map_err(|error| error.to_string())
    }

    pub(super) fn disconnect(&self) -> Result<(), String> {
        self.client.try_disconnect().map_err(|error| error.to_string())
    }
}

impl Client {
    pub(super) async fn poll(&mut self) -> Result<Event, Failure> {
        let event = self.eventloop.poll().await.map_err(failure)?;
        let event = self.event(&event);
        if matches!(event, Event::Connected(_)) {
            // The client holds the time to connect against each write, too: on a slow line one message takes longer. A
            // write that is stuck is the watchdog's to find.
            self.eventloop.network_options.set_connection_timeout(SLOWEST_PUBACK.as_secs());
        }
        Ok(event)
    }

    pub(super) fn rest(&mut self) -> Vec<Event> {
        let events = std::mem::take(&mut self.eventloop.state.events);
        events.iter().map(|event| self.event(event)).collect()
    }

    fn event(&self, event: &rumqttc::Event) -> Event {
        match event {
            rumqttc::Event::Incoming(Incoming::ConnAck(_)) => Event::Connected(Terms {
                qos_1: true,
                receive_max: u16::MAX,
                packet_max: LARGEST_PACKET,
                keep_alive: self.eventloop.mqtt_options.keep_alive(),
            }),
            rumqttc::Event::Incoming(Incoming::PubAck(ack)) => Event::Acked(ack.pkid, Answer::Taken),
            rumqttc::Event::Outgoing(Outgoing::Publish(id)) => Event::Sent(*id),
            rumqttc::Event::Outgoing(Outgoing::AwaitAck(id)) => Event::Collided(*id),
            rumqttc::Event::Outgoing(Outgoing::Disconnect) => Event::Goodbye,
            rumqttc::Event::Outgoing(Outgoing::PingReq) => Event::Pinged,
            rumqttc::Event::Incoming(_) => Event::Heard,
            _ => Event::Other,
        }
    }
}

fn failure(error: ConnectionError) -> Failure {
    match error {
        ConnectionError::NetworkTimeout => Failure::Late,
        ConnectionError::Io(error) => Failure::Io(error),
        ConnectionError::Tls(error) => tls_failure(error),
        // MQTT 3.1.1 §3.2.2.3: the codes 1 to 5.
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
        StateError::Deserialization(PacketError::OutgoingPacketTooLarge { pkt_size, max }) => {
            Failure::TooLarge { bytes: pkt_size as u64, limit: max as u64 }
        }
        other => Failure::Protocol { standard: "MQTT 3.1.1", detail: other.to_string() },
    }
}

/// Source: MQTT 3.1.1 §3.2.2.3.
fn connect_code(code: ConnectReturnCode) -> u8 {
    match code {
        ConnectReturnCode::Success => 0x00,
        ConnectReturnCode::RefusedProtocolVersion => 0x01,
        ConnectReturnCode::BadClientId => 0x02,
        ConnectReturnCode::ServiceUnavailable => 0x03,
        ConnectReturnCode::BadUserNamePassword => 0x04,
        ConnectReturnCode::NotAuthorized => 0x05,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refuses_a_connection_keeps_the_code_of_the_older_standard() {
        let refused = failure(ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized));
        let Failure::Refused(refusal) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.to_string(), "not authorized (0x05)");
    }

    #[test]
    fn a_packet_above_a_limit_is_told_with_both_sizes() {
        let error = PacketError::OutgoingPacketTooLarge { pkt_size: 281, max: 200 };
        let failed = failure(ConnectionError::MqttState(StateError::Deserialization(error)));
        assert!(matches!(failed, Failure::TooLarge { bytes: 281, limit: 200 }), "{failed:?}");
    }
}
