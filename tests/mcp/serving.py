"""What these tests share: a real `minoots serve`, its REST API, arguments for each tool, and the bare wire."""

import contextlib
import json
import os
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import anyio
import httpx2
import jsonschema
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get(
    "MINOOTS_BINARY", str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "minoots")
)
OPERATOR_KEY = "mnt_" + "0123456789abcdef" * 4
# How long anything may take before a test gives up; nothing here is measured.
PATIENCE_S = 60
LEGACY, MODERN = "2025-11-25", "2026-07-28"
MODES = {LEGACY: "legacy", MODERN: MODERN}

OLD_TOOLS = [
    "create_timer", "get_timer", "list_timers", "delete_timer", "quick_wait", "broadcast_to_team",
    "agent_coordination_session", "check_api_health",
]
NEW_TOOLS = [
    "timer_create", "timer_wait", "timer_reschedule", "timer_cancel", "timers_cancel", "timer_list", "timer_get",
    "timer_history", "timer_explain", "timer_pause", "timer_resume", "timer_fire",
]


def environment(**more):
    """This process's environment without what would lead the program elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MINOOTS_")}
    return {**kept, "RUST_LOG": os.environ.get("RUST_LOG", "error"), **more}


class Service:
    """A `minoots serve` process over one data directory."""

    def __init__(self, data, *arguments, listen="127.0.0.1:0", **environ):
        self.data, self.arguments, self.listen, self.environ = data, arguments, listen, environ
        self.key = None
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        command = [BINARY, "serve", "--listen", self.listen, "--data", str(self.data), "--shm", str(self.data) + ".page"]
        self.process = subprocess.Popen(
            [*command, *self.arguments], env=environment(**self.environ), stdout=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        words = [word for word in line.split() if word.startswith("http://")]
        assert words, f"minoots did not start: {line!r}"
        self.url = words[0].rstrip(",;.")
        # Where it was, for the next start.
        self.listen = self.url.removeprefix("http://")
        # Nothing more is expected, but a full pipe would block it.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=PATIENCE_S) == 0

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=PATIENCE_S)

    def rest(self, method, path, body=None, key=None, headers=()):
        """The status, the headers and the JSON of an answer of the REST API."""
        request = urllib.request.Request(self.url + path, method=method, headers=dict(headers))
        key = key or self.key
        if key:
            request.add_header("x-api-key", key)
        if body is not None:
            request.add_header("content-type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.headers, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.headers, json.loads(refused.read() or b"null")

    def new_key(self, tenant, **more):
        asked = {"name": tenant, "role": "operator", **more}
        status, _, answer = self.rest("POST", "/v1/keys", asked, headers={"x-tenant-id": tenant})
        assert status == 201, answer
        return answer

    def create(self, key=None, **definition):
        schedule = {} if definition.keys() & {"after", "at", "every", "cron"} else {"after": "1h"}
        status, _, timer = self.rest("POST", "/v1/timers", {"name": "t", **schedule, **definition}, key=key)
        assert status == 201, timer
        return timer

    def fire(self, timer, key=None):
        status, _, answer = self.rest("POST", f"/v1/timers/{timer['id']}/fire", {}, key=key)
        assert status == 200, answer


@contextlib.asynccontextmanager
async def connected(service, transport, revision, key=None, **options):
    """A client of the official SDK, over one of the transports, held to one revision of the protocol."""
    options = {"mode": MODES[revision], "read_timeout_seconds": PATIENCE_S, **options}
    key = key or service.key
    if transport == "stdio":
        environ = environment(MINOOTS_URL=service.url, **({"MINOOTS_API_KEY": key} if key else {}))
        async with Client(StdioServerParameters(command=BINARY, args=["mcp"], env=environ), **options) as client:
            yield client
        return
    headers = {"x-api-key": key} if key else {}
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S, limits=limits) as http:
        transport = streamable_http_client(service.url + "/mcp", http_client=http)
        async with Client(transport, **options) as client:
            yield client


def run(test, *arguments):
    """Runs an asynchronous test, for as long as patience lasts."""

    async def bounded():
        with anyio.fail_after(PATIENCE_S):
            return await test(*arguments)

    return anyio.run(bounded)


class Checked:
    """Calls tools, and holds every structured result to the output schema that the server gave for it."""

    def __init__(self, client, tools):
        self.client = client
        self.schemas = {tool.name: tool.output_schema for tool in tools}
        self.called = set()

    @classmethod
    async def of(cls, client):
        return cls(client, (await client.list_tools()).tools)

    async def __call__(self, name, arguments=None, **options):
        result = await self.client.call_tool(name, arguments or {}, **options)
        assert not result.is_error, result.structured_content
        jsonschema.Draft202012Validator(self.schemas[name]).validate(result.structured_content)
        assert json.loads(result.content[0].text) == result.structured_content
        self.called.add(name)
        return result.structured_content

    async def refused(self, name, arguments=None, **options):
        """The problem of a call that has to fail."""
        result = await self.client.call_tool(name, arguments or {}, **options)
        assert result.is_error, result.structured_content
        problem = result.structured_content
        jsonschema.Draft202012Validator(self.schemas[name]).validate(problem)
        assert problem["code"] and problem["detail"], problem
        return problem


class Wire:
    """`/mcp` without any client library: one POST for each message."""

    def __init__(self, service, key=None, revision=MODERN, capabilities=None):
        self.service, self.key, self.revision = service, key or service.key, revision
        self.capabilities = capabilities or {}
        self.session = None
        self.number = 0

    def open(self, message, headers=()):
        """The answer to a message, as it comes."""
        sent = {
            "content-type": "application/json", "accept": "application/json, text/event-stream",
            "mcp-protocol-version": self.revision, **dict(headers),
        }
        if self.key:
            sent["authorization"] = f"Bearer {self.key}"
        if self.session:
            sent["mcp-session-id"] = self.session
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        request = urllib.request.Request(self.service.url + "/mcp", body, sent, method="POST")
        return urllib.request.urlopen(request, timeout=PATIENCE_S)

    def post(self, message, headers=()):
        """The status, the headers and the text of an answer."""
        try:
            with self.open(message, headers) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.headers, refused.read().decode()

    def ask(self, method, **params):
        """The JSON-RPC answer to one request."""
        self.number += 1
        if self.revision == MODERN:
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "wire", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            }
        headers = {"mcp-method": method} if self.revision == MODERN else {}
        named = [params[field] for field in ("name", "taskId", "uri") if field in params]
        if self.revision == MODERN and named:
            headers["mcp-name"] = named[0]
        message = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        status, answered, text = self.post(message, headers)
        answers = messages(text)
        assert answers, (status, text)
        return status, answered, answers[-1]

    def initialize(self):
        client = {"name": "wire", "version": "1"}
        asked = {"protocolVersion": self.revision, "capabilities": self.capabilities, "clientInfo": client}
        status, headers, answer = self.ask("initialize", **asked)
        assert status == 200, answer
        self.session = headers["mcp-session-id"]
        assert self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})[0] == 202
        return answer["result"]


def messages(text):
    """The JSON-RPC messages of an answer, be it JSON or server-sent events."""
    if text.lstrip().startswith("{"):
        return [json.loads(text)]
    data = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in data if line]
