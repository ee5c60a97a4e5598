//! A caller: who asks, for which tenant, in which role.

use super::grant::Grant;
use super::standing::Standing;
use super::verb::Verb;
use crate::api::error::{ApiError, UNAUTHENTICATED};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use minoots_kernel::TenantId;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a caller may do in principle; policies say the rest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Reads timers.
    Viewer,
    /// Reads and changes timers of its own agent.
    Agent,
    /// Reads and changes every timer of the tenant.
    Operator,
    /// The same, and the tenant's keys, secrets, schemas and audit.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Agent, Self::Operator, Self::Admin];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of a word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// Who asks, as the audit names it: a kind and an id.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Principal {
    /// Single-user mode: whoever reaches the loopback address.
    Local,
    /// An API key, by its id (not the secret).
    Key(Arc<str>),
    /// A user of an identity provider: its subject.
    User(Arc<str>),
    /// A client certificate: its subject.
    Certificate(Arc<str>),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::User(subject) => write!(f, "user:{subject}"),
            Self::Certificate(subject) => write!(f, "cert:{subject}"),
        }
    }
}

/// Where a request came from; the listener puts it into the request's extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address of the other side.
    pub addr: SocketAddr,
    /// The client certificate that the TLS handshake verified, in DER.
    pub certificate: Option<Arc<[u8]>>,
}

/// Who asks, for which tenant, in which role. Authentication puts it into the request's extensions; handlers take it as
/// an argument.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// For which tenant.
    pub tenant: TenantId,
    /// In which role.
    pub role: Role,
    /// Only these verbs; `None` for all that the role has.
    pub scopes: Option<Arc<BTreeSet<Verb>>>,
    /// The agent that it is: it sees and changes only timers that carry the label `agent` with this value.
    pub agent: Option<Arc<str>>,
    /// A credential of the service's operator: it may act for any tenant that it names.
    pub every_tenant: bool,
    /// From where.
    pub from: Option<SocketAddr>,
    /// With which credential, where the request opens a stream.
    pub standing: Option<Standing>,
}

impl Caller {
    /// Single-user mode: everything, for the default tenant unless another is named.
    pub fn local(from: Option<SocketAddr>) -> Self {
        Self {
            principal: Principal::Local,
            tenant: TenantId::default(),
            role: Role::Admin,
            scopes: None,
            agent: None,
            every_tenant: true,
            from,
            standing: None,
        }
    }

    /// Whether two requests come from one caller with the same rights. From where does not count: clients move.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.principal == other.principal && Grant::of(self) == Grant::of(other)
    }

    /// The same caller for the tenant that a request names. `None` where it may not act for it; that is answered as a
    /// tenant without timers is, so that nobody learns which tenants there are.
    pub fn for_tenant(&self, tenant: &str) -> Option<Self> {
        if tenant == self.tenant.as_str() {
            return Some(self.clone());
        }
        self.every_tenant.then(|| Self { tenant: TenantId::new(tenant), ..self.clone() })
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthenticated)
    }
}

/// Nobody has said who asks.
pub(crate) fn unauthenticated() -> ApiError {
    ApiError::new(
        &UNAUTHENTICATED,
        "say who you are: send `Authorization: Bearer <API key or token>` or `x-api-key: <API key>`",
    )
}
