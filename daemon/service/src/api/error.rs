//! The errors of the API: one table of codes, and how each is told over HTTP.

use crate::engine::EngineError;
use crate::render;
use crate::store::StoreError;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use chronotick_core::schedule::ScheduleError;
use minoots_kernel::CommandError;
use serde::Serialize;

/// One row of the table of errors.
#[derive(Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// The stable word that programs compare.
    pub code: &'static str,
    /// The HTTP status.
    pub http: u16,
    /// The gRPC status.
    pub grpc: tonic::Code,
    /// What is wrong, for every case of it.
    pub title: &'static str,
    /// When to try again, in seconds, where trying again can help.
    pub retry_after_secs: Option<u32>,
}

/// The word of a code from the name of its constant.
macro_rules! lower {
    ($name:ident) => {{
        const UPPER: &[u8] = stringify!($name).as_bytes();
        const LOWER: [u8; UPPER.len()] = {
            let mut bytes = [0; UPPER.len()];
            let mut i = 0;
            while i < UPPER.len() {
                bytes[i] = UPPER[i].to_ascii_lowercase();
                i += 1;
            }
            bytes
        };
        match str::from_utf8(&LOWER) {
            Ok(word) => word,
            Err(_) => panic!("a Rust name is UTF-8"),
        }
    }};
}

macro_rules! codes {
    ($($name:ident = $http:literal $grpc:ident $title:literal $(retry $secs:literal)?;)*) => {
        $(
            #[doc = $title]
            pub const $name: ErrorCode = ErrorCode {
                code: lower!($name),
                http: $http,
                grpc: tonic::Code::$grpc,
                title: $title,
                retry_after_secs: codes!(@retry $($secs)?),
            };
        )*
        /// Every row; docs/api/errors.md lists the same ones.
        pub const ALL: &[&ErrorCode] = &[$(&$name),*];
    };
    (@retry $secs:literal) => { Some($secs) };
    (@retry) => { None };
}

codes! {
    INVALID_JSON = 400 InvalidArgument "The body is not valid JSON";
    INVALID_FIELD = 400 InvalidArgument "A field has a value that cannot be used";
    UNKNOWN_FIELD = 400 InvalidArgument "A field has a name that is not known";
    MISSING_FIELD = 400 InvalidArgument "A field that is needed is missing";
    INVALID_SCHEDULE = 400 InvalidArgument "Exactly one of after, at, every and cron is needed";
    INVALID_RECURRENCE = 400 InvalidArgument "The interval or the cron rule cannot be used";
    INVALID_DURATION = 400 InvalidArgument "The duration cannot be used";
    INVALID_TIME = 400 InvalidArgument "The time cannot be used";
    TIME_IN_PAST = 400 InvalidArgument "The time has passed";
    TIME_TOO_FAR = 400 InvalidArgument "The time lies too far ahead";
    UNKNOWN_ACTION_KIND = 400 InvalidArgument "No connector carries out this kind of action";
    INVALID_ACTION = 400 InvalidArgument "The parameters of an action cannot be used";
    UNKNOWN_SCHEMA = 400 InvalidArgument "No such payload schema is registered";
    INVALID_PAYLOAD = 400 InvalidArgument "The metadata does not fit the payload schema";
    INVALID_TIMER = 400 InvalidArgument "The timer breaks a limit";
    INVALID_QUERY = 400 InvalidArgument "A query parameter or header cannot be used";
    UNAUTHENTICATED = 401 Unauthenticated "The caller is not known";
    FORBIDDEN = 403 PermissionDenied "The caller may not do this";
    TIMER_NOT_FOUND = 404 NotFound "There is no such timer";
    NOT_FOUND = 404 NotFound "There is nothing of this name";
    FIRE_NOT_FOUND = 404 NotFound "The timer has no such fire";
    ROUTE_NOT_FOUND = 404 Unimplemented "There is nothing at this path";
    METHOD_NOT_ALLOWED = 405 Unimplemented "This path does not know this method";
    WRONG_STATE = 409 FailedPrecondition "The timer is past the state in which this can be done";
    VERSION_CONFLICT = 412 Aborted "The timer has changed since it was read";
    ALREADY_EXISTS = 409 AlreadyExists "There is something of this name";
    NO_MASTER_KEY = 409 FailedPrecondition "The service has no master key to seal secrets with";
    IDEMPOTENCY_CONFLICT = 409 AlreadyExists "The idempotency key was used for another timer";
    BODY_TOO_LARGE = 413 ResourceExhausted "The body is too large";
    UNSUPPORTED_MEDIA_TYPE = 415 InvalidArgument "The body is not declared as JSON";
    UPGRADE_REQUIRED = 426 InvalidArgument "This path speaks WebSocket only";
    QUOTA_EXCEEDED = 429 ResourceExhausted "The tenant has used up a quota";
    RATE_LIMITED = 429 ResourceExhausted "The tenant asks too often";
    EVENTS_GONE = 410 OutOfRange "The events after that place are no longer kept";
    INTERNAL = 500 Internal "The service broke one of its own rules";
    STORE_FULL = 503 ResourceExhausted "There is no room to store it" retry 5;
    STORE_FAILED = 503 Unavailable "The store failed" retry 30;
    SHUTTING_DOWN = 503 Unavailable "The service is shutting down" retry 1;
}

/// The media type of an error answer (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What is left of a limit, and when there is more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remaining {
    /// The limit.
    pub limit: u64,
    /// How much of it is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    /// How much of it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// When the same request may pass, where time alone makes room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Remaining {
    fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after_ms.map(|ms| ms.div_ceil(1000))
    }

    /// As headers, or as metadata.
    fn headers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let remaining = self.remaining.map(|n| ("ratelimit-remaining", n));
        let reset = self.retry_after_secs().map(|secs| ("ratelimit-reset", secs));
        [Some(("ratelimit-limit", self.limit)), remaining, reset].into_iter().flatten()
    }
}

/// Why a request was not carried out, in the words of the API.
#[derive(Debug)]
pub struct ApiError {
    /// Its row in the table.
    pub code: &'static ErrorCode,
    /// What happened this time, with what to do next.
    pub detail: String,
    /// What is left of the limit that refused it.
    pub limits: Option<Box<Remaining>>,
}

impl ApiError {
    /// A row with its detail.
    pub fn new(code: &'static ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), limits: None }
    }
}

impl From<CommandError> for ApiError {
    fn from(e: CommandError) -> Self {
        let code = match &e {
            CommandError::Schedule(ScheduleError::NegativeDelay(_)) => &INVALID_DURATION,
            CommandError::Schedule(ScheduleError::InThePast { .. }) => &TIME_IN_PAST,
            CommandError::Schedule(ScheduleError::TooFar) => &TIME_TOO_FAR,
            CommandError::Recurrence(_) => &INVALID_RECURRENCE,
            CommandError::Invalid(_) => &INVALID_TIMER,
            CommandError::NotFound(_) => &TIMER_NOT_FOUND,
            CommandError::NoSuchFire(_) => &FIRE_NOT_FOUND,
            CommandError::VersionConflict { .. } => &VERSION_CONFLICT,
            CommandError::Cold(_) => &STORE_FAILED,
            CommandError::WrongState { .. } => &WRONG_STATE,
            CommandError::IdempotencyConflict { .. } => &IDEMPOTENCY_CONFLICT,
            CommandError::DuplicateId(_) => &INTERNAL,
        };
        Self::new(code, e.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        let code = match e {
            StoreError::Gone { .. } => &EVENTS_GONE,
            StoreError::Full { .. } => &STORE_FULL,
            _ => &STORE_FAILED,
        };
        Self::new(code, e.to_string())
    }
}

impl From<EngineError> for ApiError {
    fn from(e: EngineError) -> Self {
        let code = match e {
            EngineError::Refused(refused) => return refused.into(),
            EngineError::StoreFull { .. } => &STORE_FULL,
            EngineError::StoreFailed { .. } => &STORE_FAILED,
            EngineError::ShuttingDown => &SHUTTING_DOWN,
        };
        Self::new(code, e.to_string())
    }
}

/// An error as JSON (RFC 9457).
#[derive(Debug, Serialize)]
pub struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(flatten)]
    limits: Option<&'a Remaining>,
}

impl ApiError {
    /// When to try again, in seconds.
    fn retry_after_secs(&self) -> Option<u64> {
        let own = self.limits.as_ref().and_then(|limits| limits.retry_after_secs());
        own.or_else(|| self.code.retry_after_secs.map(u64::from))
    }

    /// As it is told in JSON.
    pub fn problem(&self) -> Problem<'_> {
        let ErrorCode { code, http, title, .. } = *self.code;
        Problem {
            r#type: format!("urn:minoots:error:{code}"),
            title,
            status: http,
            detail: &self.detail,
            code,
            limits: self.limits.as_deref(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let http = self.code.http;
        let body = render::to_text(&self.problem());
        let status = StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if let Some(secs) = self.retry_after_secs() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        for (name, value) in self.limits.iter().flat_map(|limits| limits.headers()) {
            response.headers_mut().insert(name, HeaderValue::from(value));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"minoots\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A status travels in a header, which clients take up to some size only, and a detail may repeat what was sent.
const STATUS_DETAIL_MAX_BYTES: usize = 1_024;

impl From<ApiError> for tonic::Status {
    fn from(e: ApiError) -> Self {
        let detail = &e.detail[..e.detail.floor_char_boundary(STATUS_DETAIL_MAX_BYTES)];
        let mut status = Self::new(e.code.grpc, format!("{}: {detail}", e.code.code));
        status
            .metadata_mut()
            .insert("minoots-code", tonic::metadata::MetadataValue::from_static(e.code.code));
        if let Some(secs) = e.retry_after_secs() {
            status.metadata_mut().insert("retry-after", tonic::metadata::MetadataValue::from(secs));
        }
        for (name, value) in e.limits.iter().flat_map(|limits| limits.headers()) {
            status.metadata_mut().insert(name, tonic::metadata::MetadataValue::from(value));
        }
        status
    }
}

/// A malformed name of a fire names none.
pub(crate) fn no_such_fire(firing: &str) -> ApiError {
    let shown: String = firing.chars().take(64).collect();
    ApiError::new(
        &FIRE_NOT_FOUND,
        format!("the timer has no fire {shown:?}: its history lists the ones there were"),
    )
}

/// A malformed id names no timer, so it is answered as an unknown one.
pub(crate) fn no_such_timer(id: &str) -> ApiError {
    // What was sent may be long and hostile; enough of it to recognise it is enough.
    let shown: String = id.chars().take(64).collect();
    ApiError::new(&TIMER_NOT_FOUND, format!("no timer {shown:?}: GET /v1/timers lists the ones there are"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_lists_every_code_with_its_statuses() {
        let docs = include_str!("../../../../docs/api/errors.md");
        for row in ALL {
            let want = format!("| `{}` | {} | {:?} | {} |", row.code, row.http, row.grpc, row.title);
            assert!(docs.contains(&want), "docs/api/errors.md lacks the line:\n{want}");
        }
        let listed = docs.lines().filter(|l| l.starts_with("| `")).count();
        assert_eq!(listed, ALL.len(), "docs/api/errors.md lists a code that is not in the table");
    }

    #[test]
    fn codes_are_unique() {
        let mut words: Vec<_> = ALL.iter().map(|c| c.code).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ALL.len());
        assert_eq!(TIMER_NOT_FOUND.code, "timer_not_found");
    }
}
