"""Which webhooks have been passed on, on the table."""

from __future__ import annotations

from datetime import datetime, timedelta

from .table import Key, Table

MEMORY = timedelta(days=4)
"""OpenAI delivers an event again for up to 72 hours."""

PARTITIONS = "webhook#"
"""What the keys begin with: the webhook function may reach no others."""


class DynamoWebhookIds:
    """A steps.admit.WebhookIds: an item for each webhook-id, until it expires."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def known(self, event_id: str) -> bool:
        return bool(self._table.read([_key(event_id)]))

    def note(self, event_id: str, now: datetime) -> None:
        expires_at = {"N": str(int((now + MEMORY).timestamp()))}
        self._table.write([_key(event_id).item() | {"expires_at": expires_at}])


def _key(event_id: str) -> Key:
    return Key(f"{PARTITIONS}{event_id}", "passed on")
