"""The package itself: its stubs, its words, its names."""

import re
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


def requirements(path):
    lines = (line.split(";")[0].strip() for line in (PACKAGE / path).read_text().splitlines())
    return {line for line in lines if line and not line.startswith(("#", "-"))}


def test_the_extras_are_those_of_the_documents():
    # Python 3.10 has no reader of TOML.
    table = (PACKAGE / "pyproject.toml").read_text().split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    extras = {name: re.findall(r'"(.*?)"', wanted) for name, wanted in re.findall(r"^(\w+) = \[(.*)\]$", table, re.MULTILINE)}
    quickstart = (REPOSITORY / "docs" / "python" / "quickstart.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", quickstart, re.MULTILINE))
    assert set(rows) == set(extras)
    for name, brings in rows.items():
        assert set(re.findall(r"`(.+?)`", brings)) == {re.split(r"[<>=]", w)[0] for w in extras[name] if "[" not in w}
    (everything,) = extras.pop("all")
    assert everything == f"chronotick[{','.join(extras)}]"
    # The tests run with what the extras allow.
    tested = requirements("requirements-mcp.txt")
    assert set(extras["mcp"]) | set(extras["agents"]) <= tested and extras["http"] == extras["mcp"]
    documents = [*(REPOSITORY / "docs" / "python").glob("*.md"), PACKAGE / "README.md", *(PACKAGE / "python").rglob("*.py")]
    for path in documents:
        for named in re.findall(r"chronotick\[([\w,]+)\]", path.read_text()):
            assert set(named.split(",")) <= {*extras, "all"}, (path, named)


def test_the_base_package_imports_nothing_but_python():
    code = """
import sys
import chronotick, chronotick_shm, chronotick.mcp, chronotick.mcp.tools, chronotick.daemon.server, chronotick.eval.commands
import chronotick_shm.shm_config, chronotick_shm.chronotick_client_eval, chronotick.shm.reader
tops = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"__main__", "chronotick", "chronotick_shm"}
print(*sorted(top for top in tops if "site-packages" in (getattr(sys.modules[top], "__file__", None) or "") and top[0] != "_"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
