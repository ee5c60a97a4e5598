//! A real `chronyd` as a client that measures, and leaves the clock alone.

use crate::{Chronyd, eventually, free_port, pause};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A running client; killed when dropped.
#[derive(Debug)]
pub struct ChronydClient {
    chronyd: Chronyd,
    commands: UdpSocket,
}

/// What it says of the clock, as `chronyc tracking` shows it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tracking {
    /// Its estimate of true time minus the system clock, in seconds: *System time*, which `chronyc` calls slow when it
    /// is positive. With `-x` nothing is ever taken off it by a correction of the clock, so it is the whole offset.
    pub offset_s: f64,
    /// Root delay in seconds.
    pub root_delay_s: f64,
    /// Root dispersion in seconds.
    pub root_dispersion_s: f64,
}

impl ChronydClient {
    /// What `chronyd --version` calls itself, as `4.3`.
    pub fn version() -> Option<String> {
        let output = Command::new(Chronyd::find()?).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.split_once("version ")?.1.split_whitespace().next().map(str::to_owned)
    }

    /// Starts a client of `server`; `options` are those of its directive `server`, as `minpoll 0 maxpoll 0`. `None`
    /// where chronyd is not installed.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(directory: &Path, server: SocketAddr, options: &str) -> Option<Self> {
        let command_port = free_port();
        // The first `bindcmdaddress` turns the Unix socket off, which would be the machine's own.
        let config = format!(
            "port 0\nserver {} port {} {options}\ncmdport {command_port}\nbindcmdaddress /\n\
             bindcmdaddress 127.0.0.1\n",
            server.ip(),
            server.port()
        );
        let chronyd = Chronyd::start(directory, 0, &config)?;
        let commands = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        commands.connect((Ipv4Addr::LOCALHOST, command_port)).expect("loopback");
        commands.set_read_timeout(Some(Duration::from_millis(500))).expect("not zero");
        let client = Self { chronyd, commands };
        eventually(&format!("chronyd to take commands (its log is in {})", directory.display()), || {
            client.tracking().ok()
        });
        Some(client)
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.chronyd.pid()
    }

    /// Where it takes the commands of `chronyc`.
    pub fn command_port(&self) -> Option<u16> {
        self.commands.peer_addr().ok().map(|a| a.port())
    }

    /// What it says of the clock now; nothing before it has selected a source.
    ///
    /// # Errors
    /// When it does not answer, or not as version 4 does.
    pub fn tracking(&self) -> io::Result<Option<Tracking>> {
        // Late answers of an earlier question.
        self.commands.set_nonblocking(true)?;
        while self.commands.recv(&mut [0; wire::LENGTH]).is_ok() {}
        self.commands.set_nonblocking(false)?;
        if let Err(e) = self.commands.send(&wire::request()) {
            // It does not listen yet: whoever waits for it shall not spin.
            pause(Duration::from_millis(10));
            return Err(e);
        }
        let mut answer = [0; 512];
        let length = self.commands.recv(&mut answer)?;
        wire::tracking(&answer[..length])
            .ok_or_else(|| io::Error::other("the answer of chronyd is not one of version 4 to `tracking`"))
    }
}

/// The question `tracking` of the command protocol, version 6, as chrony 4 speaks it.
mod wire {
    use super::Tracking;

    /// Of the question, padded, and of the answer.
    pub(super) const LENGTH: usize = 104;
    const VERSION: u8 = 6;
    const REQUEST: u8 = 1;
    const REPLY: u8 = 2;
    const COMMAND_TRACKING: u8 = 33;
    const REPLY_TRACKING: u8 = 5;

    pub(super) fn request() -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        (bytes[0], bytes[1], bytes[5]) = (VERSION, REQUEST, COMMAND_TRACKING);
        bytes
    }

    /// The answer: nothing when it is no good one, and nothing in it when there is no reference.
    pub(super) fn tracking(answer: &[u8]) -> Option<Option<Tracking>> {
        let head = [answer.first()?, answer.get(1)?, answer.get(5)?, answer.get(7)?];
        if answer.len() < LENGTH || head != [&VERSION, &REPLY, &COMMAND_TRACKING, &REPLY_TRACKING] {
            return None;
        }
        // A status other than zero is a refusal.
        if answer[8..10] != [0, 0] {
            return None;
        }
        // The head takes 28 bytes, the reference id 4, its address 20, stratum and leap 4, the reference time 12.
        let has_reference = answer[28..32] != [0; 4] && answer[54..56] != [0, 3];
        let value = |index: usize| {
            let at = 68 + 4 * index;
            float(u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]))
        };
        Some(has_reference.then(|| Tracking {
            offset_s: value(0),
            root_delay_s: value(6),
            root_dispersion_s: value(7),
        }))
    }

    /// Seven bits of exponent and 25 of coefficient, each in two's complement.
    fn float(bits: u32) -> f64 {
        let (exponent, coefficient) = ((bits as i32) >> 25, ((bits << 7) as i32) >> 7);
        f64::from(coefficient) * f64::from(exponent - 25).exp2()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_numbers_of_the_protocol() {
            let check = |exponent: i32, coefficient: i32, expected: f64| {
                let bits = (exponent as u32) << 25 | (coefficient as u32 & ((1 << 25) - 1));
                assert_eq!(float(bits), expected, "{exponent} {coefficient}");
            };
            check(0, 0, 0.0);
            check(2, 1 << 23, 1.0);
            check(1, -(1 << 24), -1.0);
            check(-6, 1 << 23, 1.0 / 256.0);
            check(25, -3, -3.0);
        }

        #[test]
        fn an_answer_is_read_and_others_are_refused() {
            let mut answer = [0; LENGTH];
            (answer[0], answer[1], answer[5], answer[7]) = (VERSION, REPLY, COMMAND_TRACKING, REPLY_TRACKING);
            assert_eq!(tracking(&answer), Some(None), "no reference");
            answer[28..32].copy_from_slice(&[127, 0, 0, 1]);
            let half = (1u32 << 25 | 1 << 23).to_be_bytes();
            answer[68..72].copy_from_slice(&half);
            let read = tracking(&answer).unwrap().unwrap();
            assert_eq!((read.offset_s, read.root_delay_s, read.root_dispersion_s), (0.5, 0.0, 0.0));
            answer[55] = 3;
            assert_eq!(tracking(&answer), Some(None), "not synchronized");
            for (at, value) in [(0, 5), (1, 1), (5, 34), (7, 6), (9, 2)] {
                let mut other = answer;
                other[at] = value;
                assert_eq!(tracking(&other), None, "byte {at}");
            }
            (0..LENGTH).for_each(|n| assert_eq!(tracking(&answer[..n]), None, "{n} bytes"));
        }
    }
}
