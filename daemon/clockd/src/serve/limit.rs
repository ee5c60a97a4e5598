//! How often one address is answered.

use chronotick_core::{MonoTime, Span};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Addresses that are remembered; of more, those that were silent longest are forgotten.
pub(crate) const CAPACITY: usize = 4096;
/// So many requests may come at once.
const BURST: i64 = 16;
/// So long until another one may come.
const REFILL: Span = Span::from_ms(500);
/// From one kiss-o'-death to the next for the same address.
const KISS_INTERVAL: Span = Span::from_secs(32);

/// What a request gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Permit {
    /// The time.
    Answer,
    /// The request to ask less often.
    Kiss,
    /// Nothing.
    Drop,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The moment at which all of the burst may be used again.
    full_at: MonoTime,
    kissed: Option<MonoTime>,
    /// Its place in the order of use.
    used: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Limiter {
    capacity: usize,
    entries: HashMap<IpAddr, Entry>,
    order: BTreeMap<u64, IpAddr>,
    uses: u64,
}

impl Limiter {
    /// Remembers `capacity` addresses.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }

    /// Decides on a request of `ip` at `now`.
    pub(crate) fn permit(&mut self, ip: IpAddr, now: MonoTime) -> Permit {
        let key = network(ip);
        self.uses += 1;
        let mut entry = match self.entries.get(&key) {
            Some(entry) => {
                self.order.remove(&entry.used);
                *entry
            }
            None => {
                if self.entries.len() >= self.capacity
                    && let Some((_, oldest)) = self.order.pop_first()
                {
                    self.entries.remove(&oldest);
                }
                Entry { full_at: now, kissed: None, used: 0 }
            }
        };
        let owed = (entry.full_at - now).max(Span::ZERO);
        let permit = if owed + REFILL <= Span::from_ns(REFILL.as_ns() * BURST) {
            entry.full_at = now + owed + REFILL;
            Permit::Answer
        } else if entry.kissed.is_none_or(|at| now - at >= KISS_INTERVAL) {
            entry.kissed = Some(now);
            Permit::Kiss
        } else {
            Permit::Drop
        };
        entry.used = self.uses;
        self.order.insert(self.uses, key);
        self.entries.insert(key, entry);
        permit
    }
}

/// Whoever has one IPv6 address has the other 2^64 of its network as well.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            IpAddr::from(octets)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> MonoTime {
        MonoTime::from_ns(0) + Span::from_ms(ms)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_is_answered_then_a_steady_pace() {
        let mut limiter = Limiter::new(4);
        let mut ask = |ms| limiter.permit(ip("192.0.2.1"), at(ms));
        for _ in 0..16 {
            assert_eq!(ask(0), Permit::Answer);
        }
        assert_eq!((ask(0), ask(0), ask(499)), (Permit::Kiss, Permit::Drop, Permit::Drop));
        assert_eq!((ask(500), ask(500)), (Permit::Answer, Permit::Drop));
        for second in 1..31 {
            assert_eq!(ask(second * 1000), Permit::Answer);
        }
        let more: Vec<Permit> = (0..32).map(|_| ask(40_000)).collect();
        assert_eq!(more.iter().filter(|&&p| p == Permit::Answer).count(), 16);
        assert_eq!(more.iter().filter(|&&p| p == Permit::Kiss).count(), 1);
    }

    #[test]
    fn addresses_are_apart_but_not_within_an_ipv6_network() {
        let mut limiter = Limiter::new(4);
        let mut use_up =
            |text: &str| (0..16).filter(|_| limiter.permit(ip(text), at(0)) == Permit::Answer).count();
        assert_eq!((use_up("192.0.2.1"), use_up("192.0.2.2"), use_up("192.0.2.1")), (16, 16, 0));
        assert_eq!((use_up("2001:db8::1"), use_up("2001:db8::2"), use_up("2001:db8:0:1::1")), (16, 0, 16));
        assert_eq!(use_up("::ffff:192.0.2.1"), 0, "the same IPv4 address");
    }

    #[test]
    fn the_memory_is_bounded_and_the_silent_are_forgotten_first() {
        let mut limiter = Limiter::new(100);
        for n in 0..1000u32 {
            limiter.permit(IpAddr::from(n.to_be_bytes()), at(0));
            // This one goes on asking, and so it stays.
            limiter.permit(ip("192.0.2.1"), at(0));
        }
        assert_eq!((limiter.entries.len(), limiter.order.len()), (100, 100));
        assert_eq!(limiter.permit(ip("192.0.2.1"), at(0)), Permit::Drop);
    }
}
