//! `minoots mcp`: the tools over stdin and stdout, for a service at an address.

use super::McpArgs;
use super::backend::{Backend, Remote};
use super::server::Server;
use rmcp::ServiceExt;
use std::sync::Arc;

/// Serves until stdin ends.
pub async fn run(args: &McpArgs) -> Result<(), Box<dyn std::error::Error>> {
    let remote = Remote::new(&args.address(), args.api_key.clone())?;
    let server = Server::new(Backend::Remote(Arc::new(remote)));
    server.serve(rmcp::transport::stdio()).await?.waiting().await?;
    Ok(())
}
