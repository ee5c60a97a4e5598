//! A small NTP server on loopback that lies about the time by a known offset and rate.

use chronotick::os_clock::realtime;
use chronotick_core::{Span, Timestamp};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Seconds from 1900 to 1970.
const UNIX_EPOCH_S: i64 = 2_208_988_800;

/// What the server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Behaviour {
    /// A proper answer (with the lie in it).
    #[default]
    Answer,
    /// A kiss-o'-death with this code, such as `*b"DENY"` or `*b"RATE"`.
    KissOfDeath([u8; 4]),
    /// Leap indicator 3: not synchronized.
    LeapAlarm,
    /// Stratum 16: not synchronized.
    Stratum16,
    /// An origin timestamp that is not the request's.
    WrongOrigin,
    /// No answer at all.
    Silence,
    /// A root dispersion of 3 s.
    LargeRootDispersion,
}

/// What the server believes the time is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LiarConfig {
    /// Its time minus the system clock, at its start.
    pub offset_ns: i64,
    /// How fast that offset grows, in parts per billion.
    pub rate_ppb: i64,
    /// What it answers; may be changed while it runs.
    pub behaviour: Behaviour,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct NtpLiar {
    address: SocketAddr,
    lie: Lie,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    served: AtomicU64,
    stop: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Lie {
    config: LiarConfig,
    started: Timestamp,
}

impl Lie {
    fn time(&self, system: Timestamp) -> Timestamp {
        let elapsed = i128::from((system - self.started).as_ns());
        let drift_ns = elapsed * i128::from(self.config.rate_ppb) / 1_000_000_000;
        system + Span::from_ns(self.config.offset_ns) + Span::from_ns(drift_ns as i64)
    }
}

impl NtpLiar {
    /// Starts a server on a free port of 127.0.0.1.
    pub fn start(config: LiarConfig) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        // Only so that the thread looks at `stop` now and then.
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let address = socket.local_addr()?;
        let lie = Lie { config, started: realtime() };
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(config.behaviour),
            served: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let in_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("ntp-liar".to_owned())
            .spawn(move || serve(&socket, lie, &in_thread))?;
        Ok(Self { address, lie, shared, thread: Some(thread) })
    }

    /// Where it listens, as `--server` takes it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many requests arrived.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }

    /// The time it tells when the system clock reads `realtime_now`: the truth, for its clients.
    pub fn true_time(&self, realtime_now: Timestamp) -> Timestamp {
        self.lie.time(realtime_now)
    }

    /// Changes what it answers from the next request on.
    pub fn set(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }
}

impl Drop for NtpLiar {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed; the test fails for want of answers.
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, lie: Lie, shared: &Shared) {
    let mut request = [0; 512];
    while !shared.stop.load(Ordering::SeqCst) {
        // Errors are the timeout, or a client that closed its socket before our answer.
        let Ok((length, client)) = socket.recv_from(&mut request) else { continue };
        let received = lie.time(realtime());
        if length < 48 {
            continue;
        }
        shared.served.fetch_add(1, Ordering::SeqCst);
        let behaviour = *shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut answer) = answer(&request[..48], behaviour, received) else { continue };
        answer[40..48].copy_from_slice(&ntp(lie.time(realtime())));
        // The client may be gone; then nobody misses the answer.
        let _ = socket.send_to(&answer, client);
    }
}

/// The answer but for its transmit timestamp, which is taken last.
fn answer(request: &[u8], behaviour: Behaviour, received: Timestamp) -> Option<[u8; 48]> {
    let mut b = [0; 48];
    b[0] = 4 << 3 | 4;
    b[1] = 1;
    b[2] = request[2];
    // 2^-20 s.
    b[3] = 0xec;
    b[12..16].copy_from_slice(b"LIAR");
    b[16..24].copy_from_slice(&ntp(received));
    b[24..32].copy_from_slice(&request[40..48]);
    b[32..40].copy_from_slice(&ntp(received));
    match behaviour {
        Behaviour::Answer => {}
        Behaviour::Silence => return None,
        Behaviour::KissOfDeath(code) => {
            b[1] = 0;
            b[12..16].copy_from_slice(&code);
        }
        Behaviour::LeapAlarm => b[0] |= 3 << 6,
        Behaviour::Stratum16 => b[1] = 16,
        Behaviour::WrongOrigin => b[31] ^= 0x5a,
        Behaviour::LargeRootDispersion => b[8..12].copy_from_slice(&(3u32 << 16).to_be_bytes()),
    }
    Some(b)
}

/// As NTP writes it: seconds since 1900, which wrap in 2036, and their fraction.
fn ntp(t: Timestamp) -> [u8; 8] {
    let seconds = t.as_ns().div_euclid(1_000_000_000) + UNIX_EPOCH_S;
    let fraction = ((t.as_ns().rem_euclid(1_000_000_000) as u64) << 32) / 1_000_000_000;
    ((seconds as u64) << 32 | fraction).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lie_grows_at_its_rate() {
        let config = LiarConfig { offset_ns: 5_000, rate_ppb: -2_000, ..LiarConfig::default() };
        let lie = Lie { config, started: Timestamp::from_secs(1_000) };
        let at = Timestamp::from_secs(1_010);
        assert_eq!((lie.time(at) - at).as_ns(), 5_000 - 20_000);
    }

    #[test]
    fn it_answers_with_the_request_as_origin() {
        let liar = NtpLiar::start(LiarConfig::default()).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut request = [0u8; 48];
        request[0] = 4 << 3 | 3;
        request[40..48].copy_from_slice(b"nonsense");
        socket.send_to(&request, liar.address()).unwrap();
        let mut b = [0; 64];
        assert_eq!(socket.recv(&mut b).unwrap(), 48);
        assert_eq!((b[0], b[1], &b[24..32]), (0x24, 1, &b"nonsense"[..]));
        assert_eq!(liar.served(), 1);
    }
}
