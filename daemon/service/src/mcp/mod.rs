//! The timers for agents: an MCP server over stdio (`minoots mcp`) and over HTTP (`/mcp` of the service).

mod backend;
mod confirm;
mod explain;
mod follow;
pub(crate) mod http;
mod prompts;
mod server;
mod sessions;
mod stdio;
mod tools;
mod who;
mod words;

pub use stdio::serve_stdio;
