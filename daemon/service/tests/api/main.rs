//! The API as a client sees it: the real service on a real port, with a real receiver of webhooks.
#![expect(clippy::unwrap_used, reason = "the helpers of tests, which clippy does not know as tests")]

mod audit;
mod auth_abuse;
mod auth_docs;
mod auth_keys;
mod auth_streams;
mod auth_tls;
mod auth_tokens;
mod changes;
mod compat_a;
mod compat_b;
mod compat_v1;
mod create;
mod docs;
mod errors;
mod events;
mod fair;
mod flow;
mod fuzz;
mod grpc;
mod grpc_changes;
mod grpc_docs;
mod harness;
mod history;
mod matrix;
mod matrix_compat;
mod openapi;
mod program;
mod quotas;
mod schemas;
mod secrets;
mod signing;
mod sockets;
mod streams;
mod trace;
