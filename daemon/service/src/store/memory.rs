//! A store that forgets: for tests of what stands on a store, with faults on demand.

use super::{EventLog, LogReader, Recovery, StoreError};
use minoots_kernel::EventRecord;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a [`MemoryLog`] misbehaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MemoryFault {
    /// It does not.
    #[default]
    None,
    /// There is no room.
    Full,
    /// Every append fails for good.
    Broken,
}

/// Events in memory; clones share them, so that a clone is what a restart finds.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    records: Vec<EventRecord>,
    fault: MemoryFault,
}

impl MemoryLog {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Misbehaves from now on.
    pub fn set_fault(&self, fault: MemoryFault) {
        self.state().fault = fault;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventLog for MemoryLog {
    fn recover(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(EventRecord) -> Result<(), String>,
    ) -> Result<Recovery, StoreError> {
        let state = self.state();
        for record in state.records.iter().filter(|r| r.sequence > after) {
            each(record.clone()).map_err(|reason| StoreError::Failed { reason })?;
        }
        let last_sequence = state.records.len() as u64;
        if last_sequence < after {
            let reason = format!("it ends at event {last_sequence}, but event {after} was acknowledged");
            return Err(StoreError::Failed { reason });
        }
        Ok(Recovery { last_sequence, cut: None })
    }

    fn append(&mut self, records: &[EventRecord]) -> Result<(), StoreError> {
        self.check_room()?;
        let mut state = self.state();
        let last = state.records.len() as u64;
        if !records.iter().map(|r| r.sequence).eq(last + 1..=last + records.len() as u64) {
            let reason = format!("the batch does not follow event {last}");
            return Err(StoreError::Failed { reason });
        }
        state.records.extend_from_slice(records);
        Ok(())
    }

    fn check_room(&mut self) -> Result<(), StoreError> {
        match self.state().fault {
            MemoryFault::None => Ok(()),
            MemoryFault::Full => Err(StoreError::Full { path: PathBuf::from("memory") }),
            MemoryFault::Broken => Err(StoreError::Failed { reason: "broken on demand".to_string() }),
        }
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.clone())
    }
}

impl LogReader for MemoryLog {
    fn oldest_sequence(&self) -> Option<u64> {
        self.state().records.first().map(|r| r.sequence)
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<EventRecord>, StoreError> {
        let skip = usize::try_from(from.max(1) - 1).unwrap_or(usize::MAX);
        Ok(self.state().records.iter().skip(skip).take(limit).cloned().collect())
    }
}
