//! Timers that wait for other timers: chains and gathers.

mod common;

use common::{S, ask, create, every, finish, fire, id, of, replayed, status};
use minoots_kernel::recurrence::Bounds;
use minoots_kernel::{
    Change, Command, CommandError, Kernel, Need, ScheduleSpec, StartAfter, TenantId, TimerDefinition,
    TimerState, Upstream, UpstreamOn, UpstreamSeen,
};
use proptest::prelude::*;
use std::sync::Arc;

const SEEN: UpstreamSeen = UpstreamSeen { fired: false, completed: false, failed: false, ended: false };

/// A timer that waits for the timers 1, 2, ...
fn after(on: &[UpstreamOn], need: Need, then: TimerDefinition) -> TimerDefinition {
    let upstreams = (1..).zip(on).map(|(n, on)| Upstream { timer: id(n), on: *on }).collect();
    TimerDefinition { start_after: Some(StartAfter { upstreams, need }), ..then }
}

fn resolve(upstream: u64, seen: UpstreamSeen) -> Command {
    Command::Resolve { tenant: TenantId::default(), id: id(9), upstream: id(upstream), seen }
}

use UpstreamOn::{Completed, Ended, Failed, Fired};

#[test]
fn what_counts() {
    /// Whether it starts, is lost, or waits on.
    fn check(on: UpstreamOn, seen: UpstreamSeen, want: TimerState) {
        let mut k = Kernel::new();
        create(&mut k, 9, after(&[on], Need::All, of(ScheduleSpec::AfterNs(5 * S))), 0);
        ask(&mut k, resolve(1, seen), 7 * S).expect("resolved");
        assert_eq!(status(&k, 9).state, want, "{on:?} {seen:?}");
    }
    use TimerState::{Cancelled, Scheduled, Waiting};
    let fired = UpstreamSeen { fired: true, ..SEEN };
    let completed = UpstreamSeen { completed: true, ..fired };
    let failed = UpstreamSeen { failed: true, ..fired };
    let over = |seen| UpstreamSeen { ended: true, ..seen };
    for (on, seen, want) in [
        (Fired, SEEN, Waiting),
        (Fired, fired, Scheduled),
        (Fired, over(SEEN), Cancelled),
        (Completed, fired, Waiting),
        (Completed, failed, Waiting),
        (Completed, completed, Scheduled),
        (Completed, over(failed), Cancelled),
        (Failed, completed, Waiting),
        (Failed, failed, Scheduled),
        (Failed, over(completed), Cancelled),
        (Ended, completed, Waiting),
        (Ended, over(SEEN), Scheduled),
        (Ended, over(failed), Scheduled),
    ] {
        check(on, seen, want);
    }
}

#[test]
fn how_many_it_takes() {
    /// `told` says of each upstream in turn whether it counts; `want` is the state after each.
    fn check(need: Need, told: &[bool], want: &str) {
        let mut k = Kernel::new();
        create(&mut k, 9, after(&[Fired; 4], need, of(ScheduleSpec::AfterNs(5 * S))), 0);
        let mut states = String::new();
        for (n, counts) in (1..).zip(told) {
            ask(&mut k, resolve(n, UpstreamSeen { fired: *counts, ended: true, ..SEEN }), S)
                .expect("resolved");
            states += &status(&k, 9).state.as_str()[..1];
        }
        assert_eq!(states, want, "{need:?} {told:?}");
    }
    let (y, n) = (true, false);
    check(Need::All, &[y, y, y, y], "wwws");
    check(Need::All, &[y, n, y], "wcc");
    check(Need::Any, &[n, n, y, n], "wwss");
    check(Need::Any, &[n, n, n, n], "wwwc");
    check(Need::AtLeast(3), &[y, n, y, y], "wwws");
    check(Need::AtLeast(3), &[y, n, n, y], "wwcc");
}

#[test]
fn a_chain_starts_from_when_it_was_resolved() {
    fn check(then: TimerDefinition, want_s: i64) {
        let mut k = Kernel::new();
        create(&mut k, 1, of(ScheduleSpec::AfterNs(S)), 0);
        create(&mut k, 9, after(&[Completed], Need::All, then), 0);
        fire(&mut k, S);
        assert_eq!(k.next_deadline(), None);
        ask(&mut k, finish(1, S, true), 2 * S).expect("finished");
        let seen = k.timer(id(1)).expect("it is there").seen();
        ask(&mut k, resolve(1, seen), 101 * S).expect("resolved");
        let status = status(&k, 9);
        assert_eq!(status.next.map(|n| n.due_ns), Some(want_s * S));
        assert_eq!((status.base_ns, status.created_ns), (101 * S, 0));
        let mut again = replayed(&k.commit().records);
        for now_s in [want_s, want_s + 30] {
            fire(&mut k, now_s * S);
            fire(&mut again, now_s * S);
            assert_eq!(k.staged().len(), again.staged().len());
        }
    }
    check(of(ScheduleSpec::AfterNs(5 * S)), 106);
    check(every(10), 111);
    check(common::cron("*/10 * * * * *"), 110);
    // A moment that has passed stays: it is late then, and its policy decides.
    check(of(ScheduleSpec::AtNs(50 * S)), 50);
}

#[test]
fn one_that_waits_past_its_schedule_is_cancelled() {
    let mut k = Kernel::new();
    let bounds = Bounds { end_ns: Some(50 * S), ..Bounds::default() };
    create(&mut k, 9, after(&[Fired], Need::All, TimerDefinition { bounds, ..every(10) }), 0);
    ask(&mut k, resolve(1, UpstreamSeen { fired: true, ..SEEN }), 60 * S).expect("resolved");
    let status = status(&k, 9);
    assert_eq!(status.state, TimerState::Cancelled);
    assert!(status.reason.is_some_and(|r| r.contains("no occurrence left")));
    assert_eq!(k, replayed_with_staged(k.staged()));
}

/// A kernel whose staged events are these.
fn replayed_with_staged(log: &[minoots_kernel::EventRecord]) -> Kernel {
    let mut kernel = Kernel::new();
    for record in log {
        kernel.replay(record.clone(), &minoots_kernel::NothingCold).expect("it fits");
    }
    kernel
}

#[test]
fn strangers_and_repeats_are_no_news() {
    let mut k = Kernel::new();
    create(&mut k, 9, after(&[Fired, Fired], Need::All, every(10)), 0);
    let fired = UpstreamSeen { fired: true, ..SEEN };
    assert!(ask(&mut k, resolve(3, fired), 0).expect("accepted").replayed);
    assert!(!ask(&mut k, resolve(1, fired), 0).expect("accepted").replayed);
    // What was said first stands.
    assert!(ask(&mut k, resolve(1, UpstreamSeen { ended: true, ..SEEN }), 0).expect("accepted").replayed);
    assert_eq!(k.staged().len(), 2);
    let lost = ask(&mut k, resolve(2, UpstreamSeen { ended: true, ..SEEN }), 0).expect("accepted");
    assert_eq!(lost.timer.status.state, TimerState::Cancelled);
    assert!(lost.timer.status.reason.as_ref().is_some_and(|r| r.contains(&id(2).to_string())));
    let nobody = Command::Resolve { tenant: TenantId::default(), id: id(5), upstream: id(1), seen: fired };
    assert_eq!(ask(&mut k, nobody, 0), Err(CommandError::NotFound(id(5))));
    let cancel = common::change(9, Change::Cancel { reason: None });
    assert!(matches!(ask(&mut k, cancel, 0), Err(CommandError::WrongState { .. })));
}

#[test]
fn waits_that_cannot_be_meant_are_refused() {
    let upstream = Upstream { timer: id(1), on: Fired };
    for (upstreams, need, want) in [
        (vec![], Need::All, "waits for 0 timers"),
        (vec![upstream; 2], Need::All, "the same timer twice"),
        (vec![upstream], Need::AtLeast(2), "needs 2 of the 1"),
        (vec![upstream], Need::AtLeast(0), "needs 0 of the 1"),
    ] {
        let definition = TimerDefinition { start_after: Some(StartAfter { upstreams, need }), ..every(1) };
        let command = Command::Create { id: id(9), definition: Arc::new(definition) };
        let error = ask(&mut Kernel::new(), command, 0).expect_err("refused").to_string();
        assert!(error.contains(want), "{error}");
    }
}

proptest! {
    #[test]
    fn the_order_and_the_number_of_times_do_not_matter(
        told in proptest::collection::vec((any::<bool>(), any::<bool>(), 1..4usize), 1..6),
        need in prop_oneof![Just(Need::All), Just(Need::Any), (1..4u32).prop_map(Need::AtLeast)],
        order in any::<prop::sample::Index>(),
    ) {
        let upstreams = vec![Completed; told.len()];
        prop_assume!(!matches!(need, Need::AtLeast(n) if n as usize > told.len()));
        let outcome = |order: usize, is_repeated: bool| {
            let mut k = Kernel::new();
            create(&mut k, 9, after(&upstreams, need, every(10)), 0);
            for n in 0..told.len() {
                let n = (n * (order % 2 * 2 + 1) + order) % told.len();
                let (completed, ended, times) = told[n];
                let seen = UpstreamSeen { fired: true, completed, failed: !completed, ended };
                for _ in 0..if is_repeated { times } else { 1 } {
                    ask(&mut k, resolve(n as u64 + 1, seen), 5 * S).expect("resolved");
                }
            }
            let status = status(&k, 9);
            (status.state, status.next, status.base_ns)
        };
        // An odd order visits each only where three does not divide their number.
        let order = if told.len() % 3 == 0 { order.index(told.len()) & !1 } else { order.index(told.len()) };
        prop_assert_eq!(outcome(0, false), outcome(order, true));
        let counts = told.iter().filter(|t| t.0).count();
        let lost = told.iter().filter(|t| !t.0 && t.1).count();
        let needed = StartAfter { upstreams: vec![Upstream { timer: id(1), on: Completed }; told.len()], need }.needed();
        let want = if counts >= needed {
            TimerState::Scheduled
        } else if told.len() - lost < needed {
            TimerState::Cancelled
        } else {
            TimerState::Waiting
        };
        prop_assert_eq!(outcome(0, false).0, want);
    }
}
