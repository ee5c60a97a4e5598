//! The timer service: each call onto the engine.

use super::convert::{self, Which};
use super::{unreadable, v2};
use crate::access::Caller;
use crate::access::caller::unauthenticated;
use crate::api::error::{ApiError, INVALID_FIELD};
use crate::api::operations::Session;
use crate::api::watch::{HEARTBEAT_MAX, Told};
use crate::api::{App, batch, feed};
use crate::engine::Cursor;
use futures::StreamExt;
use futures::stream::BoxStream;
use minoots_kernel::{Change, Outcome};
use tonic::{Request, Response, Status, Streaming};

/// Serves `minoots.v2.TimerService`.
pub(super) struct Timers {
    app: App,
}

type Answer<T> = Result<Response<T>, Status>;

impl Timers {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }

    async fn change(
        session: &Session,
        id: &str,
        expected_version: Option<u64>,
        change: Change,
    ) -> Result<v2::Timer, ApiError> {
        let id = convert::timer_id(id)?;
        let outcome = session.change(id, expected_version, change).await?;
        Ok(convert::timer(&outcome.timer))
    }

    /// The service as the sender of a request has it.
    fn session<T>(&self, request: &Request<T>) -> Result<Session, ApiError> {
        let caller = request.extensions().get::<Caller>().cloned().ok_or_else(unauthenticated)?;
        Ok(self.app.session(caller))
    }

    /// Where a watch starts; `None` for now.
    fn place(&self, request: &v2::WatchEventsRequest) -> Result<Option<Cursor>, ApiError> {
        let (field, text) = match (request.after_sequence, request.cursor.as_str()) {
            (None, "") => return Ok(None),
            (None, text) => ("cursor", text.to_string()),
            (Some(sequence), "") => ("after_sequence", sequence.to_string()),
            (Some(_), _) => {
                let detail = "after_sequence and cursor are both set: set one of them";
                return Err(ApiError::new(&INVALID_FIELD, detail));
            }
        };
        let place = feed::place(&self.app.feed, &text);
        place.map(Some).map_err(|why| ApiError::new(&INVALID_FIELD, format!("{field} is {text:?}: {why}")))
    }
}

#[tonic::async_trait]
impl v2::timer_service_server::TimerService for Timers {
    async fn create_timer(
        &self,
        request: Request<v2::CreateTimerRequest>,
    ) -> Answer<v2::CreateTimerResponse> {
        let session = self.session(&request)?;
        let definition = convert::definition(request.into_inner().definition, &self.app.connectors)?;
        let created = session.create(definition).await?;
        Ok(Response::new(created_response(&created)))
    }

    type CreateTimersStream = BoxStream<'static, Result<v2::CreateTimersResponse, Status>>;

    async fn create_timers(
        &self,
        request: Request<Streaming<v2::CreateTimersRequest>>,
    ) -> Answer<Self::CreateTimersStream> {
        let session = self.session(&request)?;
        let shutdown = self.app.shutdown.clone().cancelled_owned();
        let answers = request
            .into_inner()
            .take_until(shutdown)
            .then(move |batch| {
                let session = session.clone();
                async move { create_batch(&session, batch.map_err(unreadable)?.definitions).await }
            })
            // A stream ends with its first error.
            .scan(false, |failed, answer| {
                let ended = *failed;
                *failed = answer.is_err();
                futures::future::ready((!ended).then_some(answer))
            });
        Ok(Response::new(answers.boxed()))
    }

    async fn get_timer(&self, request: Request<v2::GetTimerRequest>) -> Answer<v2::GetTimerResponse> {
        let session = self.session(&request)?;
        let timer = session.get(convert::timer_id(&request.into_inner().id)?).await?;
        Ok(Response::new(v2::GetTimerResponse { timer: Some(convert::timer(&timer)) }))
    }

    async fn list_timers(&self, request: Request<v2::ListTimersRequest>) -> Answer<v2::ListTimersResponse> {
        let session = self.session(&request)?;
        let page = session.list(convert::list_query(request.into_inner())?).await?;
        Ok(Response::new(v2::ListTimersResponse {
            timers: page.timers.iter().map(|t| convert::timer(t)).collect(),
            next_cursor: page.next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn cancel_timer(
        &self,
        request: Request<v2::CancelTimerRequest>,
    ) -> Answer<v2::CancelTimerResponse> {
        let session = self.session(&request)?;
        let v2::CancelTimerRequest { id, reason, expected_version } = request.into_inner();
        let timer = Self::change(&session, &id, expected_version, Change::Cancel { reason }).await?;
        Ok(Response::new(v2::CancelTimerResponse { timer: Some(timer) }))
    }

    async fn reschedule_timer(
        &self,
        request: Request<v2::RescheduleTimerRequest>,
    ) -> Answer<v2::RescheduleTimerResponse> {
        let session = self.session(&request)?;
        let v2::RescheduleTimerRequest { id, to, expected_version } = request.into_inner();
        let change = Change::Reschedule(convert::new_due(to)?);
        let timer = Self::change(&session, &id, expected_version, change).await?;
        Ok(Response::new(v2::RescheduleTimerResponse { timer: Some(timer) }))
    }

    async fn pause_timer(&self, request: Request<v2::PauseTimerRequest>) -> Answer<v2::PauseTimerResponse> {
        let session = self.session(&request)?;
        let v2::PauseTimerRequest { id, reason, expected_version } = request.into_inner();
        let timer = Self::change(&session, &id, expected_version, Change::Pause { reason }).await?;
        Ok(Response::new(v2::PauseTimerResponse { timer: Some(timer) }))
    }

    async fn resume_timer(
        &self,
        request: Request<v2::ResumeTimerRequest>,
    ) -> Answer<v2::ResumeTimerResponse> {
        let session = self.session(&request)?;
        let v2::ResumeTimerRequest { id, expected_version } = request.into_inner();
        let timer = Self::change(&session, &id, expected_version, Change::Resume).await?;
        Ok(Response::new(v2::ResumeTimerResponse { timer: Some(timer) }))
    }

    async fn fire_timer(&self, request: Request<v2::FireTimerRequest>) -> Answer<v2::FireTimerResponse> {
        let session = self.session(&request)?;
        let v2::FireTimerRequest { id, expected_version } = request.into_inner();
        let timer = Self::change(&session, &id, expected_version, Change::FireNow).await?;
        Ok(Response::new(v2::FireTimerResponse { timer: Some(timer) }))
    }

    async fn acknowledge_fire(
        &self,
        request: Request<v2::AcknowledgeFireRequest>,
    ) -> Answer<v2::AcknowledgeFireResponse> {
        let session = self.session(&request)?;
        let v2::AcknowledgeFireRequest { firing_id, by, note } = request.into_inner();
        let firing = convert::firing(&firing_id)?;
        let outcome = session.acknowledge(firing, by, note).await?;
        let timer = Some(convert::timer(&outcome.timer));
        Ok(Response::new(v2::AcknowledgeFireResponse { timer, replayed: outcome.replayed }))
    }

    async fn change_timers(
        &self,
        request: Request<v2::ChangeTimersRequest>,
    ) -> Answer<v2::ChangeTimersResponse> {
        use v2::change_timer_result::Outcome as Sent;
        let session = self.session(&request)?;
        let v2::ChangeTimersRequest { which, change } = request.into_inner();
        let change = convert::change(change)?;
        let ids = match convert::which(which)? {
            Which::Ids(ids) => ids,
            Which::Query(query) => {
                let changed = session.change_found(query, &change).await?;
                return Ok(Response::new(v2::ChangeTimersResponse { results: Vec::new(), changed }));
            }
        };
        batch::check_size("ids", ids.len())?;
        let answers = session.change_named(ids, &change).await?;
        let changed = answers.iter().filter(|a| a.is_ok()).count() as u64;
        let result = |answer| v2::ChangeTimerResult {
            outcome: Some(match answer {
                Ok(Outcome { timer, .. }) => Sent::Timer(convert::timer(&timer)),
                Err(e) => Sent::Refused(refusal(e)),
            }),
        };
        let results = answers.into_iter().map(result).collect();
        Ok(Response::new(v2::ChangeTimersResponse { results, changed }))
    }

    async fn list_history(
        &self,
        request: Request<v2::ListHistoryRequest>,
    ) -> Answer<v2::ListHistoryResponse> {
        let session = self.session(&request)?;
        let v2::ListHistoryRequest { id, after, limit } = request.into_inner();
        let id = convert::timer_id(&id)?;
        let page = session.history(convert::ledger_query(id, after.as_ref(), limit)?).await?;
        Ok(Response::new(v2::ListHistoryResponse {
            entries: page.entries.iter().map(|e| convert::history_entry(id, e)).collect(),
            next_after: page.next_after_ns.map(convert::timestamp),
        }))
    }

    type WatchEventsStream = BoxStream<'static, Result<v2::WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<v2::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let session = self.session(&request)?;
        let asked = request.into_inner();
        let after = self.place(&asked)?;
        let (filter, keep_alive) = convert::event_filter(&asked)?;
        let told = session.follow(after.as_ref(), filter, keep_alive.unwrap_or(HEARTBEAT_MAX))?;
        let mut told = told.boxed();
        // The first says where the stream begins; here the metadata does.
        let begin = match told.next().await {
            Some(Told::Place(reached)) => reached.cursor.to_string().parse().ok(),
            _ => None,
        };
        let answers = told.filter_map(move |told| {
            futures::future::ready(match told {
                // An end without a status would tell the client that there are no more events, ever.
                Told::End(ended) => Some(Err(convert::ended(ended))),
                Told::Place(_) if keep_alive.is_none() => None,
                told => Some(Ok(convert::told(&told))),
            })
        });
        let mut response = Response::new(answers.boxed());
        if let Some(begin) = begin {
            response.metadata_mut().insert("minoots-cursor", begin);
        }
        Ok(response)
    }
}

/// One write to the disk for the whole batch; a definition that cannot be used is refused alone.
async fn create_batch(
    session: &Session,
    definitions: Vec<v2::TimerDefinition>,
) -> Result<v2::CreateTimersResponse, Status> {
    use v2::create_timer_result::Outcome as Sent;
    batch::check_size("definitions", definitions.len())?;
    let definitions =
        definitions.into_iter().map(|sent| convert::definition(Some(sent), &session.app.connectors));
    let answers = session.create_many(definitions.collect()).await?;
    let result = |answer| v2::CreateTimerResult {
        outcome: Some(match answer {
            Ok(created) => Sent::Created(created_response(&created)),
            Err(e) => Sent::Refused(refusal(e)),
        }),
    };
    Ok(v2::CreateTimersResponse { results: answers.into_iter().map(result).collect() })
}

fn created_response(created: &Outcome) -> v2::CreateTimerResponse {
    v2::CreateTimerResponse { timer: Some(convert::timer(&created.timer)), replayed: created.replayed }
}

fn refusal(e: ApiError) -> v2::Refusal {
    v2::Refusal { code: e.code.code.into(), detail: e.detail }
}
