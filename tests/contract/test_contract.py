"""Schemathesis against the real program: what the OpenAPI document says of it holds, whatever it is sent."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MINOOTS = Path(os.environ.get("MINOOTS_PROGRAM", TARGET / "debug" / "minoots"))
SEED, EXAMPLES = 20261125, 8

# A stream never ends, so there is no answer to look at: tests/api/streams.rs and sockets.rs are for them.
ENDLESS = ("/v1/events", "/v1/events/ws")
# What is here in another form, or not a promise of this service.
LEFT_OUT = (
    # checks.py has these in a form of its own.
    "positive_data_acceptance",
    "negative_data_rejection",
    "use_after_free",
    # A method that the document does not have may be another dialect's on the same path.
    "unsupported_method",
)


class Service:
    """`minoots serve` on a free port; with a key, it wants one of everybody."""

    def __init__(self, directory, key=None):
        settings = directory / "minoots.toml"
        settings.write_text('[auth]\nmode = "required"\n' if key else "")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MINOOTS_")}
        environment["CHRONOTICK_SHM"] = "/nowhere/page"
        # One that seals: secrets can be set.
        environment["MINOOTS_MASTER_KEY"] = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
        if key:
            environment["MINOOTS_BOOTSTRAP_KEY"] = key
        self.log = directory / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [MINOOTS, "serve", "--listen", "127.0.0.1:0", "--data", directory / "data", "--config", settings],
                env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
            )
        first = self.process.stdout.readline()
        found = re.search(r"http://[0-9.:]+", first)
        assert found, f"the service did not start: {first!r} {self.log.read_text()}"
        self.url = found[0]

    def ask(self, method, path, key=None, body=None):
        request = urllib.request.Request(self.url + path, method=method)
        if key:
            request.add_header("x-api-key", key)
        if body is not None:
            request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, None if body is None else json.dumps(body).encode()) as answer:
            return json.load(answer)

    def stop(self):
        self.process.terminate()
        code = self.process.wait(timeout=30)
        log = self.log.read_text()
        assert "panicked" not in log, log
        assert code == 0, log


def schemathesis(service, directory, document, *options):
    command = [
        Path(sys.executable).with_name("st"), "run", document, "--url", service.url,
        "--checks", "all", "--exclude-checks", ",".join(LEFT_OUT),
        "--seed", str(SEED), "--max-examples", str(EXAMPLES), "--generation-database", "none", "--workers", "1",
        "--no-shrink", "--continue-on-failure", "--no-color", "--warnings", "off",
        *(option for path in ENDLESS for option in ("--exclude-path", path)),
        *options,
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "checks", "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["nobody is asked", "a key of role admin"])
def case(request, tmp_path):
    if not MINOOTS.exists():
        pytest.skip(f"{MINOOTS} is not there: cargo build --package minoots")
    operator = None if request.param == "nobody is asked" else "mnt_" + "5" * 64
    service = Service(tmp_path, operator)
    key = None
    if operator:
        made = service.ask("POST", "/v1/keys", operator, {"name": "fuzz", "role": "admin"})
        key = made["secret"]
    yield service, tmp_path, key
    service.stop()


def test_what_the_document_says_holds(case):
    service, directory, key = case
    document = service.ask("GET", "/openapi.json")
    options = []
    if key:
        # Where a key is wanted, no call goes without one: `ignored_auth` checks that.
        document["security"] = [{"api_key": []}]
        options = ["--header", f"x-api-key:{key}"]
        # The key must not revoke itself; what is done to keys is in tests/api/auth_keys.rs.
        options += ["--exclude-path-regex", "^/v1/keys/"]
    path = directory / "openapi.json"
    path.write_text(json.dumps(document))
    told = schemathesis(service, directory, str(path), *options)
    assert re.search(r"Tested: *4[0-9]", told) or key, told
    # It still answers.
    assert service.ask("GET", "/healthz")["status"] == "ok"
