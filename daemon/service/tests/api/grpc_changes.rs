//! The verbs, batches, history, schedules and streams over gRPC.

use crate::events::trimmed;
use crate::grpc::{channel, check, create, definition};
use crate::harness::Running;
use chronotick_core::Timestamp;
use minoots::api::grpc::v2;
use minoots::clock::ManualClock;
use tonic::Code;
use v2::change_timer_result::Outcome;
use v2::change_timers_request::{Change, Which};
use v2::event::Kind;
use v2::timer_definition::Schedule;
use v2::timer_service_client::TimerServiceClient;

const START_S: i64 = 1_800_000_000;

fn secs(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn scheduled(schedule: Schedule) -> v2::CreateTimerRequest {
    let definition = v2::TimerDefinition { schedule: Some(schedule), ..definition("n", 1) };
    v2::CreateTimerRequest { definition: Some(definition) }
}

fn every_minute() -> v2::CreateTimerRequest {
    scheduled(Schedule::Interval(v2::Interval { every: Some(secs(60)), ..Default::default() }))
}

#[tokio::test]
async fn each_verb_and_the_stream_of_what_it_did() {
    let clock = ManualClock::new(Timestamp::from_secs(START_S));
    let service = Running::on_clock(clock.clone()).await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    let watch = v2::WatchEventsRequest { after_sequence: Some(0), ..Default::default() };
    let mut events = client.watch_events(watch).await.unwrap().into_inner();
    let mut next = async || events.message().await.unwrap().unwrap().event.unwrap();
    let timer = client.create_timer(every_minute()).await.unwrap().into_inner().timer.unwrap();
    let id = timer.id.clone();
    let occurrence = |s: i64| v2::Occurrence { nominal_at: Some(at(s)), due_at: Some(at(s)) };
    assert_eq!(timer.next, Some(occurrence(START_S + 60)));
    let first = next().await;
    assert_eq!((first.partition, first.cursor.as_str(), first.behind), (0, "1", 0));
    assert!(matches!(first.kind, Some(Kind::Scheduled(_))), "{first:?}");

    let pause =
        v2::PauseTimerRequest { id: id.clone(), reason: Some("lunch".into()), expected_version: Some(1) };
    let paused = client.pause_timer(pause.clone()).await.unwrap().into_inner().timer.unwrap();
    assert_eq!((paused.state(), paused.pause_reason.as_deref()), (v2::TimerState::Paused, Some("lunch")));
    assert!(matches!(next().await.kind, Some(Kind::Paused(p)) if p.reason.as_deref() == Some("lunch")));
    check(&client.pause_timer(pause).await.unwrap_err(), Code::Aborted, "version_conflict", "version 2 now");
    let resume = v2::ResumeTimerRequest { id: id.clone(), expected_version: Some(2) };
    client.resume_timer(resume.clone()).await.unwrap();
    assert!(matches!(next().await.kind, Some(Kind::Resumed(_))));
    check(
        &client.resume_timer(resume).await.unwrap_err(),
        Code::Aborted,
        "version_conflict",
        "version 3 now",
    );

    use v2::reschedule_timer_request::To;
    let move_to = |to| v2::RescheduleTimerRequest { id: id.clone(), to, expected_version: None };
    for (to, due) in [
        (To::At(at(START_S + 10)), START_S + 10),
        (To::After(secs(20)), START_S + 20),
        (To::ExtendBy(secs(-5)), START_S + 15),
    ] {
        let moved = client.reschedule_timer(move_to(Some(to))).await.unwrap().into_inner().timer.unwrap();
        let want = v2::Occurrence { nominal_at: Some(at(START_S + 60)), due_at: Some(at(due)) };
        assert_eq!(moved.next, Some(want));
        assert!(matches!(next().await.kind, Some(Kind::Rescheduled(r)) if r.next == Some(want)));
    }
    let refused = client.reschedule_timer(move_to(None)).await.unwrap_err();
    check(&refused, Code::InvalidArgument, "invalid_field", "exactly one of at");

    let fire = v2::FireTimerRequest { id: id.clone(), expected_version: None };
    let fired = client.fire_timer(fire).await.unwrap().into_inner().timer.unwrap();
    let last = fired.last_fire.unwrap();
    assert_eq!(
        (fired.fires, fired.occurrences, fired.in_flight.as_slice()),
        (1, 0, &[last.firing_id.clone()][..])
    );
    let Some(Kind::Fired(told)) = next().await.kind else { panic!("not a fire") };
    assert_eq!((told.firing_id.as_str(), told.by_hand), (last.firing_id.as_str(), true));
    assert!(matches!(next().await.kind, Some(Kind::Completed(_))));
    let acknowledge = v2::AcknowledgeFireRequest {
        firing_id: last.firing_id.clone(),
        by: Some("me".into()),
        note: Some("on it".into()),
    };
    assert!(!client.acknowledge_fire(acknowledge.clone()).await.unwrap().into_inner().replayed);
    let Some(Kind::Acknowledged(told)) = next().await.kind else { panic!("not an acknowledgement") };
    assert_eq!((told.by.as_deref(), told.note.as_deref()), (Some("me"), Some("on it")));
    assert!(client.acknowledge_fire(acknowledge).await.unwrap().into_inner().replayed);
    for firing_id in ["x".to_string(), format!("{id}:5")] {
        let unknown = v2::AcknowledgeFireRequest { firing_id, ..Default::default() };
        check(
            &client.acknowledge_fire(unknown).await.unwrap_err(),
            Code::NotFound,
            "fire_not_found",
            "no fire",
        );
    }

    // The occurrence that was moved, then three that are missed, of which the last fires for all.
    clock.set(Timestamp::from_secs(START_S + 15));
    assert!(matches!(next().await.kind, Some(Kind::Fired(f)) if f.next == Some(occurrence(START_S + 120))));
    assert!(matches!(next().await.kind, Some(Kind::Completed(_))));
    clock.set(Timestamp::from_secs(START_S + 245));
    let Some(Kind::Skipped(skipped)) = next().await.kind else { panic!("not skipped") };
    assert_eq!((skipped.count, skipped.reason()), (2, v2::SkipReason::Coalesced));
    assert_eq!(skipped.last_nominal_at, Some(at(START_S + 180)));
    assert!(matches!(next().await.kind, Some(Kind::Fired(_))));
    assert!(matches!(next().await.kind, Some(Kind::Completed(_))));

    let ask = |after, limit| v2::ListHistoryRequest { id: id.clone(), after, limit };
    let all = client.list_history(ask(None, 0)).await.unwrap().into_inner();
    assert_eq!((all.entries.len(), all.next_after), (4, None));
    use v2::history_entry::Outcome as Became;
    assert!(matches!(&all.entries[0].outcome, Some(Became::Fired(f)) if f.by_hand));
    assert_eq!(all.entries[1].end(), v2::DeliveryEnd::Completed);
    assert!(matches!(&all.entries[2].outcome, Some(Became::Skipped(s)) if s.count == 2));
    let page = client.list_history(ask(None, 3)).await.unwrap().into_inner();
    let rest = client.list_history(ask(page.next_after, 3)).await.unwrap().into_inner();
    assert_eq!([page.entries, rest.entries].concat(), all.entries);
    let refused = client.list_history(ask(None, 1001)).await.unwrap_err();
    check(&refused, Code::InvalidArgument, "invalid_field", "limit is 1001");
    let cancel = v2::CancelTimerRequest { id: id.clone(), reason: None, expected_version: Some(1) };
    check(&client.cancel_timer(cancel).await.unwrap_err(), Code::Aborted, "version_conflict", "now");
    service.stop().await;
}

#[tokio::test]
async fn schedules_and_policies_are_the_same_as_over_http() {
    let service = Running::on_clock(ManualClock::new(Timestamp::from_secs(START_S))).await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    let cron = v2::Cron {
        expression: "0 9 * * mon-fri".into(),
        zone: "Europe/Paris".into(),
        gap: v2::GapPolicy::Shift.into(),
        fold: v2::FoldPolicy::Second.into(),
        exclude_dates: vec!["2027-01-18".into()],
    };
    let upstream = client.create_timer(create("up", 3600)).await.unwrap().into_inner().timer.unwrap();
    let mut request = scheduled(Schedule::Cron(cron.clone()));
    let sent = request.definition.as_mut().unwrap();
    sent.metadata_json = None;
    sent.bounds = Some(v2::Bounds { start: None, end: Some(at(START_S + 864_000)), count: Some(5) });
    sent.jitter = Some(secs(30));
    sent.misfire = v2::MisfirePolicy::CatchUp.into();
    sent.catch_up = Some(v2::CatchUp { max: 3, within: Some(secs(60)) });
    sent.grace = Some(secs(2));
    sent.overlap = v2::OverlapPolicy::BufferOne.into();
    sent.priority = -5;
    sent.expire_after = Some(secs(90));
    sent.tags = vec!["red".into()];
    let first = client.create_timer(request.clone()).await.unwrap().into_inner().timer.unwrap();
    let sent = request.definition.as_mut().unwrap();
    // A tag comes back among the labels too.
    let want = v2::TimerDefinition { labels: [("red".to_string(), String::new())].into(), ..sent.clone() };
    assert_eq!(first.definition, Some(want));
    assert_eq!(first.next.unwrap().nominal_at, Some(at(1_800_345_600)), "the 18th is excluded");
    let over_http = service.get(&format!("/v1/timers/{}", first.id)).await.json();
    assert_eq!(over_http["schedule"]["gap"], "shift");
    assert_eq!(over_http["policies"]["misfire"]["catch_up"]["within"], "1m");
    let on = v2::UpstreamOn::Fired.into();
    let start_after =
        v2::StartAfter { timers: vec![v2::Upstream { id: upstream.id.clone(), on }], need: None };
    sent.start_after = Some(start_after.clone());
    let held = client.create_timer(request).await.unwrap().into_inner().timer.unwrap();
    assert_eq!((held.state(), held.due_at), (v2::TimerState::Waiting, None));
    assert_eq!(held.definition.unwrap().start_after, Some(start_after));
    let by_tag = v2::ListTimersRequest {
        tags: vec!["red".into()],
        due_from: Some(at(START_S)),
        due_until: Some(at(START_S + 864_000)),
        ..Default::default()
    };
    let listed = client.list_timers(by_tag).await.unwrap().into_inner();
    assert_eq!(listed.timers.iter().map(|t| &t.id).collect::<Vec<_>>(), [&first.id]);
    // Once the other has fired, what is known of it is told.
    let fire = v2::FireTimerRequest { id: upstream.id.clone(), expected_version: None };
    client.fire_timer(fire).await.unwrap();
    let resolutions = loop {
        let get = v2::GetTimerRequest { id: held.id.clone() };
        let timer = client.get_timer(get).await.unwrap().into_inner().timer.unwrap();
        if !timer.resolutions.is_empty() {
            break timer.resolutions;
        }
    };
    assert_eq!(resolutions, [v2::Resolution { id: upstream.id, counts: true }]);

    let refuse = async |change: &dyn Fn(&mut v2::TimerDefinition), code: &str, detail: &str| {
        let mut request = every_minute();
        change(request.definition.as_mut().unwrap());
        let refused = client.clone().create_timer(request).await.unwrap_err();
        check(&refused, Code::InvalidArgument, code, detail);
    };
    let interval = |i: v2::Interval| Some(Schedule::Interval(i));
    refuse(&|d| d.schedule = None, "invalid_schedule", "none of after, at, interval and cron").await;
    refuse(&|d| d.schedule = interval(v2::Interval::default()), "missing_field", "interval.every").await;
    let odd = v2::Interval { every: Some(secs(1)), mode: 9, anchor: None };
    refuse(
        &|d| d.schedule = interval(odd),
        "invalid_field",
        "interval.mode is 9: use a value of IntervalMode",
    )
    .await;
    refuse(&|d| d.schedule = Some(Schedule::Cron(v2::Cron::default())), "invalid_recurrence", "cron").await;
    refuse(
        &|d| d.schedule = Some(Schedule::Cron(v2::Cron { gap: 9, ..cron.clone() })),
        "invalid_field",
        "cron.gap is 9",
    )
    .await;
    let bounded = Some(v2::Bounds { count: Some(1), ..Default::default() });
    let once =
        |d: &mut v2::TimerDefinition| (d.schedule, d.bounds) = (Some(Schedule::After(secs(1))), bounded);
    refuse(&once, "invalid_recurrence", "bounds belongs to interval and cron").await;
    refuse(&|d| d.overlap = 9, "invalid_field", "overlap is 9: use a value of OverlapPolicy").await;
    refuse(&|d| d.misfire = 9, "invalid_field", "misfire is 9: use a value of MisfirePolicy").await;
    refuse(&|d| d.misfire = v2::MisfirePolicy::CatchUp.into(), "missing_field", "catch_up.within").await;
    refuse(&|d| d.catch_up = Some(v2::CatchUp::default()), "invalid_field", "misfire is not CATCH_UP").await;
    refuse(&|d| d.priority = 128, "invalid_field", "from -128 to 127").await;
    refuse(&|d| d.jitter = Some(secs(-1)), "invalid_timer", "jitter is negative").await;
    refuse(&|d| d.start_after = Some(v2::StartAfter::default()), "invalid_timer", "name 1 to 64").await;
    service.stop().await;
}

#[tokio::test]
async fn many_timers_are_changed_together() {
    let service = Running::on_partitions(2).await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let mut request = create(name, 3600);
        request.definition.as_mut().unwrap().tags = vec!["x".into()];
        ids.push(client.create_timer(request).await.unwrap().into_inner().timer.unwrap().id);
    }
    let named = |ids: Vec<String>| Some(Which::Ids(v2::TimerIds { ids }));
    let pause = Some(Change::Pause(v2::PauseChange { reason: None }));
    let cancel = Some(Change::Cancel(v2::CancelChange { reason: Some("over".into()) }));
    let request =
        v2::ChangeTimersRequest { which: named(vec![ids[0].clone(), "x".into()]), change: pause.clone() };
    let answer = client.change_timers(request).await.unwrap().into_inner();
    assert_eq!(answer.changed, 1);
    assert!(
        matches!(&answer.results[0].outcome, Some(Outcome::Timer(t)) if t.state() == v2::TimerState::Paused)
    );
    assert!(matches!(&answer.results[1].outcome, Some(Outcome::Refused(r)) if r.code == "timer_not_found"));
    let found = v2::TimerFilter { state: v2::TimerState::Paused.into(), ..Default::default() };
    let resume = Some(Change::Resume(v2::ResumeChange {}));
    let request = v2::ChangeTimersRequest { which: Some(Which::Filter(found)), change: resume };
    assert_eq!(client.change_timers(request).await.unwrap().into_inner().changed, 1);
    let found = v2::TimerFilter { tags: vec!["x".into()], ..Default::default() };
    let request = v2::ChangeTimersRequest { which: Some(Which::Filter(found)), change: cancel.clone() };
    let answer = client.change_timers(request).await.unwrap().into_inner();
    assert_eq!((answer.changed, answer.results.len()), (3, 0));

    let mut refuse = async |which, change, detail: &str| {
        let request = v2::ChangeTimersRequest { which, change };
        let refused = client.change_timers(request).await.unwrap_err();
        check(&refused, Code::InvalidArgument, "invalid_field", detail);
    };
    refuse(None, cancel.clone(), "exactly one of ids").await;
    refuse(named(vec![]), None, "exactly one of cancel").await;
    refuse(named(vec!["x".into(); 1001]), pause, "1001 ids").await;
    let odd = v2::TimerFilter { state: 99, ..Default::default() };
    refuse(Some(Which::Filter(odd)), cancel, "filter.state is 99").await;
    service.stop().await;
}

#[tokio::test]
async fn a_watch_starts_at_a_place_that_is_there() {
    let service = trimmed().await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    let gone = v2::WatchEventsRequest { cursor: "1".into(), ..Default::default() };
    let refused = client.watch_events(gone).await.unwrap_err();
    check(&refused, Code::OutOfRange, "events_gone", "go on after 2");
    let both = v2::WatchEventsRequest { cursor: "2".into(), after_sequence: Some(2), ..Default::default() };
    let refused = client.watch_events(both).await.unwrap_err();
    check(&refused, Code::InvalidArgument, "invalid_field", "set one of them");
    let rest = v2::WatchEventsRequest { cursor: "2".into(), ..Default::default() };
    let mut events = client.watch_events(rest).await.unwrap().into_inner();
    let event = events.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!((event.sequence, event.cursor.as_str(), event.behind), (3, "3", 1));
    service.stop().await;

    let service = Running::on_partitions(2).await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    for bad in [
        v2::WatchEventsRequest { cursor: "x".into(), ..Default::default() },
        v2::WatchEventsRequest { cursor: "1.2.3".into(), ..Default::default() },
        v2::WatchEventsRequest { after_sequence: Some(5), ..Default::default() },
    ] {
        let refused = client.watch_events(bad).await.unwrap_err();
        check(&refused, Code::InvalidArgument, "invalid_field", "give the id of the last event seen");
    }
    service.stop().await;
}
