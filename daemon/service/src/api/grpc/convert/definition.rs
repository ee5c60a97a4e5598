//! Definitions, from the wire and back.

use super::time::{duration, duration_ns, duration_ns_if, timestamp, timestamp_ns, timestamp_ns_if};
use super::word;
use crate::actions::Connectors;
use crate::api::definition::check_actions;
use crate::api::error::{
    ApiError, INVALID_FIELD, INVALID_JSON, INVALID_RECURRENCE, INVALID_SCHEDULE, MISSING_FIELD,
};
use crate::api::grpc::v2;
use crate::api::values;
use crate::render;
use minoots_kernel::recurrence::{Bounds, CronSpec, IntervalSpec};
use minoots_kernel::{
    ActionSpec, MisfirePolicy, Need, OverlapPolicy, ScheduleSpec, StartAfter, TimerDefinition, Upstream,
    UpstreamOn,
};
use serde_json::value::RawValue;
use v2::CatchUp;
use v2::timer_definition::Schedule;

/// A definition from the wire, checked as one from JSON is.
pub(in crate::api::grpc) fn definition(
    sent: Option<v2::TimerDefinition>,
    connectors: &Connectors,
) -> Result<TimerDefinition, ApiError> {
    let sent = sent.ok_or_else(|| ApiError::new(&MISSING_FIELD, "missing field `definition`"))?;
    let mut actions = Vec::with_capacity(sent.actions.len());
    for (i, action) in sent.actions.into_iter().enumerate() {
        let text = if action.parameters_json.is_empty() { "{}".to_string() } else { action.parameters_json };
        let parameters_json = json_text(&format!("actions[{i}].parameters_json"), text)?;
        actions.push(ActionSpec { id: action.id, kind: action.kind, parameters_json });
    }
    check_actions(&actions, connectors)?;
    let schedule = schedule(sent.schedule)?;
    if sent.bounds.is_some() && !schedule.is_recurring() {
        let detail = "bounds belongs to interval and cron and not to a timer that fires once: leave it out";
        return Err(ApiError::new(&INVALID_RECURRENCE, detail));
    }
    let mut labels = sent.labels.into_iter().collect();
    values::add_tags(&mut labels, sent.tags)?;
    Ok(TimerDefinition {
        name: sent.name,
        schedule,
        actions,
        labels,
        metadata_json: sent.metadata_json.map(|text| json_text("metadata_json", text)).transpose()?,
        idempotency_key: sent.idempotency_key,
        bounds: bounds(sent.bounds.as_ref())?,
        jitter_ns: duration_ns_if("jitter", sent.jitter.as_ref())?.unwrap_or_default(),
        misfire: misfire(sent.misfire, sent.catch_up.as_ref())?,
        grace_ns: duration_ns_if("grace", sent.grace.as_ref())?,
        overlap: word::to_overlap("overlap", sent.overlap)?.unwrap_or_default(),
        priority: values::priority(sent.priority.into())?,
        expire_after_ns: duration_ns_if("expire_after", sent.expire_after.as_ref())?,
        start_after: sent.start_after.map(start_after).transpose()?,
        payload_schema: sent.payload_schema,
        agent_binding_json: sent
            .agent_binding_json
            .map(|text| json_text("agent_binding_json", text))
            .transpose()?,
        ..TimerDefinition::default()
    })
}

fn json_text(field: &str, text: String) -> Result<String, ApiError> {
    let raw = RawValue::from_string(text)
        .map_err(|e| ApiError::new(&INVALID_JSON, format!("{field} is not valid JSON: {e}")))?;
    Ok(render::compact(&raw))
}

fn schedule(sent: Option<Schedule>) -> Result<ScheduleSpec, ApiError> {
    Ok(match sent {
        Some(Schedule::After(d)) => ScheduleSpec::AfterNs(duration_ns("after", &d)?),
        Some(Schedule::At(t)) => ScheduleSpec::AtNs(timestamp_ns("at", &t)?),
        Some(Schedule::Interval(i)) => {
            let every =
                i.every.ok_or_else(|| ApiError::new(&MISSING_FIELD, "missing field `interval.every`"))?;
            ScheduleSpec::Interval(IntervalSpec {
                every_ns: duration_ns("interval.every", &every)?,
                mode: word::to_mode("interval.mode", i.mode)?.unwrap_or_default(),
                anchor_ns: timestamp_ns_if("interval.anchor", i.anchor.as_ref())?,
            })
        }
        Some(Schedule::Cron(c)) => ScheduleSpec::Cron(CronSpec {
            expression: c.expression,
            zone: if c.zone.is_empty() { "UTC".to_string() } else { c.zone },
            gap: word::to_gap("cron.gap", c.gap)?,
            overlap: word::to_fold("cron.fold", c.fold)?,
            exclude_dates: c.exclude_dates,
        }),
        None => {
            let detail = "none of after, at, interval and cron is set: set one of them";
            return Err(ApiError::new(&INVALID_SCHEDULE, detail));
        }
    })
}

fn bounds(sent: Option<&v2::Bounds>) -> Result<Bounds, ApiError> {
    let Some(b) = sent else { return Ok(Bounds::default()) };
    Ok(Bounds {
        start_ns: timestamp_ns_if("bounds.start", b.start.as_ref())?,
        end_ns: timestamp_ns_if("bounds.end", b.end.as_ref())?,
        count: b.count,
    })
}

fn misfire(policy: i32, catch_up: Option<&v2::CatchUp>) -> Result<Option<MisfirePolicy>, ApiError> {
    use v2::MisfirePolicy as Sent;
    let policy = match Sent::try_from(policy) {
        Ok(Sent::Unspecified) => None,
        Ok(Sent::FireNow) => Some(MisfirePolicy::FireNow),
        Ok(Sent::Skip) => Some(MisfirePolicy::Skip),
        Ok(Sent::FireOnce) => Some(MisfirePolicy::FireOnce),
        Ok(Sent::CatchUp) => {
            let missing = || ApiError::new(&MISSING_FIELD, "missing field `catch_up.within`");
            let CatchUp { max, within } = catch_up.cloned().ok_or_else(missing)?;
            let within_ns = duration_ns("catch_up.within", &within.ok_or_else(missing)?)?;
            return Ok(Some(MisfirePolicy::CatchUp { max, within_ns }));
        }
        Err(_) => return Err(word::unknown("misfire", policy, "MisfirePolicy")),
    };
    if catch_up.is_some() {
        let detail = "catch_up is set and misfire is not CATCH_UP: leave it out, or set misfire to CATCH_UP";
        return Err(ApiError::new(&INVALID_FIELD, detail));
    }
    Ok(policy)
}

fn start_after(sent: v2::StartAfter) -> Result<StartAfter, ApiError> {
    let upstream = |u: v2::Upstream| {
        let on = word::to_on("start_after.timers.on", u.on)?.unwrap_or(UpstreamOn::Completed);
        Ok(Upstream { timer: values::timer_id(&u.id)?, on })
    };
    let upstreams = sent.timers.into_iter().map(upstream).collect::<Result<_, ApiError>>()?;
    Ok(StartAfter { upstreams, need: sent.need.map_or(Need::All, Need::AtLeast) })
}

/// A definition for the wire.
pub(super) fn sent_definition(d: &TimerDefinition) -> v2::TimerDefinition {
    let action = |a: &ActionSpec| v2::Action {
        id: a.id.clone(),
        kind: a.kind.clone(),
        parameters_json: a.parameters_json.clone(),
    };
    let (misfire, catch_up) = sent_misfire(d.misfire);
    v2::TimerDefinition {
        name: d.name.clone(),
        schedule: Some(sent_schedule(&d.schedule)),
        actions: d.actions.iter().map(action).collect(),
        labels: d.labels.clone().into_iter().collect(),
        metadata_json: d.metadata_json.clone(),
        idempotency_key: d.idempotency_key.clone(),
        bounds: (d.bounds != Bounds::default()).then(|| v2::Bounds {
            start: d.bounds.start_ns.map(timestamp),
            end: d.bounds.end_ns.map(timestamp),
            count: d.bounds.count,
        }),
        jitter: (d.jitter_ns != 0).then(|| duration(d.jitter_ns)),
        misfire: misfire.into(),
        catch_up,
        grace: d.grace_ns.map(duration),
        overlap: match d.overlap {
            OverlapPolicy::Allow => v2::OverlapPolicy::Unspecified.into(),
            other => word::overlap(other),
        },
        priority: d.priority.into(),
        expire_after: d.expire_after_ns.map(duration),
        start_after: d.start_after.as_ref().map(sent_start_after),
        payload_schema: d.payload_schema.clone(),
        agent_binding_json: d.agent_binding_json.clone(),
        tags: d.labels.iter().filter(|(_, v)| v.is_empty()).map(|(k, _)| k.clone()).collect(),
    }
}

fn sent_schedule(schedule: &ScheduleSpec) -> Schedule {
    match schedule {
        ScheduleSpec::AfterNs(ns) => Schedule::After(duration(*ns)),
        ScheduleSpec::AtNs(ns) => Schedule::At(timestamp(*ns)),
        ScheduleSpec::Interval(i) => Schedule::Interval(v2::Interval {
            every: Some(duration(i.every_ns)),
            mode: word::mode(i.mode),
            anchor: i.anchor_ns.map(timestamp),
        }),
        ScheduleSpec::Cron(c) => Schedule::Cron(v2::Cron {
            expression: c.expression.clone(),
            zone: c.zone.clone(),
            gap: c.gap.map(word::gap).unwrap_or_default(),
            fold: c.overlap.map(word::fold).unwrap_or_default(),
            exclude_dates: c.exclude_dates.clone(),
        }),
    }
}

fn sent_misfire(policy: Option<MisfirePolicy>) -> (v2::MisfirePolicy, Option<CatchUp>) {
    match policy {
        None => (v2::MisfirePolicy::Unspecified, None),
        Some(MisfirePolicy::FireNow) => (v2::MisfirePolicy::FireNow, None),
        Some(MisfirePolicy::Skip) => (v2::MisfirePolicy::Skip, None),
        Some(MisfirePolicy::FireOnce) => (v2::MisfirePolicy::FireOnce, None),
        Some(MisfirePolicy::CatchUp { max, within_ns }) => {
            (v2::MisfirePolicy::CatchUp, Some(CatchUp { max, within: Some(duration(within_ns)) }))
        }
    }
}

fn sent_start_after(after: &StartAfter) -> v2::StartAfter {
    v2::StartAfter {
        timers: after
            .upstreams
            .iter()
            .map(|u| v2::Upstream { id: u.timer.to_string(), on: word::on(u.on) })
            .collect(),
        need: match after.need {
            Need::All => None,
            Need::Any => Some(1),
            Need::AtLeast(n) => Some(n),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minoots_kernel::TimerId;
    use minoots_kernel::recurrence::{FoldPolicy, GapPolicy, IntervalMode};

    #[test]
    fn what_was_sent_comes_back() {
        let check = |definition_given: TimerDefinition| {
            let sent = sent_definition(&definition_given);
            assert_eq!(definition(Some(sent), &Connectors::default()).unwrap(), definition_given);
        };
        let plain = TimerDefinition { name: "n".into(), ..TimerDefinition::default() };
        check(plain.clone());
        check(TimerDefinition {
            schedule: ScheduleSpec::Interval(IntervalSpec {
                every_ns: 5,
                mode: IntervalMode::FixedDelay,
                anchor_ns: Some(-7),
            }),
            bounds: Bounds { start_ns: Some(1), end_ns: Some(2), count: Some(3) },
            labels: [("tag".to_string(), String::new()), ("k".to_string(), "v".to_string())].into(),
            metadata_json: Some("{\"a\":1}".into()),
            idempotency_key: Some("k".into()),
            jitter_ns: 4,
            misfire: Some(MisfirePolicy::CatchUp { max: 5, within_ns: 6 }),
            grace_ns: Some(0),
            overlap: OverlapPolicy::CancelPrevious,
            priority: -128,
            expire_after_ns: Some(8),
            start_after: Some(StartAfter {
                upstreams: vec![Upstream { timer: TimerId::from_u128(9), on: UpstreamOn::Ended }],
                need: Need::AtLeast(1),
            }),
            ..plain.clone()
        });
        let cron = CronSpec {
            expression: "@daily".into(),
            zone: "Europe/Paris".into(),
            gap: Some(GapPolicy::Shift),
            overlap: Some(FoldPolicy::Both),
            exclude_dates: vec!["2026-12-25".into()],
        };
        for misfire in [MisfirePolicy::FireNow, MisfirePolicy::Skip, MisfirePolicy::FireOnce] {
            check(TimerDefinition {
                schedule: ScheduleSpec::Cron(cron.clone()),
                misfire: Some(misfire),
                ..plain.clone()
            });
        }
    }
}
