"""The MCP server of the clock: tools, resources, subscriptions. Imports the official `mcp` package."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError

from chronotick._native import __version__
from chronotick.client import ChronoTickClient
from chronotick.errors import ChronoTickError, InvalidArgumentError
from chronotick.mcp import catalog, tools
from chronotick.mcp.calls import call

SERVER_NAME = "ChronoTick Time Server"

NOW_URI, STATUS_URI = "clock://now", "clock://status"
_INSTRUCTIONS = (
    "The time of this machine, corrected and with its error. Compare times of several machines only by corrected time. "
    "All times are Unix seconds. A result with `error` says what to do next."
)
_POLL_S = 0.25
# Sessions over HTTP come and go without a word, so the oldest subscription makes room.
_SUBSCRIPTIONS_MAX = 1024

_log = logging.getLogger(__name__)

Context = ServerRequestContext[Any, Any]


class ClockServer:
    """The handlers of the server and what they share. `server` is what a transport serves."""

    def __init__(self, client: ChronoTickClient | None = None, *, poll_s: float = _POLL_S) -> None:
        self._client = client or tools.default_client()
        self._poll_s = poll_s
        self._bus = InMemorySubscriptionBus()
        # By connection and URI, for clients of the revisions before 2026-07-28; later ones listen on the bus.
        self._subscribed: dict[tuple[str, str], ServerSession] = {}
        self.server: Server[None] = Server(
            SERVER_NAME,
            version=__version__,
            title="ChronoTick",
            instructions=_INSTRUCTIONS,
            lifespan=self._lifespan,
            get_tool_input_schema=_input_schema,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_subscriptions_listen=ListenHandler(self._bus),
        )

    @asynccontextmanager
    async def _lifespan(self, _: Server[None]) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            yield
            tasks.cancel_scope.cancel()

    async def _list_tools(self, _: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(tool) for tool in catalog.TOOLS])

    async def _call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = catalog.BY_NAME.get(params.name)
        if tool is None:
            known = ", ".join(catalog.BY_NAME)
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name[:100]!r}; there are {known}")

        async def progress(waited_s: float, total_s: float) -> None:
            await context.session.report_progress(waited_s, total_s, f"{max(0.0, total_s - waited_s):.1f} s left")

        result = await call(tool, params.arguments or {}, self._client, progress)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=json.dumps(result))],
            structured_content=result,
            is_error=catalog.is_callers_fault(result),
        )

    async def _list_resources(self, _: Context, __: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=NOW_URI,
                    name="now",
                    title="Corrected time now",
                    description="The time at the moment of the reading, with its hard bound and the clock's status",
                    mime_type="application/json",
                ),
                types.Resource(
                    uri=STATUS_URI,
                    name="status",
                    title="Clock status",
                    description="The daemon's status; subscribe to be told when it changes",
                    mime_type="application/json",
                ),
            ]
        )

    async def _read_resource(self, _: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = _known(params.uri)
        value = self._now() if uri == NOW_URI else self._status()
        text = types.TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(value))
        return types.ReadResourceResult(contents=[text])

    async def _subscribe(self, context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        uri = _known(params.uri)
        if len(self._subscribed) >= _SUBSCRIPTIONS_MAX:
            del self._subscribed[next(iter(self._subscribed))]
        self._subscribed[_connection(context), uri] = context.session
        return types.EmptyResult()

    async def _unsubscribe(self, context: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self._subscribed.pop((_connection(context), _known(params.uri)), None)
        return types.EmptyResult()

    def _now(self) -> dict[str, Any]:
        """The time with its bound; beside the keys of get_time those that a subscriber of the status wants."""
        value = tools.get_time(client=self._client)
        if "error" in value:
            return value
        try:
            reading = self._client.now()
        except (ChronoTickError, InvalidArgumentError) as e:
            return tools.error_result(e, self._client)
        return {
            **value,
            "corrected_ns": reading.corrected_ns,
            "earliest_ns": reading.earliest_ns,
            "latest_ns": reading.latest_ns,
            "clock_status": reading.status,
        }

    def _status(self) -> dict[str, Any]:
        return {**tools.get_daemon_status(client=self._client), "clock_status": self._clock_status()}

    def _clock_status(self) -> str:
        try:
            return self._client.status()
        except (ChronoTickError, InvalidArgumentError) as e:
            return e.code

    async def _watch(self) -> None:
        """Tells subscribers when the status of the page or of the daemon has changed."""
        last = None
        while True:
            seen = (self._clock_status(), tools.get_daemon_status(client=self._client)["status"])
            if last is not None and seen != last:
                _log.info("clock status: %s, daemon %s", *seen)
                for uri in (STATUS_URI, NOW_URI):
                    await self._bus.publish(ResourceUpdated(uri=uri))
                await self._tell_subscribed()
            last = seen
            await anyio.sleep(self._poll_s)

    async def _tell_subscribed(self) -> None:
        for (connection, uri), session in list(self._subscribed.items()):
            try:
                await session.send_resource_updated(uri)
            except (MCPError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError):
                # The client went without unsubscribing.
                self._subscribed.pop((connection, uri), None)


def _tool(tool: catalog.Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=types.ToolAnnotations.model_validate(tool.annotations),
    )


def _input_schema(name: str) -> dict[str, Any] | None:
    tool = catalog.BY_NAME.get(name)
    return None if tool is None else tool.input_schema


def _known(uri: object) -> str:
    text = str(uri)
    if text not in (NOW_URI, STATUS_URI):
        message = f"there is no resource {text[:100]!r}; there are {NOW_URI} and {STATUS_URI}"
        raise MCPError(types.INVALID_PARAMS, message, {"uri": text[:100]})
    return text


def _connection(context: Context) -> str:
    """Tells connections apart: a session id over HTTP, and one connection for each process over stdio."""
    headers = getattr(context.request, "headers", None)
    return (headers.get("mcp-session-id") if headers is not None else None) or "stdio"
