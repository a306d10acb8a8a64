"""What comes out: the result record the dead letter, and the document that keeps both."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from .lanes import Lane
from .model import Stored, Usd, Utc
from .tiers import Tier


class Status(StrEnum):
    ANSWERED = "answered"
    DEAD = "dead"
    CANCELLED = "cancelled"


def _none(tokens: int) -> bool:
    return tokens == 0


def _absent(text: str | None) -> bool:
    return text is None


def _empty(calls: Mapping[str, int]) -> bool:
    return not calls


class Usage(Stored):
    """Tokens that the provider billed. ``input_tokens`` includes those read from its cache and those written to it.

    ``cache_write_12h_tokens`` are to be kept for twelve hours; the other written ones are kept for 30 minutes. Most
    answers write none, and a record then names no such field.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = Field(default=0, exclude_if=_none)
    cache_write_12h_tokens: int = Field(default=0, exclude_if=_none)
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_12h_tokens=self.cache_write_12h_tokens + other.cache_write_12h_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


class ErrorInfo(Stored):
    code: str
    message: str


class LineResponse(Stored):
    status_code: int
    request_id: str | None
    body: Any


class ResultRecord(Stored):
    """One line of results: a superset of a batch output line, so that existing parsers read it."""

    id: str
    custom_id: str
    response: LineResponse | None
    error: ErrorInfo | None
    task_id: str
    tenant: str
    type: str | None
    tags: dict[str, str]
    tier: Tier
    lane: Lane | None
    model: str
    status: Status
    attempts: int
    batch_id: str | None
    usage: Usage
    cost_usd: Usd | None
    list_cost_usd: Usd | None
    accepted_at: Utc
    finished_at: Utc
    deadline_met: bool
    route: str
    tool_calls: dict[str, int] = Field(default_factory=dict, exclude_if=_empty)
    """Calls of hosted tools that the answer made, by the type of their items in it. Most answers make none."""
    model_asked: str | None = Field(default=None, exclude_if=_absent)
    """The model that the task asked for, where the provider billed another one, which is then ``model``."""
    unpriced: str | None = Field(default=None, exclude_if=_absent)
    """Why the answer has no price, in one of the words of ``Unpriced``. A record of a priced one has no such field."""


class LetterError(Stored):
    code: str
    message: str
    provider_status: int | None = None
    attempts: int = 0
    first_failed_at: Utc | None = None
    last_failed_at: Utc | None = None
    batch_id: str | None = None


class DeadLetter(Stored):
    """``task`` is the message as it came: an object, or the raw text of what was no task at all."""

    task: Any
    error: LetterError


class ResultDocument(Stored):
    """A record and, where the task is dead, its letter: what a task's row keeps or points to."""

    record: ResultRecord
    letter: DeadLetter | None = None
    premium_usd: Usd | None = None
    """What the answer cost beyond a batch's price, where a deadline took the task out of batching; None elsewhere."""


class Pointer(Stored):
    """Where a document lies: a line of an object, by bytes, so that one ranged read fetches it."""

    key: str
    offset: int
    length: int
