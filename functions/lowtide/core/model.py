"""The base of every value here: frozen, closed to unknown fields, JSON out through pydantic."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer

LONGEST_S = 10 * 366 * 86_400
"""Ten years, in seconds: any plan fits, and sums of times stay within the calendar."""


class Value(BaseModel):
    """A frozen value. ``model_copy(update=…)`` makes the next one."""

    # An error of validation reaches logs, and would quote what it was given: a task, say, or a key.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Stored(Value):
    """A value that may be read by another release than the one that wrote it: rows, messages, lines of objects.

    A field that this release does not know is kept and written back, so that a deployment can go back by one release
    with work in flight. What an older release must not touch has a newer schema version instead (core/versions.py).
    """

    model_config = ConfigDict(extra="allow")


def utc_text(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and a Z: ``2026-02-28T10:00:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def usd_text(amount: Decimal) -> str:
    """Plain decimal digits, never an exponent: ``0.000041``."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


Utc = Annotated[AwareDatetime, PlainSerializer(utc_text, return_type=str, when_used="json")]
"""An aware moment, written in JSON as UTC with milliseconds."""

Usd = Annotated[Decimal, PlainSerializer(usd_text, return_type=str, when_used="json")]
"""US dollars, written in JSON as a decimal string."""
