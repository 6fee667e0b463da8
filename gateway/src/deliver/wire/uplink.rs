//! What all connections have in common, and how each is opened.

use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::Cri;
use ganglion_protocols::topic::{GatewaySubject, GatewayTopic};

use super::client::{self, Client, Options, Sender};
use super::v5;
use crate::deliver::Epochs;
use crate::deliver::letters::LetterBox;
use crate::deliver::status::Status;
use crate::monitor::{LogName, Monitor};
use crate::site::{Address, BrokerSettings, MqttVersion};

/// What all connections have in common.
pub(in crate::deliver) struct Uplink<'a> {
    pub(super) settings: &'a BrokerSettings,
    pub(super) gateway: Cri,
    pub(super) epochs: Epochs,
    pub(super) letters: &'a LetterBox,
    pub(in crate::deliver) monitor: &'a Monitor,
    user_properties: Vec<(String, String)>,
    pub(super) status_topic: Arc<str>,
}

impl<'a> Uplink<'a> {
    /// Prepares what every connection needs.
    pub(in crate::deliver) fn new(
        settings: &'a BrokerSettings,
        gateway: Cri,
        epochs: Epochs,
        monitor: &'a Monitor,
        letters: &'a LetterBox,
    ) -> Self {
        let user_properties = settings.user_properties.clone().into_iter().collect();
        let status_topic = GatewayTopic { gateway, about: GatewaySubject::Status }.to_string().into();
        Self { settings, gateway, epochs, letters, monitor, user_properties, status_topic }
    }

    /// Returns the bytes that the properties of a message take, at most.
    pub(super) fn properties_len(&self) -> usize {
        match self.settings.mqtt {
            MqttVersion::V5 => v5::properties_len(&self.user_properties),
            MqttVersion::V4 => 0,
        }
    }

    /// Opens a client for one connection to one of the brokers.
    pub(super) fn open(&self, broker: &Address, tls: rustls::ClientConfig) -> (Sender, Client) {
        let BrokerSettings { mqtt, client_id, keep_alive, .. } = self.settings;
        let Address { host, port } = broker;
        let options = Options {
            host,
            port: *port,
            client_id,
            // Within what the client and the protocol allow.
            keep_alive: (*keep_alive).clamp(Duration::from_secs(5), Duration::from_secs(u64::from(u16::MAX))),
            tls,
            will_topic: &self.status_topic,
            will: Status::will(self.gateway, self.epochs).to_json(),
            user_properties: &self.user_properties,
        };
        client::open(*mqtt, options)
    }

    /// Returns why the store cannot write, if it cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = |log| self.monitor.store_of(log, |store| store.trouble.clone());
        trouble(LogName::Telemetry).or_else(|| trouble(LogName::Events))
    }
}
