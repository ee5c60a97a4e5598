"""The package itself: its stubs, its words, its names."""

import subprocess
import sys

import pytest
from support import REPOSITORY

import chronotick
from chronotick import _native

PACKAGE = REPOSITORY / "bindings-python"


def run_mypy(*arguments):
    pytest.importorskip("mypy", reason="mypy is not installed")
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stub_is_the_module():
    run_mypy("mypy.stubtest", "chronotick._native")


def test_the_package_is_typed():
    assert (PACKAGE / "python" / "chronotick" / "py.typed").exists()
    packages = ["--package", "chronotick"]
    # The old paths lead to the tools for agents as well.
    if (PACKAGE / "python" / "chronotick" / "mcp").is_dir():
        packages += ["--package", "chronotick_shm"]
    run_mypy("mypy", *packages)


def test_the_public_names():
    for name in chronotick.__all__:
        assert getattr(chronotick, name) is not None, name
    assert chronotick.__version__ == _native.__version__
    assert len(set(_native.ERROR_CODES)) == len(_native.ERROR_CODES) >= 14
