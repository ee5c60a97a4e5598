"""The programs of the package: chronotick-daemon with the old options, chronotick-client, chronotick-config."""

import copy
import json
import os
import pty
import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from daemons import environment, eventually, script, status

from chronotick import ChronoTickClient, ChronoTickError, InvalidArgumentError
from chronotick.daemon import binary, configs, legacy_config
from chronotick.eval import plot

OLD_CONFIG = {
    "short_term": {"model_name": "chronos", "model_params": {"repo": "x", "size": "base"}, "prediction_horizon": 30},
    "long_term": {"enabled": False},
    "fusion": {"method": "inverse_variance", "fallback_weights": {"short_term": 0.8, "long_term": 0.2}},
    "preprocessing": {"outlier_removal": {"enabled": True}},
    "logging": {"level": "WARNING", "log_predictions": True},
    "clock_measurement": {
        "ntp": {"servers": ["a.example", "b.example", "a.example"], "timeout_seconds": 2.0, "surprise": 1},
        "timing": {
            "warm_up": {"duration_seconds": 60, "measurement_interval": 0.2},
            "normal_operation": {"measurement_interval": 180},
        },
    },
    "prediction_scheduling": {"cpu_model": {"prediction_interval": 5}, "dataset": {"max_history_size": 1000}},
    "mystery": {"depth": {"x": 1}},
}


def test_an_old_configuration_is_translated():
    toml, warnings = legacy_config.translate(OLD_CONFIG, "old.yaml")
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    assert tomllib.loads(toml) == {
        "servers": ["a.example", "b.example"],
        "burst_interval_ms": 200,
        "min_poll_s": 4,
        "max_poll_s": 180,
        "log_level": "warn",
    }
    said = "\n".join(warnings)
    assert "old.yaml: unknown key `clock_measurement.ntp.surprise` is ignored" in warnings
    assert "old.yaml: unknown key `mystery.depth.x` is ignored" in warnings
    assert sum("unknown" in warning for warning in warnings) == 2
    for key in ("short_term.model_params.repo", "fusion.fallback_weights.long_term", "clock_measurement.ntp.timeout_seconds"):
        assert key in said
    assert "prediction_scheduling.cpu_model.prediction_interval" in said


def test_odd_configurations():
    assert legacy_config.translate(None).warnings == []
    assert legacy_config.translate({"fusion": None, "covariates": {}}).toml.count("\n") == 1
    assert "max_poll_s = 1024" in legacy_config.translate(
        {"clock_measurement": {"timing": {"normal_operation": {"measurement_interval": 1e9}}}}
    ).toml
    endless = {}
    endless["fusion"] = endless
    servers = {"clock_measurement": {"ntp": {"servers": "a.example"}}}
    interval = {"clock_measurement": {"timing": {"warm_up": {"measurement_interval": -1}}}}
    for content, message in (
        ([1], "holds list"),
        (endless, "nested too deeply"),
        (servers, "give a list of server names"),
        (interval, "above 0"),
        ({"logging": {"level": "loud"}}, "give one of debug"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            legacy_config.translate(content)


def test_whatever_a_configuration_holds_is_translated_or_refused():
    chance = random.Random(6)
    known = [key.split(".") for key in [*legacy_config._HONOURED, *legacy_config._NO_EFFECT]]
    values = [None, True, -1, 0, 1.5, 1e300, float("nan"), "x", [], ["a"], [1, None], {}, {"k": {}}, {1: 2}]
    refused = 0
    for _ in range(3_000):
        content = {}
        for _ in range(chance.randrange(4)):
            path = chance.choice([*known, ["odd"], ["fusion", "odd"]])
            node = content
            for part in path[: chance.randrange(1, len(path) + 1)]:
                if not isinstance(node.get(part), dict):
                    node[part] = {}
                last, node = node, node[part]
            last[part] = copy.deepcopy(chance.choice(values))
        try:
            toml, _ = legacy_config.translate(content)
        except InvalidArgumentError:
            refused += 1
        else:
            assert all(line.startswith("#") or " = " in line for line in toml.splitlines())
    assert 0 < refused < 3_000


def test_a_file_needs_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ChronoTickError, match=r"pip install 'chronotick\[yaml\]'"):
        legacy_config.translate_file(tmp_path / "old.yaml")


def test_where_the_program_is(monkeypatch, tmp_path):
    monkeypatch.setenv("CHRONOTICK_DAEMON", str(tmp_path / "none"))
    with pytest.raises(ChronoTickError, match="is no program"):
        binary.find()
    monkeypatch.setenv("CHRONOTICK_DAEMON", sys.executable)
    assert binary.find() == Path(sys.executable)


def run(command, env, code=0, **options):
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == code, (command, done.stdout, done.stderr)
    return done


@pytest.fixture
def here(tmp_path):
    """An environment with a page, a state and a configuration directory of its own."""
    return environment(
        tmp_path / "page", XDG_STATE_HOME=str(tmp_path / "state"), XDG_CONFIG_HOME=str(tmp_path / "config")
    )


def test_start_status_test_stop(here, tmp_path, ntp_server):
    daemon = script("chronotick-daemon")
    page = here["CHRONOTICK_SHM"]
    assert "not running" in run([*daemon, "stop"], here).stdout
    options = ["--server", ntp_server.address, "--freq", "50", "--log-level", "DEBUG", "--cpu-affinity", "0"]
    try:
        assert "running, pid " in (said := run([*daemon, "start", *options], here).stdout)
        pid = int(said.split("pid ")[1].split(";")[0])
        assert os.sched_getaffinity(pid) == {0}
        assert f"already running, pid {pid}" in run([*daemon, "start", *options], here).stdout
        eventually("synchronized clock", lambda: status(page) == "synchronized")
        reported = json.loads(run([*daemon, "status", "--json"], here).stdout)
        assert (reported["pid"], reported["status"]) == (pid, "synchronized")
        assert "ok, synchronized" in run([*daemon, "test"], here).stdout
    finally:
        said = run([*daemon, "stop"], here).stdout
    assert f"stopped, pid {pid}" in said
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    log = (tmp_path / "state" / "chronotick" / "chronotick-daemon.log").read_text()
    assert "synchronized" in log
    # Without a running one the test tries one of its own.
    tried = run([*daemon, "test", "--server", ntp_server.address], here).stdout
    assert "trying one on a page of its own" in tried and "ok, synchronized" in tried


def test_an_old_configuration_in_the_foreground(here, tmp_path, ntp_server):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    content = {
        "clock_measurement": {
            "ntp": {"servers": [ntp_server.address]},
            "timing": {"warm_up": {"measurement_interval": 0.1}, "normal_operation": {"measurement_interval": 1}},
        },
        "fusion": {"method": "inverse_variance"},
        "mystery": 1,
    }
    config = tmp_path / "old.yaml"
    config.write_text(yaml.safe_dump(content))
    daemon = script("chronotick-daemon")
    checked = run([*daemon, "check-config", str(config)], here)
    assert "is fine" in checked.stdout and "unknown key `mystery`" in checked.stderr
    assert "is fine" in run([*script("chronotick-config"), "--validate", str(config)], here).stdout
    with open(tmp_path / "log", "w") as log:
        command = [*daemon, "--config", str(config), "--freq", "100", "--state-file", "none"]
        running = subprocess.Popen(command, env=here, stderr=log, stdout=log)
        try:
            eventually("synchronized clock", lambda: status(here["CHRONOTICK_SHM"]) == "synchronized")
            # The daemon has taken this process's place.
            assert Path(f"/proc/{running.pid}/comm").read_text().strip() == "chronotick-daem"
        finally:
            running.terminate()
            running.wait(60)
    said = (tmp_path / "log").read_text()
    assert "unknown key `mystery` is ignored" in said and "without effect" in said and "fusion.method" in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["dance"], 2, "no verb 'dance'"),
        (["--freq", "ten"], 2, "invalid"),
        (["--freq", "0"], 2, "0 is not in 1..=1000"),
        (["--log-level", "loud"], 1, "give one of debug"),
        (["--cpu-affinity", "100000"], 1, "this process may use"),
        (["--config", "/nonexistent/c.toml"], 1, "cannot read the configuration /nonexistent/c.toml"),
        (["--config", "/nonexistent/c.yaml"], 1, "c.yaml"),
        (["start", "--server", "[::1"], 1, "ended at once"),
        (["status"], 1, "ChronoTick daemon not running."),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_what_the_daemon_refuses(here, arguments, code, message):
    assert message in run([*script("chronotick-daemon"), *arguments], here, code).stderr


def test_a_log_that_cannot_be_written(here, tmp_path):
    (tmp_path / "file").write_text("")
    env = {**here, "XDG_STATE_HOME": str(tmp_path / "file")}
    assert "Not a directory" in run([*script("chronotick-daemon"), "start"], env, 1).stderr


def test_help_and_version(here):
    daemon = script("chronotick-daemon")
    said = run([*daemon, "--help"], here).stdout
    for word in ("--config", "--freq", "--cpu-affinity", "--log-level", "start", "stop", "status", "test"):
        assert word in said
    assert run([*daemon, "--version"], here).stdout.startswith("chronotick-daemon ")
    assert "--server" in run([*daemon, "run", "--help"], here).stdout


def test_the_samples(here, tmp_path, monkeypatch):
    config = script("chronotick-config")
    listed = run([*config, "--list"], here).stdout
    for sample in configs.SAMPLES:
        assert sample.name in listed
        path = tmp_path / f"{sample.name}.toml"
        assert str(path) in run([*config, "--select", sample.name, "--output", str(path)], here).stdout
        # It names a device that this machine may not have.
        if sample.name != "phc":
            assert "is fine" in run([*config, "--validate", str(path)], here).stdout
    written = run([*config, "--select", "lan"], here).stdout
    assert str(tmp_path / "config" / "chronotick" / "chronotick.toml") in written
    assert "is there already" in run([*config, "--select", "lan"], here, 1).stderr
    run([*config, "--select", "pool", "--force"], here)
    assert "no sample 'x'" in run([*config, "--select", "x"], here, 1).stderr
    assert run([*config, "--recommend"], here).stdout.splitlines()[1].startswith("chronotick-config --select ")


def test_recommendations(tmp_path):
    assert configs.recommend(tmp_path)[0] == "pool"
    for path, content in (("dev/ptp0", ""), ("sys/class/ptp/ptp0/clock_name", "KVM virtual PTP\n")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(content)
    assert configs.recommend(tmp_path)[0] == "phc"
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/comm").write_text("chronyd\n")
    assert configs.recommend(tmp_path)[0] == "chrony"


JSON_KEYS = (
    "corrected_time system_time offset_correction drift_rate offset_uncertainty drift_uncertainty time_uncertainty confidence "
    "source prediction_time valid_until is_valid is_ntp_ready is_models_ready is_warmup_complete daemon_uptime "
    "measurement_count total_corrections"
).split()


def test_the_client_program(daemon, tmp_path):
    client, env = script("chronotick-client"), environment(daemon.page)
    read = run([*client, "read"], env).stdout
    assert "status          synchronized" in read and "bound           ±" in read
    assert "status        synchronized" in run([*client, "status"], env).stdout
    assert run([*client, "benchmark", "--iterations", "1000"], env).stdout.startswith("1000 readings: ")
    for arguments in (["json"], ["json", "--pretty"]):
        content = json.loads(run([*client, *arguments], env).stdout)
        assert list(content)[: len(JSON_KEYS)] == JSON_KEYS and content["source"] == content["source"].upper()
        assert content["earliest_ns"] < content["corrected_ns"] < content["latest_ns"]
    picture = tmp_path / "plot.svg"
    monitored = run([*client, "monitor", "--interval", "0.01", "--count", "20", "--plot", str(picture)], env).stdout
    assert monitored.count(" synchronized") == 20 and "*" in monitored and "░" in monitored
    root = ElementTree.parse(picture).getroot()
    assert root.tag.endswith("svg") and len(root.findall("{*}polygon")) == 1
    assert len(root.find("{*}polyline").get("points").split()) == 20


def test_the_monitor_in_a_terminal(daemon):
    ours, theirs = pty.openpty()
    command = [*script("chronotick-client"), "monitor", "--interval", "0.01", "--count", "3"]
    done = subprocess.run(command, env=environment(daemon.page), stdout=theirs, timeout=60)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:
        # How Linux says that a terminal has no other end any more.
        pass
    os.close(ours)
    text = shown.decode(errors="replace")
    assert done.returncode == 0
    assert text.count("\x1b[H\x1b[2J") == 3 and "*" in text and "synchronized" in text and "Ctrl-C ends" in text


def test_what_the_client_program_refuses(tmp_path):
    client = script("chronotick-client")
    env = {**os.environ, "CHRONOTICK_SHM": str(tmp_path / "absent")}
    for command in ("read", "monitor", "status", "benchmark", "json"):
        assert "ChronoTick daemon not running." in run([*client, command], env, 1).stderr
    assert "usage" in run(client, env, 2).stderr
    for arguments in (
        ["monitor", "--interval", "0"],
        ["monitor", "--interval", "nan"],
        ["benchmark", "--iterations", "0"],
    ):
        assert "give" in run([*client, *arguments], env, 2).stderr
    for name in ("picture.png", "picture", "up/there.pdf", ".."):
        assert "only SVG is written; give " in run([*client, "monitor", "--plot", name], env, 2).stderr
    assert "give picture.svg. " in run([*client, "monitor", "--plot", "picture.png"], env, 2).stderr


@pytest.mark.parametrize(
    "samples",
    [
        [plot.Sample(0.0, 0.02, 0.001, "synchronized")],
        [plot.Sample(0.0, 0.0, 0.0, "synchronized")] * 2,
        [plot.Sample(float(i), i * 1e-9, None if i == 5 else 1e-6, "holdover") for i in range(10)],
        [plot.Sample(float(i), 1e9 + i, None, "disrupted") for i in range(3)],
    ],
)
def test_plots(samples):
    text = plot.text(samples, columns=60, rows=8)
    assert len(text.splitlines()) == 10 and "*" in text and all(len(line) <= 62 for line in text.splitlines())
    ElementTree.fromstring(plot.svg(samples))


def test_a_plot_of_nothing():
    assert plot.text([]) == "no reading yet"
    ElementTree.fromstring(plot.svg([]))


