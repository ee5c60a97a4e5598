//! Who may do what: callers are told apart, their requests allowed or refused, and their use limited.

pub mod authenticate;
pub mod caller;
pub mod certificates;
pub mod gate;
pub mod grant;
pub mod jwks;
pub mod keys;
pub mod now;
pub mod policy;
pub mod quota;
pub mod refusals;
pub mod secret;
pub mod standing;
pub mod tenants;
pub mod tokens;
pub mod verb;

pub use authenticate::Authenticator;
pub(crate) use caller::unauthenticated;
pub use caller::{Caller, Peer, Principal, Role};
pub use gate::{Demand, Gate};
pub use verb::{Subject, Verb};
