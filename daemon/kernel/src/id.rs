//! Names of things: tenants, timers, firings.

use core::fmt;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who owns a timer. Single-user mode has one tenant, [`TenantId::default`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// From its name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self::new("default")
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a timer for ever; printed as a hyphenated UUID. The service injects time-ordered (version 7) ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TimerId(uuid::Uuid);

impl TimerId {
    /// From 128 bits made elsewhere.
    pub const fn from_u128(bits: u128) -> Self {
        Self(uuid::Uuid::from_u128(bits))
    }

    /// The 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// Reads the printed form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        // One spelling only, so that an id compares as text wherever it was stored.
        uuid::Uuid::try_parse(text).ok().filter(|u| u.as_hyphenated().to_string() == text).map(Self)
    }
}

impl fmt::Display for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// Names one fire: the timer and the nominal time. Deterministic, so that a replayed fire has the same name and a
/// receiver can tell a repeated delivery. Printed as `<timer id>:<nominal Unix ns>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FiringId {
    /// The timer that fired.
    pub timer: TimerId,
    /// The nominal time, Unix nanoseconds.
    pub nominal_ns: i64,
}

impl FiringId {
    /// Reads the printed form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (timer, nominal) = text.split_once(':')?;
        let id = Self { timer: TimerId::parse(timer)?, nominal_ns: nominal.parse().ok()? };
        // One spelling only, as for timers.
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for FiringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.timer, self.nominal_ns)
    }
}

/// The partition of a timer, or of an idempotency key, among so many: FNV-1a (64 bits) of the tenant's name, a zero byte
/// and the id's 16 bytes (or the key's text), modulo their number. It never changes.
pub fn partition_of(tenant: &TenantId, name: &[u8], partitions: u32) -> u32 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in tenant.as_str().bytes().chain([0]).chain(name.iter().copied()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    // The low bits of FNV are its weakest.
    ((hash ^ (hash >> 32)) % u64::from(partitions.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firing_id_reads_back_in_one_spelling_only() {
        let id = FiringId { timer: TimerId::from_u128(7), nominal_ns: -5 };
        let text = id.to_string();
        assert_eq!(FiringId::parse(&text), Some(id));
        let other = [
            "",
            "7:5",
            &text[1..],
            &format!("{text} "),
            &text.replace(":-5", ":-05"),
            &text.replace(":-", ":+"),
        ];
        other.into_iter().for_each(|text| assert_eq!(FiringId::parse(text), None, "{text:?}"));
    }

    #[test]
    fn partitions_never_change_and_are_even() {
        let tenant = TenantId::default();
        let of = |n: u128| partition_of(&tenant, &n.to_be_bytes(), 16);
        assert_eq!([of(1), of(2), of(3), partition_of(&tenant, b"key", 7)], [10, 3, 0, 5]);
        let mut counts = [0; 16];
        (0..16_000u128).for_each(|n| counts[of(n << 64 | n) as usize] += 1);
        assert!(counts.iter().all(|c| (800..1200).contains(c)), "{counts:?}");
        assert_eq!(partition_of(&tenant, b"anything", 1), 0);
    }
}
