//! Fairness between tenants where actions are carried out: a backlog of one delays nobody else, and loses nothing.

use crate::harness::{Answer, Running, Sink, config, webhook};
use minoots::access::quota::Limits;
use minoots::access::secret::{KeyText, system_random};
use minoots::config::Config;
use minoots::config::access::AuthMode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const BACKLOG: usize = 5_000;
const STEADY: usize = 20;
const PER_S: u32 = 50;

fn guarded(dir: &Path, key: &KeyText) -> Config {
    let mut config = config(dir);
    config.access.mode = AuthMode::Required;
    config.access.bootstrap_key = Some(key.clone());
    config.access.limits = Limits { fires_per_s: Some(PER_S), ..Limits::default() };
    // Far fewer than the backlog, so that most of it waits in the log.
    config.queued_fires_max = Some(1_000);
    config
}

async fn ask_as(service: &Running, operator: &str, tenant: &str, path: &str, body: Value) -> Answer {
    let request = service.client.post(format!("{}{path}", service.url)).bearer_auth(operator);
    let request = request.header("x-tenant-id", tenant).header("content-type", "application/json");
    let answer = Answer::of(request.body(body.to_string())).await;
    assert!(answer.status < 300, "{}", answer.text);
    answer
}

async fn usage(service: &Running, operator: &str, tenant: &str) -> Value {
    let request = service.client.get(format!("{}/v1/usage", service.url)).bearer_auth(operator);
    Answer::of(request.header("x-tenant-id", tenant)).await.json()
}

async fn limit(service: &Running, operator: &str, tenant: &str, per_s: u32) {
    let body = json!({"name": tenant, "limits": {"fires_per_s": per_s}});
    let made = service.ask("POST", "/v1/tenants", operator, Some(body.clone())).await;
    if made.status == 409 {
        let body = json!({"limits": body["limits"]});
        let put = service.ask("PUT", &format!("/v1/tenants/{tenant}"), operator, Some(body)).await;
        assert_eq!(put.status, 200, "{}", put.text);
    }
}

/// Takes deliveries, and counts them by their keys, until the path has so many.
async fn until(
    sink: &mut Sink,
    seen: &mut BTreeMap<String, BTreeMap<String, u32>>,
    path: &str,
    count: usize,
) {
    while seen.get(path).map_or(0, BTreeMap::len) < count {
        let delivery = sink.next().await;
        let key = delivery.header("idempotency-key").to_string();
        assert!(!key.is_empty(), "{:?}", delivery.headers);
        *seen.entry(delivery.path).or_default().entry(key).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_one_tenant_delays_no_other_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyText::random(&system_random()).unwrap();
    let operator = key.reveal().to_string();
    let mut sink = Sink::start([]).await;
    let mut seen = BTreeMap::new();
    let service = Running::whole(&guarded(dir.path(), &key)).await;
    let timer = |path: &str, after: &str| json!({"name": "t", "after": after, "actions": webhook(&format!("{}{path}", sink.url))});
    // All of the first tenant's are due at once.
    for _ in 0..BACKLOG / 500 {
        let timers = json!({"timers": vec![timer("/a", "0s"); 500]});
        ask_as(&service, &operator, "a", "/v1/timers/batch", timers).await;
    }
    let steady: Vec<_> = (1..=STEADY).map(|n| timer("/b", &format!("{}ms", 100 * n))).collect();
    ask_as(&service, &operator, "b", "/v1/timers/batch", json!({"timers": steady})).await;
    let told = usage(&service, &operator, "a").await;
    assert!(told["fires_waiting"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(
        (&told["limits"]["fires_per_s"], told["fires_left"].is_u64()),
        (&json!(PER_S), true),
        "{told}"
    );
    let began = chronotick::os_clock::boottime();
    until(&mut sink, &mut seen, "/b", STEADY).await;
    // The other tenant has all of its own while most of the backlog still waits. What the first has got meanwhile is
    // what its rate lets through, whatever this machine takes for it; a few seconds are for what came before.
    let elapsed_s = (chronotick::os_clock::boottime() - began).as_ns() / 1_000_000_000;
    let of_a = seen["/a"].len() as i64;
    println!("{of_a} of the backlog while the other tenant got its own in {elapsed_s} s");
    assert!(of_a < BACKLOG as i64 / 2, "{of_a}");
    // A stop in the middle: nothing is lost, and what has ended is not begun again.
    service.stop().await;
    let service = Running::whole(&guarded(dir.path(), &key)).await;
    limit(&service, &operator, "a", 1_000_000).await;
    until(&mut sink, &mut seen, "/a", BACKLOG).await;
    let twice = seen["/a"].values().filter(|count| **count > 1).count();
    // A clean stop waits for the attempts under way, of which there are at most eight.
    assert!(twice <= 8, "{twice} were delivered twice");
    while usage(&service, &operator, "a").await["timers_pending"] != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(usage(&service, &operator, "a").await["fires_waiting"], 0);
    let metrics = service.ask("GET", "/metrics", &operator, None).await.text;
    let count = |name: &str| -> f64 {
        let line = metrics.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{metrics}"));
        line.split(' ').next_back().unwrap().parse().unwrap()
    };
    assert_eq!(count("minoots_fires_open "), 0.0);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_says_that_a_fire_was_held_up() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyText::random(&system_random()).unwrap();
    let operator = key.reveal().to_string();
    let mut sink = Sink::start([]).await;
    let service = Running::whole(&guarded(dir.path(), &key)).await;
    // No fire at all, until it may.
    limit(&service, &operator, "a", 0).await;
    let timer = json!({"name": "t", "after": "0s", "actions": webhook(&sink.url)});
    let made = ask_as(&service, &operator, "a", "/v1/timers", timer).await.json();
    while usage(&service, &operator, "a").await["fires_waiting"] != 1 {
        tokio::task::yield_now().await;
    }
    limit(&service, &operator, "a", 5).await;
    sink.next().await;
    let path = format!("{}/v1/timers/{}", service.url, made["id"].as_str().unwrap());
    let text = loop {
        let request = service.client.get(&path).bearer_auth(&operator).header("x-tenant-id", "a");
        let answer = Answer::of(request).await;
        if answer.json()["state"] == "completed" {
            break answer.text;
        }
        tokio::task::yield_now().await;
    };
    assert!(text.contains("throttled: waited "), "{text}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_of_one_tenant_that_hang_hold_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyText::random(&system_random()).unwrap();
    let operator = key.reveal().to_string();
    let hung = Sink::held([]).await;
    let mut sink = Sink::start([]).await;
    let mut config = guarded(dir.path(), &key);
    config.access.limits = Limits::default();
    let service = Running::whole(&config).await;
    let timer = |url: &str| json!({"name": "t", "after": "0s", "actions": webhook(url)});
    let timers = json!({"timers": vec![timer(&hung.url); 100]});
    ask_as(&service, &operator, "a", "/v1/timers/batch", timers).await;
    let timers = json!({"timers": vec![timer(&sink.url); 20]});
    ask_as(&service, &operator, "b", "/v1/timers/batch", timers).await;
    for _ in 0..20 {
        sink.next().await;
    }
    (0..100).for_each(|_| hung.answer());
    service.stop().await;
}
