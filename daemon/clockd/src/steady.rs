//! A local clock that nobody slews, for the discipline.
//!
//! CLOCK_BOOTTIME follows every slew of the system clock: another daemon may turn its rate by 500 ppm between two
//! measurements, and what was learned of the rate is void. CLOCK_MONOTONIC_RAW is the oscillator itself, but pages are
//! anchored on CLOCK_BOOTTIME. So the discipline lives on *steady time*: CLOCK_BOOTTIME as it would be, had nobody
//! slewed it since the first reading. Pairs of readings, one a second, tell how far the two are apart.

use chronotick_core::{MonoTime, Span};
use std::collections::VecDeque;

/// Pairs that are kept.
const MARKS: usize = 64;
/// A pair is kept this often ...
const EVERY: Span = Span::from_secs(1);
/// ... unless it was read so badly; then a later one is waited for, but not longer than twice as long.
const TIGHT: Span = Span::from_us(1);
/// The rate is measured over so much at most.
const BASELINE: Span = Span::from_secs(16);
/// A pair that is off by this much, beyond the errors of reading, begins another slew.
const KINK: Span = Span::from_us(2);
/// What a kernel slews by at most, but for changes of its tick: the frequency and adjtime, 500 ppm each.
const ANY_SLEW: f64 = 1e-3;

/// CLOCK_BOOTTIME and steady time at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Mark {
    boottime: MonoTime,
    steady: MonoTime,
    error: Span,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steady {
    /// Steady time minus CLOCK_MONOTONIC_RAW; set by the first pair.
    base: Option<Span>,
    /// Oldest first.
    marks: VecDeque<Mark>,
    /// When the slew that is under way began.
    kink: Option<MonoTime>,
    rate: f64,
    rate_error: f64,
}

impl Steady {
    /// Takes a pair of readings in, `error` apart at most. Readings that go back are left out.
    pub(crate) fn note(&mut self, boottime: MonoTime, raw: MonoTime, error: Span) {
        let base = *self.base.get_or_insert(boottime - raw);
        let mark = Mark { boottime, steady: raw + base, error };
        let Some(last) = self.marks.back().copied() else {
            self.marks.push_back(mark);
            return;
        };
        let since = boottime - last.boottime;
        if since <= Span::ZERO {
            return;
        }
        let off = (mark.steady - self.at(boottime)).abs();
        if off > KINK + error + last.error {
            self.kink = Some(last.boottime);
        } else if since < EVERY || (error > TIGHT && since < EVERY + EVERY) {
            return;
        }
        self.marks.push_back(mark);
        if self.marks.len() > MARKS {
            self.marks.pop_front();
        }
        self.measure_rate(mark);
    }

    fn measure_rate(&mut self, newest: Mark) {
        let reaches_back = |m: &&Mark| {
            newest.boottime - m.boottime <= BASELINE && self.kink.is_none_or(|kink| m.boottime >= kink)
        };
        let Some(oldest) = self.marks.iter().find(reaches_back).filter(|m| m.boottime < newest.boottime)
        else {
            return;
        };
        let went_ns = (newest.boottime - oldest.boottime).as_ns() as f64;
        self.rate = (newest.steady - oldest.steady).as_ns() as f64 / went_ns - 1.0;
        self.rate_error = (newest.error + oldest.error).as_ns() as f64 / went_ns;
    }

    /// Steady time when CLOCK_BOOTTIME reads `boottime`.
    pub(crate) fn at(&self, boottime: MonoTime) -> MonoTime {
        let (Some(first), Some(last)) = (self.marks.front(), self.marks.back()) else { return boottime };
        let along = |from: &Mark, rate: f64| {
            let went = boottime - from.boottime;
            from.steady + went + Span::from_ns((went.as_ns() as f64 * rate).round() as i64)
        };
        if boottime >= last.boottime {
            return along(last, self.rate);
        }
        if boottime < first.boottime {
            let rate = self.marks.get(1).map_or(0.0, |second| between(first, second));
            return along(first, rate);
        }
        let after = self.marks.partition_point(|m| m.boottime <= boottime);
        match (self.marks.get(after - 1), self.marks.get(after)) {
            (Some(from), Some(to)) => along(from, between(from, to)),
            _ => along(last, self.rate),
        }
    }

    /// What CLOCK_BOOTTIME read at `steady`.
    pub(crate) fn boottime_at(&self, steady: MonoTime) -> MonoTime {
        // The two run within 0.1 % of each other, so each step gains three digits.
        let mut guess = steady;
        for _ in 0..4 {
            guess = guess + (steady - self.at(guess));
        }
        guess
    }

    /// The rate of steady time against CLOCK_BOOTTIME now, minus one, and how far it may be off.
    pub(crate) fn rate(&self) -> (f64, f64) {
        // One pair says nothing of a slew that may be under way.
        (self.rate, if self.marks.len() == 1 { ANY_SLEW } else { self.rate_error })
    }

    /// How far a conversion may be off, beside the rate: by the reading, and by a slew that is not noticed yet.
    pub(crate) fn error(&self) -> Span {
        self.marks.back().map_or(Span::ZERO, |m| m.error + KINK)
    }
}

/// The rate of steady time between two pairs, minus one.
fn between(from: &Mark, to: &Mark) -> f64 {
    (to.steady - from.steady).as_ns() as f64 / (to.boottime - from.boottime).as_ns() as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: Span = Span::from_ns(100);

    fn at_s(s: f64) -> MonoTime {
        MonoTime::from_ns((s * 1e9).round() as i64)
    }

    /// Pairs a hundredth of a second apart, from 1000 s on; RAW is 300 s behind and `slew(t)` of BOOTTIME's advance slower.
    fn run(seconds: f64, slew: impl Fn(f64) -> f64) -> (Steady, Vec<(f64, f64)>) {
        let (mut steady, mut raw, mut all) = (Steady::default(), 700.0, Vec::new());
        for i in 0..(seconds * 100.0) as i64 {
            let t = 1000.0 + i as f64 / 100.0;
            steady.note(at_s(t), at_s(raw), ERROR);
            all.push((t, raw + 300.0));
            raw += 0.01 * (1.0 - slew(t));
        }
        (steady, all)
    }

    fn check(steady: &Steady, all: &[(f64, f64)], from_s: f64, tolerance_ns: i64) {
        for (t, want) in all.iter().filter(|(t, _)| *t >= from_s) {
            let off = (steady.at(at_s(*t)) - at_s(*want)).abs();
            assert!(off <= Span::from_ns(tolerance_ns), "{t}: off by {off}");
            let back = (steady.boottime_at(at_s(*want)) - at_s(*t)).abs();
            assert!(back <= Span::from_ns(tolerance_ns + 2), "{t}: back off by {back}");
        }
    }

    #[test]
    fn without_a_pair_or_a_slew_it_is_the_same_clock() {
        assert_eq!(Steady::default().at(at_s(5.0)), at_s(5.0));
        let (steady, all) = run(20.0, |_| 0.0);
        check(&steady, &all, 0.0, 1);
        assert_eq!(steady.rate().0, 0.0);
    }

    #[test]
    fn a_constant_difference_is_followed() {
        let (steady, all) = run(30.0, |_| 40e-6);
        check(&steady, &all, 1010.0, 60);
        assert!((steady.rate().0 + 40e-6).abs() < 2e-8, "{:?}", steady.rate());
        assert!(steady.rate().1 < 2e-8);
    }

    #[test]
    fn a_slew_that_begins_and_ends_is_seen_through() {
        let slew = |t: f64| if (1010.0..1012.5).contains(&t) { 400e-6 } else { 20e-6 };
        let (steady, all) = run(20.0, slew);
        // A millisecond was slewed away; where it began and ended is known to the threshold.
        check(&steady, &all, 1005.0, 4_500);
        assert!((steady.rate().0 + 20e-6).abs() < 1e-6, "{:?}", steady.rate());
    }

    #[test]
    fn readings_that_go_back_are_left_out() {
        let mut steady = Steady::default();
        steady.note(at_s(10.0), at_s(10.0), ERROR);
        steady.note(at_s(9.0), at_s(12.0), ERROR);
        steady.note(at_s(10.0), at_s(12.0), ERROR);
        assert_eq!(steady.at(at_s(11.0)), at_s(11.0));
    }
}
