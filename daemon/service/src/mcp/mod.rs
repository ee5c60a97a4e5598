//! The timers for agents: an MCP server over stdio (`minoots mcp`) and over HTTP (`/mcp` of the service).

mod backend;
mod explain;
pub(crate) mod http;
mod prompts;
mod server;
mod stdio;
mod tools;
mod words;

pub use stdio::serve_stdio;
