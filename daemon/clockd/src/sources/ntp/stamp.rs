//! Datagrams with the time at which the kernel received them.

use chronotick_core::{MonoTime, Span, Timestamp};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Room for control messages: a timestamp takes 32 bytes. Of u64, so that a header is aligned.
const CONTROL_WORDS: usize = 16;

/// One datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Datagram {
    /// How many bytes of the buffer it fills.
    pub(crate) length: usize,
    /// Who sent it; `None` when the family is unknown.
    pub(crate) from: Option<SocketAddr>,
    /// When the kernel received it, on the system clock; `None` when it does not say.
    pub(crate) received: Option<Timestamp>,
}

/// Asks the kernel to note when datagrams arrive. A kernel that cannot is no loss: then there is no such time.
pub(crate) fn enable(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, as `socket` is borrowed; the pointer and the length are those of a live c_int.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

/// Receives one datagram; a longer one is cut to `bytes`. The read timeout of the socket holds.
pub(crate) fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> io::Result<Datagram> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is made of integers and pointers only, for which all zeros is a value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // The type of the length differs between C libraries.
    message.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
    // SAFETY: the descriptor is open; each pointer in `message` points to a live buffer of the length given beside it.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, and whatever of it the kernel has written since is a value of plain integers.
    let name = unsafe { name.assume_init() };
    Ok(Datagram { length: length as usize, from: address(&name), received: timestamp(&message) })
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is large enough and aligned for every address, and the family says which one it is.
            let v4 = unsafe { *(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { *(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddr::V6(std::net::SocketAddrV6::new(
                ip,
                u16::from_be(v6.sin6_port),
                v6.sin6_flowinfo,
                v6.sin6_scope_id,
            )))
        }
        _ => None,
    }
}

fn timestamp(message: &libc::msghdr) -> Option<Timestamp> {
    // SAFETY: `message` was filled in by recvmsg, and its control buffer is alive in the caller.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a whole header in the control buffer, which is aligned for it.
        let fixed = unsafe { &*header };
        let (level, kind, length) = (fixed.cmsg_level, fixed.cmsg_type, fixed.cmsg_len as usize);
        // SAFETY: arithmetic only.
        let wanted = unsafe { libc::CMSG_LEN(size_of::<libc::timespec>() as u32) } as usize;
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) && length >= wanted {
            // SAFETY: the header is valid, so its data begins there.
            let data = unsafe { libc::CMSG_DATA(header) };
            // SAFETY: the length says that a whole timespec follows; it may be unaligned.
            let t = unsafe { data.cast::<libc::timespec>().read_unaligned() };
            return Some(Timestamp::from_ns(t.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec)));
        }
        // SAFETY: `header` came from CMSG_FIRSTHDR or CMSG_NXTHDR of this message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// The system clock and the boot clock at one moment, with the error of the pairing.
pub(crate) type Pair = (Timestamp, MonoTime, Span);

/// Brings the kernel's receive time to the boot clock by the pair `after`, taken right after receiving.
///
/// `None` when it cannot be trusted: it does not lie between sending and receiving, or the system clock was set since the
/// pair `before`, taken before sending. The two clocks run at one rate, so their difference only changes by setting.
/// The error of the pairing is added: the delay comes out a little too long, never too short.
pub(crate) fn kernel_receive(
    stamp: Timestamp,
    before: Pair,
    after: Pair,
    sent: MonoTime,
    received: MonoTime,
) -> Option<MonoTime> {
    let difference = |p: Pair| p.0.as_ns().saturating_sub(p.1.as_ns());
    let moved = Span::from_ns(difference(after).saturating_sub(difference(before))).abs();
    // 100 ns for the steps in which both clocks are read.
    if moved > before.2 + after.2 + Span::from_ns(100) {
        return None;
    }
    let at = after.1 - (after.0 - stamp) + after.2;
    (sent <= at && at <= received).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick::os_clock::{boottime, realtime, realtime_boottime_pair};

    #[test]
    fn a_datagram_comes_with_its_sender_and_its_time() {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let Ok(receiver) = UdpSocket::bind((ip, 0)) else {
                println!("skipped {ip}: no such network here");
                continue;
            };
            let sender = UdpSocket::bind((ip, 0)).unwrap();
            enable(&receiver);
            let before = realtime();
            sender.send_to(b"abcdef", receiver.local_addr().unwrap()).unwrap();
            let mut bytes = [0; 4];
            let d = receive(&receiver, &mut bytes).unwrap();
            let after = realtime();
            assert_eq!((d.length, &bytes, d.from), (4, b"abcd", Some(sender.local_addr().unwrap())));
            let at = d.received.unwrap();
            assert!(before <= at && at <= after, "{before:?} {at:?} {after:?}");
        }
    }

    #[test]
    fn without_being_asked_the_kernel_notes_no_time() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.send_to(b"a", socket.local_addr().unwrap()).unwrap();
        assert_eq!(receive(&socket, &mut [0; 4]).unwrap().received, None);
    }

    #[test]
    fn a_timeout_is_an_error() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
        assert_eq!(receive(&socket, &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn only_a_plausible_time_is_used() {
        let pair = |real: i64, boot: i64, error: i64| {
            (Timestamp::from_ns(real), MonoTime::from_ns(boot), Span::from_ns(error))
        };
        let check = |stamp: i64, before: Pair, after: Pair, want: Option<i64>| {
            let (sent, received) = (MonoTime::from_ns(1_000), MonoTime::from_ns(9_000));
            let got = kernel_receive(Timestamp::from_ns(stamp), before, after, sent, received);
            assert_eq!(got.map(MonoTime::as_ns), want, "{stamp} {before:?} {after:?}");
        };
        let before = pair(500_000, 500, 20);
        check(507_500, before, pair(509_100, 9_600, 30), Some(8_030));
        // Before sending, and after receiving.
        check(500_400, before, pair(509_100, 9_600, 30), None);
        check(508_900, before, pair(509_100, 9_600, 30), None);
        // Reading errors are no step; a step of 1 us is one.
        check(507_500, before, pair(509_200, 9_600, 30), Some(7_930));
        check(507_500, before, pair(510_100, 9_600, 30), None);
        check(i64::MIN, before, pair(i64::MAX, 9_600, 30), None);
    }

    #[test]
    fn real_clocks_agree() {
        let before = realtime_boottime_pair();
        let sent = boottime();
        let stamp = realtime();
        let received = boottime() + Span::from_ns(50_000);
        let after = realtime_boottime_pair();
        let at = kernel_receive(stamp, before, after, sent - Span::from_ns(50_000), received);
        assert!(at.is_some(), "{stamp:?} {before:?} {after:?}");
    }
}
