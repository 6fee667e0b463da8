//! One connection to the broker, from its files to its end. The client is built for it and dropped with it; which version
//! of MQTT it speaks is known to `client` alone.

mod client;
mod v4;
mod v5;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::topic::StatusTopic;
use ganglion_protocols::{Cri, Timestamp};
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
use crate::site::{BrokerSettings, MqttVersion};
use client::{Answer, CONNECT_TIMEOUT, Client, Event, Options, Sender, Terms};

#[cfg(test)]
pub(super) use client::Refusal;
pub(super) use client::{Failure, words};

/// Longest time that the oldest message may wait for its PUBACK; on 2 kB/s the largest window takes minutes.
const SLOWEST_PUBACK: Duration = Duration::from_secs(600);
/// Longest time for the offline status and DISCONNECT of an orderly end.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the store's state is looked at for the status message.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// What all connections have in common.
pub(super) struct Uplink<'a> {
    settings: &'a BrokerSettings,
    gateway: Cri,
    epoch: u64,
    monitor: &'a Monitor,
    user_properties: Vec<(String, String)>,
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
        let user_properties = settings.user_properties.clone().into_iter().collect();
        let status_topic = StatusTopic { gateway }.to_string().into();
        Self { settings, gateway, epoch, monitor, user_properties, status_topic }
    }

    /// Returns the encoder of observations.
    pub(super) fn encoder(&self) -> Encoder {
        let properties = match self.settings.mqtt {
            MqttVersion::V5 => v5::properties_len(&self.user_properties),
            MqttVersion::V4 => 0,
        };
        Encoder::new(self.gateway, self.epoch, properties)
    }

    /// Opens a client for one connection.
    fn open(&self, tls: rustls::ClientConfig) -> (Sender, Client) {
        let BrokerSettings { mqtt, client_id, host, port, keep_alive, .. } = self.settings;
        let options = Options {
            host,
            port: *port,
            client_id,
            // Within what the client and the protocol allow.
            keep_alive: (*keep_alive).clamp(Duration::from_secs(5), Duration::from_secs(u64::from(u16::MAX))),
            tls,
            will_topic: &self.status_topic,
            will: Status::will(self.gateway, self.epoch).to_json(),
            user_properties: &self.user_properties,
        };
        client::open(*mqtt, options)
    }

    /// Returns why the store cannot write, if it cannot.
    fn trouble(&self) -> Option<String> {
        let mut trouble = None;
        self.monitor.store(|store| trouble.clone_from(&store.trouble));
        trouble
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve<S: Source>(uplink: &Uplink<'_>, feed: &mut Feed<'_, S>) -> End {
    let tls = match tls_config(uplink.settings) {
        Ok(tls) => tls,
        Err(error) => return End::Lost(error.to_string()),
    };
    let (sender, mut client) = uplink.open(tls);
    let mut wire = Wire::new(uplink, sender);
    let end = wire.drive(&mut client, feed).await;
    // PUBACKs that were read together with the error, or just before it.
    for event in client.rest() {
        if matches!(event, Event::Acked(..) | Event::Sent(_)) {
            // What would end the connection does no more: it has ended.
            wire.handle(event).ok();
        }
    }
    wire.collect(feed);
    end
}

struct Wire<'a, M> {
    uplink: &'a Uplink<'a>,
    sender: Sender,
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
    fn new(uplink: &'a Uplink<'a>, sender: Sender) -> Self {
        Self {
            uplink,
            sender,
            window: Window::new(1),
            limits: Limits { payload: 0, packet: 0 },
            phase: Phase::AwaitingConnAck,
            since: Timestamp::default(),
            trouble: None,
        }
    }

    /// Polls the client until the connection ends.
    async fn drive<S: Source<Mark = M>>(&mut self, client: &mut Client, feed: &mut Feed<'_, S>) -> End {
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
                let mut poll = pin!(client.poll());
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
                Err(failure) => {
                    let connected = self.phase > Phase::AwaitingConnAck;
                    return self.end(reason::of_connection(&failure, self.uplink.settings, connected));
                }
            };
            if let Event::Connected(terms) = event {
                patience = patience.max(2 * terms.keep_alive);
            }
            if let Err(cause) = self.handle(event).and_then(|()| self.go_on(feed)) {
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

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Connected(terms) => self.connected(terms),
            Event::Acked(id, answer) => self.answered(id, &answer),
            Event::Sent(id) => self.window.name(id).map_err(|_| format!("packet identifier {id} stands for nothing")),
            Event::Collided(id) => Err(format!("packet identifier {id} is still in use")),
            Event::Goodbye => {
                self.phase = Phase::Closed;
                Ok(())
            }
            Event::Other => Ok(()),
        }
    }

    fn connected(&mut self, terms: Terms) -> Result<(), String> {
        if !terms.qos_1 {
            return Err("broker does not offer QoS 1".to_owned());
        }
        self.window = Window::new(terms.receive_max);
        let packet = usize::try_from(terms.packet_max).unwrap_or(usize::MAX);
        self.limits = Limits { payload: self.uplink.settings.max_payload, packet };
        self.phase = Phase::Online;
        self.since = clock::now();
        let mut connections = 0;
        self.uplink.monitor.uplink(|state| {
            state.connected = true;
            state.connections += 1;
            connections = state.connections;
        });
        let BrokerSettings { host, port, .. } = self.uplink.settings;
        info!(broker = %format_args!("{host}:{port}"), connections, terms.receive_max, "uplink connected");
        self.trouble = self.uplink.trouble();
        let status = self.online();
        self.publish_status(status)
    }

    /// Notes what the broker answered to a message.
    ///
    /// # Errors
    /// When the broker refused the message for now: the connection ends, and after a pause everything unacknowledged is
    /// sent again, in order.
    fn answered(&mut self, id: u16, answer: &Answer) -> Result<(), String> {
        match answer {
            Answer::Taken => self.window.settle(id, Outcome::Delivered),
            Answer::Never(refusal) => {
                if let Some(cargo) = self.window.cargo(id) {
                    given_up(cargo, refusal);
                }
                self.window.settle(id, Outcome::Dropped);
            }
            Answer::NotNow(refusal) => {
                let topic = self.window.cargo(id).map_or("?", |cargo| &cargo.topic);
                return Err(format!("broker refused a message on {topic}: {refusal}"));
            }
        }
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
                self.sender.disconnect()
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
        let topic = Arc::clone(&cargo.topic);
        self.window.hand_over(cargo, payload.len());
        self.sender.publish(&topic, retain, payload)
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
