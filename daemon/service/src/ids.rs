//! Makes timer ids: the one edge where the clock and the random source of the system become an id.
//!
//! An id is a UUID of version 7 (RFC 9562, section 5.7, with the sub-millisecond fraction of its method 3): 48 bits of
//! Unix milliseconds, 12 bits of the fraction of the millisecond, 62 random bits. One source never gives a smaller
//! id after a larger one, so that the order of ids is the order of creation; the system's clock may step.

use crate::engine::handle::IdSource;
use minoots_kernel::TimerId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The source of ids for the running service.
pub fn system() -> IdSource {
    let last = AtomicU64::new(0);
    Arc::new(move || {
        let tick = next_tick(&last, now_tick());
        TimerId::from_u128(compose(tick, random_bits()))
    })
}

/// The time in steps of 1/4096 ms, in the 60 bits that an id has for it.
fn now_tick() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the edge that gives ids their time; nothing fires by it")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ns = since_epoch.as_nanos();
    // 60 bits of ticks last until the year 10889.
    ((ns << 12) / 1_000_000) as u64
}

fn random_bits() -> u64 {
    // Without random bits the tick still makes an id unique within the process, and a data directory has one process.
    getrandom::u64().unwrap_or(0)
}

/// Takes the tick of now, or the one after the last where the clock has not moved on.
fn next_tick(last: &AtomicU64, now: u64) -> u64 {
    let mut tick = now;
    // Relaxed: the counter itself is all that is shared.
    let _ = last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        tick = now.max(last + 1);
        Some(tick)
    });
    tick
}

/// Lays the bits out with the version and the variant.
fn compose(tick: u64, random: u64) -> u128 {
    let ms = u128::from(tick >> 12) & ((1 << 48) - 1);
    let fraction = u128::from(tick & 0xfff);
    let random = u128::from(random & ((1 << 62) - 1));
    (ms << 80) | (0x7 << 76) | (fraction << 64) | (0b10 << 62) | random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_7_with_its_time_first() {
        // The example of RFC 9562, appendix A.6.
        let tick = (0x017F_22E2_79B0 << 12) | 0xCC3;
        let id = TimerId::from_u128(compose(tick, 0x18C4_DC0C_0C07_398F));
        assert_eq!(id.to_string(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }

    #[test]
    fn ids_grow_even_while_the_clock_stands_or_steps_back() {
        let last = AtomicU64::new(0);
        assert_eq!(next_tick(&last, 100), 100);
        assert_eq!(next_tick(&last, 100), 101);
        assert_eq!(next_tick(&last, 50), 102);
        assert_eq!(next_tick(&last, 500), 500);
        let source = system();
        let ids: Vec<_> = (0..1_000).map(|_| source()).collect();
        assert!(ids.is_sorted() && ids.windows(2).all(|w| w[0] != w[1]));
    }
}
