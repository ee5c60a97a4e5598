"""The user is asked before many timers are cancelled, and before a timer that runs a command is made."""

import anyio
import mcp_types as types
import pytest
from serving import LEGACY, MODERN, Checked, connected, run

EVERY_WAY = pytest.mark.parametrize("revision", [LEGACY, MODERN])
TRANSPORTS = pytest.mark.parametrize("transport", ["stdio", "http"])
COMMAND = {"name": "c", "after": "1h", "actions": [{"id": "c", "kind": "command", "parameters": {"command": "true"}}]}


class User:
    """Answers every question in one way, and keeps the questions."""

    def __init__(self, action, content=None, before=None):
        self.action, self.content, self.before = action, content, before
        self.questions = []

    async def asked(self, _context, params):
        self.questions.append(params.message)
        assert list(params.requested_schema["properties"]) == ["confirm"]
        if self.before:
            await anyio.to_thread.run_sync(self.before)
        return types.ElicitResult(action=self.action, content=self.content)


ACCEPTS = ("accept", {"confirm": True})


@TRANSPORTS
@EVERY_WAY
def test_a_user_who_agrees(service, transport, revision):
    team = f"agrees-{transport}-{revision}"
    for _ in range(3):
        service.create(labels={"team": team})

    async def test():
        user = User(*ACCEPTS)
        async with connected(service, transport, revision, elicitation_callback=user.asked) as client:
            call = await Checked.of(client)
            done = await call("timers_cancel", {"team": team, "reason": "over"})
            assert user.questions == [f'Cancel 3 timers (team "{team}")?']
            assert (done["matches"], done["cancelled"], done["note"]) == (3, 3, None)
            # No connector of this service runs commands: the user is asked all the same, before the service is.
            problem = await call.refused("timer_create", COMMAND)
            assert "will run a command" in user.questions[1] and problem["code"] == "unknown_action_kind"

    run(test)


@TRANSPORTS
@EVERY_WAY
@pytest.mark.parametrize(
    "answer", [("decline",), ("cancel",), ("accept", {"confirm": False})], ids=["declines", "cancels", "says no"]
)
def test_a_user_who_does_not_agree(service, transport, revision, answer):
    team = f"declines-{transport}-{revision}-{answer[0]}"
    service.create(labels={"team": team})

    async def test():
        user = User(*answer)
        async with connected(service, transport, revision, elicitation_callback=user.asked) as client:
            call = await Checked.of(client)
            assert (await call.refused("timers_cancel", {"team": team}))["code"] == "not_confirmed"
            assert (await call.refused("timer_create", COMMAND))["code"] == "not_confirmed"
            left = await call("timer_list", {"team": team, "state": "scheduled"})
            assert len(user.questions) == 2 and len(left["timers"]) == 1
            # The word does not stand in for a user who can be asked.
            assert (await call.refused("timers_cancel", {"team": team, "confirm": "1"}))["code"] == "not_confirmed"

    run(test)


@TRANSPORTS
@EVERY_WAY
def test_a_client_that_cannot_ask_repeats_the_word(service, transport, revision):
    team = f"words-{transport}-{revision}"
    service.create(labels={"team": team})

    async def test():
        async with connected(service, transport, revision) as client:
            call = await Checked.of(client)
            for confirm in (None, "2", "yes"):
                arguments = {"team": team, **({"confirm": confirm} if confirm else {})}
                done = await call("timers_cancel", arguments)
                assert (done["cancelled"], done["needs_confirmation"]) == (0, True)
            assert (await call("timers_cancel", {"team": team, "confirm": "1"}))["cancelled"] == 1
            assert (await call.refused("timer_create", COMMAND))["code"] == "needs_confirmation"
            problem = await call.refused("timer_create", {**COMMAND, "confirm": "yes"})
            assert problem["code"] == "unknown_action_kind"

    run(test)


def test_what_came_in_while_the_user_was_asked_is_told(service):
    service.create(labels={"team": "grows"})

    def one_more():
        service.create(labels={"team": "grows"})

    async def test():
        user = User(*ACCEPTS, before=one_more)
        async with connected(service, "http", LEGACY, elicitation_callback=user.asked) as client:
            call = await Checked.of(client)
            done = await call("timers_cancel", {"team": "grows"})
            assert (done["matches"], done["cancelled"]) == (1, 2) and "1 more came in between" in done["note"]

    run(test)


def test_a_client_of_the_new_revision_is_asked_again_when_the_count_has_changed(service):
    service.create(labels={"team": "again"})

    async def test():
        def once():
            user.before = None
            service.create(labels={"team": "again"})

        user = User(*ACCEPTS, before=once)
        async with connected(service, "http", MODERN, elicitation_callback=user.asked) as client:
            call = await Checked.of(client)
            done = await call("timers_cancel", {"team": "again"})
            assert [question.split(" (")[0] for question in user.questions] == ["Cancel 1 timers", "Cancel 2 timers"]
            assert (done["matches"], done["cancelled"]) == (2, 2)

    run(test)
