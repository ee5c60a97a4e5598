//! The calls of `HorologyKernel` onto the engine.

use super::convert::{self, Listing, Topics};
use super::v1;
use crate::access::Caller;
use crate::access::caller::unauthenticated;
use crate::api::App;
use crate::api::dialects::common::{
    join_reason, list_where, needed, no_such_tenant, session_for, split_reason,
};
use crate::api::error::{ApiError, FORBIDDEN};
use crate::api::operations::Session;
use crate::engine::{EngineError, FeedEvent};
use futures::StreamExt;
use futures::stream::BoxStream;
use minoots_kernel::{Change, CommandError, Event, TimerId, TimerInstance};
use tonic::{Request, Response, Status};
use v1::timer_event::Event as Sent;

/// The tenant that means every tenant, for an operator's credential.
const EVERY_TENANT: &str = "__all__";

/// Serves `minoots.timer.v1.HorologyKernel`.
pub(in crate::api::grpc) struct Horology {
    app: App,
}

type Answer<T> = Result<Response<T>, Status>;

impl Horology {
    pub(in crate::api::grpc) fn new(app: App) -> Self {
        Self { app }
    }

    /// The service as the sender has it for the tenant that it names.
    fn session<T>(&self, request: &Request<T>, tenant: &str) -> Result<Option<Session>, ApiError> {
        session_for(&self.app, &caller(request)?, "tenant_id", tenant)
    }
}

fn caller<T>(request: &Request<T>) -> Result<Caller, ApiError> {
    request.extensions().get::<Caller>().cloned().ok_or_else(unauthenticated)
}

/// The answer for a timer that is not there, and for one of another tenant.
fn missing(id: TimerId) -> ApiError {
    EngineError::from(CommandError::NotFound(id)).into()
}

#[tonic::async_trait]
impl v1::horology_kernel_server::HorologyKernel for Horology {
    async fn schedule_timer(
        &self,
        request: Request<v1::TimerScheduleRequest>,
    ) -> Answer<v1::TimerScheduleResponse> {
        let tenant = &request.get_ref().tenant_id;
        let session = self.session(&request, tenant)?.ok_or_else(|| no_such_tenant(tenant))?;
        let definition = convert::definition(request.into_inner(), &self.app.connectors)?;
        let created = session.create(definition).await?;
        Ok(Response::new(v1::TimerScheduleResponse { timer: Some(convert::timer(&created.timer)) }))
    }

    async fn cancel_timer(&self, request: Request<v1::TimerCancelRequest>) -> Answer<v1::Timer> {
        let session = self.session(&request, &request.get_ref().tenant_id)?;
        let v1::TimerCancelRequest { timer_id, requested_by, reason, .. } = request.into_inner();
        let by = needed("requested_by", &requested_by)?;
        let id = convert::timer_id(&timer_id)?;
        let session = session.ok_or_else(|| missing(id))?;
        let reason = Some(join_reason(Some(&reason), by));
        let outcome = session.change(id, None, Change::Cancel { reason }).await?;
        Ok(Response::new(convert::timer(&outcome.timer)))
    }

    async fn get_timer(&self, request: Request<v1::TimerGetRequest>) -> Answer<v1::Timer> {
        let session = self.session(&request, &request.get_ref().tenant_id)?;
        let id = convert::timer_id(&request.get_ref().timer_id)?;
        let timer = session.ok_or_else(|| missing(id))?.get(id).await?;
        Ok(Response::new(convert::timer(&timer)))
    }

    async fn list_timers(&self, request: Request<v1::TimerListRequest>) -> Answer<v1::TimerListResponse> {
        let session = self.session(&request, &request.get_ref().tenant_id)?;
        let listing = Listing::of(request.into_inner())?;
        // Another's tenant is as one without timers.
        let Some(session) = session else { return Ok(Response::new(v1::TimerListResponse::default())) };
        let (timers, next) =
            list_where(&session, listing.query.clone(), listing.size, |t| listing.passes(t)).await?;
        Ok(Response::new(v1::TimerListResponse {
            timers: timers.iter().map(|t| convert::timer(t)).collect(),
            next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    type StreamTimerEventsStream = BoxStream<'static, Result<v1::TimerEvent, Status>>;

    async fn stream_timer_events(
        &self,
        request: Request<v1::TimerEventStreamRequest>,
    ) -> Answer<Self::StreamTimerEventsStream> {
        let v1::TimerEventStreamRequest { tenant_id, topics } = request.get_ref();
        let topics = Topics::of(topics)?;
        let (session, events) = if tenant_id == EVERY_TENANT {
            let caller = caller(&request)?;
            if !caller.every_tenant {
                let detail = "the events of every tenant are for a key of the service's operator";
                return Err(ApiError::new(&FORBIDDEN, detail).into());
            }
            let session = self.app.session(caller);
            let events = session.watch_every_tenant()?.boxed();
            (session, events)
        } else {
            let session = self.session(&request, tenant_id)?.ok_or_else(|| no_such_tenant(tenant_id))?;
            let events = session.watch()?.boxed();
            (session, events)
        };
        let sent = events
            .filter_map(move |event| {
                let session = session.clone();
                async move {
                    match event {
                        Ok(event) => told(&session, &event, topics).await.map(Ok),
                        Err(ended) => Some(Err(Status::from(ended))),
                    }
                }
            })
            .map(|sent| sent.map(|event| v1::TimerEvent { event: Some(event) }));
        Ok(Response::new(sent.boxed()))
    }
}

/// What a stream sends of an event. A fire is told when its actions have ended, since their results go with it. The timer
/// is as it is when the event is sent, except that a new one is as it was made.
async fn told(session: &Session, event: &FeedEvent, topics: Topics) -> Option<Sent> {
    let record = &event.record;
    Some(match &record.event {
        Event::Scheduled { .. } | Event::Held { .. } if topics.scheduled => {
            let timer = TimerInstance::created_by(record)?;
            Sent::Scheduled(v1::TimerScheduled { timer: Some(convert::timer(&timer)) })
        }
        Event::Completed { results, .. } | Event::Failed { results, .. } if topics.fired => {
            let timer = session.timer_of(event).await?;
            let result = Some(convert::execution(results, record.at_ns));
            Sent::Fired(v1::TimerFired { timer: Some(convert::timer(&timer)), result })
        }
        Event::Cancelled { reason, .. } if topics.cancelled => {
            let timer = session.timer_of(event).await?;
            let reason = reason.as_deref().and_then(|text| split_reason(text).0).unwrap_or_default();
            Sent::Cancelled(v1::TimerCancelled {
                timer: Some(convert::timer(&timer)),
                reason: reason.to_string(),
            })
        }
        _ => return None,
    })
}
