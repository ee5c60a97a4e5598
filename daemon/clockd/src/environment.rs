//! Temperature and load of the machine, where they can be read: what the oscillator's rate depends on.

use chronotick_core::{MonoTime, Span};
use serde::{Deserialize, Serialize};
use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

/// From one look to the next: much less than a machine takes to warm up.
const EVERY: Span = Span::from_secs(10);
/// A thermometer that says something else is broken, or not connected.
const PLAUSIBLE_C: std::ops::RangeInclusive<f64> = -40.0..=150.0;

/// What was read; null where nothing could be.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Environment {
    /// The hottest thermometer of the machine, in degrees Celsius.
    pub(crate) temperature_celsius: Option<f64>,
    /// Mean number of runnable tasks over the last minute.
    pub(crate) load: Option<f64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct EnvironmentWatch {
    root: PathBuf,
    due: MonoTime,
    newest: Environment,
}

impl EnvironmentWatch {
    /// Of the machine whose `/sys` and `/proc` are under `root`; the first look is due at `now`.
    pub(crate) fn new(root: &Path, now: MonoTime) -> Self {
        Self { root: root.to_owned(), due: now, newest: Environment::default() }
    }

    /// Looks, when that is due. `None` when it is not.
    pub(crate) fn look(&mut self, now: MonoTime) -> Option<Environment> {
        if now < self.due {
            return None;
        }
        self.due = now + EVERY;
        self.newest = Environment { temperature_celsius: temperature(&self.root), load: load(&self.root) };
        Some(self.newest)
    }

    /// What was seen last.
    pub(crate) fn newest(&self) -> Environment {
        self.newest
    }
}

/// The hottest of the thermal zones, or of the hardware monitors where there are no zones.
fn temperature(root: &Path) -> Option<f64> {
    let hottest = |class: &str, is_input: fn(&str) -> bool| {
        let devices = read_dir(root.join("sys/class").join(class)).ok()?.flatten();
        let files =
            devices.filter_map(|device| read_dir(device.path()).ok()).flat_map(|files| files.flatten());
        let inputs = files.filter(|file| file.file_name().to_str().is_some_and(is_input));
        inputs.filter_map(|file| celsius(&file.path())).reduce(f64::max)
    };
    let monitors =
        || hottest("hwmon", |name| name.strip_prefix("temp").is_some_and(|rest| rest.ends_with("_input")));
    hottest("thermal", |name| name == "temp").or_else(monitors)
}

/// Both kinds of files hold thousandths of a degree.
fn celsius(file: &Path) -> Option<f64> {
    let value = read_to_string(file).ok()?.trim().parse::<i64>().ok()? as f64 / 1e3;
    PLAUSIBLE_C.contains(&value).then_some(value)
}

fn load(root: &Path) -> Option<f64> {
    let text = read_to_string(root.join("proc/loadavg")).ok()?;
    text.split_whitespace().next()?.parse().ok().filter(|load: &f64| load.is_finite() && *load >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_readable_thermometer_counts() {
        let check = |files: &[(&str, &str)], temperature_celsius: Option<f64>, load: Option<f64>| {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let seen = EnvironmentWatch::new(root.path(), MonoTime::from_ns(0)).look(MonoTime::from_ns(0));
            assert_eq!(seen, Some(Environment { temperature_celsius, load }), "{files:?}");
        };
        check(&[], None, None);
        check(&[("proc/loadavg", "0.75 0.58 0.02 7/166 20851\n")], None, Some(0.75));
        check(&[("proc/loadavg", "nan 1 1"), ("sys/class/thermal/thermal_zone0/temp", "warm\n")], None, None);
        check(
            &[
                ("sys/class/thermal/thermal_zone0/temp", "41000\n"),
                ("sys/class/thermal/thermal_zone1/temp", "52500\n"),
                ("sys/class/thermal/thermal_zone2/temp", "-274000\n"),
                ("sys/class/thermal/thermal_zone2/trip_point_0_temp", "99000\n"),
                ("sys/class/hwmon/hwmon0/temp1_input", "70000\n"),
            ],
            Some(52.5),
            None,
        );
        check(
            &[
                ("sys/class/hwmon/hwmon0/temp1_input", "39500\n"),
                ("sys/class/hwmon/hwmon0/temp1_max", "90000\n"),
                ("sys/class/hwmon/hwmon1/temp12_input", "-5000\n"),
                ("sys/class/hwmon/hwmon1/fan1_input", "80000\n"),
            ],
            Some(39.5),
            None,
        );
    }

    #[test]
    fn it_looks_every_ten_seconds() {
        let root = tempfile::tempdir().unwrap();
        let at = |s| MonoTime::from_ns(0) + Span::from_secs(s);
        let mut watch = EnvironmentWatch::new(root.path(), at(0));
        let looked: Vec<bool> = [0, 1, 9, 10, 11, 25].map(|s| watch.look(at(s)).is_some()).into();
        assert_eq!(looked, [true, false, false, true, false, true]);
    }
}
