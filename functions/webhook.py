"""Webhook: behind a Function URL, what the provider tells of batches, into hints for the poller."""

from __future__ import annotations

from base64 import b64decode
from http import HTTPStatus
from typing import Any

from lowtide import wiring
from lowtide.core.webhooks import BODY_BYTES, Delivery, Refusal
from lowtide.settings import Settings
from lowtide.steps.admit import admit, refuse

ANSWERS = {
    None: HTTPStatus.NO_CONTENT,
    Refusal.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Refusal.UNSIGNED: HTTPStatus.BAD_REQUEST,
    Refusal.UNREADABLE: HTTPStatus.BAD_REQUEST,
    Refusal.FORGED: HTTPStatus.UNAUTHORIZED,
    Refusal.STALE: HTTPStatus.UNAUTHORIZED,
}


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """A Function URL's event (payload format 2.0). The answer is a status and nothing else."""
    with wiring.door(Settings.from_environment()) as door:
        delivery = _delivery(event)
        refusal = refuse(door, delivery) if isinstance(delivery, Refusal) else admit(door, delivery)
    return {"statusCode": ANSWERS[refusal].value}


def _delivery(event: dict[str, Any]) -> Delivery | Refusal:
    body = _body(event)
    if isinstance(body, Refusal):
        return body
    headers = event.get("headers", {})  # names come in small letters
    id_, timestamp, signatures = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    return Delivery(id_, timestamp, signatures, body)


def _body(event: dict[str, Any]) -> bytes | Refusal:
    """The bytes that were sent, and signed: what is no text comes as base64."""
    text: str = event.get("body") or ""
    if len(text) > 2 * BODY_BYTES:  # not even decoded: base64 is a third longer
        return Refusal.TOO_LARGE
    try:
        return b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode(errors="replace")
    except ValueError:  # no base64, or no ASCII
        return Refusal.UNREADABLE
