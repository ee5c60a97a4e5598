//! The configuration: defaults, then the file, then the command line.

use crate::anchor::{self, Choice};
use crate::cli::RunArgs;
use crate::log::{Format, Level};
use crate::models::settings::{self as models, ModelSpec, ModelTable};
use crate::sources::local::chrony::ChronyAddress;
use crate::sources::local::phc::PhcSettings;
use crate::sources::ntp::address::ServerName;
use crate::state_file;
use chronotick_core::Span;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Servers that are asked when nobody names any.
const DEFAULT_SERVERS: [&str; 4] = ["0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org", "3.pool.ntp.org"];

/// The file, as it is written. Every key may be left out.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// NTP servers, `HOST`, `HOST:PORT` or `[IPV6]:PORT`, each asked by one source. Without any source in the file or
    /// on the command line: 0.pool.ntp.org to 3.pool.ntp.org.
    servers: Option<Vec<String>>,
    /// Pools, written as servers are: of each, up to four distinct addresses are asked, and one that stays silent is
    /// replaced by another.
    pools: Option<Vec<String>>,
    /// Servers that are asked under NTS (RFC 8915), `HOST` or `HOST:PORT` of their key exchange, port 4460 if not given.
    nts_servers: Option<Vec<String>>,
    /// PEM file with certificate authorities that are trusted for NTS besides those of this machine.
    nts_ca_file: Option<PathBuf>,
    /// The system clock is a source, as long as the kernel says that somebody keeps it synchronized (chronyd with
    /// `rtcsync`, ntpd, a cloud's agent); its bound is the kernel's `maxerror`. Off if not given.
    kernel: Option<bool>,
    /// A PTP hardware clock is a source: its device, such as `/dev/ptp0`.
    phc: Option<PathBuf>,
    /// How far that clock may be wrong, in microseconds. Must be given with `phc`: nobody else knows.
    phc_error_bound_us: Option<u32>,
    /// How far that clock is ahead of UTC, in seconds: 37 where it holds TAI, 0 where it holds UTC. If not given, what
    /// the kernel was told of TAI.
    phc_tai_offset_s: Option<i32>,
    /// A chronyd on this machine is a source: true for its usual port, else `IP`, `IP:PORT` or the path of its socket.
    chrony: Option<ChronyChoice>,
    /// Answer NTP requests at this address, such as `0.0.0.0:123`, from corrected time. Off if not given.
    serve: Option<String>,
    shm: Option<String>,
    rate_hz: Option<u32>,
    log_level: Option<Level>,
    min_poll_s: Option<u32>,
    max_poll_s: Option<u32>,
    burst_interval_ms: Option<u32>,
    holdover_s: Option<u32>,
    validity_s: Option<u32>,
    anchor: Option<Choice>,
    state_file: Option<String>,
    metrics: Option<String>,
    log_format: Option<Format>,
    /// Models that forecast the rate of the clock; see `docs/models.md`. None if not given.
    models: Option<Vec<ModelTable>>,
    /// How often each is asked. 30 s if not given.
    model_interval_s: Option<u32>,
}

/// `chrony = true`, or where it is.
#[derive(Deserialize, Debug)]
#[serde(untagged)]
enum ChronyChoice {
    Usual(bool),
    At(String),
}

/// What the daemon runs with.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Settings {
    /// Servers to ask, each by its own name.
    pub(crate) servers: Vec<ServerName>,
    /// Names behind each of which several servers are asked.
    pub(crate) pools: Vec<ServerName>,
    /// Servers under NTS, by the name of their key exchange.
    pub(crate) nts_servers: Vec<ServerName>,
    /// More authorities to trust for NTS.
    pub(crate) nts_ca_file: Option<PathBuf>,
    /// Whether the system clock is a source.
    pub(crate) kernel: bool,
    /// A hardware clock.
    pub(crate) phc: Option<PhcSettings>,
    /// A chronyd on this machine.
    pub(crate) chrony: Option<ChronyAddress>,
    /// Where to answer NTP requests.
    pub(crate) serve: Option<SocketAddr>,
    /// Where the page is.
    pub(crate) page: PathBuf,
    /// Pages in a second.
    pub(crate) rate_hz: u32,
    /// How much to say.
    pub(crate) log_level: Level,
    /// The shortest steady interval between two requests to a server.
    pub(crate) min_poll: Span,
    /// The longest one.
    pub(crate) max_poll: Span,
    /// The interval within the burst at the start.
    pub(crate) burst_interval: Span,
    /// How long the page is valid without any measurement.
    pub(crate) holdover: Span,
    /// How long a page is valid after it was published: so soon is a dead daemon noticed.
    pub(crate) validity: Span,
    /// The clock that readers measure elapsed time with.
    pub(crate) anchor: Choice,
    /// Where the state is kept for the next daemon, if anywhere.
    pub(crate) state_file: Option<PathBuf>,
    /// Where metrics are served, if anywhere.
    pub(crate) metrics: Option<SocketAddr>,
    /// How messages are written.
    pub(crate) log_format: Format,
    /// Models that forecast the rate.
    pub(crate) models: Vec<ModelSpec>,
    /// From one question to a model to the next.
    pub(crate) model_interval: Span,
}

impl Settings {
    /// Reads the file that `args` names, if any, and puts the arguments over it. The error is for the user.
    pub(crate) fn load(args: &RunArgs) -> Result<Self, String> {
        let file = match &args.config {
            None => File::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| {
                    format!(
                        "cannot read the configuration {}: {e}; check the path after --config",
                        path.display()
                    )
                })?;
                Self::parse_file(path, &text)?
            }
        };
        Self::merge(file, args)
    }

    fn parse_file(path: &Path, text: &str) -> Result<File, String> {
        toml::from_str(text)
            .map_err(|e| format!("configuration {}: {}", path.display(), e.to_string().trim_end()))
    }

    fn merge(file: File, args: &RunArgs) -> Result<Self, String> {
        let chosen = |from_args: &[String], from_file: Option<Vec<String>>| {
            if from_args.is_empty() { from_file } else { Some(from_args.to_vec()) }
        };
        let pools = named("pool", &chosen(&args.pools, file.pools), ServerName::parse)?;
        let nts_servers = named("NTS server", &chosen(&args.nts, file.nts_servers), ServerName::parse_nts)?;
        let chrony = match &file.chrony {
            None | Some(ChronyChoice::Usual(false)) => None,
            Some(ChronyChoice::Usual(true)) => Some(ChronyAddress::usual()),
            Some(ChronyChoice::At(text)) => Some(ChronyAddress::parse(text)?),
        };
        let phc = match (file.phc, file.phc_error_bound_us) {
            (None, _) => None,
            (Some(_), None) => {
                return Err(
                    "`phc` needs `phc_error_bound_us`: how far may that clock be wrong, in microseconds? \
                            The bound that readers get rests on it"
                        .to_owned(),
                );
            }
            (Some(path), Some(us)) => Some(PhcSettings {
                path,
                error_bound: Span::from_us(i64::from(us)),
                tai_offset_s: file.phc_tai_offset_s.map(i64::from),
            }),
        };
        let serve = match args.serve.as_ref().or(file.serve.as_ref()) {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                format!("`serve` is {text:?}: write IP:PORT, such as 0.0.0.0:123 or [::]:123")
            })?),
        };
        let kernel = file.kernel.unwrap_or(false);
        let has_local = kernel || phc.is_some() || chrony.is_some();
        let has_others = has_local || !pools.is_empty() || !nts_servers.is_empty();
        let by_default = || (!has_others).then(|| DEFAULT_SERVERS.map(str::to_owned).to_vec());
        let servers = chosen(&args.servers, file.servers).or_else(by_default);
        let servers = named("server", &servers, ServerName::parse)?;
        if servers.is_empty() && !has_others {
            return Err(
                "there is no source of time: name at least one server, or leave `servers` out".to_owned()
            );
        }
        let shm = args.shm.as_deref().or(file.shm.as_deref());
        let page = chronotick::name::resolve(shm).map_err(|e| e.to_string())?;
        let within = |key: &str, value: Option<u32>, default: u32, low: u32, high: u32| match value {
            None => Ok(default),
            Some(n) if (low..=high).contains(&n) => Ok(n),
            Some(n) => Err(format!("`{key}` is {n}: give a number from {low} to {high}")),
        };
        let seconds = |key: &str, value, default, low, high| {
            within(key, value, default, low, high).map(|s| Span::from_secs(i64::from(s)))
        };
        let min_poll = seconds("min_poll_s", file.min_poll_s, 4, 1, 1024)?;
        let max_poll = seconds("max_poll_s", file.max_poll_s, 64, 1, 1024)?.max(min_poll);
        if file.max_poll_s.is_some_and(|s| Span::from_secs(i64::from(s)) < min_poll) {
            return Err(format!(
                "`max_poll_s` is less than `min_poll_s`: give at least {}",
                min_poll.as_ms() / 1000
            ));
        }
        let anchor = args.anchor.or(file.anchor).unwrap_or_default();
        if anchor == Choice::Counter
            && let Some(why) = anchor::refusal(Path::new("/"), anchor)
        {
            return Err(format!(
                "`anchor` cannot be the counter here: {why}; leave it at auto, or say boottime"
            ));
        }
        let state_file = match args.state_file.as_deref().or(file.state_file.as_deref()) {
            Some("none") => None,
            Some("") => return Err("`state_file` is empty: name a file, or say none".to_owned()),
            Some(path) => Some(PathBuf::from(path)),
            None => state_file::default_path(&page, |name| std::env::var(name).ok()),
        };
        let metrics = match args.metrics.as_deref().or(file.metrics.as_deref()) {
            None | Some("none") => None,
            Some(text) => Some(text.parse().map_err(|_| {
                format!("`metrics` is {text:?}: give an address with a port, as 127.0.0.1:9473 or [::1]:9473")
            })?),
        };
        let burst = within("burst_interval_ms", file.burst_interval_ms, 500, 50, 2000)?;
        let settings = Self {
            servers,
            pools,
            nts_servers,
            nts_ca_file: file.nts_ca_file,
            kernel,
            phc,
            chrony,
            serve,
            page,
            rate_hz: within("rate_hz", args.rate.or(file.rate_hz), 100, 1, 1000)?,
            log_level: args.log_level.or(file.log_level).unwrap_or_default(),
            min_poll,
            max_poll,
            burst_interval: Span::from_ms(i64::from(burst)),
            holdover: seconds("holdover_s", file.holdover_s, 3600, 1, 604_800)?,
            anchor,
            state_file,
            metrics,
            log_format: args.log_format.or(file.log_format).unwrap_or_else(Format::fitting),
            models: models::read(file.models.unwrap_or_default())?,
            model_interval: seconds("model_interval_s", file.model_interval_s, 30, 1, 600)?,
            validity: seconds("validity_s", file.validity_s, 10, 2, 3600)?,
        };
        settings.check_names()?;
        Ok(settings)
    }

    /// Names of sources are keys for people and for metrics, and a server that is asked both plainly and under NTS would
    /// have two votes.
    fn check_names(&self) -> Result<(), String> {
        let names: Vec<String> = self.sources().iter().map(ToString::to_string).collect();
        match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            None => Ok(()),
            Some((_, name)) => Err(format!(
                "two sources are called {name}: name each server once, either in `servers` or in `nts_servers`"
            )),
        }
    }
}

/// The verb `check-config`: says what the daemon would run with. The error is for the user.
pub(crate) fn check(file: &Path) -> Result<(), String> {
    let settings = Settings::load(&RunArgs { config: Some(file.to_owned()), ..RunArgs::default() })?;
    settings.open_sources()?;
    settings.models.iter().try_for_each(ModelSpec::check)?;
    println!("{} is fine: {}", file.display(), settings.summary());
    Ok(())
}

/// Reads a list of names. The same one twice would have two votes.
fn named(
    what: &str,
    texts: &Option<Vec<String>>,
    parse: fn(&str) -> Result<ServerName, String>,
) -> Result<Vec<ServerName>, String> {
    let mut names: Vec<ServerName> = Vec::new();
    for text in texts.iter().flatten() {
        let name = parse(text)?;
        if names.contains(&name) {
            return Err(format!("{what} {name} is named twice: name each {what} once"));
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::plan::SourceSpec;
    use std::collections::BTreeSet;

    fn load(text: &str) -> Result<Settings, String> {
        let args = RunArgs { shm: Some("unit_test".into()), ..RunArgs::default() };
        Settings::merge(Settings::parse_file(Path::new("c.toml"), text)?, &args)
    }

    fn repository() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    /// All keys, as the parser lists them when it meets one that it does not know.
    fn all_keys() -> Vec<String> {
        let refusal = load("no_such_key = 1").unwrap_err();
        let (_, list) = refusal.split_once("expected one of").unwrap();
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_sample_configurations_are_read_and_show_every_kind_of_source() {
        let mut seen = BTreeSet::new();
        for entry in std::fs::read_dir(repository().join("deploy/config")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let settings = load(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            seen.extend(settings.sources().iter().map(SourceSpec::mode));
            seen.extend(settings.serve.map(|_| "serve"));
            seen.extend(settings.metrics.map(|_| "metrics"));
        }
        assert_eq!(
            seen.into_iter().collect::<Vec<_>>(),
            ["chrony", "metrics", "nts", "phc", "pool", "serve", "server"]
        );
    }

    #[test]
    fn every_key_is_in_the_sample_of_all_keys_and_in_the_documentation() {
        let sample = std::fs::read_to_string(repository().join("deploy/config/all-keys.toml")).unwrap();
        let page = std::fs::read_to_string(repository().join("docs/clock-daemon.md")).unwrap();
        let keys = all_keys();
        assert!(keys.len() >= 22, "{keys:?}");
        for key in keys {
            assert!(sample.contains(&format!("{key} = ")), "{key} is not in all-keys.toml");
            assert!(page.contains(&format!("\n| `{key}` |")), "{key} has no row in docs/clock-daemon.md");
        }
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let s = load("").unwrap();
        assert_eq!(s.servers.len(), 4);
        assert_eq!((s.rate_hz, s.min_poll, s.max_poll), (100, Span::from_secs(4), Span::from_secs(64)));
    }

    #[test]
    fn every_key_is_read() {
        let s = load(
            "servers = ['a', '[::1]:9']\nrate_hz = 7\nlog_level = 'debug'\nmin_poll_s = 1\nmax_poll_s = 2\n\
             burst_interval_ms = 250\nholdover_s = 60\nvalidity_s = 3\nanchor = 'boottime'\n\
             state_file = '/s/t'\nmetrics = '127.0.0.1:9473'\nlog_format = 'journal-prefix'\n\
             model_interval_s = 60\n[[models]]\nkind = 'process'\nsocket = '/m'",
        )
        .unwrap();
        assert_eq!(s.servers.iter().map(ServerName::to_string).collect::<Vec<_>>(), ["a", "[::1]:9"]);
        assert_eq!((s.rate_hz, s.log_level), (7, Level::Debug));
        assert_eq!((s.min_poll, s.max_poll), (Span::from_secs(1), Span::from_secs(2)));
        assert_eq!((s.holdover, s.validity), (Span::from_secs(60), Span::from_secs(3)));
        assert_eq!((s.burst_interval, s.anchor), (Span::from_ms(250), Choice::Boottime));
        assert_eq!(s.state_file, Some("/s/t".into()));
        assert_eq!((s.metrics, s.log_format), ("127.0.0.1:9473".parse().ok(), Format::JournalPrefix));
        assert_eq!((s.models[0].name.as_str(), s.model_interval), ("process1", Span::from_secs(60)));
        assert_eq!(load("state_file = 'none'").unwrap().state_file, None);
    }

    #[test]
    fn pools_take_the_place_of_the_default_servers_and_have_four_members_each() {
        let s = load("pools = ['p']").unwrap();
        assert_eq!((s.servers.len(), s.pools.len()), (0, 1));
        let names: Vec<String> = s.sources().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["p#1", "p#2", "p#3", "p#4"]);
        let s = load("servers = ['a']\npools = ['p', 'q']").unwrap();
        assert_eq!(s.sources().len(), 9);
        assert_eq!(
            s.open_sources().unwrap().iter().map(|s| s.name()).collect::<Vec<_>>(),
            s.sources().iter().map(ToString::to_string).collect::<Vec<_>>(),
        );
        let s = load("nts_servers = ['n', 'm:4461']\nnts_ca_file = '/ca.pem'").unwrap();
        assert_eq!(s.sources().iter().map(ToString::to_string).collect::<Vec<_>>(), ["n", "m:4461"]);
        assert_eq!((s.nts_servers[0].port, s.nts_ca_file), (4460, Some("/ca.pem".into())));
        assert!(load("pools = ['p', 'p']").unwrap_err().contains("p is named twice"));
    }

    #[test]
    fn local_sources_and_serving() {
        let s = load(
            "kernel = true\nphc = '/dev/ptp7'\nphc_error_bound_us = 30\nphc_tai_offset_s = 0\nchrony = true\n\
             serve = '[::]:123'",
        )
        .unwrap();
        let names: Vec<String> = s.sources().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["kernel", "/dev/ptp7", "chrony 127.0.0.1:323"]);
        assert_eq!(s.phc.unwrap().tai_offset_s, Some(0));
        assert_eq!(s.serve, Some("[::]:123".parse().unwrap()));
        let s = load("chrony = '/run/chrony/chronyd.sock'\nservers = ['a']").unwrap();
        assert_eq!(s.sources()[1].to_string(), "chrony /run/chrony/chronyd.sock");
        assert_eq!(load("chrony = false\nkernel = false").unwrap().sources().len(), 4);
    }

    #[test]
    fn bad_configurations_say_what_to_do() {
        let check = |text: &str, wanted: &[&str]| {
            let message = load(text).expect_err(text);
            for want in wanted {
                assert!(message.contains(want), "{text:?}: {message}");
            }
        };
        check("severs = []", &["c.toml", "severs", "`servers`", "`rate_hz`"]);
        check("servers = []", &["at least one server"]);
        check("servers = ['a', 'a']", &["a is named twice"]);
        check("servers = ['a b']", &["HOST:PORT"]);
        check("rate_hz = 0", &["`rate_hz` is 0", "1 to 1000"]);
        check("min_poll_s = 8\nmax_poll_s = 4", &["at least 8"]);
        check("log_level = 'loud'", &["loud", "`debug`"]);
        check("anchor = 'sundial'", &["sundial", "`boottime`"]);
        check("servers = ['a']\nnts_servers = ['a']", &["called a", "`nts_servers`"]);
        check("metrics = 'localhost'", &["`metrics` is \"localhost\"", "127.0.0.1:9473"]);
        check("log_format = 'xml'", &["xml", "`journal-prefix`"]);
        check("state_file = ''", &["`state_file` is empty", "none"]);
        check("phc = '/dev/ptp0'", &["`phc_error_bound_us`"]);
        check("chrony = 'somewhere'", &["`chrony`", "IP:PORT"]);
        check("serve = '123'", &["`serve`", "0.0.0.0:123"]);
        check("model_interval_s = 0", &["`model_interval_s`", "1 to 600"]);
        check("[[models]]\nkind = 'process'", &["process1", "`socket`"]);
        check("rate_hz =", &["c.toml"]);
    }
}
