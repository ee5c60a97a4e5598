//! Verbs of administration, over REST: what comes back is shown as it is.

use super::{Failure, Remote, output};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// `minoots keys`.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Make a key; its secret is told this once.
    Create {
        /// A name for people.
        name: String,
        /// viewer, agent, operator or admin
        #[arg(long)]
        role: String,
        /// Only these verbs; may be repeated
        #[arg(long)]
        scope: Vec<String>,
        /// Only this agent's timers
        #[arg(long)]
        agent: Option<String>,
        /// For the service's operator: it may act for every tenant
        #[arg(long)]
        every_tenant: bool,
        /// It ends after this long, as 30d
        #[arg(long)]
        expires_after: Option<String>,
    },
    /// Show the keys.
    List,
    /// End a key.
    Revoke {
        /// Its id.
        id: String,
    },
    /// Give a key a new secret.
    Rotate {
        /// Its id.
        id: String,
        /// The old secret stays good for so long, as 1h
        #[arg(long)]
        overlap: Option<String>,
    },
}

/// `minoots tenants`.
#[derive(Debug, Subcommand)]
pub enum TenantsVerb {
    /// Show the tenants.
    List,
    /// Show one tenant.
    Get {
        /// Its name.
        name: String,
    },
    /// Make a tenant.
    Create {
        /// Its name.
        name: String,
        /// A JSON object with its limits; the service's own without
        #[arg(long, value_name = "JSON")]
        limits: Option<String>,
    },
    /// Change a tenant's limits; those that are not named stay.
    Set {
        /// Its name.
        name: String,
        /// A JSON object, as {"limits": {"timers_pending": 1000}}.
        settings: String,
    },
    /// Let a tenant do nothing more; its limits stay.
    Disable {
        /// Its name.
        name: String,
    },
    /// Let a disabled tenant go on.
    Enable {
        /// Its name.
        name: String,
    },
    /// Show what the caller's tenant uses of its quotas.
    Usage,
}

/// `minoots signing`.
#[derive(Debug, Subcommand)]
pub enum SigningVerb {
    /// Show the public keys, as a JWK set.
    Keys,
    /// Sign with a new key from now on; what the old one signed stays good.
    Rotate,
}

/// `minoots secrets`.
#[derive(Debug, Subcommand)]
pub enum SecretsVerb {
    /// Keep a credential; its value is read from standard input.
    Set {
        /// Its name.
        name: String,
    },
    /// Show the names.
    List,
    /// Forget one.
    Remove {
        /// Its name.
        name: String,
    },
    /// Seal all of them anew.
    Rotate,
}

/// `minoots schemas`.
#[derive(Debug, Subcommand)]
pub enum SchemasVerb {
    /// Register a version of a schema.
    Put {
        /// Its name.
        name: String,
        /// The file of the JSON Schema.
        file: PathBuf,
    },
    /// Show the schemas.
    List,
    /// Show one schema.
    Get {
        /// Its name.
        name: String,
        /// Which version; the latest without.
        version: Option<u64>,
    },
}

/// A REST client of the service.
pub(super) struct Rest {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
    tenant: Option<String>,
}

impl Rest {
    pub(super) fn new(remote: &Remote) -> Result<Self, Failure> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(pem) = remote.ca_pem()? {
            use rustls::pki_types::{CertificateDer, pem::PemObject};
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|e| Failure::usage(format!("--ca-file: {e}")))?;
                roots.add(certificate).map_err(|e| Failure::usage(format!("--ca-file: {e}")))?;
            }
        }
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(Duration::from_secs(30))
            .build()
            .map_err(Failure::failed)?;
        Ok(Self {
            client,
            url: remote.url.trim_end_matches('/').to_string(),
            key: remote.api_key()?,
            tenant: remote.tenant.clone(),
        })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Value, Failure> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("x-tenant-id", tenant);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let unreachable = |e: reqwest::Error| {
            let why = format!("{} does not answer: {e}: look whether `minoots serve` runs there", self.url);
            Failure::of_code("unreachable", why)
        };
        let response = request.send().await.map_err(|e| match e.is_builder() {
            true => Failure::usage(format!(
                "the request to {:?} cannot be made: {e}: write --url http://HOST:PORT, and a key and tenant of printable ASCII",
                self.url
            )),
            false => unreachable(e),
        })?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status.is_success() {
            return Ok(value);
        }
        let code = value["code"].as_str().unwrap_or(if status == 404 { "not_found" } else { "failed" });
        let detail =
            value["detail"].as_str().map_or_else(|| format!("the service answered {status}"), String::from);
        Err(Failure::of_code(code, detail))
    }
}

/// A name as a part of a path.
pub(super) fn part(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

async fn show(remote: &Remote, method: Method, path: &str, body: Option<String>) -> Result<(), Failure> {
    let answer = Rest::new(remote)?.send(method, path, body).await?;
    match answer {
        Value::String(text) if text.is_empty() => output::answer(&json!({"done": true}), remote.json),
        answer => output::answer(&answer, remote.json),
    }
}

/// Every page of a list.
async fn show_list(remote: &Remote, path: &str, field: &str) -> Result<(), Failure> {
    let rest = Rest::new(remote)?;
    let (mut items, mut at) = (Vec::new(), path.to_string());
    loop {
        let mut page = rest.get(&at).await?;
        if let Some(Value::Array(more)) = page.get_mut(field).map(Value::take) {
            items.extend(more);
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => at = format!("{path}?cursor={}", part(cursor)),
            None => return output::list(&items, field, remote.json),
        }
    }
}

fn object(text: &str, what: &str) -> Result<Value, Failure> {
    let value: Value =
        serde_json::from_str(text).map_err(|e| Failure::usage(format!("{what} is not JSON: {e}")))?;
    match value.is_object() {
        true => Ok(value),
        false => Err(Failure::usage(format!("{what} is no JSON object: write it as {{\"NAME\": VALUE}}"))),
    }
}

fn seconds(text: &str) -> Result<Value, Failure> {
    let span = super::when::parse_duration(text).map_err(Failure::usage)?;
    Ok(format!("{}ms", span.as_millis()).into())
}

pub(super) async fn keys(verb: KeysVerb, remote: &Remote) -> Result<(), Failure> {
    match verb {
        KeysVerb::Create { name, role, scope, agent, every_tenant, expires_after } => {
            let mut body = json!({"name": name, "role": role});
            if !scope.is_empty() {
                body["scopes"] = json!(scope);
            }
            if let Some(agent) = agent {
                body["agent"] = agent.into();
            }
            if every_tenant {
                body["every_tenant"] = true.into();
            }
            if let Some(after) = expires_after {
                body["expires_after"] = seconds(&after)?;
            }
            show(remote, Method::POST, "/v1/keys", Some(body.to_string())).await
        }
        KeysVerb::List => show_list(remote, "/v1/keys", "keys").await,
        KeysVerb::Revoke { id } => {
            show(remote, Method::DELETE, &format!("/v1/keys/{}", part(&id)), None).await
        }
        KeysVerb::Rotate { id, overlap } => {
            let body = match overlap {
                Some(overlap) => json!({"overlap": seconds(&overlap)?}),
                None => json!({}),
            };
            show(remote, Method::POST, &format!("/v1/keys/{}/rotate", part(&id)), Some(body.to_string()))
                .await
        }
    }
}

/// A PUT replaces a tenant: what is not to change is read first and sent along.
async fn change_tenant(remote: &Remote, name: &str, change: Value) -> Result<(), Failure> {
    let path = format!("/v1/tenants/{}", part(name));
    let rest = Rest::new(remote)?;
    let was = rest.get(&path).await?;
    let mut now = json!({"disabled": was["disabled"], "limits": was["limits"]});
    for (key, value) in change.as_object().into_iter().flatten() {
        match (key.as_str(), value.as_object()) {
            ("limits", Some(limits)) => {
                limits.iter().for_each(|(name, limit)| now["limits"][name] = limit.clone());
            }
            // A name that is not known is the service's to refuse.
            _ => now[key] = value.clone(),
        }
    }
    output::answer(&rest.send(Method::PUT, &path, Some(now.to_string())).await?, remote.json)
}

pub(super) async fn tenants(verb: TenantsVerb, remote: &Remote) -> Result<(), Failure> {
    match verb {
        TenantsVerb::List => show_list(remote, "/v1/tenants", "tenants").await,
        TenantsVerb::Get { name } => {
            show(remote, Method::GET, &format!("/v1/tenants/{}", part(&name)), None).await
        }
        TenantsVerb::Create { name, limits } => {
            let mut body = json!({"name": name});
            if let Some(limits) = limits {
                body["limits"] = object(&limits, "--limits")?;
            }
            show(remote, Method::POST, "/v1/tenants", Some(body.to_string())).await
        }
        TenantsVerb::Set { name, settings } => {
            change_tenant(remote, &name, object(&settings, "what to set")?).await
        }
        TenantsVerb::Disable { name } => change_tenant(remote, &name, json!({"disabled": true})).await,
        TenantsVerb::Enable { name } => change_tenant(remote, &name, json!({"disabled": false})).await,
        TenantsVerb::Usage => show(remote, Method::GET, "/v1/usage", None).await,
    }
}

pub(super) async fn signing(verb: SigningVerb, remote: &Remote) -> Result<(), Failure> {
    match verb {
        SigningVerb::Keys => {
            // As JSON the set stays whole: it is what `minoots verify --keys` reads.
            show(remote, Method::GET, "/.well-known/minoots-keys.json", None).await
        }
        SigningVerb::Rotate => show(remote, Method::POST, "/v1/signing-keys/rotate", None).await,
    }
}

pub(super) async fn secrets(verb: SecretsVerb, remote: &Remote) -> Result<(), Failure> {
    match verb {
        SecretsVerb::Set { name } => {
            let value = std::io::read_to_string(std::io::stdin())?;
            let body = json!({"value": value.trim_end_matches(['\r', '\n'])}).to_string();
            show(remote, Method::PUT, &format!("/v1/secrets/{}", part(&name)), Some(body)).await
        }
        SecretsVerb::List => show_list(remote, "/v1/secrets", "secrets").await,
        SecretsVerb::Remove { name } => {
            show(remote, Method::DELETE, &format!("/v1/secrets/{}", part(&name)), None).await
        }
        SecretsVerb::Rotate => show(remote, Method::POST, "/v1/secrets/rotate", None).await,
    }
}

pub(super) async fn schemas(verb: SchemasVerb, remote: &Remote) -> Result<(), Failure> {
    match verb {
        SchemasVerb::Put { name, file } => {
            let text = std::fs::read_to_string(&file)
                .map_err(|e| Failure::usage(format!("cannot read {}: {e}", file.display())))?;
            show(remote, Method::PUT, &format!("/v1/schemas/{}", part(&name)), Some(text)).await
        }
        SchemasVerb::List => {
            let answer = Rest::new(remote)?.get("/v1/schemas").await?;
            let of = |field: &str, kind: &str| {
                let entries = answer[field].as_array().cloned().unwrap_or_default();
                let kind = kind.to_string();
                entries.into_iter().map(move |mut entry| {
                    entry["kind"] = kind.clone().into();
                    entry
                })
            };
            let all: Vec<_> = of("schemas", "payload").chain(of("events", "event")).collect();
            output::list(&all, "schemas", remote.json)
        }
        SchemasVerb::Get { name, version } => {
            let version = version.map_or(String::new(), |v| format!("/{v}"));
            show(remote, Method::GET, &format!("/v1/schemas/{}{version}", part(&name)), None).await
        }
    }
}
