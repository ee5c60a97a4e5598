//! The audit over the API: every command has its line, and only its tenant reads it.

use crate::harness::{Running, check_problem, config};
use minoots::access::secret::{KeyText, system_random};
use minoots::audit;
use minoots::config::access::AuthMode;
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

#[tokio::test(flavor = "multi_thread")]
async fn refused_callers_and_bad_names_have_lines() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyText::random(&system_random()).unwrap();
    let mut config = config(dir.path());
    config.access.mode = AuthMode::Required;
    config.access.bootstrap_key = Some(key.clone());
    let service = Running::whole(&config).await;
    for _ in 0..50 {
        assert_eq!(service.ask("GET", "/v1/timers", "mnt_wrong", None).await.status, 401);
    }
    for path in ["/v1/schemas/a%20b", "/v1/secrets/a%20b"] {
        let answer = service.ask("PUT", path, key.reveal(), Some(json!({"value": "hidden-value"}))).await;
        check_problem(&answer, 400, "invalid_field", "cannot be used");
    }
    let no_value =
        service.ask("PUT", "/v1/secrets/s", key.reveal(), Some(json!({"v": "hidden-value"}))).await;
    assert_eq!(no_value.status, 400);
    service.stop().await;
    let mut out = Vec::new();
    audit::export(&dir.path().join("audit"), &audit::Filters::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let refused: Vec<_> = lines.iter().filter(|l| l["verb"] == "auth.refused").collect();
    let said: Vec<_> = refused.iter().map(|l| (l["subject"].as_str(), l["from"].as_str())).collect();
    assert_eq!(
        said,
        [(Some("1 requests"), Some("127.0.0.1")), (Some("49 requests"), Some("127.0.0.1"))],
        "{text}"
    );
    assert!(
        refused.iter().all(|l| l["outcome"] == "unauthenticated" && l["principal"] == "nobody"),
        "{text}"
    );
    for (verb, subject) in [("schemas.manage", "a b"), ("secrets.manage", "a b"), ("secrets.manage", "s")] {
        let is_there =
            |l: &Value| l["verb"] == verb && l["subject"] == subject && l["outcome"] == "invalid_field";
        assert!(lines.iter().any(is_there), "{verb} {subject:?}: {text}");
    }
    assert!(!text.contains("hidden-value"), "{text}");
    assert!(audit::verify(&dir.path().join("audit")).unwrap().is_whole());
}
