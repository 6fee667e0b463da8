//! From an error of the wire to a cause that a person can act on. The library's own text stays at the end, in brackets.

use std::io;

use rustls::{AlertDescription, CertificateError};

use super::wire::{Failure, words};
use crate::site::{Address, BrokerSettings};

/// Says why a connection ended or was never made; `connected` tells whether the broker had accepted it.
pub(super) fn of_connection(failure: &Failure, settings: &BrokerSettings, broker: &Address, connected: bool) -> String {
    let host = &broker.host;
    match failure {
        Failure::Late => format!("no answer from {broker} in time"),
        Failure::Io(error) => of_io(error, settings, broker, connected),
        Failure::Tls(error) => of_tls(error, settings, broker),
        Failure::Name(text) => format!("{host:?} is no host name ({text})"),
        Failure::Refused(refusal) => format!("broker refused the connection: {refusal}"),
        Failure::Ended(refusal, text) => {
            let hint = text.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
            format!("broker ended the connection: {refusal}{hint}")
        }
        Failure::EndOfStream => closed("end of stream", connected),
        Failure::NoPong => format!("no answer to a ping within {} s", settings.keep_alive.as_secs()),
        Failure::TooLarge { bytes, limit } => {
            format!("a packet of {bytes} bytes is larger than the broker's maximum of {limit}")
        }
        Failure::Protocol { standard, detail } => format!("the peer does not keep to {standard} ({detail})"),
        Failure::Other(text) => text.clone(),
    }
}

fn of_io(error: &io::Error, settings: &BrokerSettings, broker: &Address, connected: bool) -> String {
    let host = &broker.host;
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return of_tls(error, settings, broker);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("connection refused: nothing listens on {broker} ({error})"),
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

fn of_tls(error: &rustls::Error, settings: &BrokerSettings, broker: &Address) -> String {
    use CertificateError as Certificate;
    let BrokerSettings { ca, certificate, .. } = settings;
    let host = &broker.host;
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
        rustls::Error::InvalidMessage(_) => format!("{broker} does not speak TLS ({error})"),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::wire::Refusal;
    use super::*;
    use crate::site::MqttVersion;

    fn settings() -> BrokerSettings {
        BrokerSettings {
            host: "broker.city".to_owned(),
            port: 8883,
            alternatives: Vec::new(),
            fail_back: Duration::from_secs(1),
            mqtt: MqttVersion::V5,
            ca: "pki/ca.pem".into(),
            certificate: "pki/gateway.pem".into(),
            key: "pki/gateway.key".into(),
            certificate_check: Duration::from_secs(1),
            client_id: "gateway".to_owned(),
            keep_alive: Duration::from_secs(30),
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            max_payload: 16_384,
            backfill_percent: 50,
            backfill_max_per_s: 0,
            user_properties: BTreeMap::new(),
        }
    }

    fn told(failure: &Failure, connected: bool) -> String {
        let settings = settings();
        of_connection(failure, &settings, &settings.brokers()[0], connected)
    }

    fn handshake(error: rustls::Error) -> String {
        let failure = Failure::Io(io::Error::new(io::ErrorKind::InvalidData, error));
        told(&failure, false)
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
            let text = told(&Failure::Io(error), false);
            assert!(text.starts_with(expected), "{text}");
        }
        let failure = Failure::Io(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(told(&failure, true).starts_with("connection lost ("));
    }

    #[test]
    fn reason_codes_are_told_in_words_and_as_the_standard_prints_them() {
        let refused = Failure::Refused(Refusal::new(0x87, &format_args!("NotAuthorized")));
        let text = told(&refused, false);
        assert_eq!(text, "broker refused the connection: not authorized (0x87)");
        let ended = Failure::Ended(Refusal::new(0x8e, &format_args!("SessionTakenOver")), None);
        let text = told(&ended, true);
        assert_eq!(text, "broker ended the connection: session taken over (0x8e)");
    }
}
