//! The command line.

use crate::anchor::Choice;
use crate::create_page::parse_mode;
use crate::log::{Format, Level};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures the clock against NTP servers and publishes corrected time with a hard bound. Never sets the system clock.
#[derive(Parser, Debug)]
#[command(name = "chronotick-daemon", version, about)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run in the foreground until SIGTERM or SIGINT.
    Run(RunArgs),
    /// Show the running daemon's state; exit code 1 when there is none.
    Status(StatusArgs),
    /// Show the time sources, one a line, as `chronyc sources` does.
    Sources(SourcesArgs),
    /// Show how corrected time follows its sources, as `chronyc tracking` does.
    Tracking(StatusArgs),
    /// Make the page for a daemon that runs as another user; the systemd unit calls this as root.
    CreatePage(CreatePageArgs),
    /// Check a configuration file, and say what is wrong with it.
    CheckConfig(CheckConfigArgs),
    /// Replay a recorded trace and score the discipline beside simple baselines.
    Eval(crate::eval::EvalArgs),
}

/// Arguments of `run`; each overrides the configuration file.
#[derive(Args, Debug, Default)]
pub(crate) struct RunArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// NTP server, repeatable [default, without any other source: 0.pool.ntp.org to 3.pool.ntp.org].
    #[arg(long = "server", value_name = "HOST[:PORT]")]
    pub(crate) servers: Vec<String>,
    /// Pool of NTP servers, of which up to four are asked, repeatable.
    #[arg(long = "pool", value_name = "HOST[:PORT]")]
    pub(crate) pools: Vec<String>,
    /// NTP server that is asked under NTS, by the name of its key exchange, repeatable.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) nts: Vec<String>,
    /// Answer NTP requests at this address from corrected time.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) serve: Option<String>,
    /// Name or absolute path of the clock page [default: $CHRONOTICK_SHM, else chronotick_shm].
    #[arg(long, value_name = "NAME")]
    pub(crate) shm: Option<String>,
    /// Pages published in a second, 1 to 1000 [default: 100].
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rate: Option<u32>,
    /// The clock that readers measure elapsed time with [default: auto].
    #[arg(long, value_enum, value_name = "CLOCK")]
    pub(crate) anchor: Option<Choice>,
    /// Where the state is kept for the next start, or `none` [default: a file in $STATE_DIRECTORY, $XDG_STATE_HOME/chronotick
    /// or ~/.local/state/chronotick].
    #[arg(long, value_name = "FILE")]
    pub(crate) state_file: Option<String>,
    /// Serve the time, the status and metrics over HTTP at this address and port, or `none` [default: none].
    #[arg(long, visible_alias = "http", value_name = "ADDR")]
    pub(crate) metrics: Option<String>,
    /// How messages are written [default: journal-prefix under systemd, else text].
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<Format>,
    /// How much to say on standard error [default: info].
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) log_level: Option<Level>,
}

/// Arguments of `sources`.
#[derive(Args, Debug)]
pub(crate) struct SourcesArgs {
    /// As for `status`.
    #[command(flatten)]
    pub(crate) status: StatusArgs,
    /// Under each source: its kind, its address, whether it is authenticated, and what became of its packets.
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// Arguments of `status` and `tracking`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Name or absolute path of the clock page [default: $CHRONOTICK_SHM, else chronotick_shm].
    #[arg(long, value_name = "NAME")]
    pub(crate) shm: Option<String>,
}

/// Arguments of `create-page`.
#[derive(Args, Debug)]
pub(crate) struct CreatePageArgs {
    /// Name or absolute path of the clock page [default: $CHRONOTICK_SHM, else chronotick_shm].
    #[arg(long, value_name = "NAME")]
    pub(crate) shm: Option<String>,
    /// Mode in octal: 0664 lets the group of the page write it.
    #[arg(long, value_name = "MODE", default_value = "0644", value_parser = parse_mode)]
    pub(crate) mode: u32,
}

/// Arguments of `check-config`.
#[derive(Args, Debug)]
pub(crate) struct CheckConfigArgs {
    /// The file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}
