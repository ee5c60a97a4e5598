"""Reading the page without a client: the raw record, whole, of whoever writes it now."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TypeVar

from chronotick._native import ClockPage
from chronotick.errors import ClientClosedError
from chronotick.shm.config import ChronoTickData, read_data

_Reader = TypeVar("_Reader", bound="PageReader")


class PageReader:
    """Reads the record of 18 fields by the page's protocol. It attaches when it is made, read-only.

    Nothing is registered with multiprocessing's resource tracker, so the page stays when this program ends.
    """

    def __init__(self, name: str | None = None) -> None:
        """`name` is that of the page, or its absolute path; None is $CHRONOTICK_SHM, else the default name."""
        self._page: ClockPage | None = ClockPage(name)

    @property
    def path(self) -> Path:
        """Where the page is."""
        return self._attached().path

    def read(self) -> ChronoTickData:
        """The record now."""
        return read_data(self.read_bytes())

    def read_bytes(self) -> bytes:
        """The 128 bytes of the page now."""
        return self._attached().page_bytes()

    def close(self) -> None:
        """Lets go of the page; later uses are a ClientClosedError."""
        self._page = None

    def __enter__(self: _Reader) -> _Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _attached(self) -> ClockPage:
        if self._page is None:
            raise ClientClosedError(f"this {type(self).__name__} is closed: make another one")
        return self._page
