//! The thread of a relay: its sockets, and the packets that are under way.

use super::{RelayConfig, Shared, Way};
use crate::Random;
use chronotick::os_clock::{boottime, realtime};
use chronotick_core::{MonoTime, Span, Timestamp};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// So long before a packet is due does the relay stop sleeping and spin.
const SPIN: Span = Span::from_us(100);
/// So often does it look whether it is to stop.
const STOP_EVERY: Span = Span::from_ms(100);
/// NTP clients take a new port for each request: so long after its last packet is a client forgotten.
const FORGET_AFTER: Span = Span::from_secs(10);
const MAX_PACKET: usize = 2048;

/// A client and the socket that stands for it at the server.
struct Client {
    address: SocketAddr,
    upstream: UdpSocket,
    last: MonoTime,
}

/// A packet that is under way. The order is that of the heap: by when it is due, then by arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: MonoTime,
    number: u64,
    client: u64,
    is_out: bool,
    bytes: Vec<u8>,
}

pub(super) struct Traffic {
    socket: UdpSocket,
    server: SocketAddr,
    config: RelayConfig,
    random: Random,
    shared: Arc<Shared>,
    clients: BTreeMap<u64, Client>,
    by_address: HashMap<SocketAddr, u64>,
    under_way: BinaryHeap<Reverse<Packet>>,
    numbered: u64,
}

impl Traffic {
    pub(super) fn new(
        socket: UdpSocket,
        server: SocketAddr,
        config: RelayConfig,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        prepare(&socket)?;
        Ok(Self {
            socket,
            server,
            config,
            random: Random::from_seed(config.seed),
            shared,
            clients: BTreeMap::new(),
            by_address: HashMap::new(),
            under_way: BinaryHeap::new(),
            numbered: 0,
        })
    }

    pub(super) fn run(&mut self) {
        // The default of 50 us is the kernel's leave to wake us late; without it we are only less exact.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.send_due();
            let now = boottime();
            self.forget(now);
            let next = self.under_way.peek().map_or(STOP_EVERY, |p| p.0.due - now - SPIN);
            self.wait(next.min(STOP_EVERY).max(Span::ZERO));
        }
    }

    /// Sends what is due now or within the spin.
    fn send_due(&mut self) {
        while self.under_way.peek().is_some_and(|p| p.0.due - boottime() <= SPIN) {
            let Some(Reverse(packet)) = self.under_way.pop() else { return };
            let Some(client) = self.clients.get_mut(&packet.client) else { continue };
            while boottime() < packet.due {
                std::hint::spin_loop();
            }
            client.last = boottime();
            let lateness = client.last - packet.due;
            self.shared.lateness_ns.lock().unwrap_or_else(PoisonError::into_inner).push(lateness.as_ns());
            // A client that has closed its socket, or a server that is gone, is a packet lost.
            let _ = match packet.is_out {
                true => client.upstream.send(&packet.bytes),
                false => self.socket.send_to(&packet.bytes, client.address),
            };
        }
    }

    fn forget(&mut self, now: MonoTime) {
        let is_old = |client: &Client| now - client.last > FORGET_AFTER;
        self.clients.retain(|_, client| !is_old(client));
        let clients = &self.clients;
        self.by_address.retain(|_, id| clients.contains_key(id));
    }

    /// Waits for packets, at most so long, and takes them all.
    fn wait(&mut self, at_most: Span) {
        let ids: Vec<u64> = self.clients.keys().copied().collect();
        let sockets = std::iter::once(&self.socket).chain(self.clients.values().map(|c| &c.upstream));
        let mut watched: Vec<PollFd<'_>> = sockets.map(|s| PollFd::new(s, PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: 0, tv_nsec: at_most.as_ns() };
        // Interrupted by a signal: the next round waits again.
        if poll(&mut watched, Some(&timeout)).is_err() {
            return;
        }
        let ready: Vec<bool> = watched.iter().map(|w| !w.revents().is_empty()).collect();
        drop(watched);
        if ready[0] {
            while let Some((bytes, arrived, Some(from))) = receive(&self.socket) {
                match self.client(from) {
                    Ok(id) => self.accept(id, true, bytes, arrived),
                    // Out of sockets: the packet is lost.
                    Err(_) => continue,
                }
            }
        }
        for (id, _) in ids.into_iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            while let Some((mut bytes, arrived, _)) = self.clients.get(&id).and_then(|c| receive(&c.upstream))
            {
                shift_answer(&mut bytes, self.config.shift);
                self.accept(id, false, bytes, arrived);
            }
        }
    }

    fn client(&mut self, address: SocketAddr) -> io::Result<u64> {
        if let Some(id) = self.by_address.get(&address) {
            return Ok(*id);
        }
        let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        upstream.connect(self.server)?;
        prepare(&upstream)?;
        self.numbered += 1;
        self.clients.insert(self.numbered, Client { address, upstream, last: boottime() });
        self.by_address.insert(address, self.numbered);
        Ok(self.numbered)
    }

    fn accept(&mut self, client: u64, is_out: bool, bytes: Vec<u8>, arrived: MonoTime) {
        let way: &Way = if is_out { &self.config.out } else { &self.config.back };
        let Some(delay) = way.draw(&mut self.random) else {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if let Some(client) = self.clients.get_mut(&client) {
            client.last = client.last.max(arrived + delay);
        }
        self.numbered += 1;
        self.under_way.push(Reverse(Packet {
            due: arrived + delay,
            number: self.numbered,
            client,
            is_out,
            bytes,
        }));
    }
}

fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(())
}

/// One packet, when it arrived, and from whom; nothing when there is none. A connected socket tells no sender.
fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, MonoTime, Option<SocketAddr>)> {
    let mut bytes = vec![0; MAX_PACKET];
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    // An error other than "would block" is that of an earlier send, told late: that packet is lost.
    let message =
        recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()).ok()?;
    let stamp = message.cmsgs().ok()?.find_map(|c| match c {
        ControlMessageOwned::ScmTimestampns(at) => Some(at),
        _ => None,
    });
    let (length, from) = (message.bytes, message.address);
    let arrived = stamp.map_or_else(boottime, |at| {
        let at = Timestamp::from_ns(at.tv_sec() * 1_000_000_000 + at.tv_nsec());
        // A clock that was stepped since is no reason to hold a packet for an hour.
        let age = (realtime() - at).max(Span::ZERO).min(Span::from_secs(1));
        boottime() - age
    });
    bytes.truncate(length);
    Some((bytes, arrived, from.map(|a| SocketAddr::V4(SocketAddrV4::new(a.ip(), a.port())))))
}

/// Moves the reference, receive and transmit times of an NTP server's answer.
fn shift_answer(bytes: &mut [u8], shift: Span) {
    const SERVER_MODE: u8 = 4;
    if shift == Span::ZERO || bytes.len() < 48 || bytes[0] & 7 != SERVER_MODE {
        return;
    }
    // Seconds and their fraction in 2^-32: two's complement makes a negative shift come out right.
    let units = ((i128::from(shift.as_ns()) << 32) / 1_000_000_000) as u64;
    for at in [16, 32, 40] {
        let mut field = [0; 8];
        field.copy_from_slice(&bytes[at..at + 8]);
        let time = u64::from_be_bytes(field);
        // Zero is "unknown".
        if time != 0 {
            bytes[at..at + 8].copy_from_slice(&time.wrapping_add(units).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;
    use crate::relay::{Detour, Relay};
    use std::time::Duration;

    /// Sends back whatever it gets, until the test ends.
    fn echo() -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; MAX_PACKET];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..length], from);
            }
        });
        address
    }

    fn client(relay: &Relay) -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(relay.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket
    }

    /// How long one packet was on its way to the server and back.
    fn round_trip(socket: &UdpSocket, bytes: &[u8]) -> Span {
        let mut answer = [0; MAX_PACKET];
        let sent = boottime();
        socket.send(bytes).unwrap();
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], bytes);
        boottime() - sent
    }

    #[test]
    fn no_packet_is_faster_than_its_two_ways_and_lateness_is_told() {
        let ms = Span::from_ms;
        let config = RelayConfig {
            out: Way::new(ms(2), Span::ZERO),
            back: Way::new(ms(5), Span::ZERO),
            ..RelayConfig::default()
        };
        let relay = Relay::start(echo(), config).unwrap();
        let socket = client(&relay);
        for i in 0..10 {
            let took = round_trip(&socket, &[i; 60]);
            assert!(took >= ms(7), "packet {i} was back after {took}");
        }
        let lateness = relay.lateness_ns();
        assert_eq!(lateness.len(), 20);
        assert!(lateness[0] >= 0, "sent before it was due: {lateness:?}");
    }

    #[test]
    fn each_client_gets_its_own_answers() {
        let relay = Relay::start(echo(), RelayConfig::default()).unwrap();
        let clients: Vec<UdpSocket> = (0..8).map(|_| client(&relay)).collect();
        for (i, socket) in clients.iter().enumerate() {
            socket.send(&[i as u8; 48]).unwrap();
        }
        for (i, socket) in clients.iter().enumerate().rev() {
            let mut answer = [0; MAX_PACKET];
            assert_eq!(socket.recv(&mut answer).unwrap(), 48);
            assert_eq!(answer[..48], [i as u8; 48]);
        }
    }

    #[test]
    fn loss_and_detour_are_those_of_their_way() {
        let detour = Some(Detour { part: 1.0, extra: Span::from_ms(4) });
        let config = RelayConfig {
            out: Way { detour, ..Way::default() },
            back: Way { loss: 0.5, ..Way::default() },
            seed: 3,
            ..RelayConfig::default()
        };
        let relay = Relay::start(echo(), config).unwrap();
        let socket = client(&relay);
        (0..40).for_each(|i| assert_eq!(socket.send(&[i; 48]).unwrap(), 48));
        // What is not lost on the way back comes; what is lost is counted. Together it is all that went out.
        let mut seen = 0;
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        eventually("all packets", || {
            seen += u64::from(socket.recv(&mut [0; MAX_PACKET]).is_ok());
            (seen + relay.lost() == 40).then_some(())
        });
        assert!((10..=30).contains(&relay.lost()), "{} of 40 were lost", relay.lost());
    }

    #[test]
    fn the_times_of_an_answer_are_shifted_and_nothing_else() {
        let check = |shift: Span, mode: u8, time: u64, expected: u64| {
            let mut bytes = [9; 60];
            bytes[0] = 4 << 3 | mode;
            for at in [16, 24, 32, 40] {
                bytes[at..at + 8].copy_from_slice(&time.to_be_bytes());
            }
            let before = bytes;
            shift_answer(&mut bytes, shift);
            for at in [16, 32, 40] {
                assert_eq!(bytes[at..at + 8], expected.to_be_bytes(), "{shift} at {at}");
                bytes[at..at + 8].copy_from_slice(&time.to_be_bytes());
            }
            assert_eq!(bytes, before);
        };
        let second = 1 << 32;
        check(Span::from_ms(500), 4, 7 * second, 7 * second + second / 2);
        check(Span::from_secs(-2), 4, 7 * second, 5 * second);
        check(Span::ZERO, 4, 7 * second, 7 * second);
        check(Span::from_secs(1), 4, 0, 0);
        check(Span::from_secs(1), 3, 7 * second, 7 * second);
        shift_answer(&mut [4; 20], Span::from_secs(1));
    }
}
