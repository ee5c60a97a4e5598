//! A small client of the timer service's REST interface.

use reqwest::blocking::{Client, Response};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::sync::OnceLock;
use std::time::Duration;

/// So long does a test wait for an answer before it calls the service hung.
const HUNG: Duration = Duration::from_secs(60);

/// A client of one service. All clients of a process share their connections.
#[derive(Clone, Debug)]
pub struct Http {
    url: String,
    client: Client,
}

/// What the service answered.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, `null` when it is not JSON.
    pub body: Value,
}

impl Answer {
    /// A field of the body that is a text, empty when it is not there.
    pub fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

impl Http {
    /// A client of the service at `url`.
    ///
    /// # Panics
    /// When the process can have no client.
    pub fn new(url: &str) -> Self {
        static CLIENT: OnceLock<Client> = OnceLock::new();
        let client = CLIENT.get_or_init(|| {
            Client::builder().no_proxy().timeout(None).build().expect("a client without TLS needs nothing")
        });
        Self { url: url.to_owned(), client: client.clone() }
    }

    /// `POST /v1/timers`; an error when no answer came, which says nothing about whether the timer was made.
    pub fn try_create(&self, body: &Value) -> Result<Answer, reqwest::Error> {
        let url = format!("{}/v1/timers", self.url);
        let request = self.client.post(url).header("content-type", "application/json");
        request.timeout(HUNG).body(body.to_string()).send().and_then(answer)
    }

    /// `POST /v1/timers`.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn create(&self, body: &Value) -> Answer {
        self.try_create(body).expect("the service answers")
    }

    /// `GET` of a path.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn get(&self, path: &str) -> Answer {
        let request = self.client.get(format!("{}{path}", self.url)).timeout(HUNG);
        request.send().and_then(answer).expect("the service answers")
    }

    /// Every timer there is, page by page.
    ///
    /// # Panics
    /// When a page is not what it should be.
    pub fn timers(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut path = "/v1/timers?limit=1000".to_owned();
        loop {
            let page = self.get(&path);
            all.extend(page.body["timers"].as_array().expect("a list of timers").iter().cloned());
            match page.body["next_cursor"].as_str() {
                Some(cursor) => path = format!("/v1/timers?limit=1000&cursor={cursor}"),
                None => return all,
            }
        }
    }

    /// Reads the stream of events from the beginning to the one with the sequence `last`.
    ///
    /// # Panics
    /// When the stream ends before.
    pub fn events(&self, last: u64) -> Vec<Value> {
        let request = self.client.get(format!("{}/v1/events", self.url)).header("last-event-id", "0");
        let stream = BufReader::new(request.timeout(HUNG).send().expect("the service answers"));
        let mut events = Vec::new();
        for line in stream.lines() {
            let line = line.expect("the stream goes on");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event: Value = serde_json::from_str(data).expect("an event is JSON");
            let sequence = event["sequence"].as_u64();
            events.push(event);
            if sequence >= Some(last) {
                return events;
            }
        }
        panic!("the stream ended after {} events, before number {last}", events.len());
    }
}

fn answer(response: Response) -> Result<Answer, reqwest::Error> {
    let status = response.status().as_u16();
    let body = response.text()?;
    Ok(Answer { status, body: serde_json::from_str(&body).unwrap_or_default() })
}

/// Unix nanoseconds of an RFC 3339 text.
///
/// # Panics
/// When it is none.
pub fn unix_ns(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_default();
    let time: jiff::Timestamp = text.parse().unwrap_or_else(|e| panic!("{text:?} is no time: {e}"));
    time.as_nanosecond().try_into().expect("a time of our days")
}
