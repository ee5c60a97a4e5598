//! The hub's side of the models: judges their answers, hands them to the discipline, withdraws what has run out.
//!
//! Nothing here waits for a model. Each change of a model's state is one line in the log.

use crate::log::{self, Level};
use crate::models::history::{Observation, Ring};
use crate::models::runner::{Answer, Mailbox, Runner};
use crate::models::settings::ModelSpec;
use crate::models::{LONGEST_VALIDITY, USUAL_VALIDITY};
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Forecast, ModelReport};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How a model does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It was not asked yet, or thinks about its first answer.
    Waiting,
    /// Its forecast stands.
    Active,
    /// It has nothing to say.
    Silent,
    /// It failed, or answered nonsense.
    Failed,
    /// It does not answer in time.
    Late,
}

/// All of them, in the order of [`State`].
pub(crate) const STATES: [&str; 5] = ["waiting", "active", "silent", "failed", "late"];

impl State {
    fn word(self) -> &'static str {
        STATES[self as usize]
    }
}

/// What the status says of a model.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ModelStatus {
    /// As the user named it.
    pub(crate) name: String,
    /// `process` or `onnx`.
    pub(crate) kind: String,
    /// `waiting`, `active`, `silent`, `failed` or `late`.
    pub(crate) state: String,
    /// Its standing forecast of the rate; null where it has none.
    pub(crate) rate_ppb: Option<f64>,
    /// The deviation that it claims.
    pub(crate) sigma_ppb: Option<f64>,
    /// The deviation that is reckoned with, after what it has been off until now.
    pub(crate) calibrated_sigma_ppb: Option<f64>,
    /// Seconds since it was asked for what it answered last.
    pub(crate) last_answer_seconds_ago: Option<f64>,
    /// Answers, also those that had nothing to say.
    pub(crate) answers: u64,
    /// Times that it failed, answered nonsense, or was late.
    pub(crate) failures: u64,
    /// Why it failed last; null while all is well.
    pub(crate) last_error: Option<String>,
}

/// One model as the hub sees it.
#[derive(Debug)]
struct Seat {
    name: String,
    kind: &'static str,
    mailbox: Arc<Mailbox>,
    state: State,
    /// Until when its forecast stands.
    until: Option<MonoTime>,
    last_answer: Option<MonoTime>,
    answers: u64,
    failures: u64,
    last_error: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    ring: Arc<Ring>,
    epoch: u32,
    disruptions: u8,
    seats: Vec<Seat>,
}

impl Desk {
    /// The desk for `specs`, with the runner of each, to be given a thread.
    pub(crate) fn new(specs: &[ModelSpec], interval: Span) -> (Self, Vec<Runner>) {
        let ring = Arc::new(Ring::default());
        let mut desk = Self { ring: ring.clone(), epoch: 0, disruptions: 0, seats: Vec::new() };
        let mut runners = Vec::new();
        for spec in specs {
            let mailbox = Arc::new(Mailbox::default());
            desk.add(&spec.name, spec.kind_word(), mailbox.clone());
            runners.push(Runner::new(spec.clone(), ring.clone(), mailbox, interval));
        }
        (desk, runners)
    }

    fn add(&mut self, name: &str, kind: &'static str, mailbox: Arc<Mailbox>) {
        self.seats.push(Seat {
            name: name.to_owned(),
            kind,
            mailbox,
            state: State::Waiting,
            until: None,
            last_answer: None,
            answers: 0,
            failures: 0,
            last_error: None,
        });
    }

    /// True without any model: then nothing needs to be observed.
    pub(crate) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Notes a measured rate for the models to learn from.
    pub(crate) fn note(&self, observation: Observation) {
        if !self.is_empty() {
            self.ring.push(observation);
        }
    }

    /// What changed since the last call: numbers of models, each with the forecast that stands from now on.
    /// `disruptions` counts those of the local clock: after one, nothing that was said before holds.
    pub(crate) fn collect(&mut self, now: MonoTime, disruptions: u8) -> Vec<(usize, Option<Forecast>)> {
        let mut changes = Vec::new();
        if self.is_empty() {
            return changes;
        }
        let is_disrupted = disruptions != self.disruptions;
        if is_disrupted {
            self.disruptions = disruptions;
            self.epoch = self.ring.clear();
        }
        for (i, seat) in self.seats.iter_mut().enumerate() {
            if is_disrupted {
                seat.until = None;
                seat.turn(State::Waiting, Level::Info, "the clock was disrupted: its forecast is withdrawn");
                changes.push((i, None));
            }
            let answer = seat.mailbox.take().filter(|a| a.epoch == self.epoch);
            if let Some(change) = answer.map(|a| seat.judge(now, a)).or_else(|| seat.expire(now)) {
                changes.push((i, change));
            }
        }
        changes
    }

    /// How the models do. `report` says what the discipline makes of each.
    pub(crate) fn status(
        &self,
        now: MonoTime,
        report: impl Fn(usize) -> Option<ModelReport>,
    ) -> Vec<ModelStatus> {
        let one = |(i, seat): (usize, &Seat)| {
            let report = report(i).filter(|_| seat.until.is_some());
            ModelStatus {
                name: seat.name.clone(),
                kind: seat.kind.to_owned(),
                state: seat.state.word().to_owned(),
                rate_ppb: report.map(|r| r.claimed.rate * 1e9),
                sigma_ppb: report.map(|r| r.claimed.sigma * 1e9),
                calibrated_sigma_ppb: report.map(|r| r.sigma * 1e9),
                last_answer_seconds_ago: seat.last_answer.map(|at| (now - at).as_secs_f64()),
                answers: seat.answers,
                failures: seat.failures,
                last_error: seat.last_error.clone(),
            }
        };
        self.seats.iter().enumerate().map(one).collect()
    }
}

impl Seat {
    /// What an answer means for the forecast.
    fn judge(&mut self, now: MonoTime, answer: Answer) -> Option<Forecast> {
        self.until = None;
        let prediction = match answer.result {
            Ok(prediction) => prediction,
            Err(e) => {
                self.fail(State::Failed, e);
                return None;
            }
        };
        self.answers += 1;
        self.last_answer = Some(answer.asked);
        let Some(p) = prediction else {
            self.last_error = None;
            self.turn(State::Silent, Level::Info, "it has nothing to say");
            return None;
        };
        let until = answer.asked + p.valid_for.min(LONGEST_VALIDITY);
        if now >= until {
            let took_s = (now - answer.asked).as_secs_f64();
            self.fail(State::Late, format!("it answered after {took_s:.0} s, when the forecast had run out"));
            return None;
        }
        match p.forecast() {
            Ok(forecast) => {
                self.until = Some(until);
                self.last_error = None;
                let what =
                    format!("it forecasts {:.3} ppb with a sigma of {:.3} ppb", p.rate * 1e9, p.sigma * 1e9);
                self.turn(State::Active, Level::Info, &what);
                Some(forecast)
            }
            Err(e) => {
                self.fail(State::Failed, e);
                None
            }
        }
    }

    /// `Some(None)` when the forecast has run out.
    fn expire(&mut self, now: MonoTime) -> Option<Option<Forecast>> {
        let is_over = self.until.is_some_and(|until| now >= until);
        let hangs = self.mailbox.thinking_since().filter(|&since| now - since >= USUAL_VALIDITY);
        if is_over {
            self.until = None;
        }
        if is_over || (hangs.is_some() && self.until.is_none() && self.state != State::Late) {
            let why = match hangs {
                Some(since) => format!("it has not answered for {:.0} s", (now - since).as_secs_f64()),
                None => "its forecast has run out and there is no other".to_owned(),
            };
            self.fail(State::Late, why);
        }
        is_over.then_some(None)
    }

    fn fail(&mut self, state: State, why: String) {
        self.failures += 1;
        self.turn(state, Level::Warn, &format!("{why}; the clock goes on without it"));
        self.last_error = Some(why);
    }

    fn turn(&mut self, state: State, level: Level, what: &str) {
        if state == self.state {
            return;
        }
        self.state = state;
        log::event(
            level,
            format_args!("model {}: {}: {what}", self.name, state.word()),
            &[
                ("event", "model".into()),
                ("model", self.name.as_str().into()),
                ("state", state.word().into()),
                ("reason", what.into()),
            ],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Prediction;
    use crate::models::history::tests::observation;
    use crate::models::runner::Open;
    use crate::models::runner::tests::fake;

    const GOOD: Prediction = Prediction { rate: 1e-5, sigma: 1e-8, valid_for: Span::from_secs(300) };
    const FORECAST: Forecast = Forecast { rate: 1e-5, sigma: 1e-8 };

    fn at(s: i64) -> MonoTime {
        MonoTime::from_ns(0) + Span::from_secs(s)
    }

    /// A desk with one model, which has seen one rate.
    fn desk(
        predict: fn(&crate::models::history::History) -> Result<Option<Prediction>, String>,
    ) -> (Desk, Runner) {
        let (runner, ring, mailbox) = fake(predict);
        let mut desk = Desk { ring, epoch: 0, disruptions: 0, seats: Vec::new() };
        desk.add("m", "process", mailbox);
        desk.note(observation(1.0, 1e-5));
        (desk, runner)
    }

    fn state(desk: &Desk, now: MonoTime) -> ModelStatus {
        let report = ModelReport { claimed: FORECAST, sigma: 2e-8 };
        desk.status(now, |_| Some(report)).remove(0)
    }

    #[test]
    fn a_forecast_stands_until_it_runs_out() {
        let (mut desk, mut runner) = desk(|_| Ok(Some(GOOD)));
        assert_eq!(desk.collect(at(1), 0), []);
        assert_eq!((state(&desk, at(1)).state.as_str(), state(&desk, at(1)).rate_ppb), ("waiting", None));
        runner.step(at(2));
        assert_eq!(desk.collect(at(3), 0), [(0, Some(FORECAST))]);
        assert_eq!(desk.collect(at(4), 0), []);
        let s = state(&desk, at(4));
        assert_eq!((s.state.as_str(), s.answers, s.last_answer_seconds_ago), ("active", 1, Some(2.0)));
        assert!((s.calibrated_sigma_ppb.unwrap() - 20.0).abs() < 1e-9 && s.last_error.is_none(), "{s:?}");
        assert_eq!(desk.collect(at(301), 0), []);
        assert_eq!(desk.collect(at(302), 0), [(0, None)]);
        assert_eq!(desk.collect(at(303), 0), []);
        let s = state(&desk, at(303));
        assert_eq!((s.state.as_str(), s.rate_ppb, s.failures), ("late", None, 1));
        assert!(s.last_error.unwrap().contains("run out"));
    }

    #[test]
    fn a_model_that_fails_or_has_nothing_to_say_is_withdrawn() {
        // Good at first, then by the time.
        let (mut desk, mut runner) = desk(|h| match h.now.as_ns() / 1_000_000_000 {
            ..10 => Ok(Some(GOOD)),
            10..20 => Ok(None),
            20..30 => Err("it is gone".to_owned()),
            30..40 => Ok(Some(Prediction { rate: 1.0, ..GOOD })),
            40..50 => panic!("on purpose"),
            _ => Ok(Some(GOOD)),
        });
        for (s, change, word) in [
            (5, Some(FORECAST), "active"),
            (15, None, "silent"),
            (25, None, "failed"),
            (35, None, "failed"),
            (45, None, "failed"),
            (55, Some(FORECAST), "active"),
        ] {
            runner.step(at(s));
            assert_eq!(desk.collect(at(s), 0), [(0, change)], "{s}");
            assert_eq!(state(&desk, at(s)).state, word, "{s}");
        }
        let s = state(&desk, at(55));
        assert_eq!((s.answers, s.failures, s.last_error), (3, 3, None));
    }

    #[test]
    fn what_comes_too_late_and_what_never_comes_is_not_used() {
        let (mut desk, mut runner) = desk(|_| Ok(Some(Prediction { valid_for: Span::from_secs(7), ..GOOD })));
        runner.step(at(10));
        assert_eq!(desk.collect(at(17), 0), [(0, None)]);
        assert_eq!(state(&desk, at(17)).state, "late");
        // A model may not speak for longer than an hour.
        let (mut desk, mut runner) = self::desk(|_| Ok(Some(Prediction { valid_for: Span::MAX, ..GOOD })));
        runner.step(at(10));
        assert_eq!(desk.collect(at(3_609), 0), [(0, Some(FORECAST))]);
        assert_eq!(desk.collect(at(3_610), 0), [(0, None)]);
    }

    #[test]
    fn a_model_that_hangs_is_late_and_holds_up_nobody() {
        let (ring, mailbox) = (Arc::new(Ring::default()), Arc::new(Mailbox::default()));
        let mut desk = Desk { ring: ring.clone(), epoch: 0, disruptions: 0, seats: Vec::new() };
        desk.add("m", "onnx", mailbox.clone());
        desk.note(observation(1.0, 1e-5));
        let (asked, is_asked) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let open: Open = Box::new(move || {
            asked.send(()).unwrap();
            // Hangs until the other end is dropped.
            let _ = released.recv();
            Err("it woke up".to_owned())
        });
        let mut runner = Runner::with(open, ring, mailbox, Span::from_secs(30));
        std::thread::scope(|s| {
            s.spawn(move || runner.step(at(2)));
            is_asked.recv().unwrap();
            assert_eq!(desk.collect(at(301), 0), []);
            assert_eq!(state(&desk, at(301)).state, "waiting");
            assert_eq!(desk.collect(at(302), 0), []);
            assert_eq!(desk.collect(at(900), 0), []);
            let status = state(&desk, at(900));
            assert_eq!((status.state.as_str(), status.failures), ("late", 1));
            assert!(status.last_error.unwrap().contains("not answered for 300 s"));
            drop(release);
        });
        assert_eq!(desk.collect(at(901), 0), [(0, None)]);
        assert_eq!(state(&desk, at(901)).state, "failed");
    }

    #[test]
    fn a_disruption_of_the_clock_withdraws_all_and_drops_what_was_under_way() {
        let (mut desk, mut runner) = desk(|_| Ok(Some(GOOD)));
        runner.step(at(2));
        assert_eq!(desk.collect(at(3), 0), [(0, Some(FORECAST))]);
        runner.step(at(32));
        assert_eq!(desk.collect(at(33), 1), [(0, None)]);
        assert_eq!(state(&desk, at(33)).state, "waiting");
        // Nothing is asked about an empty history.
        runner.step(at(62));
        assert_eq!(desk.collect(at(63), 1), []);
        desk.note(observation(64.0, 1e-5));
        runner.step(at(92));
        assert_eq!(desk.collect(at(93), 1), [(0, Some(FORECAST))]);
    }
}
