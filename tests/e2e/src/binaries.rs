//! Finds the programs under test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// The path of a program of this workspace, next to the running test. It is built first, so that a test never runs
/// yesterday's program.
///
/// # Panics
/// When it cannot be built.
pub fn bin(name: &str) -> PathBuf {
    static BUILT: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().expect("no test panicked while building");
    let own = std::env::current_exe().expect("a running program has a path");
    // target/debug/deps/test-1234 for a test, target/debug/demo for a program.
    let directory =
        own.ancestors().skip(1).find(|d| !d.ends_with("deps")).expect("a directory").to_path_buf();
    let path = directory.join(name);
    if !built.iter().any(|b| b == name) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "-p", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if directory.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo can be started");
        assert!(status.success() && path.exists(), "cargo build -p {name} made no {}", path.display());
        built.push(name.to_owned());
    }
    path
}
