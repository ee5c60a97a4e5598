//! Who may do what: callers are told apart, their requests allowed or refused, and their use limited.

pub mod caller;
pub mod gate;
pub mod verb;

pub(crate) use caller::unauthenticated;
pub use caller::{Caller, Peer, Principal, Role};
pub use gate::{Demand, Gate};
pub use verb::{Subject, Verb};
