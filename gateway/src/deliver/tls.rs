//! The TLS side of the wire: mutual, with the host name always checked. The files are read anew for each connection and
//! when they change (`renewal`), so that a renewed certificate needs no restart.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::site::BrokerSettings;

/// Reads the certificate files and makes the TLS configuration of one connection: TLS 1.2 or 1.3, the broker's certificate
/// checked against `ca` and its host name, the gateway's own certificate shown.
///
/// # Errors
/// When a file cannot be read or used; the error names it.
pub fn tls_config(settings: &BrokerSettings) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&settings.ca)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { path: settings.ca.clone(), source })?;
    }
    let chain = certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(|error| pem_error(&settings.key, error, "key"))?;
    // Named, and not the process default: `builder()` panics as soon as a dependency brings a second provider.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Setup { source })?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|source| TlsError::Pair {
            certificate: settings.certificate.clone(),
            key: settings.key.clone(),
            source,
        })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| pem_error(path, error, "certificate"))?;
    if certificates.is_empty() {
        return Err(TlsError::Nothing { path: path.to_owned(), wanted: "certificate" });
    }
    Ok(certificates)
}

fn pem_error(path: &Path, error: pem::Error, wanted: &'static str) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::Unreadable { path, source },
        pem::Error::NoItemsFound => TlsError::Nothing { path, wanted },
        source => TlsError::Malformed { path, source },
    }
}

/// Why there is no TLS configuration.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not PEM.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A PEM file holds nothing of the kind wanted.
    Nothing {
        /// The file.
        path: PathBuf,
        /// `certificate` or `key`.
        wanted: &'static str,
    },
    /// A certificate of the authorities' file cannot be used as one.
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The gateway's certificate and key cannot be used together.
    Pair {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The provider offers no usable protocol version.
    Setup {
        /// What is wrong.
        source: rustls::Error,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Malformed { path, source } => write!(f, "{} is no PEM file: {}", path.display(), defect(source)),
            Self::Nothing { path, wanted } => write!(f, "{} holds no {wanted}", path.display()),
            Self::Authority { path, source } => {
                write!(f, "{} holds a certificate that cannot be used: {source}", path.display())
            }
            Self::Pair { certificate, key, source: rustls::Error::InconsistentKeys(_) } => {
                write!(f, "key {} does not belong to certificate {}", key.display(), certificate.display())
            }
            Self::Pair { certificate, key, source } => {
                write!(f, "certificate {} with key {} cannot be used: {source}", certificate.display(), key.display())
            }
            Self::Setup { source } => write!(f, "no usable TLS version: {source}"),
        }
    }
}

/// Says what is wrong without the text of the line: it may be part of a key.
fn defect(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section does not end",
        pem::Error::IllegalSectionStart { .. } => "a section starts with a malformed line",
        pem::Error::Base64Decode(_) => "a section holds something that is not base64",
        _ => "a section is too large",
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Malformed { .. } | Self::Nothing { .. } => None,
            Self::Authority { source, .. } | Self::Pair { source, .. } | Self::Setup { source } => Some(source),
        }
    }
}
