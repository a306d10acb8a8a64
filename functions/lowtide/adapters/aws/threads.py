"""Several blocking AWS calls at once: a list that AWS has no single call for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def concurrently(work: Callable[[A], B], items: Sequence[A], threads: int) -> list[B]:
    """``work`` of every item, in the order of the items, on at most ``threads`` threads (boto3 clients may be shared).

    Raises the first error, once the calls under way have ended; items not yet begun are then left out.
    """
    if threads == 1 or len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(work, items))
