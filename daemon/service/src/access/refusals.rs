//! Counts refused callers for the audit: one line at the first from a source in a minute, and one with the number of the
//! others when the minute is over. So a flood shows, and cannot fill the disk.

use chronotick_core::{MonoTime, Span};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// One line for each source in so long.
const WINDOW: Span = Span::from_secs(60);
/// So many sources are told apart in a minute; the others are counted together.
const SOURCES_MAX: usize = 64;

/// Where refused callers came from: an address (an IPv6 one stands for its /64), or one of too many.
pub type Source = Option<IpAddr>;

/// What is to be written down: so many from a source, the last for this reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Where from; `None` for those of too many sources, or of an unknown one.
    pub source: Source,
    /// How many.
    pub count: u64,
    /// The code of the last one.
    pub code: &'static str,
}

/// The counts of this minute.
#[derive(Debug, Default)]
pub struct Refusals {
    began: Option<MonoTime>,
    counts: BTreeMap<Source, (u64, &'static str)>,
}

impl Refusals {
    /// Counts one, and returns what is to be written down now.
    pub fn note(&mut self, from: Option<IpAddr>, code: &'static str, now: MonoTime) -> Vec<Summary> {
        let mut told = self.flush_if_due(now);
        self.began.get_or_insert(now);
        let mut source = from.map(network);
        if self.counts.len() >= SOURCES_MAX && !self.counts.contains_key(&source) {
            source = None;
        }
        match self.counts.get_mut(&source) {
            Some((count, last)) => (*count, *last) = (*count + 1, code),
            None => {
                self.counts.insert(source, (0, code));
                told.push(Summary { source, count: 1, code });
            }
        }
        told
    }

    /// What is to be written down when the minute is over.
    pub fn flush_if_due(&mut self, now: MonoTime) -> Vec<Summary> {
        if self.began.is_none_or(|began| now - began < WINDOW) {
            return Vec::new();
        }
        self.flush()
    }

    /// What has not been written down yet.
    pub fn flush(&mut self) -> Vec<Summary> {
        self.began = None;
        let counts = std::mem::take(&mut self.counts);
        let told = counts.into_iter().filter(|(_, (count, _))| *count > 0);
        told.map(|(source, (count, code))| Summary { source, count, code }).collect()
    }
}

fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_makes_few_lines_and_every_refusal_counts() {
        let mut refusals = Refusals::default();
        let mut now = MonoTime::from_ns(0) + Span::from_secs(100);
        let (mut lines, mut told) = (0, 0);
        for n in 0..100_000_u32 {
            let from = IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 64 | 7));
            let summaries = refusals.note(Some(from), "unauthenticated", now);
            lines += summaries.len();
            told += summaries.iter().map(|s| s.count).sum::<u64>();
            if n == 50_000 {
                now += WINDOW;
            }
        }
        let rest = refusals.flush();
        lines += rest.len();
        told += rest.iter().map(|s| s.count).sum::<u64>();
        assert_eq!(told, 100_000);
        assert!(lines <= 4 * (SOURCES_MAX + 1), "{lines}");
    }

    #[test]
    fn one_network_is_one_source() {
        let mut refusals = Refusals::default();
        let now = MonoTime::from_ns(0);
        for from in ["2001:db8::1", "2001:db8::2", "::ffff:10.0.0.1", "10.0.0.1"] {
            refusals.note(Some(from.parse().unwrap()), "unauthenticated", now);
        }
        let told = refusals.flush_if_due(now + WINDOW);
        assert_eq!(told.iter().map(|s| s.count).collect::<Vec<_>>(), [1, 1]);
    }
}
