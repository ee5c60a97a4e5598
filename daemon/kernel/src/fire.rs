//! What becomes of an occurrence: when it is due, when it was missed, and which one comes next.

use crate::clock::ClockStamp;
use crate::command::CommandError;
use crate::definition::{MisfirePolicy, OverlapPolicy, ScheduleSpec, TimerDefinition};
use crate::event::{Event, Occurrence, SkipReason};
use crate::id::{FiringId, TimerId};
use crate::instance::TimerInstance;
use crate::kernel::Kernel;
use crate::recurrence::{IntervalMode, Missed, Recurrence, jitter_ns};
use chronotick_core::schedule::{Schedule, ScheduleError};
use chronotick_core::{Span, Timestamp};
use std::sync::Arc;

/// At most so many missed occurrences are counted in one step, so that years of a rule that fires each second do not
/// hold up the timers of others. The rest is counted in the next step.
const SKIP_STEP: u64 = 10_000;

impl Kernel {
    /// The first occurrence of a schedule that starts now; an error where it has none, or one in the past.
    pub(crate) fn first_occurrence(
        &mut self,
        id: TimerId,
        definition: &TimerDefinition,
        now: Timestamp,
    ) -> Result<Occurrence, CommandError> {
        let nominal = match &definition.schedule {
            ScheduleSpec::AfterNs(ns) => Schedule::After(Span::from_ns(*ns)).first_due(now)?,
            // A timer that waits for others may wait past its moment; it fires late then, as its policy says.
            ScheduleSpec::AtNs(ns) if definition.start_after.is_some() => Timestamp::from_ns(*ns),
            ScheduleSpec::AtNs(ns) => Schedule::At(Timestamp::from_ns(*ns)).first_due(now)?,
            ScheduleSpec::Interval(_) | ScheduleSpec::Cron(_) => {
                let first = self.recurrence(definition)?.and_then(|r| r.first(now));
                first.ok_or_else(|| {
                    CommandError::Invalid(
                        "the schedule has no occurrence between its start and its end: change them".to_string(),
                    )
                })?
            }
        };
        occurrence(id, definition, nominal).ok_or(CommandError::Schedule(ScheduleError::TooFar))
    }

    /// Decides about the occurrence that a timer in memory waits for and that is due.
    pub(crate) fn decide_due(&mut self, id: TimerId, stamp: &ClockStamp) {
        let Some(timer) = self.timer(id).cloned() else { return };
        let Some(next) = timer.status.next else { return };
        let definition = &timer.definition;
        let late_ns = stamp.now.as_ns().saturating_sub(next.due_ns);
        if let Some(limit_ns) = definition.expire_after_ns
            && late_ns > limit_ns
        {
            let until = stamp.now.as_ns().saturating_sub(limit_ns).saturating_sub(definition.jitter_ns);
            return self.skip_until(&timer, next, until, u64::MAX, SkipReason::Expired, stamp);
        }
        if late_ns > definition.grace_ns() && self.skip_missed(&timer, next, stamp) {
            return;
        }
        if timer.status.flights.is_empty() {
            return self.fire(&timer, next, Vec::new(), stamp);
        }
        match definition.overlap {
            OverlapPolicy::Allow => self.fire(&timer, next, Vec::new(), stamp),
            OverlapPolicy::Skip => self.skip_one(&timer, next, SkipReason::Overlap, stamp),
            OverlapPolicy::BufferOne if timer.status.buffered.is_some() => {
                self.skip_one(&timer, next, SkipReason::BufferFull, stamp);
            }
            OverlapPolicy::BufferOne => {
                let after = self.following(&timer, next.nominal_ns, 1);
                let event = Event::Buffered { timer: id, occurrence: next, next: after };
                self.stage(timer.tenant().clone(), event, stamp);
            }
            OverlapPolicy::CancelPrevious => {
                let given_up = timer.status.flights.iter().map(|f| f.nominal_ns).collect();
                self.fire(&timer, next, given_up, stamp);
            }
        }
    }

    /// Skips what the misfire policy says of an occurrence that was missed; false when it is to fire all the same.
    fn skip_missed(&mut self, timer: &Arc<TimerInstance>, next: Occurrence, stamp: &ClockStamp) -> bool {
        let definition = &timer.definition;
        let missed_until = stamp.now.as_ns().saturating_sub(definition.grace_ns());
        let reason_and_keep = match definition.misfire_policy() {
            MisfirePolicy::FireNow => return false,
            MisfirePolicy::Skip => (SkipReason::Misfire, 0),
            MisfirePolicy::FireOnce => (SkipReason::Coalesced, 1),
            MisfirePolicy::CatchUp { max, within_ns } => {
                let oldest = stamp.now.as_ns().saturating_sub(within_ns);
                if next.nominal_ns < oldest {
                    let until = oldest.saturating_sub(1).min(missed_until);
                    self.skip_until(timer, next, until, u64::MAX, SkipReason::Misfire, stamp);
                    return true;
                }
                (SkipReason::Misfire, max)
            }
        };
        let (reason, keep) = reason_and_keep;
        let missed = self.missed(timer, next.nominal_ns, missed_until, SKIP_STEP.max(keep.saturating_add(1)));
        if missed.count <= keep {
            return false;
        }
        self.skip_until(timer, next, missed_until, missed.count - keep, reason, stamp);
        true
    }

    /// Skips the occurrences from `first` on up to a time, at least that one and at most `limit`.
    fn skip_until(
        &mut self,
        timer: &Arc<TimerInstance>,
        first: Occurrence,
        until_ns: i64,
        limit: u64,
        reason: SkipReason,
        stamp: &ClockStamp,
    ) {
        let left = timer.definition.bounds.count.map_or(u64::MAX, |count| count.saturating_sub(timer.status.occurrences));
        let limit = limit.min(left);
        let mut missed = self.missed(timer, first.nominal_ns, until_ns, limit.min(SKIP_STEP));
        if missed.is_capped || missed.count > limit {
            missed = self.first_of(timer, first.nominal_ns, missed.count.min(limit));
        }
        let (count, last_ns) = (missed.count, missed.last.as_ns());
        let event = Event::Skipped {
            timer: timer.id,
            nominal_ns: first.nominal_ns,
            last_nominal_ns: (count > 1).then_some(last_ns),
            count,
            reason,
            next: self.following(timer, last_ns, count),
        };
        self.stage(timer.tenant().clone(), event, stamp);
    }

    fn skip_one(
        &mut self,
        timer: &Arc<TimerInstance>,
        occurrence: Occurrence,
        reason: SkipReason,
        stamp: &ClockStamp,
    ) {
        self.skip_until(timer, occurrence, occurrence.nominal_ns, 1, reason, stamp);
    }

    /// Takes back an occurrence that waited for an earlier fire to end.
    pub(crate) fn skip_buffered(
        &mut self,
        timer: &TimerInstance,
        occurrence: Occurrence,
        reason: SkipReason,
        stamp: &ClockStamp,
    ) {
        let event = Event::Skipped {
            timer: timer.id,
            nominal_ns: occurrence.nominal_ns,
            last_nominal_ns: None,
            count: 1,
            reason,
            next: None,
        };
        self.stage(timer.tenant().clone(), event, stamp);
    }

    /// Skips what a recurring timer would have fired while it was paused. A one-shot is late then, no more.
    pub(crate) fn skip_while_paused(&mut self, id: TimerId, stamp: &ClockStamp) {
        loop {
            let Some(timer) = self.timer(id).cloned() else { return };
            let Some(next) = timer.status.next.filter(|n| n.due_ns < stamp.now.as_ns()) else { return };
            if !timer.definition.schedule.is_recurring() {
                return;
            }
            self.skip_until(&timer, next, stamp.now.as_ns() - 1, u64::MAX, SkipReason::Paused, stamp);
        }
    }

    /// Fires an occurrence.
    fn fire(
        &mut self,
        timer: &Arc<TimerInstance>,
        occurrence: Occurrence,
        supersedes: Vec<i64>,
        stamp: &ClockStamp,
    ) {
        let Occurrence { nominal_ns, due_ns } = occurrence;
        let next = match &timer.definition.schedule {
            // Its next time depends on when this fire ends.
            ScheduleSpec::Interval(i) if i.mode == IntervalMode::FixedDelay => None,
            _ => self.following(timer, nominal_ns, 1),
        };
        let event = Event::Firing {
            firing: FiringId { timer: timer.id, nominal_ns },
            lateness_ns: stamp.now.as_ns().saturating_sub(due_ns),
            max_error_ns: stamp.max_error_ns(),
            due_ns: (due_ns != nominal_ns).then_some(due_ns),
            armed_ns: self.memory.armed_ns(timer.id),
            is_extra: false,
            supersedes,
            next,
        };
        self.stage(timer.tenant().clone(), event, stamp);
    }

    /// Fires the occurrence that waited for the fire that has just ended.
    pub(crate) fn fire_buffered(&mut self, id: TimerId, stamp: &ClockStamp) {
        let Some(timer) = self.timer(id).cloned() else { return };
        let Some(occurrence) = timer.status.buffered.filter(|_| timer.status.flights.is_empty()) else { return };
        let late_ns = stamp.now.as_ns().saturating_sub(occurrence.due_ns);
        if timer.definition.expire_after_ns.is_some_and(|limit| late_ns > limit) {
            return self.skip_buffered(&timer, occurrence, SkipReason::Expired, stamp);
        }
        let event = Event::Firing {
            firing: FiringId { timer: id, nominal_ns: occurrence.nominal_ns },
            lateness_ns: late_ns,
            max_error_ns: stamp.max_error_ns(),
            due_ns: (occurrence.due_ns != occurrence.nominal_ns).then_some(occurrence.due_ns),
            armed_ns: None,
            is_extra: false,
            supersedes: Vec::new(),
            next: None,
        };
        self.stage(timer.tenant().clone(), event, stamp);
    }

    /// Fires a timer by hand: a one-shot ahead of its time, a recurring timer once more.
    pub(crate) fn fire_by_hand(&mut self, timer: &Arc<TimerInstance>, stamp: &ClockStamp) {
        let Some(next) = timer.status.next else { return };
        if !timer.definition.schedule.is_recurring() {
            return self.fire(timer, next, Vec::new(), stamp);
        }
        // An extra fire is named after its own moment, which no other fire of the timer may have.
        let last_ns = timer.status.last.as_ref().map_or(i64::MIN, |l| l.nominal_ns);
        let mut nominal_ns = stamp.now.as_ns().max(last_ns.saturating_add(1));
        let is_taken = |ns| {
            timer.status.flights.iter().any(|f| f.nominal_ns == ns)
                || timer.status.buffered.is_some_and(|b| b.nominal_ns == ns)
                || next.nominal_ns == ns
        };
        while is_taken(nominal_ns) {
            nominal_ns += 1;
        }
        let event = Event::Firing {
            firing: FiringId { timer: timer.id, nominal_ns },
            lateness_ns: 0,
            max_error_ns: stamp.max_error_ns(),
            due_ns: None,
            armed_ns: None,
            is_extra: true,
            supersedes: Vec::new(),
            next: None,
        };
        self.stage(timer.tenant().clone(), event, stamp);
    }

    /// What a timer with a fixed delay waits for when its fire ends now.
    pub(crate) fn after_the_end(&mut self, timer: &Arc<TimerInstance>, now: Timestamp) -> Option<Occurrence> {
        let ScheduleSpec::Interval(interval) = &timer.definition.schedule else { return None };
        let status = &timer.status;
        let goes_on = interval.mode == IntervalMode::FixedDelay
            && !status.state.is_ended()
            && status.next.is_none()
            && status.flights.len() == 1;
        if goes_on { self.following(timer, now.as_ns(), 0) } else { None }
    }

    /// The occurrence after a nominal time, when `more` have been decided beside those that the timer counts.
    fn following(&mut self, timer: &Arc<TimerInstance>, after_ns: i64, more: u64) -> Option<Occurrence> {
        let definition = &timer.definition;
        let decided = timer.status.occurrences.saturating_add(more);
        if definition.bounds.count.is_some_and(|count| decided >= count) {
            return None;
        }
        let recurrence = self.recurrence(definition).ok()??;
        let nominal =
            recurrence.next(Timestamp::from_ns(timer.status.base_ns), Timestamp::from_ns(after_ns))?;
        occurrence(timer.id, definition, nominal)
    }

    /// The occurrences from one that is there up to a time, at least that one.
    fn missed(&mut self, timer: &Arc<TimerInstance>, from_ns: i64, until_ns: i64, cap: u64) -> Missed {
        let from = Timestamp::from_ns(from_ns);
        let one = Missed { count: 1, last: from, is_capped: false };
        let is_fixed_delay = matches!(&timer.definition.schedule,
            ScheduleSpec::Interval(i) if i.mode == IntervalMode::FixedDelay);
        if until_ns <= from_ns || cap <= 1 || is_fixed_delay {
            return one;
        }
        match self.recurrence(&timer.definition) {
            Ok(Some(recurrence)) => {
                let base = Timestamp::from_ns(timer.status.base_ns);
                recurrence.missed(base, from, Timestamp::from_ns(until_ns), cap)
            }
            _ => one,
        }
    }

    /// The first `count` occurrences from one that is there.
    fn first_of(&mut self, timer: &Arc<TimerInstance>, from_ns: i64, count: u64) -> Missed {
        let mut last = Timestamp::from_ns(from_ns);
        if let ScheduleSpec::Interval(spec) = &timer.definition.schedule {
            let steps = i64::try_from(count.saturating_sub(1)).unwrap_or(i64::MAX);
            last = Timestamp::from_ns(from_ns.saturating_add(spec.every_ns.saturating_mul(steps)));
        } else if let Ok(Some(recurrence)) = self.recurrence(&timer.definition) {
            let base = Timestamp::from_ns(timer.status.base_ns);
            for _ in 1..count {
                let Some(next) = recurrence.next(base, last) else { break };
                last = next;
            }
        }
        Missed { count, last, is_capped: false }
    }

    /// The compiled rule; `None` for a one-shot.
    fn recurrence(&mut self, definition: &TimerDefinition) -> Result<Option<Recurrence>, CommandError> {
        Ok(match &definition.schedule {
            ScheduleSpec::AfterNs(_) | ScheduleSpec::AtNs(_) => None,
            ScheduleSpec::Interval(spec) => Some(Recurrence::interval(spec, &definition.bounds)?),
            ScheduleSpec::Cron(spec) => Some(self.recurrences.cron(spec, &definition.bounds)?),
        })
    }
}

/// An occurrence with its jitter; `None` past the last time there is.
fn occurrence(id: TimerId, definition: &TimerDefinition, nominal: Timestamp) -> Option<Occurrence> {
    let nominal_ns = nominal.as_ns();
    let jitter_ns = match definition.jitter_ns {
        0 => 0,
        max_ns => jitter_ns(id.as_u128(), nominal_ns, max_ns),
    };
    Some(Occurrence { nominal_ns, due_ns: nominal_ns.checked_add(jitter_ns)? })
}
