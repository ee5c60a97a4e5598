//! From what is on the disk to a kernel that goes on: the index, then the part of the log that it lacks.

use crate::store::index::Cold;
use crate::store::{EventLog, Recovery, Snapshots, StoreError, TimerIndex};
use chronotick_core::Timestamp;
use minoots_kernel::{Committed, Kernel};

/// So many events are replayed between two writes to the index.
const EVENTS_MAX: usize = 8192;
/// So many events are replayed between two moments at which the index is made durable, so that a start that is cut short
/// need not begin again.
const CHECKPOINT_EVENTS: u64 = 1 << 20;

/// A kernel that continues a log.
pub struct Recovered {
    /// With the timers in memory that have a fire under way.
    pub kernel: Kernel,
    /// What was found in the log.
    pub recovery: Recovery,
    /// What the index lacks, since the disk is full. Its timers are in the kernel's memory until the index has them.
    pub backlog: Vec<Committed>,
}

/// Brings the index up to the log, and makes the kernel that continues both.
pub fn recover(
    log: &mut dyn EventLog,
    index: &dyn TimerIndex,
    snapshots: Option<&Snapshots>,
    now: Timestamp,
) -> Result<Recovered, StoreError> {
    let mut applied = index.applied();
    if applied == 0
        && let Some(snapshots) = snapshots
    {
        applied = snapshots.restore(index)?;
    }
    let mut kernel = Kernel::starting_after(applied);
    // The queue sorts by distance from now: without this the replay would pile every timer up far from 1970.
    kernel.prepare(now, 0);
    let mut next_checkpoint = applied + CHECKPOINT_EVENTS;
    let mut backlog = Vec::new();
    let recovery = log.recover(applied, &mut |record| {
        kernel.replay(record, &Cold(index)).map_err(|e| e.to_string())?;
        if kernel.staged().len() >= EVENTS_MAX {
            take_in(&mut kernel, index, &mut backlog).map_err(|e| e.to_string())?;
            if kernel.last_sequence() >= next_checkpoint && backlog.is_empty() {
                index.checkpoint().map_err(|e| e.to_string())?;
                next_checkpoint = kernel.last_sequence() + CHECKPOINT_EVENTS;
            }
        }
        Ok(())
    })?;
    take_in(&mut kernel, index, &mut backlog)?;
    if backlog.is_empty() {
        index.checkpoint()?;
    }
    let open = index.with_flights()?;
    tracing::info!(
        last_sequence = recovery.last_sequence,
        replayed = recovery.last_sequence - applied,
        fires_under_way = open.len(),
        "the event log and its index agree"
    );
    kernel.load_open(open, now);
    Ok(Recovered { kernel, recovery, backlog })
}

/// Gives what was replayed to the index, and forgets it; or keeps it, while there is no room.
fn take_in(
    kernel: &mut Kernel,
    index: &dyn TimerIndex,
    backlog: &mut Vec<Committed>,
) -> Result<(), StoreError> {
    let committed = kernel.commit();
    if committed.records.is_empty() {
        return Ok(());
    }
    if !backlog.is_empty() {
        backlog.push(committed);
        return Ok(());
    }
    match index.apply(std::slice::from_ref(&committed)) {
        Ok(()) => {
            kernel.settle(index.applied(), usize::MAX);
        }
        Err(StoreError::Full { path }) => {
            tracing::warn!(path = %path.display(), "no room for the index: it is brought up to the log when there is");
            backlog.push(committed);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
