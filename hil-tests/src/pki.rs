//! Throw-away certificates: an authority, a broker, a gateway and a subscriber.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// An authority and what it signed, in one folder.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// The authority's certificate.
    pub ca: PathBuf,
    /// For the broker, naming `localhost` and 127.0.0.1.
    pub broker: Pair,
    /// For the gateway.
    pub gateway: Pair,
    /// For the subscriber.
    pub subscriber: Pair,
}

/// For how long a certificate holds, seen from now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Validity {
    /// From 2020 to 2120.
    Now,
    /// It ended in 2021.
    Expired,
}

impl Pki {
    /// Makes an authority and its three certificates in `folder`, which must exist.
    ///
    /// # Errors
    /// When a file cannot be written or a key cannot be made.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "Ganglion throw-away authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        let ca = folder.join("ca.pem");
        fs::write(&ca, certificate.pem())?;
        let issuer = Issuer::new(params, key);
        let unsigned = |name: &str| Pair {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        let pki = Self {
            folder: folder.to_owned(),
            issuer,
            ca,
            broker: unsigned("broker"),
            gateway: unsigned("gateway"),
            subscriber: unsigned("subscriber"),
        };
        pki.issue("broker", &["localhost", "127.0.0.1"], Validity::Now)?;
        pki.issue("gateway", &["gateway"], Validity::Now)?;
        pki.issue("subscriber", &["subscriber"], Validity::Now)?;
        Ok(pki)
    }

    /// Signs a new certificate `<name>.pem` with key `<name>.key` for the given host names and addresses.
    ///
    /// # Errors
    /// When a file cannot be written or a name is no host name.
    pub fn issue(&self, name: &str, hosts: &[&str], validity: Validity) -> io::Result<Pair> {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = match validity {
            Validity::Now => date_time_ymd(2120, 1, 1),
            Validity::Expired => date_time_ymd(2021, 1, 1),
        };
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let pair =
            Pair { certificate: self.folder.join(format!("{name}.pem")), key: self.folder.join(format!("{name}.key")) };
        fs::write(&pair.certificate, certificate.pem())?;
        fs::write(&pair.key, key.serialize_pem())?;
        Ok(pair)
    }
}
