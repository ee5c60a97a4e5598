//! Seeded randomness: the same numbers on every machine.

/// SplitMix64: enough randomness for a simulation, reproducible from its seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for one part of the world, so that a change in one part leaves the others as they were.
    pub fn fork(&self, part: u64) -> Self {
        let mut mixed = Self(self.0 ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self(mixed.bits())
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between `low` and `high`, both more than zero, each octave as likely as the others.
    pub fn octaves(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// `size` with either sign.
    pub fn either(&mut self, size: f64) -> f64 {
        if self.chance(0.5) { size } else { -size }
    }

    /// True as often as `probability` says.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.between(0.0, 1.0) < probability
    }

    /// Exponential.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.between(0.0, 1.0)).ln()
    }

    /// Normal with mean 0 (Box and Muller 1958).
    pub fn normal(&mut self, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.between(0.0, 1.0)).ln()).sqrt();
        sigma * radius * (std::f64::consts::TAU * self.between(0.0, 1.0)).cos()
    }

    /// Pareto from 0 (Lomax): `P(X > x) = (1 + x / scale) ^ -shape`.
    pub fn pareto(&mut self, scale: f64, shape: f64) -> f64 {
        scale * ((1.0 - self.between(0.0, 1.0)).powf(-1.0 / shape) - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 200_000;

    /// Mean and standard deviation of many numbers.
    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let all: Vec<f64> = (0..N).map(|_| draw()).collect();
        let mean = all.iter().sum::<f64>() / N as f64;
        (mean, (all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / N as f64).sqrt())
    }

    fn check(what: &str, got: (f64, f64), want: (f64, f64)) {
        assert!((got.0 - want.0).abs() < 0.02 * want.1, "{what}: mean {} is not {}", got.0, want.0);
        assert!((got.1 / want.1 - 1.0).abs() < 0.03, "{what}: deviation {} is not {}", got.1, want.1);
    }

    #[test]
    fn moments_are_those_of_theory() {
        let mut r = Random::new(1);
        check("uniform", moments(|| r.between(2.0, 4.0)), (3.0, (4.0f64 / 12.0).sqrt()));
        check("exponential", moments(|| r.exponential(5.0)), (5.0, 5.0));
        check("normal", moments(|| r.normal(3.0)), (0.0, 3.0));
        // Lomax with shape 5 and scale 8: mean 8 / 4, variance scale^2 shape / ((shape - 1)^2 (shape - 2)).
        check("pareto", moments(|| r.pareto(8.0, 5.0)), (2.0, (64.0f64 * 5.0 / (16.0 * 3.0)).sqrt()));
    }

    #[test]
    fn forks_differ_and_repeat() {
        let r = Random::new(7);
        assert_eq!(r.fork(1).bits(), r.fork(1).bits());
        assert_ne!(r.fork(1).bits(), r.fork(2).bits());
        assert_ne!(r.fork(1).bits(), Random::new(8).fork(1).bits());
    }
}
