//! The engine from the outside: over a store in memory with faults on demand, and over files across restarts.

mod common;

use chronotick_core::{Span, Timestamp};
use common::{definition, memory_store, start_over, stop};
use minoots::clock::ManualClock;
use minoots::engine::{Cursor, EngineError, FireOrder, Retention, Started, Subscription};
use minoots::store::{LogOptions, MemoryFault, MemoryIndex, MemoryLog, TimerQuery};
use minoots_kernel::{ActionResult, CommandError, Event, TenantId, TimerId, TimerState};
use std::path::Path;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

fn start(log: &MemoryLog, clock: &ManualClock, process: u64) -> Started {
    // The index is lost at each restart, and made again from the log.
    let stores = vec![memory_store(log, &MemoryIndex::new())];
    start_over(stores, clock.clone(), process, Retention::default())
}

fn start_in(dir: &Path, clock: &ManualClock, process: u64) -> Started {
    let options = LogOptions { segment_bytes: 2048, reserve_bytes: 512 };
    common::start_in(dir, 1, options, clock.clone(), process)
}

fn lateness_ns(order: &FireOrder) -> i64 {
    order.timer.status.last.as_ref().expect("it has fired").lateness_ns()
}

/// The next fires; `touch` makes the engine look at a clock that was set.
async fn next_fires(started: &mut Started) -> Vec<FireOrder> {
    started.handle.status().await.expect("it runs");
    started.fires.recv().await.expect("it runs")
}

async fn kinds(events: &mut Subscription, count: usize) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    while kinds.len() < count {
        kinds.push(events.next().await.expect("it runs").record.event.kind());
    }
    kinds
}

#[tokio::test]
async fn a_timer_fires_on_its_time_and_completes() {
    let (log, clock) = (MemoryLog::new(), ManualClock::new(START));
    let mut engine = start(&log, &clock, 1);
    let mut events = engine.feed.subscribe(None).unwrap();
    let created = engine.handle.create(definition("tea", Span::from_secs(60))).await.unwrap();
    assert_eq!((created.timer.status.state, created.replayed), (TimerState::Scheduled, false));
    clock.set(START + Span::from_secs(61));
    let orders = next_fires(&mut engine).await;
    let order = &orders[0];
    assert_eq!((orders.len(), order.timer.id, order.replayed), (1, created.timer.id, false));
    assert_eq!(lateness_ns(order), Span::from_secs(1).as_ns());
    let result = ActionResult { action: "a".into(), ok: true, attempts: 1, detail: "200".into() };
    engine.handle.finish(TenantId::default(), order.firing, vec![result]).await.unwrap();
    let timer = engine.handle.get(TenantId::default(), created.timer.id).await.unwrap();
    assert_eq!(timer.status.state, TimerState::Completed);
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
        TimerQuery { tenant: tenant(), state: Some(TimerState::Cancelled), limit: 10, ..Default::default() };
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
    assert_eq!(timer.status.state, TimerState::Scheduled);
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
    assert_eq!(timer.status.state, TimerState::Scheduled);
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
    engine.handle.finish(TenantId::default(), orders[0].firing, vec![]).await.unwrap();
    let sequence = engine.handle.status().await.unwrap().last_sequences[0];
    stop(engine);

    clock.set(START + Span::from_secs(1000));
    let mut engine = start_in(dir.path(), &clock, 2);
    assert_eq!(engine.recoveries[0].last_sequence, sequence);
    let again = engine.fires.recv().await.unwrap();
    assert_eq!(again.iter().map(|o| (o.timer.id, o.replayed)).collect::<Vec<_>>(), [(open, true)]);
    assert_eq!(again[0].firing, orders[1].firing);
    let late = engine.fires.recv().await.unwrap();
    assert_eq!(late.iter().map(|o| (o.timer.id, o.replayed)).collect::<Vec<_>>(), [(overdue, false)]);
    assert_eq!(lateness_ns(&late[0]), Span::from_secs(997).as_ns());

    // The stream goes on over the restart where a consumer left it.
    let mut events = engine.feed.subscribe(Some(&Cursor(vec![sequence - 1]))).unwrap();
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
    let mut events = engine.feed.subscribe(None).unwrap();
    engine.handle.create(definition("now", Span::ZERO)).await.unwrap();
    let order = engine.fires.recv().await.unwrap().remove(0);
    events.next().await.unwrap();
    let record = events.next().await.unwrap().record;
    let Event::Firing { firing, lateness_ns, max_error_ns, .. } = record.event else { panic!("{record:?}") };
    assert_eq!((firing, lateness_ns, max_error_ns), (order.firing, 0, None));
    stop(engine);
}
