//! What the tests of the kernel share: short names for commands, and random lives of timers.
#![allow(dead_code, reason = "each test program uses a part of it")]

use chronotick_core::{Span, TimeBound, Timestamp};
use minoots_kernel::recurrence::{Bounds, CronSpec, IntervalMode, IntervalSpec};
use minoots_kernel::{
    ActionResult, Change, ClockStamp, Command, CommandError, Event, EventRecord, FiringId, Kernel,
    MisfirePolicy, Need, NewDue, NothingCold, Outcome, OverlapPolicy, ScheduleSpec, StartAfter, TenantId,
    TimerDefinition, TimerId, TimerStatus, Upstream, UpstreamOn, UpstreamSeen,
};
use proptest::prelude::*;
use std::sync::Arc;

/// A second.
pub(crate) const S: i64 = 1_000_000_000;
/// A millisecond.
pub(crate) const MS: i64 = 1_000_000;

/// The time, with no bound.
pub(crate) fn at(ns: i64) -> ClockStamp {
    ClockStamp::os(Timestamp::from_ns(ns))
}

/// The id with this number.
pub(crate) fn id(n: u64) -> TimerId {
    TimerId::from_u128(u128::from(n))
}

/// Every so many seconds, on a grid from the creation on.
pub(crate) fn every(seconds: i64) -> TimerDefinition {
    interval(seconds * S, IntervalMode::FixedRate)
}

/// An interval.
pub(crate) fn interval(every_ns: i64, mode: IntervalMode) -> TimerDefinition {
    of(ScheduleSpec::Interval(IntervalSpec { every_ns, mode, anchor_ns: None }))
}

/// A cron rule in UTC.
pub(crate) fn cron(expression: &str) -> TimerDefinition {
    let expression = expression.into();
    let (zone, exclude_dates) = ("UTC".into(), Vec::new());
    of(ScheduleSpec::Cron(CronSpec { expression, zone, gap: None, overlap: None, exclude_dates }))
}

/// A timer with this schedule and no more.
pub(crate) fn of(schedule: ScheduleSpec) -> TimerDefinition {
    TimerDefinition { name: "t".into(), schedule, ..TimerDefinition::default() }
}

/// Limits the number of occurrences.
pub(crate) fn count(n: u64) -> Bounds {
    Bounds { count: Some(n), ..Bounds::default() }
}

/// Carries out a command on a kernel that has everything in memory.
pub(crate) fn ask(k: &mut Kernel, command: Command, now_ns: i64) -> Result<Outcome, CommandError> {
    k.handle(command, &at(now_ns), &NothingCold)
}

/// Creates timer `n`.
pub(crate) fn create(k: &mut Kernel, n: u64, definition: TimerDefinition, now_ns: i64) {
    ask(k, Command::Create { id: id(n), definition: Arc::new(definition) }, now_ns).expect("created");
}

/// A change of timer `n`.
pub(crate) fn change(n: u64, change: Change) -> Command {
    Command::Change { tenant: TenantId::default(), id: id(n), expected_version: None, change }
}

/// The end of a fire.
pub(crate) fn finish(n: u64, nominal_ns: i64, ok: bool) -> Command {
    let result = ActionResult { action: "a".into(), ok, attempts: 1, detail: String::new() };
    let firing = FiringId { timer: id(n), nominal_ns };
    Command::Finish { tenant: TenantId::default(), firing, results: vec![result] }
}

/// Fires all that is due, in decisions of three.
pub(crate) fn fire(k: &mut Kernel, now_ns: i64) {
    while k.fire_due(&at(now_ns), 3) == 3 {}
}

/// What has become of timer `n`.
pub(crate) fn status(k: &Kernel, n: u64) -> TimerStatus {
    k.timer(id(n)).expect("it is there").status.clone()
}

/// The staged events that decide about occurrences, in short: `fired 5`, `extra 5`, `buffered 5`,
/// `misfire 5..9 (5)`; in seconds.
pub(crate) fn decisions(k: &Kernel) -> Vec<String> {
    k.staged().iter().filter_map(|r| decision(&r.event)).collect()
}

fn decision(event: &Event) -> Option<String> {
    let seconds = |ns: i64| (ns as f64) / 1e9;
    match event {
        Event::Firing { firing, is_extra, .. } => {
            let verb = if *is_extra { "extra" } else { "fired" };
            Some(format!("{verb} {}", seconds(firing.nominal_ns)))
        }
        Event::Buffered { occurrence, .. } => Some(format!("buffered {}", seconds(occurrence.nominal_ns))),
        Event::Skipped { nominal_ns, last_nominal_ns: None, reason, .. } => {
            Some(format!("{} {}", reason.as_str(), seconds(*nominal_ns)))
        }
        Event::Skipped { nominal_ns, last_nominal_ns: Some(last), count, reason, .. } => {
            Some(format!("{} {}..{} ({count})", reason.as_str(), seconds(*nominal_ns), seconds(*last)))
        }
        _ => None,
    }
}

/// A kernel that has read this log.
pub(crate) fn replayed(log: &[EventRecord]) -> Kernel {
    let mut kernel = Kernel::new();
    for record in log {
        kernel.replay(record.clone(), &NothingCold).expect("a log that the kernel wrote");
        kernel.commit();
    }
    kernel
}

/// One thing that happens in a random life. Timers and fires are picked by numbers, modulo how many there are.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create(Arc<TimerDefinition>),
    Change(u64, Option<u8>, Change),
    Acknowledge(u64, i64),
    Finish(u64, usize, bool),
    FinishUnknown(u64, i64),
    Resolve(u64, usize, UpstreamSeen),
    /// Time passes, or is set back; at most so many occurrences are decided.
    Fire(i64, usize),
    Commit,
    Rollback,
    /// For tests with an index: it takes in so many batches, and so many timers are looked at to be forgotten.
    Settle(usize, usize),
    /// For tests with an index: the horizon moves to so far from now, in pages of so many.
    Load(i64, usize),
    /// For tests with an index: the kernel starts again.
    Restart,
}

/// Spans that random lives use: of a few seconds or, with `is_wild`, any.
pub(crate) fn span(is_wild: bool) -> BoxedStrategy<i64> {
    let near = prop_oneof![
        4 => (0..8i64).prop_map(|s| s * S),
        2 => 0..20 * S,
        1 => (0..2000i64).prop_map(|s| s * S),
    ];
    if is_wild {
        let ends = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX / 2, i64::MAX - 1, i64::MAX];
        prop_oneof![3 => near, 2 => proptest::sample::select(ends.to_vec()), 1 => any::<i64>()].boxed()
    } else {
        near.boxed()
    }
}

fn schedule(is_wild: bool) -> impl Strategy<Value = ScheduleSpec> {
    let expressions = ["* * * * * *", "*/5 * * * * *", "7,8,30 * * * * *", "* * * * *"];
    let mode = prop_oneof![3 => Just(IntervalMode::FixedRate), 1 => Just(IntervalMode::FixedDelay)];
    prop_oneof![
        1 => span(is_wild).prop_map(ScheduleSpec::AfterNs),
        1 => span(is_wild).prop_map(ScheduleSpec::AtNs),
        4 => (prop_oneof![Just(S), Just(S / 2), Just(3 * S), span(is_wild)], mode,
            proptest::option::weighted(0.2, span(is_wild)))
            .prop_map(|(every_ns, mode, anchor_ns)| {
                let anchor_ns = anchor_ns.filter(|_| mode == IntervalMode::FixedRate);
                ScheduleSpec::Interval(IntervalSpec { every_ns, mode, anchor_ns })
            }),
        2 => proptest::sample::select(expressions.to_vec()).prop_map(|e| cron(e).schedule),
    ]
}

/// A random definition.
pub(crate) fn definition(is_wild: bool) -> impl Strategy<Value = TimerDefinition> {
    let misfire = prop_oneof![
        Just(None),
        Just(Some(MisfirePolicy::FireNow)),
        Just(Some(MisfirePolicy::Skip)),
        Just(Some(MisfirePolicy::FireOnce)),
        (1..5u64, span(is_wild)).prop_map(|(max, within_ns)| Some(MisfirePolicy::CatchUp { max, within_ns })),
    ];
    let overlap = proptest::sample::select(vec![
        OverlapPolicy::Allow,
        OverlapPolicy::Skip,
        OverlapPolicy::BufferOne,
        OverlapPolicy::CancelPrevious,
    ]);
    let on = proptest::sample::select(vec![
        UpstreamOn::Fired,
        UpstreamOn::Completed,
        UpstreamOn::Failed,
        UpstreamOn::Ended,
    ]);
    let need = prop_oneof![Just(Need::All), Just(Need::Any), (1..3u32).prop_map(Need::AtLeast)];
    let start_after = (proptest::collection::vec(on, 1..4), need).prop_map(|(on, need)| {
        let upstreams = (0..).zip(on).map(|(n, on)| Upstream { timer: id(n), on }).collect();
        StartAfter { upstreams, need }
    });
    let bounds = prop_oneof![
        2 => Just(Bounds::default()),
        2 => (1..12u64).prop_map(count),
        1 => (proptest::option::of(span(is_wild)), proptest::option::of(span(is_wild)))
            .prop_map(|(start_ns, end_ns)| Bounds { start_ns, end_ns, count: None }),
    ];
    let jitter = prop_oneof![3 => Just(0), 2 => span(is_wild)];
    let grace = proptest::option::of(span(is_wild));
    let expire = proptest::option::weighted(0.3, span(is_wild));
    let key = proptest::option::weighted(0.2, 0..5u8);
    let rest = (overlap, -1..3i8, expire, proptest::option::weighted(0.2, start_after), key);
    (schedule(is_wild), bounds, jitter, misfire, grace, rest).prop_map(
        |(
            schedule,
            bounds,
            jitter_ns,
            misfire,
            grace_ns,
            (overlap, priority, expire_after_ns, start_after, key),
        )| {
            let bounds = if schedule.is_recurring() { bounds } else { Bounds::default() };
            let idempotency_key = key.map(|k| k.to_string());
            TimerDefinition {
                bounds,
                jitter_ns,
                misfire,
                grace_ns,
                overlap,
                priority,
                expire_after_ns,
                start_after,
                idempotency_key,
                ..of(schedule)
            }
        },
    )
}

fn any_change(is_wild: bool) -> impl Strategy<Value = Change> {
    let to = prop_oneof![
        span(is_wild).prop_map(NewDue::AtNs),
        span(is_wild).prop_map(NewDue::AfterNs),
        span(is_wild).prop_map(NewDue::LaterByNs),
        span(is_wild).prop_map(|ns| NewDue::LaterByNs(ns.saturating_neg())),
    ];
    prop_oneof![
        1 => Just(Change::Cancel { reason: None }),
        3 => to.prop_map(Change::Reschedule),
        2 => Just(Change::Pause { reason: Some("why".into()) }),
        4 => Just(Change::Resume),
        2 => Just(Change::FireNow),
    ]
}

/// A random step of a life with about `timers` timers.
pub(crate) fn step(is_wild: bool, timers: u64) -> impl Strategy<Value = Step> {
    let seen = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(fired, completed, failed, ended)| UpstreamSeen { fired, completed, failed, ended });
    let forward = prop_oneof![
        6 => span(is_wild),
        1 => (-30..0i64).prop_map(|s| s * S),
        1 => Just(0),
    ];
    let n = move || 0..timers;
    prop_oneof![
        6 => definition(is_wild).prop_map(|d| Step::Create(Arc::new(d))),
        10 => (n(), proptest::option::weighted(0.1, 0..4u8), any_change(is_wild))
            .prop_map(|(n, version, change)| Step::Change(n, version, change)),
        1 => (n(), -1..9i64).prop_map(|(n, pick)| Step::Acknowledge(n, pick)),
        12 => (n(), 0..3usize, any::<bool>()).prop_map(|(n, pick, ok)| Step::Finish(n, pick, ok)),
        1 => (n(), span(is_wild)).prop_map(|(n, ns)| Step::FinishUnknown(n, ns)),
        2 => (n(), 0..4usize, seen).prop_map(|(n, upstream, seen)| Step::Resolve(n, upstream, seen)),
        12 => (forward, 1..12usize).prop_map(|(ns, limit)| Step::Fire(ns, limit)),
        4 => Just(Step::Commit),
        2 => Just(Step::Rollback),
        3 => (0..4usize, 0..20usize).prop_map(|(batches, timers)| Step::Settle(batches, timers)),
        2 => (span(false), 1..4usize).prop_map(|(ns, page)| Step::Load(ns, page)),
        1 => Just(Step::Restart),
    ]
}

/// The state of a random life beside the kernel.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// Now.
    pub(crate) now_ns: i64,
    /// How many ids have been used.
    pub(crate) ids: u64,
}

impl Life {
    /// The time as a stamp; every third has a bound.
    pub(crate) fn stamp(&self) -> ClockStamp {
        let now = Timestamp::from_ns(self.now_ns);
        let bound = if self.now_ns % 3 == 0 {
            TimeBound::around(now, Span::from_ns(5))
        } else {
            TimeBound::UNBOUNDED
        };
        ClockStamp { bound, ..ClockStamp::os(now) }
    }

    /// The command that a step asks for, where it is one; `kernel` has every timer in memory.
    pub(crate) fn command(&mut self, step: &Step, kernel: &Kernel) -> Option<Command> {
        let tenant = TenantId::default();
        let pick = |n: u64| id(n % self.ids.max(1));
        Some(match step {
            Step::Create(definition) => {
                self.ids += 1;
                Command::Create { id: id(self.ids - 1), definition: definition.clone() }
            }
            Step::Change(n, version, change) => Command::Change {
                tenant,
                id: pick(*n),
                expected_version: version.map(u64::from),
                change: change.clone(),
            },
            Step::Acknowledge(n, pick_ns) => {
                let timer = pick(*n);
                let last = kernel.timer(timer).and_then(|t| t.status.last.as_ref());
                let nominal_ns = last.map_or(*pick_ns, |l| if *pick_ns < 0 { -1 } else { l.nominal_ns });
                Command::Acknowledge { tenant, firing: FiringId { timer, nominal_ns }, by: None, note: None }
            }
            Step::Finish(n, which, ok) => {
                let timer = pick(*n);
                let flights = kernel.timer(timer).map(|t| t.status.flights.clone()).unwrap_or_default();
                let flight = flights.get(which % flights.len().max(1))?;
                let n = timer.as_u128() as u64;
                finish(n, flight.nominal_ns, *ok)
            }
            Step::FinishUnknown(n, ns) => finish(pick(*n).as_u128() as u64, *ns, true),
            Step::Resolve(n, upstream, seen) => {
                let id = pick(*n);
                let after = kernel.timer(id).and_then(|t| t.definition.start_after.clone())?;
                let upstream = after.upstreams.get(*upstream).map_or(id, |u| u.timer);
                Command::Resolve { tenant, id, upstream, seen: *seen }
            }
            _ => return None,
        })
    }
}
