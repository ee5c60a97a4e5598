//! How long a packet is under way in one direction, drawn from a distribution.

use crate::Random;
use chronotick_core::Span;

/// One direction of a relay.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Way {
    /// What every packet takes.
    pub base: Span,
    /// What comes on top, drawn for each packet.
    pub tail: Tail,
    /// A second route that some of the packets take.
    pub detour: Option<Detour>,
    /// The part of the packets that is lost, from 0 to 1.
    pub loss: f64,
}

/// What queues add to the delay.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Tail {
    /// Nothing.
    #[default]
    None,
    /// Exponential with this mean.
    Exponential {
        /// The mean.
        mean: Span,
    },
    /// Pareto's second kind (Lomax): from zero, with a heavy tail. The mean is `scale / (shape - 1)`.
    Pareto {
        /// Where the tail begins.
        scale: Span,
        /// The exponent: the smaller, the heavier the tail.
        shape: f64,
    },
}

/// A longer route.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Detour {
    /// The part of the packets that takes it, from 0 to 1.
    pub part: f64,
    /// How much longer it is.
    pub extra: Span,
}

impl Way {
    /// A way that takes `base`, and an exponential of mean `jitter` on top.
    pub fn new(base: Span, jitter: Span) -> Self {
        let tail = if jitter == Span::ZERO { Tail::None } else { Tail::Exponential { mean: jitter } };
        Self { base, tail, ..Self::default() }
    }

    /// The delay of the next packet, or nothing when it is lost.
    ///
    /// Each call takes the same number of random numbers, so that a change of one setting leaves the others' draws alone.
    pub fn draw(&self, random: &mut Random) -> Option<Span> {
        let [loss, tail, route] = [random.unit(), random.unit(), random.unit()];
        if loss < self.loss {
            return None;
        }
        let detour = self.detour.filter(|d| route < d.part).map_or(Span::ZERO, |d| d.extra);
        Some(self.base + self.tail.at(tail) + detour)
    }
}

impl Tail {
    /// The value below which `part` of the packets stay; `part` is less than 1.
    fn at(self, part: f64) -> Span {
        match self {
            Self::None => Span::ZERO,
            Self::Exponential { mean } => Span::from_secs_f64(-mean.as_secs_f64() * (1.0 - part).ln()),
            Self::Pareto { scale, shape } => {
                Span::from_secs_f64(scale.as_secs_f64() * ((1.0 - part).powf(-1.0 / shape) - 1.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 100_000;

    fn draws(way: Way) -> Vec<Option<f64>> {
        let mut random = Random::from_seed(7);
        (0..DRAWS).map(|_| way.draw(&mut random).map(|d| d.as_secs_f64() * 1e3)).collect()
    }

    #[test]
    fn the_mean_is_base_and_tail_and_detour_and_nothing_is_faster_than_the_base() {
        let check = |way: Way, expected_ms: f64| {
            let delays: Vec<f64> = draws(way).into_iter().flatten().collect();
            let mean = delays.iter().sum::<f64>() / delays.len() as f64;
            assert!((mean - expected_ms).abs() < 0.02 * expected_ms + 1e-9, "{way:?}: the mean is {mean} ms");
            let base_ms = way.base.as_secs_f64() * 1e3;
            assert!(delays.iter().all(|d| *d >= base_ms), "{way:?}: faster than its base");
        };
        let ms = Span::from_ms;
        check(Way::default(), 0.0);
        check(Way::new(ms(20), Span::ZERO), 20.0);
        check(Way::new(ms(20), ms(5)), 25.0);
        check(Way { tail: Tail::Pareto { scale: ms(8), shape: 3.0 }, ..Way::new(ms(1), Span::ZERO) }, 5.0);
        let detour = Some(Detour { part: 0.9, extra: ms(2) });
        check(Way { detour, ..Way::new(ms(1), Span::ZERO) }, 2.8);
    }

    #[test]
    fn packets_are_lost_and_detoured_as_often_as_said() {
        let way = Way {
            loss: 0.25,
            detour: Some(Detour { part: 0.9, extra: Span::from_ms(2) }),
            ..Way::new(Span::from_ms(1), Span::ZERO)
        };
        let delays: Vec<f64> = draws(way).into_iter().flatten().collect();
        let kept = delays.len() as f64 / DRAWS as f64;
        assert!((kept - 0.75).abs() < 0.01, "{kept} were kept");
        let detoured = delays.iter().filter(|d| **d > 2.0).count() as f64 / delays.len() as f64;
        assert!((detoured - 0.9).abs() < 0.01, "{detoured} took the detour");
    }

    #[test]
    fn a_seed_repeats_the_draws() {
        let way = Way { loss: 0.1, ..Way::new(Span::from_ms(1), Span::from_ms(1)) };
        assert_eq!(draws(way), draws(way));
    }
}
