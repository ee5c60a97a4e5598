//! Counts connections, in all and of each address, and the requests of a connection.

use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Refused connections are told in the log at most this often.
const TOLD_EVERY: Span = Span::from_secs(10);

/// How many connections there are.
pub(super) struct Counts {
    total_max: usize,
    address_max: usize,
    now: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    of_address: HashMap<IpAddr, usize>,
    refused: u64,
    told_at: Option<MonoTime>,
}

/// A connection that is counted until this is dropped.
pub(super) struct Permit {
    counts: Arc<Counts>,
    address: IpAddr,
}

/// Whoever has one IPv6 address has the 2^64 around it.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        other => other,
    }
}

impl Counts {
    pub(super) fn new(total_max: usize, address_max: usize) -> Arc<Self> {
        Arc::new(Self { total_max, address_max, now: Mutex::default() })
    }

    /// Takes a place; `None` where there is none.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let address = counted_as(address);
        let mut open = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = open.of_address.get(&address).copied().unwrap_or_default();
        if open.total >= self.total_max || of_address >= self.address_max {
            open.refuse(address, of_address);
            return None;
        }
        open.total += 1;
        open.of_address.insert(address, of_address + 1);
        Some(Permit { counts: self.clone(), address })
    }
}

impl Open {
    fn refuse(&mut self, address: IpAddr, of_address: usize) {
        let now = boottime();
        self.refused += 1;
        if self.told_at.is_some_and(|told| now - told < TOLD_EVERY) {
            return;
        }
        self.told_at = Some(now);
        let refused = std::mem::take(&mut self.refused);
        tracing::warn!(
            refused,
            open = self.total,
            %address,
            of_address,
            "connections were refused: listener.connections_max or connections_per_address_max is reached"
        );
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.counts.now.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.of_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.of_address.remove(&self.address);
            }
        }
    }
}

/// What a connection has been used for.
#[derive(Default)]
pub(super) struct Activity {
    requests: AtomicU64,
    under_way: AtomicU64,
}

/// A request whose answer has not been sent to its end.
pub(super) struct UnderWay(Arc<Activity>);

impl Activity {
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        // Relaxed: the counts are looked at every few seconds, and order nothing else.
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// How many requests there have been, and how many are under way.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.under_way.load(Ordering::Relaxed))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_and_given_back() {
        let counts = Counts::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (a, b) = (counts.admit(ip("10.0.0.1")), counts.admit(ip("::ffff:10.0.0.1")));
        assert!(a.is_some() && b.is_some());
        assert!(counts.admit(ip("10.0.0.1")).is_none(), "two of one address are its most");
        let c = counts.admit(ip("10.0.0.2"));
        assert!(c.is_some() && counts.admit(ip("10.0.0.3")).is_none(), "three are all");
        drop(a);
        assert!(counts.admit(ip("10.0.0.1")).is_some());
        drop((b, c));
        let open = counts.now.lock().unwrap();
        assert_eq!((open.total, open.of_address.len()), (0, 0));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let ip = |text: &str| counted_as(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::1"), IpAddr::V6(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn requests_are_under_way_until_dropped() {
        let activity = Arc::new(Activity::default());
        let one = activity.begin();
        assert_eq!(activity.read(), (1, 1));
        drop(one);
        assert_eq!(activity.read(), (1, 0));
    }
}
