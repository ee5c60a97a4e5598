//! From the configuration to the list of sources: who is asked, in which order.

use super::Source;
use super::local::chrony::{ChronyAddress, ChronySource};
use super::local::kernel::KernelSource;
use super::local::phc::{Phc, PhcSettings};
use super::ntp::address::ServerName;
use super::ntp::claims::Claims;
use super::ntp::pool::{MEMBERS, Pool, PoolMember, member_name};
use super::ntp::server::{NtpServer, Resolver, system_resolver};
use super::nts::key_exchange::Tls;
use super::nts::server::NtsServer;
use crate::config::Settings;
use std::fmt;
use std::sync::Arc;

/// One source, before it is opened.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum SourceSpec {
    /// A server by its name.
    Server(ServerName),
    /// A member of a pool, by its number from 1.
    PoolMember(ServerName, usize),
    /// A server under NTS, by the name of its key exchange.
    Nts(ServerName),
    /// The system clock, when the kernel says that it is synchronized.
    Kernel,
    /// A hardware clock.
    Phc(PhcSettings),
    /// A chronyd on this machine.
    Chrony(ChronyAddress),
}

impl SourceSpec {
    /// What kind it is, in one word.
    pub(crate) fn mode(&self) -> &'static str {
        match self {
            Self::Server(_) => "server",
            Self::PoolMember(..) => "pool",
            Self::Nts(_) => "nts",
            Self::Kernel => "kernel",
            Self::Phc(_) => "phc",
            Self::Chrony(_) => "chrony",
        }
    }

    /// The name, with the kind where two kinds may share a name.
    pub(crate) fn described(&self) -> String {
        match self {
            Self::PoolMember(..) | Self::Nts(_) | Self::Phc(_) => format!("{} {self}", self.mode()),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(name) | Self::Nts(name) => write!(f, "{name}"),
            Self::Kernel => write!(f, "kernel"),
            Self::Phc(settings) => write!(f, "{}", settings.path.display()),
            Self::Chrony(address) => write!(f, "{address}"),
            Self::PoolMember(pool, number) => write!(f, "{}", member_name(pool, *number)),
        }
    }
}

impl Settings {
    /// All sources. A pool has a fixed number of places, since the discipline must know the number at the start.
    pub(crate) fn sources(&self) -> Vec<SourceSpec> {
        let servers = self.servers.iter().cloned().map(SourceSpec::Server);
        let members = self
            .pools
            .iter()
            .flat_map(|pool| (1..=MEMBERS).map(|number| SourceSpec::PoolMember(pool.clone(), number)));
        let nts = self.nts_servers.iter().cloned().map(SourceSpec::Nts);
        let kernel = self.kernel.then_some(SourceSpec::Kernel);
        let phc = self.phc.clone().map(SourceSpec::Phc);
        let chrony = self.chrony.clone().map(SourceSpec::Chrony);
        servers.chain(nts).chain(kernel).chain(phc).chain(chrony).chain(members).collect()
    }

    /// What the daemon does with this configuration, in one line. A pool is named once.
    pub(crate) fn summary(&self) -> String {
        let sources = self.sources();
        let fixed = sources.iter().filter(|s| !matches!(s, SourceSpec::PoolMember(..)));
        let pools = self.pools.iter().map(|name| format!("pool {name}"));
        let names: Vec<String> = fixed.map(SourceSpec::described).chain(pools).collect();
        let serving = self.serve.map_or(String::new(), |address| format!(", serving NTP at {address}"));
        format!("{} at {} Hz (sources: {}){serving}", self.page.display(), self.rate_hz, names.join(", "))
    }

    /// The same, ready to be asked. The error is for the user.
    pub(crate) fn open_sources(&self) -> Result<Vec<Box<dyn Source>>, String> {
        let claims = Arc::new(Claims::default());
        let resolver: Resolver = system_resolver();
        let tls =
            if self.nts_servers.is_empty() { None } else { Some(Tls::new(self.nts_ca_file.as_deref())?) };
        let mut pool: Option<(ServerName, Arc<Pool>)> = None;
        let open = |spec| -> Result<Box<dyn Source>, String> {
            Ok(match spec {
                SourceSpec::Server(name) => Box::new(NtpServer::new(name, claims.clone(), resolver.clone())),
                SourceSpec::Nts(name) => {
                    let tls = tls.clone().ok_or("NTS is not set up")?;
                    Box::new(NtsServer::new(name, tls, claims.clone(), resolver.clone()))
                }
                SourceSpec::Kernel => Box::new(KernelSource),
                SourceSpec::Phc(settings) => Box::new(Phc::new(settings)),
                SourceSpec::Chrony(address) => Box::new(ChronySource::new(address)),
                SourceSpec::PoolMember(name, number) => {
                    // The members of a pool follow each other.
                    let shared = match &pool {
                        Some((of, shared)) if *of == name => shared.clone(),
                        _ => Arc::new(Pool::new(name.clone(), resolver.clone())),
                    };
                    pool = Some((name, shared.clone()));
                    Box::new(PoolMember::new(shared, claims.clone(), number))
                }
            })
        };
        self.sources().into_iter().map(open).collect()
    }
}
