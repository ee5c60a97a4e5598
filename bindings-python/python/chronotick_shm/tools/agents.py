"""Options for agents of claude-agent-sdk that have the clock's tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chronotick.mcp.catalog import BY_NAME
from chronotick.mcp.sdk_server import create_chronotick_sdk_server

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions

__all__ = ["create_chronotick_agent", "create_minimal_agent", "create_monitoring_agent", "create_multi_service_agent"]


def create_chronotick_agent(
    allowed_tools: Sequence[str] | None = None, server_key: str = "chronotick"
) -> ClaudeAgentOptions:
    """An agent with all tools of the clock. `allowed_tools` are full names, `mcp__<server_key>__<tool>`; all when None."""
    return _options(server_key, None, allowed_tools)


def create_minimal_agent() -> ClaudeAgentOptions:
    """An agent that can only ask for the time, by `mcp__time__get_time`."""
    return _options("time", ["get_time"])


def create_monitoring_agent() -> ClaudeAgentOptions:
    """An agent that can only ask how the daemon is, by `mcp__monitor__get_daemon_status`."""
    return _options("monitor", ["get_daemon_status"])


def create_multi_service_agent(
    include_other_tools: bool = True,
    *,
    other_servers: Mapping[str, Any] | None = None,
    other_tools: Sequence[str] = (),
) -> ClaudeAgentOptions:
    """An agent with the clock beside other MCP servers: `other_servers` by key, and the names of `other_tools` it may use.

    Without `include_other_tools` the other servers are there, but none of their tools is allowed.
    """
    options = _options("chronotick", None)
    servers = options.mcp_servers
    if isinstance(servers, dict):
        servers.update(other_servers or {})
    if include_other_tools:
        options.allowed_tools.extend(other_tools)
    return options


def _options(
    server_key: str, names: Sequence[str] | None, allowed_tools: Sequence[str] | None = None
) -> ClaudeAgentOptions:
    server = create_chronotick_sdk_server(tools=names)
    # create_chronotick_sdk_server has said what to install if this cannot be imported.
    from claude_agent_sdk import ClaudeAgentOptions

    if allowed_tools is None:
        allowed_tools = [f"mcp__{server_key}__{name}" for name in names or BY_NAME]
    return ClaudeAgentOptions(mcp_servers={server_key: server}, allowed_tools=list(allowed_tools))
