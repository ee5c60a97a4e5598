//! Reads lines of the audit: for export, and page by page.

use super::line::{Line, parse};
use super::verify::{first_seq, segments};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

/// How many bytes a page reads before it ends, whether it is full or not.
const PAGE_READ_MAX_BYTES: u64 = 32 << 20;

/// Which lines are wanted; an empty one wants all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filters {
    /// Only of this tenant.
    pub tenant: Option<String>,
    /// Only after this line.
    pub after: u64,
    /// Only of this principal.
    pub principal: Option<String>,
    /// Only of this verb.
    pub verb: Option<String>,
}

impl Filters {
    fn want(&self, line: &Line) -> bool {
        line.seq > self.after
            && self.tenant.as_ref().is_none_or(|t| *t == line.tenant)
            && self.principal.as_ref().is_none_or(|p| *p == line.principal)
            && self.verb.as_ref().is_none_or(|v| *v == line.verb)
    }
}

/// A page of lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The lines as they are in the audit, so that their hashes can be checked.
    pub lines: Vec<String>,
    /// Where the next page begins; `None` at the end.
    pub next_after: Option<u64>,
}

/// Visits the wanted lines in order, until `visit` says no more.
fn each(
    directory: &Path,
    filters: &Filters,
    mut visit: impl FnMut(&Line, &str, u64) -> io::Result<bool>,
) -> io::Result<()> {
    let found = segments(directory)?;
    // The last segment that begins at or before the wanted line.
    let from =
        found.iter().rposition(|s| first_seq(s).is_some_and(|first| first <= filters.after + 1)).unwrap_or(0);
    let mut read = 0;
    for segment in &found[from..] {
        for text in BufReader::new(File::open(segment)?).lines() {
            let text = text?;
            read += text.len() as u64;
            // What does not parse is for `verify` to tell.
            if let Ok(line) = parse(text.as_bytes())
                && !visit(&line, &text, read)?
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Writes the wanted lines, each as it is in the audit; how many they were.
pub fn export(directory: &Path, filters: &Filters, writer: &mut dyn Write) -> io::Result<u64> {
    let mut count = 0;
    each(directory, filters, |line, text, _| {
        if filters.want(line) {
            writeln!(writer, "{text}")?;
            count += 1;
        }
        Ok(true)
    })?;
    Ok(count)
}

/// A page of at most `limit` wanted lines.
pub fn page(directory: &Path, filters: &Filters, limit: usize) -> io::Result<Page> {
    let mut page = Page::default();
    let mut last = filters.after;
    each(directory, filters, |line, text, read| {
        if page.lines.len() == limit || read > PAGE_READ_MAX_BYTES {
            page.next_after = Some(last);
            return Ok(false);
        }
        last = last.max(line.seq);
        if filters.want(line) {
            page.lines.push(text.to_string());
        }
        Ok(true)
    })?;
    Ok(page)
}
