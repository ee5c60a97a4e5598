//! Several partitions behind one handle, over real files: placement, listings, the stream, chains between partitions,
//! and what a restart finds when the index or the old part of the log is gone.
#![expect(clippy::unwrap_used, reason = "the helpers of tests, which clippy does not know as tests")]

mod common;

use chronotick_core::{Span, Timestamp};
use common::{definition, start_in, start_over, stop};
use minoots::clock::ManualClock;
use minoots::engine::{Cursor, EngineError, Retention, Started};
use minoots::store::{LogOptions, StoreError, TimerQuery, embedded};
use minoots_kernel::{
    ActionResult, CommandError, Need, StartAfter, TenantId, TimerDefinition, TimerId, TimerInstance,
    TimerState, Upstream, UpstreamOn,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinHandle;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const SMALL: LogOptions = LogOptions { segment_bytes: 4096, reserve_bytes: 1024 };

/// An engine with its linker beside it.
struct Running {
    engine: Started,
    linker: JoinHandle<()>,
}

impl std::ops::Deref for Running {
    type Target = Started;

    fn deref(&self) -> &Started {
        &self.engine
    }
}

fn start(dir: &Path, partitions: u32, clock: &ManualClock, process: u64) -> Running {
    let engine = start_in(dir, partitions, SMALL, clock.clone(), process);
    let linker = tokio::spawn(engine.linker.clone().run());
    Running { engine, linker }
}

/// Stops both; the files are free then.
async fn end(running: Running) {
    stop(running.engine);
    running.linker.await.expect("the linker ends with the engine");
}

async fn all(engine: &Started, limit: usize) -> Vec<Arc<TimerInstance>> {
    let mut query = TimerQuery { limit, ..TimerQuery::default() };
    let mut timers = Vec::new();
    loop {
        let page = engine.handle.list(query.clone()).await.expect("it runs");
        assert!(page.timers.len() <= limit);
        timers.extend(page.timers);
        query.after = page.next;
        if query.after.is_none() {
            return timers;
        }
    }
}

fn ok() -> Vec<ActionResult> {
    vec![ActionResult { action: "a".into(), ok: true, attempts: 1, detail: "200".into() }]
}

#[tokio::test]
async fn partitions_are_one_service() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let engine = start(dir.path(), 3, &clock, 1);
    let mut created = Vec::new();
    for n in 0..40 {
        let keyed =
            TimerDefinition { idempotency_key: Some(n.to_string()), ..definition("n", Span::from_secs(9)) };
        created.push(engine.handle.create(keyed.clone()).await.unwrap().timer.id);
        // The same key finds the timer in whichever partition it is.
        let again = engine.handle.create(keyed).await.unwrap();
        assert_eq!((again.timer.id, again.replayed), (created[n], true));
    }
    let batch = (0..60).map(|_| definition("batch", Span::from_secs(9))).collect();
    for answer in engine.handle.create_many(batch).await.unwrap() {
        created.push(answer.unwrap().timer.id);
    }
    let sequences = engine.handle.status().await.unwrap().last_sequences;
    assert_eq!((sequences.len(), sequences.iter().sum::<u64>()), (3, 100));
    assert!(sequences.iter().all(|s| *s > 10), "{sequences:?}");
    created.sort();
    for limit in [7, 100, 1000] {
        let listed: Vec<_> = all(&engine, limit).await.iter().map(|t| t.id).collect();
        assert_eq!(listed, created, "{limit}");
    }
    for id in &created[..10] {
        engine.handle.cancel(TenantId::default(), *id, None).await.unwrap();
    }
    let query = TimerQuery { state: Some(TimerState::Scheduled), limit: 1000, ..TimerQuery::default() };
    let reason = minoots_kernel::Change::Cancel { reason: Some("all".into()) };
    assert_eq!(engine.handle.change_all(query, &reason).await.unwrap(), 90);
    end(engine).await;

    // The stream goes on, in every partition, where a consumer left it; the number of partitions is the directory's.
    let engine = start(dir.path(), 7, &clock, 2);
    let mut events = engine.feed.subscribe(Some(&Cursor(vec![0, 0, 0]))).unwrap();
    let mut seen = BTreeSet::new();
    let mut middle = None;
    for n in 0..200 {
        let event = events.next().await.expect("it runs");
        assert!(seen.insert((event.partition, event.record.sequence)), "{event:?} came twice");
        assert_eq!(event.behind, 199 - n);
        if n == 99 {
            middle = Some(event.cursor.to_string().parse::<Cursor>().unwrap());
        }
    }
    let mut rest = engine.feed.subscribe(middle.as_ref()).unwrap();
    assert_eq!(rest.behind(), 100);
    for _ in 0..100 {
        let event = rest.next().await.expect("it runs");
        assert!(seen.contains(&(event.partition, event.record.sequence)));
    }
    assert_eq!(rest.behind(), 0);
    end(engine).await;
}

/// Waits until a timer is in a state.
async fn until(engine: &Started, tenant: &TenantId, id: TimerId, state: TimerState) {
    let mut events = engine.feed.subscribe(None).expect("it runs");
    while engine.handle.get(tenant.clone(), id).await.expect("it is there").status.state != state {
        events.next().await.expect("it runs");
    }
}

fn after(upstreams: &[TimerId], on: UpstreamOn) -> TimerDefinition {
    let upstreams = upstreams.iter().map(|&timer| Upstream { timer, on }).collect();
    let start_after = Some(StartAfter { upstreams, need: Need::All });
    TimerDefinition { start_after, ..definition("after", Span::from_secs(5)) }
}

#[tokio::test]
async fn chains_cross_partitions_and_restarts() {
    for tenant in ["default", "b"].map(TenantId::new) {
        check_chains(&tenant).await;
    }
}

async fn check_chains(tenant: &TenantId) {
    let own = |definition: TimerDefinition| TimerDefinition { tenant: tenant.clone(), ..definition };
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let mut engine = start(dir.path(), 3, &clock, 1);
    let mut upstreams = Vec::new();
    for n in 1..=6 {
        upstreams
            .push(engine.handle.create(own(definition("up", Span::from_secs(n)))).await.unwrap().timer.id);
    }
    let gathered =
        engine.handle.create(own(after(&upstreams, UpstreamOn::Completed))).await.unwrap().timer.id;
    let failed =
        engine.handle.create(own(after(&upstreams[..1], UpstreamOn::Failed))).await.unwrap().timer.id;
    let unknown = engine.handle.create(own(after(&[TimerId::from_u128(5)], UpstreamOn::Fired))).await;
    assert!(matches!(unknown, Err(EngineError::Refused(CommandError::NotFound(_)))), "{unknown:?}");
    clock.set(START + Span::from_secs(3));
    engine.handle.status().await.unwrap();
    let mut fired = 0;
    while fired < 3 {
        for order in engine.engine.fires.recv().await.unwrap() {
            engine.handle.finish(tenant.clone(), order.firing, ok()).await.unwrap();
            fired += 1;
        }
    }
    // Its upstream ended without failing.
    until(&engine, tenant, failed, TimerState::Cancelled).await;
    end(engine).await;

    let mut engine = start(dir.path(), 3, &clock, 2);
    assert_eq!(engine.handle.get(tenant.clone(), gathered).await.unwrap().status.state, TimerState::Waiting);
    clock.set(START + Span::from_secs(10));
    engine.handle.status().await.unwrap();
    while fired < 6 {
        for order in engine.engine.fires.recv().await.unwrap() {
            engine.handle.finish(tenant.clone(), order.firing, ok()).await.unwrap();
            fired += 1;
        }
    }
    until(&engine, tenant, gathered, TimerState::Scheduled).await;
    let timer = engine.handle.get(tenant.clone(), gathered).await.unwrap();
    assert_eq!(timer.due_ns(), Some((START + Span::from_secs(15)).as_ns()));
    end(engine).await;
}

#[tokio::test]
async fn a_lost_index_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let mut engine = start(dir.path(), 2, &clock, 1);
    for n in 0..50 {
        engine.handle.create(definition("n", Span::from_secs(n))).await.unwrap();
    }
    clock.set(START + Span::from_secs(20));
    engine.handle.status().await.unwrap();
    let mut fired = 0;
    while fired < 21 {
        for order in engine.engine.fires.recv().await.unwrap() {
            engine.handle.finish(TenantId::default(), order.firing, ok()).await.unwrap();
            fired += 1;
        }
    }
    let before = all(&engine, 1000).await;
    end(engine).await;
    for index in ["index", "partition-0001/index"] {
        std::fs::remove_dir_all(dir.path().join(index)).unwrap();
    }
    let engine = start(dir.path(), 2, &clock, 2);
    assert_eq!(all(&engine, 1000).await, before);
    end(engine).await;
    // Without the file that says how many there are, the others would be silently missing.
    std::fs::remove_file(dir.path().join("layout.json")).unwrap();
    let error = embedded::open(dir.path(), 2, SMALL).err().expect("it was opened").to_string();
    assert!(error.contains("there are several partitions"), "{error}");
}

#[tokio::test]
async fn history_goes_after_its_time_and_consumers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START);
    let keep = Retention { keep: Span::from_secs(3600) };
    let open = |process| {
        let mut stores = embedded::open(dir.path(), 1, SMALL).expect("the store opens");
        for store in &mut stores {
            store.snapshots = store.snapshots.take().map(|s| s.with_trim_bytes_min(1));
        }
        start_over(stores, clock.clone(), process, keep)
    };
    let engine = open(1);
    let pending =
        engine.handle.create(definition("pending", Span::from_secs(1_000_000))).await.unwrap().timer;
    let mut gone = Vec::new();
    for _ in 0..100 {
        let timer = engine.handle.create(definition("gone", Span::from_secs(9000))).await.unwrap().timer;
        engine.handle.cancel(TenantId::default(), timer.id, None).await.unwrap();
        gone.push(timer.id);
    }
    clock.set(START + Span::from_secs(8000));
    // The index's thread looks once a second; a test has to wait for it, with nothing that would tell.
    let mut events = engine.feed.subscribe(None).unwrap();
    let oldest = loop {
        engine.handle.create(definition("later", Span::from_secs(1_000_000))).await.unwrap();
        events.next().await.expect("it runs");
        let oldest = engine.feed.oldest().0[0];
        if oldest > 100 {
            break oldest;
        }
    };
    let refused = engine.feed.subscribe(Some(&Cursor(vec![0])));
    assert!(matches!(refused, Err(StoreError::Gone { sequence: 1, .. })));
    let mut kept = engine.feed.subscribe(Some(&Cursor(vec![oldest]))).unwrap();
    assert_eq!(kept.next().await.unwrap().record.sequence, oldest + 1);
    for id in &gone[..10] {
        let found = engine.handle.get(TenantId::default(), *id).await;
        assert!(matches!(found, Err(EngineError::Refused(CommandError::NotFound(_)))), "{found:?}");
    }
    let before = all(&engine, 1000).await;
    stop(engine);
    // Even without the index, what is pending is there: the snapshot knows it.
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let engine = open(2);
    assert_eq!(all(&engine, 1000).await, before);
    assert_eq!(engine.handle.get(TenantId::default(), pending.id).await.unwrap(), pending);
    stop(engine);
}
