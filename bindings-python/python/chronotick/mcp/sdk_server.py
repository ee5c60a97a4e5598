"""The clock's tools inside an agent's own process, for claude-agent-sdk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from chronotick._native import __version__
from chronotick.client import ChronoTickClient
from chronotick.errors import InvalidArgumentError
from chronotick.mcp import catalog
from chronotick.mcp.calls import call
from chronotick.mcp.tools import default_client

if TYPE_CHECKING:
    from claude_agent_sdk import McpSdkServerConfig, SdkMcpTool

_NOT_INSTALLED = "claude-agent-sdk is not installed: pip install 'chronotick[agents]'"


def create_chronotick_sdk_server(
    name: str = "chronotick",
    version: str = __version__,
    *,
    tools: Iterable[str] | None = None,
    client: ChronoTickClient | None = None,
) -> McpSdkServerConfig:
    """The clock as an in-process MCP server, for `ClaudeAgentOptions(mcp_servers={"chronotick": ...})`.

    `tools` names those to serve; all when left out. The agent sees them as `mcp__<key in mcp_servers>__<tool>`.
    """
    try:
        from claude_agent_sdk import create_sdk_mcp_server
    except ImportError as e:
        raise ModuleNotFoundError(_NOT_INSTALLED, name=e.name) from e
    names = list(catalog.BY_NAME) if tools is None else list(tools)
    return create_sdk_mcp_server(name, version, [sdk_tool(tool, client=client) for tool in names])


def sdk_tool(name: str, *, client: ChronoTickClient | None = None) -> SdkMcpTool[Any]:
    """One tool of the clock as claude-agent-sdk wants it: an async `handler` over a dict of arguments."""
    try:
        from claude_agent_sdk import ToolAnnotations, tool
    except ImportError as e:
        raise ModuleNotFoundError(_NOT_INSTALLED, name=e.name) from e
    entry = catalog.BY_NAME.get(name)
    if entry is None:
        raise InvalidArgumentError(f"there is no tool {name!r}; there are {', '.join(catalog.BY_NAME)}")

    async def handler(arguments: dict[str, Any]) -> dict[str, Any]:
        result = await call(entry, arguments, client or default_client())
        content = [{"type": "text", "text": json.dumps(result)}]
        return {"content": content, "is_error": catalog.is_callers_fault(result)}

    annotations = ToolAnnotations(title=entry.title, **entry.annotations)
    return tool(entry.name, entry.description, entry.input_schema, annotations)(handler)
