//! The sources that share a pool: one name, many servers, each asked by one source only.

use super::address::ServerName;
use super::claims::Claims;
use super::server::{Resolver, ask_plainly};
use super::transport;
use crate::log;
use crate::sources::{Ask, Failure, Source};
use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::Measurement;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many servers of a pool are asked. The discipline must know the number at the start.
pub(crate) const MEMBERS: usize = 4;
/// From one look-up to the next: a pool answers with other servers only after some minutes.
const LOOK_UP_INTERVAL: Span = Span::from_secs(30);
/// How long an address that did not answer is left alone.
const BAD_FOR: Span = Span::from_secs(900);

/// What the members of a pool share.
pub(crate) struct Pool {
    name: ServerName,
    resolver: Resolver,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Vec<SocketAddr>,
    bad: Vec<(SocketAddr, MonoTime)>,
    look_up_due: Option<MonoTime>,
}

impl Pool {
    /// A pool behind `name`; nothing is looked up yet.
    pub(crate) fn new(name: ServerName, resolver: Resolver) -> Self {
        Self { name, resolver, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An address for `source` that nobody else asks. The lock is held over the look-up, so that the other members wait
    /// for its result instead of asking as well.
    fn choose(&self, source: usize, claims: &Claims, now: MonoTime) -> Option<SocketAddr> {
        let mut state = self.state();
        state.bad.retain(|&(_, until)| now < until);
        if let Some(address) = claims.take(source, &state.good()) {
            return Some(address);
        }
        if state.look_up_due.is_some_and(|due| now < due) {
            return None;
        }
        state.look_up_due = Some(now + LOOK_UP_INTERVAL);
        match (self.resolver)(&self.name) {
            Ok(found) if !found.is_empty() => state.known = found,
            Ok(_) => {}
            Err(e) => log::debug(format_args!("{}: {e}", self.name)),
        }
        claims.take(source, &state.good())
    }

    fn give_up(&self, address: SocketAddr, now: MonoTime) {
        self.state().bad.push((address, now + BAD_FOR));
    }
}

impl State {
    fn good(&self) -> Vec<SocketAddr> {
        let is_bad = |a: &SocketAddr| self.bad.iter().any(|(bad, _)| bad == a);
        self.known.iter().copied().filter(|a| !is_bad(a)).collect()
    }
}

/// One source of a pool.
pub(crate) struct PoolMember {
    pool: Arc<Pool>,
    claims: Arc<Claims>,
    number: usize,
    address: Option<SocketAddr>,
}

impl PoolMember {
    /// The member with a number from 1.
    pub(crate) fn new(pool: Arc<Pool>, claims: Arc<Claims>, number: usize) -> Self {
        Self { pool, claims, number, address: None }
    }
}

/// What a member is called.
pub(crate) fn member_name(pool: &ServerName, number: usize) -> String {
    format!("{pool}#{number}")
}

impl Source for PoolMember {
    fn name(&self) -> String {
        member_name(&self.pool.name, self.number)
    }

    fn address(&self) -> Option<String> {
        self.address.map(|a| a.to_string())
    }

    fn is_authenticated(&self) -> bool {
        false
    }

    fn reference_id(&self) -> [u8; 4] {
        self.address.map_or([0; 4], |a| transport::reference_id(a.ip()))
    }

    fn measure(&mut self, ask: &mut Ask<'_>) -> Result<Measurement, Failure> {
        self.address = self.address.filter(|&a| self.claims.holds(ask.source, a));
        if self.address.is_none() {
            self.address = self.pool.choose(ask.source, &self.claims, boottime());
        }
        let Some(address) = self.address else {
            return Err(Failure::Other(format!("the pool {} has no further server", self.pool.name)));
        };
        ask_plainly(address, ask)
    }

    /// Another server of the pool; this one is left alone for a while. Its claim stays until the next is chosen, so
    /// that no other member takes it meanwhile.
    fn move_on(&mut self) -> bool {
        if let Some(address) = self.address.take() {
            self.pool.give_up(address, boottime());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn address(n: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, 0, 0, n]), 123)
    }

    fn pool_of(answers: &'static [&'static [u8]]) -> Pool {
        let asked = AtomicUsize::new(0);
        let resolver: Resolver = Arc::new(move |_| {
            let turn = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            Ok(answers[turn].iter().map(|&n| address(n)).collect())
        });
        Pool::new(ServerName::parse("pool.example").unwrap(), resolver)
    }

    fn at(s: i64) -> MonoTime {
        MonoTime::from_ns(0) + Span::from_secs(s)
    }

    #[test]
    fn members_never_share_an_address_nor_take_that_of_a_named_server() {
        let claims = Claims::default();
        claims.name(9, address(2));
        let pool = pool_of(&[&[1, 2, 3, 4]]);
        let chosen: Vec<_> = (0..4).map(|source| pool.choose(source, &claims, at(0))).collect();
        assert_eq!(chosen, [Some(address(1)), Some(address(3)), Some(address(4)), None]);
    }

    #[test]
    fn a_silent_server_is_replaced_and_comes_back_much_later() {
        let claims = Claims::default();
        let pool = pool_of(&[&[1, 2], &[1, 2, 3], &[1]]);
        assert_eq!(pool.choose(0, &claims, at(0)), Some(address(1)));
        assert_eq!(pool.choose(1, &claims, at(0)), Some(address(2)));
        pool.give_up(address(1), at(10));
        assert_eq!(pool.choose(0, &claims, at(10)), None, "the look-up is too recent");
        assert_eq!(pool.choose(0, &claims, at(40)), Some(address(3)));
        pool.give_up(address(3), at(80));
        assert_eq!(pool.choose(0, &claims, at(80)), None);
        assert_eq!(pool.choose(0, &claims, at(920)), Some(address(1)));
    }

    #[test]
    fn an_unknown_name_is_not_looked_up_all_the_time() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let resolver: Resolver = Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Err(std::io::Error::other("no such name"))
        });
        let pool = Pool::new(ServerName::parse("pool.example").unwrap(), resolver);
        for s in 0..60 {
            assert_eq!(pool.choose(0, &Claims::default(), at(s)), None);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
