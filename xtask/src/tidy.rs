//! `cargo xtask tidy`: the rules of the repository that no compiler checks.
//!
//! Module docs on every Rust file, no overlong file, the arrows between crates, the allow-list of what the pure crates
//! may depend on, and the licences of everything that is linked in.

use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const MAX_LINES: usize = 800;

/// The pure crates: all they may depend on, directly. No runtime, no file, no socket, no clock, no random source.
const PURE: &[(&str, &[&str])] = &[
    ("chronotick-core", &["libm", "loom"]),
    ("chronotick-discipline", &["chronotick-core", "libm", "serde"]),
    ("chronotick-evaluation", &["chronotick-core", "chronotick-discipline", "serde"]),
    // aes-siv is arithmetic only: its feature for a random source is off.
    ("chronotick-ntp", &["chronotick-core", "chronotick-discipline", "aes-siv"]),
    ("minoots-kernel", &["chronotick-core", "croner", "jiff", "serde", "uuid"]),
];

/// The arrows between our crates, each downwards: a crate and what it may point to.
const ARROWS: &[(&str, &[&str])] = &[
    ("chronotick-core", &[]),
    ("minoots-proto", &[]),
    ("chronotick", &["minoots-proto", "chronotick-core"]),
    ("chronotick-ffi", &["chronotick", "chronotick-core"]),
    ("chronotick-python", &["chronotick", "chronotick-core"]),
    ("chronotick-node", &["chronotick", "chronotick-core"]),
    ("chronotick-discipline", &["chronotick-core"]),
    ("chronotick-evaluation", &["chronotick-discipline", "chronotick-core"]),
    ("chronotick-ntp", &["chronotick-discipline", "chronotick-core"]),
    ("minoots-kernel", &["chronotick-core"]),
    (
        "chronotick-daemon",
        &[
            "chronotick-evaluation",
            "chronotick-ntp",
            "chronotick-discipline",
            "chronotick",
            "chronotick-core",
        ],
    ),
    ("minoots", &["minoots-kernel", "minoots-proto", "chronotick", "chronotick-core"]),
    ("sim-clock", &["chronotick-evaluation", "chronotick-discipline", "chronotick-core"]),
    ("sim", &["minoots", "minoots-kernel", "chronotick-core"]),
];

/// The same licences as `deny.toml`, as the words that may stand in an expression.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Zlib",
];

pub(crate) fn run() -> anyhow::Result<()> {
    let mut faults = Vec::new();
    let files = check_files(&mut faults)?;
    let crates = check_crates(&mut faults)?;
    if faults.is_empty() {
        println!("tidy: {files} files and {crates} dependencies in order");
        return Ok(());
    }
    faults.iter().for_each(|fault| eprintln!("tidy: {fault}"));
    bail!("{} faults", faults.len())
}

fn git_files() -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(crate::repository())
        .output()
        .context("cannot run git")?;
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

fn check_files(faults: &mut Vec<String>) -> anyhow::Result<usize> {
    let files = git_files()?;
    for name in &files {
        let path = crate::repository().join(name);
        if !Path::new(&path).exists() {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
        if !text.starts_with("//!") {
            faults.push(format!("{name}: a module doc (//!) that states the file's purpose comes first"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{name}: {lines} lines; split it (at most {MAX_LINES})"));
        }
    }
    Ok(files.len())
}

fn check_crates(faults: &mut Vec<String>) -> anyhow::Result<usize> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(crate::repository())
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let ours: BTreeSet<&str> =
        packages.iter().filter(|p| p["source"].is_null()).filter_map(|p| p["name"].as_str()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if ours.contains(name) {
            check_arrows(name, package, &ours, faults);
        } else {
            check_licence(name, package["license"].as_str().unwrap_or("none"), faults);
        }
    }
    Ok(packages.len())
}

fn check_arrows(name: &str, package: &Value, ours: &BTreeSet<&str>, faults: &mut Vec<String>) {
    let normal = package["dependencies"].as_array().into_iter().flatten().filter(|d| d["kind"].is_null());
    let allowed =
        |table: &[(&str, &[&'static str])]| table.iter().find(|row| row.0 == name).map(|row| row.1.to_vec());
    for dependency in normal.filter_map(|d| d["name"].as_str()) {
        if let Some(pure) = allowed(PURE)
            && !pure.contains(&dependency)
        {
            faults.push(format!("{name} is pure and may not depend on {dependency}"));
        }
        if let Some(down) = allowed(ARROWS)
            && ours.contains(dependency)
            && !down.contains(&dependency)
        {
            faults.push(format!("{name} -> {dependency} is not a downward arrow"));
        }
    }
}

fn check_licence(name: &str, expression: &str, faults: &mut Vec<String>) {
    // One allowed alternative of an OR is enough; every part of an AND must be allowed.
    let normal = expression.replace(" WITH LLVM-exception", "").replace('/', " OR ");
    let allowed = normal.split(" OR ").any(|alternative| {
        alternative.split(" AND ").all(|l| LICENCES.contains(&l.trim_matches(|c| "() ".contains(c))))
    });
    if !allowed {
        faults.push(format!("{name}: the licence {expression} is not on the list in deny.toml"));
    }
}
