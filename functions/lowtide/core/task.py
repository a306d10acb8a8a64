"""The task message, its rules, and what it becomes once accepted."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Any

from .model import Stored, Usd, Utc
from .tiers import Tier


class Endpoint(StrEnum):
    """The endpoints that a task may ask."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    EMBEDDINGS = "/v1/embeddings"


class AcceptedTask(Stored):
    """A task that passed validation and was classified: what tier queues and parts carry.

    ``message`` is the task as it came, so that a dead letter can give it back. ``origin`` names the delivery that
    brought it (an SQS message id and the place in its pack, or a line of a file): the same origin again is a
    redelivery, another origin with the same content is a duplicate. ``generation`` counts the redrives: what an
    earlier one left behind on a queue claims nothing.

    What it will be asked with is decided once: ``prompt`` is the system text of a payload task, ``cache_key`` what
    helps the provider to find that text in its cache, ``max_tokens`` the cap for a request that names no limit.
    ``candidates`` are the models by profile among which a cheap model is to choose, and ``model`` is then the one of
    ``standard``; None: the model is decided. ``spent_usd`` was billed before the task was put on its queue;
    ``unpriced``: and more, whose price is not known.
    ``task_token`` is that of a sleeping state machine, which came beside the message.
    """

    message: dict[str, Any]
    tenant: str
    task_id: str
    type: str | None
    tags: dict[str, str]
    tier: Tier
    route: str
    provider: str
    model: str
    endpoint: Endpoint
    accepted_at: Utc
    deadline_at: Utc
    content_hash: str
    origin: str
    routes_version: str
    batchable: bool
    validate_output: bool = False
    generation: int = 0
    reply_to: str | None = None
    traceparent: str | None = None
    prompt: str | None = None
    cache_key: str | None = None
    max_tokens: int | None = None
    candidates: dict[str, str] | None = None
    spent_usd: Usd = Decimal(0)
    unpriced: bool = False
    task_token: str | None = None

    @property
    def token_digest(self) -> str | None:
        """Tells two tokens apart without being one."""
        return None if self.task_token is None else sha256(self.task_token.encode()).hexdigest()[:16]

    @property
    def key(self) -> str:
        return task_key(self.tenant, self.task_id)

    @property
    def body(self) -> dict[str, Any] | None:
        """The request's body as it came, of a task or a bare batch line; None where the task came as a payload."""
        request = self.message if "custom_id" in self.message else self.message.get("request")
        body: dict[str, Any] | None = request["body"] if request is not None else None
        return body


def task_key(tenant: str, task_id: str) -> str:
    """The key of a task's row. Task ids hold no spaces, so the pair cannot be read two ways."""
    return f"{task_id} {tenant}"


def record_id(task: AcceptedTask) -> str:
    """Stable for a task, so that a receiver can drop the second copy of a record."""
    return "rec_" + sha256(task.key.encode()).hexdigest()[:32]


CUSTOM_ID_CHARS = 48
"""No ``custom_id`` is longer: a digest of 40, a dash, and more attempts than there will be."""


def custom_id(tenant: str, task_id: str, attempt: int) -> str:
    """What the provider sees in place of the task's id: opaque, 1–64 of ``A-Za-z0-9_-``, one per attempt.

    A late answer to an old attempt carries the old attempt's id, and so settles nothing.
    """
    digest = sha256(task_key(tenant, task_id).encode()).hexdigest()[:40]
    return f"{digest}-{attempt}"
