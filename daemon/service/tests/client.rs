//! The Rust client against a real service.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

use chronotick::timers::{
    Change, Filter, From, Reschedule, Retry, State, Timer, TimerClient, Until, WatchItem, WatchQuery,
};
use futures::StreamExt;
use minoots::config::{Config, DEFAULT_SHM};
use minoots::serve::Service;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

async fn service(data: &std::path::Path) -> (Service, TimerClient) {
    service_at(data, "127.0.0.1:0".parse().unwrap()).await
}

async fn service_at(data: &std::path::Path, listen: std::net::SocketAddr) -> (Service, TimerClient) {
    let config = Config {
        listen,
        data_dir: data.into(),
        shm_name: DEFAULT_SHM.into(),
        partitions: 1,
        retention: Default::default(),
        retry: Default::default(),
        max_in_flight: 8,
        queued_fires_max: None,
        access: Default::default(),
        secrets: Default::default(),
    };
    let service = Service::start(&config).await.unwrap();
    let client = TimerClient::connect(&format!("http://{}", service.addr)).unwrap();
    (service, client)
}

#[tokio::test]
async fn a_timer_lives_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let (service, client) = service(dir.path()).await;
    let made =
        client.create(Timer::after(HOUR).name("tea").label("agent", "kitchen").tag("hot")).await.unwrap();
    assert_eq!((made.name.as_str(), made.state, made.version), ("tea", State::Scheduled, 1));
    assert_eq!(client.get(&made.id).await.unwrap(), made);
    let moved = client.reschedule(&made.id, Reschedule::After(2 * HOUR), Some(1)).await.unwrap();
    assert!(moved.due_at > made.due_at);
    let conflict = client.pause(&made.id, None, Some(1)).await.unwrap_err();
    assert_eq!(conflict.code(), "version_conflict", "{conflict}");
    assert_eq!(client.pause(&made.id, Some("a break"), None).await.unwrap().state, State::Paused);
    assert_eq!(client.resume(&made.id, None).await.unwrap().state, State::Scheduled);
    let waiting = tokio::spawn({
        let (client, id) = (client.clone(), made.id.clone());
        async move { client.wait(&id, Until::Ended).await }
    });
    client.fire(&made.id, None).await.unwrap();
    let ended = waiting.await.unwrap().unwrap();
    assert_eq!((ended.state, ended.fires), (State::Completed, 1));
    let firing = ended.last_fire.unwrap().firing_id;
    let acknowledged = client.acknowledge(&firing, Some("me"), None).await.unwrap();
    assert!(acknowledged.last_fire.unwrap().acknowledged_at.is_some());
    let history = client.history(&made.id, 10, None).await.unwrap();
    assert_eq!((history.items.len(), history.next), (1, None));
    let missing = client.get("018f0000-0000-7000-8000-000000000000").await.unwrap_err();
    assert_eq!(missing.code(), "timer_not_found");
    service.stop().await;
}

#[tokio::test]
async fn many_are_made_listed_and_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let (service, client) = service(dir.path()).await;
    let drafts = (0..1_201).map(|i| Timer::after(if i == 7 { Duration::MAX } else { HOUR }).tag("bulk"));
    let outcomes: Vec<_> = client.create_many(futures::stream::iter(drafts)).await.unwrap().collect().await;
    assert_eq!(outcomes.len(), 1_201);
    assert!(outcomes[7].as_ref().unwrap().is_err());
    let filter = Filter { states: vec![State::Scheduled], tags: vec!["bulk".into()], ..Default::default() };
    let listed: Vec<_> = client.list_all(filter.clone()).collect().await;
    assert_eq!(listed.len(), 1_200);
    let first = listed[0].as_ref().unwrap().id.clone();
    let changed = client.change_many(vec![first, "nobody".into()], Change::Pause(None)).await.unwrap();
    assert_eq!(changed[0].as_ref().unwrap().state, State::Paused);
    assert_eq!(changed[1].as_ref().unwrap_err().code, "timer_not_found");
    assert_eq!(client.change_all(&filter, Change::Cancel(None)).await.unwrap(), 1_199);
    service.stop().await;
}

#[tokio::test]
async fn a_create_with_a_key_is_made_once_and_a_watch_goes_on_from_its_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let (service, client) = service(dir.path()).await;
    let a = client.create(Timer::after(HOUR).idempotency_key("k")).await.unwrap();
    let b = client.create(Timer::after(HOUR).idempotency_key("k")).await.unwrap();
    assert_eq!(a.id, b.id);
    let mut watch = client.watch(WatchQuery { from: From::Beginning, ..Default::default() }).await.unwrap();
    let WatchItem::Event(event) = watch.next().await.unwrap() else { panic!("an event is first") };
    assert_eq!((event.kind.as_str(), &event.timer_id), ("timer.scheduled", &a.id));
    let cursor = watch.cursor().unwrap().to_string();
    drop(watch);
    client.cancel(&a.id, Some("enough"), None).await.unwrap();
    let query = WatchQuery { from: From::Cursor(cursor), ..Default::default() };
    let mut watch = client.watch(query).await.unwrap();
    let WatchItem::Event(event) = watch.next().await.unwrap() else { panic!("an event is next") };
    assert_eq!((event.kind.as_str(), event.reason.as_deref()), ("timer.cancelled", Some("enough")));
    service.stop().await;
}

#[tokio::test]
async fn nobody_there_is_told_as_such() {
    let retry = Retry { attempts: 2, backoff_initial: Duration::from_millis(1), ..Default::default() };
    let client = TimerClient::<tonic::transport::Channel>::builder()
        .retry(retry)
        .connect("http://127.0.0.1:1")
        .unwrap();
    let e = client.get("x").await.unwrap_err();
    assert_eq!(e.code(), "unreachable", "{e}");
    assert_eq!(TimerClient::connect("127.0.0.1:1").unwrap_err().code(), "config");
}

#[tokio::test]
async fn a_watch_goes_on_after_the_service_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let (first, client) = service(dir.path()).await;
    let addr = first.addr;
    let a = client.create(Timer::after(HOUR).name("a")).await.unwrap();
    let retry = Retry { attempts: 200, backoff_initial: Duration::from_millis(50), ..Default::default() };
    let patient = TimerClient::builder().retry(retry).connect(&format!("http://{addr}")).unwrap();
    let mut watch = patient.watch(WatchQuery { from: From::Beginning, ..Default::default() }).await.unwrap();
    let WatchItem::Event(event) = watch.next().await.unwrap() else { panic!("an event is first") };
    assert_eq!(event.timer_id, a.id);
    first.stop().await;
    let (second, client) = service_at(dir.path(), addr).await;
    let b = client.create(Timer::after(HOUR).name("b")).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.unwrap();
    let WatchItem::Event(event) = next.unwrap() else { panic!("an event is next") };
    assert_eq!((event.kind.as_str(), &event.timer_id), ("timer.scheduled", &b.id), "none twice, none lost");
    second.stop().await;
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let dir = tempfile::tempdir().unwrap();
    let (service, client) = service(dir.path()).await;
    let refused = |timer: Timer| {
        let client = client.clone();
        async move { client.create(timer).await.unwrap_err().code().to_string() }
    };
    assert_eq!(refused(Timer::after(HOUR).name("")).await, "invalid_timer");
    assert_eq!(refused(Timer::cron("nonsense", "UTC")).await, "invalid_recurrence");
    assert_eq!(
        refused(Timer::after(HOUR).action("a", "telepathy", &serde_json::Value::Null)).await,
        "unknown_action_kind"
    );
    assert_eq!(refused(Timer::after(HOUR).payload_schema("none")).await, "unknown_schema");
    let a = client.create(Timer::after(HOUR).idempotency_key("k")).await.unwrap();
    assert_eq!(refused(Timer::after(2 * HOUR).idempotency_key("k")).await, "idempotency_conflict");
    assert_eq!(client.resume(&a.id, None).await.unwrap_err().code(), "wrong_state");
    let garbage = WatchQuery { from: From::Cursor("garbage".into()), ..Default::default() };
    assert_eq!(
        client.watch(garbage).await.err().map(|e| e.code().to_string()).as_deref(),
        Some("invalid_field")
    );
    let later = client.reschedule(&a.id, Reschedule::Later(HOUR), None).await.unwrap();
    assert!(later.due_at > a.due_at);
    let earlier = client.reschedule(&a.id, Reschedule::Earlier(HOUR), None).await.unwrap();
    assert_eq!(earlier.due_at, a.due_at);
    service.stop().await;
}
