//! What becomes of an occurrence: when it is due, when it was missed, and which one comes next.

use crate::clock::ClockStamp;
use crate::command::CommandError;
use crate::definition::{CATCH_UP_MAX, MisfirePolicy, OverlapPolicy, ScheduleSpec, TimerDefinition};
use crate::event::{Event, Occurrence, SkipReason};
use crate::id::{FiringId, TimerId};
use crate::instance::{TimerInstance, TimerState};
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
                        "the schedule has no occurrence between its start and its end: change them"
                            .to_string(),
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
        if self.skip_while_paused(&timer, stamp) {
            return;
        }
        let definition = &timer.definition;
        let late_ns = stamp.now.as_ns().saturating_sub(next.due_ns);
        if let Some(limit_ns) = definition.expire_after_ns
            && late_ns > limit_ns
        {
            let before_ns = stamp.now.as_ns().saturating_sub(limit_ns);
            return self.skip_late(&timer, next, before_ns, SkipReason::Expired, stamp);
        }
        if late_ns > definition.grace_ns() && self.skip_missed(&timer, next, stamp) {
            return;
        }
        if timer.is_under_way(next.nominal_ns) {
            // Only a log that this kernel did not write has an extra fire with the name of an occurrence.
            return self.skip(&timer, next, 1, SkipReason::Overlap, stamp);
        }
        if timer.status.flights.is_empty() {
            return self.fire(&timer, next, Vec::new(), stamp);
        }
        match definition.overlap {
            OverlapPolicy::Allow => self.fire(&timer, next, Vec::new(), stamp),
            OverlapPolicy::Skip => self.skip(&timer, next, 1, SkipReason::Overlap, stamp),
            OverlapPolicy::BufferOne if timer.status.buffered.is_some() => {
                self.skip(&timer, next, 1, SkipReason::BufferFull, stamp);
            }
            OverlapPolicy::BufferOne => {
                let after = self.following(&timer, next.nominal_ns, 1, stamp.now);
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
        let missed_before_ns = stamp.now.as_ns().saturating_sub(definition.grace_ns());
        let (reason, keep) = match definition.misfire_policy() {
            MisfirePolicy::FireNow => return false,
            MisfirePolicy::Skip => (SkipReason::Misfire, 0),
            MisfirePolicy::FireOnce => (SkipReason::Coalesced, 1),
            MisfirePolicy::CatchUp { max, within_ns } => {
                let oldest = stamp.now.as_ns().saturating_sub(within_ns);
                if next.due_ns < oldest {
                    self.skip_late(timer, next, oldest.min(missed_before_ns), SkipReason::Misfire, stamp);
                    return true;
                }
                (SkipReason::Misfire, max.min(CATCH_UP_MAX))
            }
        };
        let missed = self.late(timer, next, missed_before_ns, SKIP_STEP.max(keep.saturating_add(1)));
        if missed <= keep {
            return false;
        }
        self.skip(timer, next, missed - keep, reason, stamp);
        true
    }

    /// How many occurrences in a row, from one that was due before a time on, were due before it. Counts to `enough` at
    /// least.
    fn late(&mut self, timer: &Arc<TimerInstance>, first: Occurrence, before_ns: i64, enough: u64) -> u64 {
        let definition = &timer.definition;
        let jitter_ns = definition.jitter_ns.max(0);
        let left =
            definition.bounds.count.map_or(u64::MAX, |count| count.saturating_sub(timer.status.occurrences));
        // Those up to here were due before the time, whatever their jitter is.
        let until_ns = before_ns.saturating_sub(jitter_ns).saturating_sub(1);
        let certain = self.missed(timer, first.nominal_ns, until_ns, enough);
        let (mut count, mut last_ns) = (certain.count, certain.last.as_ns());
        if jitter_ns > 0 && !certain.is_capped && !is_fixed_delay(definition) {
            let most = count.saturating_add(enough);
            while count < most.min(left)
                && let Some(next) = self.following(timer, last_ns, count, Timestamp::MAX)
                && next.due_ns < before_ns
            {
                (count, last_ns) = (count + 1, next.nominal_ns);
            }
        }
        count.min(left).max(1)
    }

    /// Skips the occurrences in a row, from one that was due before a time on, that were due before it.
    fn skip_late(
        &mut self,
        timer: &Arc<TimerInstance>,
        first: Occurrence,
        before_ns: i64,
        reason: SkipReason,
        stamp: &ClockStamp,
    ) {
        let count = self.late(timer, first, before_ns, SKIP_STEP);
        self.skip(timer, first, count, reason, stamp);
    }

    /// Skips so many occurrences from `first` on, which the schedule has.
    fn skip(
        &mut self,
        timer: &Arc<TimerInstance>,
        first: Occurrence,
        count: u64,
        reason: SkipReason,
        stamp: &ClockStamp,
    ) {
        let last_ns = self.last_of(timer, first.nominal_ns, count).as_ns();
        let event = Event::Skipped {
            timer: timer.id,
            nominal_ns: first.nominal_ns,
            last_nominal_ns: (count > 1).then_some(last_ns),
            count,
            reason,
            next: self.following(timer, last_ns, count, stamp.now),
        };
        self.stage(timer.tenant().clone(), event, stamp);
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

    /// Skips what a recurring timer would have fired while it was paused: one step of it, the rest when it is due.
    /// Returns false where there is nothing to skip. A one-shot is late then, no more.
    pub(crate) fn skip_while_paused(&mut self, timer: &Arc<TimerInstance>, stamp: &ClockStamp) -> bool {
        let status = &timer.status;
        match (status.next, status.skip_before_ns) {
            (Some(next), Some(before_ns)) if next.due_ns < before_ns => {
                self.skip_late(timer, next, before_ns, SkipReason::Paused, stamp);
                true
            }
            _ => false,
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
            _ => self.following(timer, nominal_ns, 1, stamp.now),
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

    /// Fires the occurrence that waited, when no fire is under way any more.
    pub(crate) fn fire_buffered(&mut self, id: TimerId, stamp: &ClockStamp) {
        let Some(timer) = self.timer(id).cloned() else { return };
        // While it is paused the occurrence goes on waiting.
        let is_free = timer.status.flights.is_empty() && timer.status.state != TimerState::Paused;
        let Some(occurrence) = timer.status.buffered.filter(|_| is_free) else { return };
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
    pub(crate) fn fire_by_hand(
        &mut self,
        timer: &Arc<TimerInstance>,
        stamp: &ClockStamp,
    ) -> Result<(), CommandError> {
        let Some(next) = timer.status.next.filter(|n| !timer.is_under_way(n.nominal_ns)) else {
            return Ok(());
        };
        if !timer.definition.schedule.is_recurring() {
            self.fire(timer, next, Vec::new(), stamp);
            return Ok(());
        }
        let nominal_ns = self.free_name(timer, stamp.now)?.ok_or(ScheduleError::TooFar)?;
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
        Ok(())
    }

    /// The name of an extra fire: its moment, or the first after it that is the name of no other fire, past or to come.
    fn free_name(&mut self, timer: &Arc<TimerInstance>, now: Timestamp) -> Result<Option<i64>, CommandError> {
        let status = &timer.status;
        let first_ns = match status.latest_nominal_ns {
            Some(latest_ns) if latest_ns >= now.as_ns() => latest_ns.checked_add(1),
            _ => Some(now.as_ns()),
        };
        let recurrence = self.recurrence(&timer.definition)?.filter(|_| !is_fixed_delay(&timer.definition));
        let base = Timestamp::from_ns(status.base_ns);
        let is_of_schedule = |ns: i64| {
            let next = |r: &Recurrence| r.next(base, Timestamp::from_ns(ns.saturating_sub(1)));
            recurrence.as_ref().and_then(next) == Some(Timestamp::from_ns(ns))
        };
        let is_taken = |ns| status.next.is_some_and(|n| n.nominal_ns == ns) || is_of_schedule(ns);
        Ok(std::iter::successors(first_ns, |ns| ns.checked_add(1)).find(|ns| !is_taken(*ns)))
    }

    /// What a timer with a fixed delay waits for when its fire ends now.
    pub(crate) fn after_the_end(&mut self, timer: &Arc<TimerInstance>, now: Timestamp) -> Option<Occurrence> {
        let ScheduleSpec::Interval(interval) = &timer.definition.schedule else { return None };
        let status = &timer.status;
        let goes_on = interval.mode == IntervalMode::FixedDelay
            && !status.state.is_ended()
            && status.next.is_none()
            && status.flights.len() == 1;
        if goes_on { self.following(timer, i64::MIN, 0, now) } else { None }
    }

    /// The occurrence after a nominal time, when `more` have been decided beside those that the timer counts. That of a
    /// fixed delay is one distance from now.
    fn following(
        &mut self,
        timer: &Arc<TimerInstance>,
        after_ns: i64,
        more: u64,
        now: Timestamp,
    ) -> Option<Occurrence> {
        let definition = &timer.definition;
        let decided = timer.status.occurrences.saturating_add(more);
        if definition.bounds.count.is_some_and(|count| decided >= count) {
            return None;
        }
        let is_fixed_delay = is_fixed_delay(definition);
        let after = if is_fixed_delay { now } else { Timestamp::from_ns(after_ns) };
        let recurrence = self.recurrence(definition).ok()??;
        let nominal = recurrence.next(Timestamp::from_ns(timer.status.base_ns), after)?;
        let mut next = occurrence(timer.id, definition, nominal)?;
        if is_fixed_delay {
            // Where the clock was set back, that moment can be the name of an earlier occurrence.
            let latest_ns = timer.status.latest_nominal_ns.unwrap_or(i64::MIN).max(after_ns);
            if next.nominal_ns <= latest_ns {
                next.nominal_ns = latest_ns.checked_add(1)?;
            }
        }
        Some(next)
    }

    /// The occurrences from one that is there up to a time, at least that one.
    fn missed(&mut self, timer: &Arc<TimerInstance>, from_ns: i64, until_ns: i64, cap: u64) -> Missed {
        let from = Timestamp::from_ns(from_ns);
        let one = Missed { count: 1, last: from, is_capped: false };
        if until_ns <= from_ns || cap <= 1 || is_fixed_delay(&timer.definition) {
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

    /// The last of `count` occurrences, of which the first is given.
    fn last_of(&mut self, timer: &Arc<TimerInstance>, first_ns: i64, count: u64) -> Timestamp {
        let mut last = Timestamp::from_ns(first_ns);
        if let ScheduleSpec::Interval(spec) = &timer.definition.schedule {
            let steps = i64::try_from(count.saturating_sub(1)).unwrap_or(i64::MAX);
            last = Timestamp::from_ns(first_ns.saturating_add(spec.every_ns.saturating_mul(steps)));
        } else if let Ok(Some(recurrence)) = self.recurrence(&timer.definition) {
            let base = Timestamp::from_ns(timer.status.base_ns);
            for _ in 1..count {
                let Some(next) = recurrence.next(base, last) else { break };
                last = next;
            }
        }
        last
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

/// True for a timer whose next time depends on when its fire ends.
fn is_fixed_delay(definition: &TimerDefinition) -> bool {
    matches!(&definition.schedule, ScheduleSpec::Interval(i) if i.mode == IntervalMode::FixedDelay)
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
