"""Whose turn it is: no tenant's ten tasks wait behind another's million.

A tenant with many tasks drains into parts of its own, and takes turns under its own name. All others share parts and
take their turns together: a shared part counts as what one of them has in it, so that the many small are not held back
by their number. A part's ``shares`` say so, in at most ten entries whatever the number of tenants.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil

from .model import Stored, Utc
from .parts import PartRow

SHARED = ""
"""Under this name those with few tasks take their turns. No tenant has it."""

MANY = 30
"""Tasks up to which nobody is many."""

TENTH = 10
"""More than one in so many of what was drained together is many. SQS calls a tenant noisy by the same two figures
(more than about 10 % of what is in flight, and 30 messages)."""

HALF_LIFE = timedelta(hours=1)
"""Nine in ten batches end within it."""


def many(counts: Mapping[str, int]) -> frozenset[str]:
    """The tenants, of those with so many tasks each, that get parts of their own: nine at most."""
    total = sum(counts.values())
    return frozenset(tenant for tenant, count in counts.items() if count > MANY and count * TENTH > total)


def shares(counts: Mapping[str, int]) -> dict[str, int]:
    """What a part with so many tasks of each tenant takes of whose turns."""
    own = {tenant: counts[tenant] for tenant in sorted(many(counts))}
    others = [count for tenant, count in counts.items() if tenant not in own]
    return own | ({SHARED: ceil(sum(others) / len(others))} if others else {})


class Turns(Stored):
    """What each has taken lately: where one batch is open at a time, nothing is under way when the next is chosen."""

    taken: dict[str, float]
    noted_at: Utc

    def lately(self, now: datetime) -> dict[str, float]:
        """As it is worth ``now``: half after every ``HALF_LIFE``."""
        worth = 0.5 ** (max(timedelta(0), now - self.noted_at) / HALF_LIFE)
        return {name: count * worth for name, count in self.taken.items() if count * worth >= 1}

    def after(self, parts: Iterable[PartRow], now: datetime) -> Turns:
        """With what these take."""
        taken = Counter(self.lately(now))
        taken.update(under_way(parts))
        return Turns(taken=taken, noted_at=now)


def under_way(parts: Iterable[PartRow]) -> Counter[str]:
    """What each has taken already, of parts that are in a batch."""
    taken: Counter[str] = Counter()
    for part in parts:
        taken.update(part.shares)
    return taken


def in_turn(parts: Sequence[PartRow], taken: Mapping[str, float]) -> list[PartRow]:
    """The next is always one of whoever has taken least; of two of theirs the older one."""
    now_taken = dict(taken)
    lines: dict[frozenset[str], deque[PartRow]] = defaultdict(deque)
    for part in sorted(parts, key=_age):
        lines[frozenset(part.shares)].append(part)

    def rank(names: frozenset[str]) -> tuple[float, datetime, str]:
        return (min((now_taken.get(name, 0) for name in names), default=0), *_age(lines[names][0]))

    heap = [(rank(names), names) for names in lines]
    heapq.heapify(heap)
    turns = []
    while heap:
        before, names = heap[0]
        # What somebody has taken only grows, so an entry that is still right when it comes up is the least of all.
        if (grown := rank(names)) > before:
            heapq.heapreplace(heap, (grown, names))
            continue
        part = lines[names].popleft()
        turns.append(part)
        for name, count in part.shares.items():
            now_taken[name] = now_taken.get(name, 0) + count
        if lines[names]:
            heapq.heapreplace(heap, (rank(names), names))
        else:
            heapq.heappop(heap)
    return turns


def _age(part: PartRow) -> tuple[datetime, str]:
    return part.oldest_at, part.part_id
