//! How a client reaches the service, and who it says it is.

use super::{TimerClient, TimersError};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// How often, and at what distance, a call that may be repeated is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How many attempts there are in all; 1 for none again.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles from there.
    pub backoff_initial: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 4, backoff_initial: Duration::from_millis(100), backoff_max: Duration::from_secs(5) }
    }
}

impl Retry {
    /// The wait after so many attempts that failed.
    pub(super) fn wait(&self, failed: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.backoff_initial.saturating_mul(1 << failed.saturating_sub(1).min(16));
        asked.unwrap_or(doubled).min(self.backoff_max)
    }
}

/// What a client needs beside an address.
#[derive(Clone, Default)]
#[must_use = "nothing is connected until `connect`"]
pub struct ClientBuilder {
    pub(super) authorization: Option<MetadataValue<Ascii>>,
    pub(super) tenant: Option<MetadataValue<Ascii>>,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Retry,
    ca: Option<String>,
    identity: Option<(String, String)>,
    problem: Option<String>,
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the credential.
        let named = self.authorization.is_some();
        f.debug_struct("ClientBuilder").field("tenant", &self.tenant).field("credential", &named).finish()
    }
}

impl ClientBuilder {
    fn header(&mut self, what: &str, text: &str, secret: bool) -> Option<MetadataValue<Ascii>> {
        match MetadataValue::try_from(text) {
            Ok(mut value) => {
                value.set_sensitive(secret);
                Some(value)
            }
            Err(_) => {
                self.problem =
                    Some(format!("{what} holds a character that cannot be sent: use printable ASCII"));
                None
            }
        }
    }

    /// Sends an API key (`mnt_...`).
    pub fn api_key(self, key: &str) -> Self {
        self.bearer_token(key)
    }

    /// Sends a token of an identity provider.
    pub fn bearer_token(mut self, token: &str) -> Self {
        self.authorization = self.header("the credential", &format!("Bearer {}", token.trim()), true);
        self
    }

    /// Speaks for this tenant, where the credential allows more than one.
    pub fn tenant(mut self, tenant: &str) -> Self {
        self.tenant = self.header("the tenant", tenant, false);
        self
    }

    /// Gives a call up after this long. Streams are not calls in this sense. 30 s unless told otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How calls that may be repeated are tried again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Trusts the certificates of this PEM text beside the system's.
    pub fn ca_pem(mut self, pem: impl Into<String>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// Shows a certificate of its own: PEM text of the certificate and of its key.
    pub fn client_certificate(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Connects to an address as `http://127.0.0.1:7878`, at the first call. With `https`, TLS; the system's roots
    /// are trusted.
    pub fn connect(self, url: &str) -> Result<TimerClient<Channel>, TimersError> {
        let bad = |e: &dyn std::fmt::Display| {
            TimersError::Config(format!("the address {url:?} cannot be used: {e}: write http://HOST:PORT"))
        };
        let is_tls = url.starts_with("https://");
        if !is_tls && !url.starts_with("http://") {
            return Err(bad(&"it has no scheme"));
        }
        let mut endpoint = Endpoint::from_shared(url.to_string())
            .map_err(|e| bad(&e))?
            .connect_timeout(Duration::from_secs(10))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if is_tls {
            let mut tls = ClientTlsConfig::new().with_native_roots();
            if let Some(ca) = &self.ca {
                tls = tls.ca_certificate(Certificate::from_pem(ca));
            }
            if let Some((certificate, key)) = &self.identity {
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint.tls_config(tls).map_err(|e| bad(&e))?;
        }
        self.over(endpoint.connect_lazy())
    }

    /// Over a channel of the caller's, such as a service in the same process.
    pub fn over<T: super::Transport>(self, channel: T) -> Result<TimerClient<T>, TimersError> {
        match self.problem {
            Some(problem) => Err(TimersError::Config(problem)),
            None => Ok(TimerClient::assemble(channel, self)),
        }
    }
}
