//! Measures the write path of the timer index on two embedded engines, fjall against redb.
//!
//! `bench-index [--scale 1M|10M|50M] [--engine fjall|redb] [--dir DIR]`, of the load `--tenants`, `--tenant-first` (the
//! order in the keys), `--lean` (no state until the first change), and what the engine takes: `--cache-mb`, `--workers`,
//! `--memtable-mb`, `--journal-mb`, `--rotate-mb`, `--table-mb`, `--l0`, `--blobs`. Each engine runs in a process of its own, so that the memory
//! is its own: creates, then fires and finishes, then creates again until the process aborts itself; another process
//! opens what is left. One JSON line for each figure, fjall as value and redb as baseline; lines for people on stderr.
#![allow(clippy::unwrap_used, reason = "a benchmark ends where something is amiss")]

mod btree;
mod engine;
mod load;
mod lsm;
mod run;

use engine::{Result, Tuning};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) struct Arguments {
    timers: u64,
    engine: Option<String>,
    directory: PathBuf,
    keep: bool,
    child: Option<String>,
    tuning: Tuning,
    shape: load::Shape,
}

/// Figures of one engine: name, value, unit.
type Figures = BTreeMap<String, (f64, String)>;

fn main() -> Result<()> {
    let arguments = parse(std::env::args().skip(1))?;
    let directory = &arguments.directory;
    match arguments.child.as_deref() {
        Some("run") => return run::run(arguments.engine.as_deref().unwrap(), directory, &arguments),
        Some("open") => return run::open(arguments.engine.as_deref().unwrap(), directory, &arguments),
        _ => {}
    }
    let engines: Vec<&str> = arguments.engine.as_deref().map_or(vec!["fjall", "redb"], |engine| vec![engine]);
    let mut results = BTreeMap::new();
    for engine in engines {
        let at = directory.join(engine);
        let _ = std::fs::remove_dir_all(&at);
        let mut figures = child(engine, "run", &at)?;
        figures.extend(child(engine, "open", &at)?);
        if !arguments.keep {
            std::fs::remove_dir_all(&at)?;
        }
        results.insert(engine.to_owned(), figures);
    }
    let first = results.keys().next().unwrap().clone();
    for (name, (value, unit)) in &results[&first] {
        let baseline = results.get("redb").filter(|_| first != "redb").and_then(|figures| figures.get(name));
        match baseline {
            Some((baseline, _)) => println!(
                r#"{{"name":"index.{name}","value":{value:.3},"unit":"{unit}","baseline":"redb","baseline_value":{baseline:.3},"ratio":{:.4}}}"#,
                value / baseline
            ),
            None => println!(
                r#"{{"name":"index.{name}","value":{value:.3},"unit":"{unit}","baseline":null,"baseline_value":null,"ratio":null}}"#
            ),
        }
    }
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut arguments = Arguments {
        timers: 1_000_000,
        engine: None,
        directory: std::env::temp_dir().join(format!("bench_index_{}", std::process::id())),
        keep: false,
        child: None,
        shape: load::Shape { tenants: 16, lean: false, id_first: true },
        tuning: Tuning {
            cache_mb: 128,
            workers: 2,
            memtable_mb: 64,
            journal_mb: 256,
            blobs: false,
            rotate_mb: 96,
            table_mb: 32,
            l0: 8,
        },
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--scale" => {
                let text = value()?;
                let millions: u64 =
                    text.trim_end_matches('M').parse().map_err(|_| format!("no scale {text:?}: 10M"))?;
                arguments.timers = millions * 1_000_000;
            }
            "--engine" => arguments.engine = Some(value()?),
            "--dir" => arguments.directory = value()?.into(),
            "--child" => arguments.child = Some(value()?),
            "--keep" => arguments.keep = true,
            "--blobs" => arguments.tuning.blobs = true,
            "--cache-mb" => arguments.tuning.cache_mb = value()?.parse()?,
            "--workers" => arguments.tuning.workers = value()?.parse()?,
            "--memtable-mb" => arguments.tuning.memtable_mb = value()?.parse()?,
            "--rotate-mb" => arguments.tuning.rotate_mb = value()?.parse()?,
            "--table-mb" => arguments.tuning.table_mb = value()?.parse()?,
            "--l0" => arguments.tuning.l0 = value()?.parse()?,
            "--tenants" => arguments.shape.tenants = value()?.parse()?,
            "--tenant-first" => arguments.shape.id_first = false,
            "--lean" => arguments.shape.lean = true,
            "--journal-mb" => arguments.tuning.journal_mb = value()?.parse()?,
            other => {
                return Err(format!(
                    "unknown option {other:?}; the head of benches/index/src/main.rs has them"
                )
                .into());
            }
        }
    }
    Ok(arguments)
}

/// Runs a part in a process of its own and collects the figures that it prints: `name value unit`.
fn child(engine: &str, part: &str, directory: &Path) -> Result<Figures> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args().skip(1))
        .args(["--engine", engine, "--child", part, "--dir"])
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut figures = Figures::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line?;
        let mut words = line.split(' ');
        if let (Some(name), Some(value), Some(unit)) = (words.next(), words.next(), words.next()) {
            eprintln!("{engine}: {name} {value} {unit}");
            figures.insert(name.to_owned(), (value.parse()?, unit.to_owned()));
        }
    }
    let status = child.wait()?;
    // The first part ends with an abort, which is how it is meant to end.
    if !(status.success() || (part == "run" && figures.contains_key("aborted_at"))) {
        return Err(format!("{engine} {part}: {status}").into());
    }
    figures.remove("aborted_at");
    Ok(figures)
}
