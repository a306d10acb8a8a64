"""Newer rows: read many rows of which a newer release may have written some, so that those stop no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

from lowtide.core.errors import NewerSchema, Unfinished
from lowtide.ports import Rows

R = TypeVar("R")


def rows_or_newer(rows: Rows[R, Any, Any], keys: Sequence[str]) -> list[R | NewerSchema | None]:
    """Return the rows in the order of ``keys``. In place of a row that a newer release wrote stands its NewerSchema:
    the caller says what that means for its step."""
    try:
        return [*rows.get(keys)]
    except NewerSchema as error:
        return [error] * len(keys)
    except Unfinished as error:
        outcomes = cast("Sequence[R | Exception | None]", error.outcomes)
        return [_readable_or_newer(each) for each in outcomes]


def known_rows(rows: Rows[R, Any, Any], keys: Sequence[str]) -> list[R | None]:
    """Return the rows in the order of ``keys``, for a step in which a newer row is as good as none."""
    return [None if isinstance(row, NewerSchema) else row for row in rows_or_newer(rows, keys)]


def _readable_or_newer(outcome: R | Exception | None) -> R | NewerSchema | None:
    if isinstance(outcome, Exception) and not isinstance(outcome, NewerSchema):
        raise outcome
    return outcome
