//! The flags of `minoots serve`.

use crate::config::{Config, ConfigError, Layer};
use clap::Args;
use std::path::PathBuf;

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
            master_key: None,
            allow_remote_without_auth: self.allow_remote_without_auth.then_some(true),
        };
        Config::load(flags, &|name| std::env::var_os(name), self.config.as_deref())
    }
}
