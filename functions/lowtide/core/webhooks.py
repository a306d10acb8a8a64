"""Webhooks: is a delivery the provider's own, and which batch does it speak of?

A delivery is signed as Standard Webhooks has it: ``webhook-signature`` holds, space by space, ``v1,`` and the base64 of
HMAC-SHA256 over ``id.timestamp.body`` under the secret; more than one while a secret is being rotated. What comes of it
is a hint to look at a batch now. What the batch is, and what it brought, is only ever asked of the provider itself.

Source: the Standard Webhooks specification, and OpenAI's guide to webhooks.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

import orjson

from .errors import ConfigError
from .model import Stored

BODY_BYTES = 65_536
"""The longest body that is looked at: a batch's event has about 200 bytes."""
TOLERANCE = timedelta(seconds=300)
"""How far a delivery's time may be from ours, either way; OpenAI's SDK has the same."""
KEY_BYTES = 24
"""The shortest key that Standard Webhooks allows. An empty one would let anybody sign."""
ID_CHARACTERS = 256
"""The longest id of an event or a batch; the provider's own have about 40."""

_ID = re.compile(rf"[\x21-\x7e]{{1,{ID_CHARACTERS}}}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_VERSION = "v1,"


class Refusal(StrEnum):
    """Why a delivery is not taken. For our own log: who sent it learns a status and nothing else."""

    TOO_LARGE = "too_large"
    UNSIGNED = "unsigned"
    """A header is missing, or is not of its form."""
    FORGED = "forged"
    STALE = "stale"
    """Signed, and not of these five minutes: late, or played again."""
    UNREADABLE = "unreadable"
    """Signed, and not an event."""


class Kind(StrEnum):
    """The events that are about batches. Each says that one has ended."""

    COMPLETED = "batch.completed"
    FAILED = "batch.failed"
    EXPIRED = "batch.expired"
    CANCELLED = "batch.cancelled"


class Hint(Stored):
    """It may be worth a look. ``event_id`` is the ``webhook-id``, the same whenever the event is delivered again."""

    provider_batch_id: str
    event_id: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Unrelated:
    """Signed, and about something else: a provider tells an endpoint all that it was subscribed to."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request. ``body`` is its raw bytes; a header that is missing is empty."""

    id: str
    timestamp: str
    signatures: str
    body: bytes


def signing_key(secret: str) -> bytes:
    """The key in ``whsec_`` and base64. Raises ConfigError, which does not quote it."""
    text = secret.strip()
    try:
        key = b64decode(text.removeprefix("whsec_"), validate=True) if text.startswith("whsec_") else b""
    except ValueError:  # no base64, or no ASCII
        key = b""
    if len(key) < KEY_BYTES:
        raise ConfigError(
            "the webhook secret is not whsec_ followed by the base64 of at least "
            f"{KEY_BYTES} bytes: store it as the provider shows it"
        )
    return key


def read(delivery: Delivery, key: bytes, now: datetime) -> Hint | Unrelated | Refusal:
    """What a delivery says, if it is the provider's own and of now. Nothing in a body is looked at before that."""
    if len(delivery.body) > BODY_BYTES:
        return Refusal.TOO_LARGE
    if not (_ID.fullmatch(delivery.id) and _TIMESTAMP.fullmatch(delivery.timestamp) and delivery.signatures):
        return Refusal.UNSIGNED
    if not _signed(delivery, key):
        return Refusal.FORGED
    if abs(now.timestamp() - int(delivery.timestamp)) > TOLERANCE.total_seconds():
        return Refusal.STALE
    return _event(delivery)


def signature(key: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    """One entry of ``webhook-signature``."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return _VERSION + b64encode(hmac.new(key, signed, sha256).digest()).decode()


def _signed(delivery: Delivery, key: bytes) -> bool:
    """Every entry is compared, and as text: of one digest base64 has several spellings, of which one is right."""
    expected = signature(key, delivery.id, delivery.timestamp, delivery.body).encode()
    given = delivery.signatures.encode(errors="replace").split(b" ")
    return any([hmac.compare_digest(expected, entry) for entry in given])  # noqa: C419 - none is left out for time's sake


def _event(delivery: Delivery) -> Hint | Unrelated | Refusal:
    try:
        event = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        return Refusal.UNREADABLE
    match event:
        case {"type": str(kind)} if kind not in set(Kind):
            return Unrelated()
        case {"type": str(kind), "data": {"id": str(batch_id)}} if _ID.fullmatch(batch_id):
            return Hint(provider_batch_id=batch_id, event_id=delivery.id, kind=Kind(kind))
        case _:
            return Refusal.UNREADABLE
