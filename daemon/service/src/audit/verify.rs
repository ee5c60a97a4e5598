//! Finds what was altered, removed or reordered in an audit.

use super::line::{GENESIS, parse};
use super::writer::{CHECKPOINTS, Checkpoint, KEYS};
use crate::signing::Kind;
use chronotick::verify::Keys;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// How many findings are told; one altered line makes few.
const FINDINGS_MAX: usize = 100;
const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line in it, from 1; 0 for the file as a whole.
    pub line: u64,
    /// What is wrong.
    pub what: String,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Report {
    /// How many lines there are.
    pub lines: u64,
    /// How many checkpoints there are whose signatures fit.
    pub checkpoints: u64,
    /// How many lines come after the last checkpoint: their removal would not be seen.
    pub unsigned_lines: u64,
    /// The hash of the last line, to be kept elsewhere.
    pub last_hash: Option<String>,
    /// What is wrong; empty for an audit that is whole.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, file: &Path, line: u64, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.findings.push(Finding { file, line, what: what.into() });
        }
    }
}

pub(super) fn segment_name(first_seq: u64) -> String {
    format!("{PREFIX}{first_seq:020}{SUFFIX}")
}

/// The number of the first line of a segment, from its name.
pub(super) fn first_seq(segment: &Path) -> Option<u64> {
    segment.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// The segments in order.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if first_seq(&path).is_some() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read_or_empty(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// Checks every line of the audit in a directory, and its checkpoints against the keys beside them. A line that is
/// altered, removed or reordered is found; so is a tail that is cut off, up to the last checkpoint.
pub fn verify(directory: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    let mut promised = checkpoints(directory, &mut report)?;
    let last_promised = promised.keys().next_back().copied().unwrap_or(0);
    let (mut seq, mut prev) = (0, GENESIS.to_string());
    for segment in segments(directory)? {
        let bytes = std::fs::read(&segment)?;
        if first_seq(&segment) != Some(seq + 1) && !bytes.is_empty() {
            report.find(&segment, 0, format!("line {} should come next: a segment is missing", seq + 1));
        }
        let Some(whole) = bytes.strip_suffix(b"\n") else {
            if !bytes.is_empty() {
                report.find(&segment, 0, "its last line is torn: it has no end");
            }
            continue;
        };
        for (number, text) in (1..).zip(whole.split(|b| *b == b'\n')) {
            report.lines += 1;
            let line = match parse(text) {
                Ok(line) => line,
                Err(what) => {
                    report.find(&segment, number, what);
                    continue;
                }
            };
            if line.seq != seq + 1 {
                let what = format!(
                    "it is line {} where {} should come: lines are missing or moved",
                    line.seq,
                    seq + 1
                );
                report.find(&segment, number, what);
            } else if line.prev != prev {
                report.find(&segment, number, "it does not follow the line before");
            }
            if promised.remove(&line.seq).is_some_and(|hash| hash != line.hash) {
                report.find(&segment, number, "a signed checkpoint has another hash for it");
            }
            (seq, prev) = (line.seq, line.hash);
        }
    }
    for missing in promised.keys() {
        report.find(Path::new(CHECKPOINTS), 0, format!("line {missing} was signed and is not there"));
    }
    report.unsigned_lines = seq.saturating_sub(last_promised);
    report.last_hash = (seq > 0).then_some(prev);
    Ok(report)
}

/// The hashes that signed checkpoints promise.
fn checkpoints(directory: &Path, report: &mut Report) -> io::Result<BTreeMap<u64, String>> {
    let path = directory.join(CHECKPOINTS);
    let bytes = read_or_empty(&path)?;
    let keys_text = read_or_empty(&directory.join(KEYS))?;
    let keys = match Keys::from_jwks(&String::from_utf8_lossy(&keys_text)) {
        Ok(keys) => keys,
        Err(_) if bytes.is_empty() => return Ok(BTreeMap::new()),
        Err(e) => {
            report.find(Path::new(KEYS), 0, e.to_string());
            Keys::default()
        }
    };
    let mut promised = BTreeMap::new();
    // A crash may tear the last one; nothing rests on it then.
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    for (number, text) in (1..).zip(bytes[..whole].split(|b| *b == b'\n').filter(|t| !t.is_empty())) {
        let opened = keys.open(Kind::Checkpoint, &String::from_utf8_lossy(text));
        let parsed = opened
            .map_err(|e| e.to_string())
            .and_then(|payload| serde_json::from_str::<Checkpoint>(&payload).map_err(|e| e.to_string()));
        match parsed {
            Ok(checkpoint) => {
                report.checkpoints += 1;
                promised.insert(checkpoint.seq, checkpoint.hash);
            }
            Err(what) => report.find(&path, number, what),
        }
    }
    Ok(promised)
}
