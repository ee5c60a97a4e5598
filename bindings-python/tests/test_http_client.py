"""The daemon's HTTP interface through a client that openapi-python-client makes from its /openapi.json."""

import importlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from daemons import Daemon, eventually

pytest.importorskip("openapi_python_client", reason="openapi-python-client, of requirements-dev.txt, wants Python 3.11")
jsonschema = pytest.importorskip("jsonschema", reason="requirements-mcp.txt is not installed")

PACKAGE = "made_from_the_daemons_openapi"


class Http:
    """A daemon that serves HTTP, its description, and the package made from that."""

    def __init__(self, directory, ntp_server):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.daemon = Daemon(directory, ntp_server.address, options=("--http", address))
        self.url = f"http://{address}"

    def answer(self, path, body=None):
        """The status code and the JSON of a bare request."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data)) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)

    def check(self, path, want, body=None):
        """Fails unless the answer has this code, and is what the description says of it; returns it."""
        code, answer = self.answer(path, body)
        assert code == want, answer
        operation = self.openapi["paths"][path.split("?")[0]]["get" if body is None else "post"]
        said = operation["responses"][str(code)]
        if "$ref" in said:
            said = self.openapi["components"]["responses"][said["$ref"].rsplit("/", 1)[1]]
        # The references in it are from the top of the description.
        schema = {**said["content"]["application/json"]["schema"], "components": self.openapi["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer)
        return answer


@pytest.fixture(scope="module")
def http(ntp_server, tmp_path_factory):
    directory = tmp_path_factory.mktemp("http")
    http = Http(directory, ntp_server)
    try:
        http.daemon.wait_synchronized()
        http.openapi = eventually("answer over HTTP", lambda: http.answer("/openapi.json")[1])
        (directory / "openapi.json").write_text(json.dumps(http.openapi))
        (directory / "config.yml").write_text("post_hooks: []\n")
        command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", directory / "openapi.json"]
        command += ["--meta", "none", "--output-path", directory / PACKAGE, "--config", directory / "config.yml"]
        done = subprocess.run([*command, "--fail-on-warning"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        sys.path.insert(0, str(directory))
        yield http
        sys.path.remove(str(directory))
    finally:
        http.daemon.stop()


def test_a_generated_client_reads_and_waits(http):
    def made(module):
        return importlib.import_module(f"{PACKAGE}.{module}")

    def call(operation, **arguments):
        with made("client").Client(base_url=http.url, raise_on_unexpected_status=True) as client:
            return made(f"api.default.{operation}").sync_detailed(client=client, **arguments)

    models = made("models")
    now = call("get_time").parsed
    assert isinstance(now, models.Time) and now.status == "synchronized"
    assert int(now.earliest_ns) < int(now.corrected_ns) < int(now.latest_ns) and not now.additional_properties
    # The server is 20 ms ahead.
    assert 0.015 < now.corrected_seconds - now.system_seconds < 0.025
    later = call("get_bounds", duration_seconds=60.0).parsed
    assert int(later.latest_ns) - int(later.earliest_ns) > int(now.latest_ns) - int(now.earliest_ns)
    status = call("get_status").parsed
    assert isinstance(status, models.Status) and status.warmup_complete and status.servers[0].stratum == 1
    assert not status.additional_properties, "the description lacks what the daemon tells"
    target_ns = int(call("get_time").parsed.corrected_ns) + 200_000_000
    waited = call("wait", body=models.WaitUntilNs(target_ns=str(target_ns))).parsed
    assert isinstance(waited, models.Waited) and int(waited.time.corrected_ns) >= target_ns == int(waited.target_ns)
    target_s = call("get_time").parsed.corrected_seconds + 0.1
    waited = call("wait", body=models.WaitUntilSeconds(target_seconds=target_s, tolerance_ms=1000.0)).parsed
    assert waited.within_tolerance and waited.time.corrected_seconds >= target_s - 1e-6
    past = call("wait", body=models.WaitUntilSeconds(target_seconds=time.time() - 60))
    assert past.status_code == 422 and isinstance(past.parsed, models.Problem) and "ago" in past.parsed.error
    assert (call("get_metrics").status_code, call("get_health").status_code) == (200, 200)


def test_every_answer_is_as_described(http):
    http.check("/v1/time", 200)
    http.check("/v1/bounds", 200)
    http.check("/v1/bounds?duration_seconds=3600", 200)
    http.check("/v1/status", 200)
    for query in ("duration_seconds=-1", "duration_seconds=3601", "duration_seconds=nan", "seconds=1"):
        assert "duration_seconds" in http.check(f"/v1/bounds?{query}", 422)["error"]
    http.check("/v1/wait", 200, {"target_ns": str(int(http.check("/v1/time", 200)["corrected_ns"]) + 1_000_000)})
    for body in (
        {},
        {"target_ns": "1", "target_seconds": 1},
        {"target_seconds": 1e300},
        {"target_seconds": time.time() + 7200},
        {"target_seconds": 0},
        {"target_seconds": 1, "tolerance_ms": -1},
    ):
        assert http.check("/v1/wait", 422, body)["error"]


def test_a_clock_that_is_not_usable_is_said_so(http, tmp_path):
    # A daemon that nobody answers has no time.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        other = Http(tmp_path, type("Silent", (), {"address": f"127.0.0.1:{silent.getsockname()[1]}"}))
        other.openapi = http.openapi

        def served():
            try:
                return other.answer("/openapi.json")
            except OSError:
                return None

        try:
            eventually("answer over HTTP", served)
            assert "not usable" in other.check("/v1/time", 503)["error"]
            assert "not usable" in other.check("/v1/wait", 503, {"target_seconds": time.time() + 1})["error"]
            assert other.check("/v1/status", 200)["status"] == "no_data"
        finally:
            other.daemon.stop()
