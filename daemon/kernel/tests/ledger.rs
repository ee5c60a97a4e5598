//! Every occurrence of a schedule is in the ledger exactly once, whatever happens to the timer; and no command, clock
//! or log makes the kernel panic.

mod common;

use chronotick_core::Timestamp;
use common::{Life, S, Step, id, replayed, step};
use minoots_kernel::ledger::changes;
use minoots_kernel::recurrence::{IntervalMode, Recurrence, jitter_ns};
use minoots_kernel::{
    DeliveryEnd, Event, EventRecord, Kernel, LedgerChange, LedgerOutcome, MisfirePolicy, NothingCold,
    Occurrence, ScheduleSpec, SkipReason, TimerDefinition, TimerId, TimerInstance, TimerState,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn rule(definition: &TimerDefinition) -> Option<Recurrence> {
    match &definition.schedule {
        ScheduleSpec::Interval(spec) => {
            Some(Recurrence::interval(spec, &definition.bounds).expect("accepted"))
        }
        ScheduleSpec::Cron(spec) => Some(Recurrence::cron(spec, &definition.bounds).expect("accepted")),
        _ => None,
    }
}

/// What the log of one timer should look like, followed event by event.
struct Follower {
    id: TimerId,
    definition: std::sync::Arc<TimerDefinition>,
    rule: Option<Recurrence>,
    is_fixed_delay: bool,
    base: Timestamp,
    /// The occurrence that is decided next, by the schedule alone; a fixed delay takes it from the log.
    cursor: Option<i64>,
    /// Its due time, which a reschedule moves.
    due_ns: i64,
    decided: u64,
    lines: BTreeMap<i64, LedgerOutcome>,
    ended: BTreeMap<i64, DeliveryEnd>,
    extras: u64,
}

impl Follower {
    fn new(timer: &TimerInstance) -> Self {
        let definition = timer.definition.clone();
        let is_fixed_delay = matches!(&definition.schedule,
            ScheduleSpec::Interval(i) if i.mode == IntervalMode::FixedDelay);
        Self {
            id: timer.id,
            rule: rule(&definition),
            definition,
            is_fixed_delay,
            base: Timestamp::MIN,
            cursor: None,
            due_ns: 0,
            decided: 0,
            lines: BTreeMap::new(),
            ended: BTreeMap::new(),
            extras: 0,
        }
    }

    fn due_of(&self, nominal_ns: i64) -> i64 {
        let jitter_ns = jitter_ns(self.id.as_u128(), nominal_ns, self.definition.jitter_ns);
        nominal_ns.saturating_add(jitter_ns)
    }

    fn start(&mut self, next: Occurrence, at_ns: i64) {
        self.base = Timestamp::from_ns(at_ns);
        if let Some(rule) = &self.rule {
            assert_eq!(rule.first(self.base).map(|t| t.as_ns()), Some(next.nominal_ns));
            assert_eq!(next.due_ns, self.due_of(next.nominal_ns), "jitter delays the due time alone");
        }
        (self.cursor, self.due_ns) = (Some(next.nominal_ns), next.due_ns);
    }

    /// The occurrence after one, by the schedule alone.
    fn after(&self, nominal_ns: i64) -> Option<i64> {
        let rule = self.rule.as_ref()?;
        rule.next(self.base, Timestamp::from_ns(nominal_ns)).map(|t| t.as_ns())
    }

    /// The occurrences `from..=last` are decided, and `next` is what the event says comes next.
    fn decide(&mut self, from_ns: i64, last_ns: i64, count: u64, next: Option<Occurrence>) {
        assert_eq!(self.cursor, Some(from_ns), "decided out of turn");
        let mut walked_ns = from_ns;
        for _ in 1..count {
            walked_ns = self.after(walked_ns).expect("as many occurrences as were counted");
        }
        assert_eq!(walked_ns, last_ns, "the last of {count} from {from_ns}");
        self.decided += count;
        let is_counted_out = self.definition.bounds.count.is_some_and(|c| self.decided >= c);
        assert!(self.definition.bounds.count.is_none_or(|c| self.decided <= c), "more than the count");
        if !self.is_fixed_delay {
            let want = self.after(last_ns).filter(|_| !is_counted_out);
            let want = want.filter(|ns| {
                ns.checked_add(jitter_ns(self.id.as_u128(), *ns, self.definition.jitter_ns)).is_some()
            });
            assert_eq!(next.map(|n| n.nominal_ns), want);
        } else if is_counted_out {
            assert_eq!(next, None);
        }
        self.expect_next(next);
    }

    fn expect_next(&mut self, next: Option<Occurrence>) {
        self.cursor = next.map(|n| n.nominal_ns);
        if let Some(next) = next {
            self.due_ns = next.due_ns;
            if !self.is_fixed_delay {
                assert_eq!(next.due_ns, self.due_of(next.nominal_ns), "jitter delays the due time alone");
            }
        }
    }

    /// Whether so many occurrences from the one that comes next on were all due before a time.
    fn all_due_before(&self, count: u64, before_ns: i64) -> bool {
        let mut nominal_ns = self.cursor.expect("one is decided");
        let mut is_before = self.due_ns < before_ns;
        for _ in 1..count {
            nominal_ns = self.after(nominal_ns).expect("it was counted");
            is_before &= self.due_of(nominal_ns) < before_ns;
        }
        is_before
    }

    /// How many occurrences in a row after the next one were due before a time, up to a limit.
    fn more_due_before(&self, before_ns: i64, limit: u64) -> u64 {
        let mut nominal_ns = self.cursor.expect("one is decided");
        let left = self.definition.bounds.count.map_or(u64::MAX, |c| c - self.decided - 1);
        let mut more = 0;
        while more < limit.min(left)
            && let Some(next_ns) = self.after(nominal_ns)
            && self.due_of(next_ns) < before_ns
        {
            (nominal_ns, more) = (next_ns, more + 1);
        }
        more
    }

    fn check_skip(&self, count: u64, reason: SkipReason, at_ns: i64) {
        let d = &self.definition;
        let grace = at_ns.saturating_sub(d.grace_ns());
        match (reason, d.misfire_policy()) {
            (SkipReason::Misfire, MisfirePolicy::Skip | MisfirePolicy::CatchUp { .. })
            | (SkipReason::Coalesced, MisfirePolicy::FireOnce) => {
                assert!(self.all_due_before(count, grace), "not missed yet");
            }
            (SkipReason::Expired, _) => {
                let limit = d.expire_after_ns.expect("nothing else expires");
                assert!(self.all_due_before(count, at_ns.saturating_sub(limit)), "not expired yet");
            }
            (SkipReason::Paused, _) => {}
            (SkipReason::Overlap | SkipReason::BufferFull, _) => assert_eq!(count, 1),
            (reason, policy) => panic!("{reason:?} under {policy:?}"),
        }
    }

    /// Checks that a scheduled fire, late by so much, is what the misfire policy says.
    fn check_fire(&self, late_ns: i64, at_ns: i64) {
        let d = &self.definition;
        assert!(d.expire_after_ns.is_none_or(|limit| late_ns <= limit), "fired though expired");
        if late_ns <= d.grace_ns() {
            return;
        }
        let grace = at_ns.saturating_sub(d.grace_ns());
        match d.misfire_policy() {
            MisfirePolicy::FireNow => {}
            MisfirePolicy::Skip => panic!("fired though missed"),
            MisfirePolicy::FireOnce if self.is_fixed_delay => {}
            MisfirePolicy::FireOnce => {
                assert_eq!(self.more_due_before(grace, 1), 0, "a later one was missed too")
            }
            MisfirePolicy::CatchUp { max, within_ns } => {
                assert!(late_ns <= within_ns, "older than a catch-up goes back");
                assert!(self.is_fixed_delay || self.more_due_before(grace, max) < max, "more than {max}");
            }
        }
    }

    fn follow(&mut self, record: &EventRecord) {
        let at_ns = record.at_ns;
        match &record.event {
            Event::Scheduled { due_ns, nominal_ns, .. } => {
                self.start(Occurrence { nominal_ns: nominal_ns.unwrap_or(*due_ns), due_ns: *due_ns }, at_ns);
            }
            Event::Resolved { next: Some(next), .. } => self.start(*next, at_ns),
            Event::Rescheduled { next, .. } => {
                if self.rule.is_some() {
                    assert_eq!(self.cursor, Some(next.nominal_ns), "a reschedule keeps the name");
                }
                (self.cursor, self.due_ns) = (Some(next.nominal_ns), next.due_ns);
            }
            Event::Firing { firing, is_extra: true, .. } => {
                self.extras += 1;
                let ns = firing.nominal_ns;
                if !self.is_fixed_delay {
                    assert_ne!(self.after(ns - 1), Some(ns), "an extra fire took the name of an occurrence");
                }
                assert!(!self.lines.contains_key(&ns));
            }
            Event::Firing { firing, next, lateness_ns, .. } => {
                let ns = firing.nominal_ns;
                if matches!(self.lines.get(&ns), Some(LedgerOutcome::Buffered { .. })) {
                    assert_eq!(*next, None);
                } else {
                    assert!(!self.lines.contains_key(&ns), "fired twice");
                    // A one-shot may be fired by hand.
                    if self.rule.is_some() {
                        self.check_fire(*lateness_ns, at_ns);
                    }
                    self.decide(ns, ns, 1, *next);
                }
            }
            Event::Buffered { occurrence, next, .. } => {
                let ns = occurrence.nominal_ns;
                assert!(!self.lines.contains_key(&ns), "buffered twice");
                self.decide(ns, ns, 1, *next);
            }
            Event::Skipped { nominal_ns, last_nominal_ns, count, next, reason, .. } => {
                if matches!(self.lines.get(nominal_ns), Some(LedgerOutcome::Buffered { .. })) {
                    assert_eq!((*count, *next), (1, None));
                    assert!(matches!(reason, SkipReason::Cancelled | SkipReason::Expired));
                } else {
                    assert!(!self.lines.contains_key(nominal_ns), "skipped after it was decided");
                    self.check_skip(*count, *reason, at_ns);
                    self.decide(*nominal_ns, last_nominal_ns.unwrap_or(*nominal_ns), *count, *next);
                }
            }
            Event::Completed { next: Some(next), .. } | Event::Failed { next: Some(next), .. } => {
                assert!(self.is_fixed_delay && self.cursor.is_none());
                self.expect_next(Some(*next));
            }
            Event::Cancelled { .. } => {
                self.cursor = None;
                let is_open = |o: &LedgerOutcome| matches!(o, LedgerOutcome::Buffered { .. });
                assert!(!self.lines.values().any(is_open), "a buffered occurrence is left in the ledger");
            }
            _ => {}
        }
        changes(record, |change| match change {
            LedgerChange::Outcome { nominal_ns, outcome, .. } => {
                self.lines.insert(nominal_ns, outcome);
            }
            LedgerChange::Delivery { nominal_ns, delivery, .. } => {
                assert!(matches!(self.lines.get(&nominal_ns), Some(LedgerOutcome::Fired(_))));
                assert_eq!(self.ended.insert(nominal_ns, delivery.end), None, "ended twice");
            }
        });
    }

    /// Compares the counts of the ledger with the timer's own.
    fn check(&self, timer: &TimerInstance) {
        let status = &timer.status;
        assert_eq!(status.next.map(|n| n.nominal_ns), self.cursor);
        assert_eq!(status.occurrences, self.decided);
        let fires = self.lines.values().filter(|o| matches!(o, LedgerOutcome::Fired(_))).count() as u64;
        assert_eq!(status.fires, fires);
        let mut decided = fires - self.extras;
        for outcome in self.lines.values() {
            match outcome {
                LedgerOutcome::Skipped(skipped) => decided += skipped.count,
                LedgerOutcome::Buffered { .. } => decided += 1,
                LedgerOutcome::Fired(_) => {}
            }
        }
        assert_eq!(decided, self.decided, "the ledger has each occurrence once");
        let ends = |end| self.ended.values().filter(|e| **e == end).count() as u64;
        assert_eq!(status.completions, ends(DeliveryEnd::Completed));
        assert_eq!(status.failures, ends(DeliveryEnd::Failed));
        assert_eq!(status.flights.len() as u64, fires - self.ended.len() as u64);
        if status.state.is_ended() && status.state != TimerState::Cancelled {
            assert!(status.next.is_none() && status.flights.is_empty() && status.buffered.is_none());
            let want = match &status.last {
                None => TimerState::Expired,
                Some(last) if self.ended.get(&last.nominal_ns) == Some(&DeliveryEnd::Failed) => {
                    TimerState::Failed
                }
                Some(_) => TimerState::Completed,
            };
            assert_eq!(status.state, want);
        }
        if !status.state.is_ended() && status.state != TimerState::Waiting {
            assert!(status.next.is_some() || !status.flights.is_empty(), "it is stuck");
        }
    }
}

fn check_ledger(log: &[EventRecord], kernel: &Kernel) {
    let mut followers: BTreeMap<TimerId, Follower> = BTreeMap::new();
    for record in log {
        let id = record.event.timer();
        let follower =
            followers.entry(id).or_insert_with(|| Follower::new(kernel.timer(id).expect("it is there")));
        follower.follow(record);
    }
    for (id, follower) in &followers {
        follower.check(kernel.timer(*id).expect("it is there"));
    }
}

/// Plays a life, and returns the log.
fn play(kernel: &mut Kernel, steps: &[Step], start_ns: i64) -> Vec<EventRecord> {
    let mut life = Life { now_ns: start_ns, ids: 0 };
    let mut log = Vec::new();
    for step in steps {
        if let Some(command) = life.command(step, kernel) {
            let staged = kernel.staged().len();
            let answer = kernel.handle(command, &life.stamp(), &NothingCold);
            assert!(answer.is_ok() || kernel.staged().len() == staged, "a refusal staged events");
        }
        match step {
            Step::Fire(forward_ns, limit) => {
                life.now_ns = life.now_ns.saturating_add(*forward_ns);
                let stamp = life.stamp();
                let decided = kernel.fire_due(&stamp, *limit);
                let is_more = kernel.next_deadline().is_some_and(|due| due <= stamp.now);
                assert!(decided == *limit || !is_more, "{decided} of {limit}, and more is due");
            }
            Step::Commit => log.extend(kernel.commit().records),
            Step::Rollback => {
                kernel.rollback();
                assert_eq!(*kernel, replayed(&log));
            }
            _ => {}
        }
    }
    log.extend(kernel.commit().records);
    log
}

/// What comes next is equal too: fires of both, in steps.
fn check_same_future(a: &mut Kernel, b: &mut Kernel, now_ns: i64) {
    for forward in 0..5 {
        let stamp = common::at(now_ns.saturating_add(forward * 700 * S));
        assert_eq!(a.next_deadline(), b.next_deadline());
        for _ in 0..20 {
            a.fire_due(&stamp, 3);
            b.fire_due(&stamp, 3);
        }
        let strip = |k: &mut Kernel| k.commit().records.into_iter().map(without_armed).collect::<Vec<_>>();
        assert_eq!(strip(a), strip(b));
    }
}

/// Without the time at which it came into the queue, which a restart changes.
fn without_armed(mut record: EventRecord) -> EventRecord {
    if let Event::Firing { armed_ns, .. } = &mut record.event {
        *armed_ns = None;
    }
    record
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn each_occurrence_is_in_the_ledger_once(steps in proptest::collection::vec(step(false, 4), 0..120)) {
        let mut kernel = Kernel::new();
        let log = play(&mut kernel, &steps, 1000 * S);
        check_ledger(&log, &kernel);
        let mut again = replayed(&log);
        prop_assert_eq!(&kernel, &again);
        check_same_future(&mut kernel, &mut again, 2000 * S);
    }

    #[test]
    fn no_number_makes_the_kernel_panic(
        steps in proptest::collection::vec(step(true, 4), 0..120),
        start_ns in common::span(true),
    ) {
        let mut kernel = Kernel::new();
        let log = play(&mut kernel, &steps, start_ns);
        let again = replayed(&log);
        prop_assert_eq!(&kernel, &again);
    }

    #[test]
    fn no_log_makes_the_kernel_panic(
        steps in proptest::collection::vec(step(true, 3), 1..60),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), common::span(true), 0..6u8), 1..20),
        after in proptest::collection::vec(step(true, 3), 0..30),
    ) {
        let log = play(&mut Kernel::new(), &steps, 0);
        if log.is_empty() {
            return Ok(());
        }
        let mut events: Vec<EventRecord> = log.clone();
        for (from, to, ns, kind) in edits {
            // Events of other places and times, with numbers of their own.
            let mut record = log[from.index(log.len())].clone();
            edit(&mut record, ns, kind);
            events.insert(to.index(events.len() + 1), record);
        }
        let mut kernel = Kernel::new();
        for mut record in events {
            record.sequence = kernel.last_sequence() + 1;
            let before = kernel.last_sequence();
            if kernel.replay(record, &NothingCold).is_err() {
                prop_assert_eq!(kernel.last_sequence(), before);
            }
        }
        kernel.commit();
        let mut life = Life { now_ns: 0, ids: 4 };
        for step in &after {
            if let Some(command) = life.command(step, &kernel) {
                let _ = kernel.handle(command, &life.stamp(), &NothingCold);
            }
            if let Step::Fire(forward_ns, limit) = step {
                life.now_ns = life.now_ns.saturating_add(*forward_ns);
                kernel.fire_due(&life.stamp(), *limit);
            }
        }
    }
}

/// Makes an event say something else.
fn edit(record: &mut EventRecord, ns: i64, kind: u8) {
    if kind == 0 {
        record.at_ns = ns;
    }
    let other = Some(Occurrence { nominal_ns: ns, due_ns: ns.wrapping_mul(3) });
    match &mut record.event {
        Event::Firing { firing, lateness_ns, next, is_extra, .. } => match kind {
            1 => firing.nominal_ns = ns,
            2 => *lateness_ns = ns,
            3 => *next = other,
            4 => *is_extra = !*is_extra,
            _ => {}
        },
        Event::Skipped { count, nominal_ns, next, .. } => match kind {
            1 => *count = ns as u64,
            2 => *nominal_ns = ns,
            3 => *next = other,
            _ => {}
        },
        Event::Scheduled { due_ns, nominal_ns, .. } => match kind {
            1 => *due_ns = ns,
            2 => *nominal_ns = Some(ns),
            _ => {}
        },
        Event::Completed { next, .. } | Event::Failed { next, .. } | Event::Resolved { next, .. } => {
            *next = other
        }
        Event::Buffered { occurrence, next, .. } => {
            occurrence.due_ns = ns;
            *next = other;
        }
        Event::Rescheduled { timer, next } if kind > 3 => {
            *next = Occurrence { nominal_ns: ns, due_ns: ns };
            *timer = id(u64::from(kind));
        }
        _ => {}
    }
}
