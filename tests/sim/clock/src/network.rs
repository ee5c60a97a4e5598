//! Paths through a network, and the servers at their ends.

use crate::random::Random;
use chronotick_core::Span;
use chronotick_core::time::NS_PER_SEC;

/// How long packets wait in queues, beyond the base.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Queue {
    /// Exponential with this mean.
    Exponential {
        /// Nanoseconds.
        mean_ns: f64,
    },
    /// Pareto from 0: most packets wait little, some very long.
    Pareto {
        /// Scale in nanoseconds.
        scale_ns: f64,
        /// Shape; the smaller, the heavier the tail. No variance at 2 and below.
        shape: f64,
    },
}

/// A queue that fills and empties again: the delay grows to `peak_ns` in the middle of the episode.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Episode {
    /// Begin, in seconds from the start.
    pub from_s: f64,
    /// End.
    pub to_s: f64,
    /// Delay at the worst moment.
    pub peak_ns: f64,
}

/// One way.
#[derive(Clone, PartialEq, Debug)]
pub struct Leg {
    /// Delay of an empty path.
    pub base_ns: f64,
    /// What comes on top.
    pub queue: Queue,
    /// Some packets, by this probability, take another path that is so much longer.
    pub detour: Option<(f64, f64)>,
    /// Congestion.
    pub episodes: Vec<Episode>,
    /// The base changes by so much, for good, at these seconds.
    pub route_changes: Vec<(f64, f64)>,
}

impl Leg {
    /// A path with an exponential queue.
    pub fn exponential(base_ns: f64, mean_ns: f64) -> Self {
        Self {
            base_ns,
            queue: Queue::Exponential { mean_ns },
            detour: None,
            episodes: Vec::new(),
            route_changes: Vec::new(),
        }
    }

    /// The delay of a packet that leaves at `true_ns`.
    pub fn delay_ns(&self, true_ns: i64, random: &mut Random) -> i64 {
        let now_s = true_ns as f64 / 1e9;
        let mut delay = self.base_ns;
        delay += match self.queue {
            Queue::Exponential { mean_ns } => random.exponential(mean_ns),
            Queue::Pareto { scale_ns, shape } => random.pareto(scale_ns, shape),
        };
        if let Some((probability, extra_ns)) = self.detour
            && random.chance(probability)
        {
            delay += extra_ns;
        }
        for e in self.episodes.iter().filter(|e| (e.from_s..e.to_s).contains(&now_s)) {
            let middle = (e.from_s + e.to_s) / 2.0;
            let fill = 1.0 - (now_s - middle).abs() / (middle - e.from_s);
            delay += e.peak_ns * fill + random.exponential(0.2 * e.peak_ns * fill);
        }
        delay += self.route_changes.iter().filter(|c| c.0 <= now_s).map(|c| c.1).sum::<f64>();
        delay.max(1_000.0) as i64
    }
}

/// A server and the path to it. A server that is right has an error of no more than it states:
/// `root_delay / 2 + root_dispersion`.
#[derive(Clone, PartialEq, Debug)]
pub struct Server {
    /// From here to there.
    pub out: Leg,
    /// And back.
    pub back: Leg,
    /// This part of the exchanges gets no answer.
    pub loss: f64,
    /// Its clock is so far ahead.
    pub error_ns: f64,
    /// And gains so much, in seconds per second, from the start on.
    pub error_rate: f64,
    /// And is ahead and behind by so much in turn.
    pub error_wander_ns: f64,
    /// With this period.
    pub error_period_s: f64,
    /// What it states of its own path to a reference clock.
    pub root_delay: Span,
    /// What it states of its own error.
    pub root_dispersion: Span,
    /// What it states of its place: 1 has a reference clock of its own.
    pub stratum: u8,
    /// It is silent from the first to the second of these seconds.
    pub outages: Vec<(u32, u32)>,
}

impl Server {
    /// A perfect server of stratum 1.
    pub fn perfect(out: Leg, back: Leg) -> Self {
        Self {
            out,
            back,
            loss: 0.0,
            error_ns: 0.0,
            error_rate: 0.0,
            error_wander_ns: 0.0,
            error_period_s: 1.0,
            root_delay: Span::ZERO,
            root_dispersion: Span::ZERO,
            stratum: 1,
            outages: Vec::new(),
        }
    }

    /// How far the server's clock is ahead at `true_ns`.
    pub fn error_ns(&self, true_ns: i64) -> i64 {
        let turn = std::f64::consts::TAU * (true_ns as f64 / 1e9) / self.error_period_s;
        (self.error_ns + self.error_rate * true_ns as f64 + self.error_wander_ns * turn.sin()).round() as i64
    }

    /// Whether it answers at `true_ns`.
    pub fn is_up(&self, true_ns: i64) -> bool {
        let second = true_ns / NS_PER_SEC;
        !self.outages.iter().any(|&(from, to)| (i64::from(from)..i64::from(to)).contains(&second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_ms(leg: &Leg, at_s: i64) -> f64 {
        let mut random = Random::new(3);
        (0..100_000).map(|_| leg.delay_ns(at_s * NS_PER_SEC, &mut random) as f64).sum::<f64>() / 1e11
    }

    #[test]
    fn delays_have_the_stated_means() {
        let mut leg = Leg::exponential(20e6, 5e6);
        let check = |leg: &Leg, at_s, want: f64| {
            let got = mean_ms(leg, at_s);
            assert!((got / want - 1.0).abs() < 0.01, "{got} ms at {at_s} s, not {want}");
        };
        check(&leg, 0, 25.0);
        leg.detour = Some((0.6, 2e6));
        check(&leg, 0, 26.2);
        leg.route_changes = vec![(100.0, 4e6), (200.0, -3e6)];
        check(&leg, 99, 26.2);
        check(&leg, 150, 30.2);
        check(&leg, 250, 27.2);
        leg.episodes = vec![Episode { from_s: 300.0, to_s: 400.0, peak_ns: 50e6 }];
        check(&leg, 350, 87.2);
        check(&leg, 325, 57.2);
        check(&leg, 400, 27.2);
        leg.queue = Queue::Pareto { scale_ns: 4e6, shape: 5.0 };
        check(&leg, 400, 23.2);
    }

    #[test]
    fn servers_err_and_fall_silent_as_told() {
        let mut s = Server::perfect(Leg::exponential(1e6, 1e5), Leg::exponential(1e6, 1e5));
        assert_eq!(s.error_ns(50 * NS_PER_SEC), 0);
        (s.error_ns, s.error_rate, s.error_wander_ns, s.error_period_s) = (5e6, 20e-6, 1e6, 40.0);
        assert_eq!(s.error_ns(50 * NS_PER_SEC), 5_000_000 + 1_000_000 + 1_000_000);
        s.outages = vec![(10, 20)];
        assert_eq!([9, 10, 19, 20].map(|t| s.is_up(t * NS_PER_SEC)), [true, false, false, true]);
    }
}
