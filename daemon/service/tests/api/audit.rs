//! The audit over the API: every command has its line, and only its tenant reads it.

use crate::harness::{Running, check_problem, config};
use minoots::audit;
use serde_json::{Value, json};

fn timer() -> Value {
    json!({"name": "t", "after": "1h", "actions": []})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_a_line_that_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::whole(&config(dir.path())).await;
    let id = service.create(timer()).await["id"].as_str().unwrap().to_string();
    check_problem(
        &service.post_to("/v1/timers/nothing/cancel", json!({})).await,
        404,
        "timer_not_found",
        "nothing",
    );
    assert_eq!(service.delete(&format!("/v1/timers/{id}")).await.status, 200);
    let page = service.get("/v1/audit").await.json();
    let lines: Vec<Value> = page["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| serde_json::from_str(l.as_str().unwrap()).unwrap())
        .collect();
    let said: Vec<_> = lines
        .iter()
        .map(|l| {
            (l["verb"].as_str().unwrap(), l["subject"].as_str().unwrap(), l["outcome"].as_str().unwrap())
        })
        .collect();
    assert_eq!(said, [("timers.create", &*id, "ok"), ("timers.cancel", &*id, "ok")]);
    assert_eq!(lines[0]["principal"], "local");
    assert_eq!(lines[0]["tenant"], "default");
    assert_eq!(lines[1]["prev"], lines[0]["hash"]);
    let next = service.get("/v1/audit?after=1&limit=1").await.json();
    assert_eq!(next["lines"].as_array().unwrap().len(), 1);
    check_problem(&service.get("/v1/audit?limit=0").await, 400, "invalid_query", "limit");
    assert_eq!(service.get("/v1/audit?tenant=other").await.json()["lines"], json!([]));
    service.stop().await;
    let report = audit::verify(&dir.path().join("audit")).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.lines, report.checkpoints, report.unsigned_lines), (2, 1, 0));
    // A second run continues the chain.
    let service = Running::whole(&config(dir.path())).await;
    service.create(timer()).await;
    service.stop().await;
    let report = audit::verify(&dir.path().join("audit")).unwrap();
    assert!(report.is_whole() && report.lines == 3, "{report:?}");
    let mut out = Vec::new();
    let filters = audit::Filters { verb: Some("timers.create".into()), ..Default::default() };
    assert_eq!(audit::export(&dir.path().join("audit"), &filters, &mut out).unwrap(), 2);
}
