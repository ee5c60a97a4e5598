//! How long to wait before an action is tried again: a pure function of the policy and the attempt.

use std::time::Duration;

/// When and how often an action is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// How often it is tried before it has failed.
    pub max_attempts: u32,
    /// The wait after the first attempt, before jitter; it doubles after each.
    pub backoff_initial: Duration,
    /// The longest wait that doubling leads to.
    pub backoff_max: Duration,
    /// The longest wait that a receiver may ask for.
    pub retry_after_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            backoff_initial: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            retry_after_max: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// The wait after attempt `number` (from 1), or `None` when that was the last one.
    ///
    /// The wait is between half of the backoff and all of it. `key` seeds the jitter: many timers that fail together
    /// do not come back together, yet a wait can be computed again. What the receiver asked for is a lower limit.
    pub fn wait_after(&self, number: u32, key: &str, asked: Option<Duration>) -> Option<Duration> {
        if number >= self.max_attempts {
            return None;
        }
        let doubled = self.backoff_initial.saturating_mul(1_u32.checked_shl(number - 1).unwrap_or(u32::MAX));
        let half = doubled.min(self.backoff_max) / 2;
        let jitter = half.mul_f64(unit_fraction(key, number));
        let asked = asked.unwrap_or_default().min(self.retry_after_max);
        Some((half + jitter).max(asked))
    }
}

/// A number in `[0, 1)` that depends on its arguments only: FNV-1a, then the finalizer of SplitMix64.
fn unit_fraction(key: &str, number: u32) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.bytes().chain(number.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ (hash >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_then_end() {
        let policy = RetryPolicy { max_attempts: 10, ..RetryPolicy::default() };
        for number in 1..10 {
            let full = Duration::from_millis(500 << (number - 1)).min(Duration::from_secs(60));
            let wait = policy.wait_after(number, "k", None).unwrap();
            assert!(wait >= full / 2 && wait < full, "attempt {number}: {wait:?} of {full:?}");
        }
        assert_eq!(policy.wait_after(10, "k", None), None);
    }

    #[test]
    fn jitter_differs_by_key_but_repeats() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.wait_after(1, "a", None), policy.wait_after(1, "a", None));
        assert_ne!(policy.wait_after(1, "a", None), policy.wait_after(1, "b", None));
        let mean = (0..1_000).map(|i| unit_fraction(&format!("key {i}"), 1)).sum::<f64>() / 1_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }

    #[test]
    fn the_receiver_may_ask_for_a_longer_wait_up_to_the_cap() {
        let policy = RetryPolicy::default();
        let asked = |secs| policy.wait_after(1, "k", Some(Duration::from_secs(secs)));
        assert_eq!(asked(7), Some(Duration::from_secs(7)));
        assert_eq!(asked(9_999), Some(Duration::from_secs(300)));
        assert_eq!(asked(0), policy.wait_after(1, "k", None));
        assert_eq!(policy.wait_after(5, "k", Some(Duration::from_secs(1))), None);
    }

    #[test]
    fn a_huge_attempt_number_does_not_overflow() {
        let policy = RetryPolicy { max_attempts: u32::MAX, ..RetryPolicy::default() };
        assert!(policy.wait_after(4_000_000_000, "k", None).unwrap() <= policy.backoff_max);
    }
}
