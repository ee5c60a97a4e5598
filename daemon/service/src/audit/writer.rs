//! The thread that writes the audit: lines in order, groups of them to the disk, checkpoints signed.

use super::line::{GENESIS, Said, parse, text};
use super::verify::{segment_name, segments};
use crate::signing::{Kind, Signing};
use crate::store::{ControlStore, StoreError};
use chronotick::os_clock::{boottime, realtime};
use chronotick_core::{MonoTime, Span};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How many lines may wait; then commands wait.
const QUEUE_LINES: usize = 65_536;
/// How long a command waits for room before its line is counted as lost. Reached only when the disk fails.
const ROOM_WAIT: Duration = Duration::from_secs(10);
/// A segment is closed at this size.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Lines are on the disk at most this much later.
const SYNC_EVERY: Span = Span::from_secs(1);
const CHECKPOINT_EVERY: Span = Span::from_secs(60);
const CHECKPOINT_LINES: u64 = 10_000;
/// The checkpoints, beside the segments.
pub(super) const CHECKPOINTS: &str = "checkpoints.jsonl";
/// The public keys that signed them.
pub(super) const KEYS: &str = "keys.json";
const CONTROL_KIND: &str = "audit_checkpoint";

/// Why the audit cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The operating system refused.
    #[error("cannot use the audit in {directory}: {reason}")]
    Io {
        /// Where.
        directory: PathBuf,
        /// What it said.
        reason: io::Error,
    },
    /// The store of checkpoints failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The last line is whole and yet no line of the audit.
    #[error(
        "the last line of {segment} cannot be continued: {reason}. Run `minoots audit verify`, keep a copy of the \
         directory, and move it away to begin a new audit"
    )]
    Damaged {
        /// Which file.
        segment: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// What a checkpoint vouches for: so many lines, the last with this hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub seq: u64,
    pub hash: String,
    pub at: String,
}

/// How far the lines have come.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// So many of those that were sent are with the operating system.
    written: u64,
    /// The disk takes nothing now.
    is_failing: bool,
}

enum Message {
    Line(Box<Said>),
    Flush(Sender<()>),
    Close,
}

/// The end of the thread that commands see.
pub(super) struct Writer {
    messages: Sender<Message>,
    /// Counts the lines, each before it is sent.
    sent: AtomicU64,
    progress: watch::Receiver<Progress>,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(
        directory: &Path,
        signing: Arc<Signing>,
        control: Arc<dyn ControlStore>,
    ) -> Result<Self, AuditError> {
        let failed = |reason| AuditError::Io { directory: directory.into(), reason };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let tail = Tail::find(directory)?;
        let known = control.all(CONTROL_KIND)?.pop();
        let known = known.and_then(|(_, value)| serde_json::from_slice::<Checkpoint>(&value).ok());
        // A stop that is clean ends with a checkpoint.
        let was_cut_off = tail.seq > known.as_ref().map_or(0, |known| known.seq);
        if let Some(known) = known
            && known.seq > tail.seq
        {
            tracing::error!(
                "the audit in {} ends at line {} and had {}: lines were removed. `minoots audit verify` says more",
                directory.display(),
                tail.seq,
                known.seq
            );
        }
        let (messages, inbox) = bounded(QUEUE_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let (progress_sender, progress) = watch::channel(Progress::default());
        let worker = Worker {
            directory: directory.into(),
            signing,
            control,
            lost: lost.clone(),
            progress: progress_sender,
            was_cut_off,
            checkpointed: tail.seq,
            tail,
            buffer: Vec::new(),
            dirty_since: None,
            checkpoint_at: boottime() + CHECKPOINT_EVERY,
        };
        let thread = std::thread::Builder::new()
            .name("minoots-audit".into())
            .spawn(move || worker.run(&inbox))
            .map_err(failed)?;
        let sent = AtomicU64::new(0);
        Ok(Self { messages, sent, progress, lost, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn write(&self, said: Said) {
        // Before it is sent: so whoever has sent a line reads at least its place among all (`written`).
        self.sent.fetch_add(1, Ordering::SeqCst);
        if self.messages.send_timeout(Message::Line(Box::new(said)), ROOM_WAIT).is_err() {
            self.sent.fetch_sub(1, Ordering::SeqCst);
            // Relaxed: a count, which orders nothing else.
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                "a line of the audit is lost: its disk takes no more. The audit will say how many"
            );
        }
    }

    /// Waits until the operating system has every line so far, or its disk takes nothing.
    pub(super) async fn written(&self) {
        let sent = self.sent.load(Ordering::SeqCst);
        let mut progress = self.progress.clone();
        let arrived = progress.wait_for(|p| p.written >= sent || p.is_failing);
        // A line that found no room was counted for a moment; nobody is to wait for it.
        let _ = tokio::time::timeout(ROOM_WAIT, arrived).await;
    }

    pub(super) fn flush(&self) {
        let (done, wait) = bounded(1);
        if self.messages.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    pub(super) fn close(&self) {
        let _ = self.messages.send(Message::Close);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the audit had panicked: see its message above");
        }
    }
}

/// Where the audit ends.
struct Tail {
    file: Option<File>,
    length: u64,
    seq: u64,
    hash: String,
}

impl Tail {
    /// Finds the end, and cuts off a line that a crash tore.
    fn find(directory: &Path) -> Result<Self, AuditError> {
        let failed = |reason| AuditError::Io { directory: directory.into(), reason };
        let mut found = Self { file: None, length: 0, seq: 0, hash: GENESIS.into() };
        // A crash between a new segment and its first line leaves an empty one last.
        for segment in segments(directory).map_err(failed)?.into_iter().rev() {
            let mut file = OpenOptions::new().read(true).write(true).open(&segment).map_err(failed)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(failed)?;
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            if whole < bytes.len() {
                tracing::warn!(
                    "the last line of {} was torn by a crash: its {} bytes are cut off",
                    segment.display(),
                    bytes.len() - whole
                );
                file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(failed)?;
            }
            let last = bytes[..whole].strip_suffix(b"\n").and_then(|b| b.rsplit(|b| *b == b'\n').next());
            if found.file.is_none() {
                file.seek(SeekFrom::End(0)).map_err(failed)?;
                (found.file, found.length) = (Some(file), whole as u64);
            }
            if let Some(last) = last {
                let line = parse(last).map_err(|reason| AuditError::Damaged { segment, reason })?;
                (found.seq, found.hash) = (line.seq, line.hash);
                break;
            }
        }
        Ok(found)
    }
}

struct Worker {
    directory: PathBuf,
    signing: Arc<Signing>,
    control: Arc<dyn ControlStore>,
    lost: Arc<AtomicU64>,
    progress: watch::Sender<Progress>,
    /// The last run ended without a checkpoint; to be said before the first line.
    was_cut_off: bool,
    tail: Tail,
    /// Lines that are made and not yet given to the operating system.
    buffer: Vec<u8>,
    dirty_since: Option<MonoTime>,
    checkpointed: u64,
    checkpoint_at: MonoTime,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Message>) {
        let mut received = 0;
        loop {
            let now = boottime();
            let due = self.dirty_since.map_or(self.checkpoint_at, |since| since + SYNC_EVERY);
            let wait = due.checked_since(now).map_or(0, |span| span.as_ns().max(0) as u64);
            let wait = Duration::from_nanos(wait);
            let mut next = match inbox.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Message::Close),
            };
            let (mut waiting, mut is_closing) = (Vec::new(), false);
            // What waits goes into one write.
            while let Some(message) = next {
                match message {
                    Message::Line(said) => {
                        self.append(&said);
                        received += 1;
                    }
                    Message::Flush(done) => waiting.push(done),
                    Message::Close => is_closing = true,
                }
                next = if self.buffer.len() < 1 << 20 { inbox.try_recv().ok() } else { None };
            }
            let is_due = self.dirty_since.is_some_and(|since| boottime() >= since + SYNC_EVERY);
            let wants_sync = is_closing || is_due || !waiting.is_empty();
            let put_out = self.put_out(wants_sync);
            let is_failing = put_out.is_err();
            self.progress.send_modify(|p| {
                p.is_failing = is_failing;
                p.written = if is_failing { p.written } else { received };
            });
            if let Err(e) = put_out {
                tracing::error!("the audit cannot be written to {}: {e}", self.directory.display());
                // The lines stay in the buffer and are tried again; meanwhile the queue fills, and then commands wait.
                self.dirty_since.get_or_insert(boottime());
                std::thread::park_timeout(Duration::from_millis(100));
            }
            let is_time = boottime() >= self.checkpoint_at || is_closing;
            if is_time || self.tail.seq - self.checkpointed >= CHECKPOINT_LINES {
                self.checkpoint_at = boottime() + CHECKPOINT_EVERY;
                if let Err(e) = self.checkpoint() {
                    tracing::error!("no checkpoint of the audit: {e}");
                }
            }
            for done in waiting {
                let _ = done.send(());
            }
            if is_closing {
                return;
            }
        }
    }

    fn append(&mut self, said: &Said) {
        if std::mem::take(&mut self.was_cut_off) {
            let cut_off = Said {
                principal: "service".into(),
                role: "none".into(),
                tenant: String::new(),
                from: None,
                verb: "audit.cut_off".into(),
                subject:
                    "the last run ended without a checkpoint: after a power cut lines of its last second may \
                          be missing here"
                        .into(),
                outcome: "ok".into(),
                ..said.clone()
            };
            self.chain(&cut_off);
        }
        // Relaxed: a count, which orders nothing else.
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let gap = Said {
                principal: "service".into(),
                from: None,
                verb: "audit.lost".into(),
                subject: format!("{lost} lines"),
                outcome: "store_failed".into(),
                ..said.clone()
            };
            self.chain(&gap);
        }
        self.chain(said);
    }

    fn chain(&mut self, said: &Said) {
        let (line, hash) = text(self.tail.seq + 1, &self.tail.hash, said);
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
        self.tail.seq += 1;
        self.tail.hash = hash;
    }

    fn put_out(&mut self, wants_sync: bool) -> io::Result<()> {
        if !self.buffer.is_empty() {
            if self.tail.file.is_none() || self.tail.length >= SEGMENT_BYTES {
                self.new_segment()?;
            }
            if let Some(file) = &mut self.tail.file {
                if let Err(e) = file.write_all(&self.buffer) {
                    // Part of it may be there: the next try begins where this one did.
                    file.set_len(self.tail.length)?;
                    file.seek(SeekFrom::Start(self.tail.length))?;
                    return Err(e);
                }
                self.tail.length += self.buffer.len() as u64;
            }
            self.buffer.clear();
            self.dirty_since.get_or_insert(boottime());
        }
        if wants_sync && let (Some(file), Some(_)) = (&self.tail.file, self.dirty_since) {
            file.sync_data()?;
            self.dirty_since = None;
        }
        Ok(())
    }

    fn new_segment(&mut self) -> io::Result<()> {
        if let Some(file) = &self.tail.file {
            file.sync_data()?;
        }
        // The first line of the buffer is the first of the segment.
        let first = parse_seq(&self.buffer).unwrap_or(self.tail.seq);
        let path = self.directory.join(segment_name(first));
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        File::open(&self.directory)?.sync_all()?;
        (self.tail.length, self.tail.file) = (file.metadata()?.len(), Some(file));
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), AuditError> {
        let directory = self.directory.clone();
        let failed = |reason| AuditError::Io { directory: directory.clone(), reason };
        if self.tail.seq == self.checkpointed || !self.buffer.is_empty() {
            return Ok(());
        }
        let (seq, hash) = (self.tail.seq, self.tail.hash.clone());
        let checkpoint = Checkpoint { seq, hash, at: crate::render::rfc3339(realtime().as_ns()) };
        let payload = crate::render::to_text(&checkpoint);
        self.put_out(true).map_err(failed)?;
        let envelope = crate::render::to_text(&self.signing.sign(Kind::Checkpoint, payload.clone()));
        let write = || -> io::Result<()> {
            std::fs::write(self.directory.join(KEYS), self.signing.jwks())?;
            let mut file =
                OpenOptions::new().create(true).append(true).open(self.directory.join(CHECKPOINTS))?;
            file.write_all(format!("{envelope}\n").as_bytes())?;
            file.sync_data()
        };
        write().map_err(failed)?;
        self.control.put(CONTROL_KIND, "latest", payload.as_bytes())?;
        self.checkpointed = seq;
        Ok(())
    }
}

fn parse_seq(buffer: &[u8]) -> Option<u64> {
    let first = buffer.split(|b| *b == b'\n').next()?;
    parse(first).ok().map(|line| line.seq)
}
