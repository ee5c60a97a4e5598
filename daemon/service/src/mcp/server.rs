//! The MCP server: tools, resources with subscriptions, prompts, and tasks that are timers.

#![allow(deprecated, reason = "resources/subscribe is what clients before protocol 2026-07-28 know")]

use super::backend::{Backend, Refused};
use super::{prompts, tools};
use crate::access::Caller;
use axum::http::{Method, request::Parts};
use rmcp::ErrorData;
use rmcp::handler::server::ServerHandler;
use rmcp::model::*;
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many resources a listing names, and how many one client may subscribe to.
const RESOURCES_MAX: usize = 100;
/// How often what events may have missed is looked up.
const RECHECK: Duration = Duration::from_secs(5);
/// What a client that polls a task is asked to wait.
const POLL_MS: u64 = 1_000;

/// The server. Over HTTP one serves every caller: who asks is in each request.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) backend: Backend,
    /// By peer and resource; dropping one ends its watch.
    watches: Arc<Mutex<HashMap<String, DropGuard>>>,
}

/// Who asks: over HTTP, whom the service's own authentication named.
pub(super) fn caller(context: &RequestContext<RoleServer>) -> Option<Caller> {
    context.extensions.get::<Parts>()?.extensions.get::<Caller>().cloned()
}

/// The session of a legacy client, which its subscriptions belong to.
fn session(context: &RequestContext<RoleServer>) -> String {
    let header = context.extensions.get::<Parts>().and_then(|p| p.headers.get("mcp-session-id"));
    header.and_then(|h| h.to_str().ok()).unwrap_or("stdio").to_string()
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

impl Server {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, watches: Arc::default() }
    }

    /// Waits until the timer has ended, or has fired more often than this; `None` when the request was given up.
    pub(super) async fn wait(
        &self,
        id: &str,
        context: &RequestContext<RoleServer>,
    ) -> Result<Option<Value>, Refused> {
        let caller = caller(context);
        let ids = [id.to_string()];
        let mut events = self.backend.events(caller.as_ref()).await.ok();
        let mut fires_before = None;
        let mut step = 0.0;
        loop {
            let timer = tools::read(&self.backend, caller.as_ref(), id).await?;
            let fires = timer["fires"].as_u64().unwrap_or(0);
            if !timer["ended_at"].is_null() || fires > *fires_before.get_or_insert(fires) {
                return Ok(Some(timer));
            }
            if let Some(token) = context.meta.get_progress_token() {
                step += 1.0;
                let said = format!("{}: due {}", timer["state"], timer["due_at"]);
                let progress = ProgressNotificationParam::new(token, step).with_message(said);
                let _ = context.peer.notify_progress(progress).await;
            }
            tokio::select! {
                () = context.ct.cancelled() => return Ok(None),
                () = next(&mut events, &ids) => {}
            }
        }
    }

    async fn task(&self, id: &str, context: &RequestContext<RoleServer>) -> Result<DetailedTask, ErrorData> {
        let timer = tools::read(&self.backend, caller(context).as_ref(), id).await.map_err(|p| {
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

/// Until an event of one of these, or the time to look again.
async fn next(events: &mut Option<super::backend::Events>, ids: &[String]) {
    let watched = async {
        match events {
            Some(stream) => {
                if stream.of(ids).await.is_none() {
                    *events = None;
                }
            }
            None => std::future::pending().await,
        }
    };
    let _ = tokio::time::timeout(RECHECK, watched).await;
}

/// A wait as a task: its id is the timer's, so it is where the timer is, after a restart too.
pub(super) fn task_of(timer: &Value) -> Task {
    let text = |field: &str| timer[field].as_str().unwrap_or_default().to_string();
    let status = match text("state").as_str() {
        "cancelled" => TaskStatus::Cancelled,
        "failed" => TaskStatus::Failed,
        _ if !timer["ended_at"].is_null() || timer["fires"].as_u64().unwrap_or(0) > 0 => {
            TaskStatus::Completed
        }
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
        Ok(ListToolsResult { tools: tools::all(), ..Default::default() })
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::all().into_iter().find(|t| t.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        match tools::call(self, &request.name, arguments, &context).await {
            Ok(tools::Done::Answer(value)) => Ok(CallToolResult::structured(value).into()),
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
        let page = self.backend.ask(caller(&context).as_ref(), Method::GET, &path, None).await;
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
        let timer =
            tools::read(&self.backend, caller(&context).as_ref(), id).await.map_err(|p| not_found(&p))?;
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
        let caller = caller(context.request_context());
        let mut ids = Vec::new();
        for uri in context.accepted().resource_subscriptions.iter().flatten() {
            if let Some(id) = timer_of(uri) {
                // What the caller may not read, it does not hear of.
                if tools::read(&self.backend, caller.as_ref(), id).await.is_ok() {
                    ids.push(id.to_string());
                }
            }
        }
        let mut events = self.backend.events(caller.as_ref()).await.map_err(|p| not_found(&p))?;
        loop {
            let named = tokio::select! {
                () = context.cancelled() => return Ok(()),
                named = events.of(&ids) => named,
            };
            let Some(named) = named else { return Ok(()) };
            for id in named {
                if context.sink().notify_resource_updated(format!("timer://{id}")).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = caller(&context);
        let id = timer_of(&request.uri).unwrap_or("not-an-id").to_string();
        let mut events = self.backend.events(caller.as_ref()).await.map_err(|p| not_found(&p))?;
        tools::read(&self.backend, caller.as_ref(), &id).await.map_err(|p| not_found(&p))?;
        let stop = CancellationToken::new();
        let session = session(&context);
        {
            let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
            let of_session = format!("{session} ");
            if watches.keys().filter(|k| k.starts_with(&of_session)).count() >= RESOURCES_MAX {
                let detail = format!("more than {RESOURCES_MAX} subscriptions: unsubscribe from some first");
                return Err(ErrorData::invalid_params(detail, None));
            }
            watches.insert(format!("{session} {}", request.uri), stop.clone().drop_guard());
        }
        let (peer, uri, watches) = (context.peer.clone(), request.uri, self.watches.clone());
        tokio::spawn(async move {
            let ids = [id];
            loop {
                let named = tokio::select! {
                    () = stop.cancelled() => return,
                    named = events.of(&ids) => named,
                };
                let told = ResourceUpdatedNotificationParam::new(uri.clone());
                if named.is_none() || peer.notify_resource_updated(told).await.is_err() {
                    break;
                }
            }
            watches.lock().unwrap_or_else(PoisonError::into_inner).remove(&format!("{session} {uri}"));
        });
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let key = format!("{} {}", session(&context), request.uri);
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
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
        let asked =
            tools::change(&self.backend, caller(&context).as_ref(), &request.task_id, "cancel", body).await;
        // A task that has ended cannot be cancelled; the acknowledgement is the same.
        match asked {
            Err(p) if p["code"] == "timer_not_found" => {
                Err(ErrorData::invalid_params("no such task", Some(p)))
            }
            _ => Ok(()),
        }
    }
}
