"""The ends of batches, told to a URL: signed as Standard Webhooks, repeated until they are taken."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

import httpx2
import orjson

from .scenario import Webhook

_GIVE_UP = timedelta(hours=72)
"""The real provider retries as long."""
_LONGEST_WAIT_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    type: str
    batch_id: str
    at: datetime
    tries: int = 0
    due_at: datetime | None = None

    @property
    def payload(self) -> bytes:
        created = int(self.at.timestamp())
        event = {"id": self.id, "object": "event", "type": self.type, "created_at": created}
        return orjson.dumps({**event, "data": {"id": self.batch_id}})


def signature(secret: str, event_id: str, timestamp: str, payload: bytes) -> str:
    """The ``webhook-signature`` header: HMAC-SHA256 of ``id.timestamp.payload`` under the secret's base64."""
    key = b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{timestamp}.".encode() + payload
    return "v1," + b64encode(hmac.new(key, signed, sha256).digest()).decode()


class Postman:
    """Holds what has happened until its URL has taken it."""

    def __init__(self, webhook: Webhook | None) -> None:
        self._webhook = webhook
        self._events: list[Event] = []
        self._on_the_way = False

    def tell(self, event: Event) -> None:
        if self._webhook is not None:
            self._events.extend([event, event] if self._webhook.twice else [event])

    async def deliver(self, client: httpx2.AsyncClient, now: Callable[[], datetime]) -> None:
        """Posts what is due; what is not taken with a 2xx stays, for later."""
        webhook = self._webhook
        if webhook is None or self._on_the_way:
            return
        self._on_the_way = True
        try:
            due = [event for event in self._events if event.due_at is None or event.due_at <= now()]
            self._events = [event for event in self._events if event.due_at is not None and event.due_at > now()]
            for event in due:
                if not await _post(client, webhook, event, now()) and now() < event.at + _GIVE_UP:
                    wait = min(_LONGEST_WAIT_S, 2.0**event.tries)
                    self._events.append(replace(event, tries=event.tries + 1, due_at=now() + timedelta(seconds=wait)))
        finally:
            self._on_the_way = False


async def _post(client: httpx2.AsyncClient, webhook: Webhook, event: Event, now: datetime) -> bool:
    timestamp = str(int(now.timestamp()))
    headers = {
        "content-type": "application/json",
        "webhook-id": event.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(webhook.secret, event.id, timestamp, event.payload),
    }
    try:
        response = await client.post(webhook.url, content=event.payload, headers=headers)
    except httpx2.HTTPError:
        return False
    return response.is_success
