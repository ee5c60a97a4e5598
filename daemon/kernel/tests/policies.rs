//! What each policy decides, case by case. Times in the tables are seconds; timers are created at 0 unless it says so.

mod common;

use common::{
    MS, S, ask, at, change, count, create, cron, decisions, every, finish, fire, id, interval, of, status,
};
use minoots_kernel::recurrence::{Bounds, IntervalMode, jitter_ns};
use minoots_kernel::{
    Change, Command, CommandError, Event, FiringId, Kernel, MisfirePolicy, NewDue, OverlapPolicy,
    ScheduleSpec, TenantId, TimerDefinition, TimerState,
};

/// What a test does to its one timer.
#[derive(Clone, Debug)]
enum Do {
    /// Decides all that is due at this time.
    At(i64),
    /// Ends the oldest fire under way, at this time.
    Finish(i64, bool),
    /// Changes it at this time.
    Change(i64, Change),
}
use Do::{At, Finish};

fn pause(at_s: i64) -> Do {
    Do::Change(at_s, Change::Pause { reason: Some("lunch".into()) })
}
fn resume(at_s: i64) -> Do {
    Do::Change(at_s, Change::Resume)
}
fn cancel(at_s: i64) -> Do {
    Do::Change(at_s, Change::Cancel { reason: None })
}
fn by_hand(at_s: i64) -> Do {
    Do::Change(at_s, Change::FireNow)
}
fn later(at_s: i64, by_s: i64) -> Do {
    Do::Change(at_s, Change::Reschedule(NewDue::LaterByNs(by_s * S)))
}

fn live(definition: TimerDefinition, what: &[Do]) -> Kernel {
    let mut k = Kernel::new();
    create(&mut k, 1, definition, 0);
    for what in what {
        match what.clone() {
            At(s) => fire(&mut k, s * S),
            Finish(s, ok) => {
                let flight = status(&k, 1).flights[0];
                ask(&mut k, finish(1, flight.nominal_ns, ok), s * S).expect("finished");
            }
            Do::Change(s, to) => {
                ask(&mut k, change(1, to), s * S).expect("changed");
            }
        }
    }
    k
}

/// Lives a life and compares the decisions, and the state at the end.
#[track_caller]
fn check(definition: TimerDefinition, what: &[Do], want: &[&str], state: TimerState) {
    let k = live(definition, what);
    assert_eq!(decisions(&k), want);
    assert_eq!(status(&k, 1).state, state);
}

fn misfire(policy: MisfirePolicy, definition: TimerDefinition) -> TimerDefinition {
    TimerDefinition { misfire: Some(policy), ..definition }
}

fn overlap(overlap: OverlapPolicy, definition: TimerDefinition) -> TimerDefinition {
    TimerDefinition { overlap, ..definition }
}

fn bounded(bounds: Bounds, definition: TimerDefinition) -> TimerDefinition {
    TimerDefinition { bounds, ..definition }
}

use TimerState::{Cancelled, Completed, Expired, Failed, Firing, Paused, Scheduled};

#[test]
fn recurrences_and_their_bounds() {
    let run = [At(2), At(4), At(6), At(8)];
    check(every(2), &run, &["fired 2", "fired 4", "fired 6", "fired 8"], Scheduled);
    // Late fires do not move the grid.
    check(every(4), &[At(5), At(9)], &["fired 4", "fired 8"], Scheduled);
    check(cron("*/3 * * * * *"), &[At(3), At(6)], &["fired 3", "fired 6"], Scheduled);
    check(bounded(count(2), every(2)), &run, &["fired 2", "fired 4"], Firing);
    let both = [At(2), At(4), Finish(5, true), Finish(5, false)];
    check(bounded(count(2), every(2)), &both, &["fired 2", "fired 4"], Failed);
    let bounds = Bounds { start_ns: Some(3 * S), end_ns: Some(8 * S), count: None };
    check(bounded(bounds, every(2)), &run, &["fired 4", "fired 6"], Firing);
    // Skipped ones are counted too.
    let skip = misfire(MisfirePolicy::Skip, bounded(count(3), every(2)));
    check(skip.clone(), &[At(20)], &["misfire 2..6 (3)"], Expired);
    check(skip, &[At(2), Finish(3, true), At(20)], &["fired 2", "misfire 4..6 (2)"], Completed);
    // A fixed delay counts from the end of each fire.
    let delay = interval(2 * S, IntervalMode::FixedDelay);
    let what = [At(2), At(6), Finish(7, true), At(8), At(9), Finish(10, false), At(12)];
    check(delay.clone(), &what, &["fired 2", "fired 9", "fired 12"], Firing);
    let what = [At(2), Finish(3, true), At(5), Finish(6, true), At(100)];
    check(bounded(count(2), delay.clone()), &what, &["fired 2", "fired 5"], Completed);
    // It can be stopped while it fires, though it waits for no time then; nothing follows.
    check(delay, &[At(2), cancel(3), Finish(4, true), At(100)], &["fired 2"], Cancelled);
}

#[test]
fn a_timer_ends_as_its_last_fire_ended() {
    let two = bounded(count(2), every(2));
    let late_first = |first: bool, last: bool| {
        let mut k = live(two.clone(), &[At(2), At(4)]);
        ask(&mut k, finish(1, 4 * S, last), 5 * S).expect("finished");
        ask(&mut k, finish(1, 2 * S, first), 6 * S).expect("finished");
        status(&k, 1).state
    };
    assert_eq!([late_first(true, false), late_first(false, true)], [Failed, Completed]);
    let skip = misfire(MisfirePolicy::Skip, two.clone());
    check(skip, &[At(2), Finish(3, false), At(20)], &["fired 2", "misfire 4"], Failed);
}

#[test]
fn jitter_delays_the_fire_and_not_the_grid() {
    let mut k = Kernel::new();
    create(&mut k, 1, TimerDefinition { jitter_ns: 3 * S, ..every(10) }, 0);
    for n in 1..50 {
        let nominal_ns = n * 10 * S;
        let due_ns = nominal_ns + jitter_ns(1, nominal_ns, 3 * S);
        assert_eq!(k.next_deadline().map(|d| d.as_ns()), Some(due_ns));
        assert_eq!((k.fire_due(&at(due_ns - 1), 9), k.fire_due(&at(due_ns), 9)), (0, 1));
        let last = status(&k, 1).last.expect("it has fired");
        assert_eq!((last.nominal_ns, last.due_ns, last.lateness_ns()), (nominal_ns, due_ns, 0));
    }
}

#[test]
fn an_occurrence_that_jitter_delays_is_not_missed_with_those_before_it() {
    for policy in [MisfirePolicy::Skip, MisfirePolicy::FireOnce] {
        let mut k = Kernel::new();
        create(&mut k, 1, misfire(policy, TimerDefinition { jitter_ns: 100 * S, ..every(10) }), 0);
        let now_ns = 1000 * S;
        fire(&mut k, now_ns);
        // Of the first one that was not due by then nothing is said, nor of later ones.
        let next = status(&k, 1).next.expect("there are more");
        assert!(next.due_ns > now_ns, "{policy:?}");
        let mut nominal_ns = 10 * S;
        while nominal_ns + jitter_ns(1, nominal_ns, 100 * S) <= now_ns {
            nominal_ns += 10 * S;
        }
        assert_eq!(next.nominal_ns, nominal_ns, "{policy:?}");
    }
}

#[test]
fn misfires() {
    let one_shot = || of(ScheduleSpec::AfterNs(5 * S));
    let catch_up = |max, within_s| MisfirePolicy::CatchUp { max, within_ns: within_s * S };
    check(one_shot(), &[At(100)], &["fired 5"], Firing);
    check(misfire(MisfirePolicy::FireOnce, one_shot()), &[At(100)], &["fired 5"], Firing);
    check(misfire(MisfirePolicy::Skip, one_shot()), &[At(100)], &["misfire 5"], Expired);
    check(misfire(MisfirePolicy::Skip, one_shot()), &[At(6)], &["fired 5"], Firing);
    let patient = TimerDefinition { grace_ns: Some(95 * S), ..misfire(MisfirePolicy::Skip, one_shot()) };
    check(patient.clone(), &[At(100)], &["fired 5"], Firing);
    check(patient, &[At(101)], &["misfire 5"], Expired);
    check(misfire(catch_up(3, 10), one_shot()), &[At(15)], &["fired 5"], Firing);
    check(misfire(catch_up(3, 10), one_shot()), &[At(16)], &["misfire 5"], Expired);

    // Every 10 s, asleep until 55: 50 is 5 s late, and the default grace is one second.
    let all = ["fired 10", "fired 20", "fired 30", "fired 40", "fired 50"];
    check(misfire(MisfirePolicy::FireNow, every(10)), &[At(55)], &all, Scheduled);
    check(misfire(MisfirePolicy::Skip, every(10)), &[At(55)], &["misfire 10..50 (5)"], Scheduled);
    check(every(10), &[At(55)], &["coalesced 10..40 (4)", "fired 50"], Scheduled);
    check(every(10), &[At(51)], &["coalesced 10..30 (3)", "fired 40", "fired 50"], Scheduled);
    let two = ["misfire 10..30 (3)", "fired 40", "fired 50"];
    check(misfire(catch_up(2, 1000), every(10)), &[At(55)], &two, Scheduled);
    check(misfire(catch_up(9, 1000), every(10)), &[At(55)], &all, Scheduled);
    check(misfire(catch_up(9, 15), every(10)), &[At(55)], &two, Scheduled);
    check(misfire(catch_up(9, 14), every(10)), &[At(55)], &["misfire 10..40 (4)", "fired 50"], Scheduled);
    check(misfire(catch_up(1, 1), every(10)), &[At(55)], &["misfire 10..50 (5)"], Scheduled);
    // One that fires for all is the last that there is, not the last that there would be.
    check(bounded(count(3), every(10)), &[At(500)], &["coalesced 10..20 (2)", "fired 30"], Firing);
    let end = Bounds { end_ns: Some(30 * S), ..Bounds::default() };
    check(bounded(end, every(10)), &[At(500)], &["coalesced 10", "fired 20"], Firing);
    let last_two = ["misfire 10", "fired 20", "fired 30"];
    check(misfire(catch_up(2, 1000), bounded(count(3), every(10))), &[At(500)], &last_two, Firing);
    let by_cron = || cron("*/10 * * * * *");
    check(by_cron(), &[At(55)], &["coalesced 10..40 (4)", "fired 50"], Scheduled);
    check(misfire(catch_up(2, 1000), by_cron()), &[At(55)], &two, Scheduled);
    // A fixed delay has one occurrence at a time: the next is one distance from the skip.
    let delay = interval(10 * S, IntervalMode::FixedDelay);
    let skips = ["misfire 10", "fired 65"];
    check(misfire(MisfirePolicy::Skip, delay), &[At(55), At(65)], &skips, Firing);
}

#[test]
fn a_long_outage_is_decided_in_few_steps() {
    fn check(definition: TimerDefinition, now_s: i64, steps: usize, skipped: u64, state: TimerState) {
        let mut k = Kernel::new();
        create(&mut k, 1, definition, 0);
        let mut taken = 0;
        while k.fire_due(&at(now_s * S + 1), 1) == 1 {
            taken += 1;
            assert!(taken <= steps, "more than {steps} steps");
        }
        let count = |r: &minoots_kernel::EventRecord| match r.event {
            Event::Skipped { count, .. } => count,
            _ => 0,
        };
        assert_eq!(k.staged().iter().map(count).sum::<u64>(), skipped);
        assert_eq!(status(&k, 1).state, state);
    }
    let ten_million = 10_000_000;
    // All but the last that is late by more than a second, and the one after it, which is not.
    check(every(1), ten_million, 3, 9_999_998, Scheduled);
    check(misfire(MisfirePolicy::Skip, every(1)), ten_million, 2, 9_999_999, Scheduled);
    let catch_up = MisfirePolicy::CatchUp { max: 100, within_ns: 1000 * S };
    check(misfire(catch_up, every(1)), ten_million, 103, 9_999_899, Scheduled);
    let expires = TimerDefinition { expire_after_ns: Some(10 * S), ..every(1) };
    check(misfire(MisfirePolicy::FireNow, expires), ten_million, 12, 9_999_990, Scheduled);
    check(
        misfire(MisfirePolicy::Skip, bounded(count(9_000_000), every(1))),
        ten_million,
        1,
        9_000_000,
        Expired,
    );
    let delay = interval(S, IntervalMode::FixedDelay);
    check(misfire(MisfirePolicy::Skip, delay), ten_million, 1, 1, Scheduled);
    // A cron rule is walked, ten thousand occurrences a step.
    check(cron("* * * * * *"), 100_000, 13, 99_998, Scheduled);
}

#[test]
fn a_long_pause_is_decided_in_few_steps() {
    fn check(definition: TimerDefinition, commands_skip: u64, steps: usize) {
        let mut k = live(definition, &[pause(0), resume(100_000)]);
        assert_eq!(status(&k, 1).occurrences, commands_skip);
        let mut taken = 0;
        while k.fire_due(&at(100_000 * S), 1) == 1 {
            taken += 1;
        }
        assert_eq!((taken, status(&k, 1).occurrences), (steps, 100_000));
        assert!(decisions(&k)[..taken].iter().all(|d| d.starts_with("paused ")), "{:?}", decisions(&k));
    }
    check(every(1), 99_999, 1);
    check(cron("* * * * * *"), 10_000, 10);
}

#[test]
fn overlaps() {
    let what = [At(2), At(4), At(6), Finish(7, true), At(8)];
    let all = ["fired 2", "fired 4", "fired 6", "fired 8"];
    check(overlap(OverlapPolicy::Allow, every(2)), &what, &all, Scheduled);
    check(overlap(OverlapPolicy::CancelPrevious, every(2)), &what, &all, Scheduled);
    let skip = ["fired 2", "overlap 4", "overlap 6", "fired 8"];
    check(overlap(OverlapPolicy::Skip, every(2)), &what, &skip, Scheduled);
    let buffer = || overlap(OverlapPolicy::BufferOne, every(2));
    let buffered = ["fired 2", "buffered 4", "buffer_full 6", "fired 4", "buffered 8"];
    check(buffer(), &what, &buffered, Scheduled);
    let what = [At(2), At(4), cancel(5), Finish(6, true), At(100)];
    check(buffer(), &what, &["fired 2", "buffered 4", "cancelled 4"], Cancelled);
    // The buffered one may be the last there is.
    let two = || bounded(count(2), buffer());
    check(two(), &[At(2), At(4), cancel(5)], &["fired 2", "buffered 4", "cancelled 4"], Cancelled);
    let what = [At(2), At(4), Finish(5, false), Finish(6, true)];
    check(two(), &what, &["fired 2", "buffered 4", "fired 4"], Completed);
    let expires = TimerDefinition { expire_after_ns: Some(3 * S), ..two() };
    check(expires.clone(), &[At(2), At(4), Finish(7, true)], &["fired 2", "buffered 4", "fired 4"], Firing);
    let what = [At(2), At(4), Finish(8, true)];
    check(expires, &what, &["fired 2", "buffered 4", "expired 4"], Completed);
    // It waits on while the timer is paused.
    let what = [At(2), At(4), pause(5), Finish(5, true)];
    check(buffer(), &what, &["fired 2", "buffered 4"], Paused);
    let what = [&what[..], &[resume(9), At(10)]].concat();
    check(
        buffer(),
        &what,
        &["fired 2", "buffered 4", "paused 6..8 (2)", "fired 4", "buffered 10"],
        Scheduled,
    );
    let what = [At(2), At(4), pause(5), Finish(5, true), cancel(6)];
    check(buffer(), &what, &["fired 2", "buffered 4", "cancelled 4"], Cancelled);
}

#[test]
fn the_end_of_a_fire_that_was_given_up_changes_nothing() {
    let mut k = live(overlap(OverlapPolicy::CancelPrevious, bounded(count(2), every(2))), &[At(2), At(4)]);
    let Event::Firing { supersedes, .. } = &k.staged()[2].event else { panic!("no fire") };
    assert_eq!(*supersedes, [2 * S]);
    let staged = k.staged().len();
    let told = ask(&mut k, finish(1, 2 * S, false), 5 * S).expect("accepted");
    assert!(told.replayed && k.staged().len() == staged);
    ask(&mut k, finish(1, 4 * S, true), 5 * S).expect("finished");
    let status = status(&k, 1);
    assert_eq!((status.state, status.completions, status.failures, status.fires), (Completed, 1, 0, 2));
}

#[test]
fn expiry() {
    let expires = |s: i64, d: TimerDefinition| TimerDefinition { expire_after_ns: Some(s * S), ..d };
    let late = |d| misfire(MisfirePolicy::FireNow, d);
    check(expires(3, of(ScheduleSpec::AfterNs(5 * S))), &[At(8)], &["fired 5"], Firing);
    check(expires(3, of(ScheduleSpec::AfterNs(5 * S))), &[At(9)], &["expired 5"], Expired);
    let want = ["expired 10..30 (3)", "fired 40", "fired 50"];
    check(late(expires(15, every(10))), &[At(55)], &want, Scheduled);
    check(late(expires(14, every(10))), &[At(55)], &["expired 10..40 (4)", "fired 50"], Scheduled);
    // It expires only after, not at the end of that time, alone or in a row.
    check(
        late(expires(20, every(10))),
        &[At(50)],
        &["expired 10..20 (2)", "fired 30", "fired 40", "fired 50"],
        Scheduled,
    );
}

#[test]
fn pauses() {
    let one_shot = || of(ScheduleSpec::AfterNs(5 * S));
    check(one_shot(), &[pause(1), At(9)], &[], Paused);
    check(one_shot(), &[pause(1), resume(2), At(5)], &["fired 5"], Firing);
    check(one_shot(), &[pause(1), resume(9), At(9)], &["fired 5"], Firing);
    check(misfire(MisfirePolicy::Skip, one_shot()), &[pause(1), resume(9), At(9)], &["misfire 5"], Expired);
    check(one_shot(), &[pause(1), by_hand(2)], &["fired 5"], Firing);
    check(one_shot(), &[pause(1), cancel(2), At(9)], &[], Cancelled);
    check(
        every(2),
        &[At(2), pause(3), At(9), resume(9), At(10)],
        &["fired 2", "paused 4..8 (3)", "fired 10"],
        Scheduled,
    );
    // One that is due at the resume fires.
    check(every(2), &[pause(1), resume(4), At(4)], &["paused 2", "fired 4"], Scheduled);
    check(bounded(count(3), every(2)), &[pause(1), resume(60)], &["paused 2..6 (3)"], Expired);
    check(cron("*/2 * * * * *"), &[pause(1), resume(9), At(10)], &["paused 2..8 (4)", "fired 10"], Scheduled);
    let delay = interval(2 * S, IntervalMode::FixedDelay);
    check(delay, &[pause(1), resume(9), At(11)], &["paused 2", "fired 11"], Firing);
    let k = live(one_shot(), &[pause(1)]);
    assert_eq!(status(&k, 1).reason.as_deref(), Some("lunch"));
    assert_eq!(status(&live(one_shot(), &[pause(1), by_hand(2)]), 1).reason, None);
}

#[test]
fn reschedules() {
    let one_shot = || of(ScheduleSpec::AfterNs(5 * S));
    check(one_shot(), &[later(1, 4), At(8), At(9)], &["fired 9"], Firing);
    check(one_shot(), &[later(1, -3), At(2)], &["fired 2"], Firing);
    check(one_shot(), &[pause(1), later(1, 4), resume(8), At(9)], &["fired 9"], Firing);
    // An occurrence of a recurring timer keeps its name.
    check(every(10), &[later(1, 4), At(13), At(14), At(20)], &["fired 10", "fired 20"], Scheduled);
    check(every(10), &[later(1, -4), At(6), At(20)], &["fired 10", "fired 20"], Scheduled);
    let to = |due| change(1, Change::Reschedule(due));
    let mut k = live(one_shot(), &[]);
    for due in [
        NewDue::AtNs(0),
        NewDue::AfterNs(-1),
        NewDue::LaterByNs(-5 * S),
        NewDue::AfterNs(i64::MAX),
        NewDue::LaterByNs(i64::MAX),
        NewDue::AtNs(i64::MIN),
        NewDue::LaterByNs(i64::MIN),
    ] {
        let error = ask(&mut k, to(due), S);
        assert!(matches!(error, Err(CommandError::Schedule(_))), "{due:?}: {error:?}");
    }
    assert_eq!(k.staged().len(), 1);
    // Compare and set.
    let with = |version| match to(NewDue::AfterNs(S)) {
        Command::Change { tenant, id, change, .. } => {
            Command::Change { tenant, id, expected_version: Some(version), change }
        }
        other => other,
    };
    ask(&mut k, with(1), S).expect("it is at version 1");
    assert_eq!(ask(&mut k, with(1), S), Err(CommandError::VersionConflict { id: id(1), version: 2 }));
    ask(&mut k, with(2), S).expect("it is at version 2");
}

#[test]
fn fires_by_hand() {
    check(of(ScheduleSpec::AfterNs(5 * S)), &[by_hand(2), At(9)], &["fired 5"], Firing);
    let k = live(of(ScheduleSpec::AfterNs(5 * S)), &[by_hand(2)]);
    assert_eq!(status(&k, 1).last.expect("it fired").lateness_ns(), -3 * S);
    check(every(2), &[by_hand(1), At(2)], &["extra 1", "fired 2"], Scheduled);
    // They are beside the schedule: the count is of its occurrences.
    let what = [by_hand(1), Finish(1, true), At(2), Finish(3, true)];
    check(bounded(count(1), every(2)), &what, &["extra 1", "fired 2"], Completed);
    // Names never meet: not those of the schedule, nor those of other fires, nor past the clock's steps.
    let what = [pause(1), by_hand(4), resume(4), At(4)];
    check(every(2), &what, &["extra 4.000000001", "paused 2", "fired 4"], Scheduled);
    check(
        cron("* * * * * *"),
        &[pause(0), by_hand(4), by_hand(4)],
        &["extra 4.000000001", "extra 4.000000002"],
        Paused,
    );
    let what = [by_hand(1), Finish(1, true), by_hand(1), Finish(1, true), by_hand(0)];
    check(every(2), &what, &["extra 1", "extra 1.000000001", "extra 1.000000002"], Scheduled);
    let delay = interval(2 * S, IntervalMode::FixedDelay);
    let what = [At(2), Finish(0, true), At(2)];
    check(delay, &what, &["fired 2", "fired 2.000000001"], Firing);
    // At the end of time there is no name left.
    let mut k = live(every(2), &[]);
    ask(&mut k, change(1, Change::FireNow), i64::MAX).expect("the last name");
    let error = ask(&mut k, change(1, Change::FireNow), i64::MAX);
    assert!(matches!(error, Err(CommandError::Schedule(_))), "{error:?}");
}

#[test]
fn what_each_state_allows() {
    let verbs = [
        Change::Cancel { reason: None },
        Change::Reschedule(NewDue::AfterNs(S)),
        Change::Pause { reason: None },
        Change::Resume,
        Change::FireNow,
    ];
    /// `want` has a letter for each verb: y or n.
    fn check(verbs: &[Change], definition: TimerDefinition, what: &[Do], state: TimerState, want: &str) {
        for (verb, want) in verbs.iter().zip(want.chars()) {
            let mut k = live(definition.clone(), what);
            assert_eq!(status(&k, 1).state, state);
            let staged = k.staged().len();
            match ask(&mut k, change(1, verb.clone()), 20 * S) {
                Ok(_) => assert_eq!(want, 'y', "{state:?} {verb:?}"),
                Err(error) => {
                    assert_eq!(error, CommandError::WrongState { id: id(1), state, verb: verb.verb() });
                    assert_eq!((want, k.staged().len()), ('n', staged), "{state:?} {verb:?}");
                }
            }
        }
    }
    let one_shot = || of(ScheduleSpec::AfterNs(15 * S));
    let waits = minoots_kernel::StartAfter {
        upstreams: vec![minoots_kernel::Upstream { timer: id(7), on: minoots_kernel::UpstreamOn::Fired }],
        need: minoots_kernel::Need::All,
    };
    let waiting = TimerDefinition { start_after: Some(waits), ..one_shot() };
    check(&verbs, waiting, &[], TimerState::Waiting, "ynnnn");
    check(&verbs, one_shot(), &[], Scheduled, "yyyny");
    check(&verbs, every(15), &[At(15)], Scheduled, "yyyny");
    check(&verbs, one_shot(), &[pause(1)], Paused, "yynyy");
    check(&verbs, one_shot(), &[At(15)], Firing, "nnnnn");
    check(&verbs, interval(S, IntervalMode::FixedDelay), &[At(1)], Firing, "ynnnn");
    check(&verbs, bounded(count(1), interval(S, IntervalMode::FixedDelay)), &[At(1)], Firing, "nnnnn");
    check(&verbs, one_shot(), &[At(15), Finish(16, true)], Completed, "nnnnn");
    check(&verbs, one_shot(), &[At(15), Finish(16, false)], Failed, "nnnnn");
    check(&verbs, one_shot(), &[cancel(1)], Cancelled, "nnnnn");
    check(&verbs, misfire(MisfirePolicy::Skip, one_shot()), &[At(19)], Expired, "nnnnn");
}

#[test]
fn the_first_acknowledgement_of_the_last_fire_stands() {
    let acknowledge = |nominal_ns| Command::Acknowledge {
        tenant: TenantId::default(),
        firing: FiringId { timer: id(1), nominal_ns },
        by: Some("me".into()),
        note: None,
    };
    let mut k = live(every(2), &[At(2), Finish(3, true)]);
    ask(&mut k, acknowledge(2 * S), 3 * S).expect("acknowledged");
    let again = ask(&mut k, acknowledge(2 * S), 4 * S).expect("accepted");
    assert!(again.replayed);
    assert_eq!(status(&k, 1).last.and_then(|l| l.acknowledged_ns), Some(3 * S));
    fire(&mut k, 4 * S);
    let unknown = FiringId { timer: id(1), nominal_ns: 2 * S };
    assert_eq!(ask(&mut k, acknowledge(2 * S), 5 * S), Err(CommandError::NoSuchFire(unknown)));
}

#[test]
fn fires_come_in_order_of_due_time_then_priority_then_id_whatever_the_limit() {
    // Priority and period of each timer; all are late.
    let timers = [(0_i8, 10), (5, 10), (-3, 10), (5, 15), (127, 30), (-128, 30), (0, 7)];
    let order = |limit: usize, rollback_after: usize| {
        let mut k = Kernel::new();
        for (n, (priority, seconds)) in timers.iter().enumerate() {
            let policy = misfire(MisfirePolicy::FireNow, every(*seconds));
            create(&mut k, n as u64, TimerDefinition { priority: *priority, ..policy }, 0);
        }
        k.commit();
        for _ in 0..rollback_after {
            k.fire_due(&at(100 * S), limit);
        }
        k.rollback();
        while k.fire_due(&at(100 * S), limit) == limit {}
        let key = |r: &minoots_kernel::EventRecord| match r.event {
            Event::Firing { firing, .. } => {
                let n = firing.timer.as_u128() as usize;
                (firing.nominal_ns, -i16::from(timers[n].0), n)
            }
            ref other => panic!("{other:?}"),
        };
        k.staged().iter().map(key).collect::<Vec<_>>()
    };
    let all = order(usize::MAX, 0);
    assert_eq!(all.len(), 3 * 10 + 6 + 3 + 3 + 14);
    assert!(all.is_sorted(), "{all:?}");
    for limit in 1..9 {
        for rollback_after in 0..4 {
            assert_eq!(order(limit, rollback_after), all, "{limit} {rollback_after}");
        }
    }
}

#[test]
fn a_clock_that_is_set_back_holds_fires_back() {
    let mut k = Kernel::new();
    for n in 1..4 {
        create(&mut k, n, of(ScheduleSpec::AfterNs(n as i64 * 100 * MS)), 0);
    }
    assert_eq!(k.fire_due(&at(S), 1), 1);
    assert_eq!(k.fire_due(&at(150 * MS), 9), 0);
    assert_eq!(k.next_deadline().map(|d| d.as_ns()), Some(200 * MS));
    assert_eq!(k.fire_due(&at(200 * MS), 9), 1);
    assert_eq!(k.fire_due(&at(300 * MS), 9), 1);
}
