//! A list of errors against the truth, and what is said of it.

/// Errors in nanoseconds, with their signs.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<i64>);

/// Mean, 99th percentile and maximum in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) mean: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Errors {
    pub(crate) fn push(&mut self, error_ns: i64) {
        self.0.push(error_ns);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// These and the others.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// Of how far the errors are from `floor_ns`, either way; nothing without a sample.
    pub(crate) fn summary(&self, floor_ns: i64) -> Option<Summary> {
        let mut sorted: Vec<i64> = self.0.iter().map(|e| (e - floor_ns).abs()).collect();
        sorted.sort_unstable();
        let mean = sorted.iter().sum::<i64>() as f64 / sorted.len().max(1) as f64;
        Some(Summary {
            mean: mean / 1e3,
            p99: quantile(&sorted, 0.99)? as f64 / 1e3,
            max: *sorted.last()? as f64 / 1e3,
        })
    }
}

/// The smallest value that `part` of the sorted values do not exceed.
pub(crate) fn quantile(sorted: &[i64], part: f64) -> Option<i64> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_list() {
        let hundred: Vec<i64> = (1..=100).collect();
        let check = |list: &[i64], part, expected| assert_eq!(quantile(list, part), expected, "{part}");
        check(&hundred, 0.99, Some(99));
        check(&hundred, 0.5, Some(50));
        check(&hundred, 0.0, Some(1));
        check(&hundred, 1.0, Some(100));
        check(&[5], 0.99, Some(5));
        check(&[], 0.5, None);
    }

    #[test]
    fn a_summary_is_of_absolute_errors_in_microseconds() {
        let mut errors = Errors::default();
        assert!(errors.summary(0).is_none());
        [-3000, 1000, 2000].into_iter().for_each(|ns| errors.push(ns));
        let summary = errors.summary(0).unwrap();
        assert_eq!((summary.mean, summary.p99, summary.max, errors.len()), (2.0, 3.0, 3.0, 3));
        assert_eq!(errors.summary(-3000).unwrap().max, 5.0);
    }
}
