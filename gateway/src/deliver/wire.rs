//! One connection to the broker, from its files to its end. The client is built for it and dropped with it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::topic::StatusTopic;
use ganglion_protocols::{Cri, Timestamp};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, LastWill, LastWillProperties, PubAck, PubAckReason, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use tokio::time::{self, Instant, MissedTickBehavior};
use tracing::{error, info, warn};

use super::Source;
use super::feed::{Cargo, Feed, Span};
use super::message::{Encoder, Limits};
use super::reason;
use super::status::Status;
use super::tls::tls_config;
use super::window::{Outcome, Window};
use crate::clock;
use crate::monitor::Monitor;
use crate::site::BrokerSettings;

/// Longest time for name, TCP, TLS and CONNACK together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that the oldest message may wait for its PUBACK; on 2 kB/s the largest window takes minutes.
const SLOWEST_PUBACK: Duration = Duration::from_secs(600);
/// Longest time for the offline status and DISCONNECT of an orderly end.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the store's state is looked at for the status message.
const STATUS_PERIOD: Duration = Duration::from_secs(1);
/// Packet identifiers in use; more than the window takes, and few, because the client allocates a slot for each.
const PACKET_IDS: u16 = 100;
/// Largest packet taken from the broker: it sends acknowledgements only.
const LARGEST_INCOMING: u32 = 64 * 1024;
/// Largest packet there is. Source: MQTT 5.0 §2.1.4.
const LARGEST_PACKET: u32 = 268_435_455;
/// Content type of every message.
const CONTENT_TYPE: &str = "application/json";

/// What all connections have in common.
pub(super) struct Uplink<'a> {
    settings: &'a BrokerSettings,
    gateway: Cri,
    epoch: u64,
    monitor: &'a Monitor,
    properties: PublishProperties,
    status_topic: Arc<str>,
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// In order: everything is delivered and the source has ended.
    Finished,
    /// Otherwise; why.
    Lost(String),
}

impl<'a> Uplink<'a> {
    /// Prepares what every connection needs.
    pub(super) fn new(settings: &'a BrokerSettings, gateway: Cri, epoch: u64, monitor: &'a Monitor) -> Self {
        let properties = PublishProperties {
            content_type: Some(CONTENT_TYPE.to_owned()),
            user_properties: settings.user_properties.clone().into_iter().collect(),
            ..PublishProperties::default()
        };
        let status_topic = StatusTopic { gateway }.to_string().into();
        Self { settings, gateway, epoch, monitor, properties, status_topic }
    }

    /// Returns the encoder of observations.
    pub(super) fn encoder(&self) -> Encoder {
        // MQTT 5.0 §2.2.2.2: an identifier of one byte, then strings of a length of two bytes and the text.
        let user: usize =
            self.properties.user_properties.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
        Encoder::new(self.gateway, self.epoch, 3 + CONTENT_TYPE.len() + user)
    }

    /// Returns the keep-alive time, within what the client and the protocol allow.
    fn keep_alive(&self) -> Duration {
        self.settings.keep_alive.clamp(Duration::from_secs(5), Duration::from_secs(u64::from(u16::MAX)))
    }

    /// Returns why the store cannot write, if it cannot.
    fn trouble(&self) -> Option<String> {
        let mut trouble = None;
        self.monitor.store(|store| trouble.clone_from(&store.trouble));
        trouble
    }

    fn options(&self, tls: rustls::ClientConfig) -> MqttOptions {
        let BrokerSettings { client_id, host, port, .. } = self.settings;
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        let will = LastWill::new(
            &*self.status_topic,
            Status::will(self.gateway, self.epoch).to_json(),
            QoS::AtLeastOnce,
            true,
            Some(LastWillProperties {
                delay_interval: None,
                payload_format_indicator: None,
                message_expiry_interval: None,
                content_type: Some(CONTENT_TYPE.to_owned()),
                response_topic: None,
                correlation_data: None,
                user_properties: self.properties.user_properties.clone(),
            }),
        );
        let mut options = MqttOptions::new(client_id, host, *port);
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls))))
            .set_keep_alive(self.keep_alive())
            .set_clean_start(true)
            .set_connection_timeout(CONNECT_TIMEOUT.as_secs())
            .set_max_packet_size(Some(LARGEST_INCOMING))
            .set_outgoing_inflight_upper_limit(PACKET_IDS)
            .set_network_options(network)
            .set_last_will(will);
        options
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve<S: Source>(uplink: &Uplink<'_>, feed: &mut Feed<'_, S>) -> End {
    let tls = match tls_config(uplink.settings) {
        Ok(tls) => tls,
        Err(error) => return End::Lost(error.to_string()),
    };
    let (client, mut eventloop) = AsyncClient::new(uplink.options(tls), usize::from(PACKET_IDS));
    let mut wire = Wire::new(uplink, client);
    let end = wire.drive(&mut eventloop, feed).await;
    // PUBACKs that were read together with the error, or just before it.
    for event in eventloop.state.events.drain(..) {
        if matches!(event, Event::Incoming(Incoming::PubAck(_)) | Event::Outgoing(Outgoing::Publish(_))) {
            // What would end the connection does no more: it has ended.
            wire.handle(&event).ok();
        }
    }
    wire.collect(feed);
    end
}

struct Wire<'a, M> {
    uplink: &'a Uplink<'a>,
    client: AsyncClient,
    window: Window<Cargo<M>>,
    limits: Limits,
    phase: Phase,
    since: Timestamp,
    trouble: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Phase {
    AwaitingConnAck,
    Online,
    AwaitingLastPubAck,
    AwaitingDisconnect,
    Closed,
}

impl<'a, M: Copy + Send> Wire<'a, M> {
    fn new(uplink: &'a Uplink<'a>, client: AsyncClient) -> Self {
        Self {
            uplink,
            client,
            window: Window::new(1),
            limits: Limits { payload: 0, packet: 0 },
            phase: Phase::AwaitingConnAck,
            since: Timestamp::default(),
            trouble: None,
        }
    }

    /// Polls the client until the connection ends.
    async fn drive<S: Source<Mark = M>>(&mut self, eventloop: &mut EventLoop, feed: &mut Feed<'_, S>) -> End {
        let mut patience = CONNECT_TIMEOUT + Duration::from_secs(5);
        // The client itself may wait for ever: its flush has no timeout.
        let mut watchdog = pin!(time::sleep(patience));
        let mut leaving = false;
        let (mut oldest, mut oldest_since) = (None, Instant::now());
        let mut status = time::interval(STATUS_PERIOD);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let polled = {
                // One poll is kept until it is done: dropping it could lose a packet that is half written.
                let mut poll = pin!(eventloop.poll());
                loop {
                    if self.phase == Phase::AwaitingConnAck && feed.is_drained() {
                        return End::Finished;
                    }
                    let step = tokio::select! {
                        polled = &mut poll => break polled,
                        () = &mut watchdog => return self.end("the connection is stuck".to_owned()),
                        () = feed.read() => self.go_on(feed),
                        _ = status.tick(), if self.phase == Phase::Online => self.tell_trouble(),
                    };
                    if let Err(cause) = step {
                        return self.end(cause);
                    }
                    if self.phase == Phase::AwaitingLastPubAck && !leaving {
                        leaving = true;
                        watchdog.as_mut().reset(Instant::now() + FAREWELL_TIMEOUT);
                    }
                }
            };
            let event = match polled {
                Ok(event) => event,
                Err(error) => {
                    let connected = self.phase > Phase::AwaitingConnAck;
                    return self.end(reason::of_connection(&error, self.uplink.settings, connected));
                }
            };
            if let Event::Incoming(Incoming::ConnAck(_)) = event {
                // A broker that switches keep-alive off says 0, which the client takes for "ping without a pause".
                if eventloop.options.keep_alive().is_zero() {
                    eventloop.options.set_keep_alive(self.uplink.keep_alive());
                }
                patience = patience.max(2 * eventloop.options.keep_alive());
            }
            if let Err(cause) = self.handle(&event).and_then(|()| self.go_on(feed)) {
                return self.end(cause);
            }
            match self.phase {
                Phase::Closed => return End::Finished,
                Phase::AwaitingConnAck | Phase::Online => watchdog.as_mut().reset(Instant::now() + patience),
                Phase::AwaitingLastPubAck if !leaving => {
                    leaving = true;
                    watchdog.as_mut().reset(Instant::now() + FAREWELL_TIMEOUT);
                }
                Phase::AwaitingLastPubAck | Phase::AwaitingDisconnect => {}
            }
            // Pings go to and fro whether or not the broker takes anything, so they are no sign that it does.
            if self.window.oldest() != oldest {
                (oldest, oldest_since) = (self.window.oldest(), Instant::now());
            } else if oldest.is_some() && oldest_since.elapsed() > patience.max(SLOWEST_PUBACK) {
                return self.end("the broker answers and acknowledges nothing".to_owned());
            }
        }
    }

    /// Ends the connection; once everything is delivered, an error on the way out changes nothing.
    fn end(&self, cause: String) -> End {
        if self.phase >= Phase::AwaitingLastPubAck { End::Finished } else { End::Lost(cause) }
    }

    fn handle(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Incoming(Incoming::ConnAck(connack)) => self.connected(connack),
            Event::Incoming(Incoming::PubAck(ack)) => self.acknowledged(ack),
            Event::Outgoing(Outgoing::Publish(id)) => {
                self.window.name(*id).map_err(|_| format!("packet identifier {id} stands for nothing"))
            }
            Event::Outgoing(Outgoing::AwaitAck(id)) => Err(format!("packet identifier {id} is still in use")),
            Event::Outgoing(Outgoing::Disconnect) => {
                self.phase = Phase::Closed;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn connected(&mut self, connack: &ConnAck) -> Result<(), String> {
        let properties = connack.properties.as_ref();
        if properties.is_some_and(|p| p.max_qos == Some(0)) {
            return Err("broker does not offer QoS 1".to_owned());
        }
        let receive_max = properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX);
        let packet = properties.and_then(|p| p.max_packet_size).unwrap_or(LARGEST_PACKET).min(LARGEST_PACKET);
        self.window = Window::new(receive_max);
        self.limits =
            Limits { payload: self.uplink.settings.max_payload, packet: usize::try_from(packet).unwrap_or(usize::MAX) };
        self.phase = Phase::Online;
        self.since = clock::now();
        let mut connections = 0;
        self.uplink.monitor.uplink(|state| {
            state.connected = true;
            state.connections += 1;
            connections = state.connections;
        });
        let BrokerSettings { host, port, .. } = self.uplink.settings;
        info!(broker = %format_args!("{host}:{port}"), connections, receive_max, "uplink connected");
        self.trouble = self.uplink.trouble();
        let status = self.online();
        self.publish_status(status)
    }

    /// Notes what the broker answered. Source: MQTT 5.0 §3.4.2.1.
    ///
    /// # Errors
    /// When the broker refused the message for now: the connection ends, and after a pause everything unacknowledged is
    /// sent again, in order.
    fn acknowledged(&mut self, ack: &PubAck) -> Result<(), String> {
        let outcome = match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Outcome::Delivered,
            PubAckReason::NotAuthorized | PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid => {
                self.uplink.monitor.uplink(|state| state.refused += 1);
                if let Some(cargo) = self.window.cargo(ack.pkid) {
                    given_up(cargo, &reason::of_message(ack.reason));
                }
                Outcome::Dropped
            }
            refused => {
                self.uplink.monitor.uplink(|state| state.refused += 1);
                let topic = self.window.cargo(ack.pkid).map_or("?", |cargo| &cargo.topic);
                return Err(format!("broker refused a message on {topic}: {}", reason::of_message(refused)));
            }
        };
        self.window.settle(ack.pkid, outcome);
        Ok(())
    }

    /// Takes what is settled out of the window.
    fn collect<S: Source<Mark = M>>(&mut self, feed: &mut Feed<'_, S>) {
        while let Some((cargo, outcome)) = self.window.pop_settled() {
            feed.settle(&cargo, outcome);
        }
    }

    /// Does what can be done without waiting: frees the window, fills it, and says farewell after the last PUBACK.
    fn go_on<S: Source<Mark = M>>(&mut self, feed: &mut Feed<'_, S>) -> Result<(), String> {
        self.collect(feed);
        while self.phase == Phase::Online && self.window.has_room() {
            let Some((message, cargo)) = feed.take(self.limits) else { break };
            match message.map(|message| message.payload) {
                Some(Ok(payload)) => self.publish(cargo, false, payload)?,
                Some(Err(error)) => {
                    given_up(&cargo, &error);
                    self.window.settle_at_once(cargo, Outcome::Dropped);
                }
                None => self.window.settle_at_once(cargo, Outcome::Delivered),
            }
            self.collect(feed);
        }
        if !self.window.is_empty() {
            return Ok(());
        }
        match self.phase {
            Phase::Online if feed.is_drained() => {
                self.phase = Phase::AwaitingLastPubAck;
                let Uplink { gateway, epoch, .. } = *self.uplink;
                self.publish_status(Status::ended(gateway, epoch, clock::now()).to_json())
            }
            Phase::AwaitingLastPubAck => {
                self.phase = Phase::AwaitingDisconnect;
                self.client.try_disconnect().map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Publishes the status anew when the store's trouble came, went or changed.
    fn tell_trouble(&mut self) -> Result<(), String> {
        let trouble = self.uplink.trouble();
        if trouble == self.trouble || !self.window.has_room() {
            return Ok(());
        }
        self.trouble = trouble;
        let status = self.online();
        self.publish_status(status)
    }

    fn online(&self) -> String {
        Status::online(self.uplink.gateway, self.uplink.epoch, self.since, self.trouble.as_deref()).to_json()
    }

    fn publish_status(&mut self, status: String) -> Result<(), String> {
        let topic = Arc::clone(&self.uplink.status_topic);
        self.publish(Cargo { topic, observations: None, end: None }, true, status.into_bytes())
    }

    fn publish(&mut self, cargo: Cargo<M>, retain: bool, payload: Vec<u8>) -> Result<(), String> {
        let (topic, properties) = (cargo.topic.to_string(), self.uplink.properties.clone());
        self.window.hand_over(cargo, payload.len());
        self.client
            .try_publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties)
            .map_err(|error| error.to_string())
    }
}

/// Logs that a message will never be delivered.
fn given_up<M>(cargo: &Cargo<M>, why: &dyn std::fmt::Display) {
    let topic = &*cargo.topic;
    match cargo.observations {
        Some(Span { count, last_seq, .. }) => {
            error!(topic, count, last_seq, "observations dropped, they can never be delivered: {why}");
        }
        None => warn!(topic, "status message refused: {why}"),
    }
}
