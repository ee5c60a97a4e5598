//! The source that asks one server under NTS: spends cookies, takes new ones from the answers, and exchanges keys again
//! when there are none left or the server has forgotten them.

use super::key_exchange::{Exchanged, Tls, exchange_keys};
use crate::log;
use crate::sources::ntp::address::ServerName;
use crate::sources::ntp::claims::Claims;
use crate::sources::ntp::server::{Addresses, Resolver};
use crate::sources::ntp::transport;
use crate::sources::{Ask, Failure, Source};
use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::Measurement;
use chronotick_ntp::exchange::evaluate;
use chronotick_ntp::nts_packet::{Keys, Randomness, open_answer, seal_request};
use chronotick_ntp::nts_record::MAX_COOKIES;
use std::collections::VecDeque;
use std::sync::Arc;

/// From one key exchange to the next at least; doubles until an authenticated answer comes.
const FIRST_REST: Span = Span::from_secs(10);
/// The longest rest.
const LAST_REST: Span = Span::from_secs(3600);

/// Exchanges keys; replaced in tests.
type Exchanger = Box<dyn FnMut(&ServerName) -> Result<Exchanged, String> + Send>;

/// What a key exchange brought, and what is left of it.
struct Association {
    keys: Keys,
    cookies: VecDeque<Vec<u8>>,
    addresses: Addresses,
    /// The server said that it knows our cookie no more, and no valid answer came.
    is_disowned: bool,
}

/// See the module.
pub(crate) struct NtsServer {
    name: ServerName,
    exchanger: Exchanger,
    resolver: Resolver,
    claims: Arc<Claims>,
    association: Option<Association>,
    rest: Span,
    next_exchange: Option<MonoTime>,
    last_error: Option<String>,
}

impl NtsServer {
    /// A source that exchanges keys with `name`.
    pub(crate) fn new(name: ServerName, tls: Tls, claims: Arc<Claims>, resolver: Resolver) -> Self {
        Self::with(name, Box::new(move |name| exchange_keys(name, &tls)), claims, resolver)
    }

    fn with(name: ServerName, exchanger: Exchanger, claims: Arc<Claims>, resolver: Resolver) -> Self {
        Self {
            name,
            exchanger,
            resolver,
            claims,
            association: None,
            rest: FIRST_REST,
            next_exchange: None,
            last_error: None,
        }
    }

    /// Exchanges keys where that is needed and not too soon. An error only when there is nothing to ask with.
    fn prepare(&mut self, ask: &mut Ask<'_>, now: MonoTime) -> Result<(), Failure> {
        let has_cookie = self.association.as_ref().is_some_and(|a| !a.cookies.is_empty());
        if has_cookie && !self.association.as_ref().is_some_and(|a| a.is_disowned) {
            return Ok(());
        }
        if let Some(next) = self.next_exchange.filter(|&next| now < next) {
            if has_cookie {
                return Ok(());
            }
            return Err(Failure::Other(format!(
                "{}; keys are exchanged again in {} s",
                self.last_error.as_deref().unwrap_or("no NTS cookies are left"),
                (next - now).as_ms().div_euclid(1000) + 1
            )));
        }
        self.next_exchange = Some(now + self.rest);
        self.rest = (self.rest + self.rest).min(LAST_REST);
        ask.counters.key_exchanges += 1;
        match (self.exchanger)(&self.name) {
            Ok(exchanged) => {
                log::debug(format_args!(
                    "{}: keys exchanged, {} cookies, NTP at {}",
                    self.name,
                    exchanged.cookies.len(),
                    exchanged.ntp
                ));
                self.last_error = None;
                self.association = Some(Association {
                    keys: exchanged.keys,
                    cookies: exchanged.cookies.into(),
                    addresses: Addresses::new(exchanged.ntp, self.resolver.clone()),
                    is_disowned: false,
                });
                Ok(())
            }
            Err(text) => {
                ask.counters.key_exchanges_failed += 1;
                self.last_error = Some(text.clone());
                // With cookies left, the old keys may still be good.
                if has_cookie { Ok(()) } else { Err(Failure::Other(text)) }
            }
        }
    }
}

fn randomness() -> Result<Randomness, Failure> {
    let none = |e| Failure::Other(format!("no random numbers: {e}"));
    let mut random = Randomness { nonce: transport::nonce()?, unique_id: [0; 32], aead_nonce: [0; 16] };
    getrandom::fill(&mut random.unique_id).map_err(none)?;
    getrandom::fill(&mut random.aead_nonce).map_err(none)?;
    Ok(random)
}

impl Source for NtsServer {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn address(&self) -> Option<String> {
        self.association.as_ref()?.addresses.current().map(|a| a.to_string())
    }

    fn is_authenticated(&self) -> bool {
        true
    }

    fn reference_id(&self) -> [u8; 4] {
        let address = self.association.as_ref().and_then(|a| a.addresses.current());
        address.map_or([0; 4], |a| transport::reference_id(a.ip()))
    }

    fn measure(&mut self, ask: &mut Ask<'_>) -> Result<Measurement, Failure> {
        self.prepare(ask, boottime())?;
        let Some(association) = &mut self.association else {
            return Err(Failure::Other(format!("{}: no keys were exchanged", self.name)));
        };
        let address = association.addresses.get()?;
        self.claims.name(ask.source, address);
        let Some(cookie) = association.cookies.pop_front() else {
            return Err(Failure::Other(format!("{}: no NTS cookies are left", self.name)));
        };
        let random = randomness()?;
        let wanted = MAX_COOKIES - association.cookies.len().min(MAX_COOKIES - 1);
        let request = seal_request(&association.keys, &random, &cookie, wanted);
        let (source, poll, naks) = (ask.source, ask.poll_interval, ask.counters.nts_naks);
        let (keys, cookies) = (&association.keys, &mut association.cookies);
        let mut is_authentic = false;
        let result = transport::exchange(address, &request, random.nonce, ask, |exchange, bytes| {
            let fresh = open_answer(keys, &random, bytes)?;
            is_authentic = true;
            let room = MAX_COOKIES.saturating_sub(cookies.len());
            cookies.extend(fresh.into_iter().take(room));
            evaluate(exchange, bytes, source, poll)
        });
        if matches!(result, Err(Failure::NoRoute(_))) {
            // It was not sent, so it may still be.
            association.cookies.push_front(cookie);
        }
        if is_authentic {
            self.rest = FIRST_REST;
            association.is_disowned = false;
        } else if ask.counters.nts_naks > naks {
            association.is_disowned = true;
        }
        result.map(|m| Measurement { authenticated: true, ..m })
    }

    fn move_on(&mut self) -> bool {
        if let Some(association) = &mut self.association {
            association.addresses.advance();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::SourceCounters;
    use crate::stop::Stop;
    use std::sync::Mutex;

    fn name() -> ServerName {
        ServerName::parse_nts("nts.example").unwrap()
    }

    /// A source whose key exchanges answer as told, and are counted.
    fn source(results: Vec<Result<usize, &'static str>>) -> (NtsServer, Arc<Mutex<usize>>) {
        let done = Arc::new(Mutex::new(0));
        let count = done.clone();
        let mut results = results.into_iter();
        let exchanger: Exchanger = Box::new(move |_| {
            *count.lock().unwrap() += 1;
            results.next().unwrap().map_err(str::to_owned).map(|cookies| Exchanged {
                keys: Keys { client_to_server: [1; 32], server_to_client: [2; 32] },
                cookies: vec![vec![0; 100]; cookies],
                ntp: ServerName::new("127.0.0.1".into(), None),
            })
        });
        let resolver: Resolver = Arc::new(|_| Ok(Vec::new()));
        (NtsServer::with(name(), exchanger, Arc::default(), resolver), done)
    }

    #[test]
    fn keys_are_exchanged_when_needed_and_less_and_less_often() {
        let (mut source, done) = source(vec![Err("refused"), Err("refused"), Ok(8), Err("gone"), Ok(8)]);
        let (stop, mut counters) = (Stop::default(), SourceCounters::default());
        let mut prepare = |source: &mut NtsServer, s: i64| {
            let mut ask =
                Ask { source: 0, poll_interval: Span::from_secs(4), stop: &stop, counters: &mut counters };
            source.prepare(&mut ask, MonoTime::from_ns(0) + Span::from_secs(s))
        };
        let exchanges = || *done.lock().unwrap();
        assert_eq!(prepare(&mut source, 0), Err(Failure::Other("refused".into())));
        let waiting = prepare(&mut source, 4).unwrap_err();
        assert!(matches!(&waiting, Failure::Other(text) if text.contains("again in 7 s")), "{waiting:?}");
        assert!(prepare(&mut source, 10).is_err());
        assert!(prepare(&mut source, 29).is_err(), "the rest has doubled");
        assert_eq!(exchanges(), 2);
        assert!(prepare(&mut source, 30).is_ok());
        assert!(prepare(&mut source, 1000).is_ok());
        assert_eq!(exchanges(), 3, "with keys and cookies there is nothing to do");
        // A NAK: again, but the old cookies are used while that does not work.
        source.association.as_mut().unwrap().is_disowned = true;
        assert!(prepare(&mut source, 1000).is_ok());
        assert!(prepare(&mut source, 1001).is_ok());
        assert_eq!(exchanges(), 4);
        source.association.as_mut().unwrap().cookies.clear();
        assert!(prepare(&mut source, 1002).is_err());
        assert!(prepare(&mut source, 1100).is_ok());
        assert_eq!(exchanges(), 5);
        assert!(!source.association.as_ref().unwrap().is_disowned);
        assert_eq!((counters.key_exchanges, counters.key_exchanges_failed), (5, 3));
    }
}
