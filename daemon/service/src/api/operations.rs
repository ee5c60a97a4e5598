//! What a caller can do to timers. Each request, whatever protocol it came by, passes here: it is allowed, admitted,
//! carried out, counted and written down.

use super::App;
use super::error::{ApiError, INTERNAL, INVALID_ACTION, SHUTTING_DOWN};
use super::watch::{ASK_EVERY, EventFilter, HEARTBEAT_DEFAULT, Told};
use crate::access::quota::Permit;
use crate::access::{Caller, Demand, Subject, Verb};
use crate::engine::{Answer, Cursor, EngineError, FeedEvent, TimerPage};
use crate::store::{LedgerQuery, TimerQuery};
use futures::{Stream, StreamExt};
use minoots_kernel::{
    Change, CommandError, FiringId, LedgerEntry, Outcome, TimerDefinition, TimerId, TimerInstance,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The label that says which agent a timer belongs to.
pub(crate) const AGENT_LABEL: &str = "agent";
/// The label that says which team a timer belongs to.
pub(crate) const TEAM_LABEL: &str = "team";

/// One page of a ledger.
pub(crate) struct HistoryPage {
    pub(crate) entries: Vec<LedgerEntry>,
    /// `None` at the end.
    pub(crate) next_after_ns: Option<i64>,
}

/// The service as one caller has it.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) app: App,
    pub(crate) caller: Caller,
}

impl App {
    /// The service as a caller has it.
    pub(crate) fn session(&self, caller: Caller) -> Session {
        Session { app: self.clone(), caller }
    }
}

impl Session {
    /// Asks the gate, and writes a refused command down.
    pub(crate) fn allow(&self, verb: Verb, subject: Subject<'_>) -> Result<(), ApiError> {
        self.app.gate.authorize(&self.caller, verb, subject).inspect_err(|e| {
            if verb.is_command() {
                self.app.audit.note(&self.caller, verb, &subject_name(subject), Err(e));
            }
        })
    }

    /// Asks the gate for something that is not about timers, and counts it as one question or one change.
    pub(crate) fn enter(&self, verb: Verb, subject: Subject<'_>) -> Result<(), ApiError> {
        self.allow(verb, subject)?;
        let demand = if verb.is_command() { Demand::Change { timers: 0 } } else { Demand::Read };
        self.app.gate.admit(&self.caller, demand).map(drop).inspect_err(|e| {
            if verb.is_command() {
                self.app.audit.note(&self.caller, verb, &subject_name(subject), Err(e));
            }
        })
    }

    fn note<T>(&self, verb: Verb, subject: &str, outcome: &Result<T, ApiError>) {
        self.app.audit.note(&self.caller, verb, subject, outcome.as_ref().map(|_| ()));
    }

    /// Carries a command out to its end, though its caller may stop waiting: it is durable or refused, what it took of the
    /// quotas is given back only then, and it is written down, before this returns.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let audit = self.app.audit.clone();
        let task = tokio::spawn(async move {
            let outcome = work.await;
            audit.written().await;
            outcome
        });
        let broke_off = |e| ApiError::new(&INTERNAL, format!("the command broke off: {e}"));
        task.await.unwrap_or_else(|e| Err(broke_off(e)))
    }

    /// The answer to a create that was answered before under its idempotency key, where the quotas could refuse it now:
    /// a repetition counts for nothing.
    async fn replay(&self, definition: &TimerDefinition) -> Result<Option<Answer>, ApiError> {
        if definition.idempotency_key.is_none()
            || !self.app.gate.quotas.limits(&self.caller.tenant).limit_creates()
        {
            return Ok(None);
        }
        Ok(self.app.engine.replay_of(definition).await?)
    }

    /// Makes a definition the caller's own.
    fn own(&self, mut definition: TimerDefinition) -> Result<TimerDefinition, ApiError> {
        definition.tenant = self.caller.tenant.clone();
        definition.created_by = Some(self.caller.principal.to_string());
        if let Some(agent) = &self.caller.agent {
            definition.labels.entry(AGENT_LABEL.to_string()).or_insert_with(|| agent.to_string());
        }
        self.allow(Verb::CreateTimer, Subject::NewTimer(&definition))?;
        self.app
            .schemas
            .check(&definition)
            .and_then(|()| {
                let secrets = self.app.secrets.check(&definition.tenant, &definition.actions);
                secrets.map_err(|why| ApiError::new(&INVALID_ACTION, why))
            })
            .inspect_err(|e| self.app.audit.note(&self.caller, Verb::CreateTimer, "", Err(e)))?;
        Ok(definition)
    }

    /// Refuses a timer that waits for one that the caller does not see: how it fares would tell of that one.
    async fn check_upstreams(&self, definition: &TimerDefinition) -> Result<(), ApiError> {
        let Some(after) = &definition.start_after else { return Ok(()) };
        if self.caller.agent.is_none() && !self.app.gate.hides_timers() {
            return Ok(());
        }
        for upstream in &after.upstreams {
            self.find(upstream.timer, Verb::ReadTimer).await?;
        }
        Ok(())
    }

    /// Makes a timer; durable when the answer arrives.
    pub(crate) async fn create(&self, definition: TimerDefinition) -> Result<Outcome, ApiError> {
        let definition = self.own(definition)?;
        self.check_upstreams(&definition).await?;
        let bytes_max = definition.text_bytes() as u64;
        let replay = self.replay(&definition).await?;
        let demand = Demand::Create { timers: u64::from(replay.is_none()), bytes_max };
        let room = match replay {
            Some(_) => Permit::default(),
            None => self.app.gate.admit(&self.caller, demand)?,
        };
        let session = self.clone();
        self.to_the_end(async move {
            let created = match replay {
                Some(answer) => answer,
                None => session.app.engine.create(definition).await,
            };
            let created = created.map_err(ApiError::from);
            drop(room);
            let subject = created.as_ref().map(|c| c.timer.id.to_string()).unwrap_or_default();
            session.note(Verb::CreateTimer, &subject, &created);
            let created = created?;
            session.app.metrics.created(u64::from(!created.replayed));
            Ok(created)
        })
        .await
    }

    /// Creates the timers whose definitions can be used, in one write to the disk; the answers in the order of the
    /// definitions.
    pub(crate) async fn create_many(
        &self,
        definitions: Vec<Result<TimerDefinition, ApiError>>,
    ) -> Result<Vec<Result<Outcome, ApiError>>, ApiError> {
        let mut usable = Vec::with_capacity(definitions.len());
        let mut refusals = Vec::with_capacity(definitions.len());
        for definition in definitions {
            refusals.push(match definition.and_then(|d| self.own(d)) {
                Ok(definition) => {
                    let refused = self.check_upstreams(&definition).await.err();
                    if refused.is_none() {
                        usable.push(definition);
                    }
                    refused
                }
                Err(refused) => Some(refused),
            });
        }
        let (mut timers, mut bytes_max) = (0, 0);
        for definition in &usable {
            if self.replay(definition).await?.is_none() {
                timers += 1;
                bytes_max = bytes_max.max(definition.text_bytes() as u64);
            }
        }
        let room = self.app.gate.admit(&self.caller, Demand::Create { timers, bytes_max })?;
        let session = self.clone();
        self.to_the_end(async move {
            let created = session.app.engine.create_many(usable).await?;
            drop(room);
            Ok(session.created(created, refusals))
        })
        .await
    }

    /// Writes down the answers of a batch, and puts them among the refusals.
    fn created(
        &self,
        created: Vec<Answer>,
        refusals: Vec<Option<ApiError>>,
    ) -> Vec<Result<Outcome, ApiError>> {
        let mut created = created.into_iter();
        // The engine gives one answer for each definition, in order.
        let mut next = || match created.next() {
            Some(answer) => {
                let answer = answer.map_err(ApiError::from);
                let subject = answer.as_ref().map(|c| c.timer.id.to_string()).unwrap_or_default();
                self.note(Verb::CreateTimer, &subject, &answer);
                answer
            }
            None => Err(ApiError::new(&SHUTTING_DOWN, "the service is shutting down: try again in a moment")),
        };
        let answers: Vec<_> =
            refusals.into_iter().map(|refusal| refusal.map_or_else(&mut next, Err)).collect();
        let new = answers.iter().filter(|a| a.as_ref().is_ok_and(|created| !created.replayed)).count();
        self.app.metrics.created(new as u64);
        answers
    }

    /// Reads one timer of the caller's.
    pub(crate) async fn get(&self, id: TimerId) -> Result<Arc<TimerInstance>, ApiError> {
        self.app.gate.admit(&self.caller, Demand::Read)?;
        self.find(id, Verb::ReadTimer).await
    }

    /// The timer, if the caller may do this to it. One that it may not see is not there for it.
    async fn find(&self, id: TimerId, verb: Verb) -> Result<Arc<TimerInstance>, ApiError> {
        let timer = self.app.engine.get(self.caller.tenant.clone(), id).await?;
        if !self.sees(&timer) {
            let unknown = ApiError::from(EngineError::from(CommandError::NotFound(id)));
            if verb.is_command() {
                self.app.audit.note(&self.caller, verb, &id.to_string(), Err(&unknown));
            }
            return Err(unknown);
        }
        self.allow(verb, Subject::Timer(&timer))?;
        Ok(timer)
    }

    /// Whether a timer is one that the caller sees.
    pub(crate) fn sees(&self, timer: &TimerInstance) -> bool {
        self.sees_definition(&timer.definition)
    }

    /// Reads a page of the caller's timers.
    pub(crate) async fn list(&self, query: TimerQuery) -> Result<TimerPage, ApiError> {
        self.allow(Verb::ListTimers, Subject::Tenant)?;
        self.app.gate.admit(&self.caller, Demand::Read)?;
        let mut page = self.app.engine.list(self.own_query(query)).await?;
        if self.app.gate.hides_timers() {
            page.timers.retain(|timer| self.sees(timer));
        }
        Ok(page)
    }

    fn own_query(&self, mut query: TimerQuery) -> TimerQuery {
        query.tenant = self.caller.tenant.clone();
        if let Some(agent) = &self.caller.agent {
            query.labels.push((AGENT_LABEL.to_string(), agent.to_string()));
        }
        query
    }

    /// Reads a page of a timer's ledger.
    pub(crate) async fn history(&self, ask: LedgerQuery) -> Result<HistoryPage, ApiError> {
        self.app.gate.admit(&self.caller, Demand::Read)?;
        self.find(ask.id, Verb::ReadHistory).await?;
        // One more than asked for tells whether there is another page.
        let (limit, tenant) = (ask.limit, self.caller.tenant.clone());
        let mut entries = self.app.engine.ledger(LedgerQuery { tenant, limit: limit + 1, ..ask }).await?;
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        let next_after_ns = entries.last().filter(|_| has_more).map(|e| e.nominal_ns);
        Ok(HistoryPage { entries, next_after_ns })
    }

    /// Changes a timer; durable when the answer arrives.
    pub(crate) async fn change(
        &self,
        id: TimerId,
        expected_version: Option<u64>,
        change: Change,
    ) -> Result<Outcome, ApiError> {
        let verb = Verb::of_change(&change);
        self.app.gate.admit(&self.caller, Demand::Change { timers: 1 })?;
        self.find(id, verb).await?;
        let is_cancel = matches!(change, Change::Cancel { .. });
        let session = self.clone();
        self.to_the_end(async move {
            let (app, tenant) = (&session.app, session.caller.tenant.clone());
            let changed = app.engine.change(tenant, id, expected_version, change).await;
            let changed = changed.map_err(ApiError::from);
            session.note(verb, &id.to_string(), &changed);
            if is_cancel && changed.is_ok() {
                app.metrics.cancelled(1);
            }
            changed
        })
        .await
    }

    /// Changes the timers whose ids are well formed; the answers in the order of the ids.
    pub(crate) async fn change_named(
        &self,
        ids: Vec<Result<TimerId, ApiError>>,
        change: &Change,
    ) -> Result<Vec<Result<Outcome, ApiError>>, ApiError> {
        let verb = Verb::of_change(change);
        self.app.gate.admit(&self.caller, Demand::Change { timers: ids.len() as u64 })?;
        let mut allowed = Vec::with_capacity(ids.len());
        for id in ids {
            allowed.push(match id {
                Ok(id) => self.find(id, verb).await.map(|_| id),
                Err(e) => Err(e),
            });
        }
        let (session, change) = (self.clone(), change.clone());
        self.to_the_end(async move { session.change_allowed_ones(allowed, verb, &change).await }).await
    }

    async fn change_allowed_ones(
        &self,
        allowed: Vec<Result<TimerId, ApiError>>,
        verb: Verb,
        change: &Change,
    ) -> Result<Vec<Result<Outcome, ApiError>>, ApiError> {
        let known: Vec<_> = allowed.iter().filter_map(|id| id.as_ref().ok().copied()).collect();
        let mut answers = self.app.engine.change_many(&self.caller.tenant, &known, change).await?.into_iter();
        let mut next = || -> Answer { answers.next().unwrap_or(Err(EngineError::ShuttingDown)) };
        let answers: Vec<Result<Outcome, ApiError>> = allowed
            .into_iter()
            .map(|id| {
                let id = id?;
                let answer = next().map_err(ApiError::from);
                self.note(verb, &id.to_string(), &answer);
                answer
            })
            .collect();
        if let Change::Cancel { .. } = change {
            self.app.metrics.cancelled(answers.iter().filter(|a| a.is_ok()).count() as u64);
        }
        Ok(answers)
    }

    /// Changes every timer of the caller's that a query finds; how many they were.
    pub(crate) async fn change_found(&self, query: TimerQuery, change: &Change) -> Result<u64, ApiError> {
        let verb = Verb::of_change(change);
        self.allow(verb, Subject::Tenant)?;
        // The search itself; each timer that it finds counts when it is changed.
        self.app.gate.admit(&self.caller, Demand::Read)?;
        let (session, change) = (self.clone(), change.clone());
        self.to_the_end(async move { session.change_all(query, verb, &change).await }).await
    }

    async fn change_all(&self, query: TimerQuery, verb: Verb, change: &Change) -> Result<u64, ApiError> {
        let per_s = self.app.gate.quotas.limits(&self.caller.tenant).changes_per_s;
        let changed = if self.app.gate.hides_timers() || per_s.is_some() {
            self.change_allowed(self.own_query(query), verb, change, per_s).await
        } else {
            self.app.engine.change_all(self.own_query(query), change).await.map_err(ApiError::from)
        };
        let subject = changed.as_ref().map_or_else(|_| "filter".into(), |n| format!("filter ({n} timers)"));
        self.note(verb, &subject, &changed);
        let changed = changed?;
        if let Change::Cancel { .. } = change {
            self.app.metrics.cancelled(changed);
        }
        Ok(changed)
    }

    /// Changes the timers that a query finds and whose change the policies allow, one by one. Each counts as a change,
    /// and waits for its turn where the tenant's rate is used up: a change of many cannot be begun anew in the middle.
    async fn change_allowed(
        &self,
        mut query: TimerQuery,
        verb: Verb,
        change: &Change,
        per_s: Option<u32>,
    ) -> Result<u64, ApiError> {
        let mut changed = 0;
        if let Some(per_s) = per_s {
            // A batch larger than one second's worth never passes.
            query.limit = query.limit.clamp(1, per_s.max(1) as usize);
        }
        loop {
            let page = self.app.engine.list(query.clone()).await?;
            let allowed = page.timers.iter().filter(|timer| {
                let subject = Subject::Timer(timer);
                self.sees(timer) && self.app.gate.authorize(&self.caller, verb, subject).is_ok()
            });
            let ids: Vec<_> = allowed.map(|timer| timer.id).collect();
            if per_s.is_some() && !ids.is_empty() {
                self.wait_for_changes(ids.len() as u64).await?;
            }
            for answer in self.app.engine.change_many(&query.tenant, &ids, change).await? {
                match answer {
                    Ok(_) => changed += 1,
                    Err(EngineError::Refused(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(changed);
            }
        }
    }

    /// Takes so many changes of the tenant's rate, when there are so many.
    async fn wait_for_changes(&self, timers: u64) -> Result<(), ApiError> {
        loop {
            let Err(refused) = self.app.gate.admit(&self.caller, Demand::Change { timers }) else {
                return Ok(());
            };
            let Some(wait_ms) = refused.limits.as_ref().and_then(|limits| limits.retry_after_ms) else {
                return Err(refused);
            };
            let wait = Duration::from_millis(wait_ms);
            if tokio::time::timeout(wait, self.app.shutdown.cancelled()).await.is_ok() {
                return Err(ApiError::new(&SHUTTING_DOWN, "the service stops: not every timer was changed"));
            }
        }
    }

    /// Records that whoever a fire woke has answered.
    pub(crate) async fn acknowledge(
        &self,
        firing: FiringId,
        by: Option<String>,
        note: Option<String>,
    ) -> Result<Outcome, ApiError> {
        let verb = Verb::AcknowledgeFire;
        self.app.gate.admit(&self.caller, Demand::Change { timers: 1 })?;
        self.find(firing.timer, verb).await?;
        let session = self.clone();
        self.to_the_end(async move {
            let tenant = session.caller.tenant.clone();
            let outcome = session.app.engine.acknowledge(tenant, firing, by, note).await;
            let outcome = outcome.map_err(ApiError::from);
            session.note(verb, &firing.to_string(), &outcome);
            outcome
        })
        .await
    }

    /// The caller's events from now on, and nothing else but why there are no more.
    pub(crate) fn watch(
        &self,
    ) -> Result<impl Stream<Item = Result<FeedEvent, ApiError>> + Send + use<>, ApiError> {
        let told = self.follow(None, EventFilter::default(), HEARTBEAT_DEFAULT)?;
        Ok(told.filter_map(async |told| match told {
            Told::Event(event) => Some(Ok(event)),
            Told::End(ended) => Some(Err(ended.error)),
            Told::Lag(_) | Told::Place(_) => None,
        }))
    }

    /// The events of every tenant from now on, for a caller that may act for each of them, and why there are no more.
    pub(crate) fn watch_every_tenant(
        &self,
    ) -> Result<impl Stream<Item = Result<FeedEvent, ApiError>> + Send + use<>, ApiError> {
        self.allow(Verb::WatchEvents, Subject::Tenant)?;
        let permit = self.app.gate.admit(&self.caller, Demand::Stream)?;
        let subscription = self.app.feed.subscribe(None)?;
        let session = self.clone();
        let from = Some((subscription, Instant::now()));
        Ok(futures::stream::unfold(from, move |from| {
            // Held by the stream, and given back with its end.
            let _ = &permit;
            let session = session.clone();
            async move {
                let (mut subscription, mut asked) = from?;
                let ended = loop {
                    if asked.elapsed() >= ASK_EVERY {
                        asked = Instant::now();
                        if let Err(error) = session.app.gate.still_admits(&session.caller).await {
                            break error;
                        }
                    }
                    let next = timeout_at(asked + ASK_EVERY, subscription.next());
                    match session.app.shutdown.run_until_cancelled(next).await {
                        Some(Ok(Some(event))) => return Some((Ok(event), Some((subscription, asked)))),
                        Some(Ok(None)) | None => {
                            break ApiError::new(&SHUTTING_DOWN, "the service stops: open the stream again");
                        }
                        Some(Err(_)) => {}
                    }
                };
                Some((Err(ended), None))
            }
        }))
    }

    /// The timer of an event that this session has been sent; `None` where it is no longer kept.
    pub(crate) async fn timer_of(&self, event: &FeedEvent) -> Option<Arc<TimerInstance>> {
        let tenant = &event.record.tenant;
        let session = self.app.session(self.caller.for_tenant(tenant.as_str())?);
        let timer = self.app.engine.get(tenant.clone(), event.record.event.timer()).await.ok()?;
        session.sees(&timer).then_some(timer)
    }

    /// The caller's events after a place, then each new one, with what a stream tells besides; `None` for only those from
    /// now on.
    pub(crate) fn follow(
        &self,
        after: Option<&Cursor>,
        filter: EventFilter,
        heartbeat: Duration,
    ) -> Result<impl Stream<Item = Told> + Send + use<>, ApiError> {
        self.allow(Verb::WatchEvents, Subject::Tenant)?;
        let permit = self.app.gate.admit(&self.caller, Demand::Stream)?;
        let told = super::watch::told(self, after, filter, heartbeat)?;
        // The stream holds it, and gives it back with its end.
        Ok(told.inspect(move |_| {
            let _ = &permit;
        }))
    }

    /// Whether a caller sees the timers of a definition.
    pub(crate) fn sees_definition(&self, definition: &TimerDefinition) -> bool {
        definition.tenant == self.caller.tenant
            && self
                .caller
                .agent
                .as_deref()
                .is_none_or(|agent| definition.labels.get(AGENT_LABEL).is_some_and(|label| label == agent))
            && (!self.app.gate.hides_timers() || self.reads(definition))
    }

    /// Whether the policies let the caller read a timer.
    fn reads(&self, definition: &TimerDefinition) -> bool {
        self.app.gate.authorize(&self.caller, Verb::ReadTimer, Subject::NewTimer(definition)).is_ok()
    }
}

fn subject_name(subject: Subject<'_>) -> String {
    match subject {
        Subject::Tenant | Subject::NewTimer(_) => String::new(),
        Subject::Timer(timer) => timer.id.to_string(),
        Subject::Named(name) => name.to_string(),
    }
}
