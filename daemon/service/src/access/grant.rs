//! What a credential gives: a tenant, a role, and what narrows them.

use super::{Caller, Principal, Role, Verb};
use minoots_kernel::TenantId;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a credential gives to whoever presents it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// For which tenant.
    pub tenant: TenantId,
    /// In which role.
    pub role: Role,
    /// Only these verbs; `None` for all that the role has.
    pub scopes: Option<Arc<BTreeSet<Verb>>>,
    /// Only the timers of this agent.
    pub agent: Option<Arc<str>>,
    /// For the service's operator: any tenant that a request names.
    pub every_tenant: bool,
}

/// The longest name of a tenant or an agent.
const NAME_MAX_BYTES: usize = 128;

impl Grant {
    /// What a caller has, to be handed on.
    pub fn of(caller: &Caller) -> Self {
        Self {
            tenant: caller.tenant.clone(),
            role: caller.role,
            scopes: caller.scopes.clone(),
            agent: caller.agent.clone(),
            every_tenant: caller.every_tenant,
        }
    }

    /// The caller that presents it.
    pub fn caller(&self, principal: Principal, from: Option<SocketAddr>) -> Caller {
        Caller {
            principal,
            tenant: self.tenant.clone(),
            role: self.role,
            scopes: self.scopes.clone(),
            agent: self.agent.clone(),
            every_tenant: self.every_tenant,
            from,
            standing: None,
        }
    }

    /// Why this one may not hand the other on; `None` where the other gives nothing that this one lacks.
    pub fn lacks(&self, other: &Self) -> Option<&'static str> {
        let scopes_held = match (&self.scopes, &other.scopes) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => theirs.is_subset(mine),
        };
        if other.every_tenant && !self.every_tenant {
            Some("every_tenant is for keys that a key of the service's operator makes")
        } else if other.tenant != self.tenant && !self.every_tenant {
            Some("the key is of another tenant")
        } else if other.role > self.role {
            Some("the role is above the caller's own")
        } else if !scopes_held {
            Some("the scopes go beyond the caller's own")
        } else if self.agent.is_some() && other.agent != self.agent {
            Some("the caller has one agent, and so have the keys that it makes")
        } else {
            None
        }
    }
}

/// Whether a text can name a tenant or an agent.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX_BYTES && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The verbs of a list of words; the first word that is none.
pub(crate) fn scopes_of<T: AsRef<str>>(words: &[T]) -> Result<Arc<BTreeSet<Verb>>, String> {
    words
        .iter()
        .map(|word| Verb::parse(word.as_ref()).ok_or_else(|| word.as_ref().to_string()))
        .collect::<Result<_, _>>()
        .map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(tenant: &str, role: Role) -> Grant {
        Grant { tenant: TenantId::new(tenant), role, scopes: None, agent: None, every_tenant: false }
    }

    #[test]
    fn nobody_hands_on_more_than_it_has() {
        fn check(mine: &Grant, other: &Grant, want: Option<&str>) {
            let why = mine.lacks(other);
            match want {
                None => assert_eq!(why, None, "{mine:?} {other:?}"),
                Some(part) => assert!(why.is_some_and(|w| w.contains(part)), "{mine:?} {other:?}: {why:?}"),
            }
        }
        let admin = grant("a", Role::Admin);
        let every = Grant { every_tenant: true, ..admin.clone() };
        check(&admin, &admin, None);
        check(&admin, &grant("a", Role::Viewer), None);
        check(&admin, &every, Some("every_tenant"));
        check(&admin, &grant("b", Role::Viewer), Some("another tenant"));
        check(&every, &grant("b", Role::Admin), None);
        check(&grant("a", Role::Operator), &admin, Some("role"));
        let scoped = |words: &[&str]| Grant { scopes: Some(scopes_of(words).unwrap()), ..admin.clone() };
        let (narrow, wide) = (scoped(&["keys.manage"]), scoped(&["keys.manage", "timers.read"]));
        check(&wide, &narrow, None);
        check(&narrow, &wide, Some("scopes"));
        check(&narrow, &admin, Some("scopes"));
        let agent = |name: &str| Grant { agent: Some(name.into()), ..admin.clone() };
        check(&agent("x"), &agent("x"), None);
        check(&agent("x"), &agent("y"), Some("agent"));
        check(&agent("x"), &admin, Some("agent"));
        check(&admin, &agent("y"), None);
    }

    #[test]
    fn names_and_scopes_are_words() {
        assert!(is_name("acme-2") && is_name(&"x".repeat(128)));
        assert!(!is_name("") && !is_name("a b") && !is_name("é") && !is_name(&"x".repeat(129)));
        assert_eq!(scopes_of(&["timers.read", "timer.write"]), Err("timer.write".to_string()));
    }
}
