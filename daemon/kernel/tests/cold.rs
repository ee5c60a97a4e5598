//! A kernel that keeps only near timers in memory decides exactly as one that keeps all of them.

mod common;

use chronotick_core::Timestamp;
use common::{Life, S, Step, at, id, step};
use minoots_kernel::{
    Change, ColdError, ColdState, Command, Committed, DueKey, Event, EventRecord, Kernel, NothingCold,
    Outcome, ScheduleSpec, TenantId, TimerDefinition, TimerId, TimerInstance, TimerState,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The index as a service has it: timers as they were at some event, and batches that it has not taken in.
#[derive(Default)]
struct Index {
    timers: BTreeMap<TimerId, Arc<TimerInstance>>,
    keys: BTreeMap<String, TimerId>,
    applied: u64,
    waiting: VecDeque<Committed>,
}

impl ColdState for Index {
    fn timer(&self, tenant: &TenantId, id: TimerId) -> Result<Option<Arc<TimerInstance>>, ColdError> {
        Ok(self.timers.get(&id).filter(|t| t.tenant() == tenant).cloned())
    }

    fn timer_of_key(&self, _: &TenantId, key: &str) -> Result<Option<TimerId>, ColdError> {
        Ok(self.keys.get(key).copied())
    }
}

impl Index {
    fn apply(&mut self, batches: usize) {
        for _ in 0..batches {
            let Some(batch) = self.waiting.pop_front() else { return };
            for changed in batch.changes {
                let timer = changed.after;
                assert_eq!(
                    changed.before.as_ref(),
                    self.timers.get(&timer.id),
                    "what the index is told it has"
                );
                if let Some(key) = &timer.definition.idempotency_key {
                    self.keys.insert(key.clone(), timer.id);
                }
                self.timers.insert(timer.id, timer);
            }
            self.applied = batch.records.last().map_or(self.applied, |r| r.sequence);
        }
    }

    /// The timers that are due in a stretch, at most so many, and up to where they go.
    fn page(&self, from: DueKey, to: DueKey, limit: usize) -> (Vec<Arc<TimerInstance>>, DueKey) {
        let mut due: Vec<_> = self.timers.values().filter_map(|t| Some((t.due_key()?, t.clone()))).collect();
        due.retain(|(key, _)| (from..to).contains(key));
        due.sort_by_key(|(key, _)| *key);
        let until = due.get(limit).map_or(to, |(key, _)| *key);
        due.truncate(limit);
        (due.into_iter().map(|(_, timer)| timer).collect(), until)
    }
}

fn is_open(timer: &TimerInstance) -> bool {
    !timer.status.flights.is_empty() || timer.status.state == TimerState::Firing
}

/// Moves the horizon, page by page, to a moment or further.
fn load(kernel: &mut Kernel, index: &Index, to_ns: i64, page: usize, now_ns: i64) {
    let to = DueKey::start_of(to_ns);
    while kernel.horizon() < to {
        let (timers, until) = index.page(kernel.horizon(), to, page);
        kernel.load(timers, until, Timestamp::from_ns(now_ns));
    }
}

fn restarted(index: &mut Index, now_ns: i64) -> Kernel {
    let mut kernel = Kernel::starting_after(index.applied);
    let open = index.timers.values().filter(|t| is_open(t)).cloned().collect();
    kernel.load_open(open, Timestamp::from_ns(now_ns));
    for batch in &index.waiting {
        for record in &batch.records {
            kernel.replay(record.clone(), index).expect("the log goes on from the index");
        }
    }
    // The log is all that is left of the batches.
    let again = kernel.commit();
    let records: Vec<_> = index.waiting.drain(..).flat_map(|b| b.records).collect();
    assert_eq!(again.records, records);
    index.waiting.push_back(again);
    kernel
}

fn strip(timer: &Arc<TimerInstance>) -> TimerInstance {
    let mut timer = TimerInstance::clone(timer);
    if let Some(last) = &mut timer.status.last {
        last.armed_ns = None;
    }
    timer
}

fn stripped(records: &[EventRecord]) -> Vec<EventRecord> {
    let mut records = records.to_vec();
    for record in &mut records {
        if let Event::Firing { armed_ns, .. } = &mut record.event {
            *armed_ns = None;
        }
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn eviction_changes_no_answer(steps in proptest::collection::vec(step(false, 8), 0..150)) {
        let mut hot = Kernel::new();
        let mut cold = Kernel::new();
        let mut index = Index::default();
        let mut life = Life { now_ns: 1000 * S, ids: 0 };
        let mut horizon_max = cold.horizon();
        for step in &steps {
            if let Some(command) = life.command(step, &hot) {
                let answer = |o: Outcome| (strip(&o.timer), o.replayed);
                let want = hot.handle(command.clone(), &life.stamp(), &NothingCold).map(answer);
                let got = cold.handle(command, &life.stamp(), &index).map(answer);
                prop_assert_eq!(got, want);
            }
            match step {
                Step::Fire(forward_ns, limit) => {
                    life.now_ns = life.now_ns.saturating_add(*forward_ns);
                    // A service has loaded what is due before it fires.
                    load(&mut cold, &index, life.now_ns + 1, 2, life.now_ns);
                    let want = hot.fire_due(&life.stamp(), *limit);
                    prop_assert_eq!(cold.fire_due(&life.stamp(), *limit), want);
                }
                Step::Commit => {
                    let (want, got) = (hot.commit(), cold.commit());
                    prop_assert_eq!(stripped(&got.records), stripped(&want.records));
                    prop_assert_eq!(got.changes.len(), want.changes.len());
                    for (got, want) in got.changes.iter().zip(&want.changes) {
                        prop_assert_eq!(strip(&got.after), strip(&want.after));
                        prop_assert_eq!(got.before.as_ref().map(strip), want.before.as_ref().map(strip));
                    }
                    if !got.records.is_empty() {
                        index.waiting.push_back(got);
                    }
                }
                Step::Rollback => {
                    hot.rollback();
                    cold.rollback();
                }
                Step::Settle(batches, timers) => {
                    index.apply(*batches);
                    cold.settle(index.applied, *timers);
                }
                Step::Load(ahead_ns, page) => {
                    load(&mut cold, &index, life.now_ns.saturating_add(*ahead_ns), *page, life.now_ns);
                }
                Step::Restart if cold.staged().is_empty() => cold = restarted(&mut index, life.now_ns),
                _ => {}
            }
            horizon_max = horizon_max.max(cold.horizon());
            prop_assert_eq!(cold.last_sequence(), hot.last_sequence());
            // Whoever carries out the actions of fires finds them in memory.
            let open = |k: &Kernel| k.timers().filter(|t| is_open(t)).count();
            prop_assert_eq!(open(&cold), open(&hot));
            for timer in cold.timers() {
                prop_assert_eq!(strip(timer), strip(hot.timer(timer.id).expect("it is in the other")));
            }
        }
        index.waiting.push_back(cold.commit());
        hot.commit();
        index.apply(usize::MAX);
        cold.settle(u64::MAX, usize::MAX);
        // The index has all of it, and only near timers and those with a fire under way stay.
        let want: Vec<_> = hot.timers().map(|t| (t.id, strip(t))).collect::<BTreeMap<_, _>>().into_iter().collect();
        let got: Vec<_> = index.timers.iter().map(|(id, t)| (*id, strip(t))).collect();
        prop_assert_eq!(got, want);
        for timer in cold.timers() {
            prop_assert!(is_open(timer) || timer.due_key().is_some_and(|key| key < horizon_max), "{:?}", timer);
        }
        prop_assert_eq!(cold.unsettled(), 0);
    }
}

#[test]
fn memory_does_not_grow_with_far_timers() {
    let mut kernel = Kernel::new();
    let mut index = Index::default();
    kernel.load(Vec::new(), DueKey::start_of(60 * S), Timestamp::from_ns(0));
    for n in 0..20_000 {
        let seconds = if n % 100 == 0 { 30 } else { 3600 + n as i64 };
        let definition = Arc::new(TimerDefinition {
            idempotency_key: Some(n.to_string()),
            ..common::of(ScheduleSpec::AfterNs(seconds * S))
        });
        kernel.handle(Command::Create { id: id(n), definition }, &at(0), &index).expect("created");
        if n % 50 == 49 {
            index.waiting.push_back(kernel.commit());
        }
        if n % 1000 == 999 {
            index.apply(20);
            assert!(kernel.settle(index.applied, usize::MAX) > 0);
            assert_eq!(kernel.in_memory() as u64, (n + 1) / 100);
        }
    }
    assert_eq!((kernel.in_memory(), kernel.armed_count(), kernel.unsettled()), (200, 200, 0));
    // A far timer is there for those who ask, and a key finds it.
    let cancel = common::change(12_345, Change::Cancel { reason: None });
    kernel.handle(cancel, &at(S), &index).expect("cancelled");
    assert_eq!(kernel.in_memory(), 201);
    let mut repeat = TimerDefinition::clone(&index.timers[&id(777)].definition);
    let command = |d: &TimerDefinition| Command::Create { id: id(1 << 40), definition: Arc::new(d.clone()) };
    let answer = kernel.handle(command(&repeat), &at(S), &index).expect("recognised");
    assert!(answer.replayed && answer.timer.id == id(777));
    repeat.name = "another".into();
    kernel.handle(command(&repeat), &at(S), &index).expect_err("another definition");
    index.waiting.push_back(kernel.commit());
    index.apply(1);
    kernel.settle(index.applied, usize::MAX);
    assert_eq!(kernel.in_memory(), 200);
    // Half an hour later a page of them comes in, in the order of their due times.
    let (page, horizon) = index.page(kernel.horizon(), DueKey::start_of(2 * 3600 * S), 300);
    kernel.load(page, horizon, Timestamp::from_ns(1800 * S));
    assert_eq!(kernel.in_memory(), 500);
    kernel.fire_due(&at(59 * S), usize::MAX);
    assert_eq!(kernel.armed_count(), 300);
}

#[test]
fn an_index_that_cannot_be_read_refuses_and_changes_nothing() {
    struct Broken;
    impl ColdState for Broken {
        fn timer(&self, _: &TenantId, _: TimerId) -> Result<Option<Arc<TimerInstance>>, ColdError> {
            Err(ColdError("broken".into()))
        }
        fn timer_of_key(&self, _: &TenantId, _: &str) -> Result<Option<TimerId>, ColdError> {
            Err(ColdError("broken".into()))
        }
    }
    let mut kernel = Kernel::new();
    let definition = Arc::new(TimerDefinition { idempotency_key: Some("k".into()), ..common::every(1) });
    for command in [
        Command::Create { id: id(1), definition },
        common::change(1, Change::Resume),
        common::finish(1, 5, true),
    ] {
        let error = kernel.handle(command, &at(0), &Broken).expect_err("refused");
        assert!(error.to_string().contains("broken"), "{error}");
        assert!(kernel.staged().is_empty() && kernel.in_memory() == 0);
    }
}
