//! What goes to standard output: JSON lines or tables.

use super::Failure;
use serde::Serialize;
use serde_json::Value;
use std::io::Write;

/// Writes to standard output. A reader that has gone away is no failure.
pub(super) fn bytes(text: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

pub(super) fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{}\n", printable(text)).as_bytes())
}

/// One object as one line.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    bytes(format!("{}\n", serde_json::to_string(value).map_err(Failure::failed)?).as_bytes())
}

/// Names and details come from others: what would steer a terminal is shown as a question mark.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<(), Failure> {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    let text: Vec<_> = table.to_string().lines().map(|l| l.trim().to_string()).collect();
    line(&text.join("\n"))
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    }
}

/// A list: one object for each line, or a table; `what` names its entries where there are none.
pub(super) fn list(items: &[Value], what: &str, is_json: bool) -> Result<(), Failure> {
    if is_json {
        return items.iter().try_for_each(json);
    }
    if items.is_empty() {
        return line(&format!("no {what}"));
    }
    let mut names: Vec<&str> = Vec::new();
    for (key, value) in items.iter().filter_map(Value::as_object).flatten() {
        if !value.is_null() && !names.contains(&key.as_str()) {
            names.push(key);
        }
    }
    let header: Vec<_> = names.iter().map(|n| n.to_uppercase().replace('_', " ")).collect();
    let header: Vec<_> = header.iter().map(String::as_str).collect();
    table(&header, items.iter().map(|i| names.iter().map(|n| cell(&i[*n])).collect()))
}

/// A span in nanoseconds as people read it.
fn span(ns: i64) -> String {
    match ns.unsigned_abs() {
        0..1_000_000_000 => format!("{:.3} ms", ns as f64 / 1e6),
        _ => format!("{:.3} s", ns as f64 / 1e9),
    }
}

/// How long after its due time something came.
pub(super) fn lateness(ns: i64) -> String {
    match ns {
        0.. => format!("{} late", span(ns)),
        _ => format!("{} early", span(ns.saturating_neg())),
    }
}

/// JSON of the service as people read it: a list as a table, an object as lines.
pub(super) fn answer(value: &serde_json::Value, is_json: bool) -> Result<(), Failure> {
    if is_json {
        return json(value);
    }
    let Value::Object(fields) = value else { return line(&cell(value)) };
    for (name, field) in fields {
        match field {
            Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                list(items, name, false)?;
            }
            Value::Null => {}
            other => line(&format!("{name}: {}", cell(other)))?,
        }
    }
    Ok(())
}
