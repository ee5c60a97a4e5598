//! The command line of `minoots`.

use crate::config::{Config, ConfigError, Layer};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A durable timer service that fires on bounded time.
#[derive(Debug, Parser)]
#[command(name = "minoots", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the service until SIGINT or SIGTERM.
    Serve(ServeArgs),
    /// Offer the timers of a service to an agent: MCP over stdin and stdout.
    Mcp(crate::mcp::McpArgs),
}

/// The flags of `minoots serve`.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Address of HTTP and gRPC; port 0 takes a free one [env: MINOOTS_LISTEN] [default: 127.0.0.1:7878]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Where the timers are kept [env: MINOOTS_DATA] [default: $XDG_DATA_HOME/minoots]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Name or path of the clock page [env: CHRONOTICK_SHM] [default: chronotick_shm]
    #[arg(long, value_name = "NAME")]
    pub shm: Option<String>,
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen on an address that other machines reach, though nobody is asked who they are
    #[arg(long)]
    pub allow_remote_without_auth: bool,
}

impl ServeArgs {
    /// The settings that these flags lead to, with the environment and the file.
    pub fn load(self) -> Result<Config, ConfigError> {
        let flags = Layer {
            listen: self.listen,
            data_dir: self.data,
            shm_name: self.shm,
            allow_remote_without_auth: self.allow_remote_without_auth.then_some(true),
        };
        Config::load(flags, &|name| std::env::var_os(name), self.config.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
