//! What a create may say: each schedule and policy, what comes back, and what is refused.

use crate::harness::{Running, check_problem};
use chronotick_core::Timestamp;
use minoots::clock::ManualClock;
use minoots::store::MemoryLog;
use serde_json::{Value, json};

/// A clock that stands at 2027-01-15T08:00:00Z, a Friday.
fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_secs(1_800_000_000))
}

fn merge(mut into: Value, fields: &Value) -> Value {
    into.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    into
}

#[tokio::test]
async fn each_schedule_comes_back_in_full_with_its_first_time() {
    let service = Running::on_clock(clock()).await;
    let check = async |fields: Value, schedule: Value, nominal: &str| {
        let timer = service.create(merge(json!({"name": "n"}), &fields)).await;
        assert_eq!(timer["schedule"], schedule, "{fields}");
        assert_eq!(timer["next"]["nominal_at"], format!("{nominal}.000000000Z"), "{fields}");
        assert_eq!(timer["next"]["due_at"], timer["due_at"], "{fields}");
        assert_eq!(timer["state"], "scheduled");
    };
    check(json!({"after": "2s"}), json!({"after": "2s"}), "2027-01-15T08:00:02").await;
    check(
        json!({"at": "2030-01-31T09:00:00+01:00"}),
        json!({"at": "2030-01-31T08:00:00.000000000Z"}),
        "2030-01-31T08:00:00",
    )
    .await;
    let unbounded = json!({"start": null, "end": null, "count": null});
    check(
        json!({"every": "15m"}),
        merge(json!({"every": "15m", "mode": "fixed_rate", "anchor": null}), &unbounded),
        "2027-01-15T08:15:00",
    )
    .await;
    check(
        json!({"every": "15m", "anchor": "2020-01-01T00:05:00Z", "mode": "fixed_rate", "count": 3}),
        json!({
            "every": "15m", "mode": "fixed_rate", "anchor": "2020-01-01T00:05:00.000000000Z",
            "start": null, "end": null, "count": 3,
        }),
        "2027-01-15T08:05:00",
    )
    .await;
    check(
        json!({"every": "1m", "mode": "fixed_delay"}),
        merge(json!({"every": "1m", "mode": "fixed_delay", "anchor": null}), &unbounded),
        "2027-01-15T08:01:00",
    )
    .await;
    check(
        json!({"cron": "0 9 * * mon-fri", "zone": "Europe/Paris"}),
        merge(
            json!({
                "cron": "0 9 * * mon-fri", "zone": "Europe/Paris", "gap": null, "fold": null,
                "exclude_dates": [],
            }),
            &unbounded,
        ),
        // 09:00 in Paris is now, and a cron timer's first time is later than its creation.
        "2027-01-18T08:00:00",
    )
    .await;
    check(
        json!({
            "cron": "30 2 * * *", "zone": "Europe/Paris", "gap": "shift", "fold": "second",
            "exclude_dates": ["2027-03-27"], "start": "2027-03-27T00:00:00Z", "end": "2027-12-01T00:00:00Z",
        }),
        json!({
            "cron": "30 2 * * *", "zone": "Europe/Paris", "gap": "shift", "fold": "second",
            "exclude_dates": ["2027-03-27"], "start": "2027-03-27T00:00:00.000000000Z",
            "end": "2027-12-01T00:00:00.000000000Z", "count": null,
        }),
        // On the 28th the clocks jump from 2 to 3, so 02:30 is 03:30.
        "2027-03-28T01:30:00",
    )
    .await;
    service.stop().await;
}

#[tokio::test]
async fn policies_and_tags_come_back_with_their_defaults() {
    let service = Running::on_clock(clock()).await;
    let policies = async |fields: Value| {
        let body = merge(json!({"name": "n", "every": "1h"}), &fields);
        service.create(body).await["policies"].clone()
    };
    let defaults = json!({
        "misfire": "fire_once", "grace": "1s", "overlap": "allow", "jitter": "0s", "expire_after": null,
        "priority": 0,
    });
    assert_eq!(policies(json!({})).await, defaults);
    let table = [
        (json!({"misfire": "fire_now"}), json!({"misfire": "fire_now"})),
        (json!({"misfire": "skip"}), json!({"misfire": "skip"})),
        (json!({"misfire": "fire_once"}), json!({"misfire": "fire_once"})),
        (
            json!({"misfire": {"catch_up": {"max": 10, "within": "1h"}}}),
            json!({"misfire": {"catch_up": {"max": 10, "within": "1h"}}}),
        ),
        (json!({"grace": "0s"}), json!({"grace": "0s"})),
        (json!({"overlap": "skip"}), json!({"overlap": "skip"})),
        (json!({"overlap": "buffer_one"}), json!({"overlap": "buffer_one"})),
        (json!({"overlap": "cancel_previous"}), json!({"overlap": "cancel_previous"})),
        (json!({"jitter": "30s"}), json!({"jitter": "30s"})),
        (json!({"expire_after": "5m"}), json!({"expire_after": "5m"})),
        (json!({"priority": -128}), json!({"priority": -128})),
    ];
    for (fields, want) in table {
        assert_eq!(policies(fields).await, merge(defaults.clone(), &want));
    }
    let one_shot = service.create(json!({"name": "n", "after": "1h"})).await;
    assert_eq!(one_shot["policies"]["misfire"], "fire_now");

    let jittered = service.create(json!({"name": "n", "after": "1h", "jitter": "10m"})).await;
    let (nominal, due) = (&jittered["next"]["nominal_at"], &jittered["next"]["due_at"]);
    assert!(due.as_str() > nominal.as_str(), "{jittered}");

    let tagged = service
        .create(json!({"name": "t", "after": "1h", "tags": ["urgent", "red"], "labels": {"room": "kitchen"}}))
        .await;
    assert_eq!(tagged["tags"], json!(["red", "urgent"]));
    assert_eq!(tagged["labels"], json!({"room": "kitchen", "red": "", "urgent": ""}));
    let found = service.get("/v1/timers?tag=urgent&tag=red&label=room:kitchen").await.json();
    assert_eq!(found["timers"], json!([tagged]));
    assert_eq!(service.get("/v1/timers?tag=room").await.json()["timers"], json!([]));
    service.stop().await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_name() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let absent = "01890000-0000-7000-8000-000000000000";
    let wait =
        |timers: Value, need: Value| json!({"after": "1s", "start_after": {"timers": timers, "need": need}});
    let table: Vec<(Value, u16, &str, &str)> = vec![
        (json!({"after": "1s", "every": "1s"}), 400, "invalid_schedule", "both after and every"),
        (
            json!({"after": "1s", "every": "1s", "cron": "@daily"}),
            400,
            "invalid_schedule",
            "after and 2 more",
        ),
        (json!({"every": 5}), 400, "invalid_duration", "every is 5: write a duration as text"),
        (json!({"every": "10us"}), 400, "invalid_recurrence", "1ms or more"),
        (json!({"every": "-1s"}), 400, "invalid_recurrence", "1ms or more"),
        (json!({"every": "1s", "mode": "sometimes"}), 400, "invalid_field", "fixed_rate or fixed_delay"),
        (json!({"every": "1s", "anchor": 0}), 400, "invalid_time", "anchor is 0"),
        (
            json!({"every": "1s", "mode": "fixed_delay", "anchor": "2020-01-01T00:00:00Z"}),
            400,
            "invalid_recurrence",
            "no anchor",
        ),
        (
            json!({"every": "1s", "zone": "UTC"}),
            400,
            "invalid_recurrence",
            "zone belongs to cron and not to every",
        ),
        (json!({"every": "1s", "gap": "skip"}), 400, "invalid_recurrence", "gap belongs to cron"),
        (json!({"every": "1s", "fold": "both"}), 400, "invalid_recurrence", "fold belongs to cron"),
        (
            json!({"every": "1s", "exclude_dates": []}),
            400,
            "invalid_recurrence",
            "exclude_dates belongs to cron",
        ),
        (json!({"cron": "@daily", "mode": "fixed_rate"}), 400, "invalid_recurrence", "mode belongs to every"),
        (json!({"cron": "@daily", "anchor": "x"}), 400, "invalid_recurrence", "anchor belongs to every"),
        (json!({"after": "1s", "count": 3}), 400, "invalid_recurrence", "count belongs to every and cron"),
        (json!({"after": "1s", "start": "x"}), 400, "invalid_recurrence", "start belongs to every and cron"),
        (json!({"at": "x", "end": "x"}), 400, "invalid_recurrence", "end belongs to every and cron"),
        (json!({"cron": "often"}), 400, "invalid_recurrence", "does not parse"),
        (json!({"cron": 5}), 400, "invalid_field", "cron: invalid type"),
        (json!({"cron": "0 0 30 2 *"}), 400, "invalid_recurrence", "fires at no moment"),
        (json!({"cron": "@daily", "zone": "Atlantis"}), 400, "invalid_recurrence", "no time zone"),
        (json!({"cron": "@daily", "gap": "jump"}), 400, "invalid_field", "skip, shift or run_at_end"),
        (json!({"cron": "@daily", "fold": "none"}), 400, "invalid_field", "first, second or both"),
        (json!({"cron": "@daily", "exclude_dates": ["Xmas"]}), 400, "invalid_recurrence", "YYYY-MM-DD"),
        (json!({"every": "1s", "start": "soon"}), 400, "invalid_time", "start is \"soon\""),
        (json!({"every": "1s", "end": "2001-01-01T00:00:00Z"}), 400, "invalid_timer", "no occurrence"),
        (json!({"every": "1s", "count": 0}), 400, "invalid_recurrence", "count of 0"),
        (json!({"every": "1s", "count": -1}), 400, "invalid_field", "count: invalid value"),
        (json!({"after": "1s", "jitter": "-1s"}), 400, "invalid_timer", "jitter is negative"),
        (json!({"after": "1s", "jitter": 1}), 400, "invalid_duration", "jitter is 1"),
        (json!({"after": "1s", "grace": "-1s"}), 400, "invalid_timer", "grace is negative"),
        (json!({"after": "1s", "expire_after": "0s"}), 400, "invalid_timer", "expire after"),
        (json!({"after": "1s", "misfire": "later"}), 400, "invalid_field", "misfire is \"later\": use"),
        (json!({"after": "1s", "misfire": {"catch_up": {"max": 1}}}), 400, "invalid_field", "catch_up"),
        (
            json!({"after": "1s", "misfire": {"catch_up": {"max": -1, "within": "1h"}}}),
            400,
            "invalid_field",
            "catch_up",
        ),
        (
            json!({"after": "1s", "misfire": {"catch_up": {"max": 1, "within": 5}}}),
            400,
            "invalid_duration",
            "misfire.catch_up.within is 5",
        ),
        (
            json!({"after": "1s", "misfire": {"catch_up": {"max": 1001, "within": "1h"}}}),
            400,
            "invalid_timer",
            "1 to 1000",
        ),
        (
            json!({"after": "1s", "overlap": "pile_up"}),
            400,
            "invalid_field",
            "use allow, skip, buffer_one or",
        ),
        (json!({"after": "1s", "priority": 128}), 400, "invalid_field", "from -128 to 127"),
        (json!({"after": "1s", "tags": ["a"], "labels": {"a": "b"}}), 400, "invalid_field", "tags: \"a\""),
        (json!({"after": "1s", "tags": "a"}), 400, "invalid_field", "tags: invalid type"),
        (json!({"after": "1s", "tags": [""]}), 400, "invalid_timer", "key is empty"),
        (wait(json!([]), json!("all")), 400, "invalid_timer", "name 1 to 64"),
        (wait(json!([{"id": absent}]), json!("some")), 400, "invalid_field", "start_after.need is \"some\""),
        (wait(json!([{"id": absent}]), json!("all")), 404, "timer_not_found", absent),
        (wait(json!([{"id": "x"}]), json!("all")), 404, "timer_not_found", "x"),
        (wait(json!([{"id": absent, "on": "monday"}]), json!(1)), 400, "invalid_field", "fired, completed"),
        (wait(json!([{"id": absent, "if": "x"}]), json!(1)), 400, "unknown_field", "start_after.timers[0]"),
        (json!({"after": "1s", "start_after": []}), 400, "invalid_field", "a JSON object"),
    ];
    for (fields, status, code, detail) in table {
        let body = merge(json!({"name": "n"}), &fields);
        check_problem(&service.post(body.to_string()).await, status, code, detail);
    }
    let there = service.create(json!({"name": "n", "after": "1h"})).await;
    let body = merge(json!({"name": "n"}), &wait(json!([{"id": there["id"]}]), json!(2)));
    check_problem(&service.post(body.to_string()).await, 400, "invalid_timer", "ask for 1 to 1");
    let twice =
        merge(json!({"name": "n"}), &wait(json!([{"id": there["id"]}, {"id": there["id"]}]), json!(1)));
    check_problem(&service.post(twice.to_string()).await, 400, "invalid_timer", "the same timer twice");
    assert_eq!(service.get("/v1/timers").await.json()["timers"].as_array().unwrap().len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn extreme_numbers_are_kept_or_refused_and_harm_nobody() {
    let clock = clock();
    let service = Running::on_clock(clock.clone()).await;
    let mut live = service.events(None).await;
    let there = service.create(json!({"name": "there", "after": "0s"})).await;
    let table: Vec<(Value, u16)> = vec![
        (json!({"every": "106751d"}), 400),
        (json!({"every": "1h", "jitter": "80000d"}), 201),
        (json!({"every": "1ms", "anchor": "0001-01-01T00:00:00Z", "count": 1}), 201),
        (json!({"every": "106751d", "anchor": "2262-04-11T00:00:00Z"}), 201),
        (json!({"every": "1h", "start": "0001-01-01T00:00:00Z", "end": "2262-04-11T00:00:00Z"}), 201),
        (json!({"every": "1h", "end": "3000-01-01T00:00:00Z"}), 400),
        (json!({"cron": "@yearly", "start": "2262-01-02T00:00:00Z"}), 400),
        (json!({"every": "1ms", "count": u64::MAX, "misfire": "skip", "overlap": "skip"}), 201),
        (json!({"every": "1h", "count": u64::MAX, "grace": "106751d", "expire_after": "106751d"}), 201),
        (json!({"cron": "* * * * * *", "misfire": {"catch_up": {"max": 1000, "within": "106751d"}}}), 201),
        (
            json!({"at": "0001-01-01T00:00:00Z", "start_after": {"timers": [{"id": there["id"], "on": "ended"}]}}),
            201,
        ),
    ];
    for (fields, status) in &table {
        let answer = service.post(merge(json!({"name": "n"}), fields).to_string()).await;
        assert_eq!(answer.status, *status, "{fields}: {}", answer.text);
    }
    // A day that nobody saw; then each is cancelled, and the service is well.
    clock.set(Timestamp::from_secs(1_800_086_400));
    live.until("timer.skipped").await;
    let far = json!({"name": "far", "after": "0s"});
    let last = service.create(far).await;
    while live.until("timer.completed").await.pop().unwrap().data["timer_id"] != last["id"] {}
    assert_eq!(service.post_to("/v1/timers/batch/cancel", json!({"filter": {}})).await.status, 200);
    let moved = service.create(json!({"name": "moved", "after": "1h"})).await;
    let path = format!("/v1/timers/{}/reschedule", moved["id"].as_str().unwrap());
    for (by, status) in [("106751d", 400), ("-106751d", 400), ("85000d", 200)] {
        assert_eq!(service.post_to(&path, json!({"extend_by": by})).await.status, status, "{by}");
    }
    assert_eq!(service.get("/readyz").await.status, 200);
    service.stop().await;
}
