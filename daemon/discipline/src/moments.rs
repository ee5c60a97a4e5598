//! A belief about offset and rate at one moment, and how it grows old.

/// Means and variances of the offset (s) and the rate (s/s) at one moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Moments {
    /// Mean of the offset.
    pub offset_s: f64,
    /// Mean of the rate.
    pub rate: f64,
    /// Variance of the offset.
    pub offset_variance: f64,
    /// Covariance of offset and rate.
    pub covariance: f64,
    /// Variance of the rate.
    pub rate_variance: f64,
    /// Random walk of the rate, (s/s)²/s.
    pub walk_variance: f64,
    /// Random walk of the offset, s²/s.
    pub white_variance: f64,
}

impl Moments {
    /// The offset `dt_s` later.
    pub fn offset_after(&self, dt_s: f64) -> f64 {
        self.offset_s + self.rate * dt_s
    }

    /// Variance of [`offset_after`](Self::offset_after). In the past the random walks count as in the future.
    pub fn variance_after(&self, dt_s: f64) -> f64 {
        let age_s = dt_s.abs();
        (self.offset_variance + dt_s * (2.0 * self.covariance + dt_s * self.rate_variance)).max(0.0)
            + age_s * (self.white_variance + self.walk_variance * age_s * age_s / 3.0)
    }

    /// Variance of the mean rate over the next `dt_s`.
    pub fn mean_rate_variance(&self, dt_s: f64) -> f64 {
        self.rate_variance + self.walk_variance * dt_s.abs() / 3.0
    }

    /// The belief `dt_s` later.
    pub fn after(&self, dt_s: f64) -> Self {
        Self {
            offset_s: self.offset_after(dt_s),
            offset_variance: self.variance_after(dt_s),
            covariance: self.covariance
                + dt_s * self.rate_variance
                + self.walk_variance * dt_s * dt_s.abs() / 2.0,
            rate_variance: self.rate_variance + self.walk_variance * dt_s.abs(),
            ..*self
        }
    }

    /// The moments of a mixture; the weights need not add up to one. `None` without any weight.
    pub fn mixture(parts: impl Iterator<Item = (f64, Self)> + Clone) -> Option<Self> {
        let total: f64 = parts.clone().map(|(w, _)| w).sum();
        if total.is_nan() || total <= 0.0 {
            return None;
        }
        let mut mean = Self::default();
        for (w, m) in parts.clone() {
            let w = w / total;
            mean.offset_s += w * m.offset_s;
            mean.rate += w * m.rate;
            mean.walk_variance += w * m.walk_variance;
            mean.white_variance += w * m.white_variance;
        }
        for (w, m) in parts {
            let w = w / total;
            let (apart, rate_apart) = (m.offset_s - mean.offset_s, m.rate - mean.rate);
            mean.offset_variance += w * (m.offset_variance + apart * apart);
            mean.covariance += w * (m.covariance + apart * rate_apart);
            mean.rate_variance += w * (m.rate_variance + rate_apart * rate_apart);
        }
        Some(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_belief_grows_old() {
        let now = Moments {
            offset_s: 1.0,
            rate: 1e-6,
            offset_variance: 1e-10,
            covariance: 1e-13,
            rate_variance: 1e-14,
            walk_variance: 1e-18,
            white_variance: 1e-14,
        };
        let then = now.after(100.0);
        assert!((then.offset_s - 1.0001).abs() < 1e-12);
        // 1e-10 + 2 * 100 * 1e-13 + 1e4 * 1e-14 + 1e6 / 3 * 1e-18 + 100 * 1e-14
        assert!((then.offset_variance - (1e-10 + 2e-11 + 1e-10 + 1e-12 / 3.0 + 1e-12)).abs() < 1e-22);
        assert!((then.rate_variance - 1.01e-14).abs() < 1e-24);
        // Two steps are as good as one.
        let twice = now.after(40.0).after(60.0);
        assert!((twice.offset_variance / then.offset_variance - 1.0).abs() < 1e-9, "{twice:?} {then:?}");
    }

    #[test]
    fn a_mixture_is_as_wide_as_its_parts_are_apart() {
        let at = |offset_s: f64| Moments { offset_s, offset_variance: 1.0, ..Moments::default() };
        let m = Moments::mixture([(1.0, at(-3.0)), (1.0, at(3.0))].into_iter()).unwrap();
        assert_eq!((m.offset_s, m.offset_variance), (0.0, 10.0));
        assert!(Moments::mixture([(0.0, at(1.0))].into_iter()).is_none());
    }
}
