//! Tokens of identity providers: JWTs, verified by the issuer's public keys, judged by corrected time.

use super::grant::{Grant, is_name};
use super::jwks::Jwks;
use super::now::{Moment, Now};
use super::secret::Hash;
use super::{Caller, Principal, Role, Verb};
use crate::config::access::IssuerConfig;
use crate::render::rfc3339;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use minoots_kernel::TenantId;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// A longer text is no token of anybody's.
const TOKEN_MAX_BYTES: usize = 16 * 1024;
/// Verified tokens that are remembered, so that a signature is checked once and not at each request.
const REMEMBERED_MAX: usize = 4_096;
const SUBJECT_MAX_BYTES: usize = 256;

type Claims = Map<String, Value>;

/// The issuers whose tokens are taken.
#[derive(Default)]
pub struct Tokens {
    issuers: Vec<Arc<Issuer>>,
    remembered: Mutex<HashMap<Hash, Arc<Verified>>>,
}

struct Issuer {
    config: IssuerConfig,
    jwks: Jwks,
}

/// What a token said whose signature was right.
#[derive(Debug)]
struct Verified {
    issuer: usize,
    /// Which reading of the issuer's keys verified it.
    generation: u64,
    good_from_ns: Option<i64>,
    good_until_ns: i64,
    subject: Arc<str>,
    grant: Grant,
}

#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

impl Tokens {
    /// For these issuers. Their keys are read with [`Tokens::refresh`], or with the first token.
    pub fn new(issuers: &[IssuerConfig]) -> Result<Self, String> {
        let issuer =
            |config: &IssuerConfig| Ok(Arc::new(Issuer { config: config.clone(), jwks: Jwks::new(config)? }));
        Ok(Self { issuers: issuers.iter().map(issuer).collect::<Result<_, String>>()?, ..Self::default() })
    }

    /// Whether no issuer's tokens are taken.
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// Reads the keys of every issuer.
    pub async fn refresh(&self) {
        futures::future::join_all(self.issuers.iter().map(|issuer| issuer.jwks.refresh())).await;
    }

    /// Who presents a token; why it lets nobody in.
    pub async fn caller(&self, token: &str, now: &Now, from: Option<SocketAddr>) -> Result<Caller, String> {
        if self.issuers.is_empty() {
            return Err("this service takes no tokens: use an API key".into());
        }
        if token.len() > TOKEN_MAX_BYTES {
            return Err("the token is too long".into());
        }
        let hash = Hash::of(token);
        let verified = match self.remembered(&hash) {
            Some(verified) => verified,
            None => {
                let verified = Arc::new(self.verify(token).await?);
                self.remember(hash, verified.clone());
                verified
            }
        };
        verified.judge(now.moment())?;
        Ok(verified.grant.caller(Principal::User(verified.subject.clone()), from))
    }

    fn remembered(&self, hash: &Hash) -> Option<Arc<Verified>> {
        let verified = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()?;
        let issuer = self.issuers.get(verified.issuer)?;
        issuer.refresh_behind();
        // A key that the issuer has taken back verifies nothing any more.
        (issuer.jwks.current().1 == verified.generation).then_some(verified)
    }

    fn remember(&self, hash: Hash, verified: Arc<Verified>) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(hash, verified);
    }

    async fn verify(&self, token: &str) -> Result<Verified, String> {
        let unreadable = |_| "the token is no JWT, or of an algorithm that is not taken".to_string();
        let header = decode_header(token).map_err(unreadable)?;
        let claim: IssuerClaim =
            insecure_decode_claims(token).map_err(|_| "the token names no issuer".to_string())?;
        let place = self.issuers.iter().position(|i| i.config.issuer == claim.iss);
        let (place, issuer) = place
            .and_then(|place| Some((place, self.issuers.get(place)?)))
            .ok_or("the token is of an issuer whose tokens are not taken")?;
        issuer.verify(place, token, &header).await
    }
}

impl Issuer {
    fn refresh_behind(self: &Arc<Self>) {
        if self.jwks.is_stale() {
            let issuer = self.clone();
            tokio::spawn(async move { issuer.jwks.refresh().await });
        }
    }

    async fn verify(
        self: &Arc<Self>,
        place: usize,
        token: &str,
        header: &Header,
    ) -> Result<Verified, String> {
        if !self.config.algorithms.contains(&header.alg) {
            return Err(format!("tokens signed with {:?} are not taken from this issuer", header.alg));
        }
        if header.crit.is_some() {
            return Err("the token needs an extension that is not known here (crit)".into());
        }
        let find = || {
            let (set, generation) = self.jwks.current();
            set.find(header.kid.as_deref(), header.alg).map(|key| (key.clone(), generation))
        };
        let (key, generation) = match find() {
            Some(found) => {
                self.refresh_behind();
                found
            }
            None => {
                self.jwks.refresh().await;
                find().ok_or("the token is signed with a key that the issuer does not publish")?
            }
        };
        // The library judges the signature; what the claims say is judged here, by our clock.
        let mut validation = Validation::new(header.alg);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims: Claims = decode(token, &key, &validation)
            .map_err(|_| "the signature of the token is wrong".to_string())?
            .claims;
        self.read(place, generation, &claims)
    }

    fn read(&self, place: usize, generation: u64, claims: &Claims) -> Result<Verified, String> {
        let config = &self.config;
        if text(claims, "iss") != Some(&config.issuer) {
            return Err("the token is of another issuer".into());
        }
        let is_ours = |audience: &str| config.audience.iter().any(|ours| ours == audience);
        let meant_for_us = match claims.get("aud") {
            Some(Value::String(one)) => is_ours(one),
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).any(is_ours),
            _ => false,
        };
        if !meant_for_us {
            return Err("the token is not meant for this service (aud)".into());
        }
        let leeway_ns = i64::try_from(config.leeway.as_nanos()).unwrap_or(i64::MAX);
        let until_ns = time_ns(claims, "exp")?.ok_or("the token has no end (exp)")?;
        let from_ns = time_ns(claims, "nbf")?;
        let subject = text(claims, "sub")
            .filter(|s| !s.is_empty() && s.len() <= SUBJECT_MAX_BYTES)
            .ok_or("the token names nobody (sub)")?;
        Ok(Verified {
            issuer: place,
            generation,
            good_from_ns: from_ns.map(|ns| ns.saturating_sub(leeway_ns)),
            good_until_ns: until_ns.saturating_add(leeway_ns),
            // Two issuers may have a user of the same name.
            subject: format!("{}#{subject}", config.issuer).into(),
            grant: self.grant(claims)?,
        })
    }

    fn grant(&self, claims: &Claims) -> Result<Grant, String> {
        let config = &self.config;
        let named = |claim: &Option<String>| claim.as_deref().and_then(|path| find(claims, path));
        let tenant = match named(&config.tenant_claim) {
            Some(Value::String(name)) if is_name(name) => TenantId::new(name),
            Some(_) => return Err("the token's tenant cannot be used".into()),
            None => config.tenant.clone().ok_or("the token names no tenant")?,
        };
        let words: Vec<&str> = named(&config.role_claim).map(words).unwrap_or_default();
        let role = words.iter().filter_map(|word| Role::parse(word)).max();
        let role = role.or(config.role).ok_or("the token names no role that is known")?;
        let agent: Option<Arc<str>> = match named(&config.agent_claim) {
            Some(Value::String(name)) if is_name(name) => Some(name.as_str().into()),
            Some(_) => return Err("the token's agent cannot be used".into()),
            None => None,
        };
        if role == Role::Agent && agent.is_none() {
            return Err("the token has the role agent and names no agent".into());
        }
        // Words that are no verbs are scopes of some other service.
        let scopes = named(&config.scopes_claim)
            .map(|value| Arc::new(words_of_scopes(value).collect::<BTreeSet<Verb>>()));
        Ok(Grant { tenant, role, scopes, agent, every_tenant: false })
    }
}

fn words_of_scopes(value: &Value) -> impl Iterator<Item = Verb> {
    words(value).into_iter().flat_map(str::split_whitespace).filter_map(Verb::parse)
}

impl Verified {
    /// Whether it may be good at a moment.
    fn judge(&self, moment: Moment) -> Result<(), String> {
        let clock = |moment: Moment| {
            let error_s = (moment.latest_ns - moment.earliest_ns) as f64 / 2e9;
            format!("it is {}, within {error_s:.3} s", rfc3339(moment.now_ns))
        };
        if !moment.may_be_before(self.good_until_ns) {
            return Err(format!("the token has expired: {}", clock(moment)));
        }
        if self.good_from_ns.is_some_and(|start| !moment.may_have_reached(start)) {
            return Err(format!("the token is not good yet: {}", clock(moment)));
        }
        Ok(())
    }
}

fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// A text, or the texts of an array.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A claim by its name, or by a path with dots, as in `realm_access.roles`.
fn find<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

/// A time of RFC 7519: Unix seconds, with a fraction or without.
fn time_ns(claims: &Claims, name: &str) -> Result<Option<i64>, String> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let ns = match value.as_i64() {
        Some(secs) => Some(secs.saturating_mul(1_000_000_000)),
        // A float of this size is exact to a microsecond; the cast saturates.
        None => value.as_f64().filter(|secs| secs.is_finite()).map(|secs| (secs * 1e9) as i64),
    };
    ns.map(Some).ok_or_else(|| format!("the token's {name} is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = claims(json!({"a.b": 1, "a": {"b": 2, "c": {"d": 3}}}));
        let check = |path: &str, want: Option<i64>| {
            assert_eq!(find(&claims, path).and_then(Value::as_i64), want, "{path}");
        };
        check("a.b", Some(1));
        check("a.c.d", Some(3));
        check("a.c.x", None);
        check("x", None);
        check("a.b.c", None);
    }

    #[test]
    fn times_of_claims_are_seconds() {
        let check = |value: Value, want: Result<Option<i64>, ()>| {
            let got = time_ns(&claims(json!({"exp": value})), "exp");
            assert_eq!(got.map_err(|_| ()), want, "{value}");
        };
        check(json!(5), Ok(Some(5_000_000_000)));
        check(json!(1.5), Ok(Some(1_500_000_000)));
        check(json!(-1), Ok(Some(-1_000_000_000)));
        check(json!(i64::MAX), Ok(Some(i64::MAX)));
        check(json!(u64::MAX), Ok(Some(i64::MAX)));
        check(json!("5"), Err(()));
        check(json!(null), Err(()));
        assert_eq!(time_ns(&claims(json!({})), "exp"), Ok(None));
    }
}
