//! The state file: what a daemon leaves for the next one, so that a restart has no gap.
//!
//! It holds the last correction with its bound, and the readings of the clocks that belong to it. The next daemon
//! takes them up if they are of the same boot and the same servers; a suspend in between is found by comparing the
//! clocks, as in a daemon that runs. Whoever can write the file can set the time, so it must be the daemon's alone.

use crate::disruption::{Machine, Readings};
use crate::estimate::Restored;
use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::{Correction, Leap, Model, State};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Of the file's format. A file of another version is refused.
const VERSION: u32 = 1;
/// No state file is larger.
const MAX_BYTES: u64 = 1 << 20;

/// What is saved.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    /// The clocks when it was saved.
    pub(crate) clocks: (Readings, Machine),
    /// The count on the page.
    pub(crate) disruptions: u8,
    /// The configured servers, in their order.
    pub(crate) servers: Vec<String>,
    /// The correction, if there was one.
    pub(crate) correction: Option<Correction>,
    /// What the discipline wants to know again.
    pub(crate) discipline: Option<chronotick_discipline::Saved>,
}

/// The file, as it is written: whole numbers of nanoseconds, rates and deviations as floats.
#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    boot_id: String,
    clocks: Clocks,
    machine: Machine,
    disruptions: u8,
    servers: Vec<String>,
    correction: Option<Fix>,
    #[serde(default)]
    discipline: Option<chronotick_discipline::Saved>,
}

#[derive(Serialize, Deserialize)]
struct Clocks {
    realtime_ns: i64,
    boottime_ns: i64,
    monotonic_ns: i64,
    monotonic_raw_ns: i64,
    error_ns: i64,
}

#[derive(Serialize, Deserialize)]
struct Fix {
    boottime_ns: i64,
    corrected_ns: i64,
    rate: f64,
    offset_sigma_s: f64,
    rate_sigma: f64,
    max_error_ns: i64,
    confidence: f32,
    measurement_count: u32,
    last_sync_ns: i64,
    source: usize,
    valid_until_boottime_ns: i64,
    leap: String,
    is_warm: bool,
    model: String,
    authenticated: bool,
}

/// Which boot of the machine this is.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Where the state of the daemon that publishes `page` is kept when nobody says where; `None` when there is no place.
/// `variable` reads the environment.
pub(crate) fn default_path(page: &Path, variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|v| !v.is_empty());
    // Two daemons of one user have two pages, and must not take up each other's state.
    let name = if page == Path::new("/dev/shm/chronotick_shm") {
        "chronotick.state.json".to_owned()
    } else {
        let page = page.to_string_lossy();
        format!("chronotick{}.state.json", page.replace('-', "--").replace('/', "-"))
    };
    // systemd gives a list when there are several.
    let directory = match set("STATE_DIRECTORY") {
        Some(list) => PathBuf::from(list.split(':').next().unwrap_or_default()),
        None => match (set("XDG_STATE_HOME"), set("HOME")) {
            (Some(state), _) => PathBuf::from(state).join("chronotick"),
            (None, Some(home)) => PathBuf::from(home).join(".local/state/chronotick"),
            (None, None) => return None,
        },
    };
    directory.is_absolute().then(|| directory.join(name))
}

impl Saved {
    /// Replaces the file at `path` in one step.
    pub(crate) fn write(&self, path: &Path, boot_id: &str) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let _ = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let mut text = serde_json::to_vec_pretty(&self.to_form(boot_id)).map_err(io::Error::other)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_data()?;
        std::fs::rename(&temporary, path)
    }

    /// Reads the file at `path`, which must be of this boot. `Ok(None)` when there is none; the error is for the user.
    pub(crate) fn read(path: &Path, boot_id: &str) -> Result<Option<Self>, String> {
        let refused = |why: String| format!("the state file {} is not used: {why}", path.display());
        let text = match read_trusted(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|e| refused(e.to_string()))?,
        };
        Self::parse(&text, boot_id).map(Some).map_err(refused)
    }

    fn parse(text: &str, boot_id: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
            boot_id: String,
        }
        let damaged = |e: serde_json::Error| format!("it is damaged ({e}); it will be replaced");
        let head: Head = serde_json::from_str(text).map_err(damaged)?;
        if head.version != VERSION {
            return Err(format!("it has version {}, not {VERSION}; it will be replaced", head.version));
        }
        if head.boot_id != boot_id {
            return Err("it is of another boot of the machine; it will be replaced".to_owned());
        }
        let form: Form = serde_json::from_str(text).map_err(damaged)?;
        Self::from_form(form).ok_or_else(|| "its numbers make no sense; it will be replaced".to_owned())
    }

    /// What the discipline knew, for one whose [`steady`](crate::steady) time begins at `now`: until then the two
    /// clocks have gone on parting.
    pub(crate) fn discipline_at(&self, now: &Readings) -> Option<chronotick_discipline::Saved> {
        let then = &self.clocks.0;
        let parted = (now.boottime - then.boottime) - (now.raw - then.raw);
        Some(self.discipline.clone()?.shifted(parted))
    }

    /// What of the correction can be believed by a daemon that asks `servers` and goes on for `holdover` without them.
    pub(crate) fn restored(&self, servers: &[String], holdover: Span, now: MonoTime) -> Option<Restored> {
        // Who takes a server out of the configuration may have found it to be wrong.
        let mut correction = self.correction.filter(|_| self.servers == servers)?;
        correction.valid_until = correction.valid_until.min(correction.at + holdover);
        let restored = Restored(correction);
        restored.at(now).is_some().then_some(restored)
    }

    fn to_form(&self, boot_id: &str) -> Form {
        let (clocks, machine) = &self.clocks;
        Form {
            version: VERSION,
            boot_id: boot_id.to_owned(),
            clocks: Clocks {
                realtime_ns: clocks.system.as_ns(),
                boottime_ns: clocks.boottime.as_ns(),
                monotonic_ns: clocks.monotonic.as_ns(),
                monotonic_raw_ns: clocks.raw.as_ns(),
                error_ns: clocks.error.as_ns(),
            },
            machine: machine.clone(),
            disruptions: self.disruptions,
            servers: self.servers.clone(),
            correction: self.correction.as_ref().map(|c| Fix {
                boottime_ns: c.at.as_ns(),
                corrected_ns: c.corrected.as_ns(),
                rate: c.rate,
                offset_sigma_s: c.offset_sigma,
                rate_sigma: c.rate_sigma,
                max_error_ns: c.max_error.as_ns(),
                confidence: c.confidence,
                measurement_count: c.measurement_count,
                last_sync_ns: c.last_sync.as_ns(),
                source: c.source,
                valid_until_boottime_ns: c.valid_until.as_ns(),
                leap: leap_word(c.leap).to_owned(),
                is_warm: c.is_warm,
                model: model_word(c.model).to_owned(),
                authenticated: c.authenticated,
            }),
            discipline: self.discipline.clone(),
        }
    }

    fn from_form(form: Form) -> Option<Self> {
        let clocks = Readings {
            system: Timestamp::from_ns(form.clocks.realtime_ns),
            boottime: MonoTime::from_ns(form.clocks.boottime_ns),
            monotonic: MonoTime::from_ns(form.clocks.monotonic_ns),
            raw: MonoTime::from_ns(form.clocks.monotonic_raw_ns),
            error: Span::from_ns(form.clocks.error_ns),
        };
        let correction = match form.correction {
            None => None,
            Some(fix) => Some(fix.to_correction(clocks.boottime)?),
        };
        (!clocks.error.is_negative()).then_some(Self {
            clocks: (clocks, form.machine),
            disruptions: form.disruptions,
            servers: form.servers,
            correction,
            discipline: form.discipline,
        })
    }
}

impl Fix {
    /// `None` when a number cannot be; `saved` is when it was written.
    fn to_correction(&self, saved: MonoTime) -> Option<Correction> {
        let leap =
            [Leap::None, Leap::Insert, Leap::Delete].into_iter().find(|&l| leap_word(l) == self.leap)?;
        let models = [Model::Ntp, Model::CpuModel, Model::GpuModel, Model::Fusion];
        let model = models.into_iter().find(|&m| model_word(m) == self.model)?;
        let at = MonoTime::from_ns(self.boottime_ns);
        let makes_sense = self.rate.abs() < 0.01
            && self.offset_sigma_s > 0.0
            && self.offset_sigma_s < 1e6
            && self.rate_sigma > 0.0
            && self.rate_sigma < 0.01
            && self.max_error_ns > 0
            && (0.0..=1.0).contains(&self.confidence)
            && at <= saved
            && saved - at < Span::from_secs(60);
        makes_sense.then_some(Correction {
            at,
            corrected: Timestamp::from_ns(self.corrected_ns),
            rate: self.rate,
            offset_sigma: self.offset_sigma_s,
            rate_sigma: self.rate_sigma,
            max_error: Span::from_ns(self.max_error_ns),
            confidence: self.confidence,
            measurement_count: self.measurement_count,
            last_sync: Timestamp::from_ns(self.last_sync_ns),
            source: self.source,
            valid_until: MonoTime::from_ns(self.valid_until_boottime_ns),
            leap,
            state: State::Holdover,
            is_warm: self.is_warm,
            model,
            // Not saved: the models begin anew.
            models_ready: false,
            authenticated: self.authenticated,
        })
    }
}

fn model_word(model: Model) -> &'static str {
    crate::record::source_of(model).as_str()
}

fn leap_word(leap: Leap) -> &'static str {
    match leap {
        Leap::None => "none",
        Leap::Insert => "insert",
        Leap::Delete => "delete",
    }
}

fn read_trusted(path: &Path) -> io::Result<String> {
    let file: File =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    let refuse = |why: &str| Err(io::Error::other(why));
    if !meta.is_file() {
        return refuse("it is not a regular file");
    }
    if meta.uid() != own && meta.uid() != 0 {
        return refuse("it belongs to another user");
    }
    if meta.mode() & 0o022 != 0 {
        return refuse("others may write it; chmod go-w");
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return refuse("it is too large");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disruption::Monitor;
    use crate::estimate::tests::{correction, measurement};
    use chronotick_discipline::{Config, Discipline};
    use std::os::unix::fs::PermissionsExt;

    fn discipline() -> chronotick_discipline::Saved {
        let at = correction().at - Span::from_secs(1);
        let mut discipline = Discipline::new(Config::default(), 1);
        discipline.measure(at, measurement(at, Span::ZERO));
        discipline.saved(at).unwrap()
    }

    const HOUR: Span = Span::from_secs(3600);

    fn saved() -> Saved {
        let at = correction().at;
        let clocks = Readings {
            system: Timestamp::from_secs(1_790_000_001),
            boottime: at,
            monotonic: at - Span::from_secs(5),
            raw: at - Span::from_secs(6),
            error: Span::from_ns(300),
        };
        Saved {
            clocks: (clocks, Machine { clock_source: Some("tsc".into()), vm_marker: Some(u64::MAX) }),
            disruptions: 3,
            servers: vec!["a".into(), "b".into()],
            correction: Some(Correction {
                state: State::Holdover,
                leap: Leap::Insert,
                models_ready: false,
                ..correction()
            }),
            discipline: Some(discipline()),
        }
    }

    #[test]
    fn it_reads_back_exactly_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/state.json");
        assert!(Saved::read(&path, "boot").unwrap().is_none());
        for saved in [saved(), Saved { correction: None, ..saved() }] {
            saved.write(&path, "boot").unwrap();
            let read = Saved::read(&path, "boot").unwrap().unwrap();
            let text = |s: &Saved| serde_json::to_string(&s.to_form("boot")).unwrap();
            assert_eq!(text(&read), text(&saved));
            assert_eq!((read.clocks, read.correction), (saved.clocks, saved.correction));
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_believed_is_refused_with_a_reason() {
        let text = serde_json::to_string(&saved().to_form("boot")).unwrap();
        let check = |text: &str, want: &str| {
            let why = Saved::parse(text, "boot").expect_err(want);
            assert!(why.contains(want), "{why}");
        };
        assert!(Saved::parse(&text, "boot").is_ok());
        let with = |old: &str, new: &str| {
            assert!(text.contains(old), "{text}");
            text.replace(old, new)
        };
        check("", "damaged");
        check("{}", "damaged");
        check("\u{0}\u{0}\u{0}", "damaged");
        check(&with("\"version\":1", "\"version\":2"), "version 2");
        check(&with("\"boot_id\":\"boot\"", "\"boot_id\":\"toob\""), "another boot");
        check(&with("\"rate\":0.00002", "\"rate\":2.0"), "no sense");
        check(&with("\"max_error_ns\":300000", "\"max_error_ns\":0"), "no sense");
        check(&with("\"rate_sigma\":1e-7", "\"rate_sigma\":0"), "no sense");
        check(&with("\"leap\":\"insert\"", "\"leap\":\"maybe\""), "no sense");
        check(&with("\"confidence\":0.5", "\"confidence\":1.5"), "no sense");
        check(&with("\"disruptions\":3", "\"disruptions\":300"), "damaged");
        // Cut anywhere, it is refused.
        for end in 0..text.len() {
            assert!(Saved::parse(&text[..end], "boot").is_err(), "{end}");
        }
    }

    /// Replaces the number with this place in `value`, counting down; true when it was there.
    fn replace_number(value: &mut serde_json::Value, place: &mut usize, with: &serde_json::Value) -> bool {
        use serde_json::Value;
        match value {
            Value::Number(_) if *place == 0 => {
                *value = with.clone();
                return true;
            }
            Value::Number(_) => *place -= 1,
            Value::Object(map) => return map.values_mut().any(|v| replace_number(v, place, with)),
            Value::Array(list) => return list.iter_mut().any(|v| replace_number(v, place, with)),
            _ => {}
        }
        false
    }

    #[test]
    fn no_number_makes_it_panic() {
        let good = serde_json::to_value(saved().to_form("boot")).unwrap();
        let extremes =
            [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX].map(serde_json::Value::from);
        let floats = [f64::MIN, -1e-300, 1e-300, f64::MAX].map(serde_json::Value::from);
        let mut accepted = 0;
        for with in extremes.iter().chain(&floats) {
            for place in 0.. {
                let mut value = good.clone();
                if !replace_number(&mut value, &mut place.clone(), with) {
                    assert!(place > 15, "{place}");
                    break;
                }
                let Ok(saved) = Saved::parse(&value.to_string(), "boot") else { continue };
                accepted += 1;
                let (readings, machine) = saved.clocks.clone();
                let now = Readings { boottime: readings.boottime + Span::from_secs(1), ..readings };
                let mut monitor = Monitor::new(saved.disruptions, Some(saved.clocks.clone()));
                monitor.judge(now, &machine);
                let mut discipline = Discipline::new(Config::default(), 2);
                if discipline.restore(now.boottime, saved.discipline.as_ref().unwrap()) {
                    for now in [now.boottime, now.boottime + HOUR, MonoTime::MAX] {
                        let _ = discipline.correction(now);
                    }
                    discipline.measure(now.boottime, measurement(now.boottime, Span::ZERO));
                }
                for now in [MonoTime::MIN, correction().at, now.boottime, MonoTime::MAX] {
                    if let Some(restored) = saved.restored(&saved.servers, HOUR, now) {
                        let c = restored.at(now).unwrap();
                        assert!(c.max_error > Span::ZERO && c.offset_sigma > 0.0, "{value}");
                    }
                }
            }
        }
        assert!(accepted > 20, "{accepted}");
    }

    #[test]
    fn a_file_that_others_could_have_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        saved().write(&path, "boot").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o620)).unwrap();
        assert!(Saved::read(&path, "boot").unwrap_err().contains("others may write it"));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Saved::read(&link, "boot").is_err());
        std::fs::write(&path, vec![b' '; 2 << 20]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Saved::read(&path, "boot").unwrap_err().contains("too large"));
        assert!(Saved::read(dir.path(), "boot").is_err());
    }

    #[test]
    fn the_correction_is_for_the_same_servers_and_its_time() {
        let saved = saved();
        let at = correction().at;
        assert!(saved.restored(&["a".into(), "b".into()], HOUR, at).is_some());
        assert!(saved.restored(&["a".into()], HOUR, at).is_none());
        let restored = saved.restored(&["a".into(), "b".into()], Span::from_secs(7), at).unwrap();
        assert_eq!(
            restored.0.valid_until,
            at + Span::from_secs(7),
            "the shorter holdover of a new configuration"
        );
        let end = correction().valid_until + Span::from_ns(1);
        assert!(saved.restored(&["a".into(), "b".into()], HOUR, end).is_none());
    }

    #[test]
    fn the_default_place_follows_the_environment_and_the_page() {
        let check = |page: &str, variables: &[(&str, &str)], want: Option<&str>| {
            let variable =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(default_path(Path::new(page), variable).as_deref(), want.map(Path::new));
        };
        let page = "/dev/shm/chronotick_shm";
        let state = "/home/a/.local/state/chronotick/chronotick.state.json";
        check(page, &[("HOME", "/home/a")], Some(state));
        check(
            page,
            &[("HOME", "/home/a"), ("XDG_STATE_HOME", "/s")],
            Some("/s/chronotick/chronotick.state.json"),
        );
        let systemd = [("HOME", "/"), ("STATE_DIRECTORY", "/var/lib/chronotick:/var/lib/other")];
        check(page, &systemd, Some("/var/lib/chronotick/chronotick.state.json"));
        check(
            "/tmp/a-b/page",
            &[("HOME", "/h")],
            Some("/h/.local/state/chronotick/chronotick-tmp-a--b-page.state.json"),
        );
        check(page, &[("XDG_STATE_HOME", "relative")], None);
        check(page, &[], None);
    }
}
