//! Following what happens to some timers, over the ends of the event stream: it is opened again where it was.

use super::backend::{Backend, Events, Refused};
use super::who::Who;
use std::time::Duration;

/// The first wait before the stream is opened again; each further one is twice as long.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Follows some timers of one caller.
pub(super) struct Follow {
    backend: Backend,
    who: Who,
    ids: Vec<String>,
    events: Option<Events>,
    /// The place that has been reached.
    after: Option<String>,
    again: Duration,
    /// The stream ended, or could not be opened: a service that stops ends each one at once.
    has_ended: bool,
}

impl Follow {
    /// From now on. An error when the events are not open to the caller, or the service is not reached.
    pub(super) async fn open(backend: Backend, who: Who, ids: Vec<String>) -> Result<Self, Refused> {
        let events = backend.events(&who, &ids, None).await?;
        Ok(Self {
            backend,
            who,
            ids,
            events: Some(events),
            after: None,
            again: AGAIN_FIRST,
            has_ended: false,
        })
    }

    /// Follows these from the place on that has been reached.
    pub(super) fn change(&mut self, ids: Vec<String>) {
        self.ids = ids;
        self.events = None;
    }

    /// Waits until something has happened to some of them, or may have. An error when the caller may not know any more.
    /// Nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self) -> Result<Vec<String>, Refused> {
        loop {
            if let Some(events) = &mut self.events {
                let Some(message) = events.next().await else {
                    (self.events, self.has_ended) = (None, true);
                    continue;
                };
                self.after = message.cursor.or(self.after.take());
                if message.is_end {
                    (self.events, self.has_ended) = (None, true);
                }
                if let Some(id) = message.timer {
                    self.again = AGAIN_FIRST;
                    return Ok(vec![id]);
                }
            } else if let Some(changed) = self.reopen().await? {
                return Ok(changed);
            }
        }
    }

    /// Opens the stream again, some time after it ended. Where the place is not known, anything may have happened to all
    /// of them.
    async fn reopen(&mut self) -> Result<Option<Vec<String>>, Refused> {
        if self.has_ended {
            let _ = tokio::time::timeout(self.again, std::future::pending::<()>()).await;
            self.again = (self.again * 2).min(AGAIN_MAX);
            self.has_ended = false;
        }
        match self.backend.events(&self.who, &self.ids, self.after.as_deref()).await {
            Ok(events) => {
                self.events = Some(events);
                return Ok(self.after.is_none().then(|| self.ids.clone()));
            }
            Err(problem) if problem["code"] == "events_gone" => self.after = None,
            Err(problem) if is_final(&problem) => return Err(problem),
            Err(_) => self.has_ended = true,
        }
        Ok(None)
    }
}

/// Whether asking again would not help.
fn is_final(problem: &Refused) -> bool {
    problem["status"].as_u64().is_some_and(|status| (400..500).contains(&status) && status != 429)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::backend::refused;
    use axum::Router;
    use axum::extract::State;
    use axum::http::{StatusCode, Uri};
    use axum::response::{IntoResponse, Response};
    use serde_json::json;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    type Script = Arc<Mutex<(VecDeque<(u16, &'static str)>, Vec<String>)>>;

    /// A service whose streams say what a script says, and that notes what it is asked for.
    fn scripted(answers: &[(u16, &'static str)]) -> (Backend, Script) {
        async fn answer(State(script): State<Script>, uri: Uri) -> Response {
            let mut script = script.lock().unwrap();
            script.1.push(uri.query().unwrap_or_default().to_string());
            let (status, text) = script.0.pop_front().expect("no more was expected");
            (StatusCode::from_u16(status).unwrap(), text).into_response()
        }
        let script: Script = Arc::new(Mutex::new((answers.iter().copied().collect(), Vec::new())));
        (Backend::Inside(Router::new().fallback(answer).with_state(script.clone())), script)
    }

    async fn open(backend: Backend, ids: &[&str]) -> Follow {
        let ids = ids.iter().map(|id| id.to_string()).collect();
        Follow::open(backend, Who::default(), ids).await.ok().unwrap()
    }

    #[tokio::test]
    async fn a_stream_that_ends_is_opened_again_where_it_was() {
        let (backend, script) = scripted(&[
            (200, ":place\nid: 3\n\nid: 4\ndata: {\"timer_id\":\"a\"}\n\n"),
            (503, r#"{"status": 503, "code": "shutting_down"}"#),
            (429, r#"{"status": 429, "code": "quota_exceeded"}"#),
            (200, "id: 6\nevent: end\ndata: {}\n\n"),
            (200, "id: 8\ndata: {\"timer_id\":\"b\"}\n\n"),
            (401, r#"{"status": 401, "code": "unauthenticated"}"#),
        ]);
        let mut follow = open(backend, &["a", "b"]).await;
        assert_eq!(follow.next().await, Ok(vec!["a".to_string()]));
        assert_eq!(follow.next().await, Ok(vec!["b".to_string()]));
        assert_eq!(follow.next().await.unwrap_err()["code"], "unauthenticated");
        let asked = script.lock().unwrap().1.clone();
        let after: Vec<_> = asked.iter().map(|q| q.strip_prefix("timer=a%2Cb").unwrap()).collect();
        assert_eq!(after, ["", "&after=4", "&after=4", "&after=4", "&after=6", "&after=8"]);
    }

    #[tokio::test]
    async fn where_the_place_is_gone_everything_may_have_happened() {
        let (backend, _script) = scripted(&[
            (200, "id: 3\n\n"),
            (410, r#"{"status": 410, "code": "events_gone"}"#),
            (200, "id: 900\ndata: {\"timer_id\":\"b\"}\n\n"),
        ]);
        let mut follow = open(backend, &["a", "b"]).await;
        assert_eq!(follow.next().await, Ok(vec!["a".to_string(), "b".to_string()]));
        assert_eq!(follow.next().await, Ok(vec!["b".to_string()]));
    }

    #[tokio::test]
    async fn others_are_followed_from_the_place_on_that_was_reached() {
        let (backend, script) = scripted(&[
            (200, "id: 3\ndata: {\"timer_id\":\"a\"}\n\n"),
            (200, "id: 4\ndata: {\"timer_id\":\"c\"}\n\n"),
        ]);
        let mut follow = open(backend, &["a"]).await;
        assert_eq!(follow.next().await, Ok(vec!["a".to_string()]));
        follow.change(vec!["a".into(), "c".into()]);
        assert_eq!(follow.next().await, Ok(vec!["c".to_string()]));
        assert_eq!(script.lock().unwrap().1[1], "timer=a%2Cc&after=3");
    }

    #[test]
    fn what_passes_is_tried_again() {
        for (problem, want) in [
            (json!({"status": 401}), true),
            (json!({"status": 403}), true),
            (json!({"status": 404}), true),
            (json!({"status": 429}), false),
            (json!({"status": 503}), false),
            (refused("service_unreachable", "no"), false),
        ] {
            assert_eq!(is_final(&problem), want, "{problem}");
        }
    }
}
