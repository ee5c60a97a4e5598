"""Calling a tool by its name from an event loop, as both servers do."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from chronotick.client import ChronoTickClient
from chronotick.errors import ChronoTickError, InvalidArgumentError
from chronotick.mcp import tools
from chronotick.mcp.catalog import Tool

AsyncProgress = Callable[[float, float], Awaitable[object]]


async def call(
    tool: Tool, arguments: dict[str, Any], client: ChronoTickClient, progress: AsyncProgress | None = None
) -> dict[str, Any]:
    """The result of a tool. A cancellation of the task ends a wait."""
    import anyio.to_thread

    known = tool.input_schema["properties"]
    missing = [name for name in tool.input_schema["required"] if name not in arguments]
    unknown = [name for name in arguments if name not in known]
    if missing or unknown:
        wrong = [f"{name} is missing" for name in missing] + [f"{name[:100]} is not known" for name in unknown]
        takes = f"takes {', '.join(known)}" if known else "takes no arguments"
        return tools.error_result(InvalidArgumentError(f"{'; '.join(wrong)}: {tool.name} {takes}"), client)
    if tool.waits:
        return await _wait(arguments, client, progress)
    if tool.may_block:
        return await anyio.to_thread.run_sync(functools.partial(tool.function, **arguments, client=client))
    return tool.function(**arguments, client=client)


async def _wait(
    arguments: dict[str, Any], client: ChronoTickClient, progress: AsyncProgress | None
) -> dict[str, Any]:
    from chronotick.mcp.waiting import wait_in_steps_async

    target_s, tolerance_ms = arguments["target_corrected_time"], arguments.get("tolerance_ms", 1.0)
    try:
        wait = tools.begin_wait(target_s, tolerance_ms, client=client)
        late_ns = await wait_in_steps_async(wait, progress)
        return tools.wait_result(wait, late_ns, target_s, tolerance_ms, client=client)
    except (ChronoTickError, InvalidArgumentError, OSError) as e:
        return tools.error_result(e, client)
