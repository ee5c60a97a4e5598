//! The audit: every command with who, what, from where and the outcome, as lines chained by their hashes.

mod export;
mod line;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use export::{Filters, Page, export, page};
pub use line::Line;
pub use verify::{Finding, Report, verify};
pub use writer::AuditError;

use crate::access::refusals::Summary;
use crate::access::{Caller, Verb};
use crate::api::error::ApiError;
use crate::clock::KernelClock;
use crate::render::rfc3339;
use crate::signing::Signing;
use crate::store::ControlStore;
use line::Said;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use writer::Writer;

/// Where commands are written down. The default one writes nowhere.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Open>>);

struct Open {
    directory: PathBuf,
    clock: Mutex<Box<dyn KernelClock>>,
    writer: Writer,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("directory", &self.directory()).finish_non_exhaustive()
    }
}

impl Audit {
    /// Continues the audit of a directory, or begins it. A last line that a crash tore is cut off.
    pub fn open(
        directory: &Path,
        signing: Arc<Signing>,
        control: Arc<dyn ControlStore>,
        clock: Box<dyn KernelClock>,
    ) -> Result<Self, AuditError> {
        let writer = Writer::start(directory, signing, control)?;
        Ok(Self(Some(Arc::new(Open { directory: directory.into(), clock: Mutex::new(clock), writer }))))
    }

    /// Writes down a command: what it was about (a timer's id, a key's name), and how it ended. Waits only while the
    /// disk is far behind.
    pub fn note(&self, caller: &Caller, verb: Verb, subject: &str, outcome: Result<(), &ApiError>) {
        let Some(open) = &self.0 else { return };
        let stamp = open.clock.lock().unwrap_or_else(PoisonError::into_inner).stamp();
        open.writer.write(Said {
            at: rfc3339(stamp.now.as_ns()),
            max_error_ns: stamp.max_error_ns(),
            clock: stamp.source.as_str().into(),
            principal: caller.principal.to_string(),
            role: caller.role.as_str().into(),
            tenant: caller.tenant.to_string(),
            from: caller.from.map(|addr| addr.to_string()),
            verb: verb.as_str().into(),
            subject: subject.into(),
            outcome: outcome.map_or_else(|e| e.code.code, |()| "ok").into(),
        });
    }

    /// Writes down callers that were refused before anybody knew who they are.
    pub fn note_refused(&self, summary: &Summary) {
        let Some(open) = &self.0 else { return };
        let stamp = open.clock.lock().unwrap_or_else(PoisonError::into_inner).stamp();
        open.writer.write(Said {
            at: rfc3339(stamp.now.as_ns()),
            max_error_ns: stamp.max_error_ns(),
            clock: stamp.source.as_str().into(),
            principal: "nobody".into(),
            role: "none".into(),
            tenant: String::new(),
            from: summary.source.map(|addr| addr.to_string()),
            verb: "auth.refused".into(),
            subject: format!("{} requests", summary.count),
            outcome: summary.code.into(),
        });
    }

    /// Waits until the operating system has every line so far, which a killed process cannot lose any more. Does not
    /// wait while the disk takes nothing.
    pub async fn written(&self) {
        if let Some(open) = &self.0 {
            open.writer.written().await;
        }
    }

    /// Where it is kept.
    pub fn directory(&self) -> Option<&Path> {
        self.0.as_ref().map(|open| open.directory.as_path())
    }

    /// Waits until every line so far is on the disk.
    pub fn flush(&self) {
        if let Some(open) = &self.0 {
            open.writer.flush();
        }
    }

    /// Ends it with a checkpoint.
    pub fn close(&self) {
        if let Some(open) = &self.0 {
            open.writer.close();
        }
    }
}
