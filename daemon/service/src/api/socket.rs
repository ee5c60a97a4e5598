//! The live stream of events over WebSocket. docs/api/streams.md is the protocol.

use super::body::{self, Object};
use super::error::{ApiError, INVALID_FIELD, SHUTTING_DOWN, UPGRADE_REQUIRED};
use super::events::Asked;
use super::watch::{EventFilter, Told, heartbeat};
use super::{App, feed};
use crate::access::Caller;
use crate::render;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// The largest message that a client sends.
const MESSAGE_MAX_BYTES: usize = 64 * 1024;
/// How long a client may take to say what it subscribes to.
const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);
/// How long a message may wait for the socket to take it.
const UNWRITABLE_MAX: Duration = Duration::from_secs(60);
/// How long the client has to answer the end of the stream.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// After so many heartbeats without a sign of the client it is taken to be gone.
const SILENT_HEARTBEATS_MAX: u32 = 3;
/// The close code for a place that is no longer kept; 4000 and up are the application's.
const CLOSE_GONE: u16 = 4410;

type ToldStream = BoxStream<'static, Told>;

/// What a client sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientMessage {
    r#type: String,
    after: Option<String>,
    filters: Option<Object<FiltersBody>>,
    heartbeat: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FiltersBody {
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    timers: Vec<String>,
    agent: Option<String>,
    team: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    tags: Vec<String>,
}

impl FiltersBody {
    fn filter(self) -> Result<EventFilter, ApiError> {
        let mut filter = EventFilter::default();
        self.types.iter().try_for_each(|kind| filter.add_kind(&INVALID_FIELD, kind))?;
        self.timers.iter().try_for_each(|id| filter.add_timer(id))?;
        filter.check(&INVALID_FIELD)?;
        let fixed = [("agent", self.agent), ("team", self.team)];
        for (name, value) in fixed.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            filter.add_label(&INVALID_FIELD, name, &value)?;
        }
        self.labels.iter().try_for_each(|(name, value)| filter.add_label(&INVALID_FIELD, name, value))?;
        self.tags.iter().try_for_each(|tag| filter.add_label(&INVALID_FIELD, tag, ""))?;
        Ok(filter)
    }
}

/// `GET /v1/events/ws`.
pub(super) async fn open(
    State(app): State<App>,
    caller: Caller,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    // What the address asks for is answered as an error of HTTP where it cannot be had.
    let stream = match query.0.as_deref() {
        None | Some("") => None,
        Some(_) => Some(follow(&app, &caller, Asked::read(&app, &query)?)?),
    };
    let upgrade = upgrade.map_err(|e| {
        let detail = format!(
            "{e}: open this address with a WebSocket client, or GET /v1/events for server-sent events"
        );
        ApiError::new(&UPGRADE_REQUIRED, detail)
    })?;
    Ok(upgrade
        .max_message_size(MESSAGE_MAX_BYTES)
        .max_frame_size(MESSAGE_MAX_BYTES)
        .on_upgrade(move |socket| app.streams.clone().track_future(run(socket, app, caller, stream))))
}

fn follow(app: &App, caller: &Caller, asked: Asked) -> Result<ToldStream, ApiError> {
    let Asked { after, filter, heartbeat } = asked;
    Ok(app.session(caller.clone()).follow(after.as_ref(), filter, heartbeat)?.boxed())
}

/// What happened on a socket.
enum Step {
    Said(Option<Message>),
    Told(Option<Told>),
}

/// Why a socket is closed: the last message, and the code.
struct Farewell(String, u16);

impl Farewell {
    fn of(error: &ApiError) -> Self {
        let last = serde_json::json!({"type": "error", "error": error.problem()});
        Self(last.to_string(), close_code_of(error))
    }
}

fn close_code_of(error: &ApiError) -> u16 {
    if error.code.http < 500 { close_code::POLICY } else { close_code::AWAY }
}

async fn run(mut socket: WebSocket, app: App, caller: Caller, stream: Option<ToldStream>) {
    let Err(farewell) = serve(&mut socket, &app, &caller, stream).await else { return };
    let Some(Farewell(last, code)) = farewell else { return };
    let close = async {
        socket.send(Message::text(last)).await?;
        socket.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await?;
        while socket.recv().await.is_some() {}
        Ok::<_, axum::Error>(())
    };
    // A client that is gone need not be told.
    let _ = timeout(CLOSE_WITHIN, close).await;
}

/// Until the client leaves, or with what it is to be told last.
async fn serve(
    socket: &mut WebSocket,
    app: &App,
    caller: &Caller,
    mut stream: Option<ToldStream>,
) -> Result<(), Option<Farewell>> {
    let mut silent_heartbeats = 0;
    loop {
        let step = match &mut stream {
            None => {
                let said = timeout(SUBSCRIBE_WITHIN, socket.recv());
                let said = app.shutdown.run_until_cancelled(said).await;
                let stopping =
                    || ApiError::new(&SHUTTING_DOWN, "the service stops: subscribe when it is back");
                let said = said.ok_or_else(|| Some(Farewell::of(&stopping())))?;
                let late = |_| {
                    let detail = "nothing was subscribed to within 10 s: send {\"type\":\"subscribe\"}";
                    Some(Farewell::of(&ApiError::new(&INVALID_FIELD, detail)))
                };
                Step::Said(said.map_err(late)?.and_then(Result::ok))
            }
            Some(stream) => tokio::select! {
                said = socket.recv() => Step::Said(said.and_then(Result::ok)),
                told = stream.next() => Step::Told(told),
            },
        };
        match step {
            Step::Said(None | Some(Message::Close(_))) | Step::Told(None) => return Ok(()),
            Step::Said(Some(Message::Ping(_) | Message::Pong(_))) => silent_heartbeats = 0,
            Step::Said(Some(message)) => {
                silent_heartbeats = 0;
                let subscribed = subscribe(app, caller, message.into_data().as_ref());
                stream = Some(subscribed.map_err(|e| Some(Farewell::of(&e)))?);
            }
            Step::Told(Some(told)) => {
                let is_heartbeat = matches!(told, Told::Place(_));
                let text = match &told {
                    Told::Event(event) => format!(r#"{{"type":"event","event":{}}}"#, render::event(event)),
                    Told::Lag(reached) => reached.json("lag"),
                    Told::Place(reached) => reached.json("heartbeat"),
                    Told::End(ended) => {
                        let code =
                            if ended.oldest.is_some() { CLOSE_GONE } else { close_code_of(&ended.error) };
                        return Err(Some(Farewell(ended.json().to_string(), code)));
                    }
                };
                send(socket, Message::text(text)).await?;
                if is_heartbeat {
                    silent_heartbeats += 1;
                    if silent_heartbeats > SILENT_HEARTBEATS_MAX {
                        return Ok(());
                    }
                    send(socket, Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }
}

/// A client whose socket takes nothing for long is let go.
async fn send(socket: &mut WebSocket, message: Message) -> Result<(), Option<Farewell>> {
    match timeout(UNWRITABLE_MAX, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(None),
    }
}

/// Subscribes to what a message asks for; what was subscribed to before ends.
fn subscribe(app: &App, caller: &Caller, message: &[u8]) -> Result<ToldStream, ApiError> {
    let asked: ClientMessage = body::parse(message)?;
    if asked.r#type != "subscribe" {
        let detail = format!("type is {:?}: a client sends \"subscribe\"", asked.r#type);
        return Err(ApiError::new(&INVALID_FIELD, detail));
    }
    let mut wanted = Asked::nothing();
    if let Some(text) = &asked.after {
        let place = feed::place(&app.feed, text);
        let refused = |why| ApiError::new(&INVALID_FIELD, format!("after is {text:?}: {why}"));
        wanted.after = Some(place.map_err(refused)?);
    }
    if let Some(Object(filters)) = asked.filters {
        wanted.filter = filters.filter()?;
    }
    if let Some(text) = &asked.heartbeat {
        wanted.heartbeat = heartbeat(&INVALID_FIELD, text)?;
    }
    follow(app, caller, wanted)
}
