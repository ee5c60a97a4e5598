"""A wait as a task: its id is the timer's, so it is where the timer is, over a restart of the service too."""

from typing import ClassVar, Literal

import anyio
import mcp_types as types
import pytest
from mcp.client.extension import ClientExtension, ResultClaim
from serving import LEGACY, MODERN, Checked, Wire, connected, messages, run

TASKS = "io.modelcontextprotocol/tasks"
TRANSPORTS = pytest.mark.parametrize("transport", ["stdio", "http"])


class CreatedTask(types.Result):
    result_type: Literal["task"]
    task_id: str
    status: str
    poll_interval_ms: int | None = None


class GetTask(types.Request):
    name_param: ClassVar[str] = "taskId"
    method: Literal["tasks/get"] = "tasks/get"
    params: dict


class DetailedTask(types.Result):
    task_id: str
    status: str
    result: dict | None = None


class Tasks(ClientExtension):
    """The tasks extension of the protocol, of which the client of this SDK knows only how it would be added."""

    identifier = TASKS

    def __init__(self):
        self.created, self.statuses, self.before_poll = [], [], None

    def claims(self):
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self.resolve)]

    async def resolve(self, task, context):
        self.created.append(task)
        while True:
            if self.before_poll:
                await self.before_poll()
            asked = GetTask(params={"taskId": task.task_id})
            now = await context.session.send_request(asked, DetailedTask)
            self.statuses.append(now.status)
            if now.status == "completed":
                return types.CallToolResult.model_validate(now.result)
            assert now.status == "working", now
            await anyio.sleep((task.poll_interval_ms or 0) / 1000)


@TRANSPORTS
def test_a_wait_is_a_task_of_the_timer(service, transport):
    timer = service.create(every="1h")

    async def test():
        tasks = Tasks()

        async def fire_after_the_first():
            if tasks.statuses == ["working"]:
                await anyio.to_thread.run_sync(service.fire, timer)

        tasks.before_poll = fire_after_the_first
        async with connected(service, transport, MODERN, extensions=[tasks]) as client:
            call = await Checked.of(client)
            waited = await call("timer_wait", {"id": timer["id"]})
            assert (waited["id"], waited["fires"]) == (timer["id"], 1)
            assert [task.task_id for task in tasks.created] == [timer["id"]]
            assert (tasks.created[0].status, tasks.statuses) == ("working", ["working", "completed"])
            tasks.before_poll = None
            assert (await call("quick_wait", {"duration": 100}))["state"] == "completed"

    run(test)


def test_a_task_survives_a_restart_of_the_service(own_service):
    timer = own_service.create(every="1h")
    wire = Wire(own_service, capabilities={"extensions": {TASKS: {}}})
    _, _, answer = wire.ask("tools/call", name="timer_wait", arguments={"id": timer["id"]})
    task = answer["result"]
    assert (task["resultType"], task["taskId"], task["status"]) == ("task", timer["id"], "working")
    own_service.kill()
    own_service.start()
    assert wire.ask("tasks/get", taskId=timer["id"])[2]["result"]["status"] == "working"
    own_service.fire(timer)
    done = wire.ask("tasks/get", taskId=timer["id"])[2]["result"]
    assert (done["status"], done["result"]["structuredContent"]["fires"]) == ("completed", 1)


def test_cancelling_a_task_cancels_its_timer(service):
    timer = service.create()
    wire = Wire(service, capabilities={"extensions": {TASKS: {}}})
    wire.ask("tools/call", name="timer_wait", arguments={"id": timer["id"]})
    assert "error" not in wire.ask("tasks/cancel", taskId=timer["id"])[2]
    assert wire.ask("tasks/get", taskId=timer["id"])[2]["result"]["status"] == "cancelled"
    assert service.rest("GET", f"/v1/timers/{timer['id']}")[2]["state"] == "cancelled"
    # Once more is answered in the same way.
    assert "error" not in wire.ask("tasks/cancel", taskId=timer["id"])[2]
    for method in ("tasks/get", "tasks/cancel"):
        error = wire.ask(method, taskId="01900000-0000-7000-8000-000000000000")[2]["error"]
        assert error["code"] == -32602 and error["data"]["code"] == "timer_not_found"


@TRANSPORTS
@pytest.mark.parametrize("revision", [LEGACY, MODERN])
def test_a_wait_without_tasks_ends_with_the_fire(service, transport, revision):
    timer = service.create(every="1h")

    async def test():
        async def fire(*_):
            await anyio.to_thread.run_sync(service.fire, timer)

        async with connected(service, transport, revision) as client:
            call = await Checked.of(client)
            # The first report says that the server waits.
            waited = await call("timer_wait", {"id": timer["id"]}, progress_callback=fire)
            assert waited["fires"] == 1

    run(test)


@TRANSPORTS
@pytest.mark.parametrize("revision", [LEGACY, MODERN])
def test_a_wait_that_is_given_up_leaves_the_timer(service, transport, revision):
    timer = service.create()

    async def test():
        async with connected(service, transport, revision) as client:
            call = await Checked.of(client)
            with anyio.CancelScope() as scope:

                async def give_up(*_):
                    scope.cancel()

                await client.call_tool("timer_wait", {"id": timer["id"]}, progress_callback=give_up)
            assert scope.cancelled_caught
            assert (await call("timer_get", {"id": timer["id"]}))["state"] == "scheduled"

    run(test)


def test_over_stdio_a_wait_goes_on_over_a_restart_of_the_service(own_service):
    timer = own_service.create(every="1h")

    def restart_and_fire():
        own_service.kill()
        own_service.start()
        own_service.fire(timer)

    async def test():
        once = []

        async def restart(*_):
            if not once:
                once.append(True)
                await anyio.to_thread.run_sync(restart_and_fire)

        async with connected(own_service, "stdio", MODERN) as client:
            call = await Checked.of(client)
            assert (await call("timer_wait", {"id": timer["id"]}, progress_callback=restart))["fires"] == 1

    run(test)


def test_the_bare_wire_gets_progress_and_the_answer_in_one_stream(service):
    timer = service.create(after="200ms")
    wire = Wire(service, revision=LEGACY)
    wire.initialize()
    params = {"name": "timer_wait", "arguments": {"id": timer["id"]}, "_meta": {"progressToken": "p"}}
    _, _, text = wire.post({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": params})
    *reports, answer = messages(text)
    assert answer["id"] == 9 and answer["result"]["structuredContent"]["state"] == "completed"
    assert all(report["params"]["progressToken"] == "p" for report in reports)


def test_a_session_has_so_many_calls_under_way(service):
    timer = service.create(every="1h")

    async def test():
        waiting = anyio.Semaphore(0)

        async def waits(*_):
            waiting.release()

        async with connected(service, "http", LEGACY) as client, anyio.create_task_group() as group:
            call = await Checked.of(client)
            ended = []

            async def wait():
                ended.append(await call("timer_wait", {"id": timer["id"]}, progress_callback=waits))

            for _ in range(100):
                group.start_soon(wait)
            for _ in range(100):
                await waiting.acquire()
            assert (await call.refused("timer_list"))["code"] == "too_many_calls"
            await anyio.to_thread.run_sync(service.fire, timer)
            while len(ended) < 100:
                await anyio.sleep(0)
            assert (await call("timer_get", {"id": timer["id"]}))["fires"] == 1

    run(test)


def test_waits_whose_clients_have_left_do_not_hold_up_the_end_of_the_service(own_service):
    timer = own_service.create()
    wire = Wire(own_service, revision=LEGACY)
    wire.initialize()
    for number in range(5):
        params = {"name": "timer_wait", "arguments": {"id": timer["id"]}, "_meta": {"progressToken": number}}
        message = {"jsonrpc": "2.0", "id": 100 + number, "method": "tools/call", "params": params}
        with wire.open(message) as stream:
            # It waits; then the client is gone.
            assert any(b"notifications/progress" in line for line in stream)
    own_service.stop()
    own_service.start()
    assert own_service.rest("GET", f"/v1/timers/{timer['id']}")[2]["state"] == "scheduled"
