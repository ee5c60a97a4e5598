//! The sections `[auth]`, `[tls]` and `[listener]`: who comes in, and how much of a listener anybody may take.

use super::ConfigError;
use super::file::within;
use crate::access::Role;
use crate::access::grant::{Grant, is_name, scopes_of};
use crate::access::quota::Limits;
use crate::access::secret::KeyText;
use jsonwebtoken::Algorithm;
use minoots_kernel::TenantId;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Who comes in, as the service needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Whether a caller has to say who it is.
    pub mode: AuthMode,
    /// The first key, where there is none yet (MINOOTS_BOOTSTRAP_KEY).
    pub bootstrap_key: Option<KeyText>,
    /// Whose tokens are taken.
    pub issuers: Vec<IssuerConfig>,
    /// Whose certificates are taken.
    pub certificates: Vec<CertificateRule>,
    /// The directory of the operator's policies.
    pub policies: Option<PathBuf>,
    /// The listener's certificate; plain HTTP without.
    pub tls: Option<TlsConfig>,
    /// How much anybody may take of the listener.
    pub listener: ListenerLimits,
    /// How much each tenant may use, where its record says nothing.
    pub limits: Limits,
    /// True where the service answers other machines though it asks nobody who they are.
    pub allow_remote_without_auth: bool,
}

/// Whether a caller has to say who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Single-user mode: whoever reaches the loopback address is the user.
    #[default]
    None,
    /// By a key, a token or a certificate.
    Required,
}

/// An identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// One of these is in the claim `aud`.
    pub audience: Vec<String>,
    /// Where its public keys are.
    pub jwks: JwksSource,
    /// The algorithms that it signs with.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the tenant.
    pub tenant_claim: Option<String>,
    /// The claim that names the role, or lists roles.
    pub role_claim: Option<String>,
    /// The claim that names the agent.
    pub agent_claim: Option<String>,
    /// The claim that lists verbs, as text with spaces or as an array.
    pub scopes_claim: Option<String>,
    /// The tenant where no claim names one.
    pub tenant: Option<TenantId>,
    /// The role where no claim names one.
    pub role: Option<Role>,
    /// How far the issuer's clock may be from true time.
    pub leeway: Duration,
    /// Its public keys are not asked for more often than this.
    pub refetch: Duration,
}

/// Where public keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// At an address.
    Url(String),
    /// In a file.
    File(PathBuf),
}

/// What a client certificate gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRule {
    /// Which certificates.
    pub matches: CertificateMatch,
    /// What they give.
    pub grant: Grant,
}

/// Which certificates a rule is for. All comparisons are exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateMatch {
    /// The whole subject, as `CN=name, O=organisation`.
    Subject(String),
    /// The common name of the subject.
    CommonName(String),
    /// One of the DNS names.
    Dns(String),
    /// One of the URIs, as SPIFFE has them.
    Uri(String),
}

/// The listener's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate with its chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether a client has to present one.
    pub client_auth: ClientAuth,
}

/// Whether a client has to present a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// It is not asked for one.
    #[default]
    None,
    /// It may.
    Optional,
    /// It has to, or the handshake fails.
    Required,
}

/// How much anybody may take of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Connections in all.
    pub connections_max: usize,
    /// Connections of one address.
    pub connections_per_address_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How long the headers of a request may take, from the end of the one before.
    pub header_timeout: Duration,
    /// How long a connection with no request is kept, over HTTP/2.
    pub idle_timeout: Duration,
    /// How long a body may take before its rate counts.
    pub body_timeout: Duration,
    /// The bytes in a second that a body has to bring after that.
    pub body_rate_min: u64,
    /// How long a client may leave an answer unread.
    pub write_timeout: Duration,
    /// The bytes of all headers of a request.
    pub header_bytes_max: usize,
    /// The number of headers of a request.
    pub headers_max: usize,
    /// Requests of one HTTP/2 connection at once.
    pub streams_max: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            connections_per_address_max: 2_048,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            body_timeout: Duration::from_secs(30),
            body_rate_min: 16 * 1024,
            write_timeout: Duration::from_secs(60),
            header_bytes_max: 64 * 1024,
            headers_max: 100,
            streams_max: 256,
        }
    }
}

/// The section `[auth]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSection {
    /// `none` or `required`.
    pub mode: Option<AuthMode>,
    /// The directory of the operator's policies.
    pub policies: Option<PathBuf>,
    /// Identity providers.
    #[serde(default)]
    pub issuers: Vec<IssuerSection>,
    /// Client certificates.
    #[serde(default)]
    pub certificates: Vec<CertificateSection>,
}

/// One section `[[auth.issuers]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSection {
    issuer: String,
    audience: Vec<String>,
    jwks_url: Option<String>,
    jwks_file: Option<PathBuf>,
    algorithms: Option<Vec<String>>,
    tenant_claim: Option<String>,
    role_claim: Option<String>,
    agent_claim: Option<String>,
    scopes_claim: Option<String>,
    tenant: Option<String>,
    role: Option<String>,
    leeway_s: Option<u64>,
    refetch_s: Option<u64>,
}

/// One section `[[auth.certificates]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSection {
    subject: Option<String>,
    common_name: Option<String>,
    dns: Option<String>,
    uri: Option<String>,
    tenant: String,
    role: String,
    agent: Option<String>,
    scopes: Option<Vec<String>>,
    #[serde(default)]
    every_tenant: bool,
}

/// The section `[tls]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_auth: Option<ClientAuth>,
}

/// The section `[listener]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSection {
    connections_max: Option<u64>,
    connections_per_address_max: Option<u64>,
    handshake_timeout_ms: Option<u64>,
    header_timeout_ms: Option<u64>,
    idle_timeout_ms: Option<u64>,
    body_timeout_ms: Option<u64>,
    body_rate_min: Option<u64>,
    write_timeout_ms: Option<u64>,
    header_bytes_max: Option<u64>,
    headers_max: Option<u64>,
    streams_max: Option<u64>,
}

/// The three sections of a file.
#[derive(Clone, Debug, Default)]
pub struct AccessSections {
    /// `[auth]`.
    pub auth: Option<AuthSection>,
    /// `[tls]`.
    pub tls: Option<TlsSection>,
    /// `[listener]`.
    pub listener: Option<ListenerSection>,
}

fn refuse<T>(key: &str, what: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Unusable { key: key.into(), what: what.into() })
}

impl AccessSections {
    /// The settings with their defaults filled in. `bootstrap_key` is the environment's.
    pub fn load(
        self,
        allow_remote_without_auth: bool,
        bootstrap_key: Option<String>,
    ) -> Result<AccessConfig, ConfigError> {
        let auth = self.auth.unwrap_or_default();
        let tls = self.tls.map(TlsSection::load).transpose()?;
        let certificate_needed = tls.as_ref().is_some_and(|t| t.client_auth == ClientAuth::Required);
        let mode = match auth.mode {
            Some(AuthMode::None) if certificate_needed => {
                return refuse("auth.mode", "tls.client_auth is \"required\": leave auth.mode out");
            }
            Some(mode) => mode,
            None if certificate_needed => AuthMode::Required,
            None => AuthMode::None,
        };
        if !auth.certificates.is_empty() && tls.as_ref().is_none_or(|t| t.client_auth == ClientAuth::None) {
            return refuse(
                "auth.certificates",
                "no client is asked for a certificate: set tls.client_auth to \"optional\" or \"required\"",
            );
        }
        let bootstrap_key = match bootstrap_key {
            None => None,
            Some(text) => match KeyText::parse(&text) {
                Some(key) => Some(key),
                // Without the text, which is a secret that was meant to be right.
                None => return refuse("MINOOTS_BOOTSTRAP_KEY", "write mnt_ and 64 digits 0-9 a-f after it"),
            },
        };
        Ok(AccessConfig {
            policies: auth.policies,
            mode,
            bootstrap_key,
            issuers: auth.issuers.into_iter().map(IssuerSection::load).collect::<Result<_, _>>()?,
            certificates: auth
                .certificates
                .into_iter()
                .map(CertificateSection::load)
                .collect::<Result<_, _>>()?,
            tls,
            listener: self.listener.unwrap_or_default().load()?,
            limits: Limits::default(),
            allow_remote_without_auth,
        })
    }
}

fn name(key: &str, text: &str) -> Result<(), ConfigError> {
    if is_name(text) {
        return Ok(());
    }
    refuse(key, format!("{text:?} cannot be used: give 1 to 128 visible ASCII characters"))
}

fn role(key: &str, text: &str) -> Result<Role, ConfigError> {
    Role::parse(text)
        .map_or_else(|| refuse(key, format!("{text:?} is no role: use viewer, agent, operator or admin")), Ok)
}

/// The asymmetric algorithms. A shared secret (HS256 and so on) could be mistaken for a public key, which anybody has.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

fn algorithm(text: &str) -> Result<Algorithm, ConfigError> {
    match ALGORITHMS.iter().find(|(word, _)| *word == text) {
        Some((_, algorithm)) => Ok(*algorithm),
        None => {
            let words: Vec<_> = ALGORITHMS.iter().map(|(word, _)| *word).collect();
            refuse("auth.issuers.algorithms", format!("{text:?} cannot be used: use {}", words.join(", ")))
        }
    }
}

impl IssuerSection {
    fn load(self) -> Result<IssuerConfig, ConfigError> {
        let jwks = match (self.jwks_url, self.jwks_file) {
            (Some(url), None) => JwksSource::Url(jwks_url(url)?),
            (None, Some(file)) => JwksSource::File(file),
            _ => return refuse("auth.issuers", "give one of jwks_url and jwks_file"),
        };
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            return refuse("auth.issuers.audience", "name this service as the issuer's tokens do");
        }
        if self.tenant.is_none() && self.tenant_claim.is_none() {
            return refuse("auth.issuers", "give tenant_claim, or tenant for all of its users");
        }
        if self.role.is_none() && self.role_claim.is_none() {
            return refuse("auth.issuers", "give role_claim, or role for all of its users");
        }
        if let Some(tenant) = &self.tenant {
            name("auth.issuers.tenant", tenant)?;
        }
        let algorithms = match self.algorithms {
            Some(words) => words.iter().map(|w| algorithm(w)).collect::<Result<_, _>>()?,
            None => ALGORITHMS.map(|(_, a)| a).to_vec(),
        };
        let leeway_s = within("auth.issuers.leeway_s", self.leeway_s.unwrap_or(5), 0, 300)?;
        let refetch_s = within("auth.issuers.refetch_s", self.refetch_s.unwrap_or(30), 1, 3_600)?;
        Ok(IssuerConfig {
            issuer: self.issuer,
            audience: self.audience,
            jwks,
            algorithms,
            tenant_claim: self.tenant_claim,
            role_claim: self.role_claim,
            agent_claim: self.agent_claim,
            scopes_claim: self.scopes_claim,
            tenant: self.tenant.as_deref().map(TenantId::new),
            role: self.role.map(|r| role("auth.issuers.role", &r)).transpose()?,
            leeway: Duration::from_secs(leeway_s),
            refetch: Duration::from_secs(refetch_s),
        })
    }
}

/// Who could change the keys on their way could sign any token.
fn jwks_url(text: String) -> Result<String, ConfigError> {
    let key = "auth.issuers.jwks_url";
    let Ok(url) = reqwest::Url::parse(&text) else {
        return refuse(key, format!("{text:?} is no address: write it as https://host/path"));
    };
    let loopback = url.host_str().is_some_and(crate::access::authenticate::is_loopback_host);
    match url.scheme() {
        "https" => Ok(text),
        "http" if loopback => Ok(text),
        _ => refuse(key, format!("{text:?} is not safe on its way: use https")),
    }
}

impl CertificateSection {
    fn load(self) -> Result<CertificateRule, ConfigError> {
        let key = "auth.certificates";
        let given = [
            self.subject.map(CertificateMatch::Subject),
            self.common_name.map(CertificateMatch::CommonName),
            self.dns.map(CertificateMatch::Dns),
            self.uri.map(CertificateMatch::Uri),
        ];
        let mut given = given.into_iter().flatten();
        let (Some(matches), None) = (given.next(), given.next()) else {
            return refuse(key, "give exactly one of subject, common_name, dns and uri");
        };
        name("auth.certificates.tenant", &self.tenant)?;
        if let Some(agent) = &self.agent {
            name("auth.certificates.agent", agent)?;
        }
        let role = role("auth.certificates.role", &self.role)?;
        if role == Role::Agent && self.agent.is_none() {
            return refuse("auth.certificates.agent", "the role agent needs the name of its agent");
        }
        let scopes = match self.scopes.as_deref().map(scopes_of) {
            None => None,
            Some(Ok(scopes)) => Some(scopes),
            Some(Err(word)) => {
                return refuse(
                    "auth.certificates.scopes",
                    format!("{word:?} is not known: see docs/access.md"),
                );
            }
        };
        let grant = Grant {
            tenant: TenantId::new(&self.tenant),
            role,
            scopes,
            agent: self.agent.map(Into::into),
            every_tenant: self.every_tenant,
        };
        Ok(CertificateRule { matches, grant })
    }
}

impl TlsSection {
    fn load(self) -> Result<TlsConfig, ConfigError> {
        let client_auth = self.client_auth.unwrap_or(if self.client_ca.is_some() {
            ClientAuth::Required
        } else {
            ClientAuth::None
        });
        if (client_auth == ClientAuth::None) != self.client_ca.is_none() {
            return refuse("tls.client_ca", "client_auth and client_ca go together: give both or none");
        }
        Ok(TlsConfig { cert: self.cert, key: self.key, client_ca: self.client_ca, client_auth })
    }
}

impl ListenerSection {
    fn load(self) -> Result<ListenerLimits, ConfigError> {
        const HOUR_MS: u64 = 3_600_000;
        let default = ListenerLimits::default();
        let wait = |key, value: Option<u64>, default: Duration| match value {
            Some(ms) => within(key, ms, 1, HOUR_MS).map(Duration::from_millis),
            None => Ok(default),
        };
        let count = |key, value: Option<u64>, min, max, default: usize| match value {
            Some(n) => within(key, n, min, max).map(|n| n as usize),
            None => Ok(default),
        };
        let d = default;
        Ok(ListenerLimits {
            connections_max: count(
                "listener.connections_max",
                self.connections_max,
                1,
                1_000_000,
                d.connections_max,
            )?,
            connections_per_address_max: count(
                "listener.connections_per_address_max",
                self.connections_per_address_max,
                1,
                1_000_000,
                d.connections_per_address_max,
            )?,
            handshake_timeout: wait(
                "listener.handshake_timeout_ms",
                self.handshake_timeout_ms,
                d.handshake_timeout,
            )?,
            header_timeout: wait("listener.header_timeout_ms", self.header_timeout_ms, d.header_timeout)?,
            idle_timeout: wait("listener.idle_timeout_ms", self.idle_timeout_ms, d.idle_timeout)?,
            body_timeout: wait("listener.body_timeout_ms", self.body_timeout_ms, d.body_timeout)?,
            body_rate_min: match self.body_rate_min {
                Some(n) => within("listener.body_rate_min", n, 1, 1 << 30)?,
                None => d.body_rate_min,
            },
            write_timeout: wait("listener.write_timeout_ms", self.write_timeout_ms, d.write_timeout)?,
            header_bytes_max: count(
                "listener.header_bytes_max",
                self.header_bytes_max,
                8_192,
                1 << 20,
                d.header_bytes_max,
            )?,
            headers_max: count("listener.headers_max", self.headers_max, 10, 10_000, d.headers_max)?,
            streams_max: count("listener.streams_max", self.streams_max, 1, 10_000, d.streams_max as usize)?
                as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Layer};
    use super::*;
    use std::ffi::OsString;

    fn load(file: &str, listen: &str, key: &'static str) -> Result<AccessConfig, String> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let flags = Layer { listen: Some(listen.into()), ..Layer::default() };
        let env = move |name: &str| match name {
            "HOME" => Some(OsString::from("/h")),
            "MINOOTS_BOOTSTRAP_KEY" => Some(key.into()),
            _ => None,
        };
        Config::load(flags, &env, Some(path.path())).map(|c| c.access).map_err(|e| e.to_string())
    }

    const ISSUER: &str =
        "[[auth.issuers]]\nissuer = 'i'\naudience = ['a']\njwks_file = 'k'\ntenant = 't'\nrole = 'viewer'\n";
    const TLS: &str = "[tls]\ncert = 'c'\nkey = 'k'\nclient_ca = 'a'\n";

    #[test]
    fn a_remote_address_needs_somebody_to_ask() {
        let remote = "0.0.0.0:1";
        let refused = load("", remote, "").unwrap_err();
        assert!(refused.contains("[auth] mode = \"required\""), "{refused}");
        assert!(load("[tls]\ncert = 'c'\nkey = 'k'", remote, "").is_err());
        assert!(load("allow_remote_without_auth = true", remote, "").unwrap().allow_remote_without_auth);
        assert_eq!(load("[auth]\nmode = 'required'", remote, "").unwrap().mode, AuthMode::Required);
        let mutual = load(TLS, remote, "").unwrap();
        assert_eq!(mutual.mode, AuthMode::Required);
        assert_eq!(mutual.tls.unwrap().client_auth, ClientAuth::Required);
    }

    #[test]
    fn an_issuer_has_its_defaults() {
        let access = load(ISSUER, "127.0.0.1:1", "").unwrap();
        let issuer = &access.issuers[0];
        assert_eq!((issuer.leeway, issuer.refetch), (Duration::from_secs(5), Duration::from_secs(30)));
        assert_eq!(issuer.algorithms.len(), ALGORITHMS.len());
        assert!(issuer.algorithms.iter().all(|a| !format!("{a:?}").starts_with("HS")));
        assert_eq!(access.listener, ListenerLimits::default());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        fn check(file: &str, want: &[&str]) {
            let e = load(file, "127.0.0.1:1", "").expect_err(file);
            assert!(want.iter().all(|part| e.contains(part)), "{file}: {e:?} lacks one of {want:?}");
        }
        check("[auth]\nmode = 'maybe'", &["none", "required"]);
        check(&format!("{ISSUER}algorithms = ['HS256']"), &["HS256", "RS256"]);
        check(&format!("{ISSUER}algorithms = ['none']"), &["none", "EdDSA"]);
        check(&format!("{ISSUER}jwks_url = 'https://h/k'"), &["one of jwks_url and jwks_file"]);
        check(&ISSUER.replace("jwks_file = 'k'", "jwks_url = 'http://h/k'"), &["http://h/k", "use https"]);
        check(&ISSUER.replace("'viewer'", "'king'"), &["king", "operator"]);
        check(&ISSUER.replace("tenant = 't'\n", ""), &["tenant_claim"]);
        check(&ISSUER.replace("['a']", "[]"), &["audience"]);
        check(&format!("{ISSUER}leeway_s = 301"), &["leeway_s is 301"]);
        check(&format!("{TLS}[auth]\nmode = 'none'"), &["auth.mode"]);
        check("[tls]\ncert = 'c'\nkey = 'k'\nclient_auth = 'required'", &["tls.client_ca"]);
        let rule = "[[auth.certificates]]\ncommon_name = 'x'\ntenant = 't'\nrole = 'agent'\n";
        check(rule, &["client_auth"]);
        check(&format!("{TLS}{rule}"), &["certificates.agent"]);
        check(&format!("{TLS}{rule}dns = 'x'\nagent = 'a'"), &["exactly one"]);
        check(&format!("{TLS}{rule}agent = 'a'\nscopes = ['all']"), &["\"all\""]);
        check("[listener]\nheaders_max = 1", &["listener.headers_max is 1"]);
        let e = load("", "127.0.0.1:1", "mnt_secret").unwrap_err();
        assert!(e.contains("MINOOTS_BOOTSTRAP_KEY") && !e.contains("secret"), "{e}");
    }
}
