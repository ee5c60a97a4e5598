//! What the HTTP endpoint answers: the time, metrics, the status, and whether the time can be used.

use crate::http::{self, Answer, Reply, Request};
use crate::status::look;
use crate::status_file::Board;
use crate::{log, metrics, time_api};
use chronotick::Client;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

/// Serves for the daemon that publishes `page`, until the process ends.
pub(crate) fn run(listener: &TcpListener, page: &Path, board: &Arc<Board>) {
    let client = match Client::attach_named(page.to_str()) {
        Ok(client) => client,
        Err(e) => {
            log::error(format_args!("no metrics: cannot read our own page: {e}"));
            return;
        }
    };
    if let Err(e) = http::serve(listener, |request| reply(request, &client, board)) {
        log::error(format_args!("no metrics any more: {e}"));
    }
}

fn reply(request: &Request<'_>, client: &Client, board: &Board) -> Reply {
    if let Some(reply) = time_api::reply(request, client) {
        return reply;
    }
    if request.is_post {
        return Answer::text(405, "only /v1/wait is posted to\n").into();
    }
    answer(request.path, client, board).into()
}

fn answer(path: &str, client: &Client, board: &Board) -> Answer {
    let status = match look(client, board.get(), true) {
        Ok(status) => status,
        Err(e) => return Answer::text(503, format!("{e}\n")),
    };
    match path {
        "/metrics" => Answer {
            code: 200,
            kind: "text/plain; version=0.0.4; charset=utf-8",
            body: metrics::text(&status),
        },
        "/status" | "/v1/status" => match serde_json::to_string_pretty(&status) {
            Ok(json) => Answer { code: 200, kind: "application/json", body: json + "\n" },
            Err(e) => Answer::text(503, format!("{e}\n")),
        },
        "/healthz" => {
            let is_usable = matches!(status.status, "synchronized" | "warming_up" | "holdover");
            Answer::text(if is_usable { 200 } else { 503 }, format!("{}\n", status.status))
        }
        "/" => Answer::text(
            200,
            "chronotick-daemon: /v1/time /v1/bounds /v1/wait /v1/status /openapi.json /metrics /healthz\n",
        ),
        _ => Answer::text(
            404,
            "there is /v1/time, /v1/bounds, /v1/wait, /v1/status, /openapi.json, /metrics and /healthz\n",
        ),
    }
}
