//! What the daemon believes of the time: the discipline, and until that knows better what an earlier daemon left.
//!
//! Everything outside is on CLOCK_BOOTTIME; the discipline within lives on [`steady`](crate::steady) time.

use crate::log;
use crate::steady::Steady;
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{
    Agreement, Correction, Discipline, Disruption, Forecast, Measurement, ModelReport, Saved, SourceReport,
    State, Verdict, bound_growth,
};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Estimate {
    discipline: Discipline,
    restored: Option<Restored>,
    steady: Steady,
}

/// The correction of an earlier daemon of this boot.
#[derive(Clone, Debug)]
pub(crate) struct Restored(pub(crate) Correction);

impl Restored {
    /// The same correction at another moment: its bound grows as in any holdover. `None` after its end.
    pub(crate) fn at(&self, now: MonoTime) -> Option<Correction> {
        let old = &self.0;
        if now > old.valid_until {
            return None;
        }
        let age = now - old.at;
        let age_ns = age.as_ns() as f64;
        let left = (old.valid_until - now).as_secs_f64() / (old.valid_until - old.at).as_secs_f64().max(1e-9);
        Some(Correction {
            at: now,
            corrected: old.corrected + age + Span::from_ns((age_ns * old.rate).round() as i64),
            offset_sigma: old.offset_sigma.hypot(age_ns / 1e9 * old.rate_sigma),
            max_error: old.max_error
                + Span::from_ns((age_ns.abs() * bound_growth(old.rate_sigma)).ceil() as i64),
            confidence: old.confidence * left.clamp(0.0, 1.0) as f32,
            state: State::Holdover,
            models_ready: false,
            ..*old
        })
    }
}

impl Estimate {
    /// Believes `restored` until there is something better.
    pub(crate) fn new(discipline: Discipline, restored: Option<Restored>) -> Self {
        Self { discipline, restored, steady: Steady::default() }
    }

    /// CLOCK_BOOTTIME and CLOCK_MONOTONIC_RAW were read at the same moment, but for `error`.
    pub(crate) fn note_clocks(&mut self, boottime: MonoTime, raw: MonoTime, error: Span) {
        self.steady.note(boottime, raw, error);
    }

    /// The discipline's correction, for CLOCK_BOOTTIME.
    fn fresh(&self, now: MonoTime) -> Option<Correction> {
        let steady = self.steady.at(now);
        let c = self.discipline.correction(steady)?;
        let (rate, rate_error) = self.steady.rate();
        Some(Correction {
            at: now,
            rate: (1.0 + c.rate) * (1.0 + rate) - 1.0,
            rate_sigma: c.rate_sigma.hypot(rate_error),
            max_error: c.max_error + self.steady.error(),
            valid_until: now + (c.valid_until - steady),
            ..c
        })
    }

    /// The correction at `now`, as [`Discipline::correction`].
    pub(crate) fn correction(&self, now: MonoTime) -> Option<Correction> {
        let fresh = self.fresh(now);
        let Some(old) = self.restored.as_ref().and_then(|r| r.at(now)) else { return fresh };
        match fresh {
            // A first measurement has a guessed rate; whichever knows more is believed.
            Some(fresh) if fresh.state == State::Synchronized || fresh.max_error <= old.max_error => {
                Some(fresh)
            }
            _ => Some(old),
        }
    }

    /// As [`Discipline::saved`].
    pub(crate) fn saved(&self, now: MonoTime) -> Option<Saved> {
        let steady = self.steady.at(now);
        // For the next daemon, whose steady time begins as CLOCK_BOOTTIME.
        self.discipline.saved(steady).map(|saved| saved.shifted(now - steady))
    }

    /// As [`Discipline::measure`].
    pub(crate) fn measure(&mut self, now: MonoTime, m: Measurement) -> Verdict {
        let at = self.steady.at(m.at);
        let verdict = self.discipline.measure(
            self.steady.at(now),
            Measurement {
                at,
                theta: m.theta - (at - m.at),
                root_dispersion: m.root_dispersion + self.steady.error(),
                ..m
            },
        );
        if let Some(restored) = &self.restored
            && let Some(fresh) = self.fresh(now)
        {
            let old = restored.at(now);
            let contradicts = old
                .is_some_and(|old| (fresh.corrected - old.corrected).abs() > fresh.max_error + old.max_error);
            if contradicts {
                log::warn(format_args!(
                    "the servers contradict the correction that the last daemon left: it is dropped"
                ));
            }
            if contradicts || fresh.state == State::Synchronized || old.is_none() {
                self.restored = None;
            }
        }
        verdict
    }

    /// As [`Discipline::observe`].
    pub(crate) fn observe(&mut self, temperature_c: Option<f64>, load: Option<f64>) {
        self.discipline.observe(temperature_c, load);
    }

    /// The rate that was measured just now, against steady time, with its deviation: no forecast has moved it yet.
    /// `None` when the last update is not of this moment, or its rate is still a guess.
    pub(crate) fn measured_rate(&self, now: MonoTime) -> Option<(f64, f64)> {
        let c = self.discipline.correction(self.steady.at(now))?;
        (c.is_warm && c.corrected == c.last_sync).then_some((c.rate, c.rate_sigma))
    }

    /// As [`Discipline::forecast`]: of the rate against steady time, as [`measured_rate`](Self::measured_rate).
    pub(crate) fn forecast(&mut self, model: usize, forecast: Option<Forecast>) {
        self.discipline.forecast(model, forecast);
    }

    /// As [`Discipline::model_report`].
    pub(crate) fn model_report(&self, model: usize) -> Option<ModelReport> {
        self.discipline.model_report(model)
    }

    /// As [`Discipline::forget`].
    pub(crate) fn forget(&mut self, source: usize) {
        self.discipline.forget(source);
    }

    /// The local clock was disrupted: nothing that was measured before is believed.
    pub(crate) fn disrupt(&mut self, what: Disruption) {
        self.restored = None;
        self.steady = Steady::default();
        self.discipline.disrupt(what);
    }

    /// The state at `now`, also when there is no correction.
    pub(crate) fn state(&self, now: MonoTime) -> State {
        self.correction(now).map_or(State::NoData, |c| c.state)
    }

    /// As [`Discipline::agreement`].
    pub(crate) fn agreement(&self) -> Agreement {
        self.discipline.agreement()
    }

    /// As [`Discipline::report`].
    pub(crate) fn report(&self, source: usize, now: MonoTime) -> Option<SourceReport> {
        let steady = self.steady.at(now);
        let report = self.discipline.report(source, steady)?;
        Some(SourceReport {
            theta: report.theta.map(|theta| theta + (steady - now)),
            newest: report.newest.map(|m| {
                let at = self.steady.boottime_at(m.at);
                Measurement { at, theta: m.theta + (m.at - at), ..m }
            }),
            ..report
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use chronotick_core::Timestamp;
    use chronotick_discipline::{Config, Leap, Model};

    /// A correction as of 1000 s after the boot, good for an hour.
    pub(crate) fn correction() -> Correction {
        Correction {
            at: MonoTime::from_ns(1_000_000_000_000),
            corrected: Timestamp::from_secs(1_790_000_000),
            rate: 20e-6,
            offset_sigma: 1e-5,
            rate_sigma: 1e-7,
            max_error: Span::from_us(300),
            confidence: 0.5,
            measurement_count: 12,
            last_sync: Timestamp::from_secs(1_789_999_999),
            source: 0,
            valid_until: MonoTime::from_ns(4_600_000_000_000),
            leap: Leap::None,
            state: State::Synchronized,
            is_warm: true,
            model: Model::CpuModel,
            models_ready: true,
            authenticated: true,
        }
    }

    /// What a server says whose time is `ahead` of the correction above.
    pub(crate) fn measurement(at: MonoTime, ahead: Span) -> Measurement {
        Measurement {
            source: 0,
            at,
            theta: Restored(correction()).at(at).unwrap().corrected - Timestamp::from_ns(at.as_ns()) + ahead,
            delay: Span::from_us(100),
            round_trip: Span::from_us(120),
            root_delay: Span::ZERO,
            root_dispersion: Span::from_ms(5),
            precision: Span::from_us(1),
            stratum: 1,
            leap: Leap::None,
            poll_interval: Span::from_secs(8),
            authenticated: false,
        }
    }

    fn restored() -> Estimate {
        Estimate::new(Discipline::new(Config::default(), 1), Some(Restored(correction())))
    }

    const LATER: MonoTime = MonoTime::from_ns(1_100_000_000_000);

    #[test]
    fn a_slew_by_another_daemon_between_two_measurements_is_seen_through() {
        let mut estimate = Estimate::new(Discipline::new(Config::default(), 1), None);
        let (mut boottime_ns, mut raw_ns) = (1_000_000_000_000i64, 400_000_000_000i64);
        // True time runs as the oscillator does; a hundredth of a second per turn.
        let truth = |raw_ns: i64| Timestamp::from_ns(1_790_000_000_000_000_000 + raw_ns);
        for turn in 0..60_000i64 {
            let now = MonoTime::from_ns(boottime_ns);
            estimate.note_clocks(now, MonoTime::from_ns(raw_ns), Span::from_ns(100));
            if turn % 1600 == 0 {
                let theta = Span::from_ns(truth(raw_ns).as_ns() - boottime_ns);
                estimate.measure(
                    now,
                    Measurement {
                        at: now,
                        theta,
                        poll_interval: Span::from_secs(16),
                        ..measurement(LATER, Span::ZERO)
                    },
                );
            }
            if turn > 16_000 {
                let c = estimate.correction(now).unwrap();
                let error = (c.corrected - truth(raw_ns)).abs();
                assert!(error <= c.max_error && error < Span::from_us(20), "{turn}: {error} {c:?}");
            }
            // For 30 s somebody slews by 400 ppm: 12 ms.
            let slewed = if (30_000..33_000).contains(&turn) { 4_000 } else { 0 };
            boottime_ns += 10_000_000 + slewed;
            raw_ns += 10_000_000;
        }
        let last = MonoTime::from_ns(boottime_ns);
        let newest = estimate.report(0, last).unwrap().newest.unwrap();
        let wanted_ns = truth(raw_ns).as_ns() - boottime_ns;
        assert!((newest.theta.as_ns() - wanted_ns).abs() < 20_000, "what people are shown is on BOOTTIME");
    }

    #[test]
    fn a_restored_correction_is_a_holdover_with_a_grown_bound() {
        let c = restored().correction(LATER).unwrap();
        assert_eq!((c.state, c.at), (State::Holdover, LATER));
        assert_eq!(c.corrected, Timestamp::from_ns(1_790_000_100_002_000_000));
        // 100 s at 15 ppm and three sigma of the rate.
        assert_eq!(c.max_error, Span::from_ns(300_000 + 1_530_000));
        assert!((c.offset_sigma - 1e-5f64.hypot(1e-5)).abs() < 1e-12);
        assert!(c.confidence < 0.5 && c.confidence > 0.48);
        assert_eq!(restored().correction(correction().valid_until + Span::from_ns(1)), None);
    }

    #[test]
    fn it_stands_back_for_something_better_only() {
        let mut e = restored();
        let mut at = LATER;
        e.measure(at, measurement(at, Span::from_us(10)));
        assert_eq!(e.state(at), State::Holdover, "the first measurement has a wider bound");
        for _ in 0..8 {
            at += Span::from_secs(1);
            e.measure(at, measurement(at, Span::from_us(10)));
        }
        assert_eq!(e.state(at), State::Synchronized);
        assert!(e.restored.is_none());
        assert!(e.measured_rate(at).is_some_and(|(rate, sigma)| (rate - 20e-6).abs() < 1e-4 && sigma > 0.0));
        assert_eq!(e.measured_rate(at + Span::from_secs(1)), None, "nothing was measured then");
    }

    #[test]
    fn a_restored_discipline_is_no_reason_to_forget_the_bound() {
        let mut earlier = Discipline::new(Config::default(), 1);
        let mut at = correction().at;
        for _ in 0..8 {
            at += Span::from_secs(1);
            earlier.measure(at, measurement(at, Span::ZERO));
        }
        let mut discipline = Discipline::new(Config::default(), 1);
        assert!(discipline.restore(at, &earlier.saved(at).unwrap()));
        let mut e = Estimate::new(discipline, Some(Restored(correction())));
        let before = e.correction(LATER).unwrap();
        assert_eq!(before.state, State::Holdover);
        assert_eq!(e.measure(LATER, measurement(LATER, Span::from_us(10))), Verdict::Accepted);
        let after = e.correction(LATER).unwrap();
        assert!(after.max_error <= before.max_error, "{before:?} {after:?}");
    }

    #[test]
    fn servers_that_contradict_it_and_a_disruption_end_it() {
        let mut e = restored();
        e.measure(LATER, measurement(LATER, Span::from_secs(1)));
        assert_eq!(e.state(LATER), State::WarmingUp);
        let mut e = restored();
        e.disrupt(Disruption::Suspend);
        assert_eq!(e.correction(LATER), None);
    }
}
