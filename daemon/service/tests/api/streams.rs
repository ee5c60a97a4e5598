//! Filters, places and ends of the stream as server-sent events and over gRPC; filters of listings and batches.

use crate::grpc::{channel, check, create};
use crate::harness::{Events, Running, check_problem};
use minoots::api::grpc::v2;
use minoots::store::MemoryLog;
use serde_json::{Value, json};
use tonic::Code;
use v2::timer_service_client::TimerServiceClient;

async fn events(service: &Running, query: &str) -> Events {
    let request = service.client.get(format!("{}/v1/events?{query}", service.url));
    Events::of(request.send().await.unwrap())
}

fn agent(name: &str, agent: &str) -> Value {
    json!({"name": name, "after": "1h", "agent": agent, "labels": {"room": name}, "tags": ["t"]})
}

#[tokio::test]
async fn server_sent_events_are_filtered_by_the_service() {
    let service = Running::on_partitions(2).await;
    let mut live = events(&service, "agent=bo&type=scheduled,cancelled").await;
    let mut ids = Vec::new();
    for (name, who) in [("a", "al"), ("b", "bo"), ("c", "al"), ("d", "bo")] {
        let timer = service.create(agent(name, who)).await;
        ids.push(timer["id"].as_str().unwrap().to_string());
    }
    for id in &ids {
        service.post_to(&format!("/v1/timers/{id}/pause"), json!({})).await;
        service.delete(&format!("/v1/timers/{id}")).await;
    }
    let told = async |stream: &mut Events, count: usize| {
        let mut told = Vec::new();
        for _ in 0..count {
            let event = stream.next().await.unwrap();
            let id = event.data["timer_id"].as_str().unwrap();
            let n = ids.iter().position(|i| i == id).unwrap();
            told.push((n, event.event.strip_prefix("timer.").unwrap().to_string()));
        }
        told.sort();
        told
    };
    let want = |list: &[(usize, &str)]| list.iter().map(|(n, k)| (*n, (*k).to_string())).collect::<Vec<_>>();
    let wanted = want(&[(1, "cancelled"), (1, "scheduled"), (3, "cancelled"), (3, "scheduled")]);
    assert_eq!(told(&mut live, 4).await, wanted);
    // From the beginning again; a filter on labels does not depend on what is still in memory.
    let mut past = events(&service, "after=0&agent=bo&type=scheduled&type=cancelled&tag=t").await;
    assert_eq!(told(&mut past, 4).await, wanted);
    let mut one = events(&service, &format!("after=0&timer={},{}&type=paused", ids[0], ids[3])).await;
    assert_eq!(told(&mut one, 2).await, want(&[(0, "paused"), (3, "paused")]));
    let mut room = events(&service, "after=0&label=room:c&label=agent:al").await;
    assert_eq!(told(&mut room, 3).await, want(&[(2, "cancelled"), (2, "paused"), (2, "scheduled")]));
    for (query, status, code, detail) in [
        ("type=x", 400, "invalid_query", "timer.scheduled"),
        ("label=x", 400, "invalid_query", "key:value"),
        ("timer=x", 404, "timer_not_found", "x"),
        ("heartbeat=1h", 400, "invalid_query", "from 1s to 5m"),
        ("colour=x", 400, "invalid_query", "after, heartbeat, type, timer, agent, team, label, tag"),
    ] {
        check_problem(&service.get(&format!("/v1/events?{query}")).await, status, code, detail);
    }
    let many: Vec<_> = (0..101).map(|i| format!("label=a:{i}")).collect();
    let answer = service.get(&format!("/v1/events?{}", many.join("&"))).await;
    check_problem(&answer, 400, "invalid_query", "name 100 or fewer");
    service.stop().await;
}

#[tokio::test]
async fn a_silent_stream_gives_the_browser_the_place_to_come_back_to() {
    let service = Running::on_memory(MemoryLog::new()).await;
    service.create(agent("a", "al")).await;
    let mut stream = events(&service, "type=fired&heartbeat=1s").await;
    assert_eq!(stream.block().await.unwrap(), ": place\nid: 1");
    service.create(agent("b", "al")).await;
    while stream.block().await.unwrap() != ": place\nid: 2" {}
    service.stop().await;
    let end = stream.next().await.unwrap();
    assert_eq!((end.event.as_str(), end.id.as_str()), ("end", "2"));
    assert_eq!(end.data["error"]["code"], "shutting_down");
}

#[tokio::test]
async fn watch_events_filters_keeps_alive_and_says_where_it_begins() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    let mut marked = create("a", 3600);
    marked.definition.as_mut().unwrap().labels = [("agent".to_string(), "bo".to_string())].into();
    client.create_timer(marked).await.unwrap();
    client.create_timer(create("b", 3600)).await.unwrap();
    let watch = v2::WatchEventsRequest {
        cursor: "0".into(),
        types: vec!["scheduled".into(), "timer.fired".into()],
        labels: [("agent".to_string(), "bo".to_string())].into(),
        keep_alive: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let answer = client.watch_events(watch.clone()).await.unwrap();
    assert_eq!(answer.metadata().get("minoots-cursor").unwrap(), "0");
    let mut stream = answer.into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.event.unwrap().cursor, "1");
    let idle = stream.message().await.unwrap().unwrap();
    let place = idle.keep_alive.unwrap();
    assert_eq!((place.cursor.as_str(), place.behind, idle.event, idle.lag), ("2", 0, None, None));
    let live = client.watch_events(v2::WatchEventsRequest::default()).await.unwrap();
    assert_eq!(live.metadata().get("minoots-cursor").unwrap(), "2");
    let mut refused = async |change: &dyn Fn(&mut v2::WatchEventsRequest), grpc, code: &str, detail: &str| {
        let mut watch = watch.clone();
        change(&mut watch);
        check(&client.watch_events(watch).await.unwrap_err(), grpc, code, detail);
    };
    let invalid = Code::InvalidArgument;
    refused(&|w| w.types = vec!["x".into()], invalid, "invalid_field", "timer.fired").await;
    refused(&|w| w.timer_ids = vec!["x".into()], Code::NotFound, "timer_not_found", "x").await;
    refused(&|w| w.tags = vec![String::new(); 101], invalid, "invalid_field", "100 or fewer").await;
    let none = prost_types::Duration { seconds: 0, nanos: 0 };
    refused(&|w| w.keep_alive = Some(none), invalid, "invalid_field", "keep_alive").await;
    service.stop().await;
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            other => break other.unwrap_err(),
        }
    };
    check(&end, Code::Unavailable, "shutting_down", "go on after");
    assert_eq!(end.metadata().get("minoots-cursor").unwrap(), "2");
}

#[tokio::test]
async fn several_states_agents_and_teams_choose_timers_everywhere() {
    let service = Running::on_partitions(2).await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    for (name, who) in [("a", "al"), ("b", "bo"), ("c", "bo"), ("d", "bo")] {
        let mut body = agent(name, who);
        body["team"] = json!("night");
        let id = service.create(body).await["id"].as_str().unwrap().to_string();
        match name {
            "b" => service.post_to(&format!("/v1/timers/{id}/pause"), json!({})).await.status,
            "d" => service.delete(&format!("/v1/timers/{id}")).await.status,
            _ => 200,
        };
    }
    let names = async |query: &str| {
        let page = service.get(&format!("/v1/timers?{query}")).await.json();
        let timers = page["timers"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
        timers.iter().map(|t| t["name"].as_str().unwrap().to_string()).collect::<String>()
    };
    for (query, want) in [
        ("state=scheduled,paused", "abc"),
        ("state=paused&state=cancelled", "bd"),
        ("state=paused&state=paused", "b"),
        ("state=scheduled,paused&agent=bo", "bc"),
        ("team=night&agent=al", "a"),
        ("team=day", ""),
    ] {
        assert_eq!(names(query).await, want, "{query}");
    }
    let listed = v2::ListTimersRequest {
        states: vec![v2::TimerState::Paused.into(), v2::TimerState::Cancelled.into()],
        labels: [("agent".to_string(), "bo".to_string())].into(),
        ..Default::default()
    };
    let listed = client.list_timers(listed).await.unwrap().into_inner().timers;
    let names_of = |t: &v2::Timer| t.definition.as_ref().unwrap().name.clone();
    assert_eq!(listed.iter().map(names_of).collect::<String>(), "bd");
    let unknown = v2::ListTimersRequest { states: vec![0], ..Default::default() };
    let refused = client.list_timers(unknown).await.unwrap_err();
    check(&refused, Code::InvalidArgument, "invalid_field", "states is 0");

    let change = async |verb: &str, filter: Value| {
        service.post_to(&format!("/v1/timers/batch/{verb}"), json!({"filter": filter})).await
    };
    let filter = json!({"state": ["scheduled", "firing"], "agent": "bo", "team": "night"});
    assert_eq!(change("pause", filter).await.json(), json!({"changed": 1}));
    assert_eq!(change("resume", json!({"agent": "al"})).await.json(), json!({"changed": 0}));
    let both = json!({"agent": "bo", "labels": {"agent": "al"}});
    check_problem(&change("pause", both).await, 400, "invalid_field", "give one of them");
    check_problem(&change("pause", json!({"state": []})).await, 400, "invalid_field", "or a list of them");
    check_problem(
        &change("pause", json!({"state": ["x"]})).await,
        400,
        "invalid_field",
        "filter.state is \"x\"",
    );
    let filter = v2::TimerFilter {
        states: vec![v2::TimerState::Paused.into()],
        labels: [("team".to_string(), "night".to_string())].into(),
        ..Default::default()
    };
    let ask = v2::ChangeTimersRequest {
        which: Some(v2::change_timers_request::Which::Filter(filter)),
        change: Some(v2::change_timers_request::Change::Resume(v2::ResumeChange {})),
    };
    assert_eq!(client.change_timers(ask).await.unwrap().into_inner().changed, 2);
    assert_eq!(names("state=scheduled").await, "abc");
    service.stop().await;
}
