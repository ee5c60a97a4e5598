"""The vectors of signatures that every language passes."""

import json
from pathlib import Path

import pytest

from chronotick.verify import SignatureError, verify_envelope, verify_webhook

VECTORS = json.loads((Path(__file__).parents[2] / "tests/vectors/signatures.json").read_text())
JWKS = json.dumps(VECTORS["jwks"])


def check(case):
    if case["call"] == "webhook":
        names = {"webhook-id": "id", "Webhook-Timestamp": "timestamp", "webhook-signature": "signature"}
        headers = {name: case[field] for name, field in names.items()}
        verify_webhook(JWKS, headers, case["body"].encode())
    else:
        payload = verify_envelope(JWKS, case["kind"], case["envelope"])
        assert payload == json.loads(case["envelope"])["payload"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vector(case):
    if case["valid"]:
        check(case)
    else:
        with pytest.raises(SignatureError):
            check(case)


def test_what_is_not_an_envelope_is_refused():
    for text in ("", "{}", "[]", '{"payload": 1}'):
        with pytest.raises(SignatureError):
            verify_envelope(JWKS, "event", text)
    with pytest.raises(SignatureError, match="webhook-id"):
        verify_webhook(JWKS, {}, b"")
