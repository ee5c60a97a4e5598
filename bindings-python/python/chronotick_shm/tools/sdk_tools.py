"""The tools for claude-agent-sdk under their old names; new code calls `chronotick.mcp.create_chronotick_sdk_server`."""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING, Any

from chronotick.errors import ChronoTickError
from chronotick.mcp.catalog import BY_NAME
from chronotick.mcp.sdk_server import sdk_tool
from chronotick.mcp.tools import default_client, read_page
from chronotick.shm.config import SHARED_MEMORY_SIZE, ChronoTickData

__all__ = [
    "get_daemon_status",
    "get_shared_memory",
    "get_time",
    "get_time_bounds",
    "get_time_with_future_uncertainty",
    "read_chronotick_data",
    "schedule_action",
    "synchronize_with_peers",
    "wait_until_time",
]

if TYPE_CHECKING:
    from claude_agent_sdk import SdkMcpTool

    get_daemon_status: SdkMcpTool[Any]
    get_time: SdkMcpTool[Any]
    get_time_bounds: SdkMcpTool[Any]
    get_time_with_future_uncertainty: SdkMcpTool[Any]
    schedule_action: SdkMcpTool[Any]
    synchronize_with_peers: SdkMcpTool[Any]
    wait_until_time: SdkMcpTool[Any]


def __getattr__(name: str) -> Any:
    # The tools are made when first named, since only they need claude-agent-sdk.
    if name not in BY_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return globals().setdefault(name, sdk_tool(name))


class SharedPage:
    """The mapped page, with the attributes of a `multiprocessing.shared_memory.SharedMemory` that readers use.

    Unlike that class it never takes the page away, neither by itself when the process ends nor when asked to.
    """

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        self.size = SHARED_MEMORY_SIZE
        self._path = path
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._file = self._identity(os.fstat(fd))
            self._map = mmap.mmap(fd, SHARED_MEMORY_SIZE, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self.buf = memoryview(self._map)

    def is_current(self) -> bool:
        """False when another file has taken the page's place."""
        try:
            return self._identity(os.stat(self._path)) == self._file
        except OSError:
            return False

    def close(self) -> None:
        """Unmaps the page."""
        self.buf.release()
        self._map.close()

    @staticmethod
    def _identity(status: os.stat_result) -> tuple[int, int]:
        return status.st_dev, status.st_ino


_lock = threading.Lock()
_page: SharedPage | None = None


def get_shared_memory() -> SharedPage:
    """The mapped page, mapped once and again when a new page has taken its place.

    Without a daemon this is a RuntimeError which begins "ChronoTick daemon not running."
    """
    global _page
    with _lock:
        if _page is None or not _page.is_current():
            client = default_client()
            # The client says what is wrong when there is no page, or one of another size; mapped, that would fault.
            read_page(client)
            path = str((client._page or client._attach()).path)
            try:
                _page = SharedPage(path)
            except (OSError, ValueError) as e:
                raise ChronoTickError(f"clock page {path}: {e}: start chronotick-daemon again", "io") from e
        return _page


def read_chronotick_data() -> ChronoTickData:
    """The page as it is now, as the 18 fields of the old struct."""
    return read_page(default_client())
