//! `minoots mcp`: the tools over stdin and stdout, for a service at an address.

use super::backend::{Backend, Remote};
use super::server::Server;
use rmcp::ServiceExt;
use std::sync::Arc;

/// Serves until stdin ends, for the holder of a key of the service at an address, who may act for a tenant.
pub async fn serve_stdio(
    url: &str,
    key: Option<String>,
    tenant: Option<&str>,
) -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::new(Backend::Remote(Arc::new(Remote::new(url, key, tenant)?)));
    server.serve(rmcp::transport::stdio()).await?.waiting().await?;
    Ok(())
}
