//! When a server is asked: as the daemon's client does it, or at a fixed interval.

use chronotick_core::Span;
use chronotick_discipline::Measurement;

const SECOND_NS: i64 = 1_000_000_000;
/// Requests in the burst at the start, half a second apart.
const BURST: u32 = 8;
const BURST_INTERVAL_NS: i64 = SECOND_NS / 2;
/// The first steady interval.
const MIN_POLL_S: u32 = 4;
/// So many answers in a row double the interval.
const ANSWERS_TO_DOUBLE: u32 = 8;
/// So many failures in a row do so as well, and make the client begin again when the server is back.
const FAILURES_TO_DOUBLE: u32 = 4;

/// How often servers are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// As the daemon does: a burst, then from 4 s to this interval.
    Daemon {
        /// The longest interval.
        max_poll_s: u32,
    },
    /// Always at this interval, without a burst.
    Fixed {
        /// The interval.
        poll_s: u32,
    },
}

/// The requests to one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pace: Pace,
    next_ns: i64,
    asked_ns: i64,
    /// What `next_ns` will bring while a request is under way; the inner `None` is a timeout.
    under_way: Option<Option<Measurement>>,
    poll_s: u32,
    burst_left: u32,
    good: u32,
    failures: u32,
}

impl Client {
    pub(crate) fn new(pace: Pace, first_ns: i64) -> Self {
        let (poll_s, burst_left) = match pace {
            Pace::Daemon { .. } => (MIN_POLL_S, BURST),
            Pace::Fixed { poll_s } => (poll_s, 0),
        };
        Self {
            pace,
            next_ns: first_ns,
            asked_ns: first_ns,
            under_way: None,
            poll_s,
            burst_left,
            good: 0,
            failures: 0,
        }
    }

    /// When the next request goes out or the next answer comes in.
    pub(crate) fn next_ns(&self) -> i64 {
        self.next_ns
    }

    pub(crate) fn poll(&self) -> Span {
        Span::from_secs(i64::from(self.poll_s))
    }

    /// The answer that comes at `next_ns`; `None` when a request goes out then.
    pub(crate) fn take_answer(&mut self) -> Option<Option<Measurement>> {
        self.under_way.take()
    }

    pub(crate) fn asked(&mut self, answered_ns: i64, answer: Option<Measurement>) {
        self.asked_ns = self.next_ns;
        self.next_ns = answered_ns;
        self.under_way = Some(answer);
    }

    /// The exchange is over.
    pub(crate) fn ended(&mut self, now_ns: i64, answered: bool) {
        self.burst_left = self.burst_left.saturating_sub(1);
        if let Pace::Daemon { max_poll_s } = self.pace {
            if answered {
                self.answered(max_poll_s);
            } else {
                self.failed(max_poll_s);
            }
        }
        let wait_ns =
            if self.burst_left > 0 { BURST_INTERVAL_NS } else { i64::from(self.poll_s) * SECOND_NS };
        self.next_ns = (self.asked_ns + wait_ns).max(now_ns + 1);
    }

    fn answered(&mut self, max_poll_s: u32) {
        if self.failures >= FAILURES_TO_DOUBLE {
            self.poll_s = MIN_POLL_S;
        }
        self.failures = 0;
        if self.burst_left > 0 {
            return;
        }
        self.good += 1;
        if self.good >= ANSWERS_TO_DOUBLE {
            self.good = 0;
            self.poll_s = (self.poll_s * 2).min(max_poll_s);
        }
    }

    fn failed(&mut self, max_poll_s: u32) {
        self.failures += 1;
        self.good = 0;
        self.burst_left = 0;
        if self.failures.is_multiple_of(FAILURES_TO_DOUBLE) {
            self.poll_s = (self.poll_s * 2).min(max_poll_s);
        }
    }

    /// Forgets what is under way and begins anew.
    pub(crate) fn restart(&mut self, now_ns: i64) {
        *self = Self::new(self.pace, now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gaps between `requests` requests in milliseconds; `answered` says which are answered.
    fn gaps(pace: Pace, requests: usize, answered: impl Fn(usize) -> bool) -> Vec<i64> {
        let mut client = Client::new(pace, 0);
        let mut begun = Vec::new();
        for i in 0..requests {
            begun.push(client.next_ns() / 1_000_000);
            client.asked(client.next_ns() + 1_000_000, None);
            assert!(client.take_answer().is_some());
            client.ended(client.next_ns(), answered(i));
        }
        begun.windows(2).map(|w| w[1] - w[0]).collect()
    }

    #[test]
    fn a_burst_then_slower_and_slower() {
        let got = gaps(Pace::Daemon { max_poll_s: 64 }, 60, |_| true);
        assert_eq!(got[..7], [500; 7]);
        assert_eq!(got[7..14], [4_000; 7]);
        assert_eq!((got[14], got[22], got[30], got[38], got[58]), (8_000, 16_000, 32_000, 64_000, 64_000));
    }

    #[test]
    fn a_silent_server_is_asked_less_and_then_anew() {
        let got = gaps(Pace::Daemon { max_poll_s: 64 }, 12, |i| i >= 8);
        assert_eq!(got, [4_000, 4_000, 4_000, 8_000, 8_000, 8_000, 8_000, 16_000, 4_000, 4_000, 4_000]);
    }

    #[test]
    fn a_fixed_interval_is_fixed() {
        assert_eq!(gaps(Pace::Fixed { poll_s: 64 }, 4, |i| i > 1), [64_000; 3]);
    }
}
