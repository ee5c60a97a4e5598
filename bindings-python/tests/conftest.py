"""Fixtures: a clock page in a file of its own, a daemon that publishes one."""

import os

import pytest
from daemons import Daemon
from ntp_server import NtpServer
from support import live_page


@pytest.fixture
def page_file(tmp_path):
    """A live page in a file; the value writes another page in its place and returns the path."""
    path = tmp_path / "page"

    def write(page):
        staged = tmp_path / "staged"
        staged.write_bytes(page)
        os.replace(staged, path)
        return str(path)

    write(live_page())
    write.path = str(path)
    return write


@pytest.fixture
def default_page(page_file, monkeypatch):
    """The live page as the one that a client attaches when no name is given."""
    monkeypatch.setenv("CHRONOTICK_SHM", page_file.path)
    return page_file


@pytest.fixture(scope="session")
def ntp_server():
    """A time server whose time is 20 ms ahead."""
    return NtpServer(offset_s=0.02)


@pytest.fixture(scope="session")
def daemon(ntp_server, tmp_path_factory):
    """A synchronized daemon."""
    running = Daemon(tmp_path_factory.mktemp("daemon"), ntp_server.address).wait_synchronized()
    yield running
    running.stop()
