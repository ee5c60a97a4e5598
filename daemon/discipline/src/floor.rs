//! The delays of one path: their least, and a low level that one lucky packet does not move.

use std::collections::VecDeque;

/// Delays that are remembered.
const WINDOW: usize = 256;
/// The part of the delays below the reference level. The median of the lowest tenth, in other words.
const LOW: f64 = 0.05;

/// Delays hang together in time, so a quantile of them is so much less certain than one of as many independent ones. By
/// the coverage of recorded traces.
const DEPENDENCE: f64 = 1.5;

/// What is known of the path's delay without queues.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Level {
    /// The least delay in seconds.
    pub least_s: f64,
    /// The delay that 5 % are below.
    pub low_s: f64,
    /// Standard error of `low_s`, by the order statistics around it.
    pub low_error_s: f64,
    /// The median excess over `least_s`.
    pub median_excess_s: f64,
    /// Standard deviation of the delays.
    pub spread_s: f64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct DelayFloor {
    delays: VecDeque<f64>,
}

impl DelayFloor {
    /// Takes a delay in and says what is known now.
    pub fn push(&mut self, delay_s: f64) -> Level {
        if self.delays.len() == WINDOW {
            self.delays.pop_front();
        }
        self.delays.push_back(delay_s);
        let mut sorted: Vec<f64> = self.delays.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let rank = (n - 1.0) * LOW;
        let rank_sigma = DEPENDENCE * (n * LOW * (1.0 - LOW)).sqrt();
        let least_s = sorted[0];
        let mean = sorted.iter().sum::<f64>() / n;
        let variance = sorted.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n;
        Level {
            least_s,
            low_s: sorted[rank as usize],
            low_error_s: (at_rank(&sorted, rank + rank_sigma) - at_rank(&sorted, rank - rank_sigma)) / 2.0,
            median_excess_s: sorted[sorted.len() / 2] - least_s,
            spread_s: variance.sqrt(),
        }
    }
}

/// The order statistic at a rank between two, by a straight line. `sorted` is not empty.
fn at_rank(sorted: &[f64], rank: f64) -> f64 {
    let rank = rank.clamp(0.0, (sorted.len() - 1) as f64);
    let below = rank as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lucky_packet_moves_the_least_but_not_the_low_level() {
        let mut floor = DelayFloor::default();
        for i in 0..100 {
            floor.push(1.0 + f64::from(i % 10) * 0.01);
        }
        let before = floor.push(1.05);
        let after = floor.push(0.2);
        assert_eq!((before.least_s, after.least_s), (1.0, 0.2));
        assert_eq!(before.low_s, after.low_s);
        assert!((after.median_excess_s - 0.85).abs() < 0.011, "{after:?}");
    }

    #[test]
    fn the_error_of_the_low_level_is_the_spread_around_it() {
        let mut floor = DelayFloor::default();
        let mut level = Level::default();
        for i in 0..200 {
            // A permutation of 0 to 199.
            level = floor.push(f64::from((i * 37) % 200));
        }
        assert!((level.low_s - 9.0).abs() < 1.0, "{level:?}");
        // sqrt(200 * 0.05 * 0.95) = 3.1 ranks on each side, and half as many again, each a unit wide.
        assert!((level.low_error_s - 4.62).abs() < 0.1, "{level:?}");
    }

    #[test]
    fn old_delays_are_forgotten() {
        let mut floor = DelayFloor::default();
        floor.push(0.001);
        let mut level = Level::default();
        for _ in 0..WINDOW {
            level = floor.push(0.5);
        }
        assert_eq!(level.least_s, 0.5);
    }
}
