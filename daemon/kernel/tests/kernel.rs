//! The kernel's promises: what each command does, and that the state is exactly the fold of the committed events.

use chronotick_core::Timestamp;
use minoots_kernel::{
    ActionResult, ActionSpec, Change, ClockStamp, Command, CommandError, Event, EventRecord, FiringId,
    Kernel, NothingCold, Outcome, ScheduleSpec, TenantId, TimerDefinition, TimerId, TimerState,
};
use proptest::prelude::*;
use std::sync::Arc;

fn at(ns: i64) -> ClockStamp {
    ClockStamp::os(Timestamp::from_ns(ns))
}

fn id(n: u64) -> TimerId {
    TimerId::from_u128(u128::from(n))
}

fn definition(schedule: ScheduleSpec, key: Option<&str>) -> Arc<TimerDefinition> {
    Arc::new(TimerDefinition {
        tenant: TenantId::default(),
        name: "tea".into(),
        schedule,
        actions: vec![ActionSpec { id: "a".into(), kind: "webhook".into(), parameters_json: "{}".into() }],
        labels: [("team".to_string(), "kitchen".to_string())].into(),
        idempotency_key: key.map(str::to_string),
        ..TimerDefinition::default()
    })
}

fn create(n: u64, schedule: ScheduleSpec, key: Option<&str>) -> Command {
    Command::Create { id: id(n), definition: definition(schedule, key) }
}

fn cancel(n: u64) -> Command {
    let change = Change::Cancel { reason: Some("changed my mind".into()) };
    Command::Change { tenant: TenantId::default(), id: id(n), expected_version: None, change }
}

fn finish(n: u64, nominal_ns: i64, ok: bool) -> Command {
    let result = ActionResult { action: "a".into(), ok, attempts: 1, detail: "200".into() };
    let firing = FiringId { timer: id(n), nominal_ns };
    Command::Finish { tenant: TenantId::default(), firing, results: vec![result] }
}

fn state(kernel: &Kernel, n: u64) -> TimerState {
    kernel.timer(id(n)).expect("the timer is there").status.state
}

/// Carries out a command on a kernel that has everything in memory.
fn ask(kernel: &mut Kernel, command: Command, now: &ClockStamp) -> Result<Outcome, CommandError> {
    kernel.handle(command, now, &NothingCold)
}

#[test]
fn a_timer_lives_from_create_to_completed() {
    let mut k = Kernel::new();
    let created = ask(&mut k, create(1, ScheduleSpec::AfterNs(100), None), &at(1_000)).expect("created");
    let timer = &created.timer;
    assert_eq!((timer.due_ns(), timer.status.created_ns, timer.status.version), (Some(1_100), 1_000, 1));
    assert_eq!(k.next_deadline(), Some(Timestamp::from_ns(1_100)));
    assert_eq!(k.fire_due(&at(1_099), 10), 0);
    assert_eq!(k.fire_due(&at(1_130), 10), 1);
    assert_eq!((state(&k, 1), k.next_deadline(), k.armed_count()), (TimerState::Firing, None, 0));
    ask(&mut k, finish(1, 1_100, true), &at(1_200)).unwrap();
    let status = &k.timer(id(1)).unwrap().status;
    let last = status.last.as_ref().unwrap();
    assert_eq!((status.state, last.lateness_ns(), status.version), (TimerState::Completed, 30, 3));
    assert_eq!((last.armed_ns, last.delivered_ns), (Some(1_000), Some(1_200)));
    let kinds: Vec<_> = k.commit().records.iter().map(|r| (r.sequence, r.event.kind())).collect();
    assert_eq!(kinds, [(1, "timer.scheduled"), (2, "timer.fired"), (3, "timer.completed")]);
}

#[test]
fn a_failed_action_fails_the_timer_and_the_first_end_stands() {
    let mut k = Kernel::new();
    ask(&mut k, create(1, ScheduleSpec::AfterNs(0), None), &at(5)).unwrap();
    k.fire_due(&at(5), 10);
    ask(&mut k, finish(1, 5, false), &at(6)).unwrap();
    assert_eq!(state(&k, 1), TimerState::Failed);
    let staged = k.staged().len();
    ask(&mut k, finish(1, 5, true), &at(7)).unwrap();
    assert_eq!((state(&k, 1), k.staged().len()), (TimerState::Failed, staged));
}

#[test]
fn refusals_change_nothing() {
    fn check(command: Command, want: CommandError) {
        let mut k = Kernel::new();
        ask(&mut k, create(1, ScheduleSpec::AfterNs(100), Some("k1")), &at(0)).unwrap();
        ask(&mut k, create(2, ScheduleSpec::AfterNs(200), None), &at(0)).unwrap();
        k.fire_due(&at(100), 10);
        let before = k.commit().records.len() as u64;
        assert_eq!(ask(&mut k, command, &at(150)), Err(want));
        assert_eq!((k.staged().len(), k.last_sequence()), (0, before));
    }
    check(cancel(9), CommandError::NotFound(id(9)));
    check(cancel(1), CommandError::WrongState { id: id(1), state: TimerState::Firing, verb: "cancelled" });
    check(finish(9, 100, true), CommandError::NotFound(id(9)));
    check(finish(1, 101, true), CommandError::NoSuchFire(FiringId { timer: id(1), nominal_ns: 101 }));
    check(
        finish(2, 200, true),
        CommandError::WrongState { id: id(2), state: TimerState::Scheduled, verb: "finished" },
    );
    check(create(2, ScheduleSpec::AfterNs(1), None), CommandError::DuplicateId(id(2)));
    let conflict = CommandError::IdempotencyConflict { id: id(1) };
    check(create(3, ScheduleSpec::AfterNs(1), Some("k1")), conflict);
    let change = Change::Cancel { reason: None };
    let tenant = TenantId::new("other");
    let other_tenant = Command::Change { tenant, id: id(2), expected_version: None, change };
    check(other_tenant, CommandError::NotFound(id(2)));
}

#[test]
fn a_repeated_create_is_answered_though_its_moment_has_passed() {
    let mut k = Kernel::new();
    let at_100 = ScheduleSpec::AtNs(100);
    ask(&mut k, create(1, at_100.clone(), Some("k")), &at(0)).unwrap();
    k.commit();
    let repeat = ask(&mut k, create(2, at_100.clone(), Some("k")), &at(500)).expect("recognised");
    assert_eq!((repeat.timer.id, repeat.replayed, k.staged().len()), (id(1), true, 0));
    let Err(CommandError::Schedule(_)) = ask(&mut k, create(3, at_100, None), &at(500)) else {
        panic!("a past moment was accepted")
    };
}

#[test]
fn a_rolled_back_create_frees_its_key() {
    let mut k = Kernel::new();
    ask(&mut k, create(1, ScheduleSpec::AfterNs(5), Some("k")), &at(0)).unwrap();
    k.rollback();
    assert_eq!(k, Kernel::new());
    let again = ask(&mut k, create(2, ScheduleSpec::AfterNs(5), Some("k")), &at(0));
    assert!(matches!(again, Ok(Outcome { replayed: false, .. })), "{again:?}");
}

#[test]
fn timers_fire_in_order_of_due_time_then_id() {
    let mut k = Kernel::new();
    for (n, due) in [(4, 30), (3, 10), (1, 20), (2, 10)] {
        ask(&mut k, create(n, ScheduleSpec::AtNs(due), None), &at(0)).unwrap();
    }
    k.commit();
    assert_eq!(k.fire_due(&at(20), 10), 3);
    let order: Vec<_> = k.commit().records.iter().map(|r| r.event.timer()).collect();
    assert_eq!(order, [id(2), id(3), id(1)]);
}

#[test]
fn a_log_that_does_not_fit_is_refused() {
    fn check(change: impl FnOnce(&mut Vec<EventRecord>), want: &str) {
        let mut k = Kernel::new();
        ask(&mut k, create(1, ScheduleSpec::AfterNs(1), None), &at(0)).unwrap();
        k.fire_due(&at(1), 1);
        let mut log = k.commit().records;
        change(&mut log);
        let mut k = Kernel::new();
        let error =
            log.into_iter().find_map(|r| k.replay(r, &NothingCold).err()).expect("the log was accepted");
        assert!(error.to_string().contains(want), "{error}");
    }
    check(|log| log[1].sequence = 3, "event 3 came where event 2 was expected");
    check(|log| drop(log.remove(0)), "event 2 came where event 1 was expected");
    check(|log| log[1].event = log[0].event.clone(), "exists already");
    check(|log| log[0].event = Event::Cancelled { timer: id(7), reason: None }, "never created");
    check(
        |log| {
            let firing = FiringId { timer: id(1), nominal_ns: 1 };
            log[1].event = Event::Completed { firing, results: vec![], next: None };
        },
        "in another state",
    );
}

#[derive(Clone, Debug)]
enum Step {
    Create { n: u64, delay_ns: i64, key: Option<u8> },
    Cancel(u64),
    Finish(u64, bool),
    Fire { forward_ns: i64, limit: usize },
    Commit,
    Rollback,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..40u64, -2..60i64, proptest::option::of(0..6u8))
            .prop_map(|(n, delay_ns, key)| Step::Create { n, delay_ns, key }),
        2 => (0..40u64).prop_map(Step::Cancel),
        2 => (0..40u64, any::<bool>()).prop_map(|(n, ok)| Step::Finish(n, ok)),
        2 => (0..30i64, 1..5usize).prop_map(|(forward_ns, limit)| Step::Fire { forward_ns, limit }),
        2 => Just(Step::Commit),
        1 => Just(Step::Rollback),
    ]
}

proptest! {
    #[test]
    fn the_state_is_the_fold_of_the_committed_events(steps in proptest::collection::vec(step(), 0..200)) {
        let mut live = Kernel::new();
        let mut log: Vec<EventRecord> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Create { n, delay_ns, key } => {
                    let key = key.map(|k| k.to_string());
                    // Refusals are part of the test: they must leave no trace.
                    let _ = ask(&mut live, create(n, ScheduleSpec::AfterNs(delay_ns), key.as_deref()), &at(now));
                }
                Step::Cancel(n) => {
                    let _ = ask(&mut live, cancel(n), &at(now));
                }
                Step::Finish(n, ok) => {
                    let due_ns = live.timer(id(n)).and_then(|t| t.due_ns()).unwrap_or(0);
                    let _ = ask(&mut live, finish(n, due_ns, ok), &at(now));
                }
                Step::Fire { forward_ns, limit } => {
                    now += forward_ns;
                    live.fire_due(&at(now), limit);
                }
                Step::Commit => log.extend(live.commit().records),
                Step::Rollback => {
                    live.rollback();
                    prop_assert_eq!(&live, &replayed(&log));
                }
            }
        }
        log.extend(live.commit().records);
        let mut again = replayed(&log);
        prop_assert_eq!(&live, &again);
        // What is to come is equal too, not only what is there.
        live.fire_due(&at(i64::MAX), usize::MAX);
        again.fire_due(&at(i64::MAX), usize::MAX);
        prop_assert_eq!(live.staged(), again.staged());
        let fires = |r: &EventRecord| match r.event { Event::Firing { firing, .. } => Some(firing), _ => None };
        log.extend(live.commit().records);
        let mut fired: Vec<_> = log.iter().filter_map(fires).collect();
        let total = fired.len();
        fired.sort();
        fired.dedup();
        prop_assert_eq!(fired.len(), total, "a firing is in the log twice");
    }
}

fn replayed(log: &[EventRecord]) -> Kernel {
    let mut kernel = Kernel::new();
    for record in log {
        kernel.replay(record.clone(), &NothingCold).expect("a log that the kernel wrote");
        kernel.commit();
    }
    kernel
}
