"""Checks what the timer service signed: events, fire receipts, audit checkpoints and webhooks. Needs no network."""

from __future__ import annotations

from collections.abc import Mapping

from . import _native

__all__ = ["SignatureError", "verify_envelope", "verify_webhook"]


class SignatureError(ValueError):
    """This is not signed by the service, or not in this form."""


def verify_envelope(jwks: str, kind: str, envelope: str) -> str:
    """The payload of a signed envelope. ``jwks`` is the text of ``/.well-known/minoots-keys.json``; ``kind`` is
    ``"event"``, ``"receipt"`` or ``"checkpoint"``; ``envelope`` is the JSON text as it was received."""
    try:
        return _native.verify_envelope(jwks, kind, envelope)
    except ValueError as error:
        raise SignatureError(str(error)) from None


def verify_webhook(jwks: str, headers: Mapping[str, str], body: bytes) -> None:
    """Checks a webhook by its headers (in any case) and its body's bytes. Its age is yours to judge."""
    lower = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if name not in lower]
    if missing:
        raise SignatureError(f"the header {missing[0]} is missing")
    identity, timestamp, signature = lower["webhook-id"], lower["webhook-timestamp"], lower["webhook-signature"]
    try:
        _native.verify_webhook(jwks, identity, timestamp, signature, body)
    except ValueError as error:
        raise SignatureError(str(error)) from None
