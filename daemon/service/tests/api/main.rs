//! The API as a client sees it: the real service on a real port, with a real receiver of webhooks.
#![expect(clippy::unwrap_used, reason = "the helpers of tests, which clippy does not know as tests")]

mod changes;
mod create;
mod docs;
mod errors;
mod events;
mod flow;
mod grpc;
mod grpc_changes;
mod harness;
mod history;
mod program;
mod sockets;
mod streams;
