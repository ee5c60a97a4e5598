//! A UDP relay on loopback that delays, loses and detours packets by known distributions, as a network would.
//!
//! A packet's delay counts from its arrival in the kernel, so that a late wake-up of the relay does not add to it. The
//! relay sleeps until shortly before a packet is due and spins for the rest; how late it then was, it tells. A packet may
//! overtake another, as the draws have it.

mod traffic;
mod way;

pub use way::{Detour, Tail, Way};

use chronotick_core::Span;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a relay does to packets.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct RelayConfig {
    /// From the clients to the server.
    pub out: Way,
    /// From the server to the clients.
    pub back: Way,
    /// Added to the times in the server's NTP answers: to the clients, its clock is off by this much.
    pub shift: Span,
    /// Of the random numbers.
    pub seed: u64,
}

/// A running relay; ends when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    lost: AtomicU64,
    lateness_ns: Mutex<Vec<i64>>,
}

impl Relay {
    /// Starts a relay on a free port of 127.0.0.1 to the server at `server`.
    pub fn start(server: SocketAddr, config: RelayConfig) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared::default());
        let mut traffic = traffic::Traffic::new(socket, server, config, shared.clone())?;
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(move || traffic.run())?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How late each packet so far was sent on, against its arrival plus its delay; sorted.
    pub fn lateness_ns(&self) -> Vec<i64> {
        let mut all = self.shared.lateness_ns.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_unstable();
        all
    }

    /// How many packets were dropped because the configuration says so.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the relay has been printed; its clients miss their answers.
            let _ = thread.join();
        }
    }
}
