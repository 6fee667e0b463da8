//! Reading files: text that the report can show, and PEM that it must not.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use super::report::{At, Findings, Place};

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Reads the text of a file that is named at `at`, and keeps it for the report.
pub(super) fn read(findings: &mut Findings, path: &Path, at: Place) -> Option<(usize, String)> {
    match text(path) {
        Ok(text) => Some((findings.add_source(path, text.clone()), text)),
        Err(why) => {
            findings.error(at, format!("{}: {why}", path.display()));
            None
        }
    }
}

/// Returns the names of the files of a folder with an extension, without it, sorted; none when it cannot be read.
pub(super) fn names(folder: &Path, extension: &str) -> Vec<String> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let paths = paths.filter(|path| path.extension().is_some_and(|own| own == extension));
    let mut names: Vec<_> =
        paths.filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned())).collect();
    names.sort_unstable();
    names
}

/// Reads the text of the file everything starts from.
pub(super) fn read_first(findings: &mut Findings, path: &Path) -> Option<(usize, String)> {
    match text(path) {
        Ok(text) => Some((findings.add_source(path, text.clone()), text)),
        Err(why) => {
            let source = findings.add_source(path, String::new());
            findings.unusable(source, why);
            None
        }
    }
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = bytes(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|&&byte| byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8; save the file as UTF-8")
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {}", said(&error));
    // A pipe or device would make the check wait for ever.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("cannot be read: not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(cannot)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes"));
    }
    Ok(bytes)
}

/// Says why in the same words on every system, where the kind is known.
fn said(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// The three PEM files of the uplink, each with the place that names it.
pub(super) struct Credentials {
    pub(super) ca: Option<At<PathBuf>>,
    pub(super) certificate: Option<At<PathBuf>>,
    pub(super) key: Option<At<PathBuf>>,
}

impl Credentials {
    /// Reports whatever would keep them from being used. Nothing here keeps a daemon from acquiring and buffering, and what
    /// has expired is a warning only.
    pub(super) fn check(&self, findings: &mut Findings) {
        if let Some(ca) = &self.ca {
            certificates(findings, ca);
        }
        let chain = self.certificate.as_ref().and_then(|at| certificates(findings, at));
        let key = self.key.as_ref().and_then(|at| private_key(findings, at));
        if let (Some(chain), Some(key), Some(at)) = (chain, key, &self.key) {
            match any_supported_type(&key) {
                Err(error) => {
                    findings.uplink(at.place, format!("{}: key not usable: {error}", at.value.display()));
                }
                Ok(key) => match CertifiedKey::new(chain, key).keys_match() {
                    Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
                    Err(Error::InconsistentKeys(_)) => {
                        let note = findings.uplink(at.place, "the private key does not belong to the certificate");
                        let note = note.help("give the certificate and the key that were made together");
                        if let Some(certificate) = &self.certificate {
                            note.other(certificate.place, "this certificate holds another public key");
                        }
                    }
                    Err(error) => {
                        let certificate = self.certificate.as_ref().unwrap_or(at);
                        let shown = certificate.value.display();
                        findings.uplink(certificate.place, format!("{shown}: certificate not usable: {error}")).help(
                            "version 3 is needed, with the extension subjectAltName: ask the authority for such a one",
                        );
                    }
                },
            }
        }
    }
}

fn certificates(findings: &mut Findings, at: &At<PathBuf>) -> Option<Vec<CertificateDer<'static>>> {
    let shown = at.value.display();
    let pem = pem(findings, at)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = match chain {
        Ok(chain) if !chain.is_empty() => chain,
        Ok(_) => {
            findings
                .uplink(at.place, format!("{shown}: no certificate in it"))
                .help("PEM, `-----BEGIN CERTIFICATE-----`");
            return None;
        }
        Err(error) => {
            findings.uplink(at.place, format!("{shown}: not PEM: {error}"));
            return None;
        }
    };
    for der in &chain {
        match parse_x509_certificate(der) {
            Ok((_, certificate)) => {
                let (now, validity) = (ASN1Time::now(), certificate.validity());
                let remark = if now > validity.not_after {
                    Some(format!("{shown}: the certificate expired on {}", day(validity.not_after)))
                } else if now < validity.not_before {
                    Some(format!("{shown}: the certificate is not valid before {}", day(validity.not_before)))
                } else {
                    None
                };
                if let Some(remark) = remark {
                    findings.warning(at.place, remark).help(
                        "the gateway reads its sensors and keeps what it reads; the broker will refuse it until the \
                         certificate is renewed or the clock is right",
                    );
                }
            }
            Err(error) => {
                findings.uplink(at.place, format!("{shown}: not an X.509 certificate: {error}"));
                return None;
            }
        }
    }
    Some(chain)
}

/// Says the day of a time, `2021-01-01`, in UTC.
fn day(time: ASN1Time) -> String {
    let date = time.to_datetime().date();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

fn private_key(findings: &mut Findings, at: &At<PathBuf>) -> Option<PrivateKeyDer<'static>> {
    let shown = at.value.display();
    let pem = pem(findings, at)?;
    let mode = fs::metadata(&at.value).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o004 != 0 {
        findings
            .warning(at.place, format!("{shown}: everybody on this machine can read the private key"))
            .help(format!("chmod o-rwx {shown}"));
    }
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Some(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            findings
                .uplink(at.place, format!("{shown}: no private key in it"))
                .help("PEM, `-----BEGIN PRIVATE KEY-----`, without a passphrase");
            None
        }
        Err(error) => {
            findings.uplink(at.place, format!("{shown}: not PEM: {error}"));
            None
        }
    }
}

fn pem(findings: &mut Findings, at: &At<PathBuf>) -> Option<Vec<u8>> {
    match bytes(&at.value) {
        Ok(bytes) => Some(bytes),
        Err(why) => {
            findings.uplink(at.place, format!("{}: {why}", at.value.display()));
            None
        }
    }
}
