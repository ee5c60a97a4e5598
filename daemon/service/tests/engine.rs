//! The engine from the outside: over a store in memory with faults on demand, and over files across restarts.

use chronotick_core::{Span, Timestamp};
use minoots::clock::ManualClock;
use minoots::engine::{
    Engine, EngineConfig, EngineError, FireOrder, IdSource, ListQuery, Started, Subscription,
};
use minoots::store::{LogOptions, MemoryFault, MemoryLog};
use minoots_kernel::{
    ActionResult, CommandError, Event, ScheduleSpec, TenantId, TimerDefinition, TimerId, TimerState,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Ids 1, 2, 3, ... of one "process"; a restart has its own.
fn ids(process: u64) -> IdSource {
    let next = AtomicU64::new(1);
    let number = move || next.fetch_add(1, Ordering::Relaxed);
    Arc::new(move || TimerId::from_u128(u128::from(process) << 64 | u128::from(number())))
}

fn definition(name: &str, after: Span) -> TimerDefinition {
    TimerDefinition {
        tenant: TenantId::default(),
        name: name.to_string(),
        schedule: ScheduleSpec::AfterNs(after.as_ns()),
        actions: vec![],
        labels: Default::default(),
        metadata_json: None,
        idempotency_key: None,
    }
}

fn start(log: &MemoryLog, clock: &ManualClock, process: u64) -> Started {
    Engine::start_on(Box::new(log.clone()), "memory".into(), Box::new(clock.clone()), ids(process))
        .expect("the log fits together")
}

fn start_in(dir: &Path, clock: &ManualClock, process: u64) -> Started {
    let clock = Box::new(clock.clone());
    let log = LogOptions { segment_bytes: 2048, reserve_bytes: 512 };
    Engine::start(EngineConfig { data_dir: dir.to_path_buf(), clock, ids: ids(process), log })
        .expect("it starts")
}

fn stop(started: Started) {
    started.handle.shutdown();
    started.thread.join().expect("the thread ended well");
}

/// The next fires; `touch` makes the engine look at a clock that was set.
async fn next_fires(started: &mut Started) -> Vec<FireOrder> {
    started.handle.status().await.expect("it runs");
    started.fires.recv().await.expect("it runs")
}

async fn kinds(events: &mut Subscription, count: usize) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    while kinds.len() < count {
        kinds.push(events.next().await.expect("it runs").event.kind());
    }
    kinds
}

#[tokio::test]
async fn a_timer_fires_on_its_time_and_completes() {
    let (log, clock) = (MemoryLog::new(), ManualClock::new(START));
    let mut engine = start(&log, &clock, 1);
    let mut events = engine.feed.subscribe(None);
    let created = engine.handle.create(definition("tea", Span::from_secs(60))).await.unwrap();
    assert_eq!((created.timer.state, created.replayed), (TimerState::Scheduled, false));
    clock.set(START + Span::from_secs(61));
    let orders = next_fires(&mut engine).await;
    let order = &orders[0];
    assert_eq!((orders.len(), order.timer.id, order.replayed), (1, created.timer.id, false));
    assert_eq!(order.timer.lateness_ns, Some(Span::from_secs(1).as_ns()));
    let result = ActionResult { action: "a".into(), ok: true, attempts: 1, detail: "200".into() };
    engine.handle.finish(order.firing, vec![result]).await.unwrap();
    let timer = engine.handle.get(TenantId::default(), created.timer.id).await.unwrap();
    assert_eq!(timer.state, TimerState::Completed);
    assert_eq!(kinds(&mut events, 3).await, ["timer.scheduled", "timer.fired", "timer.completed"]);
    stop(engine);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_cancelled_timer_does_not_fire() {
    let (log, clock) = (MemoryLog::new(), ManualClock::new(START));
    let mut engine = start(&log, &clock, 1);
    let tenant = TenantId::default;
    let first = engine.handle.create(definition("a", Span::from_secs(1))).await.unwrap().timer.id;
    let second = engine.handle.create(definition("b", Span::from_secs(2))).await.unwrap().timer.id;
    engine.handle.cancel(tenant(), first, Some("no".into())).await.unwrap();
    clock.set(START + Span::from_secs(5));
    let fired: Vec<_> = next_fires(&mut engine).await.iter().map(|o| o.timer.id).collect();
    assert_eq!(fired, [second]);
    let late = engine.handle.cancel(tenant(), second, None).await;
    assert!(matches!(late, Err(EngineError::Refused(CommandError::WrongState { .. }))), "{late:?}");
    let query =
        ListQuery { tenant: tenant(), state: Some(TimerState::Cancelled), limit: 10, ..Default::default() };
    let page = engine.handle.list(query).await.unwrap();
    assert_eq!(page.timers.iter().map(|t| t.id).collect::<Vec<_>>(), [first]);
    stop(engine);
}

#[tokio::test]
async fn a_full_disk_refuses_changes_keeps_fires_waiting_and_ends() {
    let (log, clock) = (MemoryLog::new(), ManualClock::new(START));
    let mut engine = start(&log, &clock, 1);
    let mut keyed = definition("due", Span::from_secs(1));
    keyed.idempotency_key = Some("k".into());
    let due = engine.handle.create(keyed.clone()).await.unwrap().timer.id;
    log.set_fault(MemoryFault::Full);
    clock.set(START + Span::from_secs(9));

    let refused = engine.handle.create(definition("x", Span::ZERO)).await;
    let error = refused.expect_err("it was acknowledged").to_string();
    assert!(error.contains("no room to store the timer in memory"), "{error}");
    assert!(!engine.handle.status().await.unwrap().accepts_changes());
    // What is durable is still shown, and answers that need no event are given.
    let timer = engine.handle.get(TenantId::default(), due).await.unwrap();
    assert_eq!(timer.state, TimerState::Scheduled);
    assert!(engine.handle.create(keyed).await.unwrap().replayed);
    let unknown = engine.handle.cancel(TenantId::default(), TimerId::from_u128(77), None).await;
    assert!(matches!(unknown, Err(EngineError::Refused(CommandError::NotFound(_)))), "{unknown:?}");
    assert!(engine.fires.try_recv().is_err());

    log.set_fault(MemoryFault::None);
    // The engine finds the room by itself, with nobody asking.
    let orders = engine.fires.recv().await.unwrap();
    assert_eq!(orders[0].timer.id, due);
    engine.handle.create(definition("y", Span::from_secs(100))).await.unwrap();
    assert!(engine.handle.status().await.unwrap().accepts_changes());
    stop(engine);
}

#[tokio::test]
async fn a_broken_disk_stops_changes_for_good_but_reads_go_on() {
    let (log, clock) = (MemoryLog::new(), ManualClock::new(START));
    let engine = start(&log, &clock, 1);
    let id = engine.handle.create(definition("a", Span::from_secs(1))).await.unwrap().timer.id;
    log.set_fault(MemoryFault::Broken);
    clock.set(START + Span::from_secs(9));
    let refused = engine.handle.create(definition("b", Span::ZERO)).await;
    assert!(matches!(refused, Err(EngineError::StoreFailed { .. })), "{refused:?}");
    log.set_fault(MemoryFault::None);
    let refused = engine.handle.create(definition("b", Span::ZERO)).await;
    assert!(matches!(refused, Err(EngineError::StoreFailed { .. })), "{refused:?}");
    let timer = engine.handle.get(TenantId::default(), id).await.unwrap();
    assert_eq!(timer.state, TimerState::Scheduled);
    stop(engine);
    assert!(engine_fires_ended(&log, &clock, id).await);
}

/// After a restart the timer, overdue by then, fires at once.
async fn engine_fires_ended(log: &MemoryLog, clock: &ManualClock, id: TimerId) -> bool {
    let mut engine = start(log, clock, 2);
    let orders = engine.fires.recv().await.expect("it runs");
    stop(engine);
    orders.iter().map(|o| (o.timer.id, o.replayed)).eq([(id, false)])
}

#[tokio::test]
async fn a_restart_hands_over_what_had_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let mut engine = start_in(dir.path(), &clock, 1);
    let ended = engine.handle.create(definition("ended", Span::from_secs(1))).await.unwrap().timer.id;
    let open = engine.handle.create(definition("open", Span::from_secs(2))).await.unwrap().timer.id;
    let overdue = engine.handle.create(definition("overdue", Span::from_secs(3))).await.unwrap().timer.id;
    clock.set(START + Span::from_secs(2));
    let orders = next_fires(&mut engine).await;
    assert_eq!(orders.iter().map(|o| o.timer.id).collect::<Vec<_>>(), [ended, open]);
    engine.handle.finish(orders[0].firing, vec![]).await.unwrap();
    let sequence = engine.handle.status().await.unwrap().last_sequence;
    stop(engine);

    clock.set(START + Span::from_secs(1000));
    let mut engine = start_in(dir.path(), &clock, 2);
    assert_eq!(engine.recovery.last_sequence, sequence);
    let again = engine.fires.recv().await.unwrap();
    assert_eq!(again.iter().map(|o| (o.timer.id, o.replayed)).collect::<Vec<_>>(), [(open, true)]);
    assert_eq!(again[0].firing, orders[1].firing);
    let late = engine.fires.recv().await.unwrap();
    assert_eq!(late.iter().map(|o| (o.timer.id, o.replayed)).collect::<Vec<_>>(), [(overdue, false)]);
    assert_eq!(late[0].timer.lateness_ns, Some(Span::from_secs(997).as_ns()));

    // The stream goes on over the restart where a consumer left it.
    let mut events = engine.feed.subscribe(Some(sequence - 1));
    assert_eq!(kinds(&mut events, 2).await, ["timer.completed", "timer.fired"]);
    stop(engine);
}

#[tokio::test]
async fn a_batch_is_answered_one_by_one() {
    let (log, clock) = (MemoryLog::new(), ManualClock::new(START));
    let engine = start(&log, &clock, 1);
    let batch =
        vec![definition("good", Span::ZERO), definition("", Span::ZERO), definition("also", Span::ZERO)];
    let answers = engine.handle.create_many(batch).await.unwrap();
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    stop(engine);
}

#[tokio::test]
async fn due_timers_fire_while_requests_keep_coming() {
    let (log, clock) = (MemoryLog::new(), ManualClock::new(START));
    let mut engine = start(&log, &clock, 1);
    let handle = engine.handle.clone();
    let due = handle.create(definition("due", Span::from_secs(1))).await.unwrap().timer.id;
    let flood: Vec<_> = (0..8)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move {
                // Ends only when the engine does, so it is still running when the timer is due.
                while handle.create_many(vec![definition("more", Span::from_secs(9999)); 300]).await.is_ok() {
                }
            })
        })
        .collect();
    clock.set(START + Span::from_secs(1));
    assert_eq!(engine.fires.recv().await.unwrap()[0].timer.id, due);
    stop(engine);
    for task in flood {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_engine_says_so() {
    let (log, clock) = (MemoryLog::new(), ManualClock::new(START));
    let engine = start(&log, &clock, 1);
    let handle = engine.handle.clone();
    stop(engine);
    let refused = handle.create(definition("x", Span::ZERO)).await;
    assert!(matches!(refused, Err(EngineError::ShuttingDown)), "{refused:?}");
}

#[tokio::test]
async fn the_log_holds_each_fire_once_with_its_lateness() {
    let (log, clock) = (MemoryLog::new(), ManualClock::new(START));
    let mut engine = start(&log, &clock, 1);
    let mut events = engine.feed.subscribe(None);
    engine.handle.create(definition("now", Span::ZERO)).await.unwrap();
    let order = engine.fires.recv().await.unwrap().remove(0);
    events.next().await.unwrap();
    let record = events.next().await.unwrap();
    let Event::Firing { firing, lateness_ns, max_error_ns } = record.event else { panic!("{record:?}") };
    assert_eq!((firing, lateness_ns, max_error_ns), (order.firing, 0, None));
    stop(engine);
}
