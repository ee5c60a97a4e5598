//! What is counted for each source.

use chronotick_ntp::exchange::Bogus;
use serde::{Deserialize, Serialize};

/// Packets since the start, by what became of them. All but `accepted` left the clock as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SourceCounters {
    /// Requests sent, or readings tried of a local source.
    pub(crate) sent: u64,
    /// Packets received, of any kind.
    pub(crate) received: u64,
    /// Answers that became a measurement.
    pub(crate) accepted: u64,
    /// Measurements whose receive time is the kernel's.
    pub(crate) kernel_timestamps: u64,
    /// Answers that the server itself made unusable: not synchronized, or a kiss-o'-death.
    pub(crate) refused: u64,
    /// Answers to our request with impossible or hopeless numbers: no timestamps, a negative delay, a root distance
    /// beyond the limit. Another answer was waited for.
    pub(crate) absurd: u64,
    /// Ignored: shorter than 48 bytes.
    pub(crate) bogus_short: u64,
    /// Ignored: not an answer of version 3 or 4.
    pub(crate) bogus_mode: u64,
    /// Ignored: not to our request; forged, late, replayed or doubled.
    pub(crate) bogus_origin: u64,
    /// Ignored: extension fields that cannot be read.
    pub(crate) bogus_extension: u64,
    /// Ignored: the unique identifier is not that of the request.
    pub(crate) bogus_unique_id: u64,
    /// Ignored: without an authenticator although one was asked for.
    pub(crate) bogus_unauthenticated: u64,
    /// Ignored: with an authenticator that does not fit.
    pub(crate) bogus_authenticator: u64,
    /// NTSN: the server has forgotten our keys, or somebody says so.
    pub(crate) nts_naks: u64,
    /// Key exchanges begun.
    pub(crate) key_exchanges: u64,
    /// Key exchanges that failed.
    pub(crate) key_exchanges_failed: u64,
}

impl SourceCounters {
    /// Ignored packets, with the reason in one word.
    pub(crate) fn ignored(&self) -> [(&'static str, u64); 7] {
        [
            ("short", self.bogus_short),
            ("mode", self.bogus_mode),
            ("origin", self.bogus_origin),
            ("extension", self.bogus_extension),
            ("unique_id", self.bogus_unique_id),
            ("unauthenticated", self.bogus_unauthenticated),
            ("authenticator", self.bogus_authenticator),
        ]
    }

    /// Counts an ignored packet.
    pub(crate) fn count(&mut self, bogus: Bogus) {
        *match bogus {
            Bogus::Short => &mut self.bogus_short,
            Bogus::Mode(_) | Bogus::Version(_) => &mut self.bogus_mode,
            Bogus::Origin => &mut self.bogus_origin,
            Bogus::Extension => &mut self.bogus_extension,
            Bogus::UniqueId => &mut self.bogus_unique_id,
            Bogus::Unauthenticated => &mut self.bogus_unauthenticated,
            Bogus::Authenticator => &mut self.bogus_authenticator,
            Bogus::NtsNak => &mut self.nts_naks,
        } += 1;
    }
}
