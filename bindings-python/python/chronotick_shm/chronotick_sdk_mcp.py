"""The old path of `chronotick.mcp.sdk_server`."""

from chronotick.mcp.sdk_server import create_chronotick_sdk_server
from chronotick_shm.tools.sdk_tools import get_shared_memory, read_chronotick_data

__all__ = ["create_chronotick_sdk_server", "get_shared_memory", "read_chronotick_data"]
