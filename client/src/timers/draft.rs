//! What a new timer is to be.

use super::times::{span_to_wire, to_wire};
use crate::Timestamp;
use minoots_proto::v2;
use std::time::Duration;

/// A timer that is to be created: when it fires, and what it does then.
///
/// ```
/// use chronotick::timers::Timer;
/// use std::time::Duration;
///
/// let timer = Timer::after(Duration::from_secs(20 * 60))
///     .name("tea")
///     .label("agent", "kitchen")
///     .webhook("http://127.0.0.1:9000/tea");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a draft does nothing until it is given to TimerClient::create"]
pub struct Timer(pub(super) v2::TimerDefinition);

impl Timer {
    fn of(schedule: v2::timer_definition::Schedule) -> Self {
        Self(v2::TimerDefinition { name: "timer".into(), schedule: Some(schedule), ..Default::default() })
    }

    /// Fires so long after it is created.
    pub fn after(delay: Duration) -> Self {
        Self::of(v2::timer_definition::Schedule::After(span_to_wire(delay)))
    }

    /// Fires at this moment of corrected time.
    pub fn at(moment: Timestamp) -> Self {
        Self::of(v2::timer_definition::Schedule::At(to_wire(moment)))
    }

    /// Fires again and again, on a grid that starts at its creation.
    pub fn every(distance: Duration) -> Self {
        Self::of(v2::timer_definition::Schedule::Interval(v2::Interval {
            every: Some(span_to_wire(distance)),
            ..Default::default()
        }))
    }

    /// Fires by a cron rule in a time zone of the IANA database; an empty zone is UTC.
    pub fn cron(expression: impl Into<String>, zone: impl Into<String>) -> Self {
        Self::of(v2::timer_definition::Schedule::Cron(v2::Cron {
            expression: expression.into(),
            zone: zone.into(),
            ..Default::default()
        }))
    }

    /// A name for people; `timer` without one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into();
        self
    }

    /// A label to find it by; `agent` and `team` say whose it is.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.labels.insert(key.into(), value.into());
        self
    }

    /// A word to find it by.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.0.tags.push(tag.into());
        self
    }

    /// Calls this address when it fires. May be said more than once.
    pub fn webhook(self, url: impl Into<String>) -> Self {
        let parameters = serde_json::json!({"url": url.into()});
        let id = match self.0.actions.len() {
            0 => "call".to_string(),
            n => format!("call-{}", n + 1),
        };
        self.action(id, "webhook", &parameters)
    }

    /// One more thing to do when it fires, after the others.
    pub fn action(
        mut self,
        id: impl Into<String>,
        kind: impl Into<String>,
        parameters: &serde_json::Value,
    ) -> Self {
        let parameters_json = parameters.to_string();
        self.0.actions.push(v2::Action { id: id.into(), kind: kind.into(), parameters_json });
        self
    }

    /// Any JSON, given back as it is.
    pub fn metadata(mut self, metadata: &serde_json::Value) -> Self {
        self.0.metadata_json = Some(metadata.to_string());
        self
    }

    /// The schema of the registry that the metadata is checked against.
    pub fn payload_schema(mut self, name: impl Into<String>) -> Self {
        self.0.payload_schema = Some(name.into());
        self
    }

    /// A repeated create with this key gives the timer of the first. Without one, [`TimerClient::create`] takes a
    /// random key, so that its own retries cannot make a second timer.
    ///
    /// [`TimerClient::create`]: super::TimerClient::create
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.0.idempotency_key = Some(key.into());
        self
    }

    /// Each occurrence is due up to this much later.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.0.jitter = Some(span_to_wire(jitter));
        self
    }

    /// A recurring timer has at most so many occurrences.
    pub fn count(mut self, count: u64) -> Self {
        self.0.bounds.get_or_insert_default().count = Some(count);
        self
    }

    /// Of timers due at the same instant, those with more fire first.
    pub fn priority(mut self, priority: i8) -> Self {
        self.0.priority = priority.into();
        self
    }

    /// How late an occurrence may be before it counts as missed.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.0.grace = Some(span_to_wire(grace));
        self
    }

    /// An occurrence that has not fired so long after it was due is skipped.
    pub fn expire_after(mut self, after: Duration) -> Self {
        self.0.expire_after = Some(span_to_wire(after));
        self
    }

    /// Starts only when these other timers have completed.
    pub fn start_after<S: Into<String>>(mut self, ids: impl IntoIterator<Item = S>) -> Self {
        let timers = ids.into_iter().map(|id| v2::Upstream { id: id.into(), ..Default::default() });
        self.0.start_after.get_or_insert_default().timers.extend(timers);
        self
    }

    /// The wire form, for what has no method here.
    pub fn definition_mut(&mut self) -> &mut v2::TimerDefinition {
        &mut self.0
    }
}
