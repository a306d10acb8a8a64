"""Newer rows: read many rows of which a newer release may have written some, so that those stop no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from lowtide.core.errors import NewerSchema, Unfinished
from lowtide.ports import Rows

R = TypeVar("R")
T = TypeVar("T")


def rows_or_newer(rows: Rows[R, Any, Any], keys: Sequence[str]) -> list[R | NewerSchema | None]:
    """Return the rows in the order of ``keys``. In place of a row that a newer release wrote stands its NewerSchema:
    the caller says what that means for its step."""
    return each_or_newer(lambda: rows.get(keys), len(keys))


def known_rows(rows: Rows[R, Any, Any], keys: Sequence[str]) -> list[R | None]:
    """Return the rows in the order of ``keys``, for a step in which a newer row is as good as none."""
    return [None if isinstance(row, NewerSchema) else row for row in rows_or_newer(rows, keys)]


def each_or_newer(ask: Callable[[], Sequence[T]], count: int) -> list[T | NewerSchema]:
    """Return what ``ask`` comes to for each of ``count`` rows. In place of a row that a newer release wrote stands its
    NewerSchema. Raises Unfinished where another row failed."""
    try:
        return [*ask()]
    except NewerSchema as error:
        return [error] * count
    except Unfinished as error:
        if any(isinstance(each, Exception) and not isinstance(each, NewerSchema) for each in error.outcomes):
            raise
        return [*cast("Sequence[T | NewerSchema]", error.outcomes)]
