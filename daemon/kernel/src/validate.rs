//! Which definitions the kernel accepts: the limits of `definition`, checked one by one.

use crate::command::CommandError;
use crate::definition::{
    ACTIONS_MAX, CATCH_UP_MAX, DEFINITION_MAX_BYTES, IDEMPOTENCY_KEY_MAX_BYTES, LABEL_MAX_BYTES, LABELS_MAX,
    MisfirePolicy, NAME_MAX_BYTES, Need, StartAfter, TimerDefinition, UPSTREAMS_MAX,
};
use std::collections::BTreeSet;

/// Refuses a definition that breaks a limit; the error names the field and the limit.
pub(crate) fn definition(d: &TimerDefinition) -> Result<(), CommandError> {
    check_length("the timer's name", &d.name, 1, NAME_MAX_BYTES)?;
    if let Some(key) = &d.idempotency_key {
        check_length("the idempotency key", key, 1, IDEMPOTENCY_KEY_MAX_BYTES)?;
    }
    check_count("labels", d.labels.len(), LABELS_MAX)?;
    for (key, value) in &d.labels {
        check_length("a label's key", key, 1, LABEL_MAX_BYTES)?;
        check_length("a label's value", value, 0, LABEL_MAX_BYTES)?;
    }
    check_count("actions", d.actions.len(), ACTIONS_MAX)?;
    let mut ids = BTreeSet::new();
    for action in &d.actions {
        check_length("an action's id", &action.id, 1, NAME_MAX_BYTES)?;
        check_length("an action's kind", &action.kind, 1, NAME_MAX_BYTES)?;
        if !ids.insert(action.id.as_str()) {
            return Err(CommandError::Invalid(format!(
                "two actions have the id {:?}: give each action of a timer its own id",
                action.id
            )));
        }
    }
    policies(d)?;
    if let Some(after) = &d.start_after {
        start_after(after)?;
    }
    let total = d.text_bytes();
    if total > DEFINITION_MAX_BYTES {
        return Err(CommandError::Invalid(format!(
            "the timer's definition has {total} bytes of text: keep it to {DEFINITION_MAX_BYTES}"
        )));
    }
    Ok(())
}

/// Refuses numbers of the policies that cannot be meant.
fn policies(d: &TimerDefinition) -> Result<(), CommandError> {
    let invalid = |what: &str| Err(CommandError::Invalid(what.to_string()));
    let bounded = d.bounds != Default::default();
    if bounded && !d.schedule.is_recurring() {
        return invalid(
            "start, end and count are for recurring timers: leave them out, or give an interval or a cron rule",
        );
    }
    if d.jitter_ns < 0 {
        return invalid("the jitter is negative: give 0s or more");
    }
    if d.grace_ns.is_some_and(|ns| ns < 0) {
        return invalid("the grace is negative: give 0s or more");
    }
    if d.expire_after_ns.is_some_and(|ns| ns <= 0) {
        return invalid("the time to expire after is not positive: give more than 0s, or leave it out");
    }
    if let Some(MisfirePolicy::CatchUp { max, within_ns }) = d.misfire
        && (max == 0 || max > CATCH_UP_MAX || within_ns <= 0)
    {
        return Err(CommandError::Invalid(format!(
            "a catch-up fires 1 to {CATCH_UP_MAX} occurrences within a time of more than 0s: change its numbers"
        )));
    }
    Ok(())
}

/// Refuses a wait that could never end, or would be over at once.
fn start_after(after: &StartAfter) -> Result<(), CommandError> {
    let count = after.upstreams.len();
    if count == 0 || count > UPSTREAMS_MAX {
        return Err(CommandError::Invalid(format!(
            "the timer waits for {count} timers: name 1 to {UPSTREAMS_MAX}"
        )));
    }
    let distinct: BTreeSet<_> = after.upstreams.iter().map(|u| u.timer).collect();
    if distinct.len() != count {
        return Err(CommandError::Invalid(
            "the timer waits for the same timer twice: name each once".to_string(),
        ));
    }
    if let Need::AtLeast(n) = after.need
        && (n == 0 || n as usize > count)
    {
        return Err(CommandError::Invalid(format!(
            "the timer needs {n} of the {count} timers it waits for: ask for 1 to {count}"
        )));
    }
    Ok(())
}

/// Refuses a text that is too short or too long.
pub(crate) fn check_length(
    what: &str,
    text: &str,
    min_bytes: usize,
    max_bytes: usize,
) -> Result<(), CommandError> {
    if text.len() < min_bytes {
        Err(CommandError::Invalid(format!("{what} is empty: give it 1 to {max_bytes} bytes")))
    } else if text.len() > max_bytes {
        Err(CommandError::Invalid(format!(
            "{what} has {} bytes: shorten it to {max_bytes} or fewer",
            text.len()
        )))
    } else {
        Ok(())
    }
}

fn check_count(what: &str, count: usize, max: usize) -> Result<(), CommandError> {
    if count > max {
        return Err(CommandError::Invalid(format!("the timer has {count} {what}: give it {max} or fewer")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{ActionSpec, ScheduleSpec};
    use crate::id::TenantId;

    fn valid() -> TimerDefinition {
        TimerDefinition {
            tenant: TenantId::default(),
            name: "n".into(),
            schedule: ScheduleSpec::AfterNs(0),
            actions: vec![action("a")],
            labels: [("k".to_string(), String::new())].into(),
            idempotency_key: Some("key".into()),
            ..TimerDefinition::default()
        }
    }

    fn action(id: &str) -> ActionSpec {
        ActionSpec { id: id.into(), kind: "webhook".into(), parameters_json: "{}".into() }
    }

    #[test]
    fn each_limit_names_its_field() {
        /// `want` is part of the error, or empty for a definition that is accepted.
        fn check(change: impl FnOnce(&mut TimerDefinition), want: &str) {
            let mut d = valid();
            change(&mut d);
            match definition(&d) {
                Ok(()) => assert_eq!(want, "", "accepted"),
                Err(e) => assert!(!want.is_empty() && e.to_string().contains(want), "{e}, not {want:?}"),
            }
        }
        check(|_| {}, "");
        check(|d| d.name = "n".repeat(256), "");
        check(|d| d.name.clear(), "the timer's name is empty");
        check(|d| d.name = "n".repeat(257), "the timer's name has 257 bytes");
        check(|d| d.idempotency_key = Some(String::new()), "the idempotency key is empty");
        check(|d| d.idempotency_key = Some("k".repeat(257)), "the idempotency key has 257 bytes");
        check(|d| d.labels = (0..65).map(|i| (i.to_string(), String::new())).collect(), "65 labels");
        check(|d| d.labels = [(String::new(), String::new())].into(), "a label's key is empty");
        check(|d| d.labels = [("k".into(), "v".repeat(257))].into(), "a label's value has 257 bytes");
        check(|d| d.actions = (0..65).map(|i| action(&i.to_string())).collect(), "65 actions");
        check(|d| d.actions = vec![action("a"), action("a")], "two actions have the id \"a\"");
        check(|d| d.actions[0].id.clear(), "an action's id is empty");
        check(|d| d.actions[0].kind.clear(), "an action's kind is empty");
        check(|d| d.metadata_json = Some("x".repeat(DEFINITION_MAX_BYTES)), "bytes of text");
    }
}
