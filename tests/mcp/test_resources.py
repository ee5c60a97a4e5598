"""Resources, subscriptions and prompts with the official Python client."""

import json
from contextlib import asynccontextmanager

import anyio
import mcp_types as types
import pytest
from mcp.client.subscriptions import ResourceUpdated
from mcp.shared.exceptions import MCPError
from serving import LEGACY, MODERN, connected, run

EVERY_WAY = pytest.mark.parametrize("revision", [LEGACY, MODERN])
TRANSPORTS = pytest.mark.parametrize("transport", ["stdio", "http"])
OLD_WAY = pytest.mark.filterwarnings("ignore:resources/")


async def read(client, uri):
    content = (await client.read_resource(uri)).contents[0]
    assert content.mime_type == "application/json" and str(content.uri) == uri
    return json.loads(content.text)


class Told:
    """What a client was told of, from outside any revision of the protocol."""

    def __init__(self):
        self.send, self.receive = anyio.create_memory_object_stream(1000)

    async def on_message(self, message):
        if isinstance(message, types.ResourceUpdatedNotification):
            await self.send.send(str(message.params.uri))

    async def of(self, uri):
        while await self.receive.receive() != uri:
            pass


@asynccontextmanager
async def listening(service, transport, revision, *uris, key=None):
    """A client that has subscribed, and what it is told."""
    told = Told()
    async with connected(service, transport, revision, key=key, message_handler=told.on_message) as client:
        if revision == LEGACY:
            for uri in uris:
                await client.session.subscribe_resource(uri)
            yield client, told
            return
        async with anyio.create_task_group() as group, client.listen(resource_subscriptions=list(uris)) as subscription:

            async def pump():
                async for event in subscription:
                    assert isinstance(event, ResourceUpdated)
                    await told.send.send(str(event.uri))

            group.start_soon(pump)
            yield client, told
            group.cancel_scope.cancel()


@TRANSPORTS
@EVERY_WAY
def test_timers_are_resources(service, transport, revision):
    timer = service.create(name="resource")
    uri = f"timer://{timer['id']}"

    async def test():
        async with connected(service, transport, revision) as client:
            templates = (await client.list_resource_templates()).resource_templates
            assert [template.uri_template for template in templates] == ["timer://{id}"]
            listed, cursor = {}, None
            while True:
                page = await client.list_resources(cursor=cursor)
                listed.update({str(resource.uri): resource for resource in page.resources})
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert listed[uri].name == "resource" and "scheduled" in listed[uri].description
            assert (await read(client, uri))["state"] == "scheduled"
            for other in ("timer://01900000-0000-7000-8000-000000000000", "timer://../keys", "clock://now"):
                with pytest.raises(MCPError, match="no such timer|no timer"):
                    await client.read_resource(other)

    run(test)


@OLD_WAY
@TRANSPORTS
@EVERY_WAY
def test_a_subscriber_hears_of_a_fire(service, transport, revision):
    watched, other = service.create(every="1h"), service.create(every="1h")
    uri = f"timer://{watched['id']}"

    async def test():
        async with listening(service, transport, revision, uri) as (client, told):
            for fires in (1, 2):
                await anyio.to_thread.run_sync(service.fire, other)
                await anyio.to_thread.run_sync(service.fire, watched)
                while True:
                    await told.of(uri)
                    if (await read(client, uri))["fires"] == fires:
                        break

    run(test)


@OLD_WAY
@TRANSPORTS
def test_many_subscriptions_are_told_apart_and_can_be_ended(service, transport):
    timers = [service.create(every="1h") for _ in range(3)]
    first, second, third = (f"timer://{timer['id']}" for timer in timers)

    async def test():
        async with listening(service, transport, LEGACY, first, second) as (client, told):
            for uri, timer in ((second, timers[1]), (first, timers[0])):
                await anyio.to_thread.run_sync(service.fire, timer)
                # It has fired, and its actions, of which there are none, have ended.
                await told.of(uri)
                await told.of(uri)
            await client.session.unsubscribe_resource(first)
            await client.session.subscribe_resource(third)
            await anyio.to_thread.run_sync(service.fire, timers[0])
            await anyio.to_thread.run_sync(service.fire, timers[2])
            heard = []
            while third not in heard:
                heard.append(await told.receive.receive())
            assert first not in heard
            with pytest.raises(MCPError, match="no such timer|no timer"):
                await client.session.subscribe_resource("timer://01900000-0000-7000-8000-000000000000")

    run(test)


@OLD_WAY
def test_subscriptions_are_limited(service):
    ids = [service.create()["id"] for _ in range(101)]

    async def test():
        async with connected(service, "http", LEGACY) as client:
            for timer in ids[:100]:
                await client.session.subscribe_resource(f"timer://{timer}")
            with pytest.raises(MCPError, match="more than 100 subscriptions"):
                await client.session.subscribe_resource(f"timer://{ids[100]}")
            await client.session.unsubscribe_resource(f"timer://{ids[0]}")
            await client.session.subscribe_resource(f"timer://{ids[100]}")

    run(test)


@OLD_WAY
@EVERY_WAY
def test_over_stdio_a_subscription_survives_a_restart_of_the_service(own_service, revision):
    timer = own_service.create(every="1h")
    uri = f"timer://{timer['id']}"

    def restart_and_fire():
        own_service.kill()
        own_service.start()
        own_service.fire(timer)

    async def test():
        async with listening(own_service, "stdio", revision, uri) as (client, told):
            await anyio.to_thread.run_sync(own_service.fire, timer)
            await told.of(uri)
            await anyio.to_thread.run_sync(restart_and_fire)
            while (await read(client, uri))["fires"] < 2:
                await told.of(uri)

    run(test)


@TRANSPORTS
@EVERY_WAY
def test_prompts(service, transport, revision):
    async def test():
        async with connected(service, transport, revision) as client:
            prompts = (await client.list_prompts()).prompts
            names = {prompt.name: [argument.name for argument in prompt.arguments] for prompt in prompts}
            assert names == {
                "plan-a-reminder": ["what", "when"],
                "investigate-late-timer": ["id"],
                "coordinate-agents": ["session", "agents"],
            }
            got = await client.get_prompt("plan-a-reminder", {"what": "tea {when}", "when": "at five"})
            assert "tea" in got.messages[0].content.text and "at five" in got.messages[0].content.text
            with pytest.raises(MCPError, match="needs the argument when"):
                await client.get_prompt("plan-a-reminder", {"what": "tea"})
            with pytest.raises(MCPError, match="there is no prompt"):
                await client.get_prompt("no-such-prompt", {})

    run(test)
