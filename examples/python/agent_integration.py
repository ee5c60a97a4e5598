"""The clock's tools inside an agent's process, called as an agent would call them; no model and no network is needed.

    pip install 'chronotick[agents]'
    chronotick-daemon &
    python agent_integration.py

With a model, the same server goes into the options of an agent:

    options = ClaudeAgentOptions(mcp_servers={"chronotick": server}, allowed_tools=[f"mcp__chronotick__{name}"])
    async with ClaudeSDKClient(options) as agent:
        await agent.query("Schedule a backup 5 minutes from now. How far off may it start?")
"""

import asyncio
import json
import sys
from typing import Any

from mcp import Client

from chronotick.mcp import create_chronotick_sdk_server

SERVER_KEY = "chronotick"


async def main() -> int:
    """What an agent would do that is to start something together with another machine."""
    server = create_chronotick_sdk_server()
    # The agent SDK speaks MCP with this server in memory, and so does this client.
    async with Client(server["instance"]) as client:

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            answer = await client.call_tool(tool, arguments)
            result: dict[str, Any] = json.loads(answer.content[0].text)
            print(f"\nmcp__{SERVER_KEY}__{tool}({json.dumps(arguments)})")
            for key, value in result.items():
                print(f"    {key}: {value}")
            return result

        print("The agent has:", ", ".join(tool.name for tool in (await client.list_tools()).tools))
        now = await call("get_time")
        if "error" in now:
            return 1
        # In earnest this is what the other machine's get_time said, and how long the question took.
        peer = {"peer_id": "b", "corrected_time": now["corrected_time"], "uncertainty": 0.05, "round_trip_seconds": 0.02}
        together = await call("synchronize_with_peers", peer_times=[peer])
        if together.get("safe_start_time") is None:
            return 1
        start = together["safe_start_time"]
        await call("get_time_bounds", duration_seconds=start - together["own_corrected_time"])
        await call("schedule_action", target_corrected_time=start, action_id="write-together")
        woke = await call("wait_until_time", target_corrected_time=start)
        return 1 if "error" in woke else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
