//! Weighted least squares of a line, with a prior on its slope.

/// One sample: `y_ns` at `x_s`, with the standard deviation `sigma_ns`.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Seconds from the origin of the fit.
    pub x_s: f64,
    /// Offset in nanoseconds.
    pub y_ns: f64,
    /// Standard deviation in nanoseconds; more than zero.
    pub sigma_ns: f64,
}

/// The fitted line `offset_ns + rate_ns_per_s * x` with its covariance.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Offset at `x = 0`.
    pub offset_ns: f64,
    /// Slope.
    pub rate_ns_per_s: f64,
    /// How much larger the variances of the points are than was assumed.
    pub variance_scale: f64,
    var_offset: f64,
    covariance: f64,
    var_rate: f64,
}

/// How many samples the assumed noise is worth against the noise seen in the residuals. Few samples can agree by
/// chance; this keeps the deviation honest until there are many.
const NOISE_PRIOR_SAMPLES: f64 = 2.0;

impl Line {
    /// The line at `x_s`.
    pub fn at(&self, x_s: f64) -> f64 {
        self.offset_ns + self.rate_ns_per_s * x_s
    }

    /// Standard deviation of [`at`](Self::at) at `x_s`.
    pub fn sigma_at(&self, x_s: f64) -> f64 {
        (self.var_offset + 2.0 * x_s * self.covariance + x_s * x_s * self.var_rate).max(0.0).sqrt()
    }

    /// Covariance of offset and slope, in nanoseconds squared per second.
    pub fn covariance(&self) -> f64 {
        self.covariance
    }

    /// Standard deviation of the slope in nanoseconds per second.
    pub fn rate_sigma_ns_per_s(&self) -> f64 {
        self.var_rate.sqrt()
    }
}

/// Fits a line through `points`, where the slope is believed to be `0 ± rate_prior_ns_per_s` beforehand. `None`
/// without points. The deviations of the points are scaled by what the residuals show.
pub fn fit(points: &[Point], rate_prior_ns_per_s: f64) -> Option<Line> {
    let first = solve(points, 1.0, rate_prior_ns_per_s)?;
    let chi_square: f64 = points.iter().map(|p| ((p.y_ns - first.at(p.x_s)) / p.sigma_ns).powi(2)).sum();
    let scale = (NOISE_PRIOR_SAMPLES + chi_square) / (NOISE_PRIOR_SAMPLES + points.len() as f64);
    solve(points, scale, rate_prior_ns_per_s)
}

fn solve(points: &[Point], variance_scale: f64, rate_prior: f64) -> Option<Line> {
    let (mut s0, mut s1, mut s2, mut sy, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for p in points {
        let w = 1.0 / (p.sigma_ns * p.sigma_ns * variance_scale);
        s0 += w;
        s1 += w * p.x_s;
        s2 += w * p.x_s * p.x_s;
        sy += w * p.y_ns;
        sxy += w * p.x_s * p.y_ns;
    }
    if s0 <= 0.0 {
        return None;
    }
    // About the weighted middle the two unknowns are almost independent, which keeps the numbers well conditioned.
    let middle = s1 / s0;
    let spread = (s2 - s1 * middle).max(0.0);
    let rate_precision = spread + 1.0 / (rate_prior * rate_prior);
    let rate = (sxy - middle * sy) / rate_precision;
    let var_rate = 1.0 / rate_precision;
    let var_middle = 1.0 / s0;
    Some(Line {
        offset_ns: sy / s0 - rate * middle,
        rate_ns_per_s: rate,
        variance_scale,
        var_offset: var_middle + middle * middle * var_rate,
        covariance: -middle * var_rate,
        var_rate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(offset: f64, rate: f64, n: usize, step_s: f64, sigma_ns: f64) -> Vec<Point> {
        (0..n)
            .map(|i| {
                let x_s = -(i as f64) * step_s;
                // A residual that alternates: zero mean and no slope to first order.
                let wiggle = if i % 2 == 0 { sigma_ns } else { -sigma_ns };
                Point { x_s, y_ns: offset + rate * x_s + wiggle * 0.5, sigma_ns }
            })
            .collect()
    }

    #[test]
    fn no_points_give_no_line() {
        assert!(fit(&[], 1e5).is_none());
    }

    #[test]
    fn one_point_gives_its_offset_with_the_prior_rate() {
        let l = fit(&[Point { x_s: 0.0, y_ns: 7.0, sigma_ns: 3.0 }], 1e5).unwrap();
        assert!((l.offset_ns - 7.0).abs() < 1e-9, "{l:?}");
        assert_eq!(l.rate_ns_per_s, 0.0);
        assert!((l.rate_sigma_ns_per_s() - 1e5).abs() < 1e-6);
        // Sixty seconds later the unknown rate dominates.
        assert!((l.sigma_at(60.0) - 6e6).abs() < 1e3);
    }

    #[test]
    fn many_points_find_offset_and_rate() {
        let l = fit(&line(5e6, 40_000.0, 64, 16.0, 10_000.0), 1e5).unwrap();
        assert!((l.offset_ns - 5e6).abs() < 4.0 * l.sigma_at(0.0), "{l:?}");
        assert!((l.rate_ns_per_s - 40_000.0).abs() < 4.0 * l.rate_sigma_ns_per_s(), "{l:?}");
        assert!(l.rate_sigma_ns_per_s() < 20.0, "{l:?}");
    }

    #[test]
    fn a_short_span_stays_near_the_prior() {
        // Two samples a second apart, 1 ms of noise each: a slope of 1000 ppm means nothing.
        let points =
            [Point { x_s: -1.0, y_ns: 0.0, sigma_ns: 1e6 }, Point { x_s: 0.0, y_ns: 1e6, sigma_ns: 1e6 }];
        let l = fit(&points, 1e5).unwrap();
        assert!(l.rate_ns_per_s.abs() < 2e4, "{l:?}");
        assert!(l.rate_sigma_ns_per_s() > 9e4, "{l:?}");
    }

    #[test]
    fn residuals_larger_than_assumed_widen_the_deviation() {
        let quiet = fit(&line(0.0, 0.0, 32, 4.0, 1_000.0), 1e5).unwrap();
        let mut noisy_points = line(0.0, 0.0, 32, 4.0, 50_000.0);
        noisy_points.iter_mut().for_each(|p| p.sigma_ns = 1_000.0);
        let noisy = fit(&noisy_points, 1e5).unwrap();
        assert!(noisy.sigma_at(0.0) > 10.0 * quiet.sigma_at(0.0));
    }
}
