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
    /// All of them, by their names.
    pub(crate) fn each(&self) -> [(&'static str, u64); 16] {
        [
            ("sent", self.sent),
            ("received", self.received),
            ("accepted", self.accepted),
            ("kernel_timestamps", self.kernel_timestamps),
            ("refused", self.refused),
            ("absurd", self.absurd),
            ("bogus_short", self.bogus_short),
            ("bogus_mode", self.bogus_mode),
            ("bogus_origin", self.bogus_origin),
            ("bogus_extension", self.bogus_extension),
            ("bogus_unique_id", self.bogus_unique_id),
            ("bogus_unauthenticated", self.bogus_unauthenticated),
            ("bogus_authenticator", self.bogus_authenticator),
            ("nts_naks", self.nts_naks),
            ("key_exchanges", self.key_exchanges),
            ("key_exchanges_failed", self.key_exchanges_failed),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed_by_the_names_of_the_status_file() {
        let json = serde_json::to_value(SourceCounters { absurd: 5, ..SourceCounters::default() }).unwrap();
        let listed: Vec<(String, u64)> = SourceCounters { absurd: 5, ..SourceCounters::default() }
            .each()
            .map(|(name, count)| (name.to_owned(), count))
            .to_vec();
        assert_eq!(listed.len(), json.as_object().unwrap().len());
        for (name, count) in listed {
            assert_eq!(json[&name], count, "{name}");
        }
    }
}
