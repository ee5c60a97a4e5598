//! The source that asks one server by its name.

use super::address::ServerName;
use super::claims::Claims;
use super::transport::{self, nonce};
use crate::log;
use crate::sources::{Ask, Failure, Source};
use chronotick_discipline::Measurement;
use chronotick_ntp::exchange::evaluate;
use chronotick_ntp::packet::Packet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

/// Finds the addresses of a name; replaced in tests.
pub(crate) type Resolver = Arc<dyn Fn(&ServerName) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The resolver of this machine.
pub(crate) fn system_resolver() -> Resolver {
    Arc::new(|name| Ok((name.host.as_str(), name.port).to_socket_addrs()?.collect()))
}

/// One plain exchange with `address`.
pub(crate) fn ask_plainly(address: SocketAddr, ask: &mut Ask<'_>) -> Result<Measurement, Failure> {
    let nonce = nonce()?;
    let (source, poll) = (ask.source, ask.poll_interval);
    transport::exchange(address, &Packet::request(nonce), nonce, ask, |exchange, bytes| {
        evaluate(exchange, bytes, source, poll)
    })
}

/// The addresses of one name, of which one is in use.
pub(crate) struct Addresses {
    name: ServerName,
    resolver: Resolver,
    known: Vec<SocketAddr>,
    turn: usize,
    is_stale: bool,
}

impl Addresses {
    /// Nothing is looked up yet.
    pub(crate) fn new(name: ServerName, resolver: Resolver) -> Self {
        Self { name, resolver, known: Vec::new(), turn: 0, is_stale: true }
    }

    /// What the user called it.
    pub(crate) fn name(&self) -> &ServerName {
        &self.name
    }

    /// The address in use.
    pub(crate) fn current(&self) -> Option<SocketAddr> {
        self.known.get(self.turn % self.known.len().max(1)).copied()
    }

    /// The address to ask; looks the name up where that is due. A failed look-up keeps the old addresses.
    pub(crate) fn get(&mut self) -> Result<SocketAddr, Failure> {
        if self.is_stale {
            match (self.resolver)(&self.name) {
                Ok(found) if !found.is_empty() => {
                    self.known = found;
                    self.is_stale = false;
                }
                Ok(_) => {}
                Err(e) => log::debug(format_args!("{}: {e}", self.name)),
            }
        }
        self.current().ok_or_else(|| Failure::Other(format!("cannot find the address of {}", self.name)))
    }

    /// The next address, after the name was looked up again.
    pub(crate) fn advance(&mut self) {
        if !self.known.is_empty() {
            self.turn = self.turn.wrapping_add(1);
        }
        self.is_stale = true;
    }
}

/// See the module.
pub(crate) struct NtpServer {
    addresses: Addresses,
    claims: Arc<Claims>,
    said_twice: bool,
}

impl NtpServer {
    /// A source that asks `name`.
    pub(crate) fn new(name: ServerName, claims: Arc<Claims>, resolver: Resolver) -> Self {
        Self { addresses: Addresses::new(name, resolver), claims, said_twice: false }
    }
}

impl Source for NtpServer {
    fn name(&self) -> String {
        self.addresses.name().to_string()
    }

    fn address(&self) -> Option<String> {
        self.addresses.current().map(|a| a.to_string())
    }

    fn is_authenticated(&self) -> bool {
        false
    }

    fn reference_id(&self) -> [u8; 4] {
        self.addresses.current().map_or([0; 4], |a| transport::reference_id(a.ip()))
    }

    fn measure(&mut self, ask: &mut Ask<'_>) -> Result<Measurement, Failure> {
        let address = self.addresses.get()?;
        if !self.claims.name(ask.source, address) && !self.said_twice {
            self.said_twice = true;
            log::warn(format_args!(
                "{}: another server of the configuration has the same address {address}: it has two votes; name \
                 different servers",
                self.addresses.name()
            ));
        }
        ask_plainly(address, ask)
    }

    /// The next address of the name. A name that refuses us has no other way, whatever its addresses.
    fn move_on(&mut self) -> bool {
        self.addresses.advance();
        false
    }
}
