//! The text of an API key, which nobody gets to see twice.

use ring::digest::{SHA256, digest};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What the text of a key starts with.
pub const PREFIX: &str = "mnt_";
const RANDOM_BYTES: usize = 32;

/// Fills bytes with random ones, or says why it cannot. Injected, so that a test repeats them.
pub type RandomSource = Arc<dyn Fn(&mut [u8]) -> Result<(), String> + Send + Sync>;

/// The operating system's random source.
pub fn system_random() -> RandomSource {
    Arc::new(|bytes| getrandom::fill(bytes).map_err(|e| format!("no random bytes to be had: {e}")))
}

/// Random bytes as lower-case hex.
pub(crate) fn random_hex<const N: usize>(random: &RandomSource) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new([0_u8; N]);
    random(&mut *bytes)?;
    Ok(Zeroizing::new(hex(&*bytes)))
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 0xf)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

/// Bytes from lower-case hex, of exactly this many.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; N];
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// The text of a key: `mnt_` and 64 hex digits. Its `Debug` does not show it, and its memory is cleared.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(Zeroizing<String>);

impl KeyText {
    /// A new one.
    pub fn random(random: &RandomSource) -> Result<Self, String> {
        let digits = random_hex::<RANDOM_BYTES>(random)?;
        Ok(Self(Zeroizing::new(format!("{PREFIX}{}", *digits))))
    }

    /// One that was written somewhere; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        unhex::<RANDOM_BYTES>(text.strip_prefix(PREFIX)?)?;
        Some(Self(Zeroizing::new(text.to_string())))
    }

    /// To be shown, once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.0)
    }

    /// The last four digits, by which people tell keys apart.
    pub fn last4(&self) -> String {
        self.0[self.0.len() - 4..].to_string()
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mnt_...")
    }
}

/// SHA-256 of a secret. The secrets are 256 random bits, so that there is nothing for a slow hash to protect.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    /// As text.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// From its text.
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }

    /// Compares in a time that does not depend on where they differ.
    pub fn is_same(&self, other: &Self) -> bool {
        let differences =
            self.0.iter().zip(&other.0).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        differences == 0
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_does_not_show() {
        let key = KeyText::random(&system_random()).unwrap();
        assert_eq!(key.reveal().len(), 68);
        let again = KeyText::parse(key.reveal()).unwrap();
        assert!(again.hash().is_same(&key.hash()));
        assert_eq!(Hash::parse(&key.hash().to_hex()), Some(key.hash()));
        assert_eq!(format!("{key:?}"), "mnt_...");
        assert!(key.reveal().ends_with(&key.last4()));
        let other = KeyText::random(&system_random()).unwrap();
        assert!(!other.hash().is_same(&key.hash()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "mnt_", &format!("mnt_{}", "a".repeat(63)), &format!("mnt_{}", "A".repeat(64))] {
            assert_eq!(KeyText::parse(text), None, "{text}");
        }
        assert_eq!(KeyText::parse(&"a".repeat(68)), None);
        assert!(KeyText::parse(&format!("mnt_{}", "0a".repeat(32))).is_some());
    }

    #[test]
    fn without_random_bytes_there_is_no_key() {
        let broken: RandomSource = Arc::new(|_| Err("none".into()));
        assert_eq!(KeyText::random(&broken), Err("none".into()));
    }
}
