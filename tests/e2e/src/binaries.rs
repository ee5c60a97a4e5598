//! Finds the programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Where cargo puts what it builds for the running test or program: `target/debug` or `target/release`.
///
/// # Panics
/// When the running program has no path.
pub fn build_directory() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    // target/debug/deps/test-1234 for a test, target/debug/demo for a program.
    own.ancestors().skip(1).find(|d| !d.ends_with("deps")).expect("a directory").to_path_buf()
}

/// The top directory of the repository.
///
/// # Panics
/// When the sources are gone.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tests/e2e is two levels down")
        .to_path_buf()
}

/// Builds a package of this workspace, once, and returns where its files are.
///
/// # Panics
/// When it cannot be built.
pub fn build(package: &str) -> PathBuf {
    static BUILT: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().expect("no test panicked while building");
    let directory = build_directory();
    if !built.iter().any(|b| b == package) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "-p", package]).current_dir(env!("CARGO_MANIFEST_DIR"));
        // The one in use, however the test was told of it.
        build.env("CARGO_TARGET_DIR", directory.parent().expect("target"));
        if directory.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo can be started");
        assert!(status.success(), "cargo build -p {package} failed");
        built.push(package.to_owned());
    }
    directory
}

/// The path of a program of this workspace, next to the running test. It is built first, so that a test never runs
/// yesterday's program.
///
/// # Panics
/// When it cannot be built.
pub fn bin(name: &str) -> PathBuf {
    let path = build(name).join(name);
    assert!(path.exists(), "cargo build -p {name} made no {}", path.display());
    path
}
