//! Kill -9 in a loop under load, on the real program over HTTP: no acknowledged timer is lost, each fires once.
//!
//! Workers create timers over several connections and ask again, with the same idempotency key, whenever an answer was
//! lost with its process. In the end the list of timers, the whole stream of events, and what the receiver of the
//! webhooks saw are compared with what was acknowledged.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use chronotick_core::Span;
use e2e::http::unix_ns;
use e2e::random::seed;
use e2e::timer_service::Starting;
use e2e::{ClockDaemon, Http, LiarConfig, NtpLiar, Random, TimerService, WebhookSink, eventually, pause};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const KILLS: u64 = 200;
const ACKNOWLEDGED: u64 = 20_000;
const CONNECTIONS: u64 = 12;
/// Timers that one life of the service is given.
const LOAD: u64 = 200;
/// Timers fall due up to this long after their creation: some in the same life, most in later ones.
const DUE_WITHIN_MS: u64 = 3_000;
/// One timer in so many calls a webhook.
const WEBHOOK_ONE_IN: u64 = 16;
/// So long may a service take for its load before it is called hung.
const HUNG: Span = Span::from_secs(60);

/// What the workers see of the service that is alive at the moment.
#[derive(Default)]
struct Life {
    /// Counts the lives.
    number: u64,
    url: Option<String>,
    /// How many timers may be asked for so far.
    limit: u64,
    /// How many have been taken by a worker.
    taken: u64,
}

#[derive(Default)]
struct Shared {
    life: Mutex<Life>,
    changed: Condvar,
}

/// An acknowledged create.
struct Acknowledged {
    key: String,
    id: String,
    due_ns: i64,
    has_webhook: bool,
    /// True when an answer had been lost and the service knew the key.
    replayed: bool,
}

impl Shared {
    /// Takes the number of the next timer; waits until one more is allowed.
    fn take(&self) -> u64 {
        let mut life = self.changed.wait_while(self.life.lock().unwrap(), |l| l.taken >= l.limit).unwrap();
        life.taken += 1;
        life.taken
    }

    /// The service of a life after number `seen`.
    fn service_after(&self, seen: u64) -> (u64, Http) {
        let unfit = |l: &mut Life| l.number <= seen || l.url.is_none();
        let life = self.changed.wait_while(self.life.lock().unwrap(), unfit).unwrap();
        (life.number, Http::new(life.url.as_ref().unwrap()))
    }

    fn change(&self, change: impl FnOnce(&mut Life)) {
        change(&mut self.life.lock().unwrap());
        self.changed.notify_all();
    }
}

/// Creates timers as long as the test runs; each until it is acknowledged.
fn work(shared: &Shared, mut random: Random, webhook: &str, acknowledged: &Sender<Acknowledged>) {
    let (mut number, mut http) = shared.service_after(0);
    loop {
        let key = format!("timer-{}", shared.take());
        let has_webhook = random.below(WEBHOOK_ONE_IN) == 0;
        let action = json!({"id": "call", "kind": "webhook", "parameters": {"url": webhook}});
        let body = json!({
            "name": "survivor",
            "after": format!("{}ms", random.below(DUE_WITHIN_MS)),
            "idempotency_key": key,
            "actions": if has_webhook { vec![action] } else { vec![] },
        });
        let answer = loop {
            match http.try_create(&body) {
                Ok(answer) => break answer,
                Err(_killed) => (number, http) = shared.service_after(number),
            }
        };
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        let id = answer.text("id").to_owned();
        let due_ns = unix_ns(&answer.body["due_at"]);
        let replayed = answer.status == 200;
        if acknowledged.send(Acknowledged { key, id, due_ns, has_webhook, replayed }).is_err() {
            return;
        }
    }
}

/// Waits for `count` acknowledgements.
fn collect(from: &Receiver<Acknowledged>, count: u64, all: &mut Vec<Acknowledged>) {
    for _ in 0..count {
        // No worker ends by itself, so this is a service that hangs or a worker that panicked.
        all.push(from.recv_timeout(HUNG.to_duration()).expect("the service acknowledges"));
    }
}

#[test]
fn two_hundred_kills_lose_nothing() {
    let mut random = Random::from_seed(seed());
    let dir = tempfile::tempdir().unwrap();
    let liar = NtpLiar::start(LiarConfig { offset_ns: 250_000_000, ..LiarConfig::default() }).unwrap();
    let daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
    daemon.wait_for_line("-> synchronized");
    let data = dir.path().join("data");
    let sink = WebhookSink::start().unwrap();
    let shared = Arc::new(Shared::default());
    let (sender, acknowledgements) = channel();
    for _ in 0..CONNECTIONS {
        let (shared, sender, webhook) = (shared.clone(), sender.clone(), sink.url());
        let random = Random::from_seed(random.below(u64::MAX));
        std::thread::spawn(move || work(&shared, random, &webhook, &sender));
    }
    drop(sender);

    let mut acknowledged = Vec::new();
    let mut kills = 0;
    while kills < KILLS || (acknowledged.len() as u64) < ACKNOWLEDGED {
        kills += 1;
        let starting = Starting::spawn(&data, daemon.page());
        let kind = random.below(8);
        if kind == 0 {
            // Early: while it recovers, or hardly has.
            pause(Duration::from_millis(random.below(100)));
            starting.kill();
            continue;
        }
        let service = starting.ready();
        shared.change(|life| {
            life.number += 1;
            life.url = Some(service.url().to_owned());
            life.limit = acknowledged.len() as u64 + LOAD;
        });
        // Mostly in the middle of the load, now and then when it only fires.
        let wanted = if kind == 1 { LOAD } else { 1 + random.below(LOAD) };
        collect(&acknowledgements, wanted, &mut acknowledged);
        if kind == 1 {
            pause(Duration::from_millis(random.below(300)));
        }
        service.kill();
        shared.change(|life| life.url = None);
        acknowledged.extend(acknowledgements.try_iter());
    }

    // The last life: what was asked for and not acknowledged is asked for again, and everything ends.
    let service = TimerService::start(&data, daemon.page());
    let mut limit = 0;
    shared.change(|life| {
        life.number += 1;
        life.url = Some(service.url().to_owned());
        limit = life.limit;
    });
    let missing = limit - acknowledged.len() as u64;
    collect(&acknowledgements, missing, &mut acknowledged);
    check_outcome(&service.http(), &sink, &acknowledged);
    let replayed = acknowledged.iter().filter(|a| a.replayed).count();
    println!(
        "{kills} kills, {} creates acknowledged, {replayed} of them only when asked for again, {} webhooks",
        acknowledged.len(),
        sink.deliveries().len()
    );
}

/// Every acknowledged timer is there, completed, fired once in the log, and its webhook arrived with its one key.
fn check_outcome(http: &Http, sink: &WebhookSink, acknowledged: &[Acknowledged]) {
    let status = eventually("all timers to end", || {
        let status = http.get("/v1/status").body;
        let is_over = ["scheduled", "firing"].iter().all(|state| status["timers"][state] == 0);
        is_over.then_some(status)
    });
    let timers: BTreeMap<String, Value> =
        http.timers().into_iter().map(|t| (t["id"].as_str().unwrap().to_owned(), t)).collect();
    let ids: BTreeSet<&str> = acknowledged.iter().map(|a| a.id.as_str()).collect();
    assert_eq!(ids.len(), acknowledged.len(), "two creates were answered with one timer");
    // A lost answer and its repeat are one timer: the keys see to that.
    assert_eq!(timers.keys().map(String::as_str).collect::<BTreeSet<_>>(), ids);
    for a in acknowledged {
        let timer = &timers[&a.id];
        assert_eq!(timer["state"], "completed", "{timer}");
        assert_eq!(timer["idempotency_key"], a.key, "{timer}");
        assert_eq!(unix_ns(&timer["due_at"]), a.due_ns, "{timer}");
    }

    let events = http.events(status["last_sequence"].as_u64().unwrap());
    let sequences: Vec<u64> = events.iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.iter().copied().eq(1..=events.len() as u64), "the stream has gaps");
    for kind in ["timer.scheduled", "timer.fired", "timer.completed"] {
        let mut count: BTreeMap<&str, u64> = ids.iter().map(|id| (*id, 0)).collect();
        for event in events.iter().filter(|e| e["type"] == kind) {
            *count.get_mut(event["timer_id"].as_str().unwrap()).unwrap() += 1;
        }
        let wrong: Vec<_> = count.iter().filter(|(_, n)| **n != 1).collect();
        assert!(wrong.is_empty(), "not once {kind}: {wrong:?}");
    }
    assert_eq!(events.len(), 3 * ids.len(), "something else happened");

    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for delivery in sink.deliveries() {
        keys.entry(delivery.timer).or_default().insert(delivery.key);
    }
    let wanted: BTreeMap<String, BTreeSet<String>> = acknowledged
        .iter()
        .filter(|a| a.has_webhook)
        .map(|a| (a.id.clone(), BTreeSet::from([format!("{}:{}/call", a.id, a.due_ns)])))
        .collect();
    assert!(!wanted.is_empty());
    assert_eq!(keys, wanted, "webhooks that arrived, with their keys");
}
