//! The MCP server: tools, resources with subscriptions, prompts, and tasks that are timers.

#![allow(deprecated, reason = "resources/subscribe is what clients before protocol 2026-07-28 know")]

use super::backend::{Backend, Refused, refused};
use super::confirm::Answers;
use super::follow::Follow;
use super::who::Who;
use super::{prompts, tools};
use axum::http::Method;
use rmcp::ErrorData;
use rmcp::handler::server::ServerHandler;
use rmcp::model::*;
use rmcp::service::{Peer, RequestContext, RoleServer, SubscriptionContext};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How many resources a listing names, and how many one client may subscribe to.
const RESOURCES_MAX: usize = 100;
/// How often a wait looks at its timer where no event says that it should.
const RECHECK: Duration = Duration::from_secs(5);
/// What a client that polls a task is asked to wait.
const POLL_MS: u64 = 1_000;

/// How many calls of one client may be under way. Those of a session go on when the client's connection is gone.
const CALLS_MAX: usize = 100;

/// The server: one for each session, or for each request of a client that has no sessions.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) backend: Backend,
    subscribed: Arc<Mutex<Subscribed>>,
    calls: Arc<Semaphore>,
}

/// What a client before protocol 2026-07-28 has subscribed to.
#[derive(Default)]
struct Subscribed {
    ids: BTreeSet<String>,
    /// To the task that follows them. It ends when this is dropped: with the session.
    told: Option<watch::Sender<Vec<String>>>,
}

fn not_found(problem: &Refused) -> ErrorData {
    ErrorData::resource_not_found(
        problem["detail"].as_str().unwrap_or("not found").to_string(),
        Some(problem.clone()),
    )
}

/// The id in `timer://{id}`.
fn timer_of(uri: &str) -> Option<&str> {
    uri.strip_prefix("timer://").filter(|id| tools::is_id(id))
}

fn uri_of(id: &str) -> String {
    format!("timer://{id}")
}

impl Server {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, subscribed: Arc::default(), calls: Arc::new(Semaphore::new(CALLS_MAX)) }
    }

    fn subscribed(&self) -> MutexGuard<'_, Subscribed> {
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the timer has ended, or has fired more often than it had when it was read; `None` when the request
    /// was given up.
    pub(super) async fn wait(
        &self,
        read: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<Option<Value>, Refused> {
        let who = Who::of(context);
        let id = read["id"].as_str().unwrap_or_default().to_string();
        let fires_before = read["fires"].as_u64().unwrap_or(0);
        // Opened before the timer is read again: what happens between is in the stream. A caller that may not follow
        // events can wait all the same.
        let mut follow = Follow::open(self.backend.clone(), who.clone(), vec![id.clone()]).await.ok();
        let mut step = 0.0;
        loop {
            match tools::read(&self.backend, &who, &id).await {
                Ok(timer) => {
                    if has_come(&timer, fires_before) {
                        return Ok(Some(timer));
                    }
                    step += 1.0;
                    report(context, step, &timer).await;
                }
                // A wait goes on over a restart of the service, and over a tenant's busy second.
                Err(problem) if is_passing(&problem) => {}
                Err(problem) => return Err(problem),
            }
            let changed = async {
                let is_open = match &mut follow {
                    Some(stream) => stream.next().await.is_ok(),
                    None => false,
                };
                if !is_open {
                    follow = None;
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = context.ct.cancelled() => return Ok(None),
                _ = tokio::time::timeout(RECHECK, changed) => {}
            }
        }
    }

    async fn task(&self, id: &str, context: &RequestContext<RoleServer>) -> Result<DetailedTask, ErrorData> {
        let timer = tools::read(&self.backend, &Who::of(context), id).await.map_err(|p| {
            ErrorData::invalid_params(
                p["detail"].as_str().unwrap_or("no such task").to_string(),
                Some(p.clone()),
            )
        })?;
        let task = task_of(&timer);
        let payload = match task.status {
            TaskStatus::Completed => {
                let result = serde_json::to_value(CallToolResult::structured(timer)).unwrap_or_default();
                TaskPayload::Completed { result: result.as_object().cloned().unwrap_or_default() }
            }
            TaskStatus::Cancelled => TaskPayload::Cancelled,
            TaskStatus::Failed => {
                let error = serde_json::json!({
                    "code": -32603,
                    "message": "the actions of the timer failed: call timer_explain",
                    "data": timer["results"],
                });
                TaskPayload::Failed { error: error.as_object().cloned().unwrap_or_default() }
            }
            _ => TaskPayload::Working,
        };
        Ok(DetailedTask::new(task, payload))
    }
}

/// Whether what a wait is for has come: the end of the timer, or one fire more. A fire without actions ends at once, and
/// is waited for.
fn has_come(timer: &Value, fires_before: u64) -> bool {
    let is_empty = |field: &str| timer[field].as_array().is_none_or(Vec::is_empty);
    let has_fired = timer["fires"].as_u64().unwrap_or(0) > fires_before;
    !timer["ended_at"].is_null() || (has_fired && (is_empty("in_flight") || !is_empty("actions")))
}

/// Whether the same question may be answered later.
fn is_passing(problem: &Refused) -> bool {
    problem["code"] == "service_unreachable" || matches!(problem["status"].as_u64(), Some(429 | 503))
}

/// Tells a client that asked for it how a wait goes.
async fn report(context: &RequestContext<RoleServer>, step: f64, timer: &Value) {
    if let Some(token) = context.meta.get_progress_token() {
        let text = |field: &str| timer[field].as_str().unwrap_or("not known").to_string();
        let said = format!("{}: due {}", text("state"), text("due_at"));
        let progress = ProgressNotificationParam::new(token, step).with_message(said);
        let _ = context.peer.notify_progress(progress).await;
    }
}

/// Tells a client of what it has subscribed to, until it has subscribed to nothing any more.
async fn tell(peer: Peer<RoleServer>, mut follow: Follow, mut ids: watch::Receiver<Vec<String>>) {
    loop {
        let changed = tokio::select! {
            // First: what was unsubscribed from is not told any more.
            biased;
            changed = ids.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = ids.borrow_and_update().clone();
                follow.change(wanted);
                continue;
            }
            changed = follow.next() => changed,
        };
        // The events are not open to the caller any more: nothing is told any more either.
        let Ok(changed) = changed else { return };
        for id in changed {
            if peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri_of(&id))).await.is_err()
            {
                return;
            }
        }
    }
}

/// A wait as a task: its id is the timer's, so it is where the timer is, after a restart too.
pub(super) fn task_of(timer: &Value) -> Task {
    let text = |field: &str| timer[field].as_str().unwrap_or_default().to_string();
    let status = match text("state").as_str() {
        "cancelled" => TaskStatus::Cancelled,
        "failed" => TaskStatus::Failed,
        _ if has_come(timer, 0) => TaskStatus::Completed,
        _ => TaskStatus::Working,
    };
    let created = text("created_at");
    let updated =
        ["ended_at", "fired_at"].iter().find_map(|f| timer[*f].as_str()).unwrap_or(&created).to_string();
    Task::new(text("id"), status, created, updated)
        .with_status_message(format!("the timer is {}, due {}", text("state"), text("due_at")))
        .with_poll_interval_ms(POLL_MS)
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tasks()
            .build();
        let name = Implementation::new("minoots-timer-system", env!("CARGO_PKG_VERSION"))
            .with_title("minoots timers");
        ServerConfig::new(capabilities).with_server_info(name).with_instructions(
            "Durable timers. Make one with timer_create, wait for it with timer_wait or subscribe to timer://{id}; ask \
             timer_explain why one was late. timers_cancel asks before it changes many.",
        )
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult { tools: tools::all().to_vec(), ..Default::default() })
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::all().iter().find(|t| t.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Ok(_permit) = self.calls.try_acquire() else {
            let detail = format!("{CALLS_MAX} calls are under way: wait for one of them, or cancel it");
            return Ok(CallToolResult::structured_error(refused("too_many_calls", detail)).into());
        };
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let answers = Answers { responses: request.input_responses, state: request.request_state };
        match tools::call(self, &request.name, arguments, &context, &answers).await {
            Ok(tools::Done::Answer(value)) => Ok(CallToolResult::structured(value).into()),
            Ok(tools::Done::Ask(question)) => Ok((*question).into()),
            Ok(tools::Done::Task(timer)) => Ok(CreateTaskResult::new(task_of(&timer)).into()),
            Err(problem) if problem["code"] == tools::UNKNOWN_TOOL => {
                Err(ErrorData::invalid_params(format!("there is no tool {:?}", request.name), None))
            }
            Err(problem) => Ok(CallToolResult::structured_error(problem).into()),
        }
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult { prompts: prompts::list(), ..Default::default() })
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request).map(Into::into)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let mut path = format!("/v1/timers?limit={RESOURCES_MAX}");
        if let Some(cursor) = request.and_then(|r| r.cursor) {
            let mut query = form_urlencoded::Serializer::new(String::new());
            path = format!("{path}&{}", query.append_pair("cursor", &cursor).finish());
        }
        let page = self.backend.ask(&Who::of(&context), Method::GET, &path, None).await;
        let page = page.map_err(|p| not_found(&p))?;
        let text = |t: &Value, field: &str| t[field].as_str().unwrap_or_default().to_string();
        let resources = page["timers"].as_array().into_iter().flatten().map(|t| {
            Resource::new(format!("timer://{}", text(t, "id")), text(t, "name"))
                .with_description(format!("{}, due {}", text(t, "state"), text(t, "due_at")))
                .with_mime_type("application/json")
        });
        Ok(ListResourcesResult {
            resources: resources.collect(),
            next_cursor: page["next_cursor"].as_str().map(str::to_string),
            ..Default::default()
        })
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = ResourceTemplate::new("timer://{id}", "timer")
            .with_description("A timer as it stands; subscribe to hear of each change");
        Ok(ListResourceTemplatesResult { resource_templates: vec![template], ..Default::default() })
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let id = timer_of(&request.uri).unwrap_or("not-an-id");
        let timer = tools::read(&self.backend, &Who::of(&context), id).await.map_err(|p| not_found(&p))?;
        let contents =
            ResourceContents::text(timer.to_string(), request.uri).with_mime_type("application/json");
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut filter = SubscriptionFilter::new();
        filter.resource_subscriptions = requested.resource_subscriptions.as_ref().map(|uris| {
            uris.iter().filter(|uri| timer_of(uri).is_some()).take(RESOURCES_MAX).cloned().collect()
        });
        Some(filter)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let who = Who::of(context.request_context());
        let mut ids = Vec::new();
        for uri in context.accepted().resource_subscriptions.iter().flatten() {
            if let Some(id) = timer_of(uri) {
                // What the caller may not read, it does not hear of.
                if tools::read(&self.backend, &who, id).await.is_ok() {
                    ids.push(id.to_string());
                }
            }
        }
        if ids.is_empty() {
            context.cancelled().await;
            return Ok(());
        }
        let follow = Follow::open(self.backend.clone(), who, ids.clone()).await;
        let mut follow = follow.map_err(|p| not_found(&p))?;
        // The client has its acknowledgement already: what happened since is not in the stream.
        let mut changed = ids;
        loop {
            for id in changed {
                if context.sink().notify_resource_updated(uri_of(&id)).await.is_err() {
                    return Ok(());
                }
            }
            let next = tokio::select! {
                () = context.cancelled() => return Ok(()),
                next = follow.next() => next,
            };
            changed = next.map_err(|p| not_found(&p))?;
        }
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let who = Who::of(&context);
        let id = timer_of(&request.uri).unwrap_or("not-an-id").to_string();
        tools::read(&self.backend, &who, &id).await.map_err(|p| not_found(&p))?;
        // Opened before the answer, so that nothing after it is missed. Where there is a task already, this one is not
        // needed.
        let follow = match &self.subscribed().told {
            Some(told) if !told.is_closed() => None,
            _ => Some((who, id.clone())),
        };
        let follow = match follow {
            Some((who, id)) => {
                Some(Follow::open(self.backend.clone(), who, vec![id]).await.map_err(|p| not_found(&p))?)
            }
            None => None,
        };
        let mut subscribed = self.subscribed();
        if subscribed.ids.len() >= RESOURCES_MAX && !subscribed.ids.contains(&id) {
            let detail = format!("more than {RESOURCES_MAX} subscriptions: unsubscribe from some first");
            let code = refused("too_many_subscriptions", detail.clone());
            return Err(ErrorData::invalid_params(detail, Some(code)));
        }
        subscribed.ids.insert(id);
        let ids: Vec<_> = subscribed.ids.iter().cloned().collect();
        let is_told = subscribed.told.as_ref().is_some_and(|told| told.send(ids.clone()).is_ok());
        if is_told {
            return Ok(());
        }
        if let Some(mut follow) = follow {
            if ids.len() > 1 {
                follow.change(ids.clone());
            }
            let (told, heard) = watch::channel(ids);
            subscribed.told = Some(told);
            tokio::spawn(tell(context.peer.clone(), follow, heard));
            return Ok(());
        }
        // The task that told ended just now.
        Err(ErrorData::internal_error("the subscription was lost: subscribe again", None))
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let mut subscribed = self.subscribed();
        if let Some(id) = timer_of(&request.uri) {
            subscribed.ids.remove(id);
        }
        let ids: Vec<_> = subscribed.ids.iter().cloned().collect();
        if ids.is_empty() {
            subscribed.told = None;
        } else if let Some(told) = &subscribed.told {
            let _ = told.send(ids);
        }
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        Ok(GetTaskResult::new(self.task(&request.task_id, &context).await?))
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let body = serde_json::json!({"reason": "the MCP task was cancelled"});
        let asked = tools::change(&self.backend, &Who::of(&context), &request.task_id, "cancel", body).await;
        // A task that has ended cannot be cancelled; the acknowledgement is the same.
        match asked {
            Err(p) if p["code"] == "timer_not_found" => {
                Err(ErrorData::invalid_params("no such task", Some(p)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wait_ends_with_a_fire_or_with_the_timer() {
        fn check(timer: Value, want: bool) {
            assert_eq!(has_come(&timer, 1), want, "{timer}");
        }
        check(json!({"fires": 1, "ended_at": null}), false);
        check(json!({"fires": 0, "ended_at": "2030-01-01T00:00:00Z"}), true);
        check(json!({"fires": 2, "ended_at": null, "in_flight": [], "actions": []}), true);
        check(json!({"fires": 2, "ended_at": null, "in_flight": ["f"], "actions": []}), false);
        check(json!({"fires": 2, "ended_at": null, "in_flight": ["f"], "actions": [{"id": "a"}]}), true);
        check(json!({}), false);
    }

    #[test]
    fn the_state_of_a_timer_is_the_status_of_its_task() {
        for (state, fires, ended, want) in [
            ("scheduled", 0, false, TaskStatus::Working),
            ("waiting", 0, false, TaskStatus::Working),
            ("paused", 0, false, TaskStatus::Working),
            ("scheduled", 1, false, TaskStatus::Completed),
            ("completed", 1, true, TaskStatus::Completed),
            ("expired", 0, true, TaskStatus::Completed),
            ("failed", 1, true, TaskStatus::Failed),
            ("cancelled", 0, true, TaskStatus::Cancelled),
        ] {
            let ended_at = ended.then_some("2030-01-01T00:00:00Z");
            let timer = json!({"id": "t", "state": state, "fires": fires, "ended_at": ended_at});
            assert_eq!(task_of(&timer).status, want, "{timer}");
        }
    }
}
