"""Whose turn it is: no tenant's ten tasks wait behind another's million.

A tenant with many tasks drains into parts of its own, and takes turns under its own name. All others share parts and
take their turns together: a shared part counts as what one of them has in it, so that the many small are not held back
by their number. A part's ``shares`` say so, in at most ten entries whatever the number of tenants.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from .parts import PartRow

SHARED = ""
"""Under this name those with few tasks take their turns. No tenant has it."""

MANY = 30
"""Tasks up to which nobody is many."""

TENTH = 10
"""More than one in so many of what was drained together is many. SQS calls a tenant noisy by the same two figures
(more than about 10 % of what is in flight, and 30 messages)."""


def many(counts: Mapping[str, int]) -> frozenset[str]:
    """The tenants, of those with so many tasks each, that get parts of their own: nine at most."""
    total = sum(counts.values())
    return frozenset(tenant for tenant, count in counts.items() if count > MANY and count * TENTH > total)


def shares(counts: Mapping[str, int]) -> dict[str, int]:
    """What a part with so many tasks of each tenant takes of whose turns."""
    own = {tenant: counts[tenant] for tenant in sorted(many(counts))}
    others = [count for tenant, count in counts.items() if tenant not in own]
    return own | ({SHARED: ceil(sum(others) / len(others))} if others else {})


def under_way(parts: Iterable[PartRow]) -> Counter[str]:
    """What each has taken already, of parts that are in a batch."""
    taken: Counter[str] = Counter()
    for part in parts:
        taken.update(part.shares)
    return taken


def in_turn(parts: Sequence[PartRow], taken: Mapping[str, int]) -> list[PartRow]:
    """The next is always one of whoever has taken least; of two of theirs the older one."""
    now_taken = Counter(taken)
    # What somebody has taken only grows, so an entry that is still right when it comes up is the least of all.
    heap = [(_least(part, now_taken), part.oldest_at, part.part_id, part) for part in parts]
    heapq.heapify(heap)
    turns = []
    while heap:
        least, _, _, part = heap[0]
        if (grown := _least(part, now_taken)) > least:
            heapq.heapreplace(heap, (grown, part.oldest_at, part.part_id, part))
            continue
        heapq.heappop(heap)
        turns.append(part)
        now_taken.update(part.shares)
    return turns


def _least(part: PartRow, taken: Mapping[str, int]) -> int:
    return min((taken.get(name, 0) for name in part.shares), default=0)
