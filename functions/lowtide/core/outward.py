"""What the world is told of an end: the record for who waits for it, an event without prompt or answer for the rest.

Shapes, limits and ids are in docs/events.md. Everything goes out at least once; ``id`` names the end of a task, a
redriven task's by its generation, so that receivers can drop what they have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from .batches import BatchRow
from .model import utc_text
from .records import DeadLetter, ResultRecord, Status
from .task_rows import TaskRow

SOURCE = "lowtide"
"""Of every event."""

OUTPUT_BYTES = 200 * 1024
"""Of a record that wakes a state machine: its state, with what else is in it, may have 256 KiB (Step Functions
quotas)."""

REPLY_BYTES = 1_000_000
"""Below SQS's 1 MiB for a message, which counts attributes too."""

LABEL_BYTES = 16 * 1024
"""Of the sender's tags in an event: an entry may have 256 KB (EventBridge quotas)."""

ERROR_CHARS = 256
CAUSE_CHARS = 32_768
"""What SendTaskFailure takes of ``error`` and ``cause`` (Step Functions API reference)."""


class EventKind(StrEnum):
    """The detail-type."""

    TASK = "Task settled"
    BATCH = "Batch finished"


@dataclass(frozen=True, slots=True)
class Event:
    """``detail`` has ``id``, which is the same whenever the same end is told."""

    kind: EventKind
    detail: dict[str, Any]
    at: datetime
    traceparent: str | None = None

    @property
    def id(self) -> str:
        return str(self.detail["id"])


@dataclass(frozen=True, slots=True)
class Success:
    """``output`` is JSON."""

    output: str


@dataclass(frozen=True, slots=True)
class Failure:
    error: str
    cause: str


@dataclass(frozen=True, slots=True)
class Callback:
    """What the holder of a task token is told."""

    token: str
    told: Success | Failure


def end_id(record: ResultRecord, row: TaskRow) -> str:
    """A record's id is the task's, and a redrive replaces the record: the generation tells the two ends apart."""
    return f"{record.id}.{row.generation}"


def location(row: TaskRow) -> dict[str, Any]:
    """Where the record is kept: on the task's row in the deployment's table, or as bytes of an object in its bucket."""
    if row.pointer is None:
        return {"store": "table", "key": row.key}
    return {"store": "bucket", **row.pointer.model_dump()}


def settled(deployment: str, record: ResultRecord, row: TaskRow, traceparent: str | None) -> Event:
    """Ids, states, money and where the answer is; never the answer, nor an error's message, which may quote it."""
    told = record.model_dump(mode="json", exclude={"id", "custom_id", "response", "error", "route"})
    if len(orjson.dumps(told["tags"])) > LABEL_BYTES:
        told["tags"] = None
    detail = {
        "id": end_id(record, row),
        "record_id": record.id,
        "generation": row.generation,
        "deployment": deployment,
        **told,
        "model": record.model[:ERROR_CHARS],
        "error_code": None if record.error is None else record.error.code,
        "traceparent": traceparent,
        "result": location(row),
    }
    return Event(EventKind.TASK, detail, record.finished_at, traceparent)


def finished(deployment: str, row: BatchRow) -> Event:
    """A collected batch: every line of it has its end, or its place in another batch."""
    seen, at = row.provider_batch, row.collected_at
    if seen is None or at is None:
        raise AssertionError("a batch is finished once it is collected")
    detail = {
        "id": f"{row.batch_id}.{row.submission}",
        "deployment": deployment,
        "batch": row.batch_id,
        "batch_id": seen.id or None,
        "provider": row.lot.provider,
        "model": row.lot.model[:ERROR_CHARS],
        "endpoint": row.lot.endpoint.value,
        "status": seen.status.value,
        "requests": row.requests,
        **row.tally.model_dump(include={"answered", "retried", "dead", "cancelled"}),
        "submitted_at": None if row.submitted_at is None else utc_text(row.submitted_at),
        "finished_at": utc_text(at),
    }
    return Event(EventKind.BATCH, detail, at)


def woken(token: str, record: ResultRecord, row: TaskRow) -> Callback:
    """An answer is a success, whose output is the record with where it is kept; any other end is a failure."""
    if record.error is not None and record.status is not Status.ANSWERED:
        return failed(token, record.error.code, f"task {record.task_id}: {record.error.message}")
    return Callback(token, Success(_within(record, OUTPUT_BYTES, result=location(row))[0]))


def failed(token: str, error: str, cause: str) -> Callback:
    return Callback(token, Failure(error[:ERROR_CHARS], cause[:CAUSE_CHARS]))


def refused(token: str, letter: DeadLetter) -> Callback:
    """What never became a task wakes its sender too: nobody else will."""
    return failed(token, letter.error.code, letter.error.message)


def replied(record: ResultRecord) -> tuple[str, bool]:
    """(the record as a message's body, whether it is whole): too large for a message, it goes without its answer."""
    return _within(record, REPLY_BYTES)


def _within(record: ResultRecord, limit: int, **beside: Any) -> tuple[str, bool]:
    """What may be large is left out in turn: first the answer, then the sender's tags."""
    text = _joined(record, beside)
    if len(text) <= limit:
        return text.decode(), True
    short = record.model_copy(update={"response": None})
    text = _joined(short, beside)
    if len(text) > limit:
        text = _joined(short.model_copy(update={"tags": {}}), beside)
    return text.decode(), False


def _joined(record: ResultRecord, beside: dict[str, Any]) -> bytes:
    data = record.model_dump_json().encode()
    return data[:-1] + b"," + orjson.dumps(beside)[1:] if beside else data
