//! The timer service: each call onto the engine.

use super::{convert, v2};
use crate::api::error::{ApiError, INVALID_FIELD, SHUTTING_DOWN, no_such_timer};
use crate::api::{App, PAGE_DEFAULT, PAGE_MAX, feed};
use crate::engine::Cursor;
use crate::store::TimerQuery;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use minoots_kernel::{Outcome, TenantId, TimerId};
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
}

#[tonic::async_trait]
impl v2::timer_service_server::TimerService for Timers {
    async fn create_timer(
        &self,
        request: Request<v2::CreateTimerRequest>,
    ) -> Answer<v2::CreateTimerResponse> {
        let definition = convert::definition(request.into_inner().definition, &self.app.connectors)?;
        let created = self.app.engine.create(definition).await.map_err(ApiError::from)?;
        self.app.metrics.created(u64::from(!created.replayed));
        Ok(Response::new(created_response(&created)))
    }

    type CreateTimersStream = BoxStream<'static, Result<v2::CreateTimersResponse, Status>>;

    async fn create_timers(
        &self,
        request: Request<Streaming<v2::CreateTimersRequest>>,
    ) -> Answer<Self::CreateTimersStream> {
        let app = self.app.clone();
        let shutdown = app.shutdown.clone().cancelled_owned();
        let answers = request
            .into_inner()
            .take_until(shutdown)
            .then(move |batch| {
                let app = app.clone();
                async move { create_batch(&app, batch?.definitions).await }
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
        let id = parse_id(&request.into_inner().id)?;
        let timer = self.app.engine.get(TenantId::default(), id).await.map_err(ApiError::from)?;
        Ok(Response::new(v2::GetTimerResponse { timer: Some(convert::timer(&timer)) }))
    }

    async fn list_timers(&self, request: Request<v2::ListTimersRequest>) -> Answer<v2::ListTimersResponse> {
        let page = self.app.engine.list(list_query(request.into_inner())?).await.map_err(ApiError::from)?;
        Ok(Response::new(v2::ListTimersResponse {
            timers: page.timers.iter().map(|t| convert::timer(t)).collect(),
            next_cursor: page.next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn cancel_timer(
        &self,
        request: Request<v2::CancelTimerRequest>,
    ) -> Answer<v2::CancelTimerResponse> {
        let v2::CancelTimerRequest { id, reason } = request.into_inner();
        let id = parse_id(&id)?;
        let outcome =
            self.app.engine.cancel(TenantId::default(), id, reason).await.map_err(ApiError::from)?;
        self.app.metrics.cancelled();
        Ok(Response::new(v2::CancelTimerResponse { timer: Some(convert::timer(&outcome.timer)) }))
    }

    type WatchEventsStream = BoxStream<'static, Result<v2::WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<v2::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let after = request.into_inner().after_sequence.map(|sequence| Cursor(vec![sequence]));
        let events = feed::events(&self.app.feed, after.as_ref())
            .map_err(ApiError::from)?
            .map(|event| Ok(v2::WatchEventsResponse { event: Some(convert::event(&event.record)) }))
            .take_until(self.app.shutdown.clone().cancelled_owned())
            // An end without a status would tell the client that there are no more events, ever.
            .chain(stream::once(async {
                Err(ApiError::new(&SHUTTING_DOWN, "the service stops: watch again from the last sequence")
                    .into())
            }));
        Ok(Response::new(events.boxed()))
    }
}

/// One write to the disk for the whole batch; a definition that cannot be used is refused alone.
async fn create_batch(
    app: &App,
    definitions: Vec<v2::TimerDefinition>,
) -> Result<v2::CreateTimersResponse, Status> {
    use v2::create_timer_result::Outcome as Sent;
    if definitions.len() > PAGE_MAX {
        let detail = format!("the batch has {} definitions: send {PAGE_MAX} or fewer", definitions.len());
        return Err(ApiError::new(&INVALID_FIELD, detail).into());
    }
    let mut usable = Vec::with_capacity(definitions.len());
    let mut refusals = Vec::with_capacity(definitions.len());
    for sent in definitions {
        refusals.push(match convert::definition(Some(sent), &app.connectors) {
            Ok(definition) => {
                usable.push(definition);
                None
            }
            Err(e) => Some(e),
        });
    }
    let mut answers = app.engine.create_many(usable).await.map_err(ApiError::from)?.into_iter();
    let mut new_timers = 0;
    let results = refusals.into_iter().map(|refusal| {
        let outcome = match refusal {
            Some(e) => Err(e),
            // The engine gives one answer for each definition, in order.
            None => match answers.next() {
                Some(answer) => answer.map_err(ApiError::from),
                None => {
                    Err(ApiError::new(&SHUTTING_DOWN, "the service is shutting down: try again in a moment"))
                }
            },
        };
        let outcome = match outcome {
            Ok(created) => {
                new_timers += u64::from(!created.replayed);
                Sent::Created(created_response(&created))
            }
            Err(e) => Sent::Refused(v2::Refusal { code: e.code.code.into(), detail: e.detail }),
        };
        v2::CreateTimerResult { outcome: Some(outcome) }
    });
    let response = v2::CreateTimersResponse { results: results.collect() };
    app.metrics.created(new_timers);
    Ok(response)
}

fn created_response(created: &Outcome) -> v2::CreateTimerResponse {
    v2::CreateTimerResponse { timer: Some(convert::timer(&created.timer)), replayed: created.replayed }
}

fn parse_id(text: &str) -> Result<TimerId, ApiError> {
    TimerId::parse(text).ok_or_else(|| no_such_timer(text))
}

fn list_query(request: v2::ListTimersRequest) -> Result<TimerQuery, ApiError> {
    let limit = match request.limit as usize {
        0 => PAGE_DEFAULT,
        n if n <= PAGE_MAX => n,
        n => {
            let detail = format!("limit is {n}: give a number from 1 to {PAGE_MAX}, or 0 for {PAGE_DEFAULT}");
            return Err(ApiError::new(&INVALID_FIELD, detail));
        }
    };
    let after = match request.cursor.as_str() {
        "" => None,
        text => Some(TimerId::parse(text).ok_or_else(|| {
            ApiError::new(
                &INVALID_FIELD,
                format!("cursor is {text:?}: give the next_cursor of the page before"),
            )
        })?),
    };
    Ok(TimerQuery {
        tenant: TenantId::default(),
        state: convert::state_filter(request.state)?,
        labels: request.labels.into_iter().collect(),
        after,
        limit,
        ..TimerQuery::default()
    })
}
