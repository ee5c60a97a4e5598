//! The thread of one model: asks it at intervals, and leaves its answers in a mailbox.

use crate::models::history::{History, Ring};
use crate::models::settings::ModelSpec;
use crate::models::{Prediction, RateModel};
use crate::stop::Stop;
use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest wait after failures, unless the interval is longer.
const LONGEST_BACK_OFF: Span = Span::from_secs(600);

/// What a model answered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    /// When it was asked.
    pub(crate) asked: MonoTime,
    /// Of the history that it was shown.
    pub(crate) epoch: u32,
    /// `Ok(None)` when it had nothing to say.
    pub(crate) result: Result<Option<Prediction>, String>,
}

/// Where the thread leaves the newest answer for the hub. Locked for moments only.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Post>,
}

#[derive(Clone, Debug, Default)]
struct Post {
    /// Since when the model has been thinking.
    thinking_since: Option<MonoTime>,
    answer: Option<Answer>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Post> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the model has been thinking, if it is.
    pub(crate) fn thinking_since(&self) -> Option<MonoTime> {
        self.lock().thinking_since
    }

    /// Takes the newest answer out.
    pub(crate) fn take(&self) -> Option<Answer> {
        self.lock().answer.take()
    }

    fn begin(&self, now: MonoTime) {
        self.lock().thinking_since = Some(now);
    }

    fn put(&self, answer: Answer) {
        *self.lock() = Post { thinking_since: None, answer: Some(answer) };
    }
}

/// Makes the model; called in its own thread, since it may be slow, and again after it failed.
pub(crate) type Open = Box<dyn FnMut() -> Result<Box<dyn RateModel>, String> + Send>;

/// See the module.
pub(crate) struct Runner {
    open: Open,
    model: Option<Box<dyn RateModel>>,
    ring: Arc<Ring>,
    mailbox: Arc<Mailbox>,
    interval: Span,
    failures: u32,
}

impl Runner {
    /// For one model of the configuration.
    pub(crate) fn new(spec: ModelSpec, ring: Arc<Ring>, mailbox: Arc<Mailbox>, interval: Span) -> Self {
        Self::with(Box::new(move || spec.open()), ring, mailbox, interval)
    }

    /// For a model that `open` makes.
    pub(crate) fn with(open: Open, ring: Arc<Ring>, mailbox: Arc<Mailbox>, interval: Span) -> Self {
        Self { open, model: None, ring, mailbox, interval, failures: 0 }
    }

    /// Asks at intervals until `stop`.
    pub(crate) fn run(mut self, stop: &Stop) {
        while !stop.wait_until(boottime() + self.pause()) {
            self.step(boottime());
        }
    }

    /// The interval, doubled for each failure in a row after the first.
    fn pause(&self) -> Span {
        let mut pause = self.interval;
        for _ in 1..self.failures.min(20) {
            pause = (pause + pause).min(LONGEST_BACK_OFF.max(self.interval));
        }
        pause
    }

    /// Asks once, unless nothing was measured yet.
    pub(crate) fn step(&mut self, now: MonoTime) {
        let history = self.ring.snapshot(now);
        if history.observations.is_empty() {
            return;
        }
        self.mailbox.begin(now);
        // The model is given up after a panic, whatever state it was in.
        let result = catch_unwind(AssertUnwindSafe(|| self.ask(&history)))
            .unwrap_or_else(|_| Err("it panicked (see the message above)".to_owned()));
        if result.is_err() {
            self.failures = self.failures.saturating_add(1);
            let broken = self.model.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
        } else {
            self.failures = 0;
        }
        self.mailbox.put(Answer { asked: now, epoch: history.epoch, result });
    }

    fn ask(&mut self, history: &History) -> Result<Option<Prediction>, String> {
        let model = match &mut self.model {
            Some(model) => model,
            empty => empty.insert((self.open)()?),
        };
        let prediction = model.predict(history)?;
        if let Some(p) = &prediction {
            p.forecast()?;
        }
        Ok(prediction)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::models::history::tests::observation;

    /// A model that is a closure.
    pub(crate) struct Fake<F>(pub(crate) F);

    impl<F: FnMut(&History) -> Result<Option<Prediction>, String> + Send> RateModel for Fake<F> {
        fn predict(&mut self, history: &History) -> Result<Option<Prediction>, String> {
            (self.0)(history)
        }
    }

    /// A runner of one, with its ends.
    pub(crate) fn fake(
        predict: fn(&History) -> Result<Option<Prediction>, String>,
    ) -> (Runner, Arc<Ring>, Arc<Mailbox>) {
        let (ring, mailbox) = (Arc::new(Ring::default()), Arc::new(Mailbox::default()));
        let open: Open = Box::new(move || Ok(Box::new(Fake(predict))));
        (Runner::with(open, ring.clone(), mailbox.clone(), Span::from_secs(30)), ring, mailbox)
    }

    const GOOD: Prediction = Prediction { rate: 1e-5, sigma: 1e-8, valid_for: Span::from_secs(300) };

    #[test]
    fn answers_failures_and_panics_end_in_the_mailbox() {
        let check = |predict: fn(&History) -> Result<Option<Prediction>, String>,
                     wanted: Result<bool, &str>| {
            let (mut runner, ring, mailbox) = fake(predict);
            runner.step(MonoTime::from_ns(1));
            assert_eq!((mailbox.take(), mailbox.thinking_since()), (None, None), "asked about nothing");
            ring.push(observation(5.0, 1e-5));
            for _ in 0..2 {
                runner.step(MonoTime::from_ns(9));
                assert_eq!(mailbox.thinking_since(), None);
                let answer = mailbox.take().unwrap();
                assert_eq!((answer.asked, answer.epoch), (MonoTime::from_ns(9), 0));
                match (answer.result, wanted) {
                    (Ok(got), Ok(some)) => assert_eq!(got.is_some(), some),
                    (Err(e), Err(want)) => assert!(e.contains(want), "{e}"),
                    (got, _) => panic!("{got:?} is not {wanted:?}"),
                }
            }
        };
        check(|_| Ok(Some(GOOD)), Ok(true));
        check(|_| Ok(None), Ok(false));
        check(|_| Err("it has a headache".to_owned()), Err("headache"));
        check(|_| Ok(Some(Prediction { sigma: f64::NAN, ..GOOD })), Err("sigma"));
        check(|_| panic!("on purpose"), Err("panicked"));
    }

    #[test]
    fn failures_in_a_row_make_it_rarer() {
        let (mut runner, ring, _) = fake(|_| Err(String::new()));
        ring.push(observation(5.0, 1e-5));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pauses.push(runner.pause().as_ms() / 1000);
            runner.step(MonoTime::from_ns(9));
        }
        assert_eq!(pauses, [30, 30, 60, 120, 240, 480, 600, 600]);
        runner.open = Box::new(|| Ok(Box::new(Fake(|_: &History| Ok(None)))));
        runner.step(MonoTime::from_ns(9));
        assert_eq!(runner.pause(), Span::from_secs(30));
    }

    #[test]
    fn the_thread_asks_until_the_stop() {
        let (mut runner, ring, mailbox) = fake(|_| Ok(Some(GOOD)));
        ring.push(observation(5.0, 1e-5));
        runner.interval = Span::from_ms(1);
        let stop = Stop::default();
        std::thread::scope(|s| {
            let thread = s.spawn(|| runner.run(&stop));
            let begun = boottime();
            while mailbox.take().is_none() {
                assert!(boottime() - begun < Span::from_secs(60), "no answer");
                std::thread::yield_now();
            }
            stop.set();
            thread.join().unwrap();
        });
    }
}
