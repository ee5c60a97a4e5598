//! Which address is asked by which source: nobody gets two votes.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The address that a source asks.
#[derive(Clone, Copy, Debug)]
struct Claim {
    source: usize,
    address: SocketAddr,
    /// The user named this server; a member of a pool gives way.
    is_named: bool,
}

/// All claims.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<Vec<Claim>>);

impl Claims {
    fn lock(&self) -> MutexGuard<'_, Vec<Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the address of a server that the user named. False when another named server has it already.
    pub(crate) fn name(&self, source: usize, address: SocketAddr) -> bool {
        let mut claims = self.lock();
        claims.retain(|c| c.source != source);
        let is_free = !claims.iter().any(|c| c.is_named && c.address == address);
        claims.push(Claim { source, address, is_named: true });
        is_free
    }

    /// Takes the first of `candidates` that nobody asks.
    pub(crate) fn take(&self, source: usize, candidates: &[SocketAddr]) -> Option<SocketAddr> {
        let mut claims = self.lock();
        claims.retain(|c| c.source != source);
        let address = *candidates.iter().find(|&a| !claims.iter().any(|c| c.address == *a))?;
        claims.push(Claim { source, address, is_named: false });
        Some(address)
    }

    /// True when no other source asks `address` with a better right.
    pub(crate) fn holds(&self, source: usize, address: SocketAddr) -> bool {
        !self.lock().iter().any(|c| c.source != source && c.address == address && c.is_named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_once_and_a_named_server_goes_first() {
        let claims = Claims::default();
        let a = |n: u8| SocketAddr::from(([192, 0, 2, n], 123));
        assert_eq!(claims.take(0, &[a(1), a(2)]), Some(a(1)));
        assert_eq!(claims.take(1, &[a(1), a(2)]), Some(a(2)));
        assert_eq!(claims.take(2, &[a(1), a(2)]), None);
        assert!(claims.name(3, a(1)));
        assert!(!claims.holds(0, a(1)) && claims.holds(1, a(2)));
        assert!(!claims.name(4, a(1)), "two names for one server");
        assert_eq!(claims.take(1, &[a(3)]), Some(a(3)));
        assert_eq!(claims.take(0, &[a(1), a(2)]), Some(a(2)), "given up by 1");
    }
}
