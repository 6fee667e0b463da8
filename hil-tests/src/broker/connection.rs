//! One client's connection, from CONNECT to its end.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::tokio_rustls::server::TlsStream;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, Connect, ConnectReturnCode, Disconnect, DisconnectReasonCode, LastWill, Packet,
    PingResp, PubAck, Publish, PublishProperties, SubAck, Subscribe, SubscribeReasonCode, UnsubAck, UnsubAckReason,
    Unsubscribe,
};
use rumqttc::v5::mqttbytes::{Error, QoS, valid_filter, valid_topic};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

use super::state::{Message, Owner};
use super::{HANDSHAKE, Shared};
use crate::gate::Pass;

/// Longest packet taken, announced in CONNACK.
const MAX_PACKET: u32 = 4 << 20;

/// Unwritten bytes at which no more messages are taken from the session.
const ENOUGH: usize = 64 << 10;

/// Most unacknowledged messages to one subscriber, if it does not want fewer.
const WINDOW: u16 = 1000;

struct Connection<'a> {
    shared: &'a Shared,
    client: String,
    owner: Owner,
    out: BytesMut,
}

/// How a connection goes on after a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Stay,
    /// The client said goodbye: no will.
    Goodbye,
    /// The broker ends it, for this reason.
    End(DisconnectReasonCode),
}

/// Serves one client until it leaves, the line is cut or another connection takes its session.
pub(super) async fn serve(stream: TlsStream<TcpStream>, shared: &Shared, mut pass: Pass) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut input = BytesMut::with_capacity(16 << 10);
    let first = tokio::select! {
        first = tokio::time::timeout(HANDSHAKE, read_packet(&mut reader, &mut input)) => first,
        () = pass.closed() => return,
    };
    let Ok(Ok(Packet::Connect(connect, will, _))) = first else {
        shared.lock().counts.refused += 1;
        return;
    };
    let (mut connection, keep_alive) = Connection::open(shared, connect);
    let goodbye = tokio::select! {
        goodbye = connection.run(&mut reader, &mut writer, input, keep_alive) => goodbye,
        () = pass.closed() => false,
    };
    let mut state = shared.lock();
    state.close(&connection.client, &connection.owner);
    if let Some(will) = will.filter(|_| !goodbye) {
        let retain = will.retain;
        state.publish(from_will(will), retain);
    }
}

impl<'a> Connection<'a> {
    /// Takes the session and puts the CONNACK first in line.
    fn open(shared: &'a Shared, connect: Connect) -> (Self, Option<Duration>) {
        let Connect { keep_alive, client_id, clean_start, properties } = connect;
        let asked = properties.as_ref();
        let kept = asked.and_then(|all| all.session_expiry_interval).is_some_and(|seconds| seconds > 0);
        let window = asked.and_then(|all| all.receive_maximum).unwrap_or(WINDOW).clamp(1, WINDOW);
        let mut state = shared.lock();
        let assigned = client_id.is_empty().then(|| format!("anonymous-{}", state.counts.connections + 1));
        let client = assigned.clone().unwrap_or(client_id);
        let (owner, session_present) = state.open(&client, clean_start, kept, usize::from(window));
        let mut connection = Self { shared, client, owner, out: BytesMut::new() };
        connection.put(Packet::ConnAck(ConnAck {
            session_present,
            code: ConnectReturnCode::Success,
            properties: Some(terms(assigned)),
        }));
        // Source: MQTT 5.0 §3.1.2.10: one and a half times the keep alive.
        let silence = (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500));
        (connection, silence)
    }

    /// Runs until the end; says whether the client said goodbye.
    async fn run(
        &mut self,
        reader: &mut ReadHalf<TlsStream<TcpStream>>,
        writer: &mut WriteHalf<TlsStream<TcpStream>>,
        mut input: BytesMut,
        keep_alive: Option<Duration>,
    ) -> bool {
        let mut flushed = true;
        let owner = self.owner.clone();
        let silence = tokio::time::sleep(keep_alive.unwrap_or(Duration::MAX));
        tokio::pin!(silence);
        loop {
            let next = self.take_packets(&mut input);
            if next != Next::Stay {
                if let Next::End(reason) = next {
                    tracing::debug!("broker: {} ended: {reason:?}", self.client);
                    self.put(Packet::Disconnect(Disconnect::new(reason)));
                }
                // The peer may be gone already; nothing depends on it.
                drop(tokio::time::timeout(Duration::from_secs(1), finish(writer, &self.out)).await);
                return next == Next::Goodbye;
            }
            self.shared.lock().write_ready(&self.client, &mut self.out, ENOUGH);
            // Reading never waits for writing: two peers that both only write would stand still for ever.
            tokio::select! {
                read = reader.read_buf(&mut input) => match read {
                    Ok(0) | Err(_) => return false,
                    Ok(_) => if let Some(limit) = keep_alive {
                        silence.as_mut().reset(tokio::time::Instant::now() + limit);
                    },
                },
                written = write_some(writer, &self.out), if !self.out.is_empty() || !flushed => match written {
                    Ok(0) => flushed = true,
                    Ok(count) => {
                        drop(self.out.split_to(count));
                        flushed = false;
                    }
                    Err(_) => return false,
                },
                () = owner.work.notified(), if self.out.len() < ENOUGH => {}
                () = owner.taken.notified() => return false,
                () = &mut silence, if keep_alive.is_some() => {
                    tracing::debug!("broker: {} was silent for too long", self.client);
                    return false;
                }
            }
        }
    }

    fn take_packets(&mut self, input: &mut BytesMut) -> Next {
        loop {
            match next_packet(input) {
                Ok(Some(packet)) => match self.take(packet) {
                    Next::Stay => {}
                    other => return other,
                },
                Ok(None) => return Next::Stay,
                Err(error) => {
                    tracing::debug!("broker: {}: {error}", self.client);
                    return Next::End(DisconnectReasonCode::MalformedPacket);
                }
            }
        }
    }

    fn take(&mut self, packet: Packet) -> Next {
        match packet {
            Packet::Publish(publish) => self.take_publish(publish),
            Packet::PubAck(ack) => {
                self.shared.lock().acknowledged(&self.client, ack.pkid);
                Next::Stay
            }
            Packet::Subscribe(subscribe) => self.take_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.take_unsubscribe(unsubscribe),
            Packet::PingReq(_) => {
                self.put(Packet::PingResp(PingResp));
                Next::Stay
            }
            Packet::Disconnect(Disconnect { reason_code: DisconnectReasonCode::NormalDisconnection, .. }) => {
                Next::Goodbye
            }
            _ => Next::End(DisconnectReasonCode::ProtocolError),
        }
    }

    fn take_publish(&mut self, publish: Publish) -> Next {
        let Publish { qos, retain, topic, pkid, payload, properties, .. } = publish;
        match std::str::from_utf8(&topic) {
            Ok(name) if !name.is_empty() && valid_topic(name) => {}
            _ => return Next::End(DisconnectReasonCode::TopicNameInvalid),
        }
        if qos == QoS::ExactlyOnce {
            return Next::End(DisconnectReasonCode::QoSNotSupported);
        }
        let mut state = self.shared.lock();
        state.counts.received += 1;
        state.publish(Message::new(topic, payload, qos, properties), retain);
        drop(state);
        if qos == QoS::AtLeastOnce {
            self.put(Packet::PubAck(PubAck::new(pkid, None)));
        }
        Next::Stay
    }

    fn take_subscribe(&mut self, subscribe: Subscribe) -> Next {
        let mut state = self.shared.lock();
        let return_codes = subscribe
            .filters
            .iter()
            .map(|filter| {
                if filter.path.starts_with("$share/") {
                    SubscribeReasonCode::SharedSubscriptionsNotSupported
                } else if valid_filter(&filter.path) {
                    let rule = &filter.retain_forward_rule;
                    SubscribeReasonCode::Success(state.subscribe(&self.client, &filter.path, filter.qos, rule))
                } else {
                    SubscribeReasonCode::TopicFilterInvalid
                }
            })
            .collect();
        drop(state);
        self.put(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None }));
        Next::Stay
    }

    fn take_unsubscribe(&mut self, unsubscribe: Unsubscribe) -> Next {
        let mut state = self.shared.lock();
        let reasons = unsubscribe
            .filters
            .iter()
            .map(|filter| match state.unsubscribe(&self.client, filter) {
                true => UnsubAckReason::Success,
                false => UnsubAckReason::NoSubscriptionExisted,
            })
            .collect();
        drop(state);
        self.put(Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid, reasons, properties: None }));
        Next::Stay
    }

    fn put(&mut self, packet: Packet) {
        if let Err(error) = packet.write(&mut self.out, None) {
            tracing::warn!("broker: packet not sent: {error}");
        }
    }
}

/// What the broker can and cannot, for the CONNACK.
fn terms(assigned_client_identifier: Option<String>) -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: Some(1),
        retain_available: None,
        max_packet_size: Some(MAX_PACKET),
        assigned_client_identifier,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: Some(0),
        shared_subscription_available: Some(0),
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

/// Writes some bytes, or flushes when there are none and returns 0. Nothing is lost when it is given up halfway.
async fn write_some(writer: &mut WriteHalf<TlsStream<TcpStream>>, out: &[u8]) -> io::Result<usize> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(out).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

async fn finish(writer: &mut WriteHalf<TlsStream<TcpStream>>, rest: &[u8]) -> io::Result<()> {
    writer.write_all(rest).await?;
    writer.shutdown().await
}

async fn read_packet(reader: &mut ReadHalf<TlsStream<TcpStream>>, input: &mut BytesMut) -> io::Result<Packet> {
    loop {
        if let Some(packet) = next_packet(input).map_err(io::Error::other)? {
            return Ok(packet);
        }
        if reader.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Takes the next whole packet from the front.
fn next_packet(input: &mut BytesMut) -> Result<Option<Packet>, Error> {
    // A DISCONNECT without reason code is a normal one (MQTT 5.0 §3.14.2.1); the codec refuses it.
    if input.starts_with(&[0xE0, 0x00]) {
        drop(input.split_to(2));
        return Ok(Some(Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection))));
    }
    match Packet::read(input, Some(MAX_PACKET)) {
        Ok(packet) => Ok(Some(packet)),
        Err(Error::InsufficientBytes(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn from_will(will: LastWill) -> Message {
    let properties = will.properties.map(|all| PublishProperties {
        payload_format_indicator: all.payload_format_indicator,
        message_expiry_interval: all.message_expiry_interval,
        content_type: all.content_type,
        response_topic: all.response_topic,
        correlation_data: all.correlation_data,
        user_properties: all.user_properties,
        ..PublishProperties::default()
    });
    Message::new(will.topic, will.message, will.qos, properties)
}
