//! The gateway's own status message: retained, and the broker publishes the offline one for us when the wire breaks.

use ganglion_protocols::envelope::CONTRACT_VERSION;
use ganglion_protocols::{Cri, Timestamp};
use serde::Serialize;

use super::Epochs;

/// Payload of the status topic, contract v1.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Status<'a> {
    v: u8,
    gw: Cri,
    epoch: String,
    event_epoch: String,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Online,
    Offline,
}

impl<'a> Status<'a> {
    /// The broker accepted the connection at `since`; `trouble` is why the store cannot write, if it cannot.
    pub(super) fn online(gateway: Cri, epochs: Epochs, since: Timestamp, trouble: Option<&'a str>) -> Self {
        Self { trouble, ..Self::new(gateway, epochs, State::Online, Some(since)) }
    }

    /// The gateway ended in order at `since`.
    pub(super) fn ended(gateway: Cri, epochs: Epochs, since: Timestamp) -> Self {
        Self::new(gateway, epochs, State::Offline, Some(since))
    }

    /// The last will: when it will be published is not known, so it has no `since`.
    pub(super) fn will(gateway: Cri, epochs: Epochs) -> Self {
        Self::new(gateway, epochs, State::Offline, None)
    }

    fn new(gateway: Cri, epochs: Epochs, state: State, since: Option<Timestamp>) -> Self {
        let hex = |epoch: u64| format!("{epoch:016x}");
        Self {
            v: CONTRACT_VERSION,
            gw: gateway,
            epoch: hex(epochs.telemetry),
            event_epoch: hex(epochs.events),
            state,
            since,
            trouble: None,
        }
    }

    /// Returns the JSON text.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_states_have_the_form_of_the_contract() {
        let gateway = "620602-9101-000001-23".parse().unwrap();
        let since = Timestamp::from_unix_nanos(1_795_330_435_123_456_789);
        let epochs = Epochs { telemetry: 1, events: 2 };
        let texts = [
            Status::online(gateway, epochs, since, None).to_json(),
            Status::online(gateway, epochs, since, Some("disk full")).to_json(),
            Status::ended(gateway, epochs, since).to_json(),
            Status::will(gateway, epochs).to_json(),
        ];
        let head = r#"{"v":1,"gw":"620602-9101-000001-23","epoch":"0000000000000001","event_epoch":"0000000000000002","state":"#;
        assert_eq!(
            texts,
            [
                format!(r#"{head}"online","since":"2026-11-22T06:53:55.123Z"}}"#),
                format!(r#"{head}"online","since":"2026-11-22T06:53:55.123Z","trouble":"disk full"}}"#),
                format!(r#"{head}"offline","since":"2026-11-22T06:53:55.123Z"}}"#),
                format!(r#"{head}"offline"}}"#),
            ]
        );
    }
}
