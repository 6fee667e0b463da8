//! What makes deliver leave a connection that works, or a pause: new settings, new certificates. A new thing that cannot be
//! used is refused here, and the old one stays.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::future;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time;
use tracing::{error, info, warn};

use super::tls::{TlsError, tls_config};
use crate::site::BrokerSettings;

/// What the three certificate files hold, to be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fingerprint(u64);

impl Fingerprint {
    /// Reads the files; one that cannot be read is like an empty one.
    fn read(settings: &BrokerSettings) -> Self {
        let mut hasher = DefaultHasher::new();
        for path in [&settings.ca, &settings.certificate, &settings.key] {
            fs::read(path).unwrap_or_default().hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

/// The certificates in use: the last that could be used.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    used: Option<(Fingerprint, ClientConfig)>,
}

impl Credentials {
    /// Reads the files for a new connection. When they cannot be used, those that could be used last are.
    ///
    /// # Errors
    /// When there were none yet.
    pub(super) fn read(&mut self, settings: &BrokerSettings) -> Result<ClientConfig, TlsError> {
        // Before the files are used: what is written in between counts as new.
        let found = Fingerprint::read(settings);
        match (tls_config(settings), &self.used) {
            (Ok(tls), _) => {
                self.used = Some((found, tls.clone()));
                Ok(tls)
            }
            (Err(error), Some((_, tls))) => {
                warn!("certificate files cannot be used, the last good ones are: {error}");
                Ok(tls.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Returns whether the files hold what is in use.
    fn are_those_of(&self, settings: &BrokerSettings) -> bool {
        self.used.as_ref().is_some_and(|(used, _)| *used == Fingerprint::read(settings))
    }

    /// Waits until the files have changed and can be used, and then a little, so that the gateways of a city whose
    /// certificates are renewed by night do not all come at once.
    pub(super) async fn renewed(&self, settings: &BrokerSettings) {
        let mut refused = None;
        loop {
            time::sleep(settings.certificate_check).await;
            let found = Fingerprint::read(settings);
            if self.are_those_of(settings) || refused == Some(found) {
                continue;
            }
            if let Err(error) = tls_config(settings) {
                warn!("certificate files have changed and cannot be used, the present ones stay: {error}");
                refused = Some(found);
                continue;
            }
            let pause = settings.certificate_check.mul_f64(fastrand::f64());
            info!(?pause, "certificate files have changed");
            time::sleep(pause).await;
            if tls_config(settings).is_ok() {
                return;
            }
        }
    }
}

/// Waits for settings that differ from the present ones, or name certificates that do, and can be used.
pub(super) async fn new_settings(
    news: &mut watch::Receiver<Arc<BrokerSettings>>,
    present: &BrokerSettings,
    credentials: &Credentials,
) -> Arc<BrokerSettings> {
    while news.changed().await.is_ok() {
        let new = Arc::clone(&news.borrow_and_update());
        if *new == *present && credentials.are_those_of(present) {
            info!("broker settings and certificates are as they were");
            continue;
        }
        match tls_config(&new) {
            Ok(_) => return new,
            Err(error) => error!("new broker settings refused, the present ones stay: {error}"),
        }
    }
    // Nobody is left who could give any.
    future::pending().await
}
