"""A durable timer from the timer service, for actions that must outlive this process."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from typing import Any

_TIMEOUT_S = 5.0
_ANSWER_MAX_BYTES = 1 << 20
_NS_PER_S = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def service_url() -> str | None:
    """The timer service of `MINOOTS_URL`; None when it is not set, and then no timer is made."""
    return os.environ.get("MINOOTS_URL", "").rstrip("/") or None


def rfc3339(unix_ns: int) -> str:
    """This time in UTC with nine digits."""
    second, fraction_ns = divmod(unix_ns, _NS_PER_S)
    return f"{_EPOCH + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}.{fraction_ns:09}Z"


def create_timer(url: str, action_id: str, at_ns: int) -> dict[str, Any]:
    """Asks the service for a timer at this corrected time; the same action and time give the same timer again.

    A service that refuses or is away is an answer with `error`, not an exception: the schedule itself still holds.
    """
    body = {
        "name": action_id,
        "at": rfc3339(at_ns),
        "actions": [],
        "labels": {"made_by": "chronotick-mcp"},
        "metadata": {"action_id": action_id},
        "idempotency_key": f"chronotick-mcp:{at_ns}:{action_id}",
    }
    if not url.startswith(("http://", "https://")):
        return {"url": url, "error": "MINOOTS_URL must begin with http:// or https://"}
    request = urllib.request.Request(
        f"{url}/v1/timers", json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            timer = json.loads(answer.read(_ANSWER_MAX_BYTES))
            # 200 instead of 201: the idempotency key had made the timer before.
            created = answer.status == 201
        return {
            "url": url,
            "id": str(timer["id"]),
            "state": str(timer["state"]),
            "due_at": str(timer["due_at"]),
            "created": created,
        }
    except urllib.error.HTTPError as e:
        return {"url": url, "error": f"the timer service answered {e.code}: {_detail(e)}"}
    except (OSError, ValueError, KeyError, TypeError) as e:
        reason = getattr(e, "reason", None) or e
        return {"url": url, "error": f"no timer was made: {reason}: check MINOOTS_URL and that the service runs"}


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(_ANSWER_MAX_BYTES))["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return error.reason
