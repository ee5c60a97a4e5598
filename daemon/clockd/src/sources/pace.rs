//! How often a source is asked: a burst, then less and less often while it answers well.

use chronotick_core::{MonoTime, Span};

/// Requests in a burst.
const BURST: u32 = 8;
/// Good answers before the interval doubles.
const ANSWERS_TO_DOUBLE: u32 = 8;
/// Failures in a row before another way to ask is looked for.
pub(crate) const FAILURES_TO_MOVE_ON: u32 = 4;
/// However often a server asks for fewer requests, it is asked about once an hour.
const SLOWEST_POLL: Span = Span::from_secs(4096);
/// From one burst to the next: whoever makes the clock look wrong again and again must not make us flood the servers.
const BURST_REST: Span = Span::from_secs(64);

/// What the user chose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The shortest steady interval.
    pub(crate) min_poll: Span,
    /// The longest one.
    pub(crate) max_poll: Span,
    /// The interval within the burst.
    pub(crate) burst_interval: Span,
}

/// What changes from one request to the next.
#[derive(Debug)]
pub(crate) struct Progress {
    pace: Pace,
    poll: Span,
    /// RATE raises it; never falls.
    floor: Span,
    burst_left: u32,
    burst_begun: MonoTime,
    good: u32,
    failures: u32,
}

impl Progress {
    /// Begins with a burst.
    pub(crate) fn new(pace: Pace, now: MonoTime) -> Self {
        Self {
            pace,
            poll: pace.min_poll,
            floor: pace.min_poll,
            burst_left: BURST,
            burst_begun: now,
            good: 0,
            failures: 0,
        }
    }

    /// The steady interval.
    pub(crate) fn poll(&self) -> Span {
        self.poll
    }

    /// A measurement came of it.
    pub(crate) fn answered(&mut self) {
        if self.failures >= FAILURES_TO_MOVE_ON {
            self.poll = self.floor;
        }
        self.failures = 0;
        self.burst_left = self.burst_left.saturating_sub(1);
        if self.burst_left > 0 {
            return;
        }
        self.good += 1;
        if self.good >= ANSWERS_TO_DOUBLE {
            self.good = 0;
            self.lengthen();
        }
    }

    /// Nothing came of it. True when another way to ask should be looked for.
    pub(crate) fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.good = 0;
        // The burst is for a server that answers; a silent one is asked at the steady pace, less and less often.
        self.burst_left = 0;
        let move_on = self.failures.is_multiple_of(FAILURES_TO_MOVE_ON);
        if move_on {
            self.lengthen();
        }
        move_on
    }

    /// The server asked for fewer requests.
    pub(crate) fn slowed(&mut self) {
        self.burst_left = 0;
        self.floor = doubled(self.poll).min(SLOWEST_POLL);
        self.poll = self.floor;
    }

    /// Another server is asked from now on.
    pub(crate) fn replaced(&mut self, now: MonoTime) {
        *self = Self { failures: self.failures, poll: self.poll, ..Self::new(self.pace, now) };
    }

    /// The time of this source, or the local clock, looks wrong: back to the shortest interval, and a burst unless the
    /// last one was just now or the server asked for fewer requests.
    pub(crate) fn called(&mut self, now: MonoTime) {
        self.good = 0;
        if self.failures > 0 {
            return;
        }
        self.poll = self.floor;
        if now - self.burst_begun >= BURST_REST && self.floor == self.pace.min_poll {
            self.burst_left = BURST;
            self.burst_begun = now;
        }
    }

    /// From the beginning of this request to the next.
    pub(crate) fn wait(&self) -> Span {
        if self.burst_left > 0 { self.pace.burst_interval } else { self.poll }
    }

    fn lengthen(&mut self) {
        self.poll = doubled(self.poll).min(self.pace.max_poll).max(self.floor);
    }
}

fn doubled(span: Span) -> Span {
    span + span
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        min_poll: Span::from_secs(4),
        max_poll: Span::from_secs(64),
        burst_interval: Span::from_ms(500),
    };

    fn begun() -> Progress {
        Progress::new(PACE, MonoTime::from_ns(0))
    }

    #[test]
    fn the_pace_is_a_burst_and_then_slowly_longer() {
        let mut p = begun();
        let mut waits = Vec::new();
        for _ in 0..60 {
            p.answered();
            waits.push(p.wait().as_ms());
        }
        assert_eq!(waits[..7], [500; 7]);
        assert_eq!(waits[7], 4_000);
        assert_eq!(waits[59], 64_000);
        assert!(waits[7..].is_sorted());
    }

    #[test]
    fn rate_doubles_for_good_and_ends_the_burst() {
        let mut p = begun();
        p.slowed();
        assert_eq!(p.wait(), Span::from_secs(8));
        p.slowed();
        p.answered();
        assert_eq!((p.wait(), p.floor), (Span::from_secs(16), Span::from_secs(16)));
        p.called(MonoTime::from_ns(1_000_000_000_000));
        assert_eq!(p.wait(), Span::from_secs(16), "no burst for a server that asked for fewer requests");
    }

    #[test]
    fn a_silent_server_is_asked_less_and_less() {
        let mut p = begun();
        let waits: Vec<i64> = (0..40)
            .map(|_| {
                p.failed();
                p.wait().as_ms() / 1000
            })
            .collect();
        assert_eq!(waits[..4], [4, 4, 4, 8]);
        assert_eq!(waits[39], 64);
        p.called(MonoTime::from_ns(1_000_000_000_000));
        assert_eq!(p.wait(), Span::from_secs(64), "a call does not wake a silent server");
        p.answered();
        assert_eq!(p.wait(), Span::from_secs(4));
    }

    #[test]
    fn a_call_bursts_again_but_not_all_the_time() {
        let mut p = begun();
        (0..60).for_each(|_| p.answered());
        assert_eq!(p.wait(), Span::from_secs(64));
        p.called(MonoTime::from_ns(63_000_000_000));
        assert_eq!(p.wait(), Span::from_secs(4), "too soon for a burst");
        p.called(MonoTime::from_ns(64_000_000_000));
        assert_eq!(p.wait(), Span::from_ms(500));
        (0..8).for_each(|_| p.answered());
        assert_eq!(p.wait(), Span::from_secs(4));
    }
}
