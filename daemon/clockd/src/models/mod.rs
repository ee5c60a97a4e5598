//! Rate models from outside the daemon: what each is asked, what it may answer, and what protects the clock from it.
//!
//! A [`RateModel`] sees the rates that were measured and forecasts the next. Each has a thread of its own
//! ([`runner`]), where it may fail, panic, or never come back; it hands its answers over in a mailbox. The hub's side
//! ([`desk`]) looks into the mailboxes, never waits, judges the answers, gives them to the discipline, and withdraws
//! what has run out. How far a forecast can move corrected time is the discipline's business
//! ([`chronotick_discipline::fusion`]); the hard bound never rests on it.

pub(crate) mod desk;
pub(crate) mod history;
#[cfg(feature = "onnx")]
pub(crate) mod onnx;
pub(crate) mod process;
pub(crate) mod runner;
pub(crate) mod settings;

#[cfg(test)]
mod end_to_end;

use chronotick_core::Span;
use chronotick_discipline::Forecast;
use history::History;

/// How long a forecast stands when its model does not say.
pub(crate) const USUAL_VALIDITY: Span = Span::from_secs(300);
/// The longest that it may say: by then the measurements have come back, or the page is running out.
pub(crate) const LONGEST_VALIDITY: Span = Span::from_secs(3600);
/// No oscillator of a computer is that far off; the page's contract allows no more either.
const MOST_RATE: f64 = 1e-3;

/// What a model expects.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Prediction {
    /// The mean rate over the next ten minutes, as in the history.
    pub(crate) rate: f64,
    /// One standard deviation.
    pub(crate) sigma: f64,
    /// How long it stands, from when it was asked for.
    pub(crate) valid_for: Span,
}

impl Prediction {
    /// The forecast for the discipline. The error says what makes no sense.
    pub(crate) fn forecast(&self) -> Result<Forecast, String> {
        let Self { rate, sigma, valid_for } = *self;
        if !(-MOST_RATE..=MOST_RATE).contains(&rate) {
            return Err(format!(
                "it forecast a rate of {:e} ppb: more than 1000 ppm, or no number",
                rate * 1e9
            ));
        }
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(format!("it claimed a sigma of {:e} ppb: not a positive number", sigma * 1e9));
        }
        if valid_for <= Span::ZERO {
            return Err("its forecast is valid for no time".to_owned());
        }
        Ok(Forecast { rate, sigma })
    }
}

/// Something that forecasts the rate from its past.
pub(crate) trait RateModel: Send {
    /// What it expects; `None` when it has nothing to say. `history` is not empty. It may take some seconds, and must
    /// end by itself. The error is for the operator, and starts in the middle of a sentence.
    fn predict(&mut self, history: &History) -> Result<Option<Prediction>, String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_no_forecast() {
        let check = |rate: f64, sigma: f64, valid_s: i64, wanted: Option<&str>| {
            let p = Prediction { rate, sigma, valid_for: Span::from_secs(valid_s) };
            match (p.forecast(), wanted) {
                (Ok(f), None) => assert_eq!((f.rate, f.sigma), (rate, sigma)),
                (Err(e), Some(want)) => assert!(e.contains(want), "{p:?}: {e}"),
                (got, _) => panic!("{p:?}: {got:?}"),
            }
        };
        check(1e-5, 1e-8, 300, None);
        check(-1e-3, 1.0, 1, None);
        check(1.001e-3, 1e-8, 300, Some("1000 ppm"));
        check(f64::NAN, 1e-8, 300, Some("no number"));
        check(f64::NEG_INFINITY, 1e-8, 300, Some("1000 ppm"));
        check(0.0, 0.0, 300, Some("sigma"));
        check(0.0, -1e-9, 300, Some("sigma"));
        check(0.0, f64::NAN, 300, Some("sigma"));
        check(0.0, f64::INFINITY, 300, Some("sigma"));
        check(0.0, 1e-8, 0, Some("no time"));
    }
}
