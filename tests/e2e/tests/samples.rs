//! Every sample of README.md runs, against a live clock daemon and a live timer service.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use chronotick::Status;
use e2e::{ClockDaemon, LiarConfig, NtpLiar, TimerService, WebhookSink, build, build_directory, eventually};
use e2e::{bin, repository};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The languages whose blocks run, each with its runner. A `console` block is not run: it builds everything.
const RUNNERS: [(&str, Runner); 6] = [
    ("sh", run_sh),
    ("python", run_python),
    ("js", run_node),
    ("go", run_go),
    ("c", run_c),
    ("rust", run_rust),
];

/// Makes the command that runs a sample, in a directory of its own; an error is why it cannot run here.
type Runner = fn(&Live, &Path, &str) -> Result<Command, String>;

/// What the samples talk to.
struct Live {
    daemon: ClockDaemon,
    service: TimerService,
    sink: WebhookSink,
}

impl Live {
    /// The same text with the addresses and paths of this run.
    fn place(&self, sample: &str) -> String {
        let listen = self.service.url().trim_start_matches("http://");
        sample
            .replace("127.0.0.1:7878", listen)
            .replace("127.0.0.1:9090", &format!("127.0.0.1:{}", self.sink.port()))
            .replace("target/release", build_directory().to_str().unwrap())
    }
}

fn readme() -> String {
    std::fs::read_to_string(repository().join("README.md")).unwrap()
}

/// The fenced blocks of a Markdown text: (language, content).
fn blocks(markdown: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in markdown.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, content)), None) => content.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn every_sample_of_the_readme_runs() {
    let dir = tempfile::tempdir().unwrap();
    let liar = NtpLiar::start(LiarConfig { offset_ns: 20_000_000, ..LiarConfig::default() }).unwrap();
    let daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
    daemon.wait_for_line("-> synchronized");
    let client = daemon.client();
    eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));
    bin("chronotick-daemon");
    let service = TimerService::start(&dir.path().join("data"), daemon.page());
    let live = Live { daemon, service, sink: WebhookSink::start().unwrap() };

    let blocks = blocks(&readme());
    let mut failures = Vec::new();
    for (number, (language, sample)) in blocks.iter().enumerate().filter(|(_, b)| b.0 != "console") {
        let runner = RUNNERS.iter().find(|(name, _)| name == language);
        let (_, runner) = runner.unwrap_or_else(|| panic!("nothing runs a sample in {language:?}"));
        let place = dir.path().join(format!("sample-{number}"));
        std::fs::create_dir(&place).unwrap();
        let command = match runner(&live, &place, &live.place(sample)) {
            Ok(command) => command,
            Err(why) => {
                println!("skipped: the sample of the README in {language}: {why}");
                continue;
            }
        };
        if let Err(failure) = run(&live, language, command) {
            failures.push(format!("{sample}\n{failure}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    for (language, _) in RUNNERS {
        assert!(blocks.iter().any(|b| b.0 == language), "the README has no sample in {language}");
    }
    // The curl sample's timer calls the address that the README gives.
    let delivery = live.sink.wait_for(1);
    assert_eq!(delivery[0].body["timer"]["name"], "tea");
}

fn run(live: &Live, language: &str, mut command: Command) -> Result<(), String> {
    let output = command.env("CHRONOTICK_SHM", live.daemon.page()).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{command:?}: {e}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    println!("{language}: {}", stdout.trim_end());
    // What each language's reading of the clock ends in; `sh` shows other things.
    let said = match language {
        "sh" => !stdout.is_empty() && !stdout.contains("urn:minoots:error"),
        "c" => stdout.trim_end().ends_with(", status 0"),
        _ => stdout.trim_end().ends_with("synchronized"),
    };
    if output.status.success() && said {
        return Ok(());
    }
    Err(format!("{}: {stdout}{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// A program that is there; an error when it is not.
fn program(name: &str) -> Result<Command, String> {
    let found = Command::new(name).arg(if name == "go" { "version" } else { "--version" }).output();
    match found {
        Ok(output) if output.status.success() => Ok(Command::new(name)),
        _ => Err(format!("there is no {name} here")),
    }
}

fn run_sh(_: &Live, place: &Path, sample: &str) -> Result<Command, String> {
    program("curl")?;
    let mut command = Command::new("sh");
    // An error answer is a failure, in the middle of a sample too.
    let script = format!("set -eu\ncurl() {{ command curl --fail-with-body \"$@\"; }}\n{sample}");
    command.args(["-c", &script]).current_dir(place);
    Ok(command)
}

fn run_python(_: &Live, place: &Path, sample: &str) -> Result<Command, String> {
    let python = match std::env::var_os("CHRONOTICK_PYTHON") {
        Some(python) => PathBuf::from(python),
        None => repository().join("build/venv/bin/python"),
    };
    let imported = Command::new(&python).args(["-c", "import chronotick"]).current_dir(place).output();
    if !imported.is_ok_and(|o| o.status.success()) {
        return Err(format!("{} has no package chronotick: make python", python.display()));
    }
    let mut command = Command::new(python);
    command.args(["-c", sample]).current_dir(place);
    Ok(command)
}

fn run_node(_: &Live, _: &Path, sample: &str) -> Result<Command, String> {
    let package = repository().join("bindings-node");
    let mut command = program("node")?;
    if !package.join("dist/index.mjs").exists() || !package.join("native/index.js").exists() {
        return Err("bindings-node is not built: make node".to_owned());
    }
    // Within the package its own name leads to itself.
    command.args(["--input-type=module", "-e", sample]).current_dir(package);
    Ok(command)
}

fn run_go(_: &Live, place: &Path, sample: &str) -> Result<Command, String> {
    let mut command = program("go")?;
    program("cc")?;
    let package = repository().join("bindings-go");
    let module = "github.com/minoots/minoots/bindings-go";
    let version = std::fs::read_to_string(package.join("go.mod")).unwrap();
    let version = version.lines().find(|line| line.starts_with("go ")).unwrap();
    let text = format!(
        "module sample\n\n{version}\n\nrequire {module} v0.0.0\n\nreplace {module} => {}\n",
        package.display()
    );
    std::fs::write(place.join("go.mod"), text).unwrap();
    std::fs::write(place.join("main.go"), sample).unwrap();
    let library = build("chronotick-ffi");
    command.args(["run", "."]).current_dir(place);
    command.env("CGO_ENABLED", "1").env("CGO_LDFLAGS", format!("-L{}", library.display()));
    command.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off");
    Ok(command)
}

fn run_c(_: &Live, place: &Path, sample: &str) -> Result<Command, String> {
    let mut cc = program("cc")?;
    let library = build("chronotick-ffi").join("libchronotick_ffi.a");
    std::fs::write(place.join("now.c"), sample).unwrap();
    cc.arg("-I").arg(repository().join("include")).arg("now.c").arg(library);
    cc.args(["-Wall", "-Wextra", "-Werror", "-lm", "-lpthread", "-ldl", "-o", "now"]).current_dir(place);
    let compiled = cc.output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Ok(Command::new(place.join("now")))
}

fn run_rust(_: &Live, place: &Path, sample: &str) -> Result<Command, String> {
    let top = repository();
    // Its own workspace, with the versions of ours, so that nothing is fetched.
    let manifest = format!(
        "[package]\nname = \"sample\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\nchronotick = {{ path = {:?} }}\n\n[profile.dev]\ndebug = \"line-tables-only\"\nopt-level = 1\n",
        top.join("client")
    );
    std::fs::write(place.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(top.join("Cargo.lock"), place.join("Cargo.lock")).unwrap();
    std::fs::create_dir(place.join("src")).unwrap();
    std::fs::write(place.join("src/main.rs"), sample).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--offline"]).current_dir(place);
    cargo.env("CARGO_TARGET_DIR", build_directory().parent().unwrap());
    Ok(cargo)
}

#[test]
fn every_make_target_that_the_readme_names_exists() {
    let makefile = std::fs::read_to_string(repository().join("Makefile")).unwrap();
    let readme = readme();
    // In console blocks after the prompt, and in the text between backquotes.
    let in_blocks = readme.lines().filter_map(|line| line.strip_prefix("$ make "));
    let in_text = readme.split('`').filter_map(|code| code.strip_prefix("make "));
    let target = |rest: &str| rest.split_whitespace().next().unwrap().to_owned();
    let targets: Vec<String> = in_blocks.chain(in_text).map(target).collect();
    assert!(["run", "test", "demo", "python"].iter().all(|t| targets.iter().any(|n| n == t)), "{targets:?}");
    for name in targets {
        // One rule may have several targets.
        let has = |line: &str| line.split_once(':').is_some_and(|(t, _)| t.split(' ').any(|t| t == name));
        assert!(makefile.lines().any(has), "no make target {name}");
    }
}
