//! How the correction moved from one update to the next, in the terms of `chronyc tracking`.

use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::{Correction, Leap, Measurement};
use serde::{Deserialize, Serialize};

/// The newest update counts for so much in the mean of the squares.
const RMS_WEIGHT: f64 = 1.0 / 8.0;

/// What the last updates did to the correction.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Tracker {
    last: Option<(MonoTime, Timestamp)>,
    last_offset_s: Option<f64>,
    mean_square_s2: Option<f64>,
    residual_rate: Option<f64>,
    interval: Option<Span>,
}

impl Tracker {
    /// The correction at `now` before and after a measurement was taken in.
    pub(crate) fn note(&mut self, now: MonoTime, before: Option<&Correction>, after: Option<&Correction>) {
        let Some(after) = after else { return };
        if before.is_some_and(|b| b.last_sync == after.last_sync) {
            return;
        }
        if let Some(before) = before {
            let moved_s = (after.corrected - before.corrected).as_secs_f64();
            self.last_offset_s = Some(moved_s);
            let square = moved_s * moved_s;
            self.mean_square_s2 =
                Some(self.mean_square_s2.map_or(square, |mean| mean + (square - mean) * RMS_WEIGHT));
            self.residual_rate = Some(after.rate - before.rate);
        }
        self.interval = self.last.map(|(at, _)| now - at).or(self.interval);
        self.last = Some((now, after.last_sync));
    }

    /// For the status; `reference` is the source of the correction, with its newest measurement.
    pub(crate) fn report(
        &self,
        correction: Option<&Correction>,
        reference: Option<(&str, Measurement)>,
    ) -> Tracking {
        let newest = reference.map(|(_, m)| m);
        let root_delay_s = newest.map(|m| (m.root_delay + m.delay).as_secs_f64());
        let bound_s = correction.map(|c| c.max_error.as_secs_f64());
        Tracking {
            reference: reference.map(|(name, _)| name.to_owned()),
            stratum: newest.map(|m| m.stratum.saturating_add(1)),
            last_update_unix_seconds: correction.map(|c| c.last_sync.as_secs_f64()),
            last_offset_seconds: self.last_offset_s,
            rms_offset_seconds: self.mean_square_s2.map(f64::sqrt),
            frequency_ppm: correction.map(|c| c.rate * 1e6),
            residual_frequency_ppm: self.residual_rate.map(|r| r * 1e6),
            skew_ppm: correction.map(|c| c.rate_sigma * 1e6),
            root_delay_seconds: root_delay_s,
            // So that half the delay and the dispersion are the bound, as in RFC 5905.
            root_dispersion_seconds: bound_s
                .zip(root_delay_s)
                .map(|(bound, delay)| (bound - delay / 2.0).max(0.0)),
            update_interval_seconds: self.interval.map(Span::as_secs_f64),
            leap: correction.map_or("not_synchronised", |c| leap_word(c.leap)).to_owned(),
        }
    }
}

/// In the status; null where it is not known.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tracking {
    /// The source with the smallest root distance among those that agree.
    pub(crate) reference: Option<String>,
    /// One more than that of the reference.
    pub(crate) stratum: Option<u8>,
    /// When the correction was updated last, in corrected time.
    pub(crate) last_update_unix_seconds: Option<f64>,
    /// How far the last update moved corrected time.
    pub(crate) last_offset_seconds: Option<f64>,
    /// The same over the last updates: the root of the mean square, the newest weighted by an eighth.
    pub(crate) rms_offset_seconds: Option<f64>,
    /// Rate of corrected time against the local clock; more than zero where the local clock is slow.
    pub(crate) frequency_ppm: Option<f64>,
    /// How much the last update changed it.
    pub(crate) residual_frequency_ppm: Option<f64>,
    /// One standard deviation of it.
    pub(crate) skew_ppm: Option<f64>,
    /// Round trip to the reference clock, through the reference.
    pub(crate) root_delay_seconds: Option<f64>,
    /// The rest of the bound.
    pub(crate) root_dispersion_seconds: Option<f64>,
    /// Between the last two updates.
    pub(crate) update_interval_seconds: Option<f64>,
    /// `normal`, `insert`, `delete` or `not_synchronised`.
    pub(crate) leap: String,
}

fn leap_word(leap: Leap) -> &'static str {
    match leap {
        Leap::None => "normal",
        Leap::Insert => "insert",
        Leap::Delete => "delete",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::tests::correction;

    #[test]
    fn updates_are_told_from_measurements_that_changed_nothing() {
        let mut tracker = Tracker::default();
        let first = correction();
        tracker.note(first.at, None, Some(&first));
        assert_eq!((tracker.last_offset_s, tracker.interval), (None, None));
        let moved = |by_us: i64, last_s: i64| Correction {
            corrected: first.corrected + Span::from_us(by_us),
            last_sync: first.last_sync + Span::from_secs(last_s),
            rate: first.rate + 1e-6,
            ..first
        };
        tracker.note(first.at + Span::from_secs(4), Some(&first), Some(&moved(30, 4)));
        tracker.note(first.at + Span::from_secs(5), Some(&moved(30, 4)), Some(&moved(30, 4)));
        let report = tracker.report(Some(&first), None);
        assert!((report.last_offset_seconds.unwrap() - 30e-6).abs() < 1e-12);
        assert_eq!(report.update_interval_seconds, Some(4.0));
        assert!((report.residual_frequency_ppm.unwrap() - 1.0).abs() < 1e-9);
        tracker.note(first.at + Span::from_secs(12), Some(&first), Some(&moved(-10, 12)));
        let report = tracker.report(Some(&first), None);
        assert!((report.last_offset_seconds.unwrap() + 10e-6).abs() < 1e-12);
        assert!((report.rms_offset_seconds.unwrap() - 28.28e-6).abs() < 0.01e-6, "{report:?}");
        assert_eq!((report.update_interval_seconds, report.leap.as_str()), (Some(8.0), "normal"));
        assert_eq!(tracker.report(None, None).leap, "not_synchronised");
    }

    #[test]
    fn delay_and_dispersion_make_the_bound() {
        let m = Measurement {
            source: 0,
            at: correction().at,
            theta: Span::ZERO,
            delay: Span::from_us(100),
            round_trip: Span::from_us(120),
            root_delay: Span::from_us(60),
            root_dispersion: Span::from_us(5),
            precision: Span::from_us(1),
            stratum: 15,
            leap: Leap::None,
            poll_interval: Span::from_secs(8),
            authenticated: false,
        };
        let report = Tracker::default().report(Some(&correction()), Some(("a", m)));
        assert_eq!((report.reference.as_deref(), report.stratum), (Some("a"), Some(16)));
        assert_eq!(report.root_delay_seconds, Some(160e-6));
        assert!((report.root_dispersion_seconds.unwrap() - 220e-6).abs() < 1e-12, "{report:?}");
    }
}
