//! The settings of `minoots serve`: flags over environment over file over defaults.

pub mod access;
mod file;
mod secrets;

pub use access::AccessConfig;
pub use file::ConfigFile;
pub use secrets::SecretsSection;

use crate::actions::RetryPolicy;
use crate::engine::Retention;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where the service listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7878";
/// The clock page that it reads unless told otherwise (the daemon's default).
pub const DEFAULT_SHM: &str = "chronotick_shm";

/// Everything `minoots serve` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address of HTTP and gRPC; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the timers are kept.
    pub data_dir: PathBuf,
    /// The name or path of the clock page.
    pub shm_name: String,
    /// How many partitions a new data directory gets.
    pub partitions: u32,
    /// How long history is kept.
    pub retention: Retention,
    /// How webhooks are retried.
    pub retry: RetryPolicy,
    /// How many action attempts run at once.
    pub max_in_flight: usize,
    /// How many fires wait in memory for their turn; `None` for as many as usual. Not in the file: for tests.
    pub queued_fires_max: Option<usize>,
    /// Who comes in.
    pub access: AccessConfig,
    /// Where the master key comes from.
    pub secrets: SecretsSection,
}

/// What may be set from outside the file: one layer of settings.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// `--listen` or MINOOTS_LISTEN.
    pub listen: Option<String>,
    /// `--data` or MINOOTS_DATA.
    pub data_dir: Option<PathBuf>,
    /// `--shm` or CHRONOTICK_SHM.
    pub shm_name: Option<String>,
    /// `--allow-remote-without-auth`.
    pub allow_remote_without_auth: Option<bool>,
    /// MINOOTS_MASTER_KEY.
    pub master_key: Option<Zeroizing<String>>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// The file is not what it should be; the text names the line and the key.
    #[error("the configuration {path} cannot be used: {reason}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: Box<toml::de::Error>,
    },
    /// A number is out of its range.
    #[error("{key} is {value}: give it a value from {min} to {max}")]
    OutOfRange {
        /// The key in the file.
        key: &'static str,
        /// What it was set to.
        value: u64,
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// The address is not one.
    #[error("cannot listen on {text:?}: write an address with its port, as in {DEFAULT_LISTEN} ({reason})")]
    Listen {
        /// As it was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting cannot be used.
    #[error("{key}: {what}")]
    Unusable {
        /// The key in the file, or the variable.
        key: String,
        /// What is wrong, and what to write.
        what: String,
    },
    /// The address can be reached from other machines.
    #[error(
        "{listen} can be reached from other machines, and this service asks nobody who they are: set [auth] mode = \
         \"required\" in the configuration, listen on a loopback address, or add --allow-remote-without-auth when \
         something in front of it controls access"
    )]
    Remote {
        /// The address.
        listen: SocketAddr,
    },
    /// There is no home directory to put the data in.
    #[error("no place for the data: set --data, MINOOTS_DATA, XDG_DATA_HOME or HOME")]
    NoDataDir,
}

/// Reads environment variables; injected, so that a test has its own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Layer {
    /// The layer of the environment. A variable that is empty is not set.
    pub fn from_env(env: Env<'_>) -> Self {
        let text = |name| env(name).filter(|v| !v.is_empty()).map(|v| v.to_string_lossy().into_owned());
        Self {
            listen: text("MINOOTS_LISTEN"),
            data_dir: env("MINOOTS_DATA").filter(|v| !v.is_empty()).map(PathBuf::from),
            shm_name: text("CHRONOTICK_SHM"),
            allow_remote_without_auth: None,
            master_key: text("MINOOTS_MASTER_KEY").map(Zeroizing::new),
        }
    }
}

impl Config {
    /// Puts the layers together: `flags` over the environment over the file over the defaults.
    pub fn load(flags: Layer, env: Env<'_>, file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = file.map(ConfigFile::read).transpose()?.unwrap_or_default();
        let vars = Layer::from_env(env);
        let listen_text =
            flags.listen.or(vars.listen).or(file.listen).unwrap_or_else(|| DEFAULT_LISTEN.to_string());
        let listen = parse_listen(&listen_text)?;
        let allow_remote =
            flags.allow_remote_without_auth.or(file.allow_remote_without_auth).unwrap_or(false);
        let sections = access::AccessSections { auth: file.auth, tls: file.tls, listener: file.listener };
        let bootstrap_key = env("MINOOTS_BOOTSTRAP_KEY").filter(|v| !v.is_empty());
        let mut access =
            sections.load(allow_remote, bootstrap_key.map(|v| v.to_string_lossy().into_owned()))?;
        access.limits = file.limits.unwrap_or_default();
        if !is_loopback(listen.ip()) && !allow_remote && access.mode == access::AuthMode::None {
            return Err(ConfigError::Remote { listen });
        }
        let data_dir = match flags.data_dir.or(vars.data_dir).or(file.data) {
            Some(dir) => dir,
            None => default_data_dir(env).ok_or(ConfigError::NoDataDir)?,
        };
        let shm_name = flags.shm_name.or(vars.shm_name).or(file.shm).unwrap_or_else(|| DEFAULT_SHM.into());
        let actions = file.actions.unwrap_or_default();
        let store = file.store.unwrap_or_default();
        Ok(Self {
            listen,
            data_dir,
            shm_name,
            partitions: store.partitions()?,
            retention: store.retention()?,
            retry: actions.retry_policy()?,
            max_in_flight: actions.max_in_flight()?,
            queued_fires_max: None,
            access,
            secrets: SecretsSection { from_env: vars.master_key, ..file.secrets.unwrap_or_default() },
        })
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let refuse = |reason: String| ConfigError::Listen { text: text.to_string(), reason };
    text.to_socket_addrs()
        .map_err(|e| refuse(e.to_string()))?
        .next()
        .ok_or_else(|| refuse("the name has no address".into()))
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn default_data_dir(env: Env<'_>) -> Option<PathBuf> {
    let set = |name| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    // The XDG rule: a path that is not absolute is ignored.
    let base = set("XDG_DATA_HOME")
        .filter(|p| p.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))?;
    Some(base.join("minoots"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env_of(vars: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into())
    }

    fn file_of(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn defaults_work_with_no_configuration() {
        let config = Config::load(Layer::default(), &env_of(&[("HOME", "/home/u")]), None).unwrap();
        assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
        assert_eq!(config.data_dir, Path::new("/home/u/.local/share/minoots"));
        assert_eq!(config.shm_name, DEFAULT_SHM);
        assert_eq!((config.retry, config.max_in_flight), (RetryPolicy::default(), 256));
    }

    #[test]
    fn each_layer_wins_over_the_one_below() {
        let file =
            file_of("listen = '127.0.0.1:1'\ndata = '/file'\nshm = 'file'\n[actions]\nmax_attempts = 2\n");
        let env =
            env_of(&[("MINOOTS_LISTEN", "127.0.0.1:2"), ("MINOOTS_DATA", "/env"), ("CHRONOTICK_SHM", "")]);
        let flags = Layer { listen: Some("127.0.0.1:3".into()), ..Layer::default() };
        let config = Config::load(flags, &env, Some(file.path())).unwrap();
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.data_dir, Path::new("/env"));
        assert_eq!(config.shm_name, "file");
        assert_eq!(config.retry.max_attempts, 2);
    }

    #[test]
    fn errors_name_what_is_wrong() {
        fn check(file: &str, flags: Layer, want: &[&str]) {
            let file = file_of(file);
            let message =
                Config::load(flags, &env_of(&[("HOME", "/h")]), Some(file.path())).unwrap_err().to_string();
            for part in want {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
        }
        let none = Layer::default;
        let listen = |text: &str| Layer { listen: Some(text.into()), ..Layer::default() };
        check("lisen = 'x'", none(), &["unknown field `lisen`", "`listen`", "`data`", "`shm`", "line 1"]);
        check("[actions]\nretries = 1", none(), &["unknown field `retries`", "`max_attempts`", "line 2"]);
        check("listen = 5", none(), &["expected a string"]);
        check("[actions]\nmax_attempts = 0", none(), &["actions.max_attempts is 0", "from 1 to 100"]);
        check("", listen("nowhere"), &["\"nowhere\"", "127.0.0.1:7878"]);
        check("", listen("0.0.0.0:1"), &["0.0.0.0:1", "--allow-remote-without-auth"]);
        check("", listen("[::]:1"), &["--allow-remote-without-auth"]);
        let no_home = Config::load(none(), &env_of(&[]), None).unwrap_err().to_string();
        assert!(no_home.contains("--data"), "{no_home}");
        let missing = Config::load(none(), &env_of(&[]), Some(Path::new("/nowhere/x.toml"))).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/x.toml"), "{missing}");
    }

    #[test]
    fn a_remote_address_can_be_allowed() {
        let flags = Layer {
            listen: Some("0.0.0.0:0".into()),
            allow_remote_without_auth: Some(true),
            ..Layer::default()
        };
        assert!(Config::load(flags, &env_of(&[("HOME", "/h")]), None).is_ok());
    }
}
