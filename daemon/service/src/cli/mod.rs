//! The command line of `minoots`.

mod admin;
mod bulk;
mod doctor;
mod import;
mod offline;
mod output;
mod serve;
mod timers;
mod verify;
pub mod when;

pub use serve::ServeArgs;

use chronotick::timers::TimersError;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Where a service listens that was not told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:7878";

/// A durable timer service that fires on bounded time.
#[derive(Debug, Parser)]
#[command(name = "minoots", version, about, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Which service, and how to talk with it.
    #[command(flatten)]
    pub remote: Remote,
}

/// Which service, and how to talk with it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct Remote {
    /// Address of the service [default: http://127.0.0.1:7878] [env: MINOOTS_API_BASE as well]
    #[arg(
        long,
        global = true,
        env = "MINOOTS_URL",
        default_value_t = std::env::var("MINOOTS_API_BASE").unwrap_or_else(|_| DEFAULT_URL.into()),
        hide_default_value = true
    )]
    pub url: String,
    /// Read the API key from this file; otherwise it is taken from the variable MINOOTS_API_KEY
    #[arg(long, global = true, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Trust the certificates of this PEM file beside the system's
    #[arg(long, global = true, value_name = "FILE", env = "MINOOTS_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Speak for this tenant
    #[arg(long, global = true, env = "MINOOTS_TENANT")]
    pub tenant: Option<String>,
    /// Print JSON: one object for each line
    #[arg(long, global = true)]
    pub json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the service until SIGINT or SIGTERM.
    Serve(ServeArgs),
    /// Create, read and change timers.
    #[command(subcommand)]
    Timers(timers::TimersVerb),
    /// Read what happens to timers.
    #[command(subcommand)]
    Events(timers::EventsVerb),
    /// API keys of the tenant.
    #[command(subcommand)]
    Keys(admin::KeysVerb),
    /// Tenants and their quotas.
    #[command(subcommand)]
    Tenants(admin::TenantsVerb),
    /// Sealed credentials of connectors.
    #[command(subcommand)]
    Secrets(admin::SecretsVerb),
    /// Schemas of payloads.
    #[command(subcommand)]
    Schemas(admin::SchemasVerb),
    /// The keys that the service signs with.
    #[command(subcommand)]
    Signing(admin::SigningVerb),
    /// Check what the service signed.
    Verify(verify::VerifyArgs),
    /// Access policies.
    #[command(subcommand)]
    Policy(offline::PolicyVerb),
    /// The record of commands.
    #[command(subcommand)]
    Audit(offline::AuditVerb),
    /// Take over the timers of an older service's folder.
    Import(import::ImportArgs),
    /// Offer the timers of a service to an agent: MCP over stdin and stdout.
    Mcp,
    /// Check the service, its clock and this machine.
    Doctor {
        /// The data directory, where it is on this machine
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Print the completion of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory.
    Man {
        /// The directory.
        dir: PathBuf,
    },
}

/// Why a command failed: with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// 1 refused or failed, 2 usage, 3 not found, 4 unreachable.
    pub exit: u8,
    /// A stable word.
    pub code: String,
    /// What happened, and what to do next.
    pub detail: String,
}

impl Failure {
    fn failed(detail: impl std::fmt::Display) -> Self {
        Self { exit: 1, code: "failed".into(), detail: detail.to_string() }
    }

    fn usage(detail: impl std::fmt::Display) -> Self {
        Self { exit: 2, code: "usage".into(), detail: detail.to_string() }
    }

    fn of_code(code: &str, detail: String) -> Self {
        let exit = match code {
            "unreachable" => 4,
            "config" | "missing_field" | "time_in_past" | "time_too_far" => 2,
            word if word.starts_with("invalid_") || word.starts_with("unknown_") => 2,
            word if word.ends_with("not_found") => 3,
            _ => 1,
        };
        // What the service says in the words of REST, in those of this program.
        let words = [
            ("GET /v1/tenants lists", "`minoots tenants list` shows"),
            ("GET /v1/keys lists", "`minoots keys list` shows"),
            ("GET /v1/timers lists", "`minoots timers list` shows"),
            ("GET /v1/schemas lists", "`minoots schemas list` shows"),
            ("GET /v1/secrets lists", "`minoots secrets list` shows"),
            ("change it with PUT", "change it with `set`"),
        ];
        let detail = words.iter().fold(detail, |text, (rest, verb)| text.replace(rest, verb));
        Self { exit, code: code.into(), detail }
    }
}

impl From<TimersError> for Failure {
    fn from(e: TimersError) -> Self {
        let mut detail = e.to_string();
        if e.code() == "unauthenticated" {
            detail.push_str(" (here: --api-key-file FILE, or the variable MINOOTS_API_KEY)");
        }
        Self::of_code(e.code(), detail)
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::failed(e)
    }
}

impl Cli {
    /// The command line of this process. A wrong one ends it, with exit code 2.
    pub fn from_command_line() -> Self {
        use clap::error::{ContextKind, ContextValue, ErrorKind};
        Self::try_parse().unwrap_or_else(|e| {
            // `create -5m` is meant as a time, and looks like a flag.
            let is_negative = |word: &str| word.strip_prefix('-').is_some_and(|w| w.starts_with(|c: char| c.is_ascii_digit()));
            match e.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(word)) if e.kind() == ErrorKind::UnknownArgument && is_negative(word) => {
                    eprintln!("minoots: a time that begins with {word} lies in the past: a timer fires later: write it as \"in 5m\"");
                    std::process::exit(2)
                }
                _ => e.exit(),
            }
        })
    }
}

impl Remote {
    fn ca_pem(&self) -> Result<Option<String>, Failure> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|e| {
                Failure::usage(format!(
                    "cannot read the certificates {}: {e}: name a PEM file",
                    path.display()
                ))
            })
        };
        self.ca_file.as_ref().map(read).transpose()
    }

    /// The key from the file or the environment. It is no flag: other users of a machine see those.
    fn api_key(&self) -> Result<Option<String>, Failure> {
        let text = match &self.api_key_file {
            Some(path) => std::fs::read_to_string(path).map_err(|e| {
                Failure::usage(format!("cannot read the API key from {}: {e}", path.display()))
            })?,
            None => std::env::var("MINOOTS_API_KEY").unwrap_or_default(),
        };
        Ok(Some(text.trim().to_string()).filter(|key| !key.is_empty()))
    }
}

/// Carries out a verb other than `serve`.
pub fn run(verb: Verb, remote: &Remote) -> ExitCode {
    let result =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed).and_then(
            |runtime| {
                let result = runtime.block_on(dispatch(verb, remote));
                // Reading stdin cannot be given up: it would hold up the end.
                runtime.shutdown_background();
                result
            },
        );
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if remote.json {
                eprintln!("{}", serde_json::json!({"code": failure.code, "detail": failure.detail}));
            } else {
                eprintln!("minoots: {}", failure.detail);
            }
            ExitCode::from(failure.exit)
        }
    }
}

async fn dispatch(verb: Verb, remote: &Remote) -> Result<(), Failure> {
    match verb {
        Verb::Serve(_) => Err(Failure::usage("`serve` is run by the program itself")),
        Verb::Timers(verb) => timers::run(verb, remote).await,
        Verb::Events(verb) => timers::events(verb, remote).await,
        Verb::Keys(verb) => admin::keys(verb, remote).await,
        Verb::Tenants(verb) => admin::tenants(verb, remote).await,
        Verb::Secrets(verb) => admin::secrets(verb, remote).await,
        Verb::Schemas(verb) => admin::schemas(verb, remote).await,
        Verb::Signing(verb) => admin::signing(verb, remote).await,
        Verb::Verify(args) => verify::run(args, remote).await,
        Verb::Policy(verb) => offline::policy(verb, remote),
        Verb::Audit(verb) => offline::audit(verb, remote).await,
        Verb::Import(args) => import::run(args, remote).await,
        Verb::Mcp => {
            crate::telemetry::log_to_stderr();
            let (key, tenant) = (remote.api_key()?, remote.tenant.as_deref());
            crate::mcp::serve_stdio(&remote.url, key, tenant).await.map_err(Failure::failed)
        }
        Verb::Doctor { data } => doctor::run(data.as_deref(), remote).await,
        Verb::Completions { shell } => {
            // Into memory first: the generator panics on a closed pipe.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "minoots", &mut text);
            output::bytes(&text)
        }
        Verb::Man { dir } => {
            std::fs::create_dir_all(&dir)?;
            Ok(clap_mangen::generate_to(Cli::command(), dir)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
