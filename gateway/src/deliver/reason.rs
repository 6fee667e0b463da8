//! From an error of the wire to a cause that a person can act on. The library's own text stays at the end, in brackets.

use std::fmt::Debug;
use std::io;

use rumqttc::TlsError as WireTlsError;
use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, PubAckReason};
use rumqttc::v5::{ConnectionError, StateError};
use rustls::{AlertDescription, CertificateError};

use crate::site::BrokerSettings;

/// Says why a connection ended or was never made; `connected` tells whether the broker had accepted it.
pub(super) fn of_connection(error: &ConnectionError, settings: &BrokerSettings, connected: bool) -> String {
    let BrokerSettings { host, port, .. } = settings;
    match error {
        ConnectionError::Timeout(_) => format!("no answer from {host}:{port} in time"),
        ConnectionError::Io(error) => of_io(error, settings, connected),
        ConnectionError::Tls(WireTlsError::Io(error)) => of_io(error, settings, connected),
        ConnectionError::Tls(WireTlsError::TLS(error)) => of_tls(error, settings),
        ConnectionError::Tls(WireTlsError::DNSName(error)) => format!("{host:?} is no host name ({error})"),
        ConnectionError::ConnectionRefused(code) => {
            format!("broker refused the connection: {} ({})", words(code), hex(connect_code(*code)))
        }
        ConnectionError::MqttState(error) => of_state(error, settings, connected),
        other => other.to_string(),
    }
}

fn of_state(error: &StateError, settings: &BrokerSettings, connected: bool) -> String {
    match error {
        StateError::Io(error) | StateError::Deserialization(PacketError::Io(error)) => {
            of_io(error, settings, connected)
        }
        StateError::ConnectionAborted => closed("end of stream", connected),
        StateError::AwaitPingResp => format!("no answer to a ping within {} s", settings.keep_alive.as_secs()),
        StateError::ServerDisconnect { reason_code, reason_string } => {
            let hint = reason_string.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
            format!("broker ended the connection: {} ({}){hint}", words(reason_code), hex(*reason_code as u8))
        }
        StateError::OutgoingPacketTooLarge { pkt_size, max } => {
            format!("a packet of {pkt_size} bytes is larger than the broker's maximum of {max}")
        }
        other => format!("the peer does not keep to MQTT 5 ({other})"),
    }
}

fn of_io(error: &io::Error, settings: &BrokerSettings, connected: bool) -> String {
    let BrokerSettings { host, port, .. } = settings;
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return of_tls(error, settings);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("connection refused: nothing listens on {host}:{port} ({error})"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => format!("no route to {host} ({error})"),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => closed(&error.to_string(), connected),
        // The standard library gives a failed look-up no kind of its own.
        _ if error.to_string().starts_with("failed to lookup address") => format!("name not found: {host} ({error})"),
        _ => error.to_string(),
    }
}

fn closed(detail: &str, connected: bool) -> String {
    if connected {
        format!("connection lost ({detail})")
    } else {
        format!("broker closed the connection at once: it may have refused our certificate ({detail})")
    }
}

fn of_tls(error: &rustls::Error, settings: &BrokerSettings) -> String {
    use CertificateError as Certificate;
    let BrokerSettings { host, port, ca, certificate, .. } = settings;
    match error {
        // A bad signature is an authority of the same name with another key.
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => format!(
            "certificate authority unknown: the broker's certificate is not signed by {} ({error})",
            ca.display()
        ),
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => {
            format!("broker certificate does not name {host} ({error})")
        }
        rustls::Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            format!("broker certificate expired, or the gateway's clock is wrong ({error})")
        }
        rustls::Error::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            format!("broker certificate not valid yet, or the gateway's clock is wrong ({error})")
        }
        rustls::Error::InvalidCertificate(_) => format!("broker certificate not usable ({error})"),
        rustls::Error::AlertReceived(alert) => match refusal(*alert) {
            Some(why) => format!("broker refused our certificate {}: {why} ({error})", certificate.display()),
            None => format!("broker ended the TLS handshake: {} ({error})", words(alert)),
        },
        rustls::Error::InvalidMessage(_) => format!("{host}:{port} does not speak TLS ({error})"),
        _ => format!("TLS: {error}"),
    }
}

/// Source: RFC 8446 §6.2; OpenSSL sends `decrypt_error` for a chain whose signature does not fit.
fn refusal(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateExpired => "expired",
        AlertDescription::UnknownCA => "unknown authority",
        AlertDescription::DecryptError => "unknown authority, its signature does not fit",
        AlertDescription::CertificateRequired => "required and not shown",
        AlertDescription::CertificateRevoked => "revoked",
        AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate => "not usable",
        AlertDescription::CertificateUnknown => "for a reason it does not tell",
        AlertDescription::AccessDenied => "access denied",
        _ => return None,
    })
}

/// Says why the broker refused a message, with the code as the standard prints it.
pub(super) fn of_message(reason: PubAckReason) -> String {
    format!("{} ({})", words(&reason), hex(puback_code(reason)))
}

fn hex(code: u8) -> String {
    format!("0x{code:02x}")
}

/// `NotAuthorized` becomes `not authorized`.
fn words(name: &impl Debug) -> String {
    let mut out = String::new();
    let mut after_lower = false;
    for c in format!("{name:?}").replace("QoS", "Qos").chars() {
        if c.is_ascii_uppercase() && after_lower {
            out.push(' ');
        }
        after_lower = c.is_ascii_lowercase();
        out.push(c.to_ascii_lowercase());
    }
    out
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
    use std::collections::BTreeMap;
    use std::time::Duration;

    use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode;

    use super::*;

    fn settings() -> BrokerSettings {
        BrokerSettings {
            host: "broker.city".to_owned(),
            port: 8883,
            ca: "pki/ca.pem".into(),
            certificate: "pki/gateway.pem".into(),
            key: "pki/gateway.key".into(),
            client_id: "gateway".to_owned(),
            keep_alive: Duration::from_secs(30),
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            max_payload: 16_384,
            user_properties: BTreeMap::new(),
        }
    }

    fn handshake(error: rustls::Error) -> String {
        let error = ConnectionError::Tls(WireTlsError::Io(io::Error::new(io::ErrorKind::InvalidData, error)));
        of_connection(&error, &settings(), false)
    }

    #[test]
    fn a_certificate_that_fails_is_told_by_what_is_wrong_with_it() {
        let cases = [
            (
                CertificateError::UnknownIssuer,
                "certificate authority unknown: the broker's certificate is not signed by pki/ca.pem (",
            ),
            (
                CertificateError::BadSignature,
                "certificate authority unknown: the broker's certificate is not signed by pki/ca.pem (",
            ),
            (CertificateError::NotValidForName, "broker certificate does not name broker.city ("),
            (CertificateError::Expired, "broker certificate expired, or the gateway's clock is wrong ("),
            (CertificateError::NotValidYet, "broker certificate not valid yet, or the gateway's clock is wrong ("),
            (CertificateError::Revoked, "broker certificate not usable ("),
        ];
        for (error, expected) in cases {
            let text = handshake(rustls::Error::InvalidCertificate(error.clone()));
            assert!(text.starts_with(expected), "{error:?}: {text}");
            assert!(text.contains("invalid peer certificate"), "the source is kept: {text}");
        }
    }

    #[test]
    fn an_alert_about_our_certificate_is_told_as_the_brokers_refusal() {
        let cases = [
            (AlertDescription::CertificateExpired, "broker refused our certificate pki/gateway.pem: expired ("),
            (AlertDescription::UnknownCA, "broker refused our certificate pki/gateway.pem: unknown authority ("),
            (
                AlertDescription::CertificateRequired,
                "broker refused our certificate pki/gateway.pem: required and not shown (",
            ),
            (AlertDescription::ProtocolVersion, "broker ended the TLS handshake: protocol version ("),
        ];
        for (alert, expected) in cases {
            let text = handshake(rustls::Error::AlertReceived(alert));
            assert!(text.starts_with(expected), "{alert:?}: {text}");
        }
    }

    #[test]
    fn an_alert_that_arrives_instead_of_connack_is_found_too() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        let error = io::Error::new(io::ErrorKind::InvalidData, alert);
        let error = ConnectionError::MqttState(StateError::Deserialization(PacketError::Io(error)));
        let text = of_connection(&error, &settings(), false);
        assert!(text.starts_with("broker refused our certificate pki/gateway.pem: expired"), "{text}");
    }

    #[test]
    fn the_network_is_told_from_the_broker() {
        let cases = [
            (
                io::Error::from(io::ErrorKind::ConnectionRefused),
                "connection refused: nothing listens on broker.city:8883",
            ),
            (io::Error::from(io::ErrorKind::HostUnreachable), "no route to broker.city"),
            (
                io::Error::other("failed to lookup address information: Name or service not known"),
                "name not found: broker.city",
            ),
            (
                io::Error::from(io::ErrorKind::ConnectionReset),
                "broker closed the connection at once: it may have refused our certificate",
            ),
        ];
        for (error, expected) in cases {
            let text = of_connection(&ConnectionError::Io(error), &settings(), false);
            assert!(text.starts_with(expected), "{text}");
        }
        let error = ConnectionError::Io(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(of_connection(&error, &settings(), true).starts_with("connection lost ("));
    }

    #[test]
    fn reason_codes_are_told_in_words_and_as_the_standard_prints_them() {
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        let text = of_connection(&refused, &settings(), false);
        assert_eq!(text, "broker refused the connection: not authorized (0x87)");
        let ended = ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            reason_string: None,
        });
        let text = of_connection(&ended, &settings(), true);
        assert_eq!(text, "broker ended the connection: session taken over (0x8e)");
        assert_eq!(of_message(PubAckReason::QuotaExceeded), "quota exceeded (0x97)");
        let unsupported = ConnectionError::ConnectionRefused(ConnectReturnCode::QoSNotSupported);
        assert!(of_connection(&unsupported, &settings(), false).ends_with("qos not supported (0x9b)"));
    }
}
