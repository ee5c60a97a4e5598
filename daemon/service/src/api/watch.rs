//! What every stream of events tells, whatever protocol carries it: the events that a filter lets through, how far a slow
//! consumer is behind, now and then the place that has been reached, and why the stream ends.

use super::error::{ApiError, ErrorCode, SHUTTING_DOWN};
use super::feed;
use super::operations::{AGENT_LABEL, Session, TEAM_LABEL};
use super::values;
use crate::engine::{Cursor, FeedEnd, FeedEvent, Subscription, Topic};
use crate::render;
use crate::render::words::EVENT_KINDS;
use crate::store::StoreError;
use futures::Stream;
use futures::stream;
use minoots_kernel::{Event, TenantId, TimerDefinition, TimerId};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How often a silent stream says where it is; proxies drop connections that are silent for longer.
pub(crate) const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);
/// What a client may ask for instead.
pub(crate) const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// The other end of it.
pub(crate) const HEARTBEAT_MAX: Duration = Duration::from_secs(300);
/// A consumer that took nothing for so long, while there was something, is told how far it is behind.
const STALL: Duration = Duration::from_secs(5);
/// How often the caller's credential is looked at again.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(5);
/// How many timers or labels a filter names.
pub(crate) const FILTER_NAMES_MAX: usize = 100;
/// For how many timers a stream remembers whether its filter wants them.
const DECIDED_MAX: usize = 256;

/// One thing that a stream tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// Something happened.
    Event(FeedEvent),
    /// The consumer had fallen behind by so many events; it goes on, and loses none.
    Lag(Reached),
    /// Everything up to this place was told, or was not wanted. The first message of a stream, and its heartbeat.
    Place(Reached),
    /// There is no more.
    End(Ended),
}

/// How far a stream has come.
#[derive(Debug, Serialize)]
pub(crate) struct Reached {
    #[serde(serialize_with = "as_text")]
    pub(crate) cursor: Cursor,
    /// How many events there are after it.
    pub(crate) behind: u64,
}

fn as_text<S: serde::Serializer>(cursor: &Cursor, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(cursor)
}

/// Why a stream ends.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) error: ApiError,
    /// The place after the last event that was told.
    pub(crate) cursor: Cursor,
    /// Where it can go on, when the events after `cursor` are no longer kept.
    pub(crate) oldest: Option<Cursor>,
}

impl Ended {
    /// As a message.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut view = serde_json::json!({
            "type": "error",
            "error": self.error.problem(),
            "cursor": self.cursor.to_string(),
        });
        if let Some(oldest) = &self.oldest {
            view["oldest"] = oldest.to_string().into();
        }
        view
    }
}

impl Reached {
    /// As a message of a type.
    pub(crate) fn json(&self, r#type: &str) -> String {
        #[derive(Serialize)]
        struct ReachedView<'a> {
            r#type: &'a str,
            #[serde(flatten)]
            reached: &'a Reached,
        }
        render::to_text(&ReachedView { r#type, reached: self })
    }
}

/// Which events a consumer wants: of these types, of these timers, of timers with all of these labels. What is empty asks
/// for nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    kinds: Vec<&'static str>,
    timers: Vec<TimerId>,
    labels: Vec<(String, String)>,
}

/// The names of the parameters of a filter, for errors.
pub(crate) const FILTER_PARAMETERS: &str = "type, timer, agent, team, label, tag";

impl EventFilter {
    /// Takes in a parameter of a query; false when it is none of a filter.
    pub(crate) fn take(
        &mut self,
        code: &'static ErrorCode,
        name: &str,
        value: &str,
    ) -> Result<bool, ApiError> {
        match name {
            "type" => value.split(',').try_for_each(|kind| self.add_kind(code, kind))?,
            "timer" => value.split(',').try_for_each(|id| self.add_timer(id))?,
            AGENT_LABEL | TEAM_LABEL => self.add_label(code, name, value)?,
            "tag" => self.add_label(code, value, "")?,
            "label" => {
                let (name, value) = value.split_once(':').ok_or_else(|| {
                    ApiError::new(code, format!("label is {value:?}: write it as key:value"))
                })?;
                self.add_label(code, name, value)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// One more type, with or without `timer.` before it.
    pub(crate) fn add_kind(&mut self, code: &'static ErrorCode, text: &str) -> Result<(), ApiError> {
        let known = EVENT_KINDS.into_iter().find(|k| *k == text || k.strip_prefix("timer.") == Some(text));
        let kind = known.ok_or_else(|| {
            ApiError::new(
                code,
                format!("type is {text:?}: the types of events are {}", EVENT_KINDS.join(", ")),
            )
        })?;
        if !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
        Ok(())
    }

    /// One more timer.
    pub(crate) fn add_timer(&mut self, id: &str) -> Result<(), ApiError> {
        self.timers.push(values::timer_id(id)?);
        Ok(())
    }

    /// One more label.
    pub(crate) fn add_label(
        &mut self,
        code: &'static ErrorCode,
        name: &str,
        value: &str,
    ) -> Result<(), ApiError> {
        self.labels.push((name.to_string(), value.to_string()));
        self.check(code)
    }

    /// Refuses a filter that names too much.
    pub(crate) fn check(&self, code: &'static ErrorCode) -> Result<(), ApiError> {
        for (what, count) in [("timers", self.timers.len()), ("labels", self.labels.len())] {
            if count > FILTER_NAMES_MAX {
                let detail = format!("the filter names {count} {what}: name {FILTER_NAMES_MAX} or fewer");
                return Err(ApiError::new(code, detail));
            }
        }
        Ok(())
    }

    /// What to be woken for.
    fn topics(&self, tenant: &TenantId) -> Vec<Topic> {
        if self.timers.is_empty() {
            return vec![Topic::Tenant(tenant.clone())];
        }
        self.timers.iter().map(|id| Topic::Timer(*id)).collect()
    }

    fn wants(&self, event: &Event) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&event.kind()))
            && (self.timers.is_empty() || self.timers.contains(&event.timer()))
    }

    fn wants_definition(&self, definition: &TimerDefinition) -> bool {
        self.labels.iter().all(|(name, value)| definition.labels.get(name) == Some(value))
    }
}

/// How often to tell the place: a duration as text.
pub(crate) fn heartbeat(code: &'static ErrorCode, text: &str) -> Result<Duration, ApiError> {
    let span: Option<chronotick_core::Span> = text.parse().ok();
    let wanted = span.and_then(|s| u64::try_from(s.as_ns()).ok()).map(Duration::from_nanos);
    wanted.filter(|w| (HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(w)).ok_or_else(|| {
        ApiError::new(code, format!("heartbeat is {text:?}: give a duration from 1s to 5m, as in \"15s\""))
    })
}

/// Follows the events of a caller.
pub(super) fn told(
    session: &Session,
    after: Option<&Cursor>,
    filter: EventFilter,
    heartbeat: Duration,
) -> Result<impl Stream<Item = Told> + Send + use<>, ApiError> {
    let subscription = feed::subscribe(&session.app.feed, after)?;
    let mut subscription = subscription.only(&filter.topics(&session.caller.tenant));
    let by_definition =
        session.caller.agent.is_some() || session.app.gate.hides_timers() || !filter.labels.is_empty();
    if by_definition {
        subscription = subscription.with_definitions();
    }
    let watch = Watch {
        session: session.clone(),
        subscription,
        filter,
        by_definition,
        decided: HashMap::new(),
        heartbeat,
        handed_out: None,
        ask_at: Instant::now() + ASK_EVERY,
        has_ended: false,
    };
    Ok(stream::unfold(watch, |mut watch| async move { watch.next().await.map(|told| (told, watch)) }))
}

struct Watch {
    session: Session,
    subscription: Subscription,
    filter: EventFilter,
    /// The timer's definition says whether an event is wanted.
    by_definition: bool,
    /// Definitions never change, so neither does this.
    decided: HashMap<TimerId, bool>,
    heartbeat: Duration,
    /// When the consumer was given something; it comes for the next one when it has room for it.
    handed_out: Option<Instant>,
    /// When to ask whether the caller may still come in.
    ask_at: Instant,
    has_ended: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Told> {
        if self.has_ended {
            return None;
        }
        let told = self.look().await;
        self.has_ended = matches!(told, Told::End(_));
        self.handed_out = Some(Instant::now());
        Some(told)
    }

    async fn look(&mut self) -> Told {
        let now = Instant::now();
        match self.handed_out {
            // With the place of its beginning a consumer loses nothing when it is cut off before the first event.
            None => return Told::Place(self.reached()),
            Some(before) => {
                let has_stalled = now - before > STALL && self.subscription.behind() > 0;
                if self.subscription.take_lag() || has_stalled {
                    return Told::Lag(self.reached());
                }
            }
        }
        let (heartbeat, shutdown) = (now + self.heartbeat, self.session.app.shutdown.clone());
        loop {
            if Instant::now() >= self.ask_at {
                self.ask_at = Instant::now() + ASK_EVERY;
                if let Err(error) = self.session.app.gate.still_admits(&self.session.caller).await {
                    return Told::End(Ended { error, cursor: self.subscription.place(), oldest: None });
                }
            }
            let next = tokio::select! {
                biased;
                () = shutdown.cancelled() => Some(Err(FeedEnd::Stopped)),
                next = timeout_at(heartbeat.min(self.ask_at), self.subscription.next_or_end()) => next.ok(),
            };
            match next {
                None if Instant::now() < heartbeat => {}
                None => return Told::Place(self.reached()),
                Some(Err(end)) => return Told::End(self.ended(end)),
                Some(Ok(event)) => {
                    if self.is_wanted(&event).await {
                        return Told::Event(event);
                    }
                    // One that wants little may have much to pass over; others have their turn meanwhile.
                    tokio::task::consume_budget().await;
                    if Instant::now() >= heartbeat {
                        return Told::Place(self.reached());
                    }
                }
            }
        }
    }

    async fn is_wanted(&mut self, event: &FeedEvent) -> bool {
        if event.record.tenant != self.session.caller.tenant || !self.filter.wants(&event.record.event) {
            return false;
        }
        if !self.by_definition {
            return true;
        }
        let id = event.record.event.timer();
        if let Some(decided) = self.decided.get(&id) {
            return *decided;
        }
        let decide = |d: &TimerDefinition| self.session.sees_definition(d) && self.filter.wants_definition(d);
        let is_wanted = match (&event.definition, &event.record.event) {
            (Some(definition), _)
            | (None, Event::Scheduled { definition, .. } | Event::Held { definition, .. }) => {
                decide(definition)
            }
            // An old event; a timer that is no longer kept is nobody's.
            (None, _) => {
                let timer = self.session.app.engine.get(event.record.tenant.clone(), id).await;
                timer.is_ok_and(|timer| decide(&timer.definition))
            }
        };
        if self.decided.len() == DECIDED_MAX {
            self.decided.clear();
        }
        self.decided.insert(id, is_wanted);
        is_wanted
    }

    fn reached(&mut self) -> Reached {
        Reached { cursor: self.subscription.place(), behind: self.subscription.behind() }
    }

    fn ended(&mut self, end: FeedEnd) -> Ended {
        let feed = &self.session.app.feed;
        let (error, oldest) = match end {
            FeedEnd::Stopped => {
                let detail = "the service stops: go on after the last cursor when it is back";
                (ApiError::new(&SHUTTING_DOWN, detail), None)
            }
            FeedEnd::Unreadable(StoreError::Gone { .. }) => (feed::gone(feed), Some(feed.oldest())),
            FeedEnd::Unreadable(error) => {
                tracing::error!(%error, "an event stream ended: the event log cannot be read");
                (error.into(), None)
            }
        };
        Ended { error, cursor: self.subscription.place(), oldest }
    }
}
