//! Sessions, retained messages and who gets what.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties, RetainForwardRule};
use rumqttc::v5::mqttbytes::{QoS, matches};
use tokio::sync::Notify;

use super::Counts;

/// Everything that outlives a connection.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) counts: Counts,
    sessions: HashMap<String, Session>,
    retained: BTreeMap<String, Arc<Message>>,
    last_owner: u64,
}

/// A published message, shared by all its receivers.
#[derive(Debug)]
pub(super) struct Message {
    topic: Bytes,
    payload: Bytes,
    qos: QoS,
    properties: Option<PublishProperties>,
    at: Instant,
}

/// One message on its way to one subscriber.
#[derive(Clone, Debug)]
struct Outgoing {
    message: Arc<Message>,
    qos: QoS,
    retain: bool,
}

#[derive(Debug, Default)]
struct Session {
    filters: BTreeMap<String, QoS>,
    waiting: VecDeque<Outgoing>,
    in_flight: VecDeque<(u16, Outgoing)>,
    /// Messages at the front of `in_flight` that an earlier connection sent and this one must repeat.
    to_repeat: usize,
    last_id: u16,
    window: usize,
    kept: bool,
    owner: Option<Owner>,
}

/// The connection that serves a session.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    number: u64,
    /// Something waits to be sent.
    pub(super) work: Arc<Notify>,
    /// Another connection took the session over.
    pub(super) taken: Arc<Notify>,
}

impl Message {
    pub(super) fn new(topic: Bytes, payload: Bytes, qos: QoS, properties: Option<PublishProperties>) -> Self {
        Self { topic, payload, qos, properties, at: Instant::now() }
    }

    /// Returns the properties with what is left of the expiry, or `None` when it has passed.
    ///
    /// Source: MQTT 5.0 §3.3.2.3.3.
    fn properties_now(&self) -> Option<Option<PublishProperties>> {
        let mut properties = self.properties.clone();
        if let Some(interval) = properties.as_mut().and_then(|all| all.message_expiry_interval.as_mut()) {
            let waited = u32::try_from(self.at.elapsed().as_secs()).unwrap_or(u32::MAX);
            *interval = interval.checked_sub(waited).filter(|&left| left > 0)?;
        }
        Some(properties)
    }
}

impl State {
    /// Gives a session to a new connection, which may end another one. Says whether the session was there before.
    pub(super) fn open(&mut self, client: &str, clean: bool, kept: bool, window: usize) -> (Owner, bool) {
        self.last_owner += 1;
        self.counts.connections += 1;
        let owner = Owner { number: self.last_owner, work: Arc::new(Notify::new()), taken: Arc::new(Notify::new()) };
        if clean && let Some(Session { owner: Some(before), .. }) = self.sessions.remove(client) {
            before.taken.notify_one();
        }
        let present = self.sessions.contains_key(client);
        let session = self.sessions.entry(client.to_owned()).or_default();
        if let Some(before) = session.owner.replace(owner.clone()) {
            before.taken.notify_one();
        }
        session.window = window;
        session.kept = kept;
        session.to_repeat = session.in_flight.len();
        owner.work.notify_one();
        (owner, present)
    }

    /// Ends a connection: its session stays only if it was to be kept.
    pub(super) fn close(&mut self, client: &str, owner: &Owner) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        if session.owner.as_ref().is_some_and(|current| current.number == owner.number) {
            session.owner = None;
            if !session.kept {
                self.sessions.remove(client);
            }
        }
    }

    /// Keeps a retained message and queues the message for everyone subscribed; an empty retained one clears the topic.
    pub(super) fn publish(&mut self, message: Message, retain: bool) {
        let topic = String::from_utf8_lossy(&message.topic).into_owned();
        let message = Arc::new(message);
        if retain && message.payload.is_empty() {
            self.retained.remove(&topic);
        } else if retain {
            self.retained.insert(topic.clone(), Arc::clone(&message));
        }
        for session in self.sessions.values_mut() {
            let granted = session.filters.iter().filter(|(filter, _)| matches(&topic, filter)).map(|(_, &qos)| qos);
            let Some(granted) = granted.max_by_key(|&qos| qos as u8) else { continue };
            session.queue(Outgoing { message: Arc::clone(&message), qos: lower(granted, message.qos), retain: false });
        }
    }

    /// Subscribes and queues the retained messages. Says which QoS is granted.
    pub(super) fn subscribe(&mut self, client: &str, filter: &str, qos: QoS, rule: &RetainForwardRule) -> QoS {
        let granted = lower(qos, QoS::AtLeastOnce);
        let Some(session) = self.sessions.get_mut(client) else { return granted };
        let known = session.filters.insert(filter.to_owned(), granted).is_some();
        let wanted = match rule {
            RetainForwardRule::OnEverySubscribe => true,
            RetainForwardRule::OnNewSubscribe => !known,
            RetainForwardRule::Never => false,
        };
        for (_, message) in self.retained.iter().filter(|(topic, _)| wanted && matches(topic, filter)) {
            session.queue(Outgoing { message: Arc::clone(message), qos: lower(granted, message.qos), retain: true });
        }
        granted
    }

    /// Says whether there was such a subscription.
    pub(super) fn unsubscribe(&mut self, client: &str, filter: &str) -> bool {
        self.sessions.get_mut(client).is_some_and(|session| session.filters.remove(filter).is_some())
    }

    /// Takes an acknowledgement; one for an unknown packet identifier is from before a cut and means nothing.
    pub(super) fn acknowledged(&mut self, client: &str, id: u16) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        if let Some(place) = session.in_flight.iter().position(|(sent, _)| *sent == id) {
            session.in_flight.remove(place);
            session.to_repeat -= usize::from(place < session.to_repeat);
        }
    }

    /// Writes what may be sent now, until `out` holds `enough` bytes.
    pub(super) fn write_ready(&mut self, client: &str, out: &mut BytesMut, enough: usize) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        while out.len() < enough {
            let Some((publish, again)) = session.next(&mut self.counts) else { return };
            self.counts.sent += 1;
            self.counts.repeated += u64::from(again);
            if let Err(error) = Packet::Publish(publish).write(out, None) {
                tracing::warn!("broker: message not sent: {error}");
            }
        }
    }

    pub(super) fn retained(&self, topic: &str) -> Option<Vec<u8>> {
        self.retained.get(topic).map(|message| message.payload.to_vec())
    }
}

impl Session {
    fn queue(&mut self, outgoing: Outgoing) {
        // QoS 0 is for those who are connected.
        if self.owner.is_none() && outgoing.qos == QoS::AtMostOnce {
            return;
        }
        self.waiting.push_back(outgoing);
        if let Some(owner) = &self.owner {
            owner.work.notify_one();
        }
    }

    /// Returns the next message to write, and whether it was sent before on an earlier connection.
    fn next(&mut self, counts: &mut Counts) -> Option<(Publish, bool)> {
        if self.to_repeat > 0 {
            let (id, outgoing) = self.in_flight.pop_front()?;
            // What was repeated goes to the end, so that the next one is in front; after the last the order is as before.
            self.in_flight.push_back((id, outgoing.clone()));
            self.to_repeat -= 1;
            return Some((packet(&outgoing, id, outgoing.message.properties.clone(), true), true));
        }
        while let Some(outgoing) = self.waiting.front() {
            let Some(properties) = outgoing.message.properties_now() else {
                self.waiting.pop_front();
                counts.expired += 1;
                continue;
            };
            if outgoing.qos == QoS::AtMostOnce {
                let outgoing = self.waiting.pop_front()?;
                return Some((packet(&outgoing, 0, properties, false), false));
            }
            if self.in_flight.len() >= self.window {
                return None;
            }
            let outgoing = self.waiting.pop_front()?;
            let id = self.free_id();
            self.in_flight.push_back((id, outgoing.clone()));
            return Some((packet(&outgoing, id, properties, false), false));
        }
        None
    }

    /// Returns a packet identifier that is not in flight; the window is far below 65 535, so there is one.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.iter().any(|(id, _)| *id == self.last_id) {
                return self.last_id;
            }
        }
    }
}

fn packet(outgoing: &Outgoing, pkid: u16, properties: Option<PublishProperties>, dup: bool) -> Publish {
    Publish {
        dup,
        qos: outgoing.qos,
        retain: outgoing.retain,
        topic: outgoing.message.topic.clone(),
        pkid,
        payload: outgoing.message.payload.clone(),
        properties,
    }
}

fn lower(one: QoS, other: QoS) -> QoS {
    if one == QoS::AtMostOnce || other == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce }
}
