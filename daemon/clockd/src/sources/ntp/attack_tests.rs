//! A server that sends all kinds of wrong packets before the good answer: only counters may change.

use super::address::ServerName;
use super::claims::Claims;
use super::pool::{Pool, PoolMember};
use super::server::{NtpServer, Resolver, ask_plainly};
use crate::sources::{Ask, Failure, Source, SourceCounters};
use crate::stop::Stop;
use chronotick::os_clock::{boottime, realtime};
use chronotick_core::{Span, Timestamp};
use chronotick_discipline::Measurement;
use chronotick_ntp::packet::NtpTimestamp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// Makes the packets for one request.
type Script<'a> = dyn Fn(&[u8], Timestamp) -> Vec<Vec<u8>> + Send + Sync + 'a;

/// Answers `requests` requests on `socket` as the script says.
fn serve(socket: UdpSocket, requests: usize, script: &Script<'_>) {
    for _ in 0..requests {
        let mut request = [0; 512];
        let (length, client) = socket.recv_from(&mut request).unwrap();
        for packet in script(&request[..length], realtime()) {
            // The client closes its socket as soon as it has what it wants.
            let _ = socket.send_to(&packet, client);
        }
    }
}

/// The good answer.
fn answer(request: &[u8], now: Timestamp) -> Vec<u8> {
    let mut b = vec![0; 48];
    b[0] = 4 << 3 | 4;
    b[1] = 2;
    b[3] = -20i8 as u8;
    b[24..32].copy_from_slice(&request[40..48]);
    b[32..40].copy_from_slice(&NtpTimestamp::of(now).0.to_be_bytes());
    b[40..48].copy_from_slice(&NtpTimestamp::of(now).0.to_be_bytes());
    b
}

fn changed(request: &[u8], now: Timestamp, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut b = answer(request, now);
    change(&mut b);
    b
}

/// Asks a server with this script `times` times.
fn ask_against(script: &Script<'_>, times: usize) -> (Vec<Result<Measurement, Failure>>, SourceCounters) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, mut counters) = (Stop::default(), SourceCounters::default());
    let results = std::thread::scope(|s| {
        s.spawn(|| serve(socket, times, script));
        (0..times)
            .map(|_| {
                ask_plainly(
                    address,
                    &mut Ask {
                        source: 0,
                        poll_interval: Span::from_secs(4),
                        stop: &stop,
                        counters: &mut counters,
                    },
                )
            })
            .collect()
    });
    (results, counters)
}

#[test]
fn whatever_comes_before_the_good_answer_only_moves_counters() {
    let replayed: Mutex<Vec<Vec<u8>>> = Mutex::default();
    let script = |request: &[u8], now: Timestamp| {
        let with = |change: &dyn Fn(&mut Vec<u8>)| changed(request, now, change);
        let mut packets = vec![
            // Spoofed by somebody who does not see the request, and kisses of the same origin.
            with(&|b| b[24..32].copy_from_slice(b"nonsense")),
            with(&|b| {
                b[31] ^= 1;
                b[1] = 0;
                b[12..16].copy_from_slice(b"DENY");
            }),
            with(&|b| {
                b[24..32].fill(0);
                b[1] = 0;
                b[12..16].copy_from_slice(b"RATE");
            }),
            // Truncated, and empty.
            with(&|b| b.truncate(47)),
            Vec::new(),
            // Our own request, reflected; an answer of another version.
            request.to_vec(),
            with(&|b| b[0] = 1 << 3 | 4),
            // Absurd, by somebody who sees the request.
            with(&|b| b[8..12].copy_from_slice(&[0, 9, 0, 0])),
            with(&|b| b[4..8].fill(0xff)),
            with(&|b| b[32..40].fill(0)),
            with(&|b| b[40..48].fill(0)),
            with(&|b| b[40..48].copy_from_slice(&NtpTimestamp::of(now + Span::from_secs(9)).0.to_be_bytes())),
            with(&|b| b[40..48].copy_from_slice(&NtpTimestamp::of(now - Span::from_secs(9)).0.to_be_bytes())),
        ];
        let mut replayed = replayed.lock().unwrap();
        packets.extend(replayed.iter().cloned());
        packets.push(answer(request, now));
        *replayed = vec![answer(request, now)];
        packets
    };
    let (results, counters) = ask_against(&script, 3);
    for result in &results {
        let m = result.as_ref().unwrap();
        let theta = Span::from_ns(realtime().as_ns() - boottime().as_ns());
        assert!((m.theta - theta).abs() < Span::from_ms(500), "{m:?}");
        assert_eq!((m.stratum, m.root_dispersion, m.authenticated), (2, Span::ZERO, false));
    }
    // The driver counts what was accepted, and the kernel's times depend on the machine.
    assert!(counters.kernel_timestamps <= 3);
    let want = SourceCounters {
        sent: 3,
        received: 3 * 14 + 2,
        kernel_timestamps: counters.kernel_timestamps,
        absurd: 3 * 6,
        bogus_short: 3 * 2,
        bogus_mode: 3 * 2,
        bogus_origin: 3 * 3 + 2,
        ..SourceCounters::default()
    };
    assert_eq!(counters, want);
}

#[test]
fn the_kernels_receive_time_is_used_where_it_is_there() {
    let (results, counters) = ask_against(&|request, now| vec![answer(request, now)], 4);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    if cfg!(target_os = "linux") {
        assert!(counters.kernel_timestamps > 0, "{counters:?}");
    }
}

#[test]
fn an_answer_that_ends_the_exchange_is_counted_as_refused() {
    let check = |change: fn(&mut Vec<u8>), want: fn(&Failure) -> bool| {
        let (results, counters) = ask_against(&|request: &[u8], now| vec![changed(request, now, change)], 1);
        assert!(results[0].as_ref().is_err_and(want), "{results:?}");
        assert_eq!((counters.received, counters.refused), (1, 1));
    };
    check(|b| b[0] |= 3 << 6, |f| matches!(f, Failure::Other(t) if t.contains("leap alarm")));
    check(
        |b| {
            b[1] = 0;
            b[12..16].copy_from_slice(b"DENY");
        },
        |f| matches!(f, Failure::Denied(_)),
    );
    check(
        |b| {
            b[1] = 0;
            b[12..16].copy_from_slice(b"RATE");
        },
        |f| matches!(f, Failure::Rate(_)),
    );
}

#[test]
fn a_pool_asks_distinct_servers_and_replaces_a_silent_one() {
    // Four servers on one port of 127.0.0.1 to 127.0.0.4; the first is silent, and so is a fifth that is named.
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let address = move |n: u8| SocketAddr::new(IpAddr::from([127, 0, 0, n]), port);
    let sockets: Vec<UdpSocket> = (1..=4).map(|n| UdpSocket::bind(address(n)).unwrap()).collect();
    let resolver: Resolver = Arc::new(move |_| Ok((1..=4).map(address).collect()));
    let claims = Arc::new(Claims::default());
    let name = ServerName::parse(&format!("pool.example:{port}")).unwrap();
    let pool = Arc::new(Pool::new(name, resolver));
    let only_second: Resolver = Arc::new(move |_| Ok(vec![address(2)]));
    let mut named = NtpServer::new(ServerName::parse("two.example").unwrap(), claims.clone(), only_second);
    let mut members: Vec<PoolMember> =
        (1..=2).map(|n| PoolMember::new(pool.clone(), claims.clone(), n)).collect();
    let (stop, mut counters) = (Stop::default(), SourceCounters::default());
    let mut ask = |source: usize, what: &mut dyn Source| {
        what.measure(&mut Ask {
            source,
            poll_interval: Span::from_secs(4),
            stop: &stop,
            counters: &mut counters,
        })
    };
    std::thread::scope(|s| {
        let mut sockets = sockets.into_iter();
        let _silent = sockets.next();
        for socket in sockets {
            socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            s.spawn(move || {
                serve_until_quiet(&socket);
            });
        }
        assert!(ask(0, &mut named).is_ok());
        assert!(matches!(ask(1, &mut members[0]), Err(Failure::Other(t)) if t.contains("no answer")));
        assert_eq!(members[0].address(), Some(address(1).to_string()));
        assert!(members[0].move_on());
        assert!(ask(1, &mut members[0]).is_ok());
        assert!(ask(2, &mut members[1]).is_ok());
        let addresses = [members[0].address(), members[1].address()];
        assert_eq!(addresses, [Some(address(3).to_string()), Some(address(4).to_string())]);
    });
}

/// Answers until nobody asks for some seconds.
fn serve_until_quiet(socket: &UdpSocket) {
    let mut request = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut request) {
        let _ = socket.send_to(&answer(&request[..length], realtime()), client);
    }
}
