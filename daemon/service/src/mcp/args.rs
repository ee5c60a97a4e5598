//! The flags of `minoots mcp`.

use clap::Args;

/// The flags of `minoots mcp`.
#[derive(Debug, Clone, Args)]
pub struct McpArgs {
    /// The service to use [default: http://127.0.0.1:7878] [env: MINOOTS_API_BASE as well]
    #[arg(long, value_name = "URL", env = "MINOOTS_URL")]
    pub url: Option<String>,
    /// The API key to use; better given in the environment, where other users do not see it
    #[arg(long, value_name = "KEY", env = "MINOOTS_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

impl McpArgs {
    /// The address that these flags lead to.
    pub fn address(&self) -> String {
        let old = || std::env::var("MINOOTS_API_BASE").ok().filter(|s| !s.is_empty());
        self.url.clone().or_else(old).unwrap_or_else(|| "http://127.0.0.1:7878".to_string())
    }
}
