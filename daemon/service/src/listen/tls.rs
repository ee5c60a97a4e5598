//! The listener's certificate, its key and the authorities of its clients; read again when they change.

use crate::access::now::Now;
use crate::config::access::{ClientAuth, TlsConfig};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at for a change.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct TlsError(String);

/// The certificate in use. Connections keep the one that they began with.
pub struct Tls {
    config: TlsConfig,
    now: Now,
    current: RwLock<Arc<ServerConfig>>,
}

/// Certificates are judged by corrected time, as all credentials are.
#[derive(Debug)]
struct Corrected(Now);

impl TimeProvider for Corrected {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.moment().now_ns / 1_000_000_000).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

fn read<T: PemObject>(path: &Path) -> Result<Vec<T>, TlsError> {
    let of = |what: &dyn fmt::Display| TlsError(format!("{}: {what}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| of(&e))?;
    let all: Vec<T> = T::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|e| of(&e))?;
    if all.is_empty() { Err(of(&"there is nothing of its kind in it, in PEM")) } else { Ok(all) }
}

fn load(config: &TlsConfig, now: &Now) -> Result<ServerConfig, TlsError> {
    let failed = |e: &dyn fmt::Display| TlsError(e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain: Vec<CertificateDer<'static>> = read(&config.cert)?;
    let mut keys: Vec<PrivateKeyDer<'static>> = read(&config.key)?;
    let key = keys.swap_remove(0);
    let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(Corrected(now.clone())))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in read::<CertificateDer<'static>>(path)? {
                roots.add(authority).map_err(|e| TlsError(format!("{}: {e}", path.display())))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match config.client_auth {
                ClientAuth::Required => verifier,
                ClientAuth::Optional | ClientAuth::None => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| failed(&e))?)
        }
    };
    let mut server = builder
        .with_single_cert(chain, key)
        .map_err(|e| TlsError(format!("{} and {}: {e}", config.cert.display(), config.key.display())))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}

impl Tls {
    /// Reads the files; an error names the one that is wrong.
    pub fn load(config: &TlsConfig, now: Now) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(Arc::new(load(config, &now)?));
        Ok(Arc::new(Self { config: config.clone(), now, current }))
    }

    /// For a new connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Reads the files again. Where they cannot be used, those of before stay.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = Arc::new(load(&self.config, &self.now)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What the files look like from outside.
    fn marks(&self) -> Vec<Option<(SystemTime, u64)>> {
        let TlsConfig { cert, key, client_ca, .. } = &self.config;
        [Some(cert), Some(key), client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(|path| std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok())
            .collect()
    }

    /// Reloads on SIGHUP, and when a file has changed, until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return tracing::warn!("SIGHUP cannot be heard: certificates are not read again");
        };
        let mut marks = self.marks();
        loop {
            let was_asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = timeout(LOOK_EVERY, hangup.recv()) => asked.is_ok(),
            };
            let found = self.marks();
            if !was_asked && found == marks {
                continue;
            }
            marks = found;
            match self.reload() {
                Ok(()) => tracing::info!("the listener's certificates were read again"),
                Err(e) => tracing::error!("the listener keeps its certificates of before: {e}"),
            }
        }
    }
}
