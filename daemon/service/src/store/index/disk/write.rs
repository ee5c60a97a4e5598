//! Writes: taking in what was committed, filling from a snapshot, and forgetting.

use super::super::super::StoreError;
use super::database::{Space, View};
use super::rows::Pending;
use super::{keys, read};
use minoots_kernel::ledger::{self, LedgerChange};
use minoots_kernel::{Committed, LedgerEntry, LedgerOutcome, TimerId, TimerInstance};
use std::collections::HashSet;

/// At most so many lines of one timer go at once; a timer with more goes in several turns.
const LINES_MAX: usize = 50_000;

/// Takes in what was committed. What is in already is passed over.
pub(super) fn apply(
    pending: &mut Pending<'_>,
    view: &View<'_>,
    batches: &[Committed],
) -> Result<(), StoreError> {
    for (number, batch) in batches.iter().enumerate() {
        let Some(last) = batch.records.last() else { continue };
        if last.sequence <= pending.state.meta.applied {
            continue;
        }
        let mut recurring = HashSet::new();
        for change in &batch.changes {
            let (before, after) = (change.before.as_deref(), &*change.after);
            if let Some(before) = before
                && before.status.ended_ns.is_some()
                && before.status.flights.is_empty()
                && is_forgotten(view, &batches[..number], before.id)?
            {
                continue;
            }
            if after.definition.schedule.is_recurring() {
                recurring.insert(after.id);
            }
            pending.change(before, after)?;
        }
        for record in &batch.records {
            let mut result = Ok(());
            ledger::changes(record, |change| {
                if result.is_ok() {
                    result = change_line(pending, record.sequence, &change, &recurring);
                }
            });
            result?;
        }
        pending.state.meta.applied = last.sequence;
    }
    Ok(())
}

/// True for a timer that was there and that [`drop_history`] has removed, while the kernel still had it in memory.
fn is_forgotten(view: &View<'_>, earlier: &[Committed], id: TimerId) -> Result<bool, StoreError> {
    let is_new = || earlier.iter().flat_map(|b| &b.changes).any(|c| c.after.id == id && c.before.is_none());
    Ok(view.get(Space::Timer, &keys::id(id))?.is_none() && !is_new())
}

fn change_line(
    pending: &mut Pending<'_>,
    sequence: u64,
    change: &LedgerChange,
    recurring: &HashSet<TimerId>,
) -> Result<(), StoreError> {
    let (timer, nominal_ns, settled_ns) = match change {
        LedgerChange::Outcome { timer, nominal_ns, outcome } => {
            pending.outcome(*timer, *nominal_ns, sequence, outcome)?;
            let settled_ns = match outcome {
                LedgerOutcome::Skipped(skipped) => Some(skipped.at_ns),
                LedgerOutcome::Fired(_) | LedgerOutcome::Buffered { .. } => None,
            };
            (*timer, *nominal_ns, settled_ns)
        }
        LedgerChange::Delivery { timer, nominal_ns, delivery } => {
            pending.delivery(*timer, *nominal_ns, sequence, delivery)?;
            (*timer, *nominal_ns, Some(delivery.at_ns))
        }
    };
    if let Some(at_ns) = settled_ns.filter(|_| recurring.contains(&timer)) {
        pending.settled(timer, nominal_ns, at_ns);
    }
    Ok(())
}

/// Takes in timers of a snapshot.
pub(super) fn restore(
    pending: &mut Pending<'_>,
    applied: u64,
    timers: &[(TimerInstance, Vec<LedgerEntry>)],
) -> Result<(), StoreError> {
    for (timer, lines) in timers {
        pending.change(None, timer)?;
        for line in lines {
            // Before every event that is still to come, and the end of a line after its beginning.
            pending.outcome(timer.id, line.nominal_ns, 0, &line.outcome)?;
            if let Some(delivery) = &line.delivery {
                pending.delivery(timer.id, line.nominal_ns, 1, delivery)?;
            }
            if let Some(at_ns) = line.settled_ns()
                && timer.definition.schedule.is_recurring()
            {
                pending.settled(timer.id, line.nominal_ns, at_ns);
            }
        }
    }
    pending.state.meta.applied = applied;
    Ok(())
}

/// Moves the floor of `due` up to the first key that is there.
pub(super) fn raise_floor(pending: &mut Pending<'_>, view: &View<'_>) -> Result<(), StoreError> {
    let first = read::first_due(view, &pending.state.meta.due_floor)?;
    pending.state.meta.due_floor = first.unwrap_or([u8::MAX; 25]);
    Ok(())
}

/// Removes what ended before a time; at most `limit` timers and lines. Returns how many.
pub(super) fn drop_history(
    pending: &mut Pending<'_>,
    view: &View<'_>,
    before_ns: i64,
    limit: usize,
) -> Result<usize, StoreError> {
    let mut gone = HashSet::new();
    let timers = drop_ended(pending, view, before_ns, limit, &mut gone)?;
    let lines = drop_settled(pending, view, before_ns, limit - timers, &gone)?;
    Ok(timers + lines)
}

fn drop_ended(
    pending: &mut Pending<'_>,
    view: &View<'_>,
    before_ns: i64,
    limit: usize,
    gone: &mut HashSet<TimerId>,
) -> Result<usize, StoreError> {
    let from_ns = pending.state.ended_floor_ns;
    if from_ns >= before_ns {
        return Ok(0);
    }
    let mut count = 0;
    let mut floor_ns = before_ns;
    for row in view.range_of_times(keys::ENDED, from_ns, before_ns) {
        let (key, _) = row?;
        let (ended_ns, id) = keys::of_ended(&key).ok_or_else(|| view.damaged("a key of ended timers"))?;
        if count == limit {
            floor_ns = floor_ns.min(ended_ns);
            break;
        }
        let Some(timer) = read::timer(view, id)? else {
            pending.batch.remove(Space::Misc, &key);
            continue;
        };
        if !timer.status.flights.is_empty() {
            floor_ns = floor_ns.min(ended_ns);
            continue;
        }
        let is_recurring = timer.definition.schedule.is_recurring();
        let lines = read::lines(view, id, None, LINES_MAX)?;
        for line in &lines {
            pending.forget_line(id, line);
            if let Some(at_ns) = line.settled_ns().filter(|_| is_recurring) {
                pending.batch.remove(Space::Misc, &keys::settled(at_ns, id, line.nominal_ns));
            }
        }
        gone.insert(id);
        count += 1;
        if lines.len() == LINES_MAX {
            floor_ns = floor_ns.min(ended_ns);
            break;
        }
        pending.forget(&timer, view)?;
    }
    pending.state.ended_floor_ns = floor_ns;
    Ok(count)
}

fn drop_settled(
    pending: &mut Pending<'_>,
    view: &View<'_>,
    before_ns: i64,
    limit: usize,
    gone: &HashSet<TimerId>,
) -> Result<usize, StoreError> {
    let from_ns = pending.state.settled_floor_ns;
    if from_ns >= before_ns {
        return Ok(0);
    }
    let mut count = 0;
    let mut floor_ns = before_ns;
    for row in view.range_of_times(keys::SETTLED, from_ns, before_ns) {
        let (key, _) = row?;
        let found = keys::of_ended(&key).zip(keys::of_settled(&key));
        let ((at_ns, id), nominal_ns) = found.ok_or_else(|| view.damaged("a key of settled lines"))?;
        if count == limit {
            floor_ns = at_ns;
            break;
        }
        pending.batch.remove(Space::Misc, &key);
        if gone.contains(&id) {
            continue;
        }
        // A line that was written over has been settled at another time, or is not.
        if let Some(line) = read::line(view, id, nominal_ns)?.filter(|l| l.settled_ns() == Some(at_ns)) {
            pending.forget_line(id, &line);
            count += 1;
        }
    }
    pending.state.settled_floor_ns = floor_ns;
    Ok(count)
}
