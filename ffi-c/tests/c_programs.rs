//! Compiles the C programs as C11 and as C++17, links them with the library, and runs them.
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it as the test itself does")]

use chronotick::os_clock::realtime_boottime_pair;
use chronotick::{Flags, Record, Source};
use chronotick_core::page::AnchorClock;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// C has no JSON, so the lists are handed over as one case a line; "-" stands for what is absent.
fn case_line(name: &str, page: &str, clocks: [&str; 4], tolerance_ns: i64, expected: &[String]) -> String {
    let tolerance = tolerance_ns.to_string();
    let mut line = vec![name, if page.is_empty() { "-" } else { page }];
    line.extend(clocks);
    line.push(&tolerance);
    line.extend(expected.iter().map(String::as_str));
    line.join("\t") + "\n"
}

/// The conformance list of all languages.
fn conformance_lines() -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("tests/conformance/pages.json")).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let line = |case: &Value| {
        let expect = &case["expect"];
        let text = |field: &str| expect[field].as_str().unwrap_or("-").to_owned();
        let expected = match case["error"].as_str() {
            Some(word) => vec!["error".to_owned(), word.to_owned()],
            None => vec![
                "ok".to_owned(),
                text("status"),
                text("source"),
                text("corrected_ns"),
                text("system_ns"),
                text("earliest_ns"),
                text("latest_ns"),
                text("sigma_ns"),
                expect["confidence"].to_string(),
            ],
        };
        let clocks = ["realtime_ns", "boottime_ns", "monotonic_raw_ns", "counter"]
            .map(|name| case["clocks"][name].as_str().unwrap_or("-"));
        case_line(case["name"].as_str().unwrap(), case["page"].as_str().unwrap(), clocks, 0, &expected)
    };
    list["cases"].as_array().unwrap().iter().map(line).collect()
}

/// The pages that the old Python daemon wrote, with what its client made of them; none where they are not at hand.
fn old_page_lines() -> Vec<String> {
    let directory = repository().join("../shared/data/clock-pages");
    let Ok(text) = std::fs::read_to_string(directory.join("expected.json")) else {
        println!("skipped: the old daemon's pages are not at {}", directory.display());
        return Vec::new();
    };
    let pages: Value = serde_json::from_str(&text).unwrap();
    let mut lines = Vec::new();
    for (name, page) in pages.as_object().unwrap() {
        let bytes = std::fs::read(directory.join(format!("{name}.bin"))).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let fields = &page["fields"];
        let prediction_s = fields["prediction_time"].as_f64().unwrap();
        let valid_s = fields["valid_until"].as_f64().unwrap() - prediction_s;
        let source = Source::from_u32(u32::try_from(fields["source"].as_u64().unwrap()).unwrap()).unwrap();
        for (at, corrected_s) in page["corrected_time_at_system_time"].as_object().unwrap() {
            let at_s: f64 = at.parse().unwrap();
            let elapsed_s = at_s - prediction_s;
            let status = match source {
                Source::NoData => "no_data",
                _ if elapsed_s > valid_s => "expired",
                _ => "legacy",
            };
            let sigma_s = page["time_uncertainty_at_delta"][format!("{elapsed_s:.1}")].as_f64().unwrap();
            let realtime_ns = ns_of(at_s).to_string();
            let expected = [
                "ok".to_owned(),
                status.to_owned(),
                source.as_str().to_owned(),
                ns_of(corrected_s.as_f64().unwrap()).to_string(),
                realtime_ns.clone(),
                "-".to_owned(),
                "-".to_owned(),
                ns_of(sigma_s).to_string(),
                fields["confidence"].to_string(),
            ];
            // The old client computes in f64 of Unix seconds, whose step is 238 ns, and rounds more than once.
            lines.push(case_line(name, &hex, [&realtime_ns, "0", "0", "-"], 500, &expected));
        }
    }
    assert!(!lines.is_empty(), "{} holds no page", directory.display());
    lines
}

fn ns_of(seconds: f64) -> i64 {
    seconds.floor() as i64 * 1_000_000_000 + (seconds.fract() * 1e9).round() as i64
}

const LIVE_OFFSET_S: f64 = 1.5;

/// A page as a synchronized daemon would have written it just now.
fn live_page(directory: &Path) -> PathBuf {
    let (real, boot, _) = realtime_boottime_pair();
    let second = real.as_ns().div_euclid(1_000_000_000);
    let record = Record {
        offset_correction: LIVE_OFFSET_S,
        offset_uncertainty: 1e-5,
        prediction_time: second as f64,
        valid_until: second as f64 + 3_600.0,
        sequence: 2,
        flags: Flags(Flags::VALID | Flags::NTP_READY | Flags::WARMUP_COMPLETE),
        source: Source::Ntp,
        anchor_clock: AnchorClock::Boottime,
        anchor: boot.as_ns() - real.as_ns().rem_euclid(1_000_000_000),
        max_error: 0.001,
        ..Record::default()
    };
    let path = directory.join("page");
    std::fs::write(&path, record.to_bytes()).unwrap();
    path
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files of the library as a C program links it. The build of a test leaves only the Rust one at a known place, so
/// cargo is asked for the others.
static LIBRARY: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "chronotick-ffi", "--lib", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let messages = stdout_of(cargo.current_dir(repository()));
    let artifact = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|m| m["reason"] == "compiler-artifact" && m["target"]["name"] == "chronotick_ffi")
        .expect("cargo names the library it built");
    artifact["filenames"].as_array().unwrap().iter().map(|f| PathBuf::from(f.as_str().unwrap())).collect()
});

fn library(extension: &str) -> &'static Path {
    LIBRARY.iter().find(|f| f.extension().is_some_and(|e| e == extension)).unwrap()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"))
}

fn stdout_of(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A compiler with the arguments that select the language.
const C11: [&str; 4] = ["cc", "-std=c11", "-x", "c"];
const CPP17: [&str; 4] = ["c++", "-std=c++17", "-x", "c++"];

fn compile(language: [&str; 4], source: &str, library: &Path, program: &Path) {
    compile_with(language, source, library, program, &[]);
}

fn compile_with(language: [&str; 4], source: &str, library: &Path, program: &Path, options: &[&str]) {
    let [compiler, language @ ..] = language;
    stdout_of(
        Command::new(compiler)
            .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-g"])
            .args(options)
            .args(language)
            .arg("-I")
            .arg(repository().join("include"))
            .arg(repository().join("ffi-c").join(source))
            // The library is no source file.
            .args(["-x", "none"])
            .arg(library)
            .args(["-lm", "-lpthread", "-ldl", "-o"])
            .arg(program),
    );
}

/// The cases of all lists, in a file, and how many they are.
fn case_file(directory: &Path) -> (PathBuf, usize) {
    let mut lines = conformance_lines();
    assert!(lines.len() >= 49, "the list has only {} cases", lines.len());
    lines.extend(old_page_lines());
    let cases = directory.join("cases");
    std::fs::write(&cases, lines.concat()).unwrap();
    (cases, lines.len())
}

/// Runs the conformance program, which checks threads and waits as well, under a checker of memory if one is given.
fn run_conformance(program: &Path, directory: &Path, checker: &[&str]) {
    let (cases, count) = case_file(directory);
    let mut command = match checker {
        [] => Command::new(program),
        [checker, arguments @ ..] => {
            let mut command = Command::new(checker);
            command.args(arguments).arg(program);
            command
        }
    };
    let printed = stdout_of(
        command.arg(cases).arg(live_page(directory)).arg(((LIVE_OFFSET_S * 1e9) as i64).to_string()),
    );
    assert_eq!(printed, format!("{count} cases\n"));
}

fn check_conformance(language: [&str; 4]) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("conformance");
    compile(language, "tests/conformance.c", library("a"), &program);
    run_conformance(&program, directory.path(), &[]);
}

#[test]
fn the_conformance_list_holds_in_c() {
    check_conformance(C11);
}

#[test]
fn the_conformance_list_holds_in_cpp() {
    check_conformance(CPP17);
}

#[test]
fn the_conformance_program_is_clean_under_the_sanitizers() {
    let directory = tempfile::tempdir().unwrap();
    let probe = directory.path().join("probe.c");
    std::fs::write(&probe, "int main(void) { return 0; }\n").unwrap();
    let options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let probed =
        run(Command::new("cc").args(options).arg(&probe).arg("-o").arg(directory.path().join("probe")));
    if !probed.status.success() {
        println!("skipped: the C compiler has no address sanitizer here");
        return;
    }
    for language in [C11, CPP17] {
        let program = directory.path().join("sanitized");
        compile_with(language, "tests/conformance.c", library("a"), &program, &options);
        run_conformance(&program, directory.path(), &[]);
    }
}

#[test]
fn the_conformance_program_is_clean_under_valgrind() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: no valgrind here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("conformance");
    compile(C11, "tests/conformance.c", library("a"), &program);
    // What is still reachable at the end is the message of a thread, which lives as long as the thread.
    let checker = [
        "valgrind",
        "--quiet",
        "--error-exitcode=1",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
    ];
    run_conformance(&program, directory.path(), &checker);
}

/// The directory to find the shared library in at run time: there it has the name that programs ask for.
fn shared_library_directory(directory: &Path) -> PathBuf {
    let found = directory.join("lib");
    std::fs::create_dir_all(&found).unwrap();
    let link = found.join("libchronotick.so.0");
    if !link.exists() {
        std::os::unix::fs::symlink(library("so"), link).unwrap();
    }
    found
}

#[test]
fn an_installed_library_is_found_by_pkg_config() {
    if Command::new("pkg-config").arg("--version").output().is_err() {
        println!("skipped: no pkg-config here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("usr");
    stdout_of(
        Command::new(repository().join("scripts/install-c.sh"))
            .arg(&prefix)
            .env("CHRONOTICK_BUILT", library("a").parent().unwrap())
            .env_remove("DESTDIR"),
    );
    let pkg_config = |what: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.args(what).arg("chronotick").env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        stdout_of(&mut command).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(pkg_config(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    let program = directory.path().join("now");
    stdout_of(
        Command::new("cc")
            .args(pkg_config(&["--cflags"]))
            .arg(repository().join("ffi-c/examples/now.c"))
            .args(pkg_config(&["--libs"]))
            .arg("-o")
            .arg(&program),
    );
    let printed = stdout_of(
        Command::new(&program)
            .env("CHRONOTICK_SHM", live_page(directory.path()))
            .env("LD_LIBRARY_PATH", prefix.join("lib")),
    );
    assert!(printed.contains(" ns, synchronized, from ntp\n"), "{printed}");
}

#[test]
fn the_benchmark_prints_a_figure() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("read");
    compile_with(C11, "benches/read.c", library("a"), &program, &["-O2"]);
    let printed = stdout_of(Command::new(&program).arg("vdso").arg(live_page(directory.path())));
    let figure: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(figure["name"], "read.c.vdso");
    assert!(figure["ratio"].as_f64().unwrap() > 0.0, "{printed}");
}

#[test]
fn the_sample_runs_against_both_libraries() {
    let directory = tempfile::tempdir().unwrap();
    let page = live_page(directory.path());
    for extension in ["a", "so"] {
        let program = directory.path().join(extension);
        let library = library(extension);
        compile(C11, "examples/now.c", library, &program);
        let sample = |page: &Path| {
            let mut command = Command::new(&program);
            command
                .env("CHRONOTICK_SHM", page)
                .env("LD_LIBRARY_PATH", shared_library_directory(directory.path()));
            run(&mut command)
        };
        let printed = String::from_utf8(sample(&page).stdout).unwrap();
        assert!(printed.contains(" ns, synchronized, from ntp\nat most 1"), "{printed}");
        let refused = sample(&directory.path().join("absent"));
        let message = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            message.starts_with("cannot attach the clock page: not_running: ChronoTick daemon"),
            "{message}"
        );
    }
}

#[test]
fn the_readme_shows_the_sample_as_it_is() {
    let read = |name: &str| std::fs::read_to_string(repository().join("ffi-c").join(name)).unwrap();
    let sample = read("examples/now.c");
    assert!(
        read("README.md").contains(&format!("```c\n{sample}```")),
        "copy examples/now.c into ffi-c/README.md"
    );
}
