"""Cuts a stream into lists that fit in memory, whatever its items weigh."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def portions(items: Iterable[T], weight: Callable[[T], int], *, most: int, most_bytes: int) -> Iterator[list[T]]:
    """Lists of at most ``most`` items and ``most_bytes``, in order; an item heavier than that is alone in its list."""
    held: list[T] = []
    size = 0
    for item in items:
        width = weight(item)
        if held and (len(held) >= most or size + width > most_bytes):
            yield held
            held, size = [], 0
        held.append(item)
        size += width
    if held:
        yield held
