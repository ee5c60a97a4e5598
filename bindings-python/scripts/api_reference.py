"""Writes docs/python/api.md from the docstrings of the package.

    python api_reference.py [--check]

With --check it writes nothing, and fails when the file is not what it would write.
"""

import enum
import importlib
import inspect
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parents[2] / "docs" / "python" / "api.md"
MODULES = (
    "chronotick",
    "chronotick.errors",
    "chronotick.shm.config",
    "chronotick.shm.reader",
    "chronotick.eval.benchmark",
    "chronotick.daemon.server",
    "chronotick.daemon.binary",
    "chronotick.daemon.legacy_config",
    "chronotick.daemon.configs",
)
HEAD = """\
# The Python API

Made from the docstrings by `bindings-python/scripts/api_reference.py`; do not edit. How to use it:
[quickstart](quickstart.md), [programs](programs.md).
"""


def text_of(thing):
    return inspect.cleandoc(inspect.getdoc(thing) or "")


def signature_of(function):
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # The native module's tell theirs in another way.
        return getattr(function, "__text_signature__", None) or "(...)"
    parameters = [p for name, p in signature.parameters.items() if name not in ("self", "cls")]
    returns = signature.return_annotation
    shown = str(signature.replace(parameters=parameters))
    if returns is not inspect.Signature.empty and not isinstance(returns, str):
        shown = shown.split(" -> ")[0] + f" -> {getattr(returns, '__name__', returns)}"
    return shown.replace("'", "")


def of_this_package(thing):
    return getattr(thing, "__module__", "").split(".")[0] == "chronotick"


def members_of(kind):
    for name, member in inspect.getmembers_static(kind) if hasattr(inspect, "getmembers_static") else inspect.getmembers(kind):
        if name.startswith("_") or (hasattr(member, "__objclass__") and not of_this_package(kind)):
            continue
        if name not in vars(kind):
            continue
        yield name, member


def class_lines(name, kind):
    bases = [base.__name__ for base in kind.__bases__ if base not in (object, tuple)]
    yield f"### `{name}`" + (f" ({', '.join(bases)})" if bases else "")
    yield ""
    yield text_of(kind)
    yield ""
    if issubclass(kind, enum.Enum):
        yield "; ".join(f"`{member.name}` {member.value}" for member in kind)
        yield ""
        return
    if hasattr(kind, "_fields"):
        yield "Fields: " + ", ".join(f"`{field}`" for field in kind._fields) + "."
        yield ""
    elif not issubclass(kind, BaseException) and inspect.isfunction(kind.__init__):
        yield f"- `{name}{signature_of(kind.__init__).removesuffix(' -> None')}`: {one_line(kind.__init__)}"
    listed = False
    for member_name, member in members_of(kind):
        if inspect.isfunction(member) or inspect.ismethoddescriptor(member):
            word = "await " if inspect.iscoroutinefunction(member) else ""
            shown = signature_of(member)
            shown = shown.replace("($self, ", "(").replace("($self)", "()")
            yield f"- `{word}{member_name}{shown}`: {one_line(member)}"
            listed = True
        elif (isinstance(member, property) or inspect.isgetsetdescriptor(member)) and one_line(member):
            yield f"- `{member_name}`: {one_line(member)}"
            listed = True
    if listed:
        yield ""


def one_line(thing):
    return " ".join(text_of(thing).split())


def module_lines(name, seen):
    module = importlib.import_module(name)
    yield f"## `{name}`"
    yield ""
    yield text_of(module)
    yield ""
    for public in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
        thing = getattr(module, public)
        if inspect.ismodule(thing) or public == "annotations":
            continue
        if inspect.isclass(thing) or inspect.isfunction(thing) or inspect.isbuiltin(thing):
            home = getattr(thing, "__module__", name)
            if not of_this_package(thing) or (name != "chronotick" and home != name) or id(thing) in seen:
                continue
            seen.add(id(thing))
        if inspect.isclass(thing):
            yield from class_lines(public, thing)
        elif callable(thing):
            yield f"### `{public}{signature_of(thing)}`"
            yield ""
            yield text_of(thing)
            yield ""
        elif isinstance(thing, str | int) and not isinstance(thing, bool) and public.isupper() and (name, public) not in seen:
            seen.add((name, public))
            yield f"- `{public}` = `{thing!r}`"
            yield ""


def reference():
    seen = set()
    lines = [HEAD]
    for name in MODULES:
        lines += module_lines(name, seen)
    return "\n".join(lines).rstrip() + "\n"


def main():
    content = reference()
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text() != content:
            sys.exit(f"{TARGET} is not what the docstrings say: run {Path(__file__).name}")
    else:
        TARGET.write_text(content)


if __name__ == "__main__":
    main()
