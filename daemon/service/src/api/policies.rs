//! The fields of a create that say what becomes of occurrences that cannot fire as they were meant, and what the timer
//! waits for.

use super::body::Object;
use super::error::{ApiError, INVALID_FIELD};
use super::values::{duration_ns, timer_id, word};
use crate::render::words::{OVERLAPS, UPSTREAM_ONS};
use minoots_kernel::{MisfirePolicy, Need, OverlapPolicy, StartAfter, Upstream, UpstreamOn};
use serde::Deserialize;
use serde_json::Value;

/// The field `start_after`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StartAfterBody {
    timers: Vec<Object<UpstreamBody>>,
    need: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamBody {
    id: String,
    on: Option<String>,
}

/// Which timers to wait for.
pub(super) fn start_after(body: StartAfterBody) -> Result<StartAfter, ApiError> {
    let upstream = |Object(u): Object<UpstreamBody>| {
        let on = u.on.map(|on| word("start_after.timers.on", &on, &UPSTREAM_ONS)).transpose()?;
        Ok(Upstream { timer: timer_id(&u.id)?, on: on.unwrap_or(UpstreamOn::Completed) })
    };
    let upstreams = body.timers.into_iter().map(upstream).collect::<Result<_, ApiError>>()?;
    let need = match &body.need {
        None => Need::All,
        Some(Value::String(text)) if text == "all" => Need::All,
        Some(Value::String(text)) if text == "any" => Need::Any,
        Some(other) => match other.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(n) => Need::AtLeast(n),
            None => {
                let detail =
                    format!("start_after.need is {other}: use \"all\", \"any\" or a number of timers");
                return Err(ApiError::new(&INVALID_FIELD, detail));
            }
        },
    };
    Ok(StartAfter { upstreams, need })
}

/// What becomes of an occurrence that is due while an earlier fire is under way.
pub(super) fn overlap(text: &str) -> Result<OverlapPolicy, ApiError> {
    word("overlap", text, &OVERLAPS)
}

/// What becomes of missed occurrences: a word, or an object with the numbers of a catch-up.
pub(super) fn misfire(value: Value) -> Result<MisfirePolicy, ApiError> {
    let refuse = |value: &Value| {
        let detail = format!(
            "misfire is {value}: use \"fire_now\", \"skip\", \"fire_once\" or {{\"catch_up\": {{\"max\": 10, \"within\": \
             \"1h\"}}}}"
        );
        Err(ApiError::new(&INVALID_FIELD, detail))
    };
    match &value {
        Value::String(text) => match text.as_str() {
            "fire_now" => Ok(MisfirePolicy::FireNow),
            "skip" => Ok(MisfirePolicy::Skip),
            "fire_once" => Ok(MisfirePolicy::FireOnce),
            _ => refuse(&value),
        },
        Value::Object(fields) if fields.len() == 1 => match fields.get("catch_up") {
            Some(Value::Object(numbers)) if numbers.len() == 2 => {
                let (Some(max), Some(within)) = (numbers.get("max"), numbers.get("within")) else {
                    return refuse(&value);
                };
                let Some(max) = max.as_u64() else { return refuse(&value) };
                Ok(MisfirePolicy::CatchUp { max, within_ns: duration_ns("misfire.catch_up.within", within)? })
            }
            _ => refuse(&value),
        },
        _ => refuse(&value),
    }
}
