//! One connection to the broker, from its files to its end. The client is built for it and dropped with it; which version
//! of MQTT it speaks is known to `client` alone.

mod client;
mod flow;
mod pulse;
mod uplink;
mod v4;
mod v5;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::{LossCause, Timestamp};
use rustls::ClientConfig;
use tokio::time::{self, Instant, MissedTickBehavior};
use tracing::{debug, error, info, warn};

use super::cap::Cap;
use super::feed::Cargo;
use super::lanes::Lanes;
use super::message::Payload;
use super::packet_limit::PacketLimit;
use super::reason;
use super::status::Status;
use super::valve::Valve;
use super::window::{Outcome, Window};
use super::{Source, worth_telling};
use crate::clock;
use crate::site::Address;
use client::{Answer, CONNECT_TIMEOUT, Client, Event, Sender, Terms};
use flow::Flow;
use pulse::Pulse;

#[cfg(test)]
pub(super) use client::Refusal;
pub(super) use client::{Failure, words};
pub(super) use uplink::Uplink;

/// Longest time that the oldest message may wait for its PUBACK; on 2 kB/s the largest window takes minutes.
const SLOWEST_PUBACK: Duration = Duration::from_secs(600);
/// Longest time for the offline status and DISCONNECT of an orderly end.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for what is in flight when a connection that works is left.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the store's state is looked at for the status message.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// In order: everything is delivered and the source has ended.
    Finished,
    /// In order, or as far as there was time for, because it was to be left.
    Left,
    /// Otherwise; why.
    Lost(String),
}

/// Serves one connection to one of the brokers until it ends; when `leave` is ready it ends in order.
pub(super) async fn serve<S: Source>(
    uplink: &Uplink<'_>,
    broker: &Address,
    tls: ClientConfig,
    bounds: (&mut PacketLimit, &mut Cap),
    lanes: &mut Lanes<'_, S>,
    leave: impl Future<Output = ()>,
) -> End {
    let (sender, mut client) = uplink.open(broker, tls);
    let mut wire = Wire::new(uplink, broker, sender, bounds);
    let end = wire.drive(&mut client, lanes, pin!(leave)).await;
    // PUBACKs that were read together with the error, or just before it.
    for event in client.rest() {
        if matches!(event, Event::Acked(..) | Event::Sent(_)) {
            // What would end the connection does no more: it has ended.
            wire.handle(event).ok();
        }
    }
    wire.collect(lanes);
    if let Some(limit) = wire.valve.ended(wire.too_large, &wire.window) {
        warn!(%broker, limit, "the broker takes no larger packets, it seems; they are cut from now on");
    }
    end
}

struct Wire<'a, M> {
    uplink: &'a Uplink<'a>,
    broker: &'a Address,
    sender: Sender,
    window: Window<Cargo<M>>,
    receive_max: u16,
    valve: Valve<'a>,
    flow: Flow,
    /// Messages that were settled when the flow last stopped.
    settled: u64,
    phase: Phase,
    /// It was to be left: nothing further is sent.
    leaving: bool,
    /// When it ends, whatever is still in flight.
    deadline: Option<Instant>,
    since: Timestamp,
    trouble: Option<String>,
    /// The broker ended the connection for a packet that was too large.
    too_large: bool,
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
    fn new(
        uplink: &'a Uplink<'a>,
        broker: &'a Address,
        sender: Sender,
        bounds: (&'a mut PacketLimit, &'a mut Cap),
    ) -> Self {
        Self {
            uplink,
            broker,
            sender,
            window: Window::new(1),
            receive_max: 1,
            valve: Valve::new(
                bounds,
                uplink.settings.backfill_percent,
                uplink.settings.max_payload,
                uplink.properties_len(),
            ),
            flow: Flow::new(uplink.settings.retry),
            settled: 0,
            phase: Phase::AwaitingConnAck,
            leaving: false,
            deadline: None,
            since: Timestamp::default(),
            trouble: None,
            too_large: false,
        }
    }

    /// Polls the client until the connection ends.
    async fn drive<S: Source<Mark = M>>(
        &mut self,
        client: &mut Client,
        lanes: &mut Lanes<'_, S>,
        mut leave: Pin<&mut impl Future<Output = ()>>,
    ) -> End {
        let mut pulse = Pulse::new(Instant::now(), CONNECT_TIMEOUT + Duration::from_secs(5));
        // The client itself may wait for ever: its flush has no timeout.
        let mut watchdog = pin!(time::sleep(pulse.patience()));
        let mut rest = pin!(time::sleep(Duration::ZERO));
        let (mut oldest, mut oldest_since) = (None, Instant::now());
        let mut status = time::interval(STATUS_PERIOD);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let polled = {
                // One poll is kept until it is done: dropping it could lose a packet that is half written.
                let mut poll = pin!(client.poll());
                loop {
                    if self.phase == Phase::AwaitingConnAck && lanes.is_drained() {
                        return End::Finished;
                    }
                    let lost = pulse.deadline(self.window.bytes());
                    watchdog.as_mut().reset(self.deadline.map_or(lost, |deadline| deadline.min(lost)));
                    let resting = self.flow.rests_until();
                    if let Some(until) = resting {
                        rest.as_mut().reset(until);
                    }
                    let step = tokio::select! {
                        polled = &mut poll => break polled,
                        () = &mut watchdog => return self.end(pulse.verdict(Instant::now(), self.window.bytes())),
                        () = lanes.read() => self.go_on(lanes),
                        // History that was to wait for its turn goes on here, too.
                        _ = status.tick(), if self.phase == Phase::Online => {
                            self.tell_trouble().and_then(|()| self.go_on(lanes))
                        }
                        () = &mut rest, if resting.is_some() => self.resume(lanes),
                        () = &mut leave, if !self.leaving => self.leave(lanes),
                    };
                    if let Err(cause) = step {
                        return self.end(cause);
                    }
                    if self.leaving && self.phase == Phase::AwaitingConnAck {
                        return End::Left;
                    }
                }
            };
            let event = match polled {
                Ok(event) => event,
                Err(failure) => {
                    self.too_large = failure.says_too_large();
                    let connected = self.phase > Phase::AwaitingConnAck;
                    return self.end(reason::of_connection(&failure, self.uplink.settings, self.broker, connected));
                }
            };
            pulse.event(Instant::now());
            match event {
                Event::Connected(terms) => pulse.agreed(terms.keep_alive),
                Event::Pinged => pulse.pinged(Instant::now()),
                Event::Acked(..) | Event::Heard => pulse.heard(),
                Event::Sent(_) | Event::Collided(_) | Event::Goodbye | Event::Other => {}
            }
            let handled = match event {
                Event::Connected(terms) => self.connected(terms, lanes),
                event => self.handle(event),
            };
            if let Err(cause) = handled.and_then(|()| self.go_on(lanes)) {
                return self.end(cause);
            }
            if self.phase == Phase::Closed {
                return if self.leaving { End::Left } else { End::Finished };
            }
            // Pings go to and fro whether or not the broker takes anything, so they are no sign that it does.
            if self.window.oldest() != oldest {
                (oldest, oldest_since) = (self.window.oldest(), Instant::now());
            } else if oldest.is_some() && oldest_since.elapsed() > pulse.patience().max(SLOWEST_PUBACK) {
                return self.end("the broker answers and acknowledges nothing".to_owned());
            }
        }
    }

    /// Says how the connection ended; once everything is delivered, or it was to end anyway, an error changes nothing.
    fn end(&self, cause: String) -> End {
        match self.phase {
            _ if self.leaving => End::Left,
            Phase::AwaitingConnAck | Phase::Online => End::Lost(cause),
            Phase::AwaitingLastPubAck | Phase::AwaitingDisconnect | Phase::Closed => End::Finished,
        }
    }

    /// Sends nothing further, and ends the connection once what is in flight is settled.
    fn leave<S: Source<Mark = M>>(&mut self, lanes: &mut Lanes<'_, S>) -> Result<(), String> {
        self.leaving = true;
        self.deadline.get_or_insert(Instant::now() + LEAVE_TIMEOUT);
        self.go_on(lanes)
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Acked(id, answer) => {
                self.answered(id, &answer);
                Ok(())
            }
            Event::Sent(id) => self.window.name(id).map_err(|_| format!("packet identifier {id} stands for nothing")),
            Event::Collided(id) => Err(format!("packet identifier {id} is still in use")),
            Event::Goodbye => {
                self.phase = Phase::Closed;
                Ok(())
            }
            Event::Connected(_) | Event::Pinged | Event::Heard | Event::Other => Ok(()),
        }
    }

    fn connected<S: Source<Mark = M>>(&mut self, terms: Terms, lanes: &mut Lanes<'_, S>) -> Result<(), String> {
        if !terms.qos_1 {
            return Err("broker does not offer QoS 1".to_owned());
        }
        self.receive_max = terms.receive_max;
        self.window = Window::new(terms.receive_max);
        self.valve.connected(self.window.limit(), usize::try_from(terms.packet_max).ok());
        lanes.restart();
        self.phase = Phase::Online;
        self.since = clock::now();
        let mut connections = 0;
        self.uplink.monitor.uplink(|state| {
            state.connected = true;
            state.connections += 1;
            connections = state.connections;
        });
        info!(broker = %self.broker, connections, terms.receive_max, "uplink connected");
        self.trouble = self.uplink.trouble();
        let status = self.online();
        self.publish_status(status)
    }

    /// Notes what the broker answered to a message.
    fn answered(&mut self, id: u16, answer: &Answer) {
        if let Some(cargo) = self.window.cargo(id) {
            self.valve.answered(cargo, matches!(answer, Answer::Taken));
        }
        match answer {
            Answer::Taken => self.window.settle(id, Outcome::Delivered),
            Answer::Never(refusal) => {
                if let Some(cargo) = self.window.cargo(id) {
                    let outcome = self.give_up(cargo, refusal.loss(), refusal);
                    self.window.settle(id, outcome);
                }
            }
            // The last status; who waits for the end does not wait for that.
            Answer::NotNow(refusal) if self.phase > Phase::Online => {
                self.window.settle(id, Outcome::Dropped(refusal.loss()));
            }
            Answer::NotNow(refusal) => {
                if self.flow.is_open() {
                    let topic = self.window.cargo(id).map_or("?", |cargo| &cargo.topic);
                    let cause = format!("broker refused a message on {topic}: {refusal}");
                    self.uplink.monitor.uplink(|state| {
                        state.last_error = Some(cause);
                        state.last_error_broker = Some(self.broker.to_string());
                    });
                }
                self.uplink.monitor.uplink(|state| state.refused += 1);
                self.flow.refused();
                self.window.refuse(id);
            }
        }
    }

    /// Begins the pause after a refusal, once everything in flight is answered. What was settled behind the refused message
    /// is forgotten: everything goes out again from there, for the order of a resource is kept.
    fn rest<S: Source<Mark = M>>(&mut self, lanes: &mut Lanes<'_, S>) {
        self.valve.restart(&self.window);
        self.window = Window::new(self.receive_max);
        lanes.restart();
        let pause = self.flow.rest(Instant::now(), lanes.settled() > self.settled, fastrand::f64());
        self.settled = lanes.settled();
        let retry_in_ms = u64::try_from(pause.length.as_millis()).unwrap_or(u64::MAX);
        let mut cause = None;
        self.uplink.monitor.uplink(|state| {
            state.retry_in_ms = Some(retry_in_ms);
            state.retry_at = Some(clock::after(pause.length));
            cause.clone_from(&state.last_error);
        });
        let (cause, times) = (cause.unwrap_or_default(), pause.times);
        if worth_telling(times) {
            warn!(broker = %self.broker, retry_in_ms, times, "delivery pauses: {cause}");
        } else {
            debug!(broker = %self.broker, retry_in_ms, times, "delivery pauses: {cause}");
        }
    }

    /// Goes on after the pause. The status goes first, for it may be what was refused.
    fn resume<S: Source<Mark = M>>(&mut self, lanes: &mut Lanes<'_, S>) -> Result<(), String> {
        self.flow.resume();
        self.uplink.monitor.uplink(|state| (state.retry_in_ms, state.retry_at) = (None, None));
        if self.phase == Phase::Online && !self.leaving {
            let status = self.online();
            self.publish_status(status)?;
        }
        self.go_on(lanes)
    }

    /// Takes what is settled out of the window.
    fn collect<S: Source<Mark = M>>(&mut self, lanes: &mut Lanes<'_, S>) {
        while let Some((cargo, outcome)) = self.window.pop_settled() {
            lanes.settle(&cargo, outcome);
        }
    }

    /// Does what can be done without waiting: frees the window, fills it, and says farewell after the last PUBACK.
    fn go_on<S: Source<Mark = M>>(&mut self, lanes: &mut Lanes<'_, S>) -> Result<(), String> {
        self.collect(lanes);
        if self.flow.awaits_answers() && self.window.is_answered() {
            self.rest(lanes);
        }
        while self.phase == Phase::Online && !self.leaving && self.flow.is_open() && self.window.has_room() {
            let Some((lane, limits)) = self.valve.next(lanes.ready(), &self.window) else { break };
            let Some((message, cargo)) = lanes.feed(lane).take(limits) else { break };
            match message.map(|message| message.payload) {
                Some(Ok(payload)) => self.publish(cargo, false, payload)?,
                Some(Err(error)) => {
                    let outcome = self.give_up(&cargo, error.cause(), &error);
                    self.window.settle_at_once(cargo, outcome);
                }
                None => self.window.settle_at_once(cargo, Outcome::Delivered),
            }
            self.collect(lanes);
        }
        self.uplink.monitor.uplink(|state| state.in_flight = self.valve.in_flight());
        if !self.window.is_empty() {
            return Ok(());
        }
        match self.phase {
            Phase::Online if lanes.is_drained() || self.leaving => {
                self.phase = Phase::AwaitingLastPubAck;
                self.deadline = Some(Instant::now() + FAREWELL_TIMEOUT);
                let Uplink { gateway, epochs, .. } = *self.uplink;
                self.publish_status(Status::ended(gateway, epochs, clock::now()).to_json())
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
        let may_send = !self.leaving && self.flow.is_open() && self.window.has_room();
        if trouble == self.trouble || !may_send {
            return Ok(());
        }
        self.trouble = trouble;
        let status = self.online();
        self.publish_status(status)
    }

    fn online(&self) -> String {
        Status::online(self.uplink.gateway, self.uplink.epochs, self.since, self.trouble.as_deref()).to_json()
    }

    fn publish_status(&mut self, status: String) -> Result<(), String> {
        let topic = Arc::clone(&self.uplink.status_topic);
        let (spans, payload, sent) = (Vec::new(), Vec::new(), std::time::Instant::now());
        let cargo = Cargo { lane: None, topic, spans, end: None, payload, sent };
        self.publish(cargo, true, Payload { bytes: status.into_bytes(), compressed: false })
    }

    fn publish(&mut self, mut cargo: Cargo<M>, retain: bool, payload: Payload) -> Result<(), String> {
        let topic = Arc::clone(&cargo.topic);
        cargo.payload.clone_from(&payload.bytes);
        self.valve.sent(&cargo);
        self.window.hand_over(cargo, payload.bytes.len());
        self.sender.publish(&topic, retain, payload)
    }

    /// Gives up a message that can never be delivered. Every message that is ends here, whatever the reason: it is kept for
    /// a person, and its observations are declared lost when it is settled.
    fn give_up(&self, cargo: &Cargo<M>, cause: LossCause, why: &dyn fmt::Display) -> Outcome {
        let topic = &*cargo.topic;
        self.uplink.monitor.uplink(|state| state.refused += 1);
        if cargo.lane.is_some() {
            let count: u64 = cargo.spans.iter().map(|span| span.count).sum();
            let last_seq = cargo.spans.last().map(|span| span.last);
            error!(topic, count, last_seq, "observations dropped, they can never be delivered: {why}");
            self.uplink.letters.put(topic, &why.to_string(), &cargo.payload);
        } else {
            warn!(topic, "status message refused: {why}");
        }
        Outcome::Dropped(cause)
    }
}
