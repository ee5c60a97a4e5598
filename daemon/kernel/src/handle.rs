//! Carrying out commands: each is checked against the state, and becomes events or a refusal.

use crate::clock::ClockStamp;
use crate::command::{Change, Command, CommandError, NewDue, Outcome};
use crate::definition::{DETAIL_MAX_BYTES, NAME_MAX_BYTES, TimerDefinition, UpstreamOn};
use crate::event::{ActionResult, Event, Occurrence, SkipReason, UpstreamSeen};
use crate::id::{FiringId, TenantId, TimerId};
use crate::instance::{TimerInstance, TimerState};
use crate::kernel::Kernel;
use crate::validate;
use crate::view::ColdState;
use chronotick_core::schedule::ScheduleError;
use chronotick_core::{Span, Timestamp};
use std::sync::Arc;

impl Kernel {
    /// Carries out one command: its events are staged and the state shows them. A refused command changes nothing.
    pub fn handle(
        &mut self,
        command: Command,
        stamp: &ClockStamp,
        cold: &dyn ColdState,
    ) -> Result<Outcome, CommandError> {
        match command {
            Command::Create { id, definition } => self.create(id, definition, stamp, cold),
            Command::Change { tenant, id, expected_version, change } => {
                let timer = self.find(&tenant, id, cold)?;
                if expected_version.is_some_and(|v| v != timer.status.version) {
                    return Err(CommandError::VersionConflict { id, version: timer.status.version });
                }
                self.change(&timer, change, stamp)?;
                Ok(self.outcome(id, false, timer))
            }
            Command::Acknowledge { tenant, firing, by, note } => {
                self.acknowledge(&tenant, firing, by, note, stamp, cold)
            }
            Command::Finish { tenant, firing, results } => self.finish(&tenant, firing, results, stamp, cold),
            Command::Resolve { tenant, id, upstream, seen } => {
                self.resolve(&tenant, id, upstream, seen, stamp, cold)
            }
        }
    }

    /// A timer of this tenant, from memory or the index.
    fn find(
        &mut self,
        tenant: &TenantId,
        id: TimerId,
        cold: &dyn ColdState,
    ) -> Result<Arc<TimerInstance>, CommandError> {
        self.recall(tenant, id, cold)?;
        self.get(tenant, id).cloned().ok_or(CommandError::NotFound(id))
    }

    fn outcome(&self, id: TimerId, replayed: bool, before: Arc<TimerInstance>) -> Outcome {
        Outcome { timer: self.timer(id).cloned().unwrap_or(before), replayed }
    }

    fn create(
        &mut self,
        id: TimerId,
        definition: Arc<TimerDefinition>,
        stamp: &ClockStamp,
        cold: &dyn ColdState,
    ) -> Result<Outcome, CommandError> {
        // Before every other check: a repeated create is answered as the first was, though its moment may have passed.
        if let Some(answer) = self.replay_of(&definition, cold).transpose() {
            return answer;
        }
        validate::definition(&definition)?;
        let first = self.first_occurrence(id, &definition, stamp.now)?;
        if self.timer(id).is_some() {
            return Err(CommandError::DuplicateId(id));
        }
        let tenant = definition.tenant.clone();
        let event = if definition.start_after.is_some() {
            Event::Held { timer: id, definition }
        } else {
            let Occurrence { nominal_ns, due_ns } = first;
            let nominal_ns = (nominal_ns != due_ns).then_some(nominal_ns);
            Event::Scheduled { timer: id, definition, due_ns, nominal_ns }
        };
        self.stage(tenant, event, stamp);
        let timer = self.timer(id).cloned().ok_or(CommandError::NotFound(id))?;
        Ok(Outcome { timer, replayed: false })
    }

    /// The answer to a create whose idempotency key is known; `None` for any other. Changes nothing.
    pub fn replay_of(
        &self,
        definition: &TimerDefinition,
        cold: &dyn ColdState,
    ) -> Result<Option<Outcome>, CommandError> {
        let Some(earlier) = self.timer_of_key(definition, cold)? else { return Ok(None) };
        if earlier.definition.asks_the_same(definition) {
            Ok(Some(Outcome { timer: earlier, replayed: true }))
        } else {
            Err(CommandError::IdempotencyConflict { id: earlier.id })
        }
    }

    fn timer_of_key(
        &self,
        definition: &TimerDefinition,
        cold: &dyn ColdState,
    ) -> Result<Option<Arc<TimerInstance>>, CommandError> {
        let Some(key) = definition.idempotency_key.as_deref() else { return Ok(None) };
        let tenant = &definition.tenant;
        if let Some(id) = self.memory.timer_of_key(tenant, key) {
            return Ok(self.timer(id).cloned());
        }
        let Some(id) = cold.timer_of_key(tenant, key)? else { return Ok(None) };
        if let Some(timer) = self.get(tenant, id) {
            return Ok(Some(timer.clone()));
        }
        // Not `find`: the answer needs the timer once, the memory does not need it at all.
        Ok(cold.timer(tenant, id)?)
    }

    fn change(
        &mut self,
        timer: &Arc<TimerInstance>,
        change: Change,
        stamp: &ClockStamp,
    ) -> Result<(), CommandError> {
        let (id, tenant, status) = (timer.id, timer.tenant().clone(), &timer.status);
        let wrong_state = CommandError::WrongState { id, state: status.state, verb: change.verb() };
        let is_waiting_for_time =
            matches!(status.state, TimerState::Scheduled | TimerState::Paused) && status.next.is_some();
        change.check()?;
        match change {
            Change::Cancel { reason } => {
                if !is_waiting_for_time
                    && status.state != TimerState::Waiting
                    && !timer.goes_on_after_its_fire()
                {
                    return Err(wrong_state);
                }
                if let Some(occurrence) = status.buffered {
                    self.skip_buffered(timer, occurrence, SkipReason::Cancelled, stamp);
                }
                self.stage(tenant, Event::Cancelled { timer: id, reason }, stamp);
            }
            Change::Reschedule(to) => {
                let Some(next) = status.next.filter(|_| is_waiting_for_time) else { return Err(wrong_state) };
                let next = moved(timer, next, to, stamp.now)?;
                self.stage(tenant, Event::Rescheduled { timer: id, next }, stamp);
            }
            Change::Pause { reason } => {
                if status.state != TimerState::Scheduled {
                    return Err(wrong_state);
                }
                self.stage(tenant, Event::Paused { timer: id, reason }, stamp);
            }
            Change::Resume => {
                if status.state != TimerState::Paused {
                    return Err(wrong_state);
                }
                self.stage(tenant, Event::Resumed { timer: id }, stamp);
                if let Some(timer) = self.timer(id).cloned() {
                    self.skip_while_paused(&timer, stamp);
                }
                self.fire_buffered(id, stamp);
            }
            Change::FireNow => {
                if !is_waiting_for_time {
                    return Err(wrong_state);
                }
                self.fire_by_hand(timer, stamp)?;
            }
        }
        Ok(())
    }

    fn acknowledge(
        &mut self,
        tenant: &TenantId,
        firing: FiringId,
        by: Option<String>,
        note: Option<String>,
        stamp: &ClockStamp,
        cold: &dyn ColdState,
    ) -> Result<Outcome, CommandError> {
        let timer = self.find(tenant, firing.timer, cold)?;
        let last = timer.status.last.as_ref().filter(|l| l.nominal_ns == firing.nominal_ns);
        let last = last.ok_or(CommandError::NoSuchFire(firing))?;
        if last.acknowledged_ns.is_some() {
            // The first one stands.
            return Ok(Outcome { timer, replayed: true });
        }
        for (what, text, max) in
            [("the name of who acknowledges", &by, NAME_MAX_BYTES), ("the note", &note, DETAIL_MAX_BYTES)]
        {
            validate::check_length(what, text.as_deref().unwrap_or_default(), 0, max)?;
        }
        self.stage(tenant.clone(), Event::Acknowledged { firing, by, note }, stamp);
        Ok(self.outcome(firing.timer, false, timer))
    }

    fn finish(
        &mut self,
        tenant: &TenantId,
        firing: FiringId,
        mut results: Vec<ActionResult>,
        stamp: &ClockStamp,
        cold: &dyn ColdState,
    ) -> Result<Outcome, CommandError> {
        let id = firing.timer;
        let timer = self.find(tenant, id, cold)?;
        let status = &timer.status;
        if status.flights.iter().all(|f| f.nominal_ns != firing.nominal_ns) {
            if status.fires == 0 {
                return Err(CommandError::WrongState { id, state: status.state, verb: "finished" });
            }
            if status.latest_nominal_ns.is_none_or(|ns| ns < firing.nominal_ns) {
                return Err(CommandError::NoSuchFire(firing));
            }
            // Actions are at-least-once, so their end may be told twice; the first telling stands. A fire that was
            // given up for a later one has no end.
            return Ok(Outcome { timer, replayed: true });
        }
        for result in &mut results {
            let end = result.detail.floor_char_boundary(DETAIL_MAX_BYTES);
            result.detail.truncate(end);
        }
        let next = self.after_the_end(&timer, stamp.now);
        let event = if results.iter().all(|r| r.ok) {
            Event::Completed { firing, results, next }
        } else {
            Event::Failed { firing, results, next }
        };
        self.stage(tenant.clone(), event, stamp);
        self.fire_buffered(id, stamp);
        Ok(self.outcome(id, false, timer))
    }

    fn resolve(
        &mut self,
        tenant: &TenantId,
        id: TimerId,
        upstream: TimerId,
        seen: UpstreamSeen,
        stamp: &ClockStamp,
        cold: &dyn ColdState,
    ) -> Result<Outcome, CommandError> {
        let timer = self.find(tenant, id, cold)?;
        let known = &timer.status.resolutions;
        let definition = timer.definition.clone();
        let waits_for = definition.start_after.as_ref().filter(|_| timer.status.state == TimerState::Waiting);
        let Some(after) = waits_for else { return Ok(Outcome { timer, replayed: true }) };
        let Some(wanted) = after.upstreams.iter().find(|u| u.timer == upstream) else {
            return Ok(Outcome { timer, replayed: true });
        };
        let counts = match wanted.on {
            UpstreamOn::Fired => seen.fired,
            UpstreamOn::Completed => seen.completed,
            UpstreamOn::Failed => seen.failed,
            UpstreamOn::Ended => seen.ended,
        };
        let is_news = (counts || seen.ended) && known.iter().all(|r| r.upstream != upstream);
        if !is_news {
            return Ok(Outcome { timer, replayed: true });
        }
        let counted = known.iter().filter(|r| r.counts).count() + usize::from(counts);
        let lost = known.iter().filter(|r| !r.counts).count() + usize::from(!counts);
        let (mut next, mut reason) = (None, None);
        if counted >= after.needed() {
            match self.first_occurrence(id, &definition, stamp.now) {
                Ok(first) => next = Some(first),
                // Not a refusal: it would wait for ever.
                Err(_) => {
                    reason = Some("it has waited until its schedule had no occurrence left".to_string())
                }
            }
        } else if after.upstreams.len().saturating_sub(lost) < after.needed() {
            reason =
                Some(format!("timer {upstream}, which it waited for, ended without what was asked of it"));
        }
        self.stage(tenant.clone(), Event::Resolved { timer: id, upstream, counts, next }, stamp);
        if reason.is_some() {
            self.stage(tenant.clone(), Event::Cancelled { timer: id, reason }, stamp);
        }
        Ok(self.outcome(id, false, timer))
    }
}

/// The occurrence after it was moved.
fn moved(
    timer: &TimerInstance,
    next: Occurrence,
    to: NewDue,
    now: Timestamp,
) -> Result<Occurrence, CommandError> {
    let due_ns = match to {
        NewDue::AtNs(ns) => Some(ns),
        NewDue::AfterNs(ns) if ns < 0 => {
            return Err(ScheduleError::NegativeDelay(Span::from_ns(ns)).into());
        }
        NewDue::AfterNs(ns) => now.as_ns().checked_add(ns),
        NewDue::LaterByNs(ns) => next.due_ns.checked_add(ns),
    };
    let due_ns = due_ns.ok_or(ScheduleError::TooFar)?;
    let due = Timestamp::from_ns(due_ns);
    if due < now {
        return Err(ScheduleError::InThePast { due, late_by: now - due }.into());
    }
    // An occurrence of a recurring timer keeps its name: the ledger has one entry for each time of the schedule.
    let nominal_ns = if timer.definition.schedule.is_recurring() { next.nominal_ns } else { due_ns };
    Ok(Occurrence { nominal_ns, due_ns })
}
