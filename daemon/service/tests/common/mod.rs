//! What the engine's tests share: ids that repeat, a plain definition, and engines over any store.
#![allow(dead_code)] // Each test uses a part of it.

use chronotick_core::Span;
use minoots::clock::KernelClock;
use minoots::engine::{Engine, EngineConfig, IdSource, Retention, Started};
use minoots::store::{LogOptions, MemoryIndex, MemoryLog, PartitionStore, embedded};
use minoots_kernel::{ScheduleSpec, TimerDefinition, TimerId};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Ids 1, 2, 3, ... of one "process"; a restart has its own.
pub(crate) fn ids(process: u64) -> IdSource {
    let next = AtomicU64::new(1);
    let number = move || next.fetch_add(1, Ordering::Relaxed);
    Arc::new(move || TimerId::from_u128(u128::from(process) << 64 | u128::from(number())))
}

/// A timer with nothing but a name and a delay.
pub(crate) fn definition(name: &str, after: Span) -> TimerDefinition {
    let schedule = ScheduleSpec::AfterNs(after.as_ns());
    TimerDefinition { name: name.to_string(), schedule, ..TimerDefinition::default() }
}

/// An engine over these stores, which all tell the time of `clock`.
pub(crate) fn start_over(
    stores: Vec<PartitionStore>,
    clock: impl KernelClock + Clone + 'static,
    process: u64,
    retention: Retention,
) -> Started {
    let clock = Box::new(move || Box::new(clock.clone()) as Box<dyn KernelClock>);
    Engine::start(EngineConfig { stores, clock, ids: ids(process), retention }).expect("it starts")
}

/// A store in memory; clones of the log and the index are what a restart finds.
pub(crate) fn memory_store(log: &MemoryLog, index: &MemoryIndex) -> PartitionStore {
    PartitionStore {
        log: Box::new(log.clone()),
        index: Arc::new(index.clone()),
        snapshots: None,
        place: "memory".to_string(),
    }
}

/// An engine over files.
pub(crate) fn start_in(
    data: &Path,
    partitions: u32,
    options: LogOptions,
    clock: impl KernelClock + Clone + 'static,
    process: u64,
) -> Started {
    let stores = embedded::open(data, partitions, options).expect("the store opens");
    start_over(stores, clock, process, Retention::default())
}

/// Stops an engine and waits for its threads.
pub(crate) fn stop(started: Started) {
    started.handle.shutdown();
    started.threads.join().expect("the threads ended well");
}
