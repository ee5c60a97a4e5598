//! The discipline: combines the sources that agree into one correction.

use crate::bound_growth;
use crate::measurement::{Leap, Measurement};
use crate::select::{Interval, hull, majority};
use crate::source::{Estimate, Source, Verdict, silence_limit};
use chronotick_core::{MonoTime, Span, Timestamp};

/// What may be set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A source with a larger root distance is not used (MAXDIST of RFC 5905).
    pub max_distance: Span,
    /// How long a correction may be used after the last update.
    pub horizon: Span,
    /// How long the first update waits for a majority of the configured sources; then whoever answers is believed.
    pub majority_wait: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_distance: Span::from_ms(1500),
            horizon: Span::from_secs(3600),
            majority_wait: Span::from_secs(8),
        }
    }
}

/// How much the correction can be relied on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing was measured yet, or the horizon has passed.
    NoData,
    /// There is a correction with a true bound; its rate is still a guess.
    WarmingUp,
    /// Fresh measurements and a measured rate.
    Synchronized,
    /// No update for eight poll intervals: coasting on the last rate.
    Holdover,
}

/// What the last attempt to combine the sources found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreement {
    /// No source can be used.
    NoSource,
    /// At the start: waiting for more sources before one is believed.
    WaitingForMajority,
    /// Most sources agree.
    Majority,
    /// The sources contradict each other and none has a majority: the correction was not updated.
    NoMajority,
    /// Fewer sources than made the last correction contradict its bound: the correction was not updated.
    ContradictsBound,
}

/// Corrected time at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Correction {
    /// The local clock, `CLOCK_BOOTTIME`.
    pub at: MonoTime,
    /// Corrected time at that moment.
    pub corrected: Timestamp,
    /// Rate of corrected time against the local clock, minus one, in seconds per second.
    pub rate: f64,
    /// One standard deviation of `corrected` in seconds; more than zero.
    pub offset_sigma: f64,
    /// One standard deviation of `rate` in seconds per second; more than zero.
    pub rate_sigma: f64,
    /// Hard bound on the error of `corrected`; more than zero.
    pub max_error: Span,
    /// 0 to 1: the part of the usable sources that agree, times warm-up, times freshness.
    pub confidence: f32,
    /// Measurements accepted since the start, all sources.
    pub measurement_count: u32,
    /// When the last update was made, in corrected time.
    pub last_sync: Timestamp,
    /// The source with the smallest root distance among those that agree.
    pub source: usize,
    /// The correction must not be used after this moment of the local clock.
    pub valid_until: MonoTime,
    /// Leap second warning of most of the sources that agree.
    pub leap: Leap,
    /// How much it can be relied on.
    pub state: State,
    /// The rate was measured, not guessed; stays true in holdover.
    pub is_warm: bool,
}

/// What is known of one source, for people.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SourceReport {
    /// True time minus the local clock as this source sees it; `None` before it answered.
    pub theta: Option<Span>,
    /// Root distance now.
    pub distance: Option<Span>,
    /// The newest sample.
    pub newest: Option<Measurement>,
    /// Samples in its fit.
    pub samples: usize,
    /// It contradicts the majority.
    pub is_falseticker: bool,
    /// It took part in the last update.
    pub is_survivor: bool,
}

#[derive(Clone, Debug)]
struct Fix {
    at: MonoTime,
    theta: Span,
    rate: f64,
    sigma_ns: f64,
    rate_sigma: f64,
    max_error_ns: f64,
    survivors: usize,
    agreeing: f32,
    warmth: f32,
    is_warm: bool,
    source: usize,
    leap: Leap,
    silence_limit: Span,
}

impl Fix {
    fn max_error_ns_at(&self, at: MonoTime) -> f64 {
        self.max_error_ns + (at - self.at).abs().as_ns() as f64 * bound_growth(self.rate_sigma)
    }

    fn theta_at(&self, at: MonoTime) -> Span {
        self.theta + Span::from_ns((self.rate * (at - self.at).as_ns() as f64).round() as i64)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Discipline {
    config: Config,
    sources: Vec<Source>,
    falsetickers: Vec<bool>,
    survivors: Vec<bool>,
    first_at: Option<MonoTime>,
    fix: Option<Fix>,
    agreement: Agreement,
}

impl Discipline {
    /// For `source_count` sources, numbered from 0.
    pub fn new(config: Config, source_count: usize) -> Self {
        Self {
            config,
            sources: vec![Source::default(); source_count],
            falsetickers: vec![false; source_count],
            survivors: vec![false; source_count],
            first_at: None,
            fix: None,
            agreement: Agreement::NoSource,
        }
    }

    /// Takes a measurement in and, unless it is refused or suspect, updates the correction. A source number that does
    /// not exist is refused.
    pub fn measure(&mut self, now: MonoTime, m: Measurement) -> Verdict {
        let Some(source) = self.sources.get_mut(m.source) else { return Verdict::Refused };
        let verdict = source.add(m);
        if !matches!(verdict, Verdict::Refused | Verdict::Suspect) {
            self.first_at.get_or_insert(now);
            self.update(now);
        }
        verdict
    }

    /// Forgets all that `source` has told, because another clock answers in its place from now on. The correction stays.
    pub fn forget(&mut self, source: usize) {
        if let Some(history) = self.sources.get_mut(source) {
            history.forget();
            self.falsetickers[source] = false;
            self.survivors[source] = false;
        }
    }

    /// The correction at `now`; `None` before the first update and after the horizon.
    pub fn correction(&self, now: MonoTime) -> Option<Correction> {
        let fix = self.fix.as_ref()?;
        let valid_until = fix.at + self.config.horizon;
        if now > valid_until {
            return None;
        }
        let age = (now - fix.at).abs();
        let state = if age > fix.silence_limit {
            State::Holdover
        } else if fix.is_warm {
            State::Synchronized
        } else {
            State::WarmingUp
        };
        let fresh_ns = fix.silence_limit.as_ns() as f64 / 4.0;
        let horizon_ns = self.config.horizon.as_ns() as f64;
        let stale = ((age.as_ns() as f64 - fresh_ns) / (horizon_ns - fresh_ns).max(1.0)).clamp(0.0, 1.0);
        Some(Correction {
            at: now,
            corrected: Timestamp::from_ns(now.as_ns()) + fix.theta_at(now),
            rate: fix.rate,
            offset_sigma: fix.sigma_ns.hypot(age.as_ns() as f64 * fix.rate_sigma) / 1e9,
            rate_sigma: fix.rate_sigma,
            max_error: Span::from_ns(fix.max_error_ns_at(now).ceil() as i64),
            confidence: fix.agreeing * fix.warmth * (1.0 - stale as f32),
            measurement_count: self.sources.iter().fold(0, |sum, s| s.accepted().saturating_add(sum)),
            last_sync: Timestamp::from_ns(fix.at.as_ns()) + fix.theta,
            source: fix.source,
            valid_until,
            leap: fix.leap,
            state,
            is_warm: fix.is_warm,
        })
    }

    /// The state at `now`, also when there is no correction.
    pub fn state(&self, now: MonoTime) -> State {
        self.correction(now).map_or(State::NoData, |c| c.state)
    }

    /// What the last attempt to combine the sources found.
    pub fn agreement(&self) -> Agreement {
        self.agreement
    }

    /// What is known of a source; `None` when there is no such source.
    pub fn report(&self, source: usize, now: MonoTime) -> Option<SourceReport> {
        let s = self.sources.get(source)?;
        let reference = s.newest().map_or(Span::ZERO, |m| m.theta);
        let estimate = s.estimate(now, reference);
        Some(SourceReport {
            theta: estimate.map(|e| reference + Span::from_ns(e.theta_ns.round() as i64)),
            distance: estimate.map(|e| Span::from_ns(e.distance_ns.ceil() as i64)),
            newest: s.newest().copied(),
            samples: s.samples(),
            is_falseticker: self.falsetickers[source],
            is_survivor: self.survivors[source],
        })
    }

    fn update(&mut self, now: MonoTime) {
        // Offsets are floats from here on, taken from a nearby reference so that no digit is lost.
        let Some(reference) =
            self.sources.iter().filter_map(|s| s.newest()).max_by_key(|m| m.at).map(|m| m.theta)
        else {
            return;
        };
        let max_distance_ns = self.config.max_distance.as_ns() as f64;
        let candidates: Vec<(usize, Estimate)> = self
            .sources
            .iter()
            .enumerate()
            .filter(|(_, s)| s.is_reachable(now))
            .filter_map(|(i, s)| Some((i, s.estimate(now, reference)?)))
            .filter(|(_, e)| e.distance_ns < max_distance_ns)
            .collect();
        let intervals: Vec<Interval> = candidates.iter().map(|(_, e)| e.interval).collect();
        self.agreement = self.judge(now, reference, &candidates, &intervals);
        if self.agreement == Agreement::NoMajority {
            self.survivors.fill(false);
            self.falsetickers.fill(false);
        }
        if self.agreement != Agreement::Majority {
            return;
        }
        let Some(agreed) = majority(&intervals) else { return };
        self.survivors.fill(false);
        self.falsetickers.fill(false);
        for (i, e) in &candidates {
            let agrees = e.interval.overlaps(&agreed);
            self.survivors[*i] = agrees;
            self.falsetickers[*i] = !agrees;
        }
        let agreeing: Vec<(usize, Estimate)> =
            candidates.iter().filter(|(i, _)| self.survivors[*i]).copied().collect();
        // Fewer than half of all sources may be wrong. Those that stand apart are; as many as are left may hide among
        // the others, also while the right ones have not answered yet.
        let apart = candidates.len() - agreeing.len();
        let hidden = (self.sources.len().saturating_sub(1) / 2).saturating_sub(apart);
        let intervals: Vec<Interval> = agreeing.iter().map(|(_, e)| e.interval).collect();
        let Some(truth) = hull(&intervals, agreeing.len().saturating_sub(hidden).max(1)) else { return };
        self.fix = Some(self.combine(now, reference, truth, &agreeing, candidates.len()));
    }

    fn judge(
        &self,
        now: MonoTime,
        reference: Span,
        candidates: &[(usize, Estimate)],
        intervals: &[Interval],
    ) -> Agreement {
        if candidates.is_empty() {
            return Agreement::NoSource;
        }
        // At the start two liars of five may answer first and agree. More than half of all sources must share a point.
        let waited = self.first_at.is_some_and(|first| now - first >= self.config.majority_wait);
        if self.fix.is_none() && !waited && hull(intervals, self.sources.len() / 2 + 1).is_none() {
            return Agreement::WaitingForMajority;
        }
        let Some(agreed) = majority(intervals) else { return Agreement::NoMajority };
        if let Some(fix) = self.fix.as_ref().filter(|fix| now - fix.at <= self.config.horizon) {
            let expected = (fix.theta_at(now) - reference).as_ns() as f64;
            let bound = Interval::around(expected, fix.max_error_ns_at(now));
            let supporters = intervals.iter().filter(|i| i.overlaps(&agreed)).count();
            if !bound.overlaps(&agreed) && supporters < fix.survivors {
                return Agreement::ContradictsBound;
            }
        }
        Agreement::Majority
    }

    /// Combines sources that agree. `agreeing` is not empty: a point that most intervals contain is in one of them.
    fn combine(
        &self,
        now: MonoTime,
        reference: Span,
        truth: Interval,
        agreeing: &[(usize, Estimate)],
        candidate_count: usize,
    ) -> Fix {
        let (theta_ns, sigma_ns) =
            weighted(agreeing, |e| e.theta_ns, |e| e.sigma_ns, |e| e.distance_ns * e.distance_ns);
        // Where the sources do not agree on the rate their deviations say little, so none may outweigh the others.
        let rates: Vec<f64> = agreeing.iter().map(|(_, e)| e.rate).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let spread2 = rates.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rates.len() as f64;
        let (rate, rate_sigma) =
            weighted(agreeing, |e| e.rate, |e| e.rate_sigma, |e| e.rate_sigma * e.rate_sigma + spread2);
        let clipped_ns = theta_ns.clamp(truth.low, truth.high).round();
        let max_error_ns = (truth.high - clipped_ns).max(clipped_ns - truth.low).max(0.0) + 1.0;
        let best =
            agreeing.iter().min_by(|a, b| a.1.distance_ns.total_cmp(&b.1.distance_ns)).map_or(0, |(i, _)| *i);
        let of = |i: usize| &self.sources[i];
        let leap_votes = |leap: Leap| {
            let votes =
                agreeing.iter().filter(|(i, _)| of(*i).newest().is_some_and(|m| m.leap == leap)).count();
            votes * 2 > agreeing.len()
        };
        let most_samples = agreeing.iter().map(|(i, _)| of(*i).samples()).max().unwrap_or(0);
        Fix {
            at: now,
            theta: reference + Span::from_ns(clipped_ns as i64),
            rate,
            sigma_ns,
            rate_sigma: rate_sigma.max(1e-12),
            max_error_ns,
            survivors: agreeing.len(),
            agreeing: agreeing.len() as f32 / candidate_count.max(1) as f32,
            warmth: (most_samples as f32 / crate::source::FILTER_STAGES as f32).min(1.0),
            is_warm: agreeing.iter().any(|(i, _)| of(*i).is_warm()),
            source: best,
            leap: [Leap::Insert, Leap::Delete].into_iter().find(|&l| leap_votes(l)).unwrap_or(Leap::None),
            silence_limit: agreeing
                .iter()
                .filter_map(|(i, _)| of(*i).newest())
                .map(|m| silence_limit(m.poll_interval))
                .max()
                .unwrap_or(Span::ZERO),
        }
    }
}

/// The mean of `value` weighted by `1 / variance`, and its standard deviation: what the deviations give, together with
/// how far the sources are apart, since the same servers tend to be wrong the same way tomorrow.
fn weighted(
    sources: &[(usize, Estimate)],
    value: impl Fn(&Estimate) -> f64,
    sigma: impl Fn(&Estimate) -> f64,
    variance: impl Fn(&Estimate) -> f64,
) -> (f64, f64) {
    let weights: Vec<f64> = sources.iter().map(|(_, e)| 1.0 / variance(e).max(f64::MIN_POSITIVE)).collect();
    let total: f64 = weights.iter().sum();
    let sum = |f: &dyn Fn(f64, &Estimate) -> f64| -> f64 {
        sources.iter().zip(&weights).map(|((_, e), w)| f(w / total, e)).sum()
    };
    let mean = sum(&|w, e| w * value(e));
    let own = sum(&|w, e| (w * sigma(e)).powi(2));
    let apart = sum(&|w, e| w * (value(e) - mean).powi(2));
    (mean, (own + apart).sqrt())
}
