//! One Kalman filter for one hypothesis about the oscillator and the path.
//!
//! State: offset (s), rate (s/s), and slope: the part of a delay's excess that lies on one way more than on the other,
//! -0.5 to 0.5. A sample with the excess `e` shows `offset + slope * e + noise` (RFC 5905 section 8: the error of an
//! offset is at most half of the queueing). The oscillator is a random walk of the rate over a random walk of the
//! offset (IEEE 1139: random-walk FM, white FM).

/// How the noise of a sample is distributed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Noise {
    /// Student's t with so many degrees of freedom; 3 % of the excess adds to the deviation.
    Student(f64),
    /// Two queues with the same exponential law: given their sum, the difference is uniform. A sample then says
    /// `offset ± excess / 2` with every value as likely as any other, plus normal noise.
    Uniform,
}

/// What a filter assumes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hypothesis {
    /// Random walk of the rate: variance after one second, (s/s)²/s.
    pub walk_variance: f64,
    /// Random walk of the offset: variance after one second, s²/s.
    pub white_variance: f64,
    /// Variance of a sample without excess, s².
    pub noise_variance: f64,
    /// Law of the noise.
    pub noise: Noise,
    /// The slope is to be found; else it is zero.
    pub has_slope: bool,
    /// How likely this is before anything was measured, as a logarithm.
    pub log_prior: f64,
}

/// A sample for the filter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Offset in seconds.
    pub offset_s: f64,
    /// Excess of its delay over the reference level, in seconds; may be negative.
    pub excess_s: f64,
    /// Excess over the least delay, in seconds; not negative.
    pub queue_s: f64,
}

/// What the filter expected of a sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Expectation {
    /// Expected offset of the sample.
    pub offset_s: f64,
    /// Variance of the expectation itself.
    pub variance: f64,
    /// Variance of the sample's noise.
    pub noise_variance: f64,
}

/// The deviation of a sample per excess where the noise is Student's.
const NOISE_OF_EXCESS: f64 = 0.03;
/// One standard deviation of the slope beforehand.
const SLOPE_PRIOR: f64 = 0.3;
/// Random walk of the slope: variance after one second.
const SLOPE_WALK_VARIANCE: f64 = 4e-8;
/// The part of the samples that no law explains.
const OUTLIERS: f64 = 2e-3;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Kalman {
    /// What it assumes.
    pub hypothesis: Hypothesis,
    /// Offset, rate, slope.
    pub state: [f64; 3],
    /// Their covariance.
    pub covariance: [[f64; 3]; 3],
}

impl Kalman {
    /// Before the first sample.
    pub fn new(
        hypothesis: Hypothesis,
        offset_s: f64,
        offset_variance: f64,
        rate: f64,
        rate_variance: f64,
    ) -> Self {
        let slope_variance = if hypothesis.has_slope { SLOPE_PRIOR * SLOPE_PRIOR } else { 0.0 };
        Self {
            hypothesis,
            state: [offset_s, rate, 0.0],
            covariance: [[offset_variance, 0.0, 0.0], [0.0, rate_variance, 0.0], [0.0, 0.0, slope_variance]],
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, dt_s: f64) {
        let Hypothesis { walk_variance: q, white_variance: w, has_slope, .. } = self.hypothesis;
        self.state[0] += self.state[1] * dt_s;
        let p = &mut self.covariance;
        let (p01, p11, p12) = (p[0][1], p[1][1], p[1][2]);
        p[0][0] += dt_s * (2.0 * p01 + dt_s * p11 + q * dt_s * dt_s / 3.0 + w);
        p[0][1] += dt_s * (p11 + q * dt_s / 2.0);
        p[0][2] += dt_s * p12;
        p[1][1] += q * dt_s;
        p[2][2] += if has_slope { SLOPE_WALK_VARIANCE * dt_s } else { 0.0 };
        p[1][0] = p[0][1];
        p[2][0] = p[0][2];
    }

    fn noise_variance(&self, sample: &Sample) -> f64 {
        let queue2 = sample.queue_s * sample.queue_s;
        self.hypothesis.noise_variance
            + match self.hypothesis.noise {
                Noise::Student(_) => NOISE_OF_EXCESS * NOISE_OF_EXCESS * queue2,
                Noise::Uniform => queue2 / 12.0,
            }
    }

    /// Covariance of the state with the sample's noiseless value.
    fn gain_direction(&self, sample: &Sample) -> [f64; 3] {
        std::array::from_fn(|i| self.covariance[i][0] + self.covariance[i][2] * sample.excess_s)
    }

    /// What is expected of `sample`, before it is taken in.
    pub fn expect(&self, sample: &Sample) -> Expectation {
        let direction = self.gain_direction(sample);
        Expectation {
            offset_s: self.state[0] + self.state[2] * sample.excess_s,
            variance: direction[0] + direction[2] * sample.excess_s,
            noise_variance: self.noise_variance(sample),
        }
    }

    /// Excesses are counted from a level that is higher by `up_s` from now on, and so is the offset.
    pub fn raise_level(&mut self, up_s: f64) {
        self.state[0] += self.state[2] * up_s;
        let p = &mut self.covariance;
        p[0][0] += up_s * (2.0 * p[0][2] + up_s * p[2][2]);
        p[0][1] += up_s * p[1][2];
        p[0][2] += up_s * p[2][2];
        p[1][0] = p[0][1];
        p[2][0] = p[0][2];
    }

    /// Forgets what was learned of the slope; what is known of samples with the excess `pivot_s` stays.
    pub fn forget_slope(&mut self, pivot_s: f64) {
        let direction = [-pivot_s, 0.0, 1.0];
        for (row, a) in self.covariance.iter_mut().zip(direction) {
            for (p, b) in row.iter_mut().zip(direction) {
                *p += a * b * SLOPE_PRIOR * SLOPE_PRIOR;
            }
        }
    }

    /// Takes a sample in; returns the logarithm of how likely it was.
    pub fn update(&mut self, sample: &Sample) -> f64 {
        let direction = self.gain_direction(sample);
        let expected = self.expect(sample);
        let innovation = sample.offset_s - expected.offset_s;
        let variance = expected.variance;
        // Both laws end in the same form: the state moves by `step` along the direction, the covariance by `bend`.
        let (step, bend, log_likelihood) = match self.hypothesis.noise {
            Noise::Student(freedom) => student(innovation, variance, expected.noise_variance, freedom),
            Noise::Uniform => uniform(innovation, variance, self.hypothesis.noise_variance, sample.queue_s),
        };
        for (x, d) in self.state.iter_mut().zip(direction) {
            *x += d * step;
        }
        for (row, a) in self.covariance.iter_mut().zip(direction) {
            for (p, b) in row.iter_mut().zip(direction) {
                *p += a * b * bend;
            }
        }
        log_likelihood
    }
}

/// Student's t: an outlier is weighted down as iterated least squares would.
fn student(innovation: f64, variance: f64, noise: f64, freedom: f64) -> (f64, f64, f64) {
    let total = variance + noise;
    let z2 = innovation * innovation / total;
    // The constant is that of the normal law; for 4 degrees of freedom it is -0.98.
    let log_likelihood = -0.94 - 0.5 * total.ln() - 0.5 * (freedom + 1.0) * (z2 / freedom).ln_1p();
    let weight = ((freedom + 1.0) / (freedom + z2)).min(1.0);
    let total = variance + noise / weight;
    (innovation / total, -1.0 / total, log_likelihood)
}

/// A normal expectation and a uniform window of the width `queue_s` blurred by normal noise: the first two moments of
/// what is left (assumed-density filtering). A broad normal law stands beside it for outliers.
fn uniform(innovation: f64, variance: f64, noise: f64, queue_s: f64) -> (f64, f64, f64) {
    let sigma2 = variance + noise;
    let sigma = sigma2.sqrt();
    // The likelihood of the innovation, and its first and second derivative.
    let normal = |var: f64| {
        let density = normal_density(innovation / var.sqrt()) / var.sqrt();
        (density, -innovation / var * density, (innovation * innovation / var - 1.0) / var * density)
    };
    let (l, l1, l2) = if queue_s < 0.2 * sigma {
        normal(sigma2)
    } else {
        let (low, high) = ((innovation - queue_s / 2.0) / sigma, (innovation + queue_s / 2.0) / sigma);
        // On the side of the lesser tail no digits cancel.
        let mass = if low > 0.0 { tail(low) - tail(high) } else { tail(-high) - tail(-low) };
        let (at_low, at_high) = (normal_density(low), normal_density(high));
        (
            mass.max(0.0) / queue_s,
            (at_high - at_low) / (sigma * queue_s),
            (low * at_low - high * at_high) / (sigma2 * queue_s),
        )
    };
    let (o, o1, o2) = normal(sigma2 + 0.75 * queue_s * queue_s + 25.0 * noise);
    let mix = |a: f64, b: f64| (1.0 - OUTLIERS) * a + OUTLIERS * b;
    let likelihood = mix(l, o) + 1e-12;
    let slope = mix(l1, o1) / likelihood;
    // A sample never adds uncertainty here, and never removes all.
    let bend = (mix(l2, o2) / likelihood - slope * slope).clamp(-0.999 / variance.max(1e-40), 0.0);
    (-slope, bend, likelihood.ln())
}

fn normal_density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The probability that a normal variable is over `z`.
fn tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hypothesis(noise: Noise, has_slope: bool) -> Hypothesis {
        Hypothesis {
            walk_variance: 1e-18,
            white_variance: 0.0,
            noise_variance: 1e-10,
            noise,
            has_slope,
            log_prior: 0.0,
        }
    }

    fn sample(offset_s: f64, queue_s: f64) -> Sample {
        Sample { offset_s, excess_s: queue_s, queue_s }
    }

    #[test]
    fn a_line_is_found() {
        for noise in [Noise::Student(4.0), Noise::Student(30.0), Noise::Uniform] {
            let mut k = Kalman::new(hypothesis(noise, false), 0.0, 1e-4, 0.0, 1e-8);
            for i in 1..200 {
                k.advance(16.0);
                let wiggle = if i % 2 == 0 { 5e-6 } else { -5e-6 };
                k.update(&sample(2e-3 + 16.0 * f64::from(i) * 20e-6 + wiggle, 0.0));
            }
            assert!((k.state[1] - 20e-6).abs() < 1e-8, "{k:?}");
            assert!((k.state[0] - 2e-3 - 16.0 * 199.0 * 20e-6).abs() < 5e-6, "{k:?}");
        }
    }

    #[test]
    fn the_slope_of_a_one_sided_queue_is_found() {
        let mut k = Kalman::new(hypothesis(Noise::Student(30.0), true), 0.0, 1e-4, 0.0, 1e-8);
        for i in 1..100 {
            k.advance(64.0);
            let queue_s = if i % 10 == 0 { 0.0 } else { 2e-3 };
            k.update(&sample(0.5 * queue_s, queue_s));
        }
        assert!((k.state[2] - 0.5).abs() < 0.02 && k.state[0].abs() < 3e-5, "{k:?}");
    }

    #[test]
    fn the_level_that_excesses_are_counted_from_may_move() {
        let run = |level_at: fn(i32) -> f64| {
            let mut k = Kalman::new(hypothesis(Noise::Student(30.0), true), 0.0, 1e-4, 0.0, 1e-8);
            let mut level_s = level_at(0);
            for i in 1..100 {
                k.advance(64.0);
                k.raise_level(level_at(i) - level_s);
                level_s = level_at(i);
                let queue_s = f64::from(i % 10) * 2e-4;
                k.update(&Sample { offset_s: 0.5 * queue_s, excess_s: queue_s - level_s, queue_s });
            }
            k.raise_level(-level_s);
            k
        };
        let (still, moved) = (run(|_| 0.0), run(|i| f64::from(i % 7) * 3e-4));
        for i in 0..3 {
            // The slope's random walk turns about the level, so the two are not the same to the last digit.
            let apart = (still.state[i] - moved.state[i]).abs();
            assert!(apart < still.covariance[i][i].sqrt() * 1e-2, "{still:?} {moved:?}");
            assert!((still.covariance[i][i] / moved.covariance[i][i] - 1.0).abs() < 0.1);
        }
    }

    #[test]
    fn an_outlier_moves_little() {
        for noise in [Noise::Student(4.0), Noise::Uniform] {
            let mut k = Kalman::new(hypothesis(noise, false), 0.0, 1e-4, 0.0, 1e-8);
            for _ in 0..50 {
                k.advance(4.0);
                k.update(&sample(0.0, 0.0));
            }
            k.advance(4.0);
            k.update(&sample(0.1, 0.0));
            assert!(k.state[0].abs() < 2e-5, "{k:?}");
        }
    }

    #[test]
    fn a_wide_window_tells_only_where_its_edges_are() {
        let moved = |offset_s: f64| {
            let mut k = Kalman::new(hypothesis(Noise::Uniform, false), 0.0, 1e-8, 0.0, 0.0);
            k.update(&sample(offset_s, 10e-3));
            (k.state[0], k.covariance[0][0])
        };
        // Expected 0 ± 0.1 ms; the window is ± 5 ms around 4 ms, then around 5.05 ms: its edge cuts.
        let (inside, still) = moved(4e-3);
        assert!(inside.abs() < 1e-9 && (still - 1e-8).abs() < 1e-12, "{inside} {still}");
        let (cut, narrower) = moved(5.05e-3);
        assert!(cut > 5e-5 && narrower < 0.5e-8, "{cut} {narrower}");
    }

    #[test]
    fn the_covariance_stays_one() {
        let mut seed = 7u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as f64 / (1u64 << 31) as f64
        };
        for noise in [Noise::Student(4.0), Noise::Uniform] {
            let mut k = Kalman::new(hypothesis(noise, true), 0.0, 1.0, 0.0, 1e-8);
            for _ in 0..5_000 {
                k.advance(random() * 100.0);
                let queue_s = random() * 0.05;
                let log_likelihood = k.update(&sample((random() - 0.5) * 0.1, queue_s));
                assert!(log_likelihood.is_finite());
                let p = &k.covariance;
                assert!(p[0][0] > 0.0 && p[1][1] > 0.0 && p[2][2] > 0.0, "{k:?}");
                assert!(p[0][0] * p[1][1] - p[0][1] * p[0][1] > -1e-30, "{k:?}");
            }
        }
    }
}
