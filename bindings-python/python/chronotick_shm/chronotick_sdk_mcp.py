"""The old path of `chronotick.mcp.sdk_server`."""

from chronotick.mcp.sdk_server import create_chronotick_sdk_server

__all__ = ["create_chronotick_sdk_server"]
