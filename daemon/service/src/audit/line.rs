//! One line of the audit and the hash that chains it to the line before.
//!
//! A line is JSON whose last member is `hash`: SHA-256 over a word of its own and the line's bytes without that member.
//! Nothing has to be written anew to check it, so there is no second form that could differ.

use crate::signing::hex;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// What the first line has in place of a hash before it.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const DOMAIN: &[u8] = b"minoots audit line v1\n";
const HASH_MEMBER: &str = ",\"hash\":\"";
/// The length of the last member with its closing brace.
const TAIL_BYTES: usize = HASH_MEMBER.len() + 64 + 2;

/// What a line says of a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Said {
    pub at: String,
    pub max_error_ns: Option<i64>,
    pub clock: String,
    pub principal: String,
    pub role: String,
    pub tenant: String,
    pub from: Option<String>,
    pub verb: String,
    pub subject: String,
    pub outcome: String,
}

/// A line as it is read.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Line {
    /// Counts the lines, from 1.
    pub seq: u64,
    /// The hash of the line before.
    pub prev: String,
    /// When, RFC 3339.
    pub at: String,
    /// How far off that can be; `None` where the clock had no bound.
    pub max_error_ns: Option<i64>,
    /// Which clock.
    pub clock: String,
    /// Who.
    pub principal: String,
    /// In which role.
    pub role: String,
    /// For which tenant.
    pub tenant: String,
    /// From which address.
    pub from: Option<String>,
    /// What: the word of a verb.
    pub verb: String,
    /// About what.
    pub subject: String,
    /// `ok` or the code of an error.
    pub outcome: String,
    /// The hash of this line.
    pub hash: String,
}

#[derive(Serialize)]
struct Chained<'a> {
    seq: u64,
    prev: &'a str,
    #[serde(flatten)]
    said: &'a Said,
}

fn hash_of(body: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(DOMAIN);
    context.update(body);
    hex(context.finish().as_ref())
}

/// The text of a line without its line feed, and its hash.
pub(super) fn text(seq: u64, prev: &str, said: &Said) -> (String, String) {
    let mut text = crate::render::to_text(&Chained { seq, prev, said });
    let hash = hash_of(text.as_bytes());
    text.truncate(text.len() - 1);
    text.push_str(HASH_MEMBER);
    text.push_str(&hash);
    text.push_str("\"}");
    (text, hash)
}

/// Reads a line and checks its own hash.
pub(super) fn parse(text: &[u8]) -> Result<Line, &'static str> {
    let line: Line = serde_json::from_slice(text).map_err(|_| "it is not a line of the audit")?;
    let body_length = text.len().checked_sub(TAIL_BYTES).ok_or("it is too short")?;
    let (body, tail) = text.split_at(body_length);
    if tail != format!("{HASH_MEMBER}{}\"}}", line.hash).as_bytes() {
        return Err("its hash is not its last member");
    }
    if hash_of(&[body, b"}"].concat()) != line.hash {
        return Err("its hash does not fit: the line was altered");
    }
    Ok(line)
}
