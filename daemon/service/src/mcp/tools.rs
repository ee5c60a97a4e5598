//! The tools: what each is called, takes, gives and may change, and how it is done.

use super::backend::{Backend, Refused, refused};
use super::confirm::{Answers, Consent, NEEDS_CONFIRMATION, confirm};
use super::explain::{Facts, explain};
use super::server::Server;
use super::who::Who;
use super::words::*;
use axum::http::Method;
use rmcp::model::{InputRequiredResult, Tool, ToolAnnotations};
use rmcp::service::{RequestContext, RoleServer};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// The code of a call of a tool that there is not.
pub(super) const UNKNOWN_TOOL: &str = "unknown_tool";

/// How a call ended well.
pub(super) enum Done {
    Answer(Value),
    /// The user has to be asked first.
    Ask(Box<InputRequiredResult>),
    /// A wait goes on as a task: the timer.
    Task(Value),
}

/// What a tool may do to the world.
#[derive(Clone, Copy)]
enum Effect {
    Reads,
    Adds,
    /// Changes a timer; a second time changes nothing more.
    Sets,
    /// Ends timers.
    Ends,
}

fn tool<I: JsonSchema + 'static, O: JsonSchema + 'static>(
    name: &'static str,
    description: &'static str,
    effect: Effect,
) -> Tool {
    let notes = match effect {
        Effect::Reads => ToolAnnotations::new().read_only(true).idempotent(true).open_world(false),
        // Actions reach out: a webhook goes anywhere.
        Effect::Adds => {
            ToolAnnotations::new().read_only(false).destructive(false).idempotent(false).open_world(true)
        }
        Effect::Sets => {
            ToolAnnotations::new().read_only(false).destructive(false).idempotent(true).open_world(false)
        }
        Effect::Ends => {
            ToolAnnotations::new().read_only(false).destructive(true).idempotent(true).open_world(false)
        }
    };
    let mut tool = Tool::new(name, description, Arc::new(Map::new()))
        .with_input_schema::<I>()
        .with_output_schema::<O>()
        .with_annotations(notes);
    tool.input_schema = without_formats(&tool.input_schema);
    tool.output_schema = tool.output_schema.as_ref().map(|schema| or_problem(&without_formats(schema)));
    tool
}

/// The schema of an answer or a problem: there are clients that hold the content of an error to the schema as well.
fn or_problem(schema: &Map<String, Value>) -> Arc<Map<String, Value>> {
    let (mut answer, mut both) = (schema.clone(), Map::new());
    for shared in ["$schema", "$defs"] {
        both.extend(answer.remove(shared).map(|value| (shared.to_string(), value)));
    }
    let text = json!({"type": "string"});
    let problem = json!({
        "type": "object",
        "description": "Why nothing was done: with isError",
        "properties": {"code": text, "title": text, "detail": text, "status": {"type": "integer"}},
        "required": ["code", "title", "detail"],
    });
    both.insert("type".to_string(), json!("object"));
    both.insert("anyOf".to_string(), json!([answer, problem]));
    Arc::new(both)
}

/// `uint64` is no format of JSON Schema, and validators complain of it each time.
fn without_formats(schema: &Arc<Map<String, Value>>) -> Arc<Map<String, Value>> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, value| name != "format" || !value.as_str().is_some_and(is_of_rust));
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    fn is_of_rust(format: &str) -> bool {
        format.trim_start_matches('u').starts_with("int")
    }
    let mut schema = Value::Object((**schema).clone());
    strip(&mut schema);
    Arc::new(schema.as_object().cloned().unwrap_or_default())
}

/// Every tool.
pub(super) fn all() -> &'static [Tool] {
    static ALL: LazyLock<Vec<Tool>> = LazyLock::new(list);
    &ALL
}

fn list() -> Vec<Tool> {
    use Effect::{Adds, Ends, Reads, Sets};
    vec![
        tool::<Create, TimerOut>(
            "timer_create",
            "Make a durable timer: once (after, at) or again and again (every, cron)",
            Adds,
        ),
        tool::<One, TimerOut>(
            "timer_wait",
            "Wait until a timer fires or ends: as a task, or with progress",
            Reads,
        ),
        tool::<Reschedule, TimerOut>("timer_reschedule", "Move the next fire of a timer", Adds),
        tool::<Because, TimerOut>("timer_cancel", "Cancel one timer", Ends),
        tool::<CancelMany, CancelManyOut>(
            "timers_cancel",
            "Cancel every timer that a filter finds, after a confirmation",
            Ends,
        ),
        tool::<List, TimersOut>("timer_list", "List timers, page by page", Reads),
        tool::<One, TimerOut>("timer_get", "A timer as it stands", Reads),
        tool::<History, HistoryOut>("timer_history", "What became of each occurrence of a timer", Reads),
        tool::<One, Explanation>(
            "timer_explain",
            "Why a timer fired late, or not at all: causes with their evidence",
            Reads,
        ),
        tool::<Because, TimerOut>("timer_pause", "Stop a timer from firing until it is resumed", Sets),
        tool::<One, TimerOut>("timer_resume", "Let a paused timer go on", Sets),
        tool::<One, TimerOut>("timer_fire", "Fire a timer now, beside its schedule", Adds),
        tool::<OldCreate, TimerOut>(
            "create_timer",
            "Create a timer (as before; timer_create can do more)",
            Adds,
        ),
        tool::<OldOne, TimerOut>("get_timer", "Get a timer (as before; see timer_get)", Reads),
        tool::<OldList, TimersOut>("list_timers", "List timers (as before; see timer_list)", Reads),
        tool::<OldOne, TimerOut>("delete_timer", "Cancel a timer (as before; see timer_cancel)", Ends),
        tool::<QuickWait, TimerOut>("quick_wait", "Create a timer and wait for it", Adds),
        tool::<Broadcast, TimerOut>(
            "broadcast_to_team",
            "Leave a message for a team: a timer with its label that fires at once",
            Adds,
        ),
        tool::<Coordinate, TimersOut>(
            "agent_coordination_session",
            "One timer for each agent, labelled with the session",
            Adds,
        ),
        tool::<Nothing, HealthOut>(
            "check_api_health",
            "Whether the service answers, its version and clock",
            Reads,
        ),
    ]
}

/// Ids are checked before they become part of a path.
pub(super) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn path_of(id: &str) -> String {
    // What is no id names no timer, and the service says so in its own words.
    format!("/v1/timers/{}", if is_id(id) { id } else { "not-an-id" })
}

/// A timer as it stands.
pub(super) async fn read(backend: &Backend, who: &Who, id: &str) -> Result<Value, Refused> {
    backend.ask(who, Method::GET, &path_of(id), None).await
}

/// One verb on one timer.
pub(super) async fn change(
    backend: &Backend,
    who: &Who,
    id: &str,
    verb: &str,
    body: Value,
) -> Result<Value, Refused> {
    backend.ask(who, Method::POST, &format!("{}/{verb}", path_of(id)), Some(body)).await
}

fn arguments<T: DeserializeOwned>(value: Value) -> Result<T, Refused> {
    serde_json::from_value(value)
        .map_err(|e| refused("invalid_arguments", format!("{e}: the tool's input schema says what it takes")))
}

/// "5m", or a number of milliseconds.
fn duration(value: &Value) -> Result<String, Refused> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(ms) if ms.as_u64().is_some() => Ok(format!("{ms}ms")),
        other => Err(refused(
            "invalid_arguments",
            format!("duration is {other}: write \"30s\", \"5m\" or a whole number of milliseconds"),
        )),
    }
}

fn reason(reason: Option<String>) -> Value {
    reason.map_or_else(|| json!({}), |r| json!({"reason": r}))
}

fn without_nulls(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, v| !v.is_null());
    }
    body
}

fn list_path(pairs: &[(&str, Option<String>)], labels: impl IntoIterator<Item = (String, String)>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    for (key, value) in labels {
        query.append_pair("label", &format!("{key}:{value}"));
    }
    format!("/v1/timers?{}", query.finish())
}

/// Carries a call out.
pub(super) async fn call(
    server: &Server,
    name: &str,
    given: Value,
    context: &RequestContext<RoleServer>,
    answers: &Answers,
) -> Result<Done, Refused> {
    let backend = &server.backend;
    let who = &Who::of(context);
    let get = |path: String| async move { backend.ask(who, Method::GET, &path, None).await };
    let create = |body: Value| async move {
        backend.ask(who, Method::POST, "/v1/timers", Some(without_nulls(body))).await
    };
    let answer = match name {
        "timer_create" => {
            let asked: Create = arguments(given)?;
            if asked.actions.iter().any(|a| a.kind == "command") {
                let said = format!(
                    "The timer {:?} will run a command on the service's machine. Create it?",
                    asked.name
                );
                let consent = confirm(context, said, "yes", asked.confirm.as_deref(), answers).await?;
                if let Consent::Ask(question) = consent {
                    return Ok(Done::Ask(question));
                }
            }
            create(json!(asked)).await?
        }
        "timer_wait" => {
            let One { id } = arguments(given)?;
            return wait(server, read(backend, who, &id).await?, context).await;
        }
        "timer_reschedule" => {
            let asked: Reschedule = arguments(given)?;
            change(backend, who, &asked.id, "reschedule", json!(asked)).await?
        }
        "timer_cancel" | "timer_pause" => {
            let asked: Because = arguments(given)?;
            let verb = name.trim_start_matches("timer_");
            change(backend, who, &asked.id, verb, reason(asked.reason)).await?
        }
        "timer_resume" | "timer_fire" => {
            let One { id } = arguments(given)?;
            change(backend, who, &id, name.trim_start_matches("timer_"), json!({})).await?
        }
        "timers_cancel" => return cancel_many(backend, who, arguments(given)?, context, answers).await,
        "timer_list" => {
            let a: List = arguments(given)?;
            let limit = a.limit.map(|n| n.to_string());
            let pairs = [
                ("state", a.state),
                ("agent", a.agent),
                ("team", a.team),
                ("limit", limit),
                ("cursor", a.cursor),
            ];
            get(list_path(&pairs, a.labels)).await?
        }
        "list_timers" => {
            let a: OldList = arguments(given)?;
            let state = a.status.map(|status| states_of(&status));
            get(list_path(&[("state", state), ("agent", a.agent_id), ("team", a.team)], [])).await?
        }
        "timer_get" => {
            let One { id } = arguments(given)?;
            read(backend, who, &id).await?
        }
        "get_timer" => {
            let OldOne { timer_id } = arguments(given)?;
            read(backend, who, &timer_id).await?
        }
        "delete_timer" => {
            let OldOne { timer_id } = arguments(given)?;
            change(backend, who, &timer_id, "cancel", json!({})).await?
        }
        "timer_history" => {
            let a: History = arguments(given)?;
            let pairs = [("limit", a.limit.map(|n| n.to_string())), ("after", a.after)];
            let query = list_path(&pairs, []);
            get(query.replacen("/v1/timers", &format!("{}/history", path_of(&a.id)), 1)).await?
        }
        "timer_explain" => {
            let One { id } = arguments(given)?;
            json!(explain(&facts(backend, who, &id).await?))
        }
        "create_timer" => {
            let a: OldCreate = arguments(given)?;
            let mut metadata = a.metadata.unwrap_or_default();
            if let Some(message) = a.message {
                metadata.insert("message".to_string(), message.into());
            }
            let actions = a
                .webhook
                .map(|url| json!([{"id": "webhook", "kind": "webhook", "parameters": {"url": url}}]));
            let metadata = if metadata.is_empty() { Value::Null } else { Value::Object(metadata) };
            create(json!({
                "name": a.name, "after": duration(&a.duration)?, "agent": a.agent_id, "team": a.team,
                "metadata": metadata, "actions": actions,
            }))
            .await?
        }
        "quick_wait" => {
            let a: QuickWait = arguments(given)?;
            let name = a.name.unwrap_or_else(|| "quick wait".to_string());
            let body = json!({"name": name, "after": duration(&a.duration)?, "agent": a.agent_id});
            return wait(server, create(body).await?, context).await;
        }
        "broadcast_to_team" => {
            let a: Broadcast = arguments(given)?;
            create(json!({
                "name": format!("broadcast to {}", a.team), "after": "1ms", "team": a.team,
                "metadata": {"message": a.message, "data": a.data},
            }))
            .await?
        }
        "agent_coordination_session" => coordinate(backend, who, arguments(given)?).await?,
        "check_api_health" => {
            let Nothing {} = arguments(given)?;
            let status = get("/v1/status".to_string()).await?;
            let mut answer = status;
            answer["status"] = json!("ok");
            answer
        }
        _ => return Err(refused(UNKNOWN_TOOL, name)),
    };
    Ok(Done::Answer(answer))
}

async fn wait(server: &Server, timer: Value, context: &RequestContext<RoleServer>) -> Result<Done, Refused> {
    if context.client_capabilities().is_some_and(|c| c.supports_tasks()) {
        return Ok(Done::Task(timer));
    }
    let id = timer["id"].as_str().unwrap_or_default().to_string();
    match server.wait(timer, context).await? {
        Some(timer) => Ok(Done::Answer(timer)),
        None => Err(refused("wait_cancelled", format!("the wait was given up; the timer {id} goes on"))),
    }
}

async fn coordinate(backend: &Backend, who: &Who, asked: Coordinate) -> Result<Value, Refused> {
    if asked.agents.is_empty() || asked.agents.len() > 100 {
        return Err(refused("invalid_arguments", "name 1 to 100 agents"));
    }
    let is_sequential = asked.workflow.as_deref() == Some("sequential");
    let definitions = asked.agents.iter().enumerate().map(|(n, agent)| {
        json!({
            "name": format!("{}: {agent}", asked.session_name),
            "after": if is_sequential { format!("{}s", n + 1) } else { "1s".to_string() },
            "agent": agent,
            "labels": {"session": asked.session_name},
            "metadata": {"workflow": asked.workflow},
        })
    });
    let body = json!({"timers": definitions.collect::<Vec<_>>()});
    let answer = backend.ask(who, Method::POST, "/v1/timers/batch", Some(body)).await?;
    let results = answer["results"].as_array().cloned().unwrap_or_default();
    if let Some(refused) = results.iter().find(|r| !r["error"].is_null()) {
        return Err(refused["error"].clone());
    }
    let timers: Vec<_> = results.into_iter().map(|mut r| r["timer"].take()).collect();
    Ok(json!({"timers": timers, "next_cursor": null}))
}

/// The states that a status of the server before this one stands for.
fn states_of(status: &str) -> String {
    match status {
        "running" => "waiting,scheduled,paused,firing".to_string(),
        "expired" => "completed,expired".to_string(),
        "error" => "failed".to_string(),
        other => other.to_string(),
    }
}

/// How many pages of history an explanation reads, of 1000 lines each.
const EXPLAINED_PAGES: usize = 5;

/// What is known of a timer, for an explanation.
async fn facts(backend: &Backend, who: &Who, id: &str) -> Result<Facts, Refused> {
    let timer = read(backend, who, id).await?;
    let (mut history, mut after) = (Vec::new(), None);
    for _ in 0..EXPLAINED_PAGES {
        let query = list_path(&[("limit", Some("1000".to_string())), ("after", after.take())], []);
        let path = query.replacen("/v1/timers", &format!("{}/history", path_of(id)), 1);
        // Who may not read the history gets what the timer itself says.
        let Ok(mut page) = backend.ask(who, Method::GET, &path, None).await else { break };
        if let Some(entries) = page["entries"].as_array_mut() {
            history.append(entries);
        }
        after = page["next_after"].as_str().map(str::to_string);
        if after.is_none() {
            break;
        }
    }
    let is_whole = after.is_none();
    let more = |path: &'static str| async move {
        backend.ask(who, Method::GET, path, None).await.unwrap_or_default()
    };
    let (status, usage) = (more("/v1/status").await, more("/v1/usage").await);
    Ok(Facts { timer, history, is_whole, status, usage, now_ns: chronotick::os_clock::realtime().as_ns() })
}

/// The filter in words, for the user who is asked.
fn filter_words(asked: &CancelMany, labels: &BTreeMap<String, String>) -> String {
    let mut words: Vec<_> = labels.iter().map(|(name, value)| format!("{name} {value:?}")).collect();
    words.extend(asked.state.as_ref().map(|state| format!("state {state:?}")));
    if words.is_empty() { "all that there are".to_string() } else { words.join(", ") }
}

async fn cancel_many(
    backend: &Backend,
    who: &Who,
    asked: CancelMany,
    context: &RequestContext<RoleServer>,
    answers: &Answers,
) -> Result<Done, Refused> {
    let mut labels = asked.labels.clone();
    labels.extend(asked.agent.clone().map(|a| ("agent".to_string(), a)));
    labels.extend(asked.team.clone().map(|t| ("team".to_string(), t)));
    // Those that have ended are found by a filter as well, but cannot be cancelled: only what can end is counted.
    let (mut matches, mut cursor) = (0_u64, None);
    loop {
        let pairs = [("state", asked.state.clone()), ("limit", Some("1000".to_string())), ("cursor", cursor)];
        let page = backend.ask(who, Method::GET, &list_path(&pairs, labels.clone()), None).await?;
        let open = page["timers"].as_array().into_iter().flatten().filter(|t| t["ended_at"].is_null());
        matches += u64::try_from(open.count()).unwrap_or(u64::MAX);
        cursor = page["next_cursor"].as_str().map(str::to_string);
        if cursor.is_none() {
            break;
        }
    }
    let answer = |cancelled: u64, needs_confirmation: bool, next: Option<String>| {
        let note = (cancelled != matches && !needs_confirmation).then(|| changed_between(matches, cancelled));
        Ok(Done::Answer(json!({
            "matches": matches, "cancelled": cancelled, "needs_confirmation": needs_confirmation,
            "note": note, "next": next,
        })))
    };
    if matches == 0 {
        return answer(0, false, None);
    }
    let said = format!("Cancel {matches} timers ({})?", filter_words(&asked, &labels));
    match confirm(context, said, &matches.to_string(), asked.confirm.as_deref(), answers).await {
        Ok(Consent::Given) => {}
        Ok(Consent::Ask(question)) => return Ok(Done::Ask(question)),
        Err(problem) if problem["code"] == NEEDS_CONFIRMATION => {
            let next = format!("ask the user, then call again with confirm: \"{matches}\" to cancel them");
            return answer(0, true, Some(next));
        }
        Err(problem) => return Err(problem),
    }
    let filter = without_nulls(json!({"state": asked.state, "labels": labels}));
    let body = without_nulls(json!({"filter": filter, "reason": asked.reason}));
    let done = backend.ask(who, Method::POST, "/v1/timers/batch/cancel", Some(body)).await?;
    answer(done["changed"].as_u64().unwrap_or(0), false, None)
}

/// Why another number was cancelled than was agreed on.
fn changed_between(matches: u64, cancelled: u64) -> String {
    let what = if cancelled > matches {
        format!("at least {} more came in between, and were cancelled with them", cancelled - matches)
    } else {
        format!(
            "at least {} had ended in between, or may not be cancelled by this caller",
            matches - cancelled
        )
    };
    format!("the filter found {matches} when they were counted, and {cancelled} were cancelled: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tools_have_names_of_their_own_and_schemas_of_objects() {
        let tools = all();
        let names: BTreeSet<_> = tools.iter().map(|t| t.name.clone()).collect();
        assert_eq!((tools.len(), names.len()), (20, 20));
        for tool in tools {
            let output = tool.output_schema.as_ref().expect("every tool has one");
            let text = format!("{}{}", json!(output), json!(tool.input_schema));
            assert!(!text.contains("int64") && !text.contains("int32"), "{text}");
            assert_eq!(output["type"], "object", "{}", tool.name);
            assert_eq!(tool.input_schema["type"], "object", "{}", tool.name);
            assert!(tool.annotations.is_some(), "{}", tool.name);
        }
    }

    #[test]
    fn what_is_no_id_stays_out_of_the_path() {
        assert_eq!(path_of("0190-a"), "/v1/timers/0190-a");
        for bad in ["", "../keys", "a/b", "a?b", "a b", "%2e"] {
            assert_eq!(path_of(bad), "/v1/timers/not-an-id", "{bad:?}");
        }
    }

    #[test]
    fn what_changed_between_counting_and_cancelling_is_told() {
        assert!(changed_between(3, 5).contains("at least 2 more came in between"));
        assert!(changed_between(3, 1).contains("at least 2 had ended in between"));
    }

    #[test]
    fn durations_are_text_or_milliseconds() {
        assert_eq!(duration(&json!("5m")), Ok("5m".to_string()));
        assert_eq!(duration(&json!(1500)), Ok("1500ms".to_string()));
        assert!(duration(&json!(-1)).is_err() && duration(&json!([])).is_err());
    }
}
