//! Seeded random numbers: a test that fails is repeated with the seed that it printed.

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    /// A number from 0, inclusive, to 1, exclusive.
    pub fn unit(&mut self) -> f64 {
        const STEPS: u64 = 1 << 53;
        self.below(STEPS) as f64 / STEPS as f64
    }
}

/// `MINOOTS_SEED`, or a seed of this run's own; printed either way.
///
/// # Panics
/// When `MINOOTS_SEED` is no whole number.
pub fn seed() -> u64 {
    let seed = match std::env::var("MINOOTS_SEED") {
        Ok(text) => text.parse().expect("MINOOTS_SEED is a whole number"),
        Err(_) => u64::from(std::process::id()) ^ chronotick::os_clock::realtime().as_ns().unsigned_abs(),
    };
    println!("seed {seed} (MINOOTS_SEED={seed} repeats it)");
    seed
}
