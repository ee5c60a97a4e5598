//! Says who asks: by an API key, a token, a client certificate, or because the service has one user only.

use super::gate::Gate;
use super::keys::{KeyRefusal, Keys};
use super::now::Now;
use super::refusals::Refusals;
use super::secret::{PREFIX, system_random};
use super::tokens::Tokens;
use super::{Caller, Peer, certificates};
use crate::api::error::{ApiError, FORBIDDEN, NOT_FOUND, UNAUTHENTICATED};
use crate::config::access::{AccessConfig, AuthMode};
use crate::store::{ControlStore, MemoryControl, StoreError};
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Uri};
use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The header for an API key.
const API_KEY: &str = "x-api-key";
/// The header in which an operator of the service names the tenant that it acts for.
pub const TENANT: &str = "x-tenant-id";
/// Refused credentials are told in the log at most this often.
const TOLD_EVERY: Span = Span::from_secs(1);

/// Why nobody could be let in at all.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticatorError {
    /// The keys could not be read, or the first one not be written.
    #[error("the API keys cannot be read: {0}")]
    Keys(#[from] StoreError),
    /// The first key could not be written.
    #[error("the key of MINOOTS_BOOTSTRAP_KEY cannot be kept: {0}")]
    Bootstrap(#[from] super::keys::KeyError),
    /// The client for the issuers' keys could not be set up.
    #[error("{0}")]
    Tokens(String),
}

/// Knows every credential. Clones share one.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    config: AccessConfig,
    keys: Arc<Keys>,
    tokens: Tokens,
    now: Now,
    refused: Refused,
    refusals: Mutex<Refusals>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticator({:?})", self.0.config.mode)
    }
}

impl Default for Authenticator {
    fn default() -> Self {
        // An empty store in memory: there is nothing in it that could not be read.
        let keys = Keys::open(Arc::new(MemoryControl::default()), system_random());
        Self(Arc::new(Inner {
            config: AccessConfig::default(),
            keys: Arc::new(keys.expect("a store in memory is read")),
            tokens: Tokens::default(),
            now: Now::default(),
            refused: Refused::default(),
            refusals: Mutex::default(),
        }))
    }
}

impl Authenticator {
    /// Over the keys of a store; takes the first key from the configuration where there is none.
    pub fn open(
        config: &AccessConfig,
        control: Arc<dyn ControlStore>,
        now: Now,
    ) -> Result<Self, AuthenticatorError> {
        let keys = Keys::open(control, system_random())?;
        if let Some(text) = &config.bootstrap_key {
            if keys.accept_bootstrap(text, now.moment())? {
                tracing::info!(
                    "the key of MINOOTS_BOOTSTRAP_KEY is now the first key, of the service's operator"
                );
            } else {
                tracing::info!("there are keys already: MINOOTS_BOOTSTRAP_KEY was not looked at");
            }
        }
        let tokens = Tokens::new(&config.issuers).map_err(AuthenticatorError::Tokens)?;
        let has_way_in = !keys.is_empty() || !tokens.is_empty() || !config.certificates.is_empty();
        if config.mode == AuthMode::Required && !has_way_in {
            tracing::warn!(
                "nobody can come in: there is no key, no issuer and no certificate; start once with \
                 MINOOTS_BOOTSTRAP_KEY, or run `minoots keys bootstrap`"
            );
        }
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            keys: Arc::new(keys),
            tokens,
            now,
            refused: Refused::default(),
            refusals: Mutex::default(),
        })))
    }

    /// The API keys.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.0.keys
    }

    /// Counts refused callers for the audit.
    pub(crate) fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock by which credentials are judged.
    pub fn now(&self) -> &Now {
        &self.0.now
    }

    /// The identity providers whose tokens are taken.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = &str> {
        self.0.config.issuers.iter().map(|issuer| issuer.issuer.as_str())
    }

    /// Whether the listener speaks TLS itself.
    pub(crate) fn has_tls(&self) -> bool {
        self.0.config.tls.is_some()
    }

    /// Reads the public keys of the issuers, so that the first token does not wait for them.
    pub async fn refresh(&self) {
        self.0.tokens.refresh().await;
    }

    async fn caller(&self, parts: &Parts) -> Result<Caller, ApiError> {
        let peer = parts.extensions.get::<Peer>();
        let from = peer.map(|peer| peer.addr);
        if self.0.config.mode == AuthMode::None {
            return self.local(parts, from);
        }
        match credential(&parts.headers) {
            Err(why) => Err(refusal(why)),
            Ok(Some(Credential::Key(text))) => {
                self.0.keys.caller(text, self.0.now.moment(), from).map_err(|why| refusal(key_words(why)))
            }
            Ok(Some(Credential::Token(text))) => {
                self.0.tokens.caller(text, &self.0.now, from).await.map_err(refusal)
            }
            Ok(None) => match peer.and_then(|peer| peer.certificate.as_deref()) {
                Some(der) => {
                    // A browser presents a certificate for whatever page asks it to.
                    refuse_foreign_origin(parts)?;
                    certificates::caller(&self.0.config.certificates, der, from).map_err(refusal)
                }
                None => Err(super::caller::unauthenticated()),
            },
        }
    }

    /// Single-user mode. No credential is read; what keeps others out is the loopback address, and these checks keep out
    /// the web pages that the user's browser has open.
    fn local(&self, parts: &Parts, from: Option<SocketAddr>) -> Result<Caller, ApiError> {
        if !self.0.config.allow_remote_without_auth {
            if from.is_some_and(|addr| !addr.ip().to_canonical().is_loopback()) {
                return Err(refusal("this service has one user, who is on its own machine"));
            }
            refuse_foreign_host(parts)?;
        }
        refuse_foreign_origin(parts)?;
        Ok(Caller::local(from))
    }
}

impl Gate {
    /// With whoever says who asks.
    pub(crate) fn with_authenticator(mut self, authenticator: Authenticator) -> Self {
        self.authenticator = authenticator;
        self
    }

    /// Says who asks, and for which tenant.
    pub async fn authenticate(&self, parts: &Parts) -> Result<Caller, ApiError> {
        let caller = self.authenticator.caller(parts).await.inspect_err(|e| {
            let from = parts.extensions.get::<Peer>().map(|peer| peer.addr);
            self.authenticator.0.refused.tell(from, &e.detail);
        })?;
        let caller = match parts.headers.get(TENANT) {
            None => caller,
            Some(value) => for_tenant(&caller, value)?,
        };
        self.refuse_disabled(&caller)?;
        Ok(caller)
    }
}

fn for_tenant(caller: &Caller, value: &HeaderValue) -> Result<Caller, ApiError> {
    let name = value.to_str().ok().filter(|name| super::grant::is_name(name));
    // A tenant that there is and one that there is not have one answer.
    name.and_then(|name| caller.for_tenant(name)).ok_or_else(|| {
        ApiError::new(&NOT_FOUND, format!("there is nothing of this name for the caller: leave out {TENANT}"))
    })
}

fn refusal(why: impl Into<String>) -> ApiError {
    ApiError::new(&UNAUTHENTICATED, why)
}

fn key_words(why: KeyRefusal) -> &'static str {
    match why {
        KeyRefusal::Unknown => "the API key is not known: check that it was copied whole",
        KeyRefusal::Revoked => "the API key has been revoked: ask the tenant's admin for another",
        KeyRefusal::Expired => "the API key has expired: ask the tenant's admin for another",
        KeyRefusal::Replaced => "the API key has a new secret, and the time to change over has passed",
    }
}

enum Credential<'a> {
    Key(&'a str),
    Token(&'a str),
}

fn credential(headers: &HeaderMap) -> Result<Option<Credential<'_>>, &'static str> {
    if let Some(text) = only(headers, API_KEY)? {
        return Ok(Some(Credential::Key(text)));
    }
    let Some(text) = only(headers, AUTHORIZATION.as_str())? else { return Ok(None) };
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(
            "the scheme of Authorization is not known: write `Authorization: Bearer <API key or token>`",
        );
    }
    let rest = rest.trim();
    Ok(Some(if rest.starts_with(PREFIX) { Credential::Key(rest) } else { Credential::Token(rest) }))
}

/// The value of a header that must not be there twice.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| "the credential has characters that none of ours has")?;
            Ok(Some(text.trim()))
        }
        (Some(_), Some(_)) => Err("there are two credentials of one kind: send one"),
    }
}

/// Whether a host, as a URL has it, is this machine by its name or address.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return ip.to_canonical().is_loopback();
    }
    let name = host.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The hosts that a request says it is for: one, unless somebody is being clever.
fn hosts(parts: &Parts) -> impl Iterator<Item = Option<String>> + '_ {
    let authority = parts.uri.authority().map(|a| Some(a.host().to_string()));
    let headers = parts.headers.get_all(HOST).iter().map(|value| {
        let authority = Authority::try_from(value.as_bytes()).ok()?;
        Some(authority.host().to_string())
    });
    authority.into_iter().chain(headers)
}

/// A name of the internet can be made to lead to this machine (DNS rebinding): then a page of that name may read the
/// answers. Its requests carry the name.
fn refuse_foreign_host(parts: &Parts) -> Result<(), ApiError> {
    if hosts(parts).all(|host| host.is_some_and(|host| is_loopback_host(&host))) {
        return Ok(());
    }
    let detail =
        "the Host is not this machine: use localhost or 127.0.0.1, or set [auth] mode = \"required\"";
    Err(ApiError::new(&FORBIDDEN, detail))
}

/// A page of another origin may not act here: WebSockets are asked for without any leave.
fn refuse_foreign_origin(parts: &Parts) -> Result<(), ApiError> {
    let is_ours = |origin: &HeaderValue| {
        let uri = Uri::try_from(origin.as_bytes()).ok()?;
        let host = uri.host().filter(|_| uri.scheme().is_some())?;
        let same = |ours: Option<String>| ours.is_some_and(|ours| ours.eq_ignore_ascii_case(host));
        (is_loopback_host(host) || hosts(parts).any(same)).then_some(())
    };
    if parts.headers.get_all(ORIGIN).iter().all(|origin| is_ours(origin).is_some()) {
        return Ok(());
    }
    Err(ApiError::new(&FORBIDDEN, "a web page of another origin may not use this service without a key"))
}

/// Tells of refused credentials in the log: the last one, and how many there were since.
#[derive(Default)]
struct Refused(Mutex<(Option<MonoTime>, u64)>);

impl Refused {
    fn tell(&self, from: Option<SocketAddr>, why: &str) {
        let now = boottime();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        if state.0.is_some_and(|told| now - told < TOLD_EVERY) {
            return;
        }
        let count = std::mem::take(&mut state.1);
        state.0 = Some(now);
        drop(state);
        let from = from.map_or_else(|| "?".to_string(), |addr| addr.to_string());
        tracing::warn!(count, from, "requests were refused for their credentials; the last one: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn single_user_mode_keeps_web_pages_out() {
        fn check(uri: &str, headers: &[(&str, &str)], want: Result<(), &str>) {
            let got = Authenticator::default().local(&parts(uri, headers), None);
            assert_eq!(got.map(|_| ()).map_err(|e| e.code.code), want, "{uri} {headers:?}");
        }
        for host in ["localhost", "127.0.0.1:7878", "[::1]:7878", "LOCALHOST:1", "app.localhost", "127.9.9.9"]
        {
            check("/v1/timers", &[("host", host)], Ok(()));
        }
        check("/v1/timers", &[], Ok(()));
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "a b"]
        {
            check("/v1/timers", &[("host", host)], Err("forbidden"));
        }
        check("http://evil.example/v1/timers", &[("host", "localhost")], Err("forbidden"));
        check("http://localhost/v1/timers", &[("host", "evil.example")], Err("forbidden"));
        let local = ("host", "localhost:7878");
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:80"] {
            check("/v1/timers", &[local, ("origin", origin)], Ok(()));
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "", "localhost"] {
            check("/v1/timers", &[local, ("origin", origin)], Err("forbidden"));
        }
        check(
            "/v1/x",
            &[local, ("origin", "http://localhost"), ("origin", "https://evil")],
            Err("forbidden"),
        );
    }

    #[test]
    fn only_this_machine_is_the_single_user() {
        fn check(allow_remote_without_auth: bool, addr: &str, want: bool) {
            let config = AccessConfig { allow_remote_without_auth, ..AccessConfig::default() };
            let gate =
                Authenticator::open(&config, Arc::new(MemoryControl::default()), Now::default()).unwrap();
            let got = gate.local(&parts("/", &[("host", "h")]), Some(addr.parse().unwrap()));
            assert_eq!(got.is_ok(), want, "{addr}");
        }
        check(true, "10.0.0.9:1", true);
        check(false, "10.0.0.9:1", false);
        check(false, "[::ffff:10.0.0.9]:1", false);
    }

    #[test]
    fn a_page_of_the_service_itself_is_no_stranger() {
        let own = parts("/", &[("host", "timers.example"), ("origin", "https://timers.example")]);
        assert!(refuse_foreign_origin(&own).is_ok());
        assert!(refuse_foreign_host(&own).is_err());
    }

    #[test]
    fn one_credential_is_read() {
        fn check(headers: &[(&str, &str)], want: &str) {
            let parts = parts("/", headers);
            let got = match credential(&parts.headers) {
                Ok(None) => "none".to_string(),
                Ok(Some(Credential::Key(text))) => format!("key {text}"),
                Ok(Some(Credential::Token(text))) => format!("token {text}"),
                Err(why) => format!("error {why}"),
            };
            assert!(got.starts_with(want), "{headers:?}: {got}");
        }
        check(&[], "none");
        check(&[("x-api-key", "mnt_1"), ("authorization", "Bearer a.b.c")], "key mnt_1");
        check(&[("authorization", "bearer mnt_1")], "key mnt_1");
        check(&[("authorization", "Bearer a.b.c")], "token a.b.c");
        check(&[("authorization", "Basic dXNlcg==")], "error the scheme");
        check(&[("authorization", "mnt_1")], "error the scheme");
        check(&[("x-api-key", "a"), ("x-api-key", "b")], "error there are two");
        check(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], "error there are two");
    }

    #[test]
    fn only_an_operator_of_the_service_names_another_tenant() {
        let of = |caller: &Caller, name: &'static str| {
            for_tenant(caller, &HeaderValue::from_static(name)).map(|c| c.tenant.to_string())
        };
        let operator = Caller::local(None);
        let tenant = Caller { every_tenant: false, ..Caller::local(None) };
        assert_eq!(of(&operator, "acme").unwrap(), "acme");
        assert_eq!(of(&tenant, "default").unwrap(), "default");
        assert_eq!(of(&tenant, "acme").unwrap_err().code.code, "not_found");
        assert_eq!(of(&operator, "a b").unwrap_err().code.code, "not_found");
        assert_eq!(of(&operator, "").unwrap_err().code.code, "not_found");
    }
}
