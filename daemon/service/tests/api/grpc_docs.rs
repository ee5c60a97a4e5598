//! docs/api/grpc.md is true: its samples are in here, word for word, and run.

use crate::docs::blocks;
use crate::harness::Running;
use minoots::api::grpc::v2;
use minoots::store::MemoryLog;
use prost::Message;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use v2::create_timer_result::Outcome;
use v2::timer_definition::Schedule;
use v2::timer_service_client::TimerServiceClient;

const PAGE: &str = include_str!("../../../../docs/api/grpc.md");

#[rustfmt::skip]
async fn samples(url: String) -> Result<(), Box<dyn std::error::Error>> {
    let page_url = url.clone();
    let mut client = TimerServiceClient::connect(url).await?;
    let definition = v2::TimerDefinition {
        name: "tea".into(),
        schedule: Some(Schedule::After(prost_types::Duration { seconds: 3600, nanos: 0 })),
        metadata_json: Some(r#"{"cups": 2}"#.into()),
        idempotency_key: Some("tea-1".into()),
        ..Default::default()
    };
    let create = v2::CreateTimerRequest { definition: Some(definition.clone()) };
    let created = client.create_timer(create).await?.into_inner();
    let timer = created.timer.unwrap_or_default();
    assert_eq!((timer.state(), created.replayed), (v2::TimerState::Scheduled, false));

    let pause = v2::PauseTimerRequest { id: timer.id.clone(), expected_version: Some(99), ..Default::default() };
    if let Err(status) = client.pause_timer(pause).await {
        let code = status.metadata().get("minoots-code").and_then(|code| code.to_str().ok());
        println!("{:?} {code:?}: {}", status.code(), status.message());
    }

    let batch = v2::CreateTimersRequest { definitions: vec![definition, v2::TimerDefinition::default()] };
    let mut answers = client.create_timers(futures::stream::iter([batch])).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        for result in answer.results {
            match result.outcome {
                Some(Outcome::Created(created)) => println!("replayed: {}", created.replayed),
                Some(Outcome::Refused(refused)) => println!("{}: {}", refused.code, refused.detail),
                None => {}
            }
        }
    }

    let pause = v2::PauseTimerRequest { id: timer.id.clone(), ..Default::default() };
    client.pause_timer(pause).await?;
    let from = v2::WatchEventsRequest { cursor: "0".into(), ..Default::default() };
    let mut events = client.watch_events(from).await?.into_inner();
    let first = events.message().await?.and_then(|told| told.event).unwrap_or_default();
    drop(events);
    let resume = v2::WatchEventsRequest { cursor: first.cursor.clone(), ..Default::default() };
    let mut events = client.watch_events(resume).await?.into_inner();
    let second = events.message().await?.and_then(|told| told.event).unwrap_or_default();
    assert_eq!((first.sequence, second.sequence), (1, 2));

    let url = page_url;
    let channel = tonic::transport::Channel::from_shared(url)?.connect().await?;
    let mut health = HealthClient::new(channel);
    let asked = HealthCheckRequest { service: "minoots.v2.TimerService".into() };
    let status = health.check(asked).await?.into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    Ok(())
}

#[tokio::test]
async fn every_sample_of_the_grpc_page_runs() {
    let source: Vec<_> = include_str!("grpc_docs.rs").lines().map(str::trim).collect();
    let samples_of_page = blocks(PAGE, "rust");
    assert_eq!(samples_of_page.len(), 5);
    for sample in samples_of_page {
        let lines: Vec<_> = sample.lines().map(str::trim).collect();
        assert!(source.windows(lines.len()).any(|window| window == lines), "not in this file:\n{sample}");
    }
    let service = Running::on_memory(MemoryLog::new()).await;
    samples(service.url.clone()).await.unwrap();
    service.stop().await;
}

#[test]
fn the_grpc_page_names_every_method() {
    let set = prost_types::FileDescriptorSet::decode(minoots_proto::DESCRIPTORS).unwrap();
    let of_v2 = set.file.iter().filter(|f| f.package() == "minoots.v2");
    for method in of_v2.flat_map(|f| &f.service).flat_map(|s| &s.method) {
        assert!(PAGE.contains(&format!("`{}`", method.name())), "docs/api/grpc.md lacks {}", method.name());
    }
}
