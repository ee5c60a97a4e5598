//! The one table of the native REST routes.

use super::JSON;
use crate::access::Verb;
use crate::api::error::{
    BODY_TOO_LARGE, EVENTS_GONE, ErrorCode, FIRE_NOT_FOUND, FORBIDDEN, IDEMPOTENCY_CONFLICT, INTERNAL,
    INVALID_ACTION, INVALID_DURATION, INVALID_FIELD, INVALID_JSON, INVALID_PAYLOAD, INVALID_QUERY,
    INVALID_RECURRENCE, INVALID_SCHEDULE, INVALID_TIME, INVALID_TIMER, METHOD_NOT_ALLOWED, MISSING_FIELD,
    QUOTA_EXCEEDED, RATE_LIMITED, ROUTE_NOT_FOUND, SHUTTING_DOWN, STORE_FAILED, STORE_FULL, TIME_IN_PAST,
    TIME_TOO_FAR, TIMER_NOT_FOUND, UNAUTHENTICATED, UNKNOWN_ACTION_KIND, UNKNOWN_FIELD, UNKNOWN_SCHEMA,
    UNSUPPORTED_MEDIA_TYPE, UPGRADE_REQUIRED, VERSION_CONFLICT, WRONG_STATE,
};
use Verb::{
    AcknowledgeFire, CancelTimer, CreateTimer, FireTimer, ListTimers, PauseTimer, ReadHistory, ReadMetrics,
    ReadStatus, ReadTimer, RescheduleTimer, ResumeTimer, WatchEvents,
};

/// One method of one path.
#[derive(Debug)]
pub struct RouteDoc {
    /// In capitals.
    pub method: &'static str,
    /// With its parameters in braces, as the router has it.
    pub path: &'static str,
    /// Its name in the document.
    pub operation: &'static str,
    /// Which part of the document it is in.
    pub tag: &'static str,
    /// What a caller needs to be allowed; `None` where anybody is answered.
    pub verb: Option<Verb>,
    /// One sentence.
    pub summary: &'static str,
    /// Query parameters and headers, by their names in `parameters.rs`.
    pub parameters: &'static [&'static str],
    /// What is sent.
    pub body: Option<Body>,
    /// What comes back.
    pub answers: &'static [Answer],
    /// Rows of the table of errors, in groups.
    pub errors: &'static [&'static [&'static ErrorCode]],
}

/// A body in JSON.
#[derive(Debug)]
pub struct Body {
    /// The name of its schema.
    pub schema: &'static str,
    /// Whether it may not be left out.
    pub is_needed: bool,
}

/// An answer that is no error.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// A sentence.
    pub what: &'static str,
    /// The media type; empty where there is no body.
    pub media: &'static str,
    /// The name of its schema; empty for text.
    pub schema: &'static str,
    /// Headers that it always has.
    pub headers: &'static [&'static str],
}

/// Every route, in the order of the document.
pub fn routes() -> impl Iterator<Item = &'static RouteDoc> {
    ROUTES.iter().chain(super::admin::ROUTES)
}

pub(super) type Codes = &'static [&'static ErrorCode];

/// What any request can be answered. HTTP itself is answered so as well: a path that cannot be read, or a method.
pub(super) const ANY: Codes = &[
    &UNAUTHENTICATED,
    &FORBIDDEN,
    &ROUTE_NOT_FOUND,
    &METHOD_NOT_ALLOWED,
    &RATE_LIMITED,
    &INTERNAL,
    &STORE_FAILED,
    &SHUTTING_DOWN,
];
/// What a path without a caller can be answered.
pub(super) const OPEN: Codes = &[&METHOD_NOT_ALLOWED];
pub(super) const QUERY: Codes = &[&INVALID_QUERY];
pub(super) const BODY: Codes = &[
    &INVALID_JSON,
    &INVALID_FIELD,
    &UNKNOWN_FIELD,
    &MISSING_FIELD,
    &BODY_TOO_LARGE,
    &UNSUPPORTED_MEDIA_TYPE,
    &INVALID_QUERY,
];
const NEW: Codes = &[
    &INVALID_SCHEDULE,
    &INVALID_RECURRENCE,
    &INVALID_DURATION,
    &INVALID_TIME,
    &TIME_IN_PAST,
    &TIME_TOO_FAR,
    &UNKNOWN_ACTION_KIND,
    &INVALID_ACTION,
    &UNKNOWN_SCHEMA,
    &INVALID_PAYLOAD,
    &INVALID_TIMER,
    &TIMER_NOT_FOUND,
    &IDEMPOTENCY_CONFLICT,
];
const WRITE: Codes = &[&QUOTA_EXCEEDED, &STORE_FULL];
const TIMER: Codes = &[&TIMER_NOT_FOUND];
const CHANGE: Codes = &[&INVALID_TIMER, &TIMER_NOT_FOUND, &WRONG_STATE, &VERSION_CONFLICT];
const TIMES: Codes = &[&INVALID_DURATION, &INVALID_TIME, &TIME_IN_PAST, &TIME_TOO_FAR];

pub(super) const fn json(status: u16, what: &'static str, schema: &'static str) -> Answer {
    json_with(status, what, schema, &[])
}

pub(super) const fn json_with(
    status: u16,
    what: &'static str,
    schema: &'static str,
    headers: &'static [&'static str],
) -> Answer {
    Answer { status, what, media: JSON, schema, headers }
}

const fn timer(status: u16, what: &'static str) -> Answer {
    Answer { status, what, media: JSON, schema: "Timer", headers: &["ETag"] }
}

const THE_TIMER: &[Answer] = &[timer(200, "The timer as it stands.")];
const THE_CHANGES: &[Answer] =
    &[json(200, "What became of each, or how many were changed.", "ChangeResults")];

const fn body(schema: &'static str) -> Option<Body> {
    Some(Body { schema, is_needed: true })
}

const fn verb_of_one(
    path: &'static str,
    operation: &'static str,
    verb: Verb,
    summary: &'static str,
    schema: &'static str,
    errors: &'static [Codes],
) -> RouteDoc {
    RouteDoc {
        method: "POST",
        path,
        operation,
        tag: "timers",
        verb: Some(verb),
        summary,
        parameters: &["If-Match"],
        body: Some(Body { schema, is_needed: false }),
        answers: THE_TIMER,
        errors,
    }
}

const fn verb_of_many(
    path: &'static str,
    operation: &'static str,
    verb: Verb,
    summary: &'static str,
    schema: &'static str,
) -> RouteDoc {
    RouteDoc {
        method: "POST",
        path,
        operation,
        tag: "batches",
        verb: Some(verb),
        summary,
        parameters: &[],
        body: body(schema),
        answers: THE_CHANGES,
        errors: &[ANY, BODY, WRITE, TIMES, &[&INVALID_TIMER]],
    }
}

/// A path that says how the service is; anybody is answered where there is no verb.
const fn state(
    path: &'static str,
    operation: &'static str,
    verb: Option<Verb>,
    summary: &'static str,
    answers: &'static [Answer],
    errors: &'static [Codes],
) -> RouteDoc {
    RouteDoc {
        method: "GET",
        path,
        operation,
        tag: "service",
        verb,
        summary,
        parameters: &[],
        body: None,
        answers,
        errors,
    }
}

const VERB: &[Codes] = &[ANY, BODY, CHANGE, WRITE];

const ROUTES: &[RouteDoc] = &[
    RouteDoc {
        method: "POST",
        path: "/v1/timers",
        operation: "createTimer",
        tag: "timers",
        verb: Some(CreateTimer),
        summary: "Creates a timer; it is durable when the answer arrives.",
        parameters: &["Idempotency-Key"],
        body: body("NewTimer"),
        answers: &[
            Answer {
                status: 201,
                what: "The timer.",
                media: JSON,
                schema: "Timer",
                headers: &["ETag", "Location"],
            },
            Answer {
                status: 200,
                what: "The idempotency key had made it before.",
                media: JSON,
                schema: "Timer",
                headers: &["ETag", "Location"],
            },
        ],
        errors: &[ANY, BODY, NEW, WRITE],
    },
    RouteDoc {
        method: "GET",
        path: "/v1/timers",
        operation: "listTimers",
        tag: "timers",
        verb: Some(ListTimers),
        summary: "A page of timers in order of creation.",
        parameters: &["state", "agent", "team", "label", "tag", "due_from", "due_until", "limit", "cursor"],
        body: None,
        answers: &[json(200, "The timers, and where the next page starts.", "Timers")],
        errors: &[ANY, QUERY, &[&TIME_TOO_FAR, &STORE_FULL]],
    },
    RouteDoc {
        method: "GET",
        path: "/v1/timers/{id}",
        operation: "getTimer",
        tag: "timers",
        verb: Some(ReadTimer),
        summary: "One timer.",
        parameters: &[],
        body: None,
        answers: &[timer(200, "The timer as it stands.")],
        errors: &[ANY, QUERY, TIMER],
    },
    RouteDoc {
        method: "DELETE",
        path: "/v1/timers/{id}",
        operation: "deleteTimer",
        tag: "timers",
        verb: Some(CancelTimer),
        summary: "Cancels a timer; as its cancel.",
        parameters: &["reason", "If-Match"],
        body: None,
        answers: &[timer(200, "The timer as it stands.")],
        errors: &[ANY, QUERY, CHANGE, WRITE],
    },
    verb_of_one(
        "/v1/timers/{id}/cancel",
        "cancelTimer",
        CancelTimer,
        "Nothing more of the timer fires; fires under way go on.",
        "Reason",
        VERB,
    ),
    verb_of_one(
        "/v1/timers/{id}/pause",
        "pauseTimer",
        PauseTimer,
        "The timer does not fire until it is resumed.",
        "Reason",
        VERB,
    ),
    verb_of_one(
        "/v1/timers/{id}/resume",
        "resumeTimer",
        ResumeTimer,
        "A paused timer goes on.",
        "NoFields",
        VERB,
    ),
    verb_of_one("/v1/timers/{id}/fire", "fireTimer", FireTimer, "The timer fires now.", "NoFields", VERB),
    verb_of_one(
        "/v1/timers/{id}/reschedule",
        "rescheduleTimer",
        RescheduleTimer,
        "Moves the timer's next occurrence.",
        "NewDue",
        &[ANY, BODY, CHANGE, WRITE, TIMES],
    ),
    RouteDoc {
        method: "POST",
        path: "/v1/timers/{id}/acknowledge",
        operation: "acknowledgeFire",
        tag: "timers",
        verb: Some(AcknowledgeFire),
        summary: "Whoever the latest fire woke has answered.",
        parameters: &[],
        body: body("Acknowledgement"),
        answers: &[timer(200, "The timer as it stands.")],
        errors: &[ANY, BODY, CHANGE, WRITE, &[&FIRE_NOT_FOUND]],
    },
    RouteDoc {
        method: "GET",
        path: "/v1/timers/{id}/history",
        operation: "listHistory",
        tag: "timers",
        verb: Some(ReadHistory),
        summary: "What became of each occurrence, in order of the nominal times.",
        parameters: &["history_after", "limit"],
        body: None,
        answers: &[json(200, "The lines, and where the next page starts.", "History")],
        errors: &[ANY, QUERY, TIMER, &[&TIME_TOO_FAR, &STORE_FULL]],
    },
    RouteDoc {
        method: "POST",
        path: "/v1/timers/batch",
        operation: "createTimers",
        tag: "batches",
        verb: Some(CreateTimer),
        summary: "Creates up to 1000 timers in one write to the disk; one that is refused does not stop the others.",
        parameters: &[],
        body: body("NewTimers"),
        answers: &[json(200, "What became of each, in order.", "CreateResults")],
        errors: &[ANY, BODY, WRITE],
    },
    verb_of_many(
        "/v1/timers/batch/cancel",
        "cancelTimers",
        CancelTimer,
        "Cancels many timers.",
        "ChangeOfMany",
    ),
    verb_of_many("/v1/timers/batch/pause", "pauseTimers", PauseTimer, "Pauses many timers.", "ChangeOfMany"),
    verb_of_many(
        "/v1/timers/batch/resume",
        "resumeTimers",
        ResumeTimer,
        "Resumes many timers.",
        "ResumeOfMany",
    ),
    RouteDoc {
        method: "GET",
        path: "/v1/events",
        operation: "streamEvents",
        tag: "events",
        verb: Some(WatchEvents),
        summary: "What happens, as server-sent events, for as long as the caller listens.",
        parameters: STREAM_PARAMETERS,
        body: None,
        answers: &[Answer {
            status: 200,
            what: "The stream.",
            media: "text/event-stream",
            schema: "",
            headers: &[],
        }],
        errors: STREAM_ERRORS,
    },
    RouteDoc {
        method: "GET",
        path: "/v1/events/ws",
        operation: "openEventSocket",
        tag: "events",
        verb: Some(WatchEvents),
        summary: "The same over WebSocket; docs/api/streams.md is the protocol.",
        parameters: &["after", "heartbeat", "type", "timer", "agent", "team", "label", "tag"],
        body: None,
        answers: &[Answer { status: 101, what: "The socket is open.", media: "", schema: "", headers: &[] }],
        errors: &[ANY, QUERY, TIMER, &[&EVENTS_GONE, &QUOTA_EXCEEDED, &UPGRADE_REQUIRED]],
    },
    state(
        "/v1/status",
        "getStatus",
        Some(ReadStatus),
        "Which clock is in use, how many timers there are, how far the logs are.",
        &[json(200, "How the service is doing.", "Status")],
        &[ANY],
    ),
    state(
        "/metrics",
        "getMetrics",
        Some(ReadMetrics),
        "Figures for Prometheus.",
        &[Answer {
            status: 200,
            what: "In the OpenMetrics format.",
            media: crate::telemetry::CONTENT_TYPE,
            schema: "",
            headers: &[],
        }],
        &[ANY],
    ),
    state("/healthz", "getHealth", None, "The process is up.", &[json(200, "It is.", "Health")], &[OPEN]),
    state(
        "/readyz",
        "getReadiness",
        None,
        "The store takes changes.",
        &[json(200, "It does.", "Health")],
        &[OPEN, &[&STORE_FULL, &STORE_FAILED, &SHUTTING_DOWN]],
    ),
    state(
        "/openapi.json",
        "getDocument",
        None,
        "This document.",
        &[json(200, "OpenAPI 3.1.", "Document")],
        &[OPEN],
    ),
];

const STREAM_PARAMETERS: &[&str] =
    &["after", "heartbeat", "type", "timer", "agent", "team", "label", "tag", "Last-Event-ID"];
const STREAM_ERRORS: &[Codes] = &[ANY, QUERY, TIMER, &[&EVENTS_GONE, &QUOTA_EXCEEDED]];
