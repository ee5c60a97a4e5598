//! What every index must do: answer as the model does, whatever a kernel commits.

use super::{DiskIndex, IndexOptions, MemoryIndex, TimerIndex, TimerQuery};
use chronotick_core::Timestamp;
use minoots_kernel::definition::OverlapPolicy;
use minoots_kernel::recurrence::{Bounds, CronSpec, IntervalMode, IntervalSpec};
use minoots_kernel::{
    ActionResult, Change, ClockSource, ClockStamp, Command, Committed, DueKey, FiringId, Kernel,
    MisfirePolicy, Need, NewDue, NothingCold, ScheduleSpec, StartAfter, TenantId, TimerDefinition, TimerId,
    TimerInstance, TimerState, Upstream, UpstreamOn, UpstreamSeen,
};
use proptest::prelude::*;
use std::sync::Arc;

/// Names of tenants; the first one is the default. The last never has a timer.
const TENANTS: [&str; 4] = ["default", "a", "b\u{0}", "nobody"];
/// Labels that would be mixed up if their bytes were put behind each other.
const LABELS: [(&str, &str); 5] =
    [("team", "a"), ("team", "ab"), ("teama", "b"), ("team\u{0}a", ""), ("urgent", "")];
const KEYS: [&str; 4] = ["k", "k2", "k\u{0}", "ключ"];
const MS: i64 = 1_000_000;

/// So small that a test flushes and merges.
pub(super) const SMALL: IndexOptions =
    IndexOptions { cache_bytes: 1 << 20, memtable_bytes: 16 << 10, open_files: 32 };

/// A directory in memory where there is one: nothing here is about a loss of power, and waiting for a disk takes long.
pub(super) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    /// A timer whose definition is drawn from these bits.
    Create(u64),
    /// A change, drawn from the bits, of one of the timers.
    Change(usize, u64),
    /// The oldest fire of a timer ends.
    Finish(usize, bool),
    Acknowledge(usize),
    /// What a timer waits for has been seen.
    Resolve(usize, UpstreamSeen),
    Fire {
        forward_ms: i64,
        limit: usize,
    },
    Commit,
    Apply,
    /// What was applied comes once more.
    ApplyAgain,
    Checkpoint,
    Reopen,
    DropHistory {
        before_ms: i64,
        limit: usize,
    },
    Compare,
}

fn step() -> impl Strategy<Value = Step> {
    let seen = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(fired, completed, failed, ended)| UpstreamSeen { fired, completed, failed, ended });
    let timer = 0..60usize;
    prop_oneof![
        12 => any::<u64>().prop_map(Step::Create),
        8 => (timer.clone(), any::<u64>()).prop_map(|(n, bits)| Step::Change(n, bits)),
        8 => (timer.clone(), any::<bool>()).prop_map(|(n, is_ok)| Step::Finish(n, is_ok)),
        2 => timer.clone().prop_map(Step::Acknowledge),
        4 => (timer, seen).prop_map(|(n, seen)| Step::Resolve(n, seen)),
        8 => (-50..900i64, 1..12usize).prop_map(|(forward_ms, limit)| Step::Fire { forward_ms, limit }),
        6 => Just(Step::Commit),
        3 => Just(Step::Apply),
        1 => Just(Step::ApplyAgain),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => (0..1500i64, 1..9usize).prop_map(|(before_ms, limit)| Step::DropHistory { before_ms, limit }),
        1 => Just(Step::Compare),
    ]
}

/// Takes a number below `n` from the bits.
fn draw(bits: &mut u64, n: u64) -> u64 {
    let drawn = *bits % n;
    *bits /= n;
    drawn
}

fn definition(mut bits: u64, timers: &[TimerId]) -> TimerDefinition {
    let bits = &mut bits;
    let every_ns = (50 + draw(bits, 8) as i64 * 100) * MS;
    let interval = |mode| ScheduleSpec::Interval(IntervalSpec { every_ns, mode, anchor_ns: None });
    let schedule = match draw(bits, 6) {
        0 => ScheduleSpec::AtNs(every_ns),
        1 => interval(IntervalMode::FixedRate),
        2 => interval(IntervalMode::FixedDelay),
        3 => ScheduleSpec::Cron(CronSpec {
            expression: "* * * * * *".to_string(),
            zone: "Europe/Paris".to_string(),
            gap: None,
            overlap: None,
            exclude_dates: Vec::new(),
        }),
        _ => ScheduleSpec::AfterNs(every_ns),
    };
    let is_recurring = schedule.is_recurring();
    let pick = |n: u64, of: usize| (n as usize) % of;
    let mut labels = std::collections::BTreeMap::new();
    for _ in 0..draw(bits, 3) {
        let (name, value) = LABELS[pick(draw(bits, 5), 5)];
        labels.insert(name.to_string(), value.to_string());
    }
    let start_after = (draw(bits, 4) == 0 && !timers.is_empty()).then(|| StartAfter {
        upstreams: vec![Upstream {
            timer: timers[pick(draw(bits, 64), timers.len())],
            on: UpstreamOn::Ended,
        }],
        need: Need::Any,
    });
    TimerDefinition {
        tenant: TenantId::new(TENANTS[draw(bits, 3) as usize]),
        name: "n".to_string(),
        schedule,
        labels,
        start_after,
        idempotency_key: KEYS.get(draw(bits, 8) as usize).map(|k| k.to_string()),
        bounds: Bounds { count: (is_recurring && draw(bits, 3) == 0).then_some(3), ..Bounds::default() },
        jitter_ns: draw(bits, 2) as i64 * 30 * MS,
        overlap: [
            OverlapPolicy::Allow,
            OverlapPolicy::Skip,
            OverlapPolicy::BufferOne,
            OverlapPolicy::CancelPrevious,
        ][draw(bits, 4) as usize],
        misfire: [None, Some(MisfirePolicy::Skip), Some(MisfirePolicy::FireNow)][draw(bits, 3) as usize],
        grace_ns: Some(200 * MS),
        priority: draw(bits, 3) as i8 - 1,
        expire_after_ns: (draw(bits, 4) == 0).then_some(400 * MS),
        metadata_json: (draw(bits, 4) == 0).then(|| "\"x\"".repeat(200)),
        ..TimerDefinition::default()
    }
}

fn change(mut bits: u64, now_ns: i64) -> Change {
    match draw(&mut bits, 6) {
        0 => Change::Cancel { reason: Some("why".to_string()) },
        1 => Change::Pause { reason: None },
        2 => Change::Resume,
        3 => Change::FireNow,
        4 => Change::Reschedule(NewDue::LaterByNs((bits % 500) as i64 * MS)),
        _ => Change::Reschedule(NewDue::AtNs(now_ns + (bits % 500) as i64 * MS)),
    }
}

/// A kernel, the model, and the index that is held to it.
struct Run {
    dir: tempfile::TempDir,
    kernel: Kernel,
    model: MemoryIndex,
    index: Option<DiskIndex>,
    now_ns: i64,
    timers: Vec<(TenantId, TimerId)>,
    committed: Vec<Committed>,
    applied: Vec<Committed>,
}

impl Run {
    fn new() -> Self {
        let dir = scratch();
        let index = DiskIndex::open_with(dir.path(), SMALL).unwrap();
        // Before 1970, so that times change their sign on the way.
        let now_ns = -2_000 * MS;
        let (model, kernel) = (MemoryIndex::new(), Kernel::new());
        let (timers, committed, applied) = Default::default();
        Self { dir, kernel, model, index: Some(index), now_ns, timers, committed, applied }
    }

    fn index(&self) -> &DiskIndex {
        self.index.as_ref().unwrap()
    }

    fn stamp(&self) -> ClockStamp {
        let stamp = ClockStamp::os(Timestamp::from_ns(self.now_ns));
        ClockStamp { source: if self.now_ns % 3 == 0 { ClockSource::Page } else { ClockSource::Os }, ..stamp }
    }

    /// Asks the kernel; what it refuses is no change.
    fn ask(&mut self, command: Command) {
        let _ = self.kernel.handle(command, &self.stamp(), &NothingCold);
    }

    fn pick(&self, n: usize) -> Option<(TenantId, TimerId)> {
        self.timers.get(n % self.timers.len().max(1)).cloned()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create(bits) => {
                let known: Vec<_> = self.timers.iter().map(|t| t.1).collect();
                let definition = Arc::new(definition(bits, &known));
                let number = self.timers.len() as u128 + 1;
                // Mostly in order, as time-ordered ids are.
                let id = TimerId::from_u128((number ^ u128::from(bits & 1)) << 64 | u128::from(bits >> 1));
                self.timers.push((definition.tenant.clone(), id));
                self.ask(Command::Create { id, definition });
            }
            Step::Change(n, bits) => {
                let Some((tenant, id)) = self.pick(n) else { return };
                let change = change(bits, self.now_ns);
                self.ask(Command::Change { tenant, id, expected_version: None, change });
            }
            Step::Finish(n, ok) => {
                let Some((tenant, id)) = self.pick(n) else { return };
                let Some(flight) = self.kernel.timer(id).and_then(|t| t.status.flights.first()) else {
                    return;
                };
                let firing = FiringId { timer: id, nominal_ns: flight.nominal_ns };
                let results =
                    vec![ActionResult { action: "a".into(), ok, attempts: 2, detail: "200".into() }];
                self.ask(Command::Finish { tenant, firing, results });
            }
            Step::Acknowledge(n) => {
                let Some((tenant, id)) = self.pick(n) else { return };
                let Some(last) = self.kernel.timer(id).and_then(|t| t.status.last.as_ref()) else { return };
                let firing = FiringId { timer: id, nominal_ns: last.nominal_ns };
                self.ask(Command::Acknowledge { tenant, firing, by: None, note: None });
            }
            Step::Resolve(n, seen) => {
                let Some((tenant, id)) = self.pick(n) else { return };
                let Some(timer) = self.kernel.timer(id) else { return };
                let Some(after) = &timer.definition.start_after else { return };
                let upstream = after.upstreams[0].timer;
                self.ask(Command::Resolve { tenant, id, upstream, seen });
            }
            Step::Fire { forward_ms, limit } => {
                self.now_ns += forward_ms * MS;
                self.kernel.fire_due(&self.stamp(), limit);
            }
            Step::Commit => self.committed.push(self.kernel.commit()),
            Step::Apply => {
                self.model.apply(&self.committed).unwrap();
                self.index().apply(&self.committed).unwrap();
                self.applied = std::mem::take(&mut self.committed);
            }
            Step::ApplyAgain => self.index().apply(&self.applied).unwrap(),
            Step::Checkpoint => self.index().checkpoint().unwrap(),
            Step::Reopen => {
                self.index = None;
                self.index = Some(DiskIndex::open_with(self.dir.path(), SMALL).unwrap());
            }
            Step::DropHistory { before_ms, limit } => {
                let before_ns = self.now_ns - before_ms * MS;
                let drop_all = |index: &dyn TimerIndex| {
                    std::iter::repeat_with(|| index.drop_history(before_ns, limit).unwrap())
                        .take_while(|count| *count > 0)
                        .sum::<usize>()
                };
                assert_eq!(drop_all(self.index()), drop_all(&self.model));
            }
            Step::Compare => self.compare(self.index()),
        }
    }

    /// Asks both everything.
    fn compare(&self, index: &dyn TimerIndex) {
        let model = &self.model;
        assert_eq!(index.applied(), model.applied());
        assert_eq!(index.counts(), model.counts());
        assert_eq!(sorted(index.with_flights().unwrap()), sorted(model.with_flights().unwrap()));
        for (tenant, id) in &self.timers {
            let timer = model.timer(tenant, *id).unwrap();
            assert_eq!(index.timer(tenant, *id).unwrap(), timer);
            for tenant in TENANTS.map(TenantId::new) {
                let after = self.now_ns - 500 * MS;
                for (after_ns, limit) in [(None, 1000), (Some(after), 1000), (Some(i64::MIN), 2), (None, 0)] {
                    let lines = index.ledger(&tenant, *id, after_ns, limit).unwrap();
                    assert_eq!(lines, model.ledger(&tenant, *id, after_ns, limit).unwrap());
                }
                assert_eq!(index.timer(&tenant, *id).unwrap(), model.timer(&tenant, *id).unwrap());
            }
            // From each place in the order of due times.
            if let Some(key) = timer.and_then(|t| t.due_key()) {
                assert_eq!(index.due(key, 4).unwrap(), model.due(key, 4).unwrap());
            }
        }
        for from_ns in [i64::MIN, self.now_ns - MS, self.now_ns + 100 * MS, i64::MAX] {
            for limit in [0, 1, 3, 1000] {
                let from = DueKey::start_of(from_ns);
                assert_eq!(index.due(from, limit).unwrap(), model.due(from, limit).unwrap());
            }
        }
        for tenant in TENANTS.map(TenantId::new) {
            for key in KEYS {
                assert_eq!(
                    index.timer_of_key(&tenant, key).unwrap(),
                    model.timer_of_key(&tenant, key).unwrap()
                );
            }
            self.compare_lists(index, &TimerQuery { tenant, limit: 3, ..TimerQuery::default() });
        }
    }

    fn compare_lists(&self, index: &dyn TimerIndex, all: &TimerQuery) {
        let check = |query: TimerQuery| {
            assert_eq!(pages(index, query.clone()), pages(&self.model, query.clone()), "{query:?}");
        };
        check(all.clone());
        check(TimerQuery { due_from_ns: Some(self.now_ns), limit: 0, ..all.clone() });
        for state in TimerState::ALL {
            check(TimerQuery { state: Some(state), due_until_ns: Some(self.now_ns), ..all.clone() });
            check(TimerQuery { state: Some(state), limit: 100, ..all.clone() });
        }
        for some in TimerState::ALL.windows(3) {
            check(TimerQuery { states: some.to_vec(), ..all.clone() });
        }
        for (name, value) in LABELS {
            let labels = vec![(name.to_string(), value.to_string())];
            check(TimerQuery { labels: labels.clone(), ..all.clone() });
            let labels = [labels, vec![("urgent".to_string(), String::new())]].concat();
            check(TimerQuery { labels, state: Some(TimerState::Scheduled), ..all.clone() });
        }
        check(TimerQuery { labels: vec![("x".repeat(1 << 17), String::new())], ..all.clone() });
    }

    /// What one index hands out, another one takes in.
    fn compare_restored(&self) {
        let mut dumped = Vec::new();
        let index = self.index();
        let applied = index.dump(&mut |applied, timer, ledger| {
            assert_eq!(applied, index.applied());
            dumped.push((TimerInstance::clone(timer), ledger.to_vec()));
            Ok(())
        });
        assert_eq!(applied.unwrap(), index.applied());
        let dir = scratch();
        let restored = DiskIndex::open_with(dir.path(), SMALL).unwrap();
        let (first, second) = dumped.split_at(dumped.len() / 2);
        restored.restore(0, first).unwrap();
        restored.restore(index.applied(), second).unwrap();
        self.compare(&restored);
        // Its history goes as that of the original.
        for index in [&restored as &dyn TimerIndex, index, &self.model] {
            while index.drop_history(self.now_ns - 300 * MS, 7).unwrap() > 0 {}
        }
        self.compare(&restored);
        self.compare(index);
    }
}

fn sorted(mut timers: Vec<Arc<TimerInstance>>) -> Vec<Arc<TimerInstance>> {
    timers.sort_by_key(|t| t.id);
    timers
}

/// All pages of a listing.
fn pages(index: &dyn TimerIndex, mut query: TimerQuery) -> Vec<Arc<TimerInstance>> {
    let mut timers = Vec::new();
    loop {
        let page = index.list(&query).unwrap();
        assert!(page.timers.len() <= query.limit.max(1));
        timers.extend(page.timers);
        if page.next.is_none() {
            assert!(timers.is_sorted_by_key(|t| t.id));
            return timers;
        }
        assert!(page.next > query.after, "a listing that does not go on");
        query.after = page.next;
    }
}

/// Holds both indexes to what `check` says of an empty one.
fn on_each(check: impl Fn(&dyn TimerIndex)) {
    check(&MemoryIndex::new());
    let dir = scratch();
    check(&DiskIndex::open_with(dir.path(), SMALL).unwrap());
}

fn create(kernel: &mut Kernel, id: TimerId, definition: TimerDefinition) {
    let command = Command::Create { id, definition: Arc::new(definition) };
    kernel.handle(command, &ClockStamp::os(Timestamp::from_ns(0)), &NothingCold).unwrap();
}

#[test]
fn a_change_of_a_timer_that_was_forgotten_is_passed_over() {
    on_each(|index| {
        let (tenant, id, stamp) =
            (TenantId::default(), TimerId::from_u128(1), ClockStamp::os(Timestamp::from_ns(0)));
        let mut kernel = Kernel::new();
        create(&mut kernel, id, TimerDefinition { name: "n".to_string(), ..TimerDefinition::default() });
        kernel.fire_due(&stamp, 1);
        let firing = FiringId { timer: id, nominal_ns: 0 };
        let finish = Command::Finish { tenant: tenant.clone(), firing, results: vec![] };
        kernel.handle(finish, &stamp, &NothingCold).unwrap();
        let first = kernel.commit();
        let acknowledge = Command::Acknowledge { tenant: tenant.clone(), firing, by: None, note: None };
        kernel.handle(acknowledge, &stamp, &NothingCold).unwrap();
        let second = kernel.commit();
        // Its end and what comes after it may be taken in at once.
        let both = [first.clone(), second.clone()];
        on_each(|index| {
            index.apply(&both).unwrap();
            assert_eq!(index.timer(&tenant, id).unwrap().as_ref(), kernel.timer(id));
        });
        index.apply(&[first]).unwrap();
        assert_eq!(index.drop_history(1, 10).unwrap(), 1);
        index.apply(&[second]).unwrap();
        assert_eq!((index.applied(), index.counts().total()), (kernel.last_sequence(), 0));
        assert_eq!(index.timer(&tenant, id).unwrap(), None);
        assert_eq!(index.ledger(&tenant, id, None, 10).unwrap(), []);
        assert_eq!(index.drop_history(1, 10).unwrap(), 0);
    });
}

#[test]
fn an_idempotency_key_goes_only_with_its_last_timer() {
    on_each(|index| {
        let (tenant, ids) = (TenantId::default(), [1, 2].map(TimerId::from_u128));
        let mut sequence = 0;
        for id in ids {
            // A kernel of its own for each, which does not know the earlier one.
            let mut kernel = Kernel::starting_after(sequence);
            let idempotency_key = Some("k".to_string());
            create(
                &mut kernel,
                id,
                TimerDefinition { name: "n".into(), idempotency_key, ..TimerDefinition::default() },
            );
            let change = Change::Cancel { reason: None };
            let command = Command::Change { tenant: tenant.clone(), id, expected_version: None, change };
            kernel
                .handle(command, &ClockStamp::os(Timestamp::from_ns(id.as_u128() as i64)), &NothingCold)
                .unwrap();
            index.apply(&[kernel.commit()]).unwrap();
            sequence = kernel.last_sequence();
        }
        assert_eq!(index.drop_history(2, 10).unwrap(), 1);
        assert_eq!(index.timer_of_key(&tenant, "k").unwrap(), Some(ids[1]));
        assert_eq!(index.drop_history(3, 10).unwrap(), 1);
        assert_eq!(index.timer_of_key(&tenant, "k").unwrap(), None);
    });
}

#[test]
fn a_line_that_is_written_over_loses_its_end() {
    on_each(|index| {
        let (tenant, id) = (TenantId::default(), TimerId::from_u128(1));
        let every = IntervalSpec { every_ns: MS, mode: IntervalMode::FixedRate, anchor_ns: None };
        let schedule = ScheduleSpec::Interval(every);
        let mut kernel = Kernel::new();
        create(
            &mut kernel,
            id,
            TimerDefinition { name: "n".to_string(), schedule, ..TimerDefinition::default() },
        );
        kernel.fire_due(&ClockStamp::os(Timestamp::from_ns(MS)), 1);
        let mut fired = kernel.commit();
        let firing = FiringId { timer: id, nominal_ns: MS };
        let finish = Command::Finish { tenant: tenant.clone(), firing, results: vec![] };
        kernel.handle(finish, &ClockStamp::os(Timestamp::from_ns(2 * MS)), &NothingCold).unwrap();
        let finished = kernel.commit();
        index.apply(&[fired.clone(), finished]).unwrap();
        let delivery = || index.ledger(&tenant, id, None, 9).unwrap()[0].delivery;
        assert!(delivery().is_some());
        // The same occurrence once more: no kernel does it, an extra fire can come near.
        fired.records.retain(|r| r.event.kind() == "timer.fired");
        fired.records[0].sequence = kernel.last_sequence() + 1;
        fired.changes.clear();
        index.apply(&[fired]).unwrap();
        assert_eq!(delivery(), None);
        assert_eq!(index.drop_history(10 * MS, 9).unwrap(), 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_disk_index_answers_as_the_model(steps in proptest::collection::vec(step(), 1..300)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        for step in [Step::Commit, Step::Apply, Step::Compare, Step::Checkpoint, Step::Reopen, Step::Compare] {
            run.step(step);
        }
        run.compare_restored();
    }
}
