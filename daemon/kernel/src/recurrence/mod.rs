//! When a recurring timer fires: intervals, and cron expressions in a time zone. Pure functions of their arguments.
//!
//! A spec ([`IntervalSpec`], [`CronSpec`]) with its [`Bounds`] is what is stored; a [`Recurrence`] is compiled from it
//! and answers questions. The moments it gives are *nominal*: [`jitter_ns`] may delay the fire, and moves no later
//! occurrence. Time zones come from the database compiled into the program (see `zone`), and croner only parses the
//! expression (see `pattern`): what happens when the clocks change is decided in `cron`.

mod cache;
mod cron;
mod error;
mod interval;
mod jitter;
mod pattern;
mod spec;
mod zone;

pub use cache::{CACHE_RULES_MAX, RecurrenceCache};
pub use error::RecurrenceError;
pub use jitter::jitter_ns;
pub use spec::{
    Bounds, CronSpec, EVERY_MIN_NS, EXCLUDE_DATES_MAX, EXPRESSION_MAX_BYTES, FoldPolicy, GapPolicy,
    IntervalMode, IntervalSpec, ZONE_MAX_BYTES,
};

use chronotick_core::time::NS_PER_SEC;
use chronotick_core::{Span, Timestamp};
use cron::CronRule;
use interval::IntervalRule;
use std::sync::Arc;
use zone::Zone;

/// A compiled recurrence. A clone shares the compiled rule.
#[derive(Clone, Debug)]
pub struct Recurrence {
    rule: Rule,
    bounds: Bounds,
}

#[derive(Clone, Debug)]
enum Rule {
    Interval(IntervalRule),
    Cron(Arc<CronRule>),
}

/// The occurrences that a stretch of time holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missed {
    /// How many there are; where `is_capped`, the cap, and there are more.
    pub count: u64,
    /// The last of them, exact even where the count is capped.
    pub last: Timestamp,
    /// True if there are more than `count`. Never for an interval, whose count takes no longer for being large.
    pub is_capped: bool,
}

impl Recurrence {
    /// Checks and compiles an interval.
    pub fn interval(spec: &IntervalSpec, bounds: &Bounds) -> Result<Self, RecurrenceError> {
        Self::bounded(Rule::Interval(IntervalRule::compile(spec)?), bounds)
    }

    /// Checks and compiles a cron expression, and refuses one that never fires.
    pub fn cron(spec: &CronSpec, bounds: &Bounds) -> Result<Self, RecurrenceError> {
        let rule = CronRule::compile(spec, |name| Ok(Arc::new(Zone::named(name)?)))?;
        Self::bounded(Rule::Cron(Arc::new(rule)), bounds)
    }

    fn bounded(rule: Rule, bounds: &Bounds) -> Result<Self, RecurrenceError> {
        let recurrence = Self { rule, bounds: *bounds };
        let Bounds { start_ns, end_ns, count } = *bounds;
        if count == Some(0) {
            return Err(RecurrenceError::ZeroCount);
        }
        if let (Some(start_ns), Some(end_ns)) = (start_ns, end_ns)
            && end_ns <= start_ns
        {
            return Err(RecurrenceError::EndBeforeStart);
        }
        // Where creation decides the occurrences, whether one lies within the bounds is not known yet.
        let is_known = match &recurrence.rule {
            Rule::Interval(rule) => rule.anchor_ns().is_some(),
            Rule::Cron(_) => true,
        };
        let is_bounded = start_ns.is_some() || end_ns.is_some();
        if is_known && is_bounded && recurrence.first_from(Timestamp::MIN, i64::MIN).is_none() {
            return Err(RecurrenceError::NothingInBounds);
        }
        Ok(recurrence)
    }

    /// The bounds it was compiled with.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The first occurrence of a timer created at `created`; `None` if all lie before its creation or past the end.
    ///
    /// Not before the start. For cron it is strictly later than `created`; for an interval see [`IntervalMode`]: on an
    /// anchored grid it may be `created` itself. A start does not move a grid, and a fixed delay begins at it if it lies
    /// later than one distance after creation.
    pub fn first(&self, created: Timestamp) -> Option<Timestamp> {
        self.first_from(created, i64::MIN)
    }

    /// The first occurrence strictly after `after`; `None` at the end.
    ///
    /// For a fixed delay `after` is the end of the previous fire, and the answer one distance later. For the others it
    /// may be any moment: the occurrences do not depend on where the search begins.
    pub fn next(&self, created: Timestamp, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Interval(rule) => {
                let found = rule.first_after(created.as_ns(), after.as_ns(), self.start_ns())?;
                self.before_end(found)
            }
            Rule::Cron(_) => self.first_from(created, after.as_ns().checked_add(1)?),
        }
    }

    /// The occurrences in `[from, until]`, of which `from` is one: how many, and the last. Stops counting at `cap`, which
    /// is taken as 1 if it is 0.
    ///
    /// `from` is taken as an occurrence even if the rule does not say so (a newer time zone database may have moved
    /// it). Of a fixed delay it is the only one: the next is not known before the timer has fired. Takes the same time
    /// for an interval of any length; for cron, time in proportion to the count, up to `cap`.
    pub fn missed(&self, created: Timestamp, from: Timestamp, until: Timestamp, cap: u64) -> Missed {
        if until < from {
            return Missed { count: 0, last: from, is_capped: false };
        }
        match &self.rule {
            Rule::Interval(rule) => {
                let (last, after) = self.grid_after(rule, created, from, until).unwrap_or((from.as_ns(), 0));
                Missed { count: after + 1, last: Timestamp::from_ns(last), is_capped: false }
            }
            Rule::Cron(_) => {
                let cap = cap.max(1);
                let (mut count, mut last) = (1, from);
                while let Some(next) = self.next(created, last).filter(|next| *next <= until) {
                    if count >= cap {
                        let last = self.last_cron(created, from, until).unwrap_or(last);
                        return Missed { count: cap, last, is_capped: true };
                    }
                    (count, last) = (count + 1, next);
                }
                Missed { count, last, is_capped: false }
            }
        }
    }

    /// The last `n` occurrences in `[from, until]`, in ascending order. What counts as one is as for [`Self::missed`].
    ///
    /// Found from the end backwards, so the time depends on `n` and not on how many there are.
    pub fn latest(&self, created: Timestamp, from: Timestamp, until: Timestamp, n: usize) -> Vec<Timestamp> {
        let mut found = Vec::new();
        if until >= from {
            self.push_latest(created, from, until, n, &mut found);
            if found.len() < n {
                found.push(from);
            }
        }
        found.reverse();
        found
    }

    /// Adds the last `n` occurrences in `(from, until]`, the last of them first.
    fn push_latest(
        &self,
        created: Timestamp,
        from: Timestamp,
        until: Timestamp,
        n: usize,
        found: &mut Vec<Timestamp>,
    ) {
        match &self.rule {
            Rule::Interval(rule) => {
                if let Some((last, count)) = self.grid_after(rule, created, from, until) {
                    let every = Span::from_ns(rule.every_ns());
                    let points = std::iter::successors(Some(Timestamp::from_ns(last)), |t| Some(*t - every));
                    found.extend(points.take(n.min(usize::try_from(count).unwrap_or(usize::MAX))));
                }
            }
            Rule::Cron(_) => {
                let mut until = until;
                while found.len() < n
                    && let Some(last) = self.last_cron(created, from, until)
                {
                    found.push(last);
                    until = last - Span::from_ns(1);
                }
            }
        }
    }

    /// The last point of a grid in `(from, until]` within the bounds, and how many there are.
    fn grid_after(
        &self,
        rule: &IntervalRule,
        created: Timestamp,
        from: Timestamp,
        until: Timestamp,
    ) -> Option<(i64, u64)> {
        if !rule.has_grid() {
            return None;
        }
        let first = self.next(created, from)?;
        let until_ns =
            until.as_ns().min(self.bounds.end_ns.map_or(i64::MAX, |end_ns| end_ns.saturating_sub(1)));
        rule.last_from(first.as_ns(), until_ns)
    }

    /// The last occurrence of a cron rule in `(from, until]` within the bounds.
    fn last_cron(&self, created: Timestamp, from: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let Rule::Cron(rule) = &self.rule else { return None };
        // Occurrences are whole seconds: after `from`, after creation, from the start on.
        let after_ns = from.max(created).as_ns().max(self.start_ns().saturating_sub(1));
        let until_ns =
            until.as_ns().min(self.bounds.end_ns.map_or(i64::MAX, |end_ns| end_ns.saturating_sub(1)));
        let last = rule.last_in(after_ns.div_euclid(NS_PER_SEC), until_ns.div_euclid(NS_PER_SEC))?;
        Some(Timestamp::from_secs(last))
    }

    /// The first occurrence at or after `from_ns` within the bounds.
    fn first_from(&self, created: Timestamp, from_ns: i64) -> Option<Timestamp> {
        let from_ns = from_ns.max(self.start_ns());
        let found = match &self.rule {
            Rule::Interval(rule) => rule.first_from(created.as_ns(), from_ns)?,
            Rule::Cron(rule) => {
                // The first whole second that is at `from_ns` or later, and later than the creation.
                let from_ns = from_ns.max(created.as_ns().checked_add(1)?);
                let whole_s = from_ns.div_euclid(NS_PER_SEC) + i64::from(from_ns.rem_euclid(NS_PER_SEC) > 0);
                rule.first_from(whole_s)?.checked_mul(NS_PER_SEC)?
            }
        };
        self.before_end(found)
    }

    fn start_ns(&self) -> i64 {
        self.bounds.start_ns.unwrap_or(i64::MIN)
    }

    fn before_end(&self, ns: i64) -> Option<Timestamp> {
        self.bounds.end_ns.is_none_or(|end_ns| ns < end_ns).then_some(Timestamp::from_ns(ns))
    }
}
