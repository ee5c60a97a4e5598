//! Writes the state file, every minute and at the end.

use crate::estimate::Estimate;
use crate::log;
use crate::publisher::Publisher;
use crate::state_file::Saved;
use chronotick_core::{MonoTime, Span};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How often the state is saved: after a crash the next daemon's bound has grown by less than 1 ms since.
const SAVE_EVERY: Span = Span::from_secs(60);

/// See the module.
pub(crate) struct Saver {
    /// Where to.
    pub(crate) path: PathBuf,
    /// Of this boot.
    pub(crate) boot_id: String,
    /// The configured servers.
    pub(crate) servers: Vec<String>,
    /// Has the readings of the clocks.
    pub(crate) publisher: Arc<Mutex<Publisher>>,
    /// Has the correction.
    pub(crate) estimate: Arc<Mutex<Estimate>>,
    /// A failure was told.
    pub(crate) has_failed: AtomicBool,
}

impl Saver {
    /// When to save for the first time.
    pub(crate) fn first_due(started: MonoTime) -> MonoTime {
        started + Span::from_secs(15)
    }

    /// When to save again.
    pub(crate) fn due_after(now: MonoTime) -> MonoTime {
        now + SAVE_EVERY
    }

    /// Writes the file; a failure is told once.
    pub(crate) fn save(&self) {
        let Some(saved) = self.saved() else { return };
        match saved.write(&self.path, &self.boot_id) {
            Ok(()) => self.has_failed.store(false, Ordering::Relaxed),
            Err(e) if !self.has_failed.swap(true, Ordering::Relaxed) => log::warn(format_args!(
                "cannot write the state file {}: {e}; a restart will begin without a correction, unless `state_file` \
                 names a place that can be written",
                self.path.display()
            )),
            Err(_) => {}
        }
    }

    fn saved(&self) -> Option<Saved> {
        let (clocks, disruptions, is_disrupted) = {
            let publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
            let monitor = publisher.monitor();
            (monitor.last()?, monitor.disruptions(), monitor.is_disrupted())
        };
        let at = clocks.0.boottime;
        let estimate = self.estimate.lock().unwrap_or_else(PoisonError::into_inner);
        let correction = estimate.correction(at).filter(|_| !is_disrupted);
        let discipline = estimate.saved(at).filter(|_| !is_disrupted);
        drop(estimate);
        Some(Saved { clocks, disruptions, servers: self.servers.clone(), correction, discipline })
    }
}
