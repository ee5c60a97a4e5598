//! Jitter: a delay that is spread evenly over the timers and yet the same each time it is asked for.

/// A delay in `[0, max_ns]` for the occurrence at `nominal_ns` of the timer whose id is `seed`; 0 when `max_ns` is not
/// positive.
///
/// The same arguments give the same delay in every version of this crate: a replay or another node must arrive at the
/// moment that was promised. The three words (the occurrence, the seed's high half, its low half) go one after another
/// through the finalizer of SplitMix64, in which each input bit changes about half of the output's; the 64-bit result
/// is mapped to the range by its product with the range's size, whose high 64 bits are the delay. No delay is more
/// likely than another by more than one part in `2^64 / max_ns`.
pub fn jitter_ns(seed: u128, nominal_ns: i64, max_ns: i64) -> i64 {
    if max_ns <= 0 {
        return 0;
    }
    let words = [nominal_ns as u64, (seed >> 64) as u64, seed as u64];
    let hash = words.into_iter().fold(0, |hash, word| mix(hash ^ word));
    let size = max_ns as u128 + 1;
    // The product is below 2^64 * size, so the high half is at most max_ns.
    ((u128::from(hash) * size) >> 64) as i64
}

/// SplitMix64: one step of its counter, then its finalizer.
fn mix(word: u64) -> u64 {
    let z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixer_is_splitmix64() {
        // The first outputs of the reference generator for the seed 0: its counter advances by the constant in `mix`.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn golden_values_never_change() {
        let check =
            |seed, nominal, max, want| assert_eq!(jitter_ns(seed, nominal, max), want, "{seed} {nominal}");
        check(0, 0, 0, 0);
        check(1, 2, -5, 0);
        check(0, 0, 1_000_000_000, GOLDEN[0]);
        check(1, 0, 1_000_000_000, GOLDEN[1]);
        check(1 << 64, 0, 1_000_000_000, GOLDEN[2]);
        check(u128::MAX, i64::MIN, i64::MAX, GOLDEN[3]);
        check(
            0x0190_0000_0000_7000_8000_0000_0000_002a,
            1_790_000_000_000_000_000,
            60_000_000_000,
            GOLDEN[4],
        );
    }

    /// Computed by a second implementation of the description above.
    const GOLDEN: [i64; 5] =
        [138_709_410, 184_366_674, 269_130_319, 4_873_170_476_271_777_723, 41_958_593_863];
}
