//! A timer as the API shows it.

use super::words::{FOLDS, GAPS, MODES, OVERLAPS, UPSTREAM_ONS};
use super::{ClockView, FiredClockView, OccurrenceView, ResultView, rfc3339, stored_json};
use chronotick_core::Span;
use minoots_kernel::recurrence::Bounds;
use minoots_kernel::{
    FiringId, LastFire, MisfirePolicy, Need, ScheduleSpec, StartAfter, TimerDefinition, TimerInstance,
    TimerState,
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A timer as the API shows it. Every field is always there; what is not known yet is `null`.
#[derive(Debug, Serialize)]
pub struct TimerView<'a> {
    id: String,
    name: &'a str,
    state: &'static str,
    schedule: ScheduleView<'a>,
    due_at: Option<String>,
    next: Option<OccurrenceView>,
    buffered: Option<OccurrenceView>,
    waits_for: Option<WaitsForView>,
    created_at: String,
    clock: ClockView,
    fired_at: Option<String>,
    lateness_ns: Option<i64>,
    last_fire: Option<LastFireView>,
    in_flight: Vec<String>,
    occurrences: u64,
    fires: u64,
    completions: u64,
    failures: u64,
    ended_at: Option<String>,
    cancel_reason: Option<&'a str>,
    pause_reason: Option<&'a str>,
    policies: PoliciesView,
    labels: &'a BTreeMap<String, String>,
    tags: Vec<&'a str>,
    metadata: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<Vec<ActionView<'a>>>,
    results: Vec<ResultView<'a>>,
    idempotency_key: Option<&'a str>,
    created_by: Option<&'a str>,
    payload_schema: Option<&'a str>,
    agent_binding: Option<Cow<'a, RawValue>>,
    version: u64,
}

/// The schedule as it was given, what was left out included.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ScheduleView<'a> {
    After {
        after: String,
    },
    At {
        at: String,
    },
    Every {
        every: String,
        mode: &'static str,
        anchor: Option<String>,
        #[serde(flatten)]
        bounds: BoundsView,
    },
    Cron {
        cron: &'a str,
        zone: &'a str,
        gap: Option<&'static str>,
        fold: Option<&'static str>,
        exclude_dates: &'a [String],
        #[serde(flatten)]
        bounds: BoundsView,
    },
}

#[derive(Debug, Serialize)]
struct BoundsView {
    start: Option<String>,
    end: Option<String>,
    count: Option<u64>,
}

impl From<&Bounds> for BoundsView {
    fn from(b: &Bounds) -> Self {
        Self { start: b.start_ns.map(rfc3339), end: b.end_ns.map(rfc3339), count: b.count }
    }
}

#[derive(Debug, Serialize)]
struct ActionView<'a> {
    id: &'a str,
    kind: &'a str,
    parameters: Option<Cow<'a, RawValue>>,
}

/// The latest fire.
#[derive(Debug, Serialize)]
struct LastFireView {
    firing_id: String,
    nominal_at: String,
    due_at: String,
    armed_at: Option<String>,
    fired_at: String,
    lateness_ns: i64,
    clock: FiredClockView,
    delivered_at: Option<String>,
    acknowledged_at: Option<String>,
}

impl LastFireView {
    fn new(timer: &TimerInstance, l: &LastFire) -> Self {
        Self {
            firing_id: FiringId { timer: timer.id, nominal_ns: l.nominal_ns }.to_string(),
            nominal_at: rfc3339(l.nominal_ns),
            due_at: rfc3339(l.due_ns),
            armed_at: l.armed_ns.map(rfc3339),
            fired_at: rfc3339(l.fired_ns),
            lateness_ns: l.lateness_ns(),
            clock: FiredClockView { source: Some(l.clock.as_str()), max_error_ns: l.max_error_ns },
            delivered_at: l.delivered_ns.map(rfc3339),
            acknowledged_at: l.acknowledged_ns.map(rfc3339),
        }
    }
}

/// What holds in this timer, what was left out of its definition included.
#[derive(Debug, Serialize)]
struct PoliciesView {
    misfire: MisfireView,
    grace: String,
    overlap: &'static str,
    jitter: String,
    expire_after: Option<String>,
    priority: i8,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum MisfireView {
    FireNow,
    Skip,
    FireOnce,
    CatchUp { max: u64, within: String },
}

impl From<&TimerDefinition> for PoliciesView {
    fn from(d: &TimerDefinition) -> Self {
        Self {
            misfire: match d.misfire_policy() {
                MisfirePolicy::FireNow => MisfireView::FireNow,
                MisfirePolicy::Skip => MisfireView::Skip,
                MisfirePolicy::FireOnce => MisfireView::FireOnce,
                MisfirePolicy::CatchUp { max, within_ns } => {
                    MisfireView::CatchUp { max, within: span(within_ns) }
                }
            },
            grace: span(d.grace_ns()),
            overlap: OVERLAPS.of(d.overlap),
            jitter: span(d.jitter_ns),
            expire_after: d.expire_after_ns.map(span),
            priority: d.priority,
        }
    }
}

/// The timers that a timer waits for, or has waited for.
#[derive(Debug, Serialize)]
pub(super) struct WaitsForView {
    need: NeedView,
    timers: Vec<UpstreamView>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum NeedView {
    Word(&'static str),
    Number(u32),
}

#[derive(Debug, Serialize)]
struct UpstreamView {
    id: String,
    on: &'static str,
    /// `null` until it is known.
    counts: Option<bool>,
}

impl WaitsForView {
    pub(super) fn new(after: &StartAfter, timer: Option<&TimerInstance>) -> Self {
        let known = timer.map(|t| t.status.resolutions.as_slice()).unwrap_or_default();
        Self {
            need: match after.need {
                Need::All => NeedView::Word("all"),
                Need::Any => NeedView::Word("any"),
                Need::AtLeast(n) => NeedView::Number(n),
            },
            timers: after
                .upstreams
                .iter()
                .map(|u| UpstreamView {
                    id: u.timer.to_string(),
                    on: UPSTREAM_ONS.of(u.on),
                    counts: known.iter().find(|r| r.upstream == u.timer).map(|r| r.counts),
                })
                .collect(),
        }
    }
}

fn span(ns: i64) -> String {
    Span::from_ns(ns).to_string()
}

impl<'a> TimerView<'a> {
    /// Everything about the timer.
    pub fn new(timer: &'a TimerInstance) -> Self {
        let actions = timer.definition.actions.iter().map(|a| ActionView {
            id: &a.id,
            kind: &a.kind,
            parameters: stored_json(&a.parameters_json),
        });
        Self { actions: Some(actions.collect()), ..Self::without_actions(timer) }
    }

    /// What one receiver may know: the parameters of the other actions can hold secrets.
    pub fn without_actions(timer: &'a TimerInstance) -> Self {
        let definition = &*timer.definition;
        let (status, last) = (&timer.status, timer.status.last.as_ref());
        let reason_in = |state| status.reason.as_deref().filter(|_| status.state == state);
        let firing_id = |nominal_ns| FiringId { timer: timer.id, nominal_ns }.to_string();
        Self {
            id: timer.id.to_string(),
            name: &definition.name,
            state: status.state.as_str(),
            schedule: schedule(definition),
            due_at: timer.due_ns().map(rfc3339),
            next: status.next.map(OccurrenceView::from),
            buffered: status.buffered.map(OccurrenceView::from),
            waits_for: definition.start_after.as_ref().map(|after| WaitsForView::new(after, Some(timer))),
            created_at: rfc3339(status.created_ns),
            clock: ClockView { source: status.created_clock.as_str() },
            fired_at: last.map(|l| rfc3339(l.fired_ns)),
            lateness_ns: last.map(LastFire::lateness_ns),
            last_fire: last.map(|l| LastFireView::new(timer, l)),
            in_flight: status.flights.iter().map(|f| firing_id(f.nominal_ns)).collect(),
            occurrences: status.occurrences,
            fires: status.fires,
            completions: status.completions,
            failures: status.failures,
            ended_at: status.ended_ns.map(rfc3339),
            cancel_reason: reason_in(TimerState::Cancelled),
            pause_reason: reason_in(TimerState::Paused),
            policies: definition.into(),
            labels: &definition.labels,
            tags: definition.labels.iter().filter(|(_, v)| v.is_empty()).map(|(k, _)| k.as_str()).collect(),
            metadata: definition.metadata_json.as_deref().and_then(stored_json),
            actions: None,
            results: last.map(|l| l.results.iter().map(ResultView::from).collect()).unwrap_or_default(),
            idempotency_key: definition.idempotency_key.as_deref(),
            created_by: definition.created_by.as_deref(),
            payload_schema: definition.payload_schema.as_deref(),
            agent_binding: definition.agent_binding_json.as_deref().and_then(stored_json),
            version: status.version,
        }
    }
}

fn schedule(d: &TimerDefinition) -> ScheduleView<'_> {
    match &d.schedule {
        ScheduleSpec::AfterNs(ns) => ScheduleView::After { after: span(*ns) },
        ScheduleSpec::AtNs(ns) => ScheduleView::At { at: rfc3339(*ns) },
        ScheduleSpec::Interval(i) => ScheduleView::Every {
            every: span(i.every_ns),
            mode: MODES.of(i.mode),
            anchor: i.anchor_ns.map(rfc3339),
            bounds: (&d.bounds).into(),
        },
        ScheduleSpec::Cron(c) => ScheduleView::Cron {
            cron: &c.expression,
            zone: &c.zone,
            gap: c.gap.map(|gap| GAPS.of(gap)),
            fold: c.overlap.map(|fold| FOLDS.of(fold)),
            exclude_dates: &c.exclude_dates,
            bounds: (&d.bounds).into(),
        },
    }
}
