//! The fields of a create that say when the timer fires: exactly one rule, and what belongs to it.

use super::error::{ApiError, INVALID_RECURRENCE, INVALID_SCHEDULE};
use super::values::{duration_ns, time_ns, word};
use crate::render::words::{FOLDS, GAPS, MODES};
use minoots_kernel::ScheduleSpec;
use minoots_kernel::recurrence::{Bounds, CronSpec, IntervalSpec};
use serde_json::Value;

/// The fields as they were sent.
pub(super) struct Timing {
    pub(super) after: Option<Value>,
    pub(super) at: Option<Value>,
    pub(super) every: Option<Value>,
    pub(super) mode: Option<String>,
    pub(super) anchor: Option<Value>,
    pub(super) cron: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) gap: Option<String>,
    pub(super) fold: Option<String>,
    pub(super) exclude_dates: Option<Vec<String>>,
    pub(super) start: Option<Value>,
    pub(super) end: Option<Value>,
    pub(super) count: Option<u64>,
}

/// The schedule and its bounds.
pub(super) fn from_json(t: Timing) -> Result<(ScheduleSpec, Bounds), ApiError> {
    let time = |field, value: &Option<Value>| value.as_ref().map(|v| time_ns(field, v)).transpose();
    let mut rules = Rules::default();
    rules.note("after", t.after.is_some());
    rules.note("at", t.at.is_some());
    rules.note("every", t.every.is_some());
    rules.note("cron", t.cron.is_some());
    let rule = rules.only()?;
    let belongs = |field, is_given, to: &[&str]| belongs(rule, field, is_given, to);
    belongs("mode", t.mode.is_some(), &["every"])?;
    belongs("anchor", t.anchor.is_some(), &["every"])?;
    belongs("zone", t.zone.is_some(), &["cron"])?;
    belongs("gap", t.gap.is_some(), &["cron"])?;
    belongs("fold", t.fold.is_some(), &["cron"])?;
    belongs("exclude_dates", t.exclude_dates.is_some(), &["cron"])?;
    belongs("start", t.start.is_some(), &["every", "cron"])?;
    belongs("end", t.end.is_some(), &["every", "cron"])?;
    belongs("count", t.count.is_some(), &["every", "cron"])?;
    let schedule = match (t.after, t.at, t.every, t.cron) {
        (Some(after), ..) => ScheduleSpec::AfterNs(duration_ns("after", &after)?),
        (_, Some(at), ..) => ScheduleSpec::AtNs(time_ns("at", &at)?),
        (.., Some(every), None) => ScheduleSpec::Interval(IntervalSpec {
            every_ns: duration_ns("every", &every)?,
            mode: t.mode.map(|m| word("mode", &m, &MODES)).transpose()?.unwrap_or_default(),
            anchor_ns: time("anchor", &t.anchor)?,
        }),
        (.., expression) => ScheduleSpec::Cron(CronSpec {
            expression: expression.unwrap_or_default(),
            zone: t.zone.unwrap_or_else(|| "UTC".to_string()),
            gap: t.gap.map(|g| word("gap", &g, &GAPS)).transpose()?,
            overlap: t.fold.map(|f| word("fold", &f, &FOLDS)).transpose()?,
            exclude_dates: t.exclude_dates.unwrap_or_default(),
        }),
    };
    let bounds = Bounds { start_ns: time("start", &t.start)?, end_ns: time("end", &t.end)?, count: t.count };
    Ok((schedule, bounds))
}

/// Which rules were given.
#[derive(Default)]
pub(super) struct Rules(Vec<&'static str>);

impl Rules {
    fn note(&mut self, rule: &'static str, is_given: bool) {
        if is_given {
            self.0.push(rule);
        }
    }

    /// The only one.
    fn only(&self) -> Result<&'static str, ApiError> {
        match self.0.as_slice() {
            [rule] => Ok(rule),
            [] => Err(no_schedule("none")),
            [a, b] => Err(no_schedule(&format!("both {a} and {b}"))),
            [first, ..] => Err(no_schedule(&format!("{first} and {} more", self.0.len() - 1))),
        }
    }
}

/// None or several of the rules were given.
pub(super) fn no_schedule(given: &str) -> ApiError {
    ApiError::new(
        &INVALID_SCHEDULE,
        format!(
            "{given} of after, at, every and cron is given: give one of after (a duration), at (a time), every (a \
             duration) and cron (an expression)"
        ),
    )
}

/// Refuses a field that means nothing to the rule that was given.
pub(super) fn belongs(rule: &str, field: &str, is_given: bool, to: &[&str]) -> Result<(), ApiError> {
    if !is_given || to.contains(&rule) {
        return Ok(());
    }
    let detail = format!("{field} belongs to {} and not to {rule}: leave it out", to.join(" and "));
    Err(ApiError::new(&INVALID_RECURRENCE, detail))
}
