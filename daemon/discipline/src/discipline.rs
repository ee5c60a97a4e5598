//! The discipline: combines the sources that agree into one correction.

use crate::bank::RatePrior;
use crate::combine::{Combined, combine};
use crate::fusion::{Forecaster, Fused, fuse};
use crate::longterm::{Forecast, LongTerm};
use crate::measurement::{Leap, Measurement};
use crate::moments::Moments;
use crate::select::{Interval, hull, majority};
use crate::source::{Estimate, Source, Verdict, silence_limit};
use crate::{RATE_PRIOR_SIGMA, bound_growth};
use chronotick_core::{MonoTime, Span, Timestamp};
use serde::{Deserialize, Serialize};

/// What may be set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A source with a larger root distance is not used (MAXDIST of RFC 5905).
    pub max_distance: Span,
    /// How long a correction may be used after the last update.
    pub horizon: Span,
    /// How long the first update waits for a majority of the configured sources; then whoever answers is believed.
    pub majority_wait: Span,
    /// How long half of the sources or fewer must be all that answer before they are believed without the others; at
    /// least two poll intervals. Until then the correction goes on without them.
    pub minority_wait: Span,
    /// Rate models from outside, numbered from 0; see [`Discipline::forecast`].
    pub external_models: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_distance: Span::from_ms(1500),
            horizon: Span::from_secs(3600),
            majority_wait: Span::from_secs(8),
            minority_wait: Span::from_secs(300),
            external_models: 0,
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

/// Which model the correction comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// The measurements themselves; no model has had enough of them.
    Ntp,
    /// The short-term model: filters over the last minutes and hours of each source.
    CpuModel,
    /// The long-term model, or one from outside: too much time has passed for the short-term one to say anything.
    GpuModel,
    /// Both, by inverse variance.
    Fusion,
}

/// What happened to the local clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disruption {
    /// The machine slept: the same oscillator goes on, but nobody knows how it ran meanwhile.
    Suspend,
    /// Another machine, another oscillator, or a clock that jumped.
    ClockJump,
}

/// What the last attempt to combine the sources found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreement {
    /// No source can be used.
    NoSource,
    /// At the start, or after an outage: waiting for more sources before a few are believed.
    WaitingForMajority,
    /// Most sources agree.
    Majority,
    /// The sources contradict each other and none has a majority: the correction was not updated.
    NoMajority,
    /// Fewer sources than made the last correction, or unauthenticated ones where it was authenticated, contradict its
    /// bound: the correction was not updated.
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
    /// Which model it comes from.
    pub model: Model,
    /// The long-term model has learned enough to say something.
    pub models_ready: bool,
    /// The bound rests on authenticated sources.
    pub authenticated: bool,
}

impl Correction {
    /// The same line, told from another moment nearby: whoever goes along it from there is at the same place now. The
    /// bound and the deviations are those of the moment it was made for.
    #[must_use]
    pub fn seen_from(&self, at: MonoTime) -> Self {
        let back = at - self.at;
        let drift = Span::from_ns((back.as_ns() as f64 * self.rate).round() as i64);
        Self { at, corrected: self.corrected + back + drift, ..*self }
    }
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

/// What a model from outside says, for people.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ModelReport {
    /// Its standing forecast, with the deviation that it claims.
    pub claimed: Forecast,
    /// The deviation that the fusion reckons with, after what the model has been off until now.
    pub sigma: f64,
}

/// What outlives a restart of the daemon; see [`Discipline::saved`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    at_ns: i64,
    theta_ns: i64,
    rate: f64,
    offset_variance: f64,
    covariance: f64,
    rate_variance: f64,
    walk_variance: f64,
    white_variance: f64,
    max_error_ns: f64,
    survivors: usize,
    authenticated: bool,
    long_term: LongTerm,
}

impl Saved {
    /// The same on a local clock that reads `ahead` more.
    #[must_use]
    pub fn shifted(self, ahead: Span) -> Self {
        Self {
            at_ns: self.at_ns.saturating_add(ahead.as_ns()),
            theta_ns: self.theta_ns.saturating_sub(ahead.as_ns()),
            ..self
        }
    }

    fn is_sound(&self) -> bool {
        let variances = [self.offset_variance, self.rate_variance, self.walk_variance, self.white_variance];
        self.rate.abs() < 0.01
            && self.covariance.is_finite()
            && variances.iter().all(|v| v.is_finite() && *v >= 0.0)
            && (0.0..1e18).contains(&self.max_error_ns)
            && self.long_term.is_sound()
    }
}

/// The last update.
#[derive(Clone, Debug)]
struct Fix {
    at: MonoTime,
    theta: Span,
    combined: Combined,
    max_error_ns: f64,
    survivors: usize,
    agreeing: f32,
    warmth: f32,
    is_warm: bool,
    source: usize,
    leap: Leap,
    silence_limit: Span,
    authenticated: bool,
}

impl Fix {
    fn moments(&self) -> &Moments {
        &self.combined.moments
    }

    fn max_error_ns_at(&self, at: MonoTime) -> f64 {
        let rate_sigma = self.moments().rate_variance.sqrt();
        self.max_error_ns + (at - self.at).abs().as_ns() as f64 * bound_growth(rate_sigma)
    }

    fn theta_at(&self, at: MonoTime) -> Span {
        self.theta + Span::from_ns((self.moments().rate * (at - self.at).as_ns() as f64).round() as i64)
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
    /// Since when half of the sources or fewer are all that answer.
    minority_since: Option<MonoTime>,
    fix: Option<Fix>,
    agreement: Agreement,
    long_term: LongTerm,
    /// The long-term model, then those from outside.
    forecasters: Vec<Forecaster>,
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
            minority_since: None,
            fix: None,
            agreement: Agreement::NoSource,
            long_term: LongTerm::default(),
            forecasters: vec![Forecaster::default(); 1 + config.external_models],
        }
    }

    /// Notes temperature (degrees Celsius) and load of the machine, where they were read.
    pub fn observe(&mut self, temperature_c: Option<f64>, load: Option<f64>) {
        self.long_term.observe(temperature_c, load);
        self.forecasters[0].set(self.long_term.forecast());
    }

    /// Takes in what a model from outside expects of the rate until it says otherwise, or that it has nothing to say.
    /// A model that does not exist is ignored.
    pub fn forecast(&mut self, model: usize, forecast: Option<Forecast>) {
        if let Some(forecaster) = self.forecasters.get_mut(1 + model) {
            forecaster.set(forecast);
        }
    }

    /// What the fusion makes of a model from outside; `None` where it has no standing forecast.
    pub fn model_report(&self, model: usize) -> Option<ModelReport> {
        let forecaster = self.forecasters.get(1 + model)?;
        Some(ModelReport { claimed: forecaster.claimed()?, sigma: forecaster.calibrated()?.sigma })
    }

    /// The local clock was disrupted: nothing that was measured holds any more. What the long-term model knows of the
    /// oscillator outlives a suspend.
    pub fn disrupt(&mut self, what: Disruption) {
        let fresh = Self::new(self.config, self.sources.len());
        let kept = std::mem::replace(self, fresh);
        if what == Disruption::Suspend {
            self.long_term = kept.long_term;
            self.forecasters = kept.forecasters;
        }
    }

    /// What a later daemon on the same clock can start with; `None` without a correction.
    pub fn saved(&self, now: MonoTime) -> Option<Saved> {
        let fix = self.fix.as_ref().filter(|fix| now - fix.at <= self.config.horizon)?;
        let m = fix.moments();
        Some(Saved {
            at_ns: fix.at.as_ns(),
            theta_ns: fix.theta.as_ns(),
            rate: m.rate,
            offset_variance: m.offset_variance * fix.combined.scale * fix.combined.scale,
            covariance: m.covariance,
            rate_variance: m.rate_variance,
            walk_variance: m.walk_variance,
            white_variance: m.white_variance,
            max_error_ns: fix.max_error_ns,
            survivors: fix.survivors,
            authenticated: fix.authenticated,
            long_term: self.long_term.clone(),
        })
    }

    /// Continues from what an earlier daemon saved, in holdover until measurements come. False, with nothing changed,
    /// where the values make no sense, lie in the future, or are older than the horizon. Only for the same run of the
    /// same local clock: after a reboot nothing of it holds.
    pub fn restore(&mut self, now: MonoTime, saved: &Saved) -> bool {
        let at = MonoTime::from_ns(saved.at_ns);
        if !saved.is_sound() || at > now || now - at > self.config.horizon {
            return false;
        }
        let moments = Moments {
            offset_s: 0.0,
            rate: saved.rate,
            offset_variance: saved.offset_variance,
            covariance: saved.covariance,
            rate_variance: saved.rate_variance,
            walk_variance: saved.walk_variance,
            white_variance: saved.white_variance,
        };
        self.fix = Some(Fix {
            at,
            theta: Span::from_ns(saved.theta_ns),
            combined: Combined { moments, scale: 1.0 },
            max_error_ns: saved.max_error_ns,
            survivors: saved.survivors,
            agreeing: 1.0,
            warmth: 1.0,
            is_warm: true,
            source: 0,
            leap: Leap::None,
            silence_limit: Span::ZERO,
            authenticated: saved.authenticated,
        });
        self.long_term = saved.long_term.clone();
        self.forecasters[0].set(self.long_term.forecast());
        true
    }

    /// What is believed of the rate before a source has told anything.
    fn rate_prior(&self) -> RatePrior {
        match self.fix.as_ref().filter(|fix| fix.is_warm) {
            Some(fix) => {
                let sigma = 3.0 * fix.moments().rate_variance.sqrt().hypot(2e-7);
                RatePrior { rate: fix.moments().rate, sigma: sigma.min(RATE_PRIOR_SIGMA) }
            }
            None => RatePrior { rate: 0.0, sigma: RATE_PRIOR_SIGMA },
        }
    }

    /// Takes a measurement in and, unless it is refused or suspect, updates the correction. A source number that does
    /// not exist is refused.
    pub fn measure(&mut self, now: MonoTime, m: Measurement) -> Verdict {
        let prior = self.rate_prior();
        let Some(source) = self.sources.get_mut(m.source) else { return Verdict::Refused };
        let verdict = source.add(m, prior);
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
        let fused = self.fused(fix, now);
        // The bound is around what the measurements alone say. Wherever the models move the estimate, it still holds.
        let moved = Span::from_secs_f64(fused.offset_s) - (fix.theta_at(now) - fix.theta);
        let scale = fix.combined.scale;
        Some(Correction {
            at: now,
            corrected: Timestamp::from_ns(now.as_ns()) + fix.theta_at(now) + moved,
            rate: fused.rate,
            offset_sigma: (fused.offset_variance.sqrt() * scale).max(1e-9),
            rate_sigma: fused.rate_variance.sqrt().max(1e-12),
            max_error: Span::from_ns(fix.max_error_ns_at(now).ceil() as i64) + moved.abs(),
            confidence: fix.agreeing * fix.warmth * (1.0 - stale as f32),
            measurement_count: self.sources.iter().fold(0, |sum, s| s.accepted().saturating_add(sum)),
            last_sync: Timestamp::from_ns(fix.at.as_ns()) + fix.theta,
            source: fix.source,
            valid_until,
            leap: fix.leap,
            state,
            is_warm: fix.is_warm,
            model: match fused.share {
                _ if !fix.is_warm => Model::Ntp,
                share if share < 0.05 => Model::CpuModel,
                share if share > 0.95 => Model::GpuModel,
                _ => Model::Fusion,
            },
            models_ready: self.long_term.forecast().is_some(),
            authenticated: fix.authenticated,
        })
    }

    fn fused(&self, fix: &Fix, now: MonoTime) -> Fused {
        let forecasts = self.forecasters.iter().filter_map(Forecaster::calibrated).filter(|_| fix.is_warm);
        fuse(fix.moments(), (now - fix.at).as_secs_f64(), forecasts)
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
            theta: estimate.map(|e| reference + Span::from_secs_f64(e.moments.offset_s)),
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
        let last = self.fix.as_ref().map(|fix| fix.at);
        let candidates: Candidates = self
            .sources
            .iter()
            .enumerate()
            .filter(|(_, s)| s.is_reachable(now))
            .filter_map(|(i, s)| Some((i, s.estimate(now, reference)?)))
            .filter(|(_, e)| e.distance_ns < max_distance_ns)
            .collect();
        // Where any source is authenticated, only those vote: the others may narrow what they agree on, never move it.
        let (authenticated, others): (Candidates, Candidates) =
            candidates.iter().copied().partition(|(i, _)| self.is_authenticated(*i));
        let voters = if authenticated.is_empty() { &others } else { &authenticated };
        let intervals: Vec<Interval> = voters.iter().map(|(_, e)| e.interval).collect();
        let is_minority = authenticated.is_empty() && candidates.len() * 2 <= self.sources.len();
        self.minority_since = is_minority.then(|| self.minority_since.unwrap_or(now));
        self.agreement = self.judge(now, reference, voters, &intervals);
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
        let agreeing: Candidates = candidates.iter().filter(|(i, _)| self.survivors[*i]).copied().collect();
        let vouching: Candidates = voters.iter().filter(|(i, _)| self.survivors[*i]).copied().collect();
        let total = if authenticated.is_empty() { self.sources.len() } else { voters.len() };
        let Some(mut truth) = common(&vouching, voters.len() - vouching.len(), total) else { return };
        if !authenticated.is_empty()
            && let Some(all) = common(&agreeing, candidates.len() - agreeing.len(), self.sources.len())
        {
            truth = truth.narrowed_by(&all);
        }
        self.fix = Some(self.fix_of(now, reference, truth, &agreeing, candidates.len()));
        if let Some(fix) = &mut self.fix {
            fix.authenticated = !authenticated.is_empty();
            // Those that voted: only as many can be outvoted.
            fix.survivors = vouching.len();
        }
        self.learn(now, last);
    }

    fn is_authenticated(&self, source: usize) -> bool {
        self.sources[source].newest().is_some_and(|m| m.authenticated)
    }

    /// Scores the models by the rate of the new fix, and teaches the long-term one.
    fn learn(&mut self, now: MonoTime, last: Option<MonoTime>) {
        let Some(fix) = self.fix.as_ref().filter(|fix| fix.is_warm) else { return };
        let (rate, variance) = (fix.moments().rate, fix.moments().rate_variance);
        // A rate that is hardly better known than the prior teaches nothing.
        if variance > 1e-12 {
            return;
        }
        let dt_s = last.map_or(0.0, |last| (now - last).as_secs_f64());
        if self.long_term.learn(dt_s, rate, variance) {
            for forecaster in &mut self.forecasters {
                forecaster.score(rate, variance);
            }
        }
        self.forecasters[0].set(self.long_term.forecast());
    }

    fn judge(
        &self,
        now: MonoTime,
        reference: Span,
        voters: &[(usize, Estimate)],
        intervals: &[Interval],
    ) -> Agreement {
        if voters.is_empty() {
            return Agreement::NoSource;
        }
        // At the start two liars of five may answer first and agree. More than half of all sources must share a point.
        let waited = self.first_at.is_some_and(|first| now - first >= self.config.majority_wait);
        if self.fix.is_none() && !waited && hull(intervals, self.sources.len() / 2 + 1).is_none() {
            return Agreement::WaitingForMajority;
        }
        // After an outage a liar may be the first to answer, within a bound that has grown wide.
        let is_standing = self.fix.as_ref().is_some_and(|fix| now - fix.at <= self.config.horizon);
        if is_standing && self.minority_since.is_some_and(|since| now - since < self.minority_wait()) {
            return Agreement::WaitingForMajority;
        }
        let Some(agreed) = majority(intervals) else { return Agreement::NoMajority };
        let voters_authenticated = voters.iter().any(|(i, _)| self.is_authenticated(*i));
        if let Some(fix) = self.fix.as_ref().filter(|fix| now - fix.at <= self.config.horizon) {
            let expected = (fix.theta_at(now) - reference).as_ns() as f64;
            let bound = Interval::around(expected, fix.max_error_ns_at(now));
            let supporters = intervals.iter().filter(|i| i.overlaps(&agreed)).count();
            // What was authenticated only yields to what is, and what was not yields to it at once.
            let outranked = match (voters_authenticated, fix.authenticated) {
                (true, false) => false,
                (false, true) => true,
                _ => supporters < fix.survivors,
            };
            if !bound.overlaps(&agreed) && outranked {
                return Agreement::ContradictsBound;
            }
        }
        Agreement::Majority
    }

    fn minority_wait(&self) -> Span {
        let polls = self.sources.iter().filter_map(|s| s.newest()).map(|m| m.poll_interval);
        let slowest = polls.max().unwrap_or(Span::ZERO);
        // A source that is hardly ever asked may not keep the others waiting until there is no correction any more.
        self.config.minority_wait.max((slowest + slowest).min(Span::from_ns(self.config.horizon.as_ns() / 2)))
    }

    /// The fix of sources that agree. `agreeing` is not empty: a point that most intervals contain is in one of them.
    fn fix_of(
        &self,
        now: MonoTime,
        reference: Span,
        truth: Interval,
        agreeing: &[(usize, Estimate)],
        candidate_count: usize,
    ) -> Fix {
        let estimates: Vec<Estimate> = agreeing.iter().map(|(_, e)| *e).collect();
        let mut combined = combine(&estimates);
        let theta_ns = combined.moments.offset_s * 1e9;
        combined.moments.offset_s = 0.0;
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
            combined,
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
            authenticated: false,
        }
    }
}

/// Sources that can be used, each with its estimate.
type Candidates = Vec<(usize, Estimate)>;

/// The interval that `agreeing` vouch for, where `apart` stand apart from them and there are `total` sources in all.
///
/// Fewer than half of all sources may be wrong. Those that stand apart are; as many as are left may hide among the
/// others, also while the right ones have not answered yet.
fn common(agreeing: &[(usize, Estimate)], apart: usize, total: usize) -> Option<Interval> {
    let hidden = (total.saturating_sub(1) / 2).saturating_sub(apart);
    let intervals: Vec<Interval> = agreeing.iter().map(|(_, e)| e.interval).collect();
    hull(&intervals, agreeing.len().saturating_sub(hidden).max(1))
}
