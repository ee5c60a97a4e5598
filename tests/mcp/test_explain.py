"""What timer_explain says of timers that a real service fired late, or not at all."""

import datetime
import threading
import time

from serving import MODERN, Checked, connected, run


def explained(service, *timers):
    async def test():
        async with connected(service, "http", MODERN) as client:
            call = await Checked.of(client)
            return [await call("timer_explain", {"id": timer["id"]}) for timer in timers]

    return run(test)


def codes(explanation):
    return [cause["code"] for cause in explanation["causes"]]


def past(timer):
    """Waits until the due time of a timer has passed by more than its grace."""
    due = datetime.datetime.fromisoformat(timer["due_at"][:26]).replace(tzinfo=datetime.UTC).timestamp()
    threading.Event().wait(max(0, due + 1.5 - time.time()))


def test_a_service_that_was_down_over_the_due_time(own_service):
    late = own_service.create(name="late", after="500ms")
    skipped = own_service.create(name="skipped", after="500ms", misfire="skip", grace="1s")
    own_service.kill()
    past(skipped)
    own_service.start()

    async def both_have_ended():
        async with connected(own_service, "http", MODERN) as client:
            call = await Checked.of(client)
            for timer in (late, skipped):
                await call("timer_wait", {"id": timer["id"]})

    run(both_have_ended)
    of_late, of_skipped = explained(own_service, late, skipped)
    assert of_late["verdict"] == "late"
    assert codes(of_late)[:2] == ["service_down_or_paused", "misfire_policy"], of_late
    evidence = of_late["causes"][0]["evidence"]
    assert evidence["armed_at"] > evidence["due_at"] and evidence["lateness_ns"] > 1e9
    status, _, receipt = own_service.rest("GET", evidence["receipt"])
    assert status == 200 and receipt["payload"]
    assert (of_skipped["verdict"], codes(of_skipped)) == ("skipped", ["skipped_misfire"])


def test_timers_that_are_held_up(service):
    first = service.create(name="first", after="1h")
    held = service.create(name="held", after="1s", start_after={"timers": [{"id": first["id"]}]})
    paused, cancelled = service.create(name="paused"), service.create(name="cancelled")
    service.rest("POST", f"/v1/timers/{paused['id']}/pause", {"reason": "lunch"})
    service.rest("POST", f"/v1/timers/{cancelled['id']}/cancel", {"reason": "enough"})
    got = explained(service, first, held, paused, cancelled)
    assert [explanation["verdict"] for explanation in got] == ["not_due", "waits_for_others", "paused", "cancelled"]
    assert first["id"] in got[1]["sentence"]
    assert "lunch" in str(got[2]["causes"]) and "enough" in str(got[3]["causes"])


def test_a_fire_by_hand(service):
    timer = service.create(name="often", every="1h", overlap="skip")
    service.fire(timer)
    (got,) = explained(service, timer)
    assert (got["verdict"], codes(got)) == ("on_time", ["fired_by_hand"])
