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
    },
}

/// `minoots tenants`.
#[derive(Debug, Subcommand)]
pub enum TenantsVerb {
    /// Show the tenants.
    List,
    /// Make a tenant.
    Create {
        /// Its name.
        name: String,
    },
    /// Change a tenant's settings.
    Set {
        /// Its name.
        name: String,
        /// A JSON object with the settings.
        settings: String,
    },
    /// Let a tenant do nothing more.
    Disable {
        /// Its name.
        name: String,
    },
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
        let response = request.send().await.map_err(unreachable)?;
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
fn part(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

async fn show(remote: &Remote, method: Method, path: &str, body: Option<String>) -> Result<(), Failure> {
    let answer = Rest::new(remote)?.send(method, path, body).await?;
    match answer {
        Value::String(text) if text.is_empty() => output::answer(&json!({"done": true}), remote.json),
        answer => output::answer(&answer, remote.json),
    }
}

pub(super) async fn keys(verb: KeysVerb, remote: &Remote) -> Result<(), Failure> {
    match verb {
        KeysVerb::Create { name, role, scope, agent, expires_after } => {
            let mut body = json!({"name": name, "role": role});
            if !scope.is_empty() {
                body["scopes"] = json!(scope);
            }
            if let Some(agent) = agent {
                body["agent"] = agent.into();
            }
            if let Some(after) = expires_after {
                let span = super::when::parse_duration(&after).map_err(Failure::usage)?;
                body["expires_after"] = format!("{}s", span.as_secs()).into();
            }
            show(remote, Method::POST, "/v1/keys", Some(body.to_string())).await
        }
        KeysVerb::List => show(remote, Method::GET, "/v1/keys", None).await,
        KeysVerb::Revoke { id } => {
            show(remote, Method::DELETE, &format!("/v1/keys/{}", part(&id)), None).await
        }
        KeysVerb::Rotate { id } => {
            show(remote, Method::POST, &format!("/v1/keys/{}/rotate", part(&id)), Some("{}".into())).await
        }
    }
}

pub(super) async fn tenants(verb: TenantsVerb, remote: &Remote) -> Result<(), Failure> {
    match verb {
        TenantsVerb::List => show(remote, Method::GET, "/v1/tenants", None).await,
        TenantsVerb::Create { name } => {
            show(remote, Method::POST, "/v1/tenants", Some(json!({"name": name}).to_string())).await
        }
        TenantsVerb::Set { name, settings } => {
            serde_json::from_str::<Value>(&settings)
                .map_err(|e| Failure::usage(format!("the settings are not JSON: {e}")))?;
            show(remote, Method::PUT, &format!("/v1/tenants/{}", part(&name)), Some(settings)).await
        }
        TenantsVerb::Disable { name } => {
            let body = json!({"disabled": true}).to_string();
            show(remote, Method::PUT, &format!("/v1/tenants/{}", part(&name)), Some(body)).await
        }
    }
}

pub(super) async fn secrets(verb: SecretsVerb, remote: &Remote) -> Result<(), Failure> {
    match verb {
        SecretsVerb::Set { name } => {
            let value = std::io::read_to_string(std::io::stdin())?;
            let body = json!({"value": value.trim_end_matches(['\r', '\n'])}).to_string();
            show(remote, Method::PUT, &format!("/v1/secrets/{}", part(&name)), Some(body)).await
        }
        SecretsVerb::List => show(remote, Method::GET, "/v1/secrets", None).await,
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
        SchemasVerb::List => show(remote, Method::GET, "/v1/schemas", None).await,
        SchemasVerb::Get { name, version } => {
            let version = version.map_or(String::new(), |v| format!("/{v}"));
            show(remote, Method::GET, &format!("/v1/schemas/{}{version}", part(&name)), None).await
        }
    }
}
