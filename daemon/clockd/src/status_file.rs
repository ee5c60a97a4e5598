//! The status file beside the page: what does not fit into 128 bytes.

use crate::environment::Environment;
use crate::models::desk::ModelStatus;
use crate::sources::SourceCounters;
use crate::tracking::Tracking;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What the daemon says of itself.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StatusFile {
    /// Process number of the daemon.
    pub(crate) pid: u32,
    /// Seconds since it started.
    pub(crate) daemon_uptime_seconds: f64,
    /// Pages in a second.
    pub(crate) rate_hz: u32,
    /// `no_data`, `warming_up`, `synchronized`, `holdover`, or `stopped` after a clean end.
    pub(crate) state: String,
    /// What the last attempt to combine the servers found.
    pub(crate) agreement: String,
    /// The servers, in the order of the configuration.
    pub(crate) servers: Vec<ServerStatus>,
    /// How the correction moved.
    pub(crate) tracking: Tracking,
    /// The last disruption of the clock since the daemon started.
    pub(crate) last_disruption: Option<Happened>,
    /// Steps of the system clock since the daemon started.
    pub(crate) steps: u32,
    /// The last one.
    pub(crate) last_step: Option<Happened>,
    /// What was read of the machine.
    pub(crate) environment: Environment,
    /// The models of the configuration, in its order.
    pub(crate) models: Vec<ModelStatus>,
}

/// Something that happened to a clock.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Happened {
    /// Seconds before the status was written.
    pub(crate) seconds_ago: f64,
    /// What.
    pub(crate) what: String,
}

/// What the daemon says of one server.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ServerStatus {
    /// As the user named it.
    pub(crate) address: String,
    /// The address that was asked last.
    pub(crate) resolved: Option<String>,
    /// `no_answer`, `candidate`, `selected`, `falseticker`, `unreachable` or `stopped`.
    pub(crate) state: String,
    /// The server's time minus the system clock.
    pub(crate) offset_seconds: Option<f64>,
    /// Round trip of the newest sample.
    pub(crate) delay_seconds: Option<f64>,
    /// How far the server's time may be wrong.
    pub(crate) root_distance_seconds: Option<f64>,
    /// Steps from the reference clock.
    pub(crate) stratum: Option<u8>,
    /// The last eight requests, newest in the lowest bit; 1 was answered.
    pub(crate) reach: u8,
    /// Seconds to the next request.
    pub(crate) poll_interval_seconds: f64,
    /// Samples in the fit.
    pub(crate) samples: usize,
    /// Why the newest request gave no measurement; `None` when it gave one.
    pub(crate) last_error: Option<String>,
    /// `server`, `pool`, `nts`, `kernel`, `phc` or `chrony`.
    pub(crate) mode: String,
    /// As in `chronyc sources`: `*` the reference, `+` combined with it, `-` usable but not combined, `x` falseticker,
    /// `?` unreachable, stopped or not measured yet.
    pub(crate) mark: String,
    /// Seconds since the newest sample.
    pub(crate) last_sample_seconds_ago: Option<f64>,
    /// The newest sample: the server's time minus the system clock.
    pub(crate) last_sample_offset_seconds: Option<f64>,
    /// The newest sample: the server's time minus corrected time.
    pub(crate) last_sample_residual_seconds: Option<f64>,
    /// How far the newest sample may be wrong.
    pub(crate) last_sample_error_seconds: Option<f64>,
    /// Its answers are proven to be its own.
    pub(crate) authenticated: bool,
    /// Packets since the start, by what became of them.
    pub(crate) counters: SourceCounters,
}

/// The newest status, for the other threads of the daemon.
#[derive(Debug, Default)]
pub(crate) struct Board {
    newest: Mutex<Option<StatusFile>>,
}

impl Board {
    /// Replaces it.
    pub(crate) fn put(&self, status: StatusFile) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// The newest; `None` before the first.
    pub(crate) fn get(&self) -> Option<StatusFile> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where the status file of a page is.
pub(crate) fn path_of(page: &Path) -> PathBuf {
    let mut name = page.as_os_str().to_owned();
    name.push(".status.json");
    PathBuf::from(name)
}

impl StatusFile {
    /// Replaces the status file in one step: a reader sees the old one or the new one.
    pub(crate) fn write(&self, page: &Path) -> io::Result<()> {
        let path = path_of(page);
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        // Not opened if it is there: in a shared directory it might be somebody's link to another file.
        let _ = std::fs::remove_file(&temporary);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        file.write_all(&text)?;
        std::fs::rename(&temporary, &path)
    }

    /// Reads the status file of a page.
    pub(crate) fn read(page: &Path) -> io::Result<Self> {
        serde_json::from_slice(&std::fs::read(path_of(page))?).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_file_reads_back_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("page");
        let status = StatusFile {
            pid: 1,
            daemon_uptime_seconds: 2.5,
            rate_hz: 100,
            state: "no_data".into(),
            agreement: "no_source".into(),
            servers: vec![ServerStatus {
                address: "a".into(),
                resolved: None,
                state: "no_answer".into(),
                offset_seconds: None,
                delay_seconds: Some(0.1),
                root_distance_seconds: None,
                stratum: Some(2),
                reach: 0,
                poll_interval_seconds: 4.0,
                samples: 0,
                last_error: Some("e".into()),
                authenticated: true,
                counters: SourceCounters { sent: 3, ..SourceCounters::default() },
                ..ServerStatus::default()
            }],
            ..StatusFile::default()
        };
        status.write(&page).unwrap();
        status.write(&page).unwrap();
        assert_eq!(StatusFile::read(&page).unwrap(), status);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(StatusFile::read(&dir.path().join("other")).is_err());
        // What another version of the daemon wrote, with more and with less in it.
        std::fs::write(path_of(&page), "{\"pid\": 7, \"news\": 1, \"servers\": [{\"address\": \"b\"}]}")
            .unwrap();
        let read = StatusFile::read(&page).unwrap();
        assert_eq!((read.pid, read.servers[0].address.as_str()), (7, "b"));
    }
}
