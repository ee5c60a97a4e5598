//! Records for this crate's tests.

use crate::os_clock::realtime_boottime_pair;
use chronotick_core::page::{AnchorClock, Flags, Record, Source};

/// A page written just now by a synchronized daemon, with this offset.
pub(crate) fn synchronized(offset_s: f64) -> Record {
    let (real, boot, _) = realtime_boottime_pair();
    let second = real.as_ns().div_euclid(1_000_000_000);
    Record {
        offset_correction: offset_s,
        offset_uncertainty: 1e-5,
        prediction_time: second as f64,
        valid_until: second as f64 + 60.0,
        sequence: 2,
        flags: Flags(Flags::VALID | Flags::NTP_READY | Flags::WARMUP_COMPLETE),
        source: Source::Ntp,
        anchor_clock: AnchorClock::Boottime,
        anchor: boot.as_ns() - real.as_ns().rem_euclid(1_000_000_000),
        max_error: 0.001,
        ..Record::default()
    }
}
