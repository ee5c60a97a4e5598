//! Imports over the network into a running service, or only looks at what an import would do there.

use super::{IMPORTED_LABEL, TimerSink};
use chronotick::Timestamp;
use chronotick::timers::{Filter, Timer, TimerClient, TimersError};
use futures::FutureExt;
use futures::future::BoxFuture;
use minoots_kernel::{ScheduleSpec, TimerDefinition, TimerId};
use serde_json::Value;
use std::time::Duration;

/// The field of the metadata that holds the old file: the network API has no other place for it.
const LEGACY: &str = "legacy";

/// A running service as the place where imported timers go.
pub struct ClientSink {
    client: TimerClient,
}

impl ClientSink {
    /// Over a client, for the tenant that it speaks for.
    pub fn new(client: TimerClient) -> Self {
        Self { client }
    }
}

fn told(e: TimersError) -> String {
    e.to_string()
}

/// The id of a timer as a client has it.
fn id_of(text: &str) -> Result<TimerId, String> {
    TimerId::parse(text).ok_or_else(|| format!("the service gave the id {text:?}, which is none"))
}

/// The timer that an earlier import made of the same file.
async fn earlier(client: &TimerClient, definition: &TimerDefinition) -> Result<Option<TimerId>, String> {
    let label = definition.labels.get_key_value(IMPORTED_LABEL).ok_or("has no id")?;
    let filter = Filter { labels: [(label.0.clone(), label.1.clone())].into(), ..Filter::default() };
    let page = client.list(&filter, 1, None).await.map_err(told)?;
    page.items.first().map(|timer| id_of(&timer.id)).transpose()
}

/// The metadata, with the old file in it but for what is the metadata itself.
fn metadata(definition: &TimerDefinition) -> Value {
    let read = |text: &Option<String>| text.as_deref().and_then(|t| serde_json::from_str::<Value>(t).ok());
    let mut own = match read(&definition.metadata_json) {
        Some(Value::Object(own)) => own,
        Some(Value::Null) | None => serde_json::Map::new(),
        Some(other) => serde_json::Map::from_iter([("value".to_string(), other)]),
    };
    if let Some(Value::Object(mut legacy)) = read(&definition.origin_json).map(|mut o| o[LEGACY].take()) {
        legacy.remove("metadata");
        own.insert(LEGACY.into(), Value::Object(legacy));
    }
    Value::Object(own)
}

fn draft(definition: &TimerDefinition, schedule: &ScheduleSpec) -> Result<Timer, String> {
    let mut timer = match schedule {
        ScheduleSpec::AtNs(at_ns) => Timer::at(Timestamp::from_ns(*at_ns)),
        ScheduleSpec::AfterNs(ns) => Timer::after(Duration::from_nanos(ns.unsigned_abs())),
        _ => return Err("recurs, which no old timer does".into()),
    };
    timer = timer.name(&definition.name).metadata(&metadata(definition));
    for (key, value) in &definition.labels {
        timer = timer.label(key, value);
    }
    for action in &definition.actions {
        let parameters =
            serde_json::from_str(&action.parameters_json).map_err(|e| format!("{}: {e}", action.id))?;
        timer = timer.action(&action.id, &action.kind, &parameters);
    }
    Ok(match &definition.idempotency_key {
        Some(key) => timer.idempotency_key(key),
        None => timer,
    })
}

impl TimerSink for ClientSink {
    fn create(&self, definition: TimerDefinition) -> BoxFuture<'_, Result<(TimerId, bool), String>> {
        let made = async move {
            let mut made = self.client.create_once(draft(&definition, &definition.schedule)?).await;
            // The service's clock may be ahead of this machine's.
            if made.as_ref().is_err_and(|e| e.code() == "time_in_past") {
                made = self.client.create_once(draft(&definition, &ScheduleSpec::AfterNs(0))?).await;
            }
            match made {
                Ok((timer, was_there)) => Ok((id_of(&timer.id)?, was_there)),
                // An earlier import asked for something else, as one does once the end has passed.
                Err(e) if e.code() == "idempotency_conflict" => {
                    earlier(&self.client, &definition).await?.map(|id| (id, true)).ok_or_else(|| told(e))
                }
                Err(e) => Err(told(e)),
            }
        };
        made.boxed()
    }

    fn cancel(&self, id: TimerId, reason: String) -> BoxFuture<'_, Result<(), String>> {
        let cancelled = async move {
            match self.client.cancel(&id.to_string(), Some(&reason), None).await {
                Err(e) if e.code() != "wrong_state" => Err(told(e)),
                _ => Ok(()),
            }
        };
        cancelled.boxed()
    }
}

/// Changes nothing: it looks which timers are there already, and takes every other one as made.
pub struct DrySink {
    client: TimerClient,
}

impl DrySink {
    /// Over a client, for the tenant that it speaks for.
    pub fn new(client: TimerClient) -> Self {
        Self { client }
    }
}

impl TimerSink for DrySink {
    fn create(&self, definition: TimerDefinition) -> BoxFuture<'_, Result<(TimerId, bool), String>> {
        let looked = async move {
            // Whether it could be asked for; the service is not.
            let _ = draft(&definition, &definition.schedule)?;
            let earlier = earlier(&self.client, &definition).await?;
            Ok(earlier.map_or((TimerId::from_u128(0), false), |id| (id, true)))
        };
        looked.boxed()
    }

    fn cancel(&self, _: TimerId, _: String) -> BoxFuture<'_, Result<(), String>> {
        std::future::ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_metadata_keep_their_own_and_the_old_file() {
        for (own, want) in [
            (Some(r#"{"k":1}"#), json!({"k": 1, "legacy": {"id": "x", "status": "expired"}})),
            (Some("null"), json!({"legacy": {"id": "x", "status": "expired"}})),
            (Some("[1]"), json!({"value": [1], "legacy": {"id": "x", "status": "expired"}})),
            (None, json!({"legacy": {"id": "x", "status": "expired"}})),
        ] {
            let legacy = r#"{"legacy":{"id":"x","status":"expired","metadata":{"k":1}}}"#;
            let definition = TimerDefinition {
                metadata_json: own.map(Into::into),
                origin_json: Some(legacy.into()),
                ..TimerDefinition::default()
            };
            assert_eq!(metadata(&definition), want);
        }
    }
}
