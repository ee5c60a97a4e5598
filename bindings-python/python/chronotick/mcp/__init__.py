"""The clock as MCP tools: plain functions (`tools`), a server (`stdio_server`), and in-process for claude-agent-sdk.

Importing this package imports neither `mcp` nor `claude_agent_sdk`.
"""

from chronotick.mcp.sdk_server import create_chronotick_sdk_server, sdk_tool

__all__ = ["create_chronotick_sdk_server", "sdk_tool"]
